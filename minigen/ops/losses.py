"""Losses: how far a prediction is from its target, reduced to one number.

    mse l1 smooth_l1 huber                        of numbers
    binary_cross_entropy (_with_logits)           of probabilities of yes or no
    cross_entropy nll                             of probabilities of one class among several
    kl_div gaussian_nll poisson_nll               of distributions

reduction: "mean" over what counts, "sum", or "none" for the loss of each. Unlike PyTorch's, these do not broadcast a
prediction against a target of another shape: (N, 1) beside (N,) would silently compare every pair.
"""

import math

from .. import kernels
from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, DtypeError, ShapeError, expect
from ..tensor import Tensor
from ..tensor import value as array
from .arithmetic import abs, clamp, where
from .elementary import exp, log
from .picking import gather
from .reduction import mean, sum
from .shape import movedim, reshape, squeeze, unsqueeze
from .softmax import log_softmax
from .special import logaddexp, xlogy

LEAST = 4096  # elements from which a kernel is worth its call


def _reduced(name, loss, reduction):
    _check_reduction(name, reduction)
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum(loss)


def _check_reduction(name, reduction, known=("mean", "sum", "none")):
    expect(
        reduction in known,
        f"{name}: reduction is {', '.join(map(repr, known))}",
        reduction,
        error=ArgumentError,
    )


def _check_pair(name, x, target):
    expect(
        isinstance(x, Tensor) and hasattr(target, "shape"),
        f"{name}: the prediction and the target must be tensors",
        x,
        target,
        error=DtypeError,
    )
    if tuple(x.shape) != tuple(target.shape):
        raise ShapeError(
            f"{name}: prediction {tuple(x.shape)} and target {tuple(target.shape)}: their shapes must be equal\n"
            f"  {_remedy(tuple(x.shape), tuple(target.shape))}"
        )


def _remedy(x, target):
    if math.prod(x) == math.prod(target):
        return "write target.reshape(prediction.shape)"
    return "broadcasting would compare pairs that do not belong together; if you mean it, write target.expand_as(prediction)"


# Of numbers


DEFINITIONS = {
    "mse": lambda x, t, p: (x - t) * (x - t),
    "l1": lambda x, t, p: abs(x - t),
    "smooth_l1": lambda x, t, beta: _kinked(abs(x - t), beta, lambda d: 0.5 / beta * d * d, lambda d: d - 0.5 * beta),
    "huber": lambda x, t, delta: _kinked(abs(x - t), delta, lambda d: 0.5 * d * d, lambda d: delta * (d - 0.5 * delta)),
    "bce": lambda x, t, p: (1.0 - t) * x + logaddexp(-x, 0.0),
}


def _kinked(d, kink, near, far):
    return where(array(d) < kink, near(d), far(d))


@op
def _loss(x, target, kind, p, total):
    """The loss of each element, or (`total`) their sum."""
    family = kernels.find(x, "losses")
    if family is None or x.size < LEAST or target.dtype != x.dtype:
        return NotImplemented
    return family.loss_sum(kind, x, target, p) if total else family.loss_each(kind, x, target, p)


@_loss.gradient
def _(g, x, target, kind, p, needs):
    gx = kernels.find(x, "losses").loss_gradient(kind, g, x, target, p)
    if not needs[1]:
        return gx, None
    return gx, (g * -x if kind == "bce" else -gx)


@_loss.definition
def _(x, target, kind, p, total):
    each = DEFINITIONS[kind](x, target, p)
    return sum(each) if total else each


def _numbers(name, kind, x, target, reduction, p=0.0):
    _check_reduction(name, reduction)
    _check_pair(name, x, target)
    expect(
        x.dtype.kind == "f",
        f"{name}: the prediction must be floating-point",
        x,
        error=DtypeError,
        hint="write x.float()",
    )
    if array(target).dtype != x.dtype:
        target = _as_type(target, x.dtype, name)
    loss = _loss(x, target, kind, float(p), reduction != "none")
    return (
        loss * (1.0 / x.numel()) if reduction == "mean" and x.numel() else loss if reduction != "mean" else loss / 0.0
    )


def _as_type(target, dtype, name):
    """Integer and boolean targets take the prediction's type; another floating type is refused."""
    if array(target).dtype.kind == "f":
        raise DtypeError(
            f"{name}: prediction {dtype} and target {array(target).dtype} are of two types\n"
            f"  write target.{'float' if dtype.itemsize == 4 else 'double'}()"
        )
    return Tensor(array(target).astype(dtype))


