"""Devices: "cpu" is NumPy, "cuda" is CuPy. Dispatch is on the array that comes in, never on a global switch."""

import functools
import sys

import numpy as np

from .errors import ArgumentError, DeviceError
from .kernels.cuda.precision import allow_tf32, is_allowed

CPU, CUDA = "cpu", "cuda"
FLOATS = "fV"  # kinds of floating-point types: bfloat16, which is not NumPy's own, is a V
capturing = None  # the Recorder (capture/recorder.py) of a step that is being made a CUDA graph


def xp(array):
    """The array library that `array` belongs to: numpy, or cupy for an array on the GPU."""
    if type(array) is np.ndarray or not type(array).__module__.startswith("cupy"):
        return np
    return sys.modules["cupy"]


def is_array(value):
    """Whether `value` is a NumPy or a CuPy array."""
    return isinstance(value, np.ndarray) or (
        type(value).__module__.startswith("cupy") and hasattr(value, "__cuda_array_interface__")
    )


def device_of(array):
    """ "cpu" or "cuda"."""
    return CPU if xp(array) is np else CUDA


def home(array):
    """(The array library, the number of the GPU) of an array: by which constants that stand beside it are kept."""
    lib = xp(array)
    return lib, 0 if lib is np else array.device.id


def library(device):
    """numpy for "cpu" (and None), cupy for "cuda". Raises DeviceError when there is no such device here."""
    if device is None:
        return np
    name = str(device).split(":")[0]
    if name == CPU:
        return np
    if name != CUDA:
        raise DeviceError(f'device {device!r} is not known\n  write "cpu" or "cuda"')
    try:
        import cupy
    except ImportError:
        raise DeviceError(
            'device "cuda" needs CuPy, which is not installed\n  pip install "minigen[cuda12]" or "minigen[cuda13]"'
        ) from None
    if not cuda_available():
        raise DeviceError('device "cuda": CuPy finds no GPU on this machine\n  write device="cpu"')
    return cupy


def cuda_available():
    """Whether CuPy is installed and finds a GPU."""
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # CuPy raises its own errors, and ImportErrors of many kinds, where there is no driver
        return False


def to_device(array, device):
    """`array` on `device`: itself if it is there already, a copy in the same order of memory otherwise."""
    target = library(device)
    if xp(array) is target:
        return array
    if capturing is not None:
        capturing.refuse_copy(device)
    if array.flags.c_contiguous:
        return _copied(array, target)
    order = np.argsort([-abs(step) for step in array.strides], kind="stable")  # CuPy's copies are C-contiguous
    moved = _copied(array.transpose(*order.tolist()), target)
    return moved.transpose(*np.argsort(order).tolist())


def _copied(array, target):
    return array.get() if target is np else target.asarray(array, order="C")


def set_float32_matmul_precision(precision):
    """How exact products of float32 matrices must be on a GPU: "highest", the default, is float32 all through.

    "high" and "medium" allow TF32 (10 bits of fraction for what is multiplied, sums in float32), which the tensor cores
    of compute capability 8.0 and newer take. It holds for the whole process, for convolutions and attention too (where
    PyTorch has a switch of its own), and not on the CPU. Raises ArgumentError for another name.
    """
    if precision not in ("highest", "high", "medium"):
        raise ArgumentError(
            f"set_float32_matmul_precision: got {precision!r}\n"
            f'  write "highest" (float32), "high" or "medium" (TF32 where the GPU has it)'
        )
    allow_tf32(precision != "highest")


def get_float32_matmul_precision():
    """Either "highest", or "high" where TF32 is allowed: see `set_float32_matmul_precision`."""
    return "high" if is_allowed() else "highest"


def on_host(method):
    """Mark a method that changes nothing but numbers of the host: each replay of a captured step calls it again."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        function = functools.partial(method, self, *args, **kwargs)
        return function() if capturing is None else capturing.repeat(self, function)

    return call
