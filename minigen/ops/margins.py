"""Losses that ask for a margin: the right answer should score higher than the wrong ones by at least so much.

    hinge_embedding_loss  soft_margin_loss  margin_ranking_loss  cosine_embedding_loss      of pairs
    triplet_margin_loss  triplet_margin_with_distance_loss                                  of triplets
    multi_margin_loss  multilabel_margin_loss  multilabel_soft_margin_loss                  of classes

All are definitions.
"""

import numpy as np

from ..device import device_of, to_device, xp
from ..errors import ArgumentError, DimError, DtypeError, expect
from ..tensor import value
from .activations import floating, logsigmoid
from .arithmetic import clamp, minimum, where
from .elementary import sqrt
from .losses import check_reduction, reduce, same_shape
from .normalization import pairwise_distance
from .picking import gather
from .reduction import mean, sum
from .shape import reshape

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _positive(x):
    """max(x, 0)."""
    return clamp(x, min=0.0)


def hinge_embedding_loss(input, target, margin=1.0, reduction="mean"):
    """x where the target is 1, max(0, margin - x) where it is -1."""
    check_reduction("hinge_embedding_loss", reduction)
    floating("hinge_embedding_loss", input)
    t = value(target)
    return reduce(where(t != -1, input, 0.0) + where(t != 1, _positive(margin - input), 0.0), reduction)


def soft_margin_loss(input, target, reduction="mean"):
    """log(1 + e**(-target x)), targets 1 and -1."""
    check_reduction("soft_margin_loss", reduction)
    floating("soft_margin_loss", input)
    same_shape("soft_margin_loss", input, target)
    return reduce(-logsigmoid(input * target), reduction)


def margin_ranking_loss(input1, input2, target, margin=0.0, reduction="mean"):
    """max(0, -target (x1 - x2) + margin): with target 1, x1 should be larger by the margin; with -1, smaller."""
    check_reduction("margin_ranking_loss", reduction)
    floating("margin_ranking_loss", input1, input2)
    expect(
        input1.ndim == input2.ndim == target.ndim,
        "margin_ranking_loss: x1, x2 and target have equally many dimensions",
        input1,
        input2,
        target,
    )
    return reduce(_positive((input2 - input1) * target + margin), reduction)


def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction="mean"):
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1. x1, x2 (N, D) or (D,)."""
    name = "cosine_embedding_loss"
    check_reduction(name, reduction)
    floating(name, input1, input2)
    expect(
        input1.ndim == input2.ndim in (1, 2) and target.ndim == input1.ndim - 1,
        f"{name}: x1 and x2 are (N, D), the target (N,); or (D,) and ()",
        input1,
        input2,
        target,
    )
    lengths = (sum(input1 * input1, -1) + 1e-12) * (sum(input2 * input2, -1) + 1e-12)
    cosine = sum(input1 * input2, -1) / sqrt(lengths)
    t = value(target)
    losses = where(t == 1, 1.0 - cosine, 0.0) + where(t == -1, _positive(cosine - margin), 0.0)
    return reduce(losses, reduction)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean"):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference (Balntas
    et al. 2016).

    swap: where the negative is closer to the positive than to the anchor, that distance counts.
    """
    name = "triplet_margin_loss"
    floating(name, anchor, positive, negative)
    expect(margin > 0, f"{name}: margin must be positive", margin, error=ArgumentError)
    expect(
        anchor.ndim == positive.ndim == negative.ndim,
        f"{name}: anchor, positive and negative have equally many dimensions",
        anchor,
        positive,
        negative,
    )
    return triplet_margin_with_distance_loss(
        anchor,
        positive,
        negative,
        distance_function=lambda a, b: pairwise_distance(a, b, p, eps),
        margin=margin,
        swap=swap,
        reduction=reduction,
    )


