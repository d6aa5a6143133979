"""What every element-wise kernel shares: how arrays of any layout are walked, and loops made from a scalar function.

An element-wise kernel keeps the memory order of its input (channels-last stays channels-last), so it only
needs the elements one after another as they lie in memory: `flat`. The loops cut them into chunks of fixed
size, whatever the number of threads.

    y = empty_like(x)
    a, b = flat(x), flat(y)          # views of the same memory order
    unary(function)(a, b, p, q)      # b[i] = function(a[i], p, q), where `function` is an @inline helper

Floor: each array is read or written once, 4 bytes an element.
"""

from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
from numba import prange
from numpy.lib.stride_tricks import as_strided

from ..strides import is_dense
from .compile import choose, kernel
from .layout import are_last, channels_first, inside, outside

CHUNK = 2048  # elements a task takes
SERIAL = 65536  # elements up to which the threads, which may have to be woken, cost more than they save


def dense(x):
    """x itself if its elements lie in memory without gaps, in any order of dimensions; else a copy that does."""
    if x.flags.carray or (x.flags.behaved and is_dense(x)):
        return x
    return np.array(x, order="K")


def flat(x):
    """A dense array as one dimension, in the order of its memory: always a view."""
    return x.reshape(-1) if x.flags.c_contiguous else x.ravel("K")


def in_rows(x):
    """(x's memory from its first number to its last, the step from row to row, the numbers in a row, the order of its
    dimensions) for an array whose numbers lie in equal rows with equal gaps, as a channel slice does; else None.
    """
    found = rows_of(x.shape, x.strides, x.itemsize)
    if found is None or not x.flags.behaved:
        return None
    step, width, order = found
    size = (x.size // width - 1) * step + width
    return as_strided(x, (size,), (x.itemsize,)), step, width, order


@lru_cache(1024)
def rows_of(shape, strides, itemsize):
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    lines = [(shape[d], strides[d]) for d in order if shape[d] != 1]
    width = 1
    while lines and lines[-1][1] == width * itemsize:
        width *= lines.pop()[0]
    if not lines or width < 16 or any(stride != n * small for (_, stride), (n, small) in pairwise(lines)):
        return None
    return lines[-1][1] // itemsize, width, order


def like(x, model):
    """x (of the same shape) in the memory order of `model`, which is dense: itself if it has it, else a copy."""
    if x.strides == model.strides and x.flags.behaved:
        return x
    if x.size > SERIAL and 3 <= x.ndim <= 5 and x.dtype == np.float32:  # pictures: turned in squares, by all cores
        if model.flags.c_contiguous and are_last(x):
            return channels_first(x)
        if x.flags.c_contiguous and are_last(model):
            return outside(inside(x), x.ndim - 2)
    copy = np.empty_like(model, dtype=x.dtype)
    copy[...] = x
    return copy


@cache
def unary(function):
    """The kernel y[i] = function(x[i], p, q)."""

    @kernel
    def map_unary(x, y, p, q):
        n = x.size
        for chunk in prange((n + CHUNK - 1) // CHUNK):
            a, b = x[chunk * CHUNK : (chunk + 1) * CHUNK], y[chunk * CHUNK : (chunk + 1) * CHUNK]
            for i in range(a.size):
                b[i] = function(a[i], p, q)

    return map_unary


@cache
def unary_in_rows(function):
    """The same for an x that has gaps in memory: rows of `width` numbers, `step` apart."""

    @kernel
    def map_rows(x, y, step, width, p, q):
        rows = y.size // width
        some = max(1, CHUNK // width)
        for chunk in prange((rows + some - 1) // some):
            for row in range(chunk * some, min(rows, (chunk + 1) * some)):
                a, b = x[row * step : row * step + width], y[row * width : (row + 1) * width]
                for i in range(width):
                    b[i] = function(a[i], p, q)

    return map_rows


@cache
def binary(function):
    """The kernel z[i] = function(x[i], y[i], p, q)."""

    @kernel
    def map_binary(x, y, z, p, q):
        n = x.size
        for chunk in prange((n + CHUNK - 1) // CHUNK):
            start, end = chunk * CHUNK, (chunk + 1) * CHUNK
            a, b, c = x[start:end], y[start:end], z[start:end]
            for i in range(a.size):
                c[i] = function(a[i], b[i], p, q)

    return map_binary


def apply(function, x, p=0.0, q=0.0):
    """function(x, p, q) elementwise, in x's memory order."""
    if x.size > SERIAL and not is_dense(x) and (found := in_rows(x)) is not None:
        rows, step, width, order = found
        y = np.empty([x.shape[d] for d in order], x.dtype)
        unary_in_rows(function)(rows, flat(y), step, width, np.float32(p), np.float32(q))
        return y.transpose(np.argsort(order))
    x = dense(x)
    y = np.empty_like(x)
    run = unary(function)
    choose(run, x.size, SERIAL)(flat(x), flat(y), np.float32(p), np.float32(q))
    return y


def apply_two(function, x, y, p=0.0, q=0.0):
    """function(x, y, p, q) elementwise for arrays of one shape, in y's memory order."""
    y = dense(y)
    x = like(x, y)
    z = np.empty_like(y)
    run = binary(function)
    choose(run, y.size, SERIAL)(flat(x), flat(y), flat(z), np.float32(p), np.float32(q))
    return z
