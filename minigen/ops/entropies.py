"""Losses of probabilities: how surprised a prediction is by what happened, in nats.

    cross_entropy  nll_loss                                       of one class among several
    binary_cross_entropy_with_logits  binary_cross_entropy        of yes or no
    kl_div                                                        of one distribution beside another

cross_entropy and binary_cross_entropy_with_logits are fused: one kernel call forward and backward, and the
probabilities are never stored. `reduction` as in losses.py.
"""

import math

import numpy as np

from .. import kernels
from ..autograd import action, op
from ..autograd.modes import mode
from ..device import FLOATS, device_of, to_device, xp
from ..errors import ArgumentError, DimError, DtypeError, expect
from ..tensor import value
from .activations import floating
from .arithmetic import abs, clamp
from .casting import cast
from .elementary import exp, log, log1p
from .losses import broadcasts, check_reduction, fused_loss, pair, reduce
from .picking import gather
from .reduction import _total, spread, sum
from .shape import movedim, reshape
from .softmax import log_softmax
from .special import xlogy

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "nll_loss",
]


# Of classes


def _rows(name, x):
    """(N, C, ...) as (N', C), and (C,) as (1, C)."""
    expect(hasattr(x, "ndim") and x.ndim > 0, f"{name}: the first argument is (N, C, ...) or (C,)", x)
    if x.ndim == 2:
        return x
    if x.ndim == 1:
        return reshape(x, (1, -1))
    classes, x = x.shape[1], movedim(x, 1, -1)
    return reshape(x, (math.prod(x.shape[:-1]), classes))


@action
def _targets(name, x, target, ignore_index):
    """The class of each row as a flat array. Raises ShapeError, DtypeError or DimError."""
    classes = x.shape[min(1, x.ndim - 1)]
    shape = (x.shape[0], *x.shape[2:]) if x.ndim > 1 else ()
    target = value(target)
    expect(
        hasattr(target, "dtype") and target.dtype.kind in "iu",
        f"{name}: the target holds class numbers, which are integers",
        target,
        error=DtypeError,
        hint="write target.long()",
    )
    if tuple(target.shape) != shape:
        held = f"x {tuple(x.shape)} has its classes in dimension {min(1, x.ndim - 1)}"
        expect(False, f"{name}: {held}: the target must be {shape}", x, target)
    target = to_device(target, device_of(value(x))).reshape(-1).astype(np.int64, copy=False)
    if target.size and type(target) is np.ndarray and target.view(np.uint64).max() >= classes:  # or it is negative
        wrong = target[((target < 0) | (target >= classes)) & (target != ignore_index)]
        if wrong.size:
            raise DimError(f"{name}: classes go from 0 to {classes - 1}, got {wrong[0]}")
    return target, shape


def _class_weights(name, x, weight):
    classes = x.shape[min(1, x.ndim - 1)]
    if weight is not None:
        expect(
            tuple(weight.shape) == (classes,),
            f"{name}: weight must have one number for each of {classes} classes",
            weight,
        )
        floating(name, x, weight)
    return value(weight)


def _picked(log_probabilities, target, weight, ignore_index):
    """-weight[target] * log_probabilities[target] of each row; 0 where ignored."""
    safe, scale = _places(target, weight, ignore_index, log_probabilities.dtype)
    return reshape(gather(log_probabilities, 1, safe), (-1,)) * scale


@action
def _places(target, weight, ignore_index, dtype):
    """(N, 1) the class of each row, 0 where it is ignored, and (N,) minus its weight, 0 there."""
    lib = xp(target)
    ignored = target == ignore_index
    safe = lib.where(ignored, 0, target)
    scale = -(~ignored).astype(dtype)
    return safe[:, None], scale if weight is None else scale * weight[safe]


def _share(losses, target, weight, ignore_index, shape, reduction):
    """Reduce: the mean is over the weights of the targets that are not ignored."""
    if reduction != "mean":
        return sum(losses) if reduction == "sum" else reshape(losses, shape)
    return _sum_over(losses, _counted(target, weight, ignore_index, losses.dtype))


@action
def _counted(target, weight, ignore_index, dtype):
    """The sum of the weights of the targets that are not ignored: ()."""
    lib = xp(target)
    if weight is None:
        return lib.asarray(lib.count_nonzero(target != ignore_index), dtype)
    ignored = target == ignore_index
    return lib.asarray(lib.where(ignored, 0, weight[lib.where(ignored, 0, target)]).sum(dtype=dtype))


