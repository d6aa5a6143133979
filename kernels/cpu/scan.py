"""Running sums along a dimension, from either end.

    cumsum(x, dim, backwards)       y[i] = x[0] + ... + x[i], or x[i] + ... + x[n - 1]

Floor: 8 bytes a number. A running sum is a chain: each addition waits for the one before, four cycles. So ROWS chains
run side by side where the dimension is the last one, and else whole rows of numbers are added to the row before.
Every chain is added in the order of its numbers, whatever the number of threads.
"""

import math

import numpy as np
from numba import prange

from .compile import choose, kernel

F = np.float32
ROWS = 8  # chains that run side by side
CHUNK = 512  # columns that a task takes, where rows are added to rows
SERIAL = 16384  # numbers up to which threads do not pay


@kernel(reads=("x",), dense=("x", "y"))
def along_rows(x, y, backwards):
    """x, y (rows, n): running sums along each row."""
    rows, n = x.shape
    for task in prange((rows + ROWS - 1) // ROWS):
        first = task * ROWS
        if first + ROWS <= rows:
            a, b, c, d = F(0), F(0), F(0), F(0)
            e, f, g, h = F(0), F(0), F(0), F(0)
            for i in range(n):
                k = n - 1 - i if backwards else i
                a += x[first, k]
                b += x[first + 1, k]
                c += x[first + 2, k]
                d += x[first + 3, k]
                e += x[first + 4, k]
                f += x[first + 5, k]
                g += x[first + 6, k]
                h += x[first + 7, k]
                y[first, k] = a
                y[first + 1, k] = b
                y[first + 2, k] = c
                y[first + 3, k] = d
                y[first + 4, k] = e
                y[first + 5, k] = f
                y[first + 6, k] = g
                y[first + 7, k] = h
        else:
            for r in range(first, rows):
                a = F(0)
                for i in range(n):
                    k = n - 1 - i if backwards else i
                    a += x[r, k]
                    y[r, k] = a


@kernel(reads=("x",), dense=("x", "y"))
def across_rows(x, y, backwards):
    """x, y (outer, n, inner): running sums over n."""
    outer, n, inner = x.shape
    pieces = (inner + CHUNK - 1) // CHUNK
    for task in prange(outer * pieces):
        o, first = task // pieces, task % pieces * CHUNK
        last = min(inner, first + CHUNK)
        total = np.zeros(CHUNK, np.float32)
        for i in range(n):
            k = n - 1 - i if backwards else i
            row, to = x[o, k, first:last], y[o, k, first:last]
            for j in range(last - first):
                total[j] += row[j]
                to[j] = total[j]


def cumsum(x, dim, backwards=False):
    """The running sums of x along `dim`, from its end if `backwards`."""
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    n, inner = x.shape[dim], math.prod(x.shape[dim + 1 :])
    if inner == 1:
        shape = -1 if n else 0, n
        choose(along_rows, x.size, SERIAL)(x.reshape(shape), y.reshape(shape), backwards)
    elif x.size:
        shape = -1, n, inner
        choose(across_rows, x.size, SERIAL)(x.reshape(shape), y.reshape(shape), backwards)
    return y
