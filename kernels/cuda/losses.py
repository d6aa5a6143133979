"""Losses between two arrays of one shape, summed or element by element, and their gradients: losses.cu.

    loss_sum("mse", x, t)                      Σ (x - t)**2, in float32: no array of errors is made
    loss_each("mse", x, t)                     the errors
    loss_gradient("mse", g, x, t)              dL/dx; g is one number, or one an element
    weighted_bce_with_logits(x, t, w, p)       binary cross-entropy with weight and pos_weight; and its _gradient

p is the loss's parameter (beta of smooth_l1, delta of huber).
"""

import numpy as np

from .compile import FLOATS, Source, contiguous, library
from .elementwise import dense, grid, like
from .reduce import BLOCK, parts_of, total

TYPES = FLOATS
KERNELS = Source("losses.cu")


def loss_sum(name, x, t, p=0.0):
    """The sum of the loss over all elements, as a float32 array of no dimensions."""
    x = dense(x)
    partial, step = parts_of(x)
    types = x.dtype, x.dtype
    KERNELS.run(f"{name}_sum", types, len(partial), BLOCK, x, like(t, x), float(p), partial, x.size, step)
    return total(partial, np.float32)


def loss_each(name, x, t, p=0.0):
    """The loss of each element."""
    x = dense(x)
    y = library(x).empty_like(x)
    types = x.dtype, x.dtype
    KERNELS.run(f"{name}_each", types, *grid(x.size, x.dtype), x, like(t, x), float(p), y, x.size)
    return y


def loss_gradient(name, g, x, t, p=0.0):
    """dL/dx: g times the slope of the loss in x. g has one element, or x's shape."""
    x = dense(x)
    gx = library(x).empty_like(x)
    of_each = g.size != 1
    g = like(g, x) if of_each else library(x).asarray(g, dtype=np.float32)
    arguments = g, int(of_each), x, like(t, x), float(p), gx, x.size
    KERNELS.run(f"{name}_gradient", (x.dtype, g.dtype), *grid(x.size, x.dtype), *arguments)
    return gx


def repeated(value, x):
    """A weight that broadcasts to x (None for 1), and after how many numbers it repeats as x lies in memory."""
    if value is None:
        return None, 1
    value = library(x).asarray(value, dtype=x.dtype)
    shape = value.shape
    while shape[:1] == (1,):
        shape = shape[1:]
    if value.size == 1 or (x.flags.c_contiguous and shape == x.shape[x.ndim - len(shape) :]):
        return contiguous(value), value.size
    out = library(x).empty_like(x)
    out[...] = value
    return out, x.size


def weighted_bce_with_logits(x, t, weight=None, pos_weight=None):
    """The binary cross-entropy of each element, with `weight` and `pos_weight` that broadcast to x."""
    x = dense(x)
    y = library(x).empty_like(x)
    arrays = x, like(t, x), *repeated(weight, x), *repeated(pos_weight, x), y
    KERNELS.run("weighted_bce_each", (x.dtype, x.dtype), *grid(x.size, x.dtype), *arrays, x.size)
    return y


def weighted_bce_with_logits_gradient(g, x, t, weight=None, pos_weight=None):
    """dL/dx from g of x's shape, or of one element."""
    x = dense(x)
    gx = library(x).empty_like(x)
    arrays = *repeated(g, x), x, like(t, x), *repeated(weight, x), *repeated(pos_weight, x), gx
    KERNELS.run("weighted_bce_gradient", (x.dtype, x.dtype), *grid(x.size, x.dtype), *arrays, x.size)
    return gx