@op
def _sum_over(x, total):
    """The sum of x, over total; where nothing counted it is 0 / 0, NaN, and the gradient 0."""
    return _total(x, None, False) / xp(x).where(total == 0, x.dtype.type(np.nan), total)


def _sum_over_gradient(g, x_shape, total):
    total = value(total)  # a tensor in a gradient's gradient, to which it is a constant
    return spread(g / xp(total).where(total == 0, total.dtype.type(1), total), x_shape, None)


_sum_over.gradient(x=_sum_over_gradient)


def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """-weight[target] * x[target] of log-probabilities x (N, C, ...) or (C,), at classes target (N, ...) or ().

    Targets equal to ignore_index count nothing; the mean is over the weights of the others. Raises
    ShapeError, DtypeError, and DimError for a class that is not there.
    """
    check_reduction("nll_loss", reduction)
    floating("nll_loss", input)
    rows = _rows("nll_loss", input)
    classes, shape = _targets("nll_loss", input, target, ignore_index)
    weight = _class_weights("nll_loss", input, weight)
    losses = _picked(rows, classes, weight, ignore_index)
    return _share(losses, classes, weight, ignore_index, shape, reduction)


@op(saves=("lse",))
def _cross_entropy(x, target, weight, ignore_index, smoothing, dtype):  # dtype: of the losses
    family = kernels.find(x, "softmax")
    if family is None or not x.size:
        return NotImplemented
    losses, lse = family.cross_entropy(x, target, weight, ignore_index, smoothing)
    return losses.astype(dtype, copy=False), lse


@_cross_entropy.gradient
def _(g, x, target, lse, weight, ignore_index, smoothing):
    family = kernels.find(x, "softmax")
    return family.cross_entropy_gradient(g, x, target, lse, weight, ignore_index, smoothing)


@_cross_entropy.definition
def _(x, target, weight, ignore_index, smoothing, dtype):
    target, weight = value(target), value(weight)
    z = log_softmax(cast(x, dtype), -1)
    losses = _picked(z, target, weight, ignore_index)
    if not smoothing:
        return losses
    every = -sum(z if weight is None else z * weight, -1) * (target != ignore_index).astype(z.dtype)
    return (1.0 - smoothing) * losses + smoothing / x.shape[1] * every


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """-weight[target] * log(softmax(x)[target]) of logits x (N, C, ...) or (C,).

    target           classes (N, ...) or (), or probabilities of x's shape and type
    weight           (C,), one for each class
    ignore_index     classes equal to it count nothing; the mean is over the weights of the others
    label_smoothing  this share of the target is spread over all classes (Szegedy et al. 2016)

    Raises ShapeError, DtypeError, ArgumentError, and DimError for a class that is not there.
    """
    name = "cross_entropy"
    check_reduction(name, reduction)
    floating(name, input)
    expect(
        0.0 <= label_smoothing <= 1.0, f"{name}: label_smoothing lies in [0, 1]", label_smoothing, error=ArgumentError
    )
    weight = _class_weights(name, input, weight)
    if hasattr(target, "dtype") and target.dtype.kind in FLOATS:
        expect(
            ignore_index < 0,
            f"{name}: ignore_index={ignore_index} beside a target of probabilities, none of which can be ignored",
            error=ArgumentError,
        )
        return _with_probabilities(input, target, weight, reduction, label_smoothing)
    rows = _rows(name, input)
    classes, shape = _targets(name, input, target, ignore_index)
    dtype = input.dtype if mode.autocast is None else mode.autocast.widened(input)
    losses = _cross_entropy(rows, classes, weight, ignore_index, float(label_smoothing), dtype)
    return _share(losses, classes, weight, ignore_index, shape, reduction)


def _with_probabilities(x, target, weight, reduction, smoothing):
    name = "cross_entropy"
    floating(name, x, target)
    expect(
        tuple(x.shape) == tuple(target.shape),
        f"{name}: a target of floats holds the probability of each class, in x's shape",
        x,
        target,
        hint="class numbers are integers: write target.long()" if target.ndim < x.ndim else None,
    )
    dim = min(1, x.ndim - 1)
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / x.shape[dim]
    terms = log_softmax(x, dim) * target
    if weight is not None:
        terms = terms * weight.reshape((1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,))
    losses = -sum(terms, dim)
    if reduction != "mean":
        return reduce(losses, reduction)
    return sum(losses) / max(math.prod(losses.shape), 1)


