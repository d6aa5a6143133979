"""Dropout: random zeros against over-fitting (Srivastava et al. 2014).

In training each element is kept with probability 1 - p and scaled by 1 / (1 - p), so that its mean stays;
in evaluation nothing happens. The mask is never stored: it is a stretch of a Philox stream (random.py),
which the gradient reads again. Attention's dropout is the same, inside its kernels: `drop_weights` is its definition.

    dropout                           each element alone
    dropout1d dropout2d dropout3d     whole channels (Tompson et al. 2015)
    alpha_dropout, feature_alpha_dropout   for selu networks: keep mean 0 and variance 1
"""

import math

from .. import kernels, random
from ..autograd import action, op
from ..device import device_of, xp
from ..errors import ArgumentError, ShapeError, expect
from ..tensor import value
from .activations import SELU_ALPHA, SELU_SCALE, floating
from .padding import _pad

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]


@op
def _dropout(x, threshold, scale, place):
    """x * scale where the random word at the element's place in the stream is at least `threshold`, else 0."""
    family = kernels.find(x, "dropout")
    if family is not None:
        return family.dropout(x, threshold, scale, *place)
    words = random.philox(*place, x.size, xp(x)).reshape(x.shape)
    return xp(x).where(words >= threshold, x * x.dtype.type(scale), x.dtype.type(0))


_dropout.gradient(x=lambda g, threshold, scale, place: _dropout(g, threshold, scale, place))


def _check(name, x, p):
    floating(name, x)
    expect(0.0 <= p <= 1.0, f"{name}: p, the probability of a zero, lies in [0, 1]", p, error=ArgumentError)


def dropout(input, p=0.5, training=True, inplace=False, generator=None):
    """Elements zeroed with probability p and the others divided by 1 - p, if `training`; else x itself.

    `generator`: a minigen.Generator; the default one if None.
    """
    _check("dropout", input, p)
    if not training or p == 0.0 or not math.prod(input.shape):
        return input
    if p == 1.0:
        return input * 0.0
    return _dropout(input, *_drawn(p, math.prod(input.shape), generator))


def _drawn(p, words, generator=None):
    """What `_dropout` takes beside x, for so many words: the threshold, the scale, and the place in the stream."""
    place = _place(generator or random.default_generator, words)
    return min(round(p * 2**32), 2**32 - 1), 1.0 / (1.0 - p) if p < 1.0 else 0.0, place


@action
def _place(generator, words):
    return generator.reserve(words)


# The weights of attention. Each row begins with a block of the stream, four words, so that the fused kernels, which
# draw a weight's word from its place alone, use all four wherever the row begins.


def drop_for(shape, p):
    """What `drop_weights` takes for weights of this shape, (..., T, S): None if p is 0. Raises ArgumentError."""
    expect(0.0 <= p <= 1.0, "attention: dropout_p, the probability of a zero, lies in [0, 1]", p, error=ArgumentError)
    return _drawn(p, math.prod(shape[:-1]) * _whole(shape[-1])) if p > 0.0 else None


def drop_weights(weights, drop):
    """The weights that are kept, scaled, and zeros."""
    if drop is None or 0 in weights.shape:
        return weights
    n = weights.shape[-1]
    if n % 4 == 0:
        return _dropout(weights, *drop)
    widths = ((0, 0),) * (weights.ndim - 1) + ((0, _whole(n) - n),)
    return _dropout(_pad(weights, widths, 0.0), *drop)[..., :n]


def _whole(n):
    return -(-n // 4) * 4


@action
def _kept(x, shape, p, generator):
    """0 with probability p, else 1, in x's type and on its device."""
    x = value(x)
    kept = (generator or random.default_generator).bernoulli(1.0 - p, shape, device=device_of(x))
    return kept.astype(x.dtype)


def _channels(name, x, p, training, spatial, generator):
    _check(name, x, p)
    expect(
        x.ndim in (spatial + 1, spatial + 2),
        f"{name}: x is (C, ...) or (N, C, ...) with {spatial} dimensions after the channels",
        x,
        error=ShapeError,
    )
    if not training or p == 0.0:
        return x
    shape = tuple(x.shape[: x.ndim - spatial]) + (1,) * spatial
    return x * (_kept(x, shape, p, generator) / (1.0 - p if p < 1.0 else 1.0))


def dropout1d(input, p=0.5, training=True, inplace=False, generator=None):
    """Whole channels of (N, C, L) or (C, L) zeroed with probability p, the others divided by 1 - p."""
    return _channels("dropout1d", input, p, training, 1, generator)


def dropout2d(input, p=0.5, training=True, inplace=False, generator=None):
    """Whole channels of (N, C, H, W) or (C, H, W) zeroed with probability p, the others divided by 1 - p."""
    return _channels("dropout2d", input, p, training, 2, generator)


def dropout3d(input, p=0.5, training=True, inplace=False, generator=None):
    """Whole channels of (N, C, D, H, W) or (C, D, H, W) zeroed with probability p, the others divided by 1 - p."""
    return _channels("dropout3d", input, p, training, 3, generator)


def _alpha(name, x, p, training, shape, generator):
    _check(name, x, p)
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0.0
    low = -SELU_SCALE * SELU_ALPHA  # what selu tends to on the left
    scale = ((1.0 - p) * (1.0 + p * low * low)) ** -0.5
    kept = _kept(x, shape, p, generator)
    return x * (kept * scale) + ((1.0 - kept) * (scale * low) - scale * p * low)


def alpha_dropout(input, p=0.5, training=False, inplace=False, generator=None):
    """Elements set to selu's lower limit with probability p, then all scaled and shifted so that mean 0 and
    variance 1 stay (Klambauer et al. 2017).
    """
    return _alpha("alpha_dropout", input, p, training, tuple(input.shape), generator)


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False, generator=None):
    """alpha_dropout of whole channels: (N, C, ...)."""
    expect(input.ndim >= 2, "feature_alpha_dropout: x is (N, C, ...)", input)
    shape = tuple(input.shape[:2]) + (1,) * (input.ndim - 2)
    return _alpha("feature_alpha_dropout", input, p, training, shape, generator)
