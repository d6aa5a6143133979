"""A linear layer of a few rows in one launch, with the layer norm before it and the activation and sum behind it.

    linear_few(x, w, b, activation, norm_weight, norm_bias, eps, residual)      linear_few.cu

It serves decoding, where a launch costs more than its work. The CPU has no such family: there nothing is launched.
"""

import math

from .activations import sources
from .compile import FLOATS, contiguous, library, over

TYPES = FLOATS
BY_ACTIVATION = sources("linear_few.cu")
KERNELS = BY_ACTIVATION[None]
MOST = 8  # rows; of more a product on tensor cores is quicker
SHARED = 48 * 1024  # bytes of a block for rows of x
BLOCK, OUTPUTS = 128, 4096  # threads; warps that share the outputs, beyond which each makes several


def takes(x, w):
    """Whether x (..., in) and w (out, in) are for this kernel."""
    return 0 < x.size <= MOST * w.shape[1] and w.size and row_bytes(w) <= SHARED


def row_bytes(w):
    return over(w.shape[1] * w.itemsize, 16) * 16


def linear_few(x, w, b=None, activation=None, norm_weight=None, norm_bias=None, eps=None, residual=None):
    """residual (..., out) + an activation of layer_norm(x (..., in)) @ w (out, in).T + b (out,), all of one type.

    eps    that of the norm; None: there is none
    """
    outputs, inputs = w.shape
    n = math.prod(x.shape[:-1])
    arrays = [None if a is None else contiguous(a) for a in (x, w, b, norm_weight, norm_bias, residual)]
    y = library(x).empty((*x.shape[:-1], outputs), x.dtype)
    rows = next(r for r in (8, 4, 2, 1) if r == 1 or (r < 2 * n and r * row_bytes(w) <= SHARED))
    each = over(outputs, OUTPUTS)
    grid = over(outputs, each * (BLOCK // 32)), over(n, rows)
    numbers = n, inputs, outputs, each, int(eps is not None), float(eps or 0)
    source, name = BY_ACTIVATION[activation], f"linear_few_{rows}"
    source.run(name, (x.dtype,), grid, BLOCK, *arrays, y, *numbers, shared=rows * row_bytes(w))
    return y