def mse_loss(input, target, reduction="mean", weight=None):
    """(input - target)**2. input and target of one shape. Raises ShapeError where the shapes differ."""
    if weight is not None:
        _check_pair("mse_loss", input, weight)
        each = _numbers("mse_loss", "mse", input, target, "none") * weight
        return sum(each) / sum(weight) if reduction == "mean" else _reduced("mse_loss", each, reduction)
    return _numbers("mse_loss", "mse", input, target, reduction)


def l1_loss(input, target, reduction="mean", weight=None):
    """|input - target|. input and target of one shape. Raises ShapeError where the shapes differ."""
    if weight is not None:
        _check_pair("l1_loss", input, weight)
        each = _numbers("l1_loss", "l1", input, target, "none") * weight
        return sum(each) / sum(weight) if reduction == "mean" else _reduced("l1_loss", each, reduction)
    return _numbers("l1_loss", "l1", input, target, reduction)


def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    """|d| - beta/2, and d**2 / (2 beta) where |d| < beta (Girshick 2015, eq. 3). beta = 0 is `l1_loss`."""
    expect(beta >= 0, "smooth_l1_loss: beta must not be negative", beta, error=ArgumentError)
    return _numbers("smooth_l1_loss", "smooth_l1" if beta else "l1", input, target, reduction, beta)


def huber_loss(input, target, reduction="mean", delta=1.0):
    """d**2 / 2, and delta (|d| - delta/2) where |d| > delta (Huber 1964)."""
    expect(delta > 0, "huber_loss: delta must be positive", delta, error=ArgumentError)
    return _numbers("huber_loss", "huber", input, target, reduction, delta)


# Of probabilities of yes or no


@op
def _weighted_bce(x, target, weight, pos_weight):
    """The loss of each element; `weight` and `pos_weight` broadcast to x, or are None."""
    family = kernels.find(x, "losses")
    if family is None or x.size < LEAST:
        return NotImplemented
    return family.weighted_bce_with_logits(x, target, weight, pos_weight)


@_weighted_bce.gradient
def _(g, x, target, weight, pos_weight, needs):
    gx = kernels.find(x, "losses").weighted_bce_with_logits_gradient(g, x, target, weight, pos_weight)
    if not any(needs[1:]):
        return (gx,)
    raise DtypeError("binary_cross_entropy_with_logits: internal: only the logits have a kernel gradient")


@_weighted_bce.definition
def _(x, target, weight, pos_weight):
    factor = 1.0 if pos_weight is None else 1.0 + (pos_weight - 1.0) * target
    each = (1.0 - target) * x + factor * logaddexp(-x, 0.0)
    return each if weight is None else weight * each


def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    """-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), without overflow, for logits x and targets t in [0, 1].

    weight      a factor for each element; broadcasts to input
    pos_weight  a factor for the first term (of the positives); broadcasts to input
    """
    name = "binary_cross_entropy_with_logits"
    if weight is None and pos_weight is None:
        return _numbers(name, "bce", input, target, reduction)
    _check_pair(name, input, target)
    target = target if array(target).dtype == input.dtype else _as_type(target, input.dtype, name)
    others = [x for x in (target, weight, pos_weight) if isinstance(x, Tensor)]
    run = _weighted_bce.define if any(x.requires_grad for x in others) else _weighted_bce
    return _reduced(name, run(input, target, weight, pos_weight), reduction)


@op
def _bce_of_probability(x, target):
    lib = xp(x)
    return -(target * lib.maximum(lib.log(x), -100.0) + (1 - target) * lib.maximum(lib.log1p(-x), -100.0))


_bce_of_probability.gradient(
    x=lambda g, x, target: g * (x - target) / clamp(x * (1.0 - x), 1e-12),
    target=lambda g, x: g * (clamp(log(1.0 - x), -100.0) - clamp(log(x), -100.0)),
)


def binary_cross_entropy(input, target, weight=None, reduction="mean"):
    """-t log x - (1 - t) log(1 - x) for probabilities x, each logarithm at least -100.

    Raises ArgumentError for an input outside [0, 1]. `binary_cross_entropy_with_logits` is safer and faster.
    """
    name = "binary_cross_entropy"
    _check_pair(name, input, target)
    p = array(input)
    expect(
        bool(((p >= 0) & (p <= 1)).all()),
        f"{name}: every input must be a probability, in [0, 1]",
        input,
        error=ArgumentError,
        hint="for logits write binary_cross_entropy_with_logits",
    )
    target = target if array(target).dtype == input.dtype else _as_type(target, input.dtype, name)
    each = _bce_of_probability(input, target)
    return _reduced(name, each if weight is None else each * weight, reduction)


