"""What the machine can do at most, measured where and when the work is: the floor that a time stands beside.

    product_rate(library)       operations a second of large float32 matrix products
    copy_rate(size)             bytes a second, read and written, of a copy that moves `size` bytes
    memory()                    (megabytes in use now, the most so far) of this process

A multiplication and an addition are two operations. A copy within the caches is quicker than one through memory, so
the rate is that of a copy as large as the work.
"""

import functools
import sys
import time

import numpy as np

PRODUCTS = (1024, 2048)  # rows, columns and depth of products large enough for a library to be at its best
SMALLEST_COPY = 1 << 20  # bytes; less takes no longer to move than to ask for


def product_rate(library, seconds=0.25):
    """Operations a second of the best of a few products (n, n) @ (n, n) by this library, n as in PRODUCTS."""
    rates = []
    with library.no_grad():
        for n in PRODUCTS:
            a, b = (library.ones(n, n) for _ in range(2))
            rates.append(2 * n**3 / quickest(lambda a=a, b=b: a @ b, seconds / len(PRODUCTS)))
    return max(rates)


def copy_rate(size):
    """Bytes a second, those read and those written, of the best copy that moves about `size` bytes, on all threads."""
    return _copy_rate(max(size, SMALLEST_COPY) // 8)


@functools.cache
def _copy_rate(half, seconds=0.01):
    a, b = np.ones(half, np.float32), np.zeros(half, np.float32)
    copy = parallel_copy()
    return 8 * half / min(quickest(lambda: copy(a, b), seconds), quickest(lambda: np.copyto(b, a), seconds))


@functools.cache
def parallel_copy():
    """copy(a, b) on the threads of the kernels, or NumPy's where there are none."""
    from .. import kernels

    if kernels.find(np.zeros(1, np.float32), "elementwise") is None:
        return lambda a, b: np.copyto(b, a)
    from numba import prange

    from ..kernels.cpu.compile import kernel

    @kernel
    def copy(a, b):
        for chunk in prange((a.size + 16383) // 16384):
            start = chunk * 16384
            stop = min(start + 16384, a.size)
            source, target = a[start:stop], b[start:stop]
            for i in range(stop - start):
                target[i] = source[i]

    return copy


def quickest(function, seconds, least=3):
    """The shortest time of `function()`, repeated for so many seconds, and at least a few times."""
    function()
    times = []
    finish = time.perf_counter() + seconds
    while time.perf_counter() < finish or len(times) < least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def memory():
    """(megabytes resident now, the most ever) of this process; None for what the system does not tell.

    Linux keeps both in /proc/self/status (VmRSS, VmHWM). Elsewhere getrusage tells the most, which serves for both.
    """
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file if line.startswith(("VmRSS", "VmHWM")))
        return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return most, most
