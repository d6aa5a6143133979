"""Sums over the leading axes (the gradient of a bias), and over everything (norms), the same bits on any
number of threads.

The rows are cut into chunks of a fixed size, each chunk is summed by one thread, and the chunks' sums are
added in order. Floor: read x once, 4 bytes an element.
"""

import numpy as np
from numba import prange

from .compile import kernel

CHUNK = 4096  # elements of a flat array that one partial sum covers


@kernel
def partial_row_sums(x, partial, rows):
    for chunk in prange(partial.shape[0]):
        total = partial[chunk]
        total[:] = 0
        for i in range(chunk * rows, min(x.shape[0], (chunk + 1) * rows)):
            row = x[i]
            for j in range(row.size):
                total[j] += row[j]


def sum_leading(x, axes=None):
    """The sum over all but the last axis: (..., D) -> (D,)."""
    x = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
    n, width = x.shape
    if x.size <= 16384:
        return np.add.reduce(x, axis=0)
    rows = max(-(-n // 32), -(-4 * CHUNK // width))
    partial = np.empty((-(-n // rows), width), np.float32)
    partial_row_sums(x, partial, rows)
    return np.add.reduce(partial, axis=0)
