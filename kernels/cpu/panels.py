"""Matrices in panels, which products read straight through.

    panels = in_panels(matrix)              (K, N) -> (N / WIDTH, K, WIDTH)
    panels = sequence_in_panels(x, swapped) the same of a sequence's steps, one row each
    multiply(...)                           for kernels, inside prange: rows of A times the matrix
    project(...)                            the same for some steps of some sequences

For a large product a BLAS copies both operands into an order that suits its inner loop, every time. A recurrent layer
multiplies by one matrix at every step, and a linear layer's weight meets many rows: that matrix is copied once, and
row_tiles.py reads it where it is. Where rows are a whole number of panels wide, the matrix itself will do: a view.

Sequences are arrays (T, N, D), or (N, T, D) where `swapped`; either is read and written as it lies.
"""

import numpy as np
from numba import prange

from .addresses import address, shifted
from .compile import inline_sums, kernel
from .row_tiles import WIDTH, by_panel

F = np.float32
PIECE = 256  # rows that a task copies
NO_PANELS = np.empty((0, 0, WIDTH), F)
WIDEST = 512  # of a matrix used as it lies: rows further apart fall on the same lines of the cache


def in_panels(matrix, once=False):
    """A matrix (K, N) as products want it: (N / WIDTH, K, WIDTH), the last panel filled up with zeros.

    once    it is used by few products, which may as well read it where it lies, if they can
    """
    K, N = matrix.shape
    if once and N <= WIDEST and N % WIDTH == 0 and matrix.flags.c_contiguous:
        return matrix.reshape(K, -1, WIDTH).transpose(1, 0, 2)
    if matrix.flags.f_contiguous and not matrix.flags.c_contiguous:
        panels = np.empty((-(-N // WIDTH), K, WIDTH), F)
        fill_panels_turned(np.require(matrix.T, F, "CW"), panels)
        return panels
    return sequence_in_panels(np.require(matrix, F, "CW")[None], False)


def sequence_in_panels(x, swapped):
    """Steps of sequences, (T, N, D) or swapped (N, T, D), as a matrix (T N, D) in panels."""
    panels = np.empty((-(-x.shape[2] // WIDTH), x.shape[0] * x.shape[1], WIDTH), F)
    fill_panels(x, swapped, panels)
    return panels


@kernel
def fill_panels(x, swapped, panels):
    """panels[j, t N + n] = x[t, n, WIDTH j : WIDTH (j + 1)]."""
    count, rows, _ = panels.shape
    columns = x.shape[2]
    N = x.shape[0] if swapped else x.shape[1]
    pieces = (rows + PIECE - 1) // PIECE
    for task in prange(count * pieces):
        j, piece = task // pieces, task % pieces
        first, last = j * WIDTH, min(columns, (j + 1) * WIDTH)
        for k in range(piece * PIECE, min(rows, (piece + 1) * PIECE)):
            t, n = k // N, k % N
            row = x[n, t, first:last] if swapped else x[t, n, first:last]
            to = panels[j, k]
            for i in range(last - first):
                to[i] = row[i]
            for i in range(last - first, WIDTH):
                to[i] = F(0)


@kernel
def fill_panels_turned(matrix, panels):
    """panels[j, k, i] = matrix[WIDTH j + i, k], by tiles that stay in the cache."""
    N, K = matrix.shape
    for j in prange(panels.shape[0]):
        first, last = j * WIDTH, min(N, (j + 1) * WIDTH)
        for low in range(0, K, PIECE):
            to = panels[j, low : low + PIECE]
            for n in range(last - first):
                row = matrix[first + n, low : low + PIECE]
                for k in range(row.size):
                    to[k, n] = row[k]
        for k in range(K):
            for i in range(last - first, WIDTH):
                panels[j, k, i] = F(0)


@inline_sums
def multiply(a, a_step, a_down, panels, c, c_step, c_down, start, start_step, start_down, steps, rows, columns):
    """c[s, i] = start[s, i] + a[s, i] @ the matrix (K, columns) in `panels`, for s < steps and i < rows.

    a, c and start are addresses, the strides in bytes. start may be c, or a row for all (strides of 0).
    """
    depth = panels.shape[1]
    for j in range(panels.shape[0]):
        panel, along = shifted(address(panels), j * panels.strides[0]), 4 * WIDTH * j
        for s in range(steps):
            by_panel(
                *(shifted(a, s * a_step), a_down, 4, depth, panel, panels.strides[1]),
                *(shifted(c, s * c_step + along), c_down, shifted(start, s * start_step + along), start_down),
                *(rows, columns - WIDTH * j),
            )


@inline_sums
def project(x, x_swapped, panels, bias, y, y_swapped, low, steps, first, last):
    """y[t, n] = bias + x[t, n] @ the matrix in `panels`, for t from low to low + steps and n from first to last."""
    x_step, x_down = (x.strides[1], x.strides[0]) if x_swapped else (x.strides[0], x.strides[1])
    y_step, y_down = (y.strides[1], y.strides[0]) if y_swapped else (y.strides[0], y.strides[1])
    multiply(
        *(shifted(address(x), low * x_step + first * x_down), x_step, x_down, panels),
        *(shifted(address(y), low * y_step + first * y_down), y_step, y_down),
        *(address(bias), 0, 0, steps, last - first, y.shape[2]),
    )