# Of probabilities of one class among several


@op(saves=("lse",))
def _cross_entropy(x, target, weight, ignore_index, smoothing):
    """The loss of each row of logits x (M, C) at the class target (M,); 0 where it is ignore_index."""
    family = kernels.find(x, "softmax")
    if family is None or x.size < LEAST:
        return NotImplemented
    return family.cross_entropy(x, target, weight, ignore_index, smoothing)


@_cross_entropy.gradient
def _(g, x, target, weight, ignore_index, smoothing, lse):
    family = kernels.find(x, "softmax")
    return (family.cross_entropy_gradient(g, x, target, lse, weight, ignore_index, smoothing),)


@_cross_entropy.definition
def _(x, target, weight, ignore_index, smoothing):
    log_p = log_softmax(x, -1)
    own = _at_targets(log_p, target, weight, ignore_index)
    if smoothing == 0:
        return own
    every = -(log_p if weight is None else log_p * weight)
    every = where(array(target) == ignore_index, 0.0, sum(every, -1))
    return (1.0 - smoothing) * own + smoothing / x.shape[-1] * every


def _at_targets(log_p, target, weight, ignore_index):
    """-weight[t] log_p[t] for each row of log_p (M, C) and class t of target (M,), 0 where ignored."""
    classes = array(target)
    kept = classes != ignore_index
    safe = xp(classes).where(kept, classes, 0)
    loss = -squeeze(gather(log_p, 1, Tensor(safe[:, None])), 1)
    if weight is not None:
        loss = loss * Tensor(array(weight)[safe])
    return where(kept, loss, 0.0)


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """-log softmax(input)[target]: the surprise at the true class, in nats.

    input            logits (N, C), (N, C, d1, ...) or (C,)
    target           classes: int64 (N,), (N, d1, ...) or (); or probabilities of input's shape
    weight           (C,), a factor for each class; "mean" divides by the sum of the factors that took part
    ignore_index     targets that do not count
    label_smoothing  the share of the target that is spread evenly over the classes (Szegedy et al. 2015)

    Raises ShapeError, DtypeError, and ArgumentError for a class that is not there.
    """
    name = "cross_entropy"
    _check_reduction(name, reduction)
    expect(
        isinstance(input, Tensor) and hasattr(target, "shape"),
        f"{name}: logits and targets must be tensors",
        input,
        target,
        error=DtypeError,
    )
    expect(
        input.ndim >= 1 and input.dtype.kind == "f", f"{name}: logits (N, C, ...) of floats", input, error=DtypeError
    )
    expect(
        0.0 <= label_smoothing <= 1.0,
        f"{name}: label_smoothing must be in [0, 1]",
        label_smoothing,
        error=ArgumentError,
    )
    _check_weight(name, input, weight)
    if array(target).dtype.kind == "f":
        return _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing)
    rows, classes, shape = _class_rows(name, input, target, ignore_index)
    loss = _cross_entropy(
        rows, classes, None if weight is None else array(weight), int(ignore_index), float(label_smoothing)
    )
    return _class_reduced(loss, classes, weight, ignore_index, reduction, shape)


