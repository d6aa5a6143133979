"""Pooling: windows reduced to their largest element or their sum, and the way back: pool.cu.

    max_pool(x, kernel, count, window)        -> y, places: where each largest stands in the flattened last dimensions
    take(x, places)                           -> y: x at such places
    put(y, places, size, pooled)              -> x: zeros of `size`, and y added at its places
    sum_pool(x, kernel, count, window, scale) -> y: scale times the sum
    spread(y, kernel, size, window, scale)    -> x: scale times each window's number added to all its places

x is (N, C, ...) with one to three dimensions more, in either memory order; the results lie as x does. `window` is
(stride, padding, dilation, groups); nothing is empty.
"""

import math

import numpy as np

from ..strides import three
from .channels import THREADS, arranged, empty, power
from .compile import FLOATS, Source, cast, library, over

TYPES = FLOATS
KERNELS = Source("pool.cu")
MANY = 32  # taps from which on a window is summed by several threads


class Planes:
    """x (N, C, ...) as (outer, D, H, W, inner): channels last, or channels first with inner = 1."""

    def __init__(self, x):
        self.x, self.last = arranged(x)
        self.order = "last" if self.last else "first"
        samples, channels, *self.size = x.shape
        self.outer, self.inner = (samples, channels) if self.last else (samples * channels, 1)
        self.packs = over(self.inner, 16 // x.dtype.itemsize)

    def like(self, x):
        """x in this memory order, as the kernels need it."""
        return arranged(x, self.last)[0]

    def result(self, size, dtype=None):
        """An array for a result of `size`, in the same order."""
        return empty(library(self.x), (*self.x.shape[:2], *size), self.last, dtype or self.x.dtype)

    def run(self, name, size, *arguments):
        """Run a kernel whose threads cover (outer, *size, inner)."""
        threads = self.outer * math.prod(size) * self.packs
        KERNELS.run(f"{name}_{self.order}", (self.x.dtype,), over(threads, THREADS), THREADS, *arguments)


def lines(size, count, kernel, window):
    """Six numbers for each of three dimensions: see Line in pool.cu."""
    stride, padding, dilation = window[:3]
    if max(math.prod(size), math.prod(count)) >= 2**31:
        raise ValueError(f"pooling {size} to {count}: the GPU's kernels count up to 2**31 places in a plane")
    columns = three(size, 1), three(count, 1), three(kernel, 1), three(stride, 1), three(padding, 0), three(dilation, 1)
    return tuple([int(n) for line in zip(*columns) for n in line])


def max_pool(x, kernel, count, window):
    """The largest element of each window, and where it stands."""
    x = Planes(x)
    y, places = x.result(count), x.result(count, np.int64)
    x.run("largest", count, x.x, y, places, x.outer, x.inner, *lines(x.size, count, kernel, window))
    return y, places


def sum_pool(x, kernel, count, window, scale=1.0):
    """`scale` times the sum of each window, rounded once."""
    x = Planes(x)
    y, geometry = x.result(count), lines(x.size, count, kernel, window)
    taps = math.prod(kernel)
    if taps < MANY:
        x.run("sums", count, x.x, y, float(scale), x.outer, x.inner, *geometry)
        return y
    windows = x.outer * math.prod(count)
    if x.last:
        lanes = power(x.packs, 32)
        grid = windows, over(x.packs, lanes)
    else:
        lanes = power(over(taps, 4), THREADS)
        grid = over(windows, THREADS // lanes)
    numbers = float(scale), x.outer, x.inner, lanes, *geometry
    KERNELS.run(f"many_sums_{x.order}", (x.x.dtype,), grid, THREADS, x.x, y, *numbers)
    return y


def spread(y, kernel, size, window, scale=1.0):
    """`scale` times each window's number, added to all its places."""
    y = Planes(y)
    x = y.result(size)
    y.run("spread", size, y.x, x, float(scale), y.outer, y.inner, *lines(size, y.size, kernel, window))
    return x


def take(x, places):
    """x (N, C, ...) at places counted in its flattened last dimensions, an array of the shape of `places`."""
    x = Planes(x)
    places = x.like(places)
    y = x.result(places.shape[2:])
    sizes = y.size, math.prod(x.size), math.prod(places.shape[2:]), x.inner
    KERNELS.run("take", (y.dtype,), over(y.size, THREADS), THREADS, x.x, places, y, *sizes)
    return y


def put(y, places, size, pooled=None):
    """Zeros (N, C, *size), and y added at its places. pooled: (kernel, window) if each lies in a window of its own."""
    y = Planes(y)
    places = y.like(places)
    if pooled is not None:
        x = y.result(size)
        y.run("spread_chosen", size, y.x, places, x, y.outer, y.inner, *lines(size, y.size, *pooled))
        return x
    x = y.result(size, np.float32)
    x.fill(0)
    columns = y.outer * y.inner
    sizes = columns, math.prod(size), math.prod(y.size), y.inner
    KERNELS.run("put", (y.x.dtype,), over(columns, THREADS), THREADS, y.x, places, x, *sizes)
    return cast(x, y.x.dtype)
