"""Where the GPU rungs run: a GPU if there is one, Numba's simulator for numba.cuda if not.

The simulator runs each GPU thread as a thread of Python, barriers included. It proves that a kernel's result is right
on sizes as small as a few blocks, and finds an index that is out of bounds. It says nothing about speed.
"""

import os
import sys
from functools import cache


@cache
def available():
    """Whether CuPy is installed and finds a GPU."""
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # CuPy raises its own errors, and ImportErrors of many kinds, where there is no driver
        return False


@cache
def numba_cuda():
    """(numba.cuda, whether it is the simulator).

    Numba decides by NUMBA_ENABLE_CUDASIM when numba.cuda is first imported, so it is set here if there is no GPU.
    Raises RuntimeError where numba.cuda was imported before, without GPU and without simulator.
    """
    from numba.core import config

    if not config.ENABLE_CUDASIM and not _has_gpu():
        if "numba.cuda.simulator.api" not in sys.modules and "numba.cuda.api" in sys.modules:
            raise RuntimeError(
                "numba.cuda is loaded, but there is no GPU; set NUMBA_ENABLE_CUDASIM=1 before Python starts, "
                "and it runs in Numba's simulator"
            )
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
        config.reload_config()
    from numba import cuda

    return cuda, bool(config.ENABLE_CUDASIM)


def _has_gpu():
    """Whether the driver finds a GPU, asked without loading numba.cuda or CuPy."""
    import ctypes

    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver, count = ctypes.CDLL(name), ctypes.c_int(0)
            return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
        except OSError:
            continue
    return False


@cache
def function(source, name):
    """(cupy, a kernel of CUDA C++ source compiled for this GPU). Raises RuntimeError where there is none."""
    if not available():
        raise RuntimeError(
            f"{name} is CUDA C++: it needs CuPy and a GPU; nvrtc.py compiles it without, but cannot run it"
        )
    import cupy

    return cupy, cupy.RawModule(code=source).get_function(name)


def aligned(x):
    """x on the GPU, contiguous, its first element at a multiple of 16 bytes, as loads of four numbers demand."""
    import cupy

    x = cupy.ascontiguousarray(cupy.asarray(x))
    return x if x.data.ptr % 16 == 0 else x.copy()
