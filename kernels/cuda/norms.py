"""Batch norm and its gradient: norms.cu.

y and dL/dx have x's type and memory order, the gradients of weight and bias have the weight's type; everything else
is float32. k is the mean, and offset what it lacks: mean = k + offset.
"""

import numpy as np

from .activations import sources
from .channels import Channels
from .compile import FLOATS, library, over
from .layer_norm import vector

TYPES = FLOATS
BY_ACTIVATION = sources("norms.cu")
KERNELS = BY_ACTIVATION[None]
BLOCK = 256
WARPS = BLOCK // 32


def moments(x, wide=1):
    """k, mean - k and squares of the parts of each pair of x, a Channels; and how they were cut."""
    plan = x.sums(wide)
    k, parts = x.floats(1, plan.pairs)[0], library(x.x).empty((2, plan.parts, plan.pairs), np.float32)
    KERNELS.run(f"moments_{plan.form}", x.types, plan.grid, BLOCK, x.x, k, *parts, *plan.arguments)
    return k, parts, plan


def affine(x, k, slope, base, activation=None):
    """(x - k) slope + base, or an activation of that."""
    y, (form, grid, end) = x.empty(), x.elementwise
    BY_ACTIVATION[activation].run(f"affine{form}", x.types, *grid, x.x, k, slope, base, y, *end)
    return y


def gradient_sums(g, x, k, offset, inner=(None, None, None)):
    """Σg and Σg (x - k - offset) of the parts of each pair; and how they were cut. offset may be None.

    inner: slope, base, activation, if there was one; g is that of its result
    """
    slope, base, activation = inner
    plan = x.sums()
    parts = library(x.x).empty((2, plan.parts, plan.pairs), np.float32)
    arrays = g, x.x, k, offset, slope, base, *parts
    BY_ACTIVATION[activation].run(f"gradient_sums_{plan.form}", x.types, plan.grid, BLOCK, *arrays, *plan.arguments)
    return parts, plan


def gradient_affine(g, x, k, alpha, beta, gamma, inner=(None, None, None)):
    """alpha g + beta (x - k) + gamma; inner is as in gradient_sums."""
    gx, (form, grid, end) = x.empty(), x.elementwise
    slope, base, activation = inner
    arrays = g, x.x, k, slope, base, alpha, beta, gamma, gx
    BY_ACTIVATION[activation].run(f"gradient_affine{form}", x.types, *grid, *arrays, *end)
    return gx


# ---- what the ops call: x (N, C, ...), weight and bias (C,) or None ----


def batch_norm(x, weight, bias, eps):
    """x (N, C, ...) normalised over samples and positions. Returns y, k, offset, rstd, and (C,) mean and variance."""
    x = Channels(x, bias if weight is None else weight, together=True)
    out, (k, parts, plan) = x.floats(7), moments(x)
    numbers = x.vector(weight), x.vector(bias), float(eps), out, x.channels, *plan.geometry
    KERNELS.run("batch_statistics", x.types, over(x.channels, WARPS), BLOCK, k, *parts, *numbers)
    k, offset, rstd, mean, variance, slope, base = out
    return affine(x, k, slope, base), k, offset, rstd, mean, variance


def follow(running_mean, running_var, mean, variance, momentum, correction):
    """Move running statistics, float32, contiguous, or None, towards those of a batch, in place.

    momentum    the batch's share
    correction  what its variance is multiplied by
    """
    numbers = float(momentum), float(correction), mean.size
    grid = over(mean.size, BLOCK), BLOCK
    KERNELS.run("follow", (mean.dtype, mean.dtype), *grid, running_mean, running_var, mean, variance, *numbers)


def batch_norm_gradient(g, x, weight, k, offset, rstd):
    """dL/dx, dL/dweight, dL/dbias."""
    return gradient(g, Channels(x, weight, together=True), weight, k, offset, rstd, averaged=True)


def batch_norm_eval(x, weight, bias, mean, variance, eps):
    """x (N, C, ...) normalised with a given (C,) mean and variance."""
    x = Channels(x, bias if weight is None else weight, together=True)
    _, slope, base = evaluation(x, weight, bias, variance, eps)
    return affine(x, vector(mean, np.float32), slope, base)


def batch_norm_eval_gradient(g, x, weight, mean, variance, eps):
    """dL/dx, dL/dweight, dL/dbias of batch_norm_eval; mean and variance are constants."""
    x = Channels(x, weight, together=True)
    rstd = evaluation(x, weight, None, variance, eps)[0]
    return gradient(g, x, weight, vector(mean, np.float32), None, rstd, averaged=False)


def evaluation(x, weight, bias, variance, eps):
    """rstd, slope and base of each channel."""
    out = x.floats(3)
    numbers = x.vector(weight), x.vector(bias), vector(variance, np.float32), float(eps), out, x.channels
    KERNELS.run("evaluation", x.types, over(x.channels, BLOCK), BLOCK, *numbers)
    return out


def gradient(g, x, weight, k, offset, rstd, averaged):
    g = x.like(g)
    parts, plan = gradient_sums(g, x, k, offset)
    of_parameters, (alpha, beta, gamma) = library(g).empty((2, x.channels), x.kind), x.floats(3)
    numbers = x.vector(weight), offset, rstd, *of_parameters, alpha, beta, gamma
    sizes = x.channels, plan.parts, x.samples * x.places if averaged else 0
    KERNELS.run("batch_gradient", x.types, over(x.channels, WARPS), BLOCK, *parts, *numbers, *sizes)
    return gradient_affine(g, x, k, alpha, beta, gamma), *of_parameters
