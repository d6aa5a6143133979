"""The linear layer of many rows: its weight is put into panels once, and each task takes some of the rows.

    linear(x, w, b)                     y = x @ w.T + b
    linear_gradient(g, x, w, ...)       dx = g @ w,  dw = g.T @ x,  db = the sum of g's rows

Floor: 2 M N K operations forward, 4 M N K in the gradient. Putting the weight into panels costs as much as the product
of some 100 rows, so this pays from FEWEST rows on. The work is cut by the shape alone, and every element is one sum in
one order, so any number of threads gives the same bits.

Milliseconds on two cores of a Zen 5, forward and gradient, beside blas.py (OpenBLAS, SkylakeX core):

    2048 x 128 -> 384          0.44 + 0.95      0.62 + 1.01
    2048 x 128 -> 512          0.58 + 1.27      0.83 + 1.39
    2048 x 512 -> 128          0.57 + 1.22      0.73 + 1.42
    512 x 1024 -> 1024         2.65 + 5.13      3.38 + 6.13
"""

import numpy as np
from numba import prange

from .addresses import address, shifted
from .compile import kernel
from .panels import in_panels, multiply
from .weight_gradient import weight_gradient

F = np.float32
FEWEST = 512  # rows from which this pays
NARROWEST = 32  # numbers in and out, at least: tiles are WIDTH wide, however few are wanted
STEP = 64  # rows a task takes


@kernel(reads=("x", "panels", "bias"), dense=("bias", "y"))
def rows_through(x, panels, bias, y):
    """y (M, N) = x (M, K) @ the matrix in `panels` + bias (N,)."""
    M, N = y.shape
    for task in prange((M + STEP - 1) // STEP):
        first, last = task * STEP, min(M, (task + 1) * STEP)
        a, c = shifted(address(x), first * x.strides[0]), shifted(address(y), first * y.strides[0])
        multiply(a, 0, x.strides[0], panels, c, 0, y.strides[0], address(bias), 0, 0, 1, last - first, N)


def linear(x, w, b=None):
    """x (M, K) @ w (N, K).T + b (N,); b may be None."""
    y = np.empty((len(x), len(w)), F)
    rows_through(unit_rows(x), in_panels(w.T), np.zeros(len(w), F) if b is None else np.ascontiguousarray(b), y)
    return y


def linear_gradient(g, x, w, needs=(True, True, True), into=(None, None, None)):
    """dL/dx, dL/dw, dL/db from g = dL/dy (M, N), x (M, K) and w (N, K); None for what is not needed.

    into    contiguous arrays to write dL/dw and dL/db to and return, or None for new ones
    """
    gx = None
    if needs[0]:
        gx = np.empty((len(g), w.shape[1]), F)
        rows_through(unit_rows(g), in_panels(w, once=True), np.zeros(w.shape[1], F), gx)
    if not (needs[1] or needs[2]):
        return gx, None, None
    return gx, *weight_gradient(g, x, into[1:], needs[1:3])


def unit_rows(x):
    """x with a last stride of one element: a copy only if it must be."""
    return x if x.strides[-1] == 4 else np.ascontiguousarray(x)
