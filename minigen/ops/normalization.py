"""Normalisation: subtract a mean, divide by a spread, scale and shift.

    layer_norm      over the last dimensions of each position           rms_norm        the same without the
    mean
    batch_norm      each channel over samples and positions             instance_norm   each channel of each
    sample
    group_norm      groups of channels of each sample               group_norm_activation   and an activation of it

Each is fused: one kernel call forward and backward beside its definition. The means and variances of batch,
group and instance norm differ only in the dimensions they run over, so they share one definition
(`_normalised`). x may lie in memory as NCHW or channels-last; the result lies as x does.

    normalize, cosine_similarity, pairwise_distance, local_response_norm     definitions
"""

import math

import numpy as np

from .. import kernels
from ..autograd import action, check_dim, op
from ..autograd.modes import mode
from ..device import xp
from ..errors import ArgumentError, ShapeError, expect
from ..tensor import Tensor, float32, value, wrote
from .activations import BEHIND, check_name, floating
from .arithmetic import clamp
from .casting import cast
from .elementary import rsqrt, sqrt
from .joining import cat
from .lengths import norm
from .reduction import mean, sum
from .shape import broadcast_to, reshape

__all__ = [
    "batch_norm",
    "cosine_similarity",
    "group_norm",
    "group_norm_activation",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "pairwise_distance",
    "rms_norm",
]


def _family(x, name):
    return kernels.find(x, name) if x.size else None


# Layer norm and RMS norm


# dtype: the result's, where it is not x's


@op(saves=("mean", "rstd"))
def _layer_norm(x, weight, bias, eps, dims, dtype):
    family = _family(x, "layer_norm")
    return NotImplemented if family is None else family.layer_norm(x, weight, bias, eps, dims, dtype)


@_layer_norm.gradient
def _(g, x, weight, mean, rstd, dims, needs, into):
    return kernels.find(x, "layer_norm").layer_norm_gradient(g, x, weight, mean, rstd, dims, into[1:3])


@_layer_norm.definition
def _(x, weight, bias, eps, dims, dtype):
    last = tuple(range(-dims, 0))
    centred = x - mean(x, last, keepdim=True)
    y = centred * rsqrt(mean(centred * centred, last, keepdim=True) + eps)
    return _scale(y, weight, bias, dtype)


@op(saves=("rstd",))
def _rms_norm(x, weight, eps, dims, dtype):
    family = _family(x, "layer_norm")
    return NotImplemented if family is None else family.rms_norm(x, weight, eps, dims, dtype)


@_rms_norm.gradient
def _(g, x, weight, rstd, dims, needs, into):
    return kernels.find(x, "layer_norm").rms_norm_gradient(g, x, weight, rstd, dims, into[1:2])


@_rms_norm.definition
def _(x, weight, eps, dims, dtype):
    y = x * rsqrt(mean(x * x, tuple(range(-dims, 0)), keepdim=True) + eps)
    return _scale(y, weight, None, dtype)


def _scale(y, weight, bias, dtype=None):
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y if dtype is None else cast(y, dtype)


def _narrow(x):
    """The type that a norm of x gives where products in 16 bits come next; None for x's own."""
    return None if mode.autocast is None else mode.autocast.narrowed(x)


def _last_dims(name, x, normalized_shape, weight, bias=None):
    """How many dimensions `normalized_shape` has; it must end x's shape and be that of weight and bias."""
    given = [x, *[p for p in (weight, bias) if p is not None]]
    floating(name, *given)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if len(shape) == 0 or tuple(x.shape[-len(shape) :]) != shape:
        expect(len(shape) > 0, f"{name}: normalized_shape must have a dimension", error=ArgumentError)
        expect(False, f"{name}: x must end in normalized_shape {shape}", x)
    for p in given[1:]:
        if tuple(p.shape) != shape:
            expect(False, f"{name}: weight and bias must have normalized_shape {shape}", p)
    return len(shape)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last dimensions, then scale and shift (Ba et al. 2016, eq. 4).

    x (..., *normalized_shape), weight and bias (*normalized_shape) or None -> x's shape. Raises ShapeError.
    """
    dims = _last_dims("layer_norm", input, normalized_shape, weight, bias)
    return _layer_norm(input, weight, bias, float(eps), dims, _narrow(input))


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divide by the root of the mean square over the last dimensions, then scale (Zhang & Sennrich 2019).

    eps=None: the smallest step of x's type. Raises ShapeError.
    """
    dims = _last_dims("rms_norm", input, normalized_shape, weight)
    return _rms_norm(input, weight, _epsilon(input.dtype) if eps is None else float(eps), dims, _narrow(input))


def _epsilon(dtype):
    """The step from 1 to the next number of the type that is computed with."""
    if mode.autocast is not None and dtype.itemsize == 2:
        dtype = float32
    return 2.0**-7 if dtype.kind == "V" else float(np.finfo(dtype).eps)


# Batch, group and instance norm: x (N, C, ...), weight and bias (C,) or None


def _per_channel(p, x):
    return reshape(p, (1, -1) + (1,) * (x.ndim - 2))


