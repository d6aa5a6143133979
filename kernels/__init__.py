"""Fast array code without autograd: one file a family, `cpu/` in Numba, `cuda/` in CUDA C++, the same names in both.

    family = kernels.find(x, "norms")      # the module for x's device, or None
    if family is None: ...                 # no kernel for this array: use the definition

Kernels take float32 arrays, and on the GPU the types that the family lists in TYPES, float16 and bfloat16 among them.
float64 is for checking gradients, where accuracy comes before speed: it runs on the definitions. So does everything
under MINIGEN_KERNELS=off, where Numba is not installed, and on a device that has no such kernel yet.
"""

import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager

import numpy as np

_found = {}
_on = os.environ.get("MINIGEN_KERNELS", "on").lower() not in ("off", "0", "no", "false")


def enabled():
    """Whether kernels are in use: not under MINIGEN_KERNELS=off, and not inside `disabled()`."""
    return _on


@contextmanager
def disabled():
    """Inside the block every op runs on its definition."""
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before


def find(array, family):
    """The module of kernels called `family` that takes `array`, or None if there is none or kernels are off."""
    if type(array) is np.ndarray:
        key, taken = ("cpu", family, None), array.dtype == np.float32
    else:
        key, taken = ("cuda", family, getattr(array, "dtype", None)), type(array).__module__.startswith("cupy")
    if not _on or not taken:  # also a mere number
        return None
    try:
        return _found[key]
    except KeyError:
        return _found.setdefault(key, _load(*key))


def _load(device, family, dtype):
    if device == "cpu" and (sys.modules.get("numba", ...) is None or importlib.util.find_spec("numba") is None):
        return None
    name = f"{__name__}.{device}.{family}"
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name and (name.startswith(missing.name) or missing.name == "numba"):
            return None
        raise
    return found if device == "cpu" or dtype.name in found.TYPES else None
