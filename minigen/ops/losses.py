"""Losses: how far a prediction is from its target, as one number (or one each).

    mse_loss  l1_loss  smooth_l1_loss  huber_loss                 of numbers
    gaussian_nll_loss  poisson_nll_loss                           of distributions' parameters

Those of probabilities stand in entropies.py, those that ask for a margin in margins.py, ctc_loss in ctc.py.
`reduction` is "mean" (over what counts), "sum", or "none" for one loss each. Unlike PyTorch's, these do not broadcast
a prediction against a target of another shape: (N, 1) beside (N,) would silently compare every pair.

The first four are fused: one kernel call forward and backward, and no array of losses where only the sum is wanted.
"""

import math

import numpy as np

from .. import kernels
from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, DtypeError, ShapeError, expect
from ..tensor import value
from .activations import floating
from .arithmetic import abs, where
from .casting import cast
from .elementary import exp, log
from .reduction import mean, sum
from .shape import reshape

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]


def reduce(loss, reduction):
    """The losses averaged, summed, or as they are."""
    return mean(loss) if reduction == "mean" else sum(loss) if reduction == "sum" else loss


def check_reduction(name, reduction, *more):
    """Raise ArgumentError for an unknown reduction."""
    known = ("mean", "sum", "none", *more)
    if reduction not in known:
        expect(False, f"{name}: reduction is one of {', '.join(known)}", reduction, error=ArgumentError)


def same_shape(name, input, target):
    """Raise ShapeError unless prediction and target have one shape."""
    x, t = tuple(input.shape), tuple(target.shape)
    if x != t:
        remedy = "write target.reshape(prediction.shape)"
        if math.prod(x) != math.prod(t):
            remedy = "if each prediction should meet every target, write target.expand_as(prediction)"
        raise ShapeError(f"{name}: prediction {x} and target {t}: their shapes must be equal\n  {remedy}")


def pair(name, input, target):
    """The target, in the prediction's type if it holds integers or booleans. Raises unless the shapes are equal."""
    floating(name, input)
    expect(hasattr(target, "dtype"), f"{name}: the target must be a tensor", target, error=DtypeError)
    if target.dtype.kind in "iub":
        target = cast(target, input.dtype)
    floating(name, input, target)
    same_shape(name, input, target)
    return target


def broadcasts(name, what, weight, x):
    """A weight, checked to have x's type and to broadcast to it."""
    floating(name, x, weight)
    fits = weight.ndim <= x.ndim and all(w in (1, n) for w, n in zip(weight.shape[::-1], x.shape[::-1]))
    expect(fits, f"{name}: {what} must broadcast to the prediction", x, weight)
    return weight


def fused_loss(name):
    """The op (x, target, p, reduction) that the kernel `name` computes; the decorated function is its definition."""

    def decorate(definition):
        def forward(x, target, p, reduction):
            family = kernels.find(x, "losses")
            if family is None or not x.size:
                return NotImplemented
            if reduction == "none":
                return family.loss_each(name, x, target, p)
            total = family.loss_sum(name, x, target, p)
            return total if reduction == "sum" else total / np.float32(x.size)

        def rule(g, x, target, p, reduction, needs):
            family = kernels.find(x, "losses")
            g = g / np.float32(x.size) if reduction == "mean" else g
            gx = family.loss_gradient(name, g, x, target, p) if needs[0] or name != "bce" else None
            gtarget = None
            if needs[1]:
                gtarget = -g * x if name == "bce" else -gx
            return gx, gtarget

        def define(x, target, p, reduction):
            return reduce(definition(x, target, p), reduction)

        forward.__name__, forward.__doc__ = name, definition.__doc__
        made = op(forward)
        made.gradient(rule)
        made.definition(define)
        return made

    return decorate


# Of numbers


@fused_loss("mse")
def _mse(x, target, p):
    return (x - target) * (x - target)


@fused_loss("l1")
def _l1(x, target, p):
    return abs(x - target)