def _normalised(x, groups, eps):
    """x less its mean, over its deviation; over samples and positions if groups = 0, else as in group norm.

    Returns also the mean and the variance, flat: one a channel, or one a group of each sample.
    """
    shape = x.shape
    if groups == 0:
        dims = (0, *range(2, x.ndim))
    else:
        x, dims = reshape(x, (shape[0], groups, math.prod(shape[1:]) // groups)), (2,)
    m = mean(x, dims, keepdim=True)
    centred = x - m
    v = mean(centred * centred, dims, keepdim=True)
    return reshape(centred * rsqrt(v + eps), shape), _flat(m), _flat(v)


def _flat(x):
    return reshape(x, (math.prod(x.shape),))


def _affine(y, weight, bias):
    y = y if weight is None else y * _per_channel(weight, y)
    return y if bias is None else y + _per_channel(bias, y)


@op(outputs=3, saves=("k", "offset", "rstd"))
def _batch_norm(x, weight, bias, eps):
    """y, and the mean and variance of each channel, which are not differentiated."""
    family = _family(x, "norms")
    if family is None:
        return NotImplemented
    y, k, offset, rstd, m, v = family.batch_norm(x, weight, bias, eps)
    return y, m, v, k, offset, rstd


@_batch_norm.gradient
def _(g, x, weight, k, offset, rstd):
    return kernels.find(x, "norms").batch_norm_gradient(g[0], x, weight, k, offset, rstd)


@_batch_norm.definition
def _(x, weight, bias, eps):
    y, m, v = _normalised(x, 0, eps)
    return _affine(y, weight, bias), m, v


@op
def _batch_norm_eval(x, weight, bias, running_mean, running_var, eps):
    family = _family(x, "norms")
    if family is None:
        return NotImplemented
    return family.batch_norm_eval(x, weight, bias, running_mean, running_var, eps)


@_batch_norm_eval.gradient
def _(g, x, weight, running_mean, running_var, eps):
    return kernels.find(g, "norms").batch_norm_eval_gradient(g, x, weight, running_mean, running_var, eps)


@_batch_norm_eval.definition
def _(x, weight, bias, running_mean, running_var, eps):
    m, v = _per_channel(running_mean, x), _per_channel(running_var, x)
    return _affine((x - m) / sqrt(v + eps), weight, bias)


@op(saves=("k", "offset", "rstd", "slope", "base"))
def _group_norm(x, groups, weight, bias, eps, activation):
    family = _family(x, "group_norm")
    return NotImplemented if family is None else family.group_norm(x, groups, weight, bias, eps, activation)


@_group_norm.gradient
def _(g, x, groups, weight, k, offset, rstd, slope, base, activation):
    saved = k, offset, rstd, slope, base
    family = kernels.find(g, "group_norm")
    gx, gweight, gbias = family.group_norm_gradient(g, x, groups, weight, *saved, activation)
    return gx, None, gweight, gbias


@_group_norm.definition
def _(x, groups, weight, bias, eps, activation):
    y = _affine(_normalised(x, groups, eps)[0], weight, bias)
    return y if activation is None else BEHIND[activation](y)


def _check(name, x, *per_channel):
    expect(hasattr(x, "ndim") and x.ndim >= 2, f"{name}: x is (N, C, ...)", x)
    given = [p for p in per_channel if p is not None]
    floating(name, x, *given)
    channels = tuple(x.shape[1:2])
    for p in given:
        if tuple(p.shape) != channels:
            rule = f"{name}: x has {channels[0]} channels; weight, bias and running statistics have one number for each"
            expect(False, rule, x, p)


@action
def _follow(running, batch, momentum, scale=1.0):
    """running <- (1 - momentum) running + momentum scale batch, in place."""
    if running is not None:
        array = value(running)
        array[...] = (1.0 - momentum) * array + momentum * (batch * scale)
        if isinstance(running, Tensor):
            wrote(array)


@action
def _follow_batch(running_mean, running_var, mean, variance, momentum, correction):
    """`_follow` of both statistics: on the GPU in one launch."""
    kept = [value(x) for x in (running_mean, running_var) if x is not None]
    family = None if type(mean) is np.ndarray else kernels.find(mean, "norms")
    if family is None or not all([x.dtype == float32 and x.flags.c_contiguous for x in kept]):
        _follow(running_mean, mean, momentum)
        _follow(running_var, variance, momentum, correction)
        return
    family.follow(value(running_mean), value(running_var), mean, variance, momentum, correction)
    for array in kept:
        wrote(array)


@action
def _follow_all(running_mean, running_var, x, momentum):
    """For instance norm: the means over samples of each sample's own mean and variance."""
    x, positions = x.astype(float32) if x.dtype.itemsize == 2 else x, tuple(range(2, x.ndim))
    _follow(running_mean, x.mean(positions).mean(0), momentum)
    _follow(running_var, x.var(positions, ddof=1).mean(0), momentum)


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel over samples and positions, then scale and shift (Ioffe & Szegedy 2015).

    input (N, C, ...); everything else (C,) or None. In training the batch's mean and variance are used, and the
    running ones, where given, move towards them by `momentum` (the variance with Bessel's correction); in evaluation
    the running ones are used. Raises ShapeError, also for a batch with one number a channel, whose variance is 0.
    """
    if tuple(getattr(input, "shape", ())) == (0,):  # no samples, and nothing said of channels
        return input * 1.0
    _check("batch_norm", input, running_mean, running_var, weight, bias)
    if not training:
        expect(
            running_mean is not None and running_var is not None,
            "batch_norm: evaluation needs running_mean and running_var",
            error=ArgumentError,
            hint="write training=True to use the batch's own",
        )
        return _batch_norm_eval(input, weight, bias, value(running_mean), value(running_var), float(eps))
    count = math.prod(input.shape) // max(input.shape[1], 1)
    expect(
        count != 1,
        "batch_norm: in training each channel needs more than one number, or there is no variance",
        input,
        hint="use a larger batch, or evaluation mode: model.eval()",
    )
    y, m, v = _batch_norm(input, weight, bias, float(eps))
    if count:
        _follow_batch(running_mean, running_var, value(m), value(v), momentum, count / (count - 1))
    return y


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Normalise each channel of each sample over its positions, then scale and shift (Ulyanov et al. 2016).

    input (N, C, ...); everything else (C,) or None. The running statistics follow the mean over the
    samples, and are used with use_input_stats=False.
    """
    _check("instance_norm", input, running_mean, running_var, weight, bias)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(input.shape[2:])
    expect(
        count != 1,
        "instance_norm: each channel of each sample needs more than one number, or there is no variance",
        input,
    )
    if count and (running_mean is not None or running_var is not None):
        _follow_all(running_mean, running_var, value(input), momentum)
    return _group_norm(input, max(input.shape[1], 1), weight, bias, float(eps), None)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise each group of channels of each sample, then scale and shift (Wu & He 2018).

    input (N, C, ...), C a multiple of num_groups; weight and bias (C,) or None.
    """
    _check_groups("group_norm", input, num_groups, weight, bias)
    return _group_norm(input, num_groups, weight, bias, float(eps), None)


def group_norm_activation(input, num_groups, weight=None, bias=None, eps=1e-5, activation="silu"):
    """An activation of the group norm, in the same passes: silu(group_norm(x)), as U-Nets have it.

    activation: "relu", "gelu", "gelu_tanh", "silu" or "mish", else ArgumentError; the rest is as for `group_norm`. What
    the norm gives is not kept for the gradient, which computes it again from x.
    """
    check_name("group_norm_activation", activation)
    _check_groups("group_norm_activation", input, num_groups, weight, bias)
    return _group_norm(input, num_groups, weight, bias, float(eps), activation)


def _check_groups(name, x, groups, weight, bias):
    _check(name, x, weight, bias)
    channels = x.shape[1]
    expect(
        groups > 0 and channels % groups == 0,
        f"{name}: the {channels} channels cannot be divided into {groups} equal groups",
        x,
        error=ArgumentError,
    )


# Lengths and angles


def normalize(input, p=2.0, dim=1, eps=1e-12):
    """x divided by its p-norm along `dim`, or by eps where that is smaller."""
    floating("normalize", input)
    return input / clamp(norm(input, p, dim, keepdim=True), min=eps)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """x1 . x2 / (|x1| |x2|) along `dim`; norms below eps count as eps. x1 and x2 broadcast."""
    floating("cosine_similarity", x1, x2)
    try:
        shape = np.broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    except ValueError:
        raise ShapeError(f"cosine_similarity: {tuple(x1.shape)} and {tuple(x2.shape)} do not broadcast") from None
    dim = check_dim("cosine_similarity", dim, len(shape))
    x1, x2 = broadcast_to(x1, shape), broadcast_to(x2, shape)
    lengths = [clamp(norm(x, 2, dim, keepdim=True), min=eps) for x in (x1, x2)]
    return sum(x1 / lengths[0] * (x2 / lengths[1]), dim)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of x1 - x2 + eps along the last dimension."""
    floating("pairwise_distance", x1, x2)
    return norm(x1 - x2 + eps, p, -1, keepdim=keepdim)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """x / (k + alpha * the mean of x**2 over `size` neighbouring channels)**beta (Krizhevsky et al. 2012,
    section 3.3).
    """
    floating("local_response_norm", input)
    expect(input.ndim >= 3, "local_response_norm: x is (N, C, ...) with a dimension after the channels", input)
    expect(size > 0, "local_response_norm: size must be positive", size, error=ArgumentError)
    squares, channels = input * input, input.shape[1]
    lib, shape = xp(value(input)), tuple(input.shape)
    before = lib.zeros((shape[0], size // 2, *shape[2:]), input.dtype)
    after = lib.zeros((shape[0], (size - 1) // 2, *shape[2:]), input.dtype)
    padded = cat([before, squares, after], 1)
    total = padded[:, :channels]
    for i in range(1, size):
        total = total + padded[:, i : i + channels]
    return input / (k + alpha / size * total) ** beta
