"""Running sums along a dimension, from either end: scan.cu.

    cumsum(x, dim, backwards)       y[i] = x[0] + ... + x[i], or x[i] + ... + x[n - 1]

Sums are in float32, and rounded to x's type where they are written.
"""

import math

import numpy as np

from .compile import FLOATS, Source, contiguous, library, over

TYPES = FLOATS
KERNELS = Source("scan.cu")
FLOAT32 = np.dtype(np.float32)
WARPS, SHORT = 8, 1024  # up to SHORT numbers a warp takes a row
BLOCK = 256
ROWS, PIECE = 512, 8192  # fewer long rows than ROWS are cut into pieces
CHAINS, STEP = 16384, 128  # fewer packs of chains than CHAINS are cut after STEP numbers


def cumsum(x, dim, backwards=False):
    """The running sums of x along `dim`, from its end if `backwards`."""
    x = contiguous(x)
    y = library(x).empty(x.shape, x.dtype)
    if x.size:
        outer, n, inner = math.prod(x.shape[:dim]), x.shape[dim], math.prod(x.shape[dim + 1 :])
        (along_rows if inner == 1 else across_rows)(x, y, outer, n, inner, int(backwards))
    return y


def along_rows(x, y, rows, n, _, backwards):
    """y = the running sums of x (rows, n) along its rows."""
    if n <= SHORT:
        KERNELS.run("scan_rows", (x.dtype,), over(rows, WARPS), 32 * WARPS, x, y, rows, n, backwards)
        return
    size = PIECE if rows < ROWS else n
    pieces, before = over(n, size), None
    if pieces > 1:
        totals, before = library(x).empty((2, rows, pieces), np.float32)
        KERNELS.run("sum_pieces", (x.dtype,), rows * pieces, BLOCK, x, totals, n, size)
        along_rows(totals, before, rows, pieces, 1, backwards)
    KERNELS.run("scan_pieces", (x.dtype,), rows * pieces, BLOCK, x, before, y, n, size, backwards)


def across_rows(x, y, outer, n, inner, backwards):
    """y = the running sums of x (outer, n, inner) over n."""
    packs = over(inner, 16 // x.dtype.itemsize)
    size = STEP if outer * packs < CHAINS and n > 2 * STEP else n
    pieces, before = over(n, size), None
    blocks = over(outer * pieces * packs, BLOCK)
    if pieces > 1:
        totals, before = library(x).empty((2, outer, pieces, inner), np.float32)
        KERNELS.run("sum_columns", (x.dtype,), blocks, BLOCK, x, totals, outer, n, inner, size)
        across_rows(totals, before, outer, pieces, inner, backwards)
    KERNELS.run("scan_columns", (x.dtype,), blocks, BLOCK, x, before, y, outer, n, inner, size, backwards)
