"""Devices: "cpu" is NumPy, "cuda" is CuPy. Dispatch is on the array that comes in, never on a global switch."""

import sys

import numpy as np

from .errors import DeviceError

CPU, CUDA = "cpu", "cuda"


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
    """`array` on `device`: itself if it is there already, a copy otherwise."""
    target = library(device)
    if xp(array) is target:
        return array
    return target.asarray(array) if target is not np else array.get()