@fused_loss("smooth_l1")
def _smooth_l1(x, target, beta):
    d = abs(x - target)
    return where(value(d) < beta, d * d * (0.5 / beta if beta else 0.0), d - 0.5 * beta)


@fused_loss("huber")
def _huber(x, target, delta):
    d = abs(x - target)
    return where(value(d) <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


def _compare(name, made, input, target, p, reduction, weight=None):
    check_reduction(name, reduction)
    target = pair(name, input, target)
    if weight is None:
        return made(input, target, p, reduction)
    weight = pair(name, input, weight)
    losses = weight * made(input, target, p, "none")
    return sum(losses) / sum(weight) if reduction == "mean" else reduce(losses, reduction)


def mse_loss(input, target, reduction="mean", weight=None):
    """(x - target)**2. Raises ShapeError unless the shapes are equal: (N, 1) and (N,) are not.

    weight: of the same shape; the mean then divides by its sum.
    """
    return _compare("mse_loss", _mse, input, target, 0.0, reduction, weight)


def l1_loss(input, target, reduction="mean", weight=None):
    """|x - target|. Raises ShapeError unless the shapes are equal."""
    return _compare("l1_loss", _l1, input, target, 0.0, reduction, weight)


def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    """(x - target)**2 / (2 beta) where |x - target| < beta, |x - target| - beta / 2 elsewhere (Girshick 2015)."""
    expect(beta >= 0, "smooth_l1_loss: beta must not be negative", beta, error=ArgumentError)
    return _compare("smooth_l1_loss", _smooth_l1, input, target, float(beta), reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """(x - target)**2 / 2 where |x - target| <= delta, delta (|x - target| - delta / 2) elsewhere (Huber 1964)."""
    expect(delta > 0, "huber_loss: delta must be positive", delta, error=ArgumentError)
    return _compare("huber_loss", _huber, input, target, float(delta), reduction, weight)


# Of distributions' parameters


def _at_least(x, least):
    """x, but no smaller than `least`; the gradient goes through everywhere."""
    array = value(x)
    return x + (xp(array).maximum(array, least) - array)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """(log var + (x - target)**2 / var) / 2: -log of the normal density at the target, with mean x and variance var.

    var    of x's shape, or with a last dimension of 1, or without it, or one number; no smaller than eps
    full   adds the constant log(2 pi) / 2
    """
    name = "gaussian_nll_loss"
    check_reduction(name, reduction)
    floating(name, input, target)
    broadcasts(name, "target", target, input)
    if not hasattr(var, "shape"):
        var = xp(value(input)).full((), var, input.dtype)
    floating(name, input, var)
    expect(eps > 0, f"{name}: eps must be positive", eps, error=ArgumentError)
    shape = tuple(input.shape)
    if tuple(var.shape) == shape[:-1] and input.ndim:
        var = reshape(var, (*shape[:-1], 1))
    differ = [n for n, m in zip(var.shape, shape) if n != m]
    expect(
        var.ndim == 0 or var.ndim == len(shape) and differ in ([], [1]),
        f"{name}: var has x's shape, or one dimension of it is 1, or the last is missing",
        input,
        var,
    )
    expect(
        xp(value(var)) is not np or not bool((value(var) < 0).any()),
        f"{name}: var holds variances, which are not negative",
        error=ArgumentError,
    )
    var = _at_least(var, eps)
    losses = 0.5 * (log(var) + (input - target) * (input - target) / var)
    return reduce(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def poisson_nll_loss(input, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    """e**x - target x of log-rates x, or x - target log(x + eps) of rates x: -log of the Poisson
    probability of the target.

    full adds Stirling's approximation of log(target!) where the target is above 1.
    """
    check_reduction("poisson_nll_loss", reduction)
    floating("poisson_nll_loss", input, target)
    losses = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        large = value(target) > 1
        t = where(large, target, 1.0)
        losses = losses + where(large, t * log(t) - t + 0.5 * log(2 * math.pi * t), 0.0)
    return reduce(losses, reduction)