def _cross_entropy_of_probabilities(input, target, weight, reduction, smoothing):
    _check_pair("cross_entropy", input, target)
    classes = input.shape[1 if input.ndim > 1 else 0]
    log_p = log_softmax(input, 1 if input.ndim > 1 else 0)
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / classes
    if weight is not None:
        target = target * reshape(weight, (classes, *(1,) * max(input.ndim - 2, 0)))
    loss = -sum(target * log_p, 1 if input.ndim > 1 else 0)
    if reduction != "mean":
        return _reduced("cross_entropy", loss, reduction)
    return sum(loss) / max(input.numel() // max(classes, 1), 1) if input.numel() else sum(loss) / 0.0


def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """-input[target], for log-probabilities: what `cross_entropy` is after log_softmax. Shapes as there."""
    name = "nll_loss"
    _check_reduction(name, reduction)
    expect(
        isinstance(input, Tensor) and hasattr(target, "shape") and input.ndim >= 1 and input.dtype.kind == "f",
        f"{name}: log-probabilities (N, C, ...) of floats, and a tensor of classes",
        input,
        target,
        error=DtypeError,
    )
    _check_weight(name, input, weight)
    rows, classes, shape = _class_rows(name, input, target, ignore_index)
    loss = _at_targets(rows, classes, weight, ignore_index)
    return _class_reduced(loss, classes, weight, ignore_index, reduction, shape)


def _check_weight(name, input, weight):
    if weight is not None:
        classes = input.shape[1 if input.ndim > 1 else 0]
        expect(
            tuple(weight.shape) == (classes,),
            f"{name}: weight must have one number for each of {classes} classes",
            weight,
        )


def _class_rows(name, input, target, ignore_index):
    """(logits as rows (M, C), their classes (M,), the shape of one loss each)."""
    expected = (input.shape[0], *input.shape[2:]) if input.ndim > 1 else ()
    classes = array(target)
    expect(
        classes.dtype.kind in "iu",
        f"{name}: classes are integers (or, for cross_entropy, probabilities of the logits' type)",
        target,
        error=DtypeError,
        hint="write target.long()",
    )
    if tuple(classes.shape) != tuple(expected):
        raise ShapeError(
            f"{name}: logits {tuple(input.shape)} need classes of shape {tuple(expected)}, got {tuple(classes.shape)}\n"
            + (
                "  write target.squeeze(1)"
                if classes.ndim == len(expected) + 1 and classes.shape[1:2] == (1,)
                else "  logits are (N, C, d1, ...) with the classes second; targets (N, d1, ...)"
            )
        )
    count = input.shape[1 if input.ndim > 1 else 0]
    wrong = (classes != ignore_index) & ((classes < 0) | (classes >= count))
    if wrong.any():
        raise ArgumentError(
            f"{name}: target {int(classes[wrong].reshape(-1)[0])} among {count} classes: they count from 0 to {count - 1}\n"
            f"  a target that should not count is ignore_index={ignore_index}"
        )
    if input.ndim == 1:
        return unsqueeze(input, 0), classes.reshape(1), ()
    if input.ndim == 2:
        return input, classes, expected
    return reshape(movedim(input, 1, -1), (classes.size, count)), classes.reshape(-1), expected


def _class_reduced(loss, classes, weight, ignore_index, reduction, shape):
    if reduction == "none":
        return reshape(loss, shape)
    if reduction == "sum":
        return sum(loss)
    kept = classes != ignore_index
    if weight is None:
        counted = float(kept.sum())
    else:
        counted = float(array(weight)[classes[kept]].sum())
    return sum(loss) / counted if counted else sum(loss) * math.nan


# Of distributions


def kl_div(input, target, reduction="mean", log_target=False):
    """target (log target - input), for log-probabilities input and probabilities target (or their logarithms).

    "batchmean" divides the sum by the batch, which is the divergence; "mean" divides by every element.
    """
    _check_reduction("kl_div", reduction, ("mean", "sum", "none", "batchmean"))
    expect(hasattr(target, "shape"), "kl_div: input and target must be tensors", input, target, error=DtypeError)
    each = exp(target) * (target - input) if log_target else xlogy(target, target) - target * input
    if reduction == "batchmean":
        return sum(each) / (input.shape[0] if input.ndim else 1)
    return _reduced("kl_div", each, reduction)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """(log var + (input - target)**2 / var) / 2, with var at least eps; `full` adds log(2 pi) / 2.

    var has input's shape, or one less dimension or a last dimension of 1: one variance for all of them.
    """
    name = "gaussian_nll_loss"
    _check_reduction(name, reduction)
    if isinstance(var, (int, float)):
        var = Tensor(xp(input.data).full(input.shape, var, input.dtype))
    if tuple(var.shape) != tuple(input.shape):
        if tuple(input.shape[:-1]) == tuple(var.shape):
            var = unsqueeze(var, -1)
        elif not (input.shape[:-1] == var.shape[:-1] and var.shape[-1] == 1):
            raise ShapeError(f"{name}: var {tuple(var.shape)} fits neither input {tuple(input.shape)} nor its rows")
    expect(not bool((array(var) < 0).any()), f"{name}: a variance is negative", var, error=ArgumentError)
    safe = where(array(var) < eps, eps, var.detach()) - var.detach() + var  # the floor is a constant to the gradient
    each = 0.5 * (log(safe) + (input - target) ** 2 / safe)
    return _reduced(name, each + 0.5 * math.log(2 * math.pi) if full else each, reduction)


def poisson_nll_loss(input, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    """exp(x) - t x for the logarithm x of a rate, or x - t log(x + eps); `full` adds Stirling's t log t - t + ..."""
    name = "poisson_nll_loss"
    each = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        stirling = target * log(target) - target + 0.5 * log(2 * math.pi * target)
        each = each + where(array(target) > 1, stirling, 0.0)
    return _reduced(name, each, reduction)
