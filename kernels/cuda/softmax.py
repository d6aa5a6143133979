"""Softmax, log-softmax and cross-entropy over rows, and their gradients: softmax.cu.

Results have x's type, but for the losses and log-sum-exps of cross-entropy, which are float32.
"""

import numpy as np

from .compile import FLOATS, Source, cast, contiguous, library, rows_of
from .rows import plan, threads_per_row

TYPES = FLOATS
KERNELS = Source("softmax.cu")


def run_rows(name, *arrays):
    """Run a kernel over the rows of the last dimension. Returns its result, an array like the last of `arrays`."""
    shape, dtype = arrays[-1].shape, arrays[-1].dtype
    rows = [rows_of(cast(x, dtype)) for x in arrays]
    out = library(rows[0]).empty(rows[0].shape, dtype)
    form, grid, block = plan(*out.shape, dtype)
    KERNELS.run(f"{name}_{form}", (dtype,), grid, block, *rows, out, *out.shape)
    return out.reshape(shape)


def softmax(x):
    """Softmax over the last dimension, which is not empty."""
    return run_rows("softmax", x)


def softmax_gradient(g, y):
    """dL/dx from g = dL/dy and y."""
    return run_rows("softmax_gradient", g, y)


def log_softmax(x):
    """Log-softmax over the last dimension, which is not empty."""
    return run_rows("log_softmax", x)


def log_softmax_gradient(g, y):
    """dL/dx from g = dL/dy and y."""
    return run_rows("log_softmax_gradient", g, y)


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The loss of each row of logits (N, C) at the class target (N,), 0 where ignored. Returns (loss, log-sum-exp).

    Every target other than ignore_index must lie in 0 to C - 1: it is not checked here.
    """
    x = contiguous(logits)
    loss, lse = library(x).empty((2, len(x)), np.float32)
    form, grid, block = plan(*x.shape, x.dtype)
    numbers = class_numbers(target, weight, ignore_index, label_smoothing)
    KERNELS.run(f"cross_entropy_{form}", (x.dtype,), grid, block, x, *numbers, loss, lse, *x.shape)
    return loss, lse


def cross_entropy_gradient(g, logits, target, lse, weight=None, ignore_index=-100, label_smoothing=0.0):
    """dL/dlogits from g (N,), the gradient of each row's loss."""
    x = contiguous(logits)
    g, gx = contiguous(cast(g, np.float32)), library(x).empty_like(x)
    n, width = x.shape
    block = threads_per_row(width, x.dtype)
    numbers = class_numbers(target, weight, ignore_index, label_smoothing)
    KERNELS.run("cross_entropy_gradient", (x.dtype,), n, block, g, x, *numbers, lse, gx, width)
    return gx


def class_numbers(target, weight, ignore_index, smoothing):
    """What both kernels take besides the logits: target, weight, ignored class, smoothing."""
    if weight is not None:
        weight = contiguous(cast(weight, np.float32))
    return contiguous(cast(target, np.int64)), weight, int(ignore_index), float(smoothing)
