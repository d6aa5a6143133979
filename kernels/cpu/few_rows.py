"""The linear layer of a batch of some dozens to hundreds of rows: too few to repay putting the weight into panels.

    linear(x, w, b)         y = x @ w.T + b

Floor: 2 M N K operations. It is the smaller matrix, x, that is put into panels: the tiles of row_tiles.py make
y.T = w @ x.T, some rows at a time, which are turned back while they are in the cache. (The gradient stays with blas.py:
its two products need nothing turned, and tiles were no faster there.) Tasks are cut by the shape alone, and every
element is one sum in one order, so any number of threads gives the same bits.

Microseconds on two cores of a Zen 5, the floor, and beside it blas.py (OpenBLAS, SkylakeX core):

    128 x 784 -> 400        201     164     270
    128 x 400 -> 784        200     164     270
    64 x 784 -> 400         113      82     173
    128 x 512 -> 512        170     137     220
"""

import numpy as np
from numba import prange

from .addresses import address, shifted
from .compile import kernel
from .many_rows import unit_rows
from .row_tiles import ROWS, WIDTH, whole_tile

F = np.float32
FEWEST = 32  # rows from which tiles are whole
STEP = 2 * ROWS  # outputs of a task: on 16 of them, a line of the cache of each row of y


@kernel(reads=("x", "w", "tail", "b"), dense=("tail", "b", "y", "panels"))
def rows_turned(x, w, tail, b, y, panels):
    """y (M, N) = x (M, K) @ w (N, K).T + b (N,). tail (STEP, K): the last rows of w, filled up, where N is no multiple
    of STEP (fewer kinds of tiles are quicker to compile); panels (M / WIDTH, K, WIDTH): memory to work in.
    """
    M, K = x.shape
    N, groups = len(w), len(panels)
    for j in prange(groups):
        first, last = j * WIDTH, min(M, (j + 1) * WIDTH)
        for k in range(K):
            to = panels[j, k]
            for i in range(last - first):
                to[i] = x[first + i, k]
            for i in range(last - first, WIDTH):
                to[i] = F(0)
    zero = np.zeros(WIDTH, np.float32)
    for task in prange((N + STEP - 1) // STEP):
        start, end = task * STEP, min(N, (task + 1) * STEP)
        rows, down = shifted(address(w), start * w.strides[0]), w.strides[0]
        if end - start < STEP:
            rows, down = address(tail), tail.strides[0]
        tile, bias = np.empty((STEP, WIDTH), np.float32), b[start:end]
        for j in range(groups):
            panel = shifted(address(panels), j * panels.strides[0])
            for n in range(0, STEP, ROWS):
                a, c = shifted(rows, n * down), shifted(address(tile), n * tile.strides[0])
                whole_tile(
                    a, down, 4, K, panel, panels.strides[1], c, tile.strides[0], address(zero), 0, WIDTH
                )  # fmt: skip
            for i in range(min(WIDTH, M - j * WIDTH)):
                to = y[j * WIDTH + i, start:end]
                for n in range(end - start):
                    to[n] = tile[n, i] + bias[n]


def linear(x, w, b=None):
    """x (M, K) @ w (N, K).T + b (N,); b may be None."""
    (M, K), N = x.shape, len(w)
    y = np.empty((M, N), F)
    b = np.zeros(N, F) if b is None else np.ascontiguousarray(b)
    w, left = unit_rows(w), N % STEP
    tail = np.zeros((STEP if left else 0, K), F)
    tail[:left] = w[N - left :]
    rows_turned(x, w, tail, b, y, np.empty((-(-M // WIDTH), K, WIDTH), F))
    return y
