"""The linear layer of one row, or a handful: what a text costs that is written symbol by symbol.

    linear(x, w, b)         y = x @ w.T + b

Floor: reading w once, 4 N K bytes. OpenBLAS's products are made for matrices, and copy w into panels for a single row:
9 GB/s. Here each output is a sum over a row of w as it lies in memory, and with four rows of x at a time where there
are so many. A task takes STEP outputs, and each element is one sum, so any number of threads gives the same
bits. Microseconds on two cores of a Zen 5, OpenBLAS and this:

                        1 row           4 rows          8 rows
    128 -> 384            11      4       11      6       16      7
    768 -> 2304          734    115      362    185      431    321      w from memory, as in a step of GPT-2
    768 -> 50257        9160   2300     5800   3810     7160   6620
"""

import numpy as np
from numba import prange

from .compile import inline_sums, kernel

F = np.float32
MOST = 8  # rows
FOUR = 4
STEP = 64  # outputs of a task
SERIAL = 1 << 17  # multiply-adds for which threads are not worth their start


@inline_sums
def dot(x, row):
    total = F(0)
    for k in range(row.size):
        total += x[k] * row[k]
    return total


@inline_sums
def eight_dots(a, b, c, d, row, other):
    """Four rows of x with two of w: a number that was loaded serves several products."""
    p, q, r, s, t, u, v, z = F(0), F(0), F(0), F(0), F(0), F(0), F(0), F(0)
    for k in range(row.size):
        first, second = row[k], other[k]
        p += a[k] * first
        q += b[k] * first
        r += c[k] * first
        s += d[k] * first
        t += a[k] * second
        u += b[k] * second
        v += c[k] * second
        z += d[k] * second
    return p, q, r, s, t, u, v, z


@kernel(reads=("x", "w", "b"), dense=("x", "w", "b", "y"))
def sums(x, w, b, y):
    M, N = y.shape
    fours = M // FOUR * FOUR
    for task in prange((N + STEP - 1) // STEP):
        end = min(N, (task + 1) * STEP)
        for j in range(task * STEP, end, 2):
            k = min(j + 1, end - 1)  # the next output, or the last one again
            for i in range(0, fours, FOUR):
                p, q, r, s, t, u, v, z = eight_dots(x[i], x[i + 1], x[i + 2], x[i + 3], w[j], w[k])
                y[i, j], y[i + 1, j], y[i + 2, j], y[i + 3, j] = p, q, r, s
                y[i, k], y[i + 1, k], y[i + 2, k], y[i + 3, k] = t, u, v, z
            for i in range(fours, M):
                y[i, j] = dot(x[i], w[j])
                y[i, k] = dot(x[i], w[k])
        if b.size > 0:
            for i in range(M):
                row, bias = y[i, task * STEP : end], b[task * STEP : end]
                for j in range(row.size):
                    row[j] += bias[j]


def linear(x, w, b):
    """x (M, K) @ w (N, K).T + b (N,), which may be empty; all contiguous, and M at most MOST."""
    y = np.empty((len(x), len(w)), F)
    (sums.serial if x.size * len(w) <= SERIAL else sums)(x, w, b, y)
    return y