# Of probabilities


@op
def _binary_cross_entropy(x, target):
    lib, tiny = xp(x), -100.0  # logarithms are cut off there, as in PyTorch: the loss of a sure mistake is finite
    with np.errstate(divide="ignore"):
        return -(target * lib.maximum(lib.log(x), tiny) + (1.0 - target) * lib.maximum(lib.log1p(-x), tiny))


_binary_cross_entropy.gradient(
    x=lambda g, x, target: g * (x - target) / clamp(x * (1.0 - x), min=1e-12),
    target=lambda g, x: g * (clamp(log1p(-x), min=-100.0) - clamp(log(x), min=-100.0)),
)


def binary_cross_entropy(input, target, weight=None, reduction="mean"):
    """-(t log x + (1 - t) log(1 - x)) of probabilities x, logarithms cut off at -100; `weight` broadcasts to x.

    From logits, binary_cross_entropy_with_logits is more accurate. Raises ShapeError, and ArgumentError
    where x is not in [0, 1].
    """
    name = "binary_cross_entropy"
    check_reduction(name, reduction)
    target = pair(name, input, target)
    x = value(input)
    if type(x) is np.ndarray and x.size:
        expect(
            bool(((x >= 0) & (x <= 1)).all()) or bool(np.isnan(x).any()),
            f"{name}: x holds probabilities, from 0 to 1; got {x.min():.4g} to {x.max():.4g}",
            error=ArgumentError,
            hint="of logits, write binary_cross_entropy_with_logits",
        )
    losses = _binary_cross_entropy(input, target)
    return reduce(losses if weight is None else losses * broadcasts(name, "weight", weight, input), reduction)


@fused_loss("bce")
def _bce(x, target, p):
    return clamp(x, min=0.0) - x * target + log1p(exp(-abs(x)))


@op
def _weighted_bce(x, target, weight, pos_weight):
    family = kernels.find(x, "losses")
    return NotImplemented if family is None else family.weighted_bce_with_logits(x, target, weight, pos_weight)


@_weighted_bce.gradient
def _(g, x, target, weight, pos_weight, needs):
    gx = kernels.find(x, "losses").weighted_bce_with_logits_gradient(g, x, target, weight, pos_weight)
    if not needs[1]:
        return gx, None
    gtarget = -x if pos_weight is None else -x + (pos_weight - 1) * _softplus(-x)
    return gx, g * gtarget * (1 if weight is None else weight)


@_weighted_bce.definition
def _(x, target, weight, pos_weight):
    factor = 1.0 if pos_weight is None else 1.0 + (pos_weight - 1.0) * target
    losses = (1.0 - target) * x + factor * _softplus(-x)
    return losses if weight is None else losses * weight


def _softplus(x):
    return (x + abs(x)) * 0.5 + log1p(exp(-abs(x)))  # max(x, 0), whose slope at 0 is 1/2


def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    """-(pos_weight t log s + (1 - t) log(1 - s)) with s = sigmoid(x), without overflow.

    weight multiplies each loss, pos_weight the part of the positive examples; both broadcast to x, and are constants.
    """
    name = "binary_cross_entropy_with_logits"
    check_reduction(name, reduction)
    target = pair(name, input, target)
    if weight is None and pos_weight is None:
        return _bce(input, target, 0.0, reduction)
    weights = [
        None if w is None else value(broadcasts(name, what, w, input))
        for what, w in (("weight", weight), ("pos_weight", pos_weight))
    ]
    return reduce(_weighted_bce(input, target, *weights), reduction)


def kl_div(input, target, reduction="mean", log_target=False):
    """target * (log target - x) of log-probabilities x: summed, the Kullback-Leibler divergence of x from the target.

    log_target   the target, too, holds log-probabilities
    reduction    "batchmean", the sum over the number of samples, is the divergence; "mean" divides by all
    elements
    """
    check_reduction("kl_div", reduction, "batchmean")
    floating("kl_div", input, target)
    losses = exp(target) * (target - input) if log_target else xlogy(target, target) - target * input
    if reduction == "batchmean":
        return sum(losses) / input.shape[0] if input.ndim else losses
    return reduce(losses, reduction)