def triplet_margin_with_distance_loss(
    anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"
):
    """triplet_margin_loss with any distance: a function of two tensors; the Euclidean one if None."""
    name = "triplet_margin_with_distance_loss"
    check_reduction(name, reduction)
    floating(name, anchor, positive, negative)
    expect(margin > 0, f"{name}: margin must be positive", margin, error=ArgumentError)
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduce(_positive(near - far + margin), reduction)


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, reduction="mean"):
    """The mean over classes j other than the target of weight[target] max(0, margin - x[target] + x[j])**p.

    x (N, C) or (C,), target (N,) or () of classes; p is 1 or 2.
    """
    name = "multi_margin_loss"
    check_reduction(name, reduction)
    floating(name, input)
    expect(p in (1, 2), f"{name}: p is 1 or 2", p, error=ArgumentError)
    t, shape = _classes(input, target), input.shape[:-1]
    if input.ndim == 0:
        input = reshape(input, (1,))
    expect(
        input.ndim in (1, 2) and tuple(t.shape) in (tuple(input.shape[:-1]), (1,) * (2 - input.ndim)),
        f"{name}: x (N, C) with target (N,), or (C,) with ()",
        input,
        target,
    )
    x, t = reshape(input, (-1, input.shape[-1])), t.reshape(-1)
    _check_classes(name, t, x.shape[1])
    lib = xp(t)
    others = (lib.arange(x.shape[1]) != t[:, None]).astype(x.dtype)
    short = _positive(margin - gather(x, 1, t[:, None]) + x) * others
    if p == 2:
        short = short * short
    if weight is not None:
        floating(name, input, weight)
        expect(tuple(weight.shape) == (x.shape[1],), f"{name}: weight has one number for each class", weight)
        short = short * value(weight)[t][:, None]
    return reduce(reshape(mean(short, 1), shape), reduction)


def _classes(x, target):
    """The target's array, beside x."""
    return to_device(value(target), device_of(value(x)))


def _check_classes(name, t, classes, none=0):
    expect(t.dtype.kind in "iu", f"{name}: the target holds class numbers", t, error=DtypeError)
    if type(t) is np.ndarray and t.size and (t.min() < none or t.max() >= classes):
        raise DimError(f"{name}: classes go from {none} to {classes - 1}, got {t.min()} to {t.max()}")


def multilabel_margin_loss(input, target, reduction="mean"):
    """The sum over target classes i and other classes j of max(0, 1 - x[i] + x[j]), over the number of classes.

    x (N, C) or (C,); each row of the target, of x's shape, lists its classes, up to the first -1.
    """
    name = "multilabel_margin_loss"
    check_reduction(name, reduction)
    floating(name, input)
    same_shape(name, input, target)
    expect(input.ndim < 3, f"{name}: x is (N, C) or (C,)", input)
    shape = input.shape[:-1]
    if input.ndim == 0:
        input = reshape(input, (1,))
    x, t = reshape(input, (-1, input.shape[-1])), _classes(input, target).reshape(-1, input.shape[-1])
    _check_classes(name, t, x.shape[1], none=-1)
    lib = xp(t)
    listed = lib.cumsum(t < 0, axis=1) == 0
    safe = lib.where(listed, t, 0)
    is_target = ((safe[..., None] == lib.arange(x.shape[1])) & listed[..., None]).any(1)
    pairs = (listed[:, :, None] & ~is_target[:, None, :]).astype(x.dtype)
    n, classes = x.shape
    short = _positive(1.0 - reshape(gather(x, 1, safe), (n, classes, 1)) + reshape(x, (n, 1, classes))) * pairs
    return reduce(reshape(sum(short, (1, 2)) / classes, shape), reduction)


def multilabel_soft_margin_loss(input, target, weight=None, reduction="mean"):
    """The mean over classes of the binary cross-entropy of sigmoid(x): x and target (..., C), weight (C,)."""
    name = "multilabel_soft_margin_loss"
    check_reduction(name, reduction)
    floating(name, input)
    same_shape(name, input, target)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        losses = losses * weight
    return reduce(mean(losses, -1), reduction)
