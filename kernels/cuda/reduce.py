"""Sums that have the same bits on any card: reduce.cu.

sum_leading(x)          over all axes but the last, in x's type: the gradient of a bias
sum_all(x)              over everything, in float64
sum_squares(x)          the square of the norm, in float64, for gradient clipping
"""

import numpy as np

from .compile import FLOATS, Source, library, over, rows_of
from .elementwise import dense

TYPES = FLOATS
KERNELS = Source("reduce.cu")
BLOCK = 256
FLOAT32 = np.dtype(np.float32)
ROWS = 64  # rows of a part, at least
CHUNK = 16384  # numbers of a part, at least
PARTS = 1024  # parts, at most


def sum_leading(x, into=None):
    """The sum over all but the last axis: (..., D) -> (D,). into: an array to write it to and return."""
    rows = rows_of(x)
    n, width = rows.shape
    tile = 32 * (16 // x.dtype.itemsize)
    step = max(over(n, max(PARTS // max(over(width, tile), 1), 1)), ROWS)
    parts, kind = max(over(n, step), 1), x.dtype if into is None else into.dtype
    alone = parts == 1 and kind == np.float32 and (into is None or into.flags.c_contiguous)  # the part is the sum
    new = into is None or not alone
    partial = library(x).empty((1, parts, width), np.float32) if new else into.reshape(1, 1, width)
    KERNELS.run("sum_rows", (x.dtype,), (over(width, tile), parts), BLOCK, rows, partial, n, width, step)
    out = partial if alone else add_parts(partial, x.dtype, into)
    return out.reshape(width) if into is None else into


def add_parts(partial, dtype, into=None):
    """Sums over the parts of partial (slices, parts, width), float32: (slices, width) of this type, or into `into`."""
    slices, parts, width = partial.shape
    fits = into is not None and into.flags.c_contiguous and into.dtype.name in FLOATS
    out = into if fits else library(partial).empty((slices, width), dtype)
    grid = over(width, 32 * 4), 1, slices
    KERNELS.run("add_parts", (out.dtype,), grid, BLOCK, partial, out, parts, width, parts)
    if into is not None and not fits:
        into[...] = out.reshape(into.shape)
    return out if into is None else into


def by_chunks(name, x, into=None):
    x = dense(x)
    partial, step = parts_of(x)
    KERNELS.run(name, (x.dtype,), len(partial), BLOCK, x, partial, x.size, step)
    return total(partial, np.float64, into)


def parts_of(x):
    """Room for a partial sum of each part of x, and the numbers in a part, which follow from its size alone."""
    step = CHUNK * max(over(x.size, CHUNK * PARTS), 1)
    return library(x).empty(over(x.size, step), np.float32), step


def total(partial, dtype, into=None):
    """The sum of float32 partial sums, made in float64: an array of no dimensions, of float32 or float64, or `into`."""
    out = library(partial).empty((), dtype) if into is None else into
    if not len(partial):
        out[...] = 0
        return out
    name = "add_to_float" if out.dtype == FLOAT32 else "add_to_double"
    KERNELS.run(name, (FLOAT32,), 1, BLOCK, partial, out, len(partial))
    return out


def sum_all(x):
    """The sum of all elements: a float64 array of no dimensions."""
    return by_chunks("sum_chunks", x)


def sum_squares(x, into=None):
    """The sum of the squares of all elements: a float64 array of no dimensions, or `into`, an array of one."""
    return by_chunks("square_chunks", x, into)
