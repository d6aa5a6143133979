"""The linear layer and its gradients: products by cuBLAS (blas.py), or in one pass with the bias (gemm.py).

    linear(x, w, b)                     y = x @ w.T + b
    linear_gradient(g, x, w, ...)       dx = g @ w,  dw = g.T @ x,  db = the sum of g's rows, in a fixed order

Floor: 2 M N K operations forward, 4 M N K in the gradient. Where the layer is small its launches cost as much as its
arithmetic: then the product and the bias are one launch. In larger ones the bias is written first, by linear.cu, and
cuBLAS adds the product to it. Either way the sum is in float32 and rounded once. Not yet measured.
"""

import math

from . import blas, compile, gemm
from .activations import sources
from .compile import FLOATS, cast, contiguous, library, over
from .reduce import sum_leading

TYPES = FLOATS
BY_ACTIVATION = sources("linear.cu")
KERNELS = BY_ACTIVATION[None]
SMALL, SHALLOW = 1 << 22, 512  # multiply-adds, and depth, up to which one launch should beat two: to be measured
BLOCK, PARTS, LEAST = 128, 512, 8  # threads of a block; blocks down the rows, at most; rows of one, at least


def linear(x, w, b=None):
    """x (..., in) @ w (out, in).T + b (out,) -> (..., out); b may be None."""
    outputs, inputs = w.shape
    rows = x.reshape(math.prod(x.shape[:-1]), inputs)
    y = library(x).empty((len(rows), outputs), x.dtype)
    if b is None:
        blas.matmul(rows, w.T, y)
    elif in_one_launch(y, inputs):
        gemm.product(rows, w.T, y, b)
    else:
        fill_rows(y, b)
        blas.matmul(rows, w.T, y, add=True)
    return y.reshape(*x.shape[:-1], outputs)


def in_one_launch(y, inputs):
    """Whether the product and what follows it are one launch of our own."""
    return compile.machine.cublas is None or (y.size * inputs <= SMALL and inputs <= SHALLOW)


def fill_rows(y, b):
    """y (n, width) = b (width,) in every row."""
    grid, sizes = down_the_rows(y)
    KERNELS.run("bias_rows", (y.dtype,), grid, BLOCK, contiguous(cast(b, y.dtype)), y, *sizes)


def down_the_rows(y):
    """The grid (tiles of packs, parts of the rows), and the arguments that end a launch: n, width, rows of a part."""
    n, width = y.shape
    step = max(over(n, PARTS), LEAST)
    return (over(width, BLOCK * (16 // y.dtype.itemsize)), over(n, step)), (n, width, step)


def linear_gradient(g, x, w, needs=(True, True, True), into=(None, None, None)):
    """dL/dx, dL/dw, dL/db from g = dL/dy (..., out), x (..., in) and w (out, in); None for what is not needed.

    into    contiguous arrays to write dL/dw and dL/db to and return, or None for new ones
    """
    outputs, inputs = w.shape
    n = math.prod(x.shape[:-1])
    rows_g, rows_x = cast(g, x.dtype).reshape(n, outputs), x.reshape(n, inputs)
    gx = blas.matmul(rows_g, w).reshape(x.shape) if needs[0] else None
    gw = blas.matmul(rows_g.T, rows_x, into[1]) if needs[1] else None
    gb = sum_leading(rows_g, into[2]) if needs[2] else None
    return gx, gw, gb
