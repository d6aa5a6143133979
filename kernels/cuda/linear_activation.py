"""The linear layer with an activation behind it, and its gradients: products by cuBLAS, the rest in one pass each way.

    linear_activation(x, w, b, "gelu")                     y = gelu(x @ w.T + b), and what the gradient asks for
    linear_activation_gradient(g, x, w, b, before, ...)    dx, dw, db

The gradient needs the activation's input. What is kept is the product, before the bias, as cuBLAS left it (in 16 bits
it is rounded there): one pass reads it and writes y, and none writes the sum. Of relu y itself will do, in place of the
product. A small layer is one launch of gemm.cu; what else there is stands in linear.cu. Not yet measured.

The CPU has no such family: there one pass took as long as two (minigen/ops/linear.py).
"""

import math

from . import blas, gemm
from .compile import FLOATS, cast, contiguous, library
from .linear import BLOCK, BY_ACTIVATION, down_the_rows, in_one_launch, linear_gradient
from .reduce import add_parts

TYPES = FLOATS


def linear_activation(x, w, b, activation):
    """An activation of x (..., in) @ w (out, in).T + b (out,), b perhaps None: y (..., out), before (rows, out).

    before    the product, or y if the activation is "relu"
    """
    outputs, inputs = w.shape
    rows = x.reshape(math.prod(x.shape[:-1]), inputs)
    y = library(x).empty((len(rows), outputs), x.dtype)
    before = y if activation == "relu" else library(x).empty_like(y)
    if in_one_launch(y, inputs):
        gemm.product(rows, w.T, y, b, activation=activation, before=None if before is y else before)
    else:
        blas.matmul(rows, w.T, before)
        grid, sizes = down_the_rows(y)
        BY_ACTIVATION[activation].run("activated_rows", (y.dtype,), grid, BLOCK, before, vector(b, y), y, *sizes)
    return y.reshape(*x.shape[:-1], outputs), before


def linear_activation_gradient(g, x, w, b, before, activation, needs=(True, True, True), into=(None, None, None)):
    """dL/dx, dL/dw, dL/db from g = dL/dy (..., out) and before; None for what is not needed.

    into    contiguous arrays to write dL/dw and dL/db to and return, or None for new ones
    """
    rows = contiguous(cast(g, x.dtype).reshape(before.shape))
    d, (grid, sizes) = library(x).empty_like(rows), down_the_rows(before)
    sums = library(x).empty((1, grid[1], len(w)), "float32") if needs[2] else None
    bias = None if activation == "relu" else vector(b, x)
    BY_ACTIVATION[activation].run("inner_gradient_rows", (x.dtype,), grid, BLOCK, rows, before, bias, d, sums, *sizes)
    gx, gw, _ = linear_gradient(d.reshape(g.shape), x, w, (*needs[:2], False), into)
    if not needs[2]:
        return gx, gw, None
    gb = add_parts(sums, x.dtype, into[2])
    return gx, gw, gb[0] if into[2] is None else gb


def vector(b, y):
    """A bias as the kernels take it."""
    return None if b is None else contiguous(cast(b, y.dtype))
