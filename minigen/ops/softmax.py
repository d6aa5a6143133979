"""Softmax and its kin: numbers to probabilities along one dimension.

    softmax      e**x / sum(e**x)            log_softmax   its logarithm, without overflow or underflow
    softmin      softmax(-x)                 gumbel_softmax   a draw from softmax(x) that has a gradient

Fused: one kernel call, whatever the dimension. A slice that is all -inf gives NaN, as 0 / 0 should.
"""

from .. import kernels, random
from ..autograd import action, check_dim, op
from ..device import device_of, xp
from ..errors import ArgumentError, expect
from ..tensor import value
from .activations import floating
from .casting import cast
from .elementary import exp, log
from .reduction import sum

__all__ = ["gumbel_softmax", "log_softmax", "softmax", "softmin"]


def _along(kernel, dim, *arrays):
    """A kernel for the last dimension, applied along `dim`."""
    return kernel(*[a.swapaxes(dim, -1) for a in arrays]).swapaxes(dim, -1)


def _shifted(x, dim):
    """x less its largest element along `dim`, a constant to the gradient: then e**x cannot overflow."""
    return x - _largest(x, dim)


@action
def _largest(x, dim):
    return value(x).max(dim, keepdims=True)


@op
def _softmax(x, dim):
    family = kernels.find(x, "softmax")
    return NotImplemented if family is None or not x.size else _along(family.softmax, dim, x)


@_softmax.gradient
def _(g, y, dim):
    return _along(kernels.find(g, "softmax").softmax_gradient, dim, g, y)


@_softmax.definition
def _(x, dim):
    if 0 in x.shape:
        return x * 1.0
    e = exp(_shifted(x, dim))
    return e / sum(e, dim, keepdim=True)


@op
def _log_softmax(x, dim):
    family = kernels.find(x, "softmax")
    return NotImplemented if family is None or not x.size else _along(family.log_softmax, dim, x)


@_log_softmax.gradient
def _(g, y, dim):
    return _along(kernels.find(g, "softmax").log_softmax_gradient, dim, g, y)


@_log_softmax.definition
def _(x, dim):
    if 0 in x.shape:
        return x * 1.0
    z = _shifted(x, dim)
    return z - log(sum(exp(z), dim, keepdim=True))


def _prepare(name, x, dim, dtype):
    if dtype is not None:
        x = cast(x, dtype)
    floating(name, x)
    expect(dim is not None, f"{name}: say along which dimension, as in {name}(x, dim=-1)", x, error=ArgumentError)
    return x, check_dim(name, dim, x.ndim)


def softmax(input, dim=None, dtype=None):
    """e**x / sum(e**x) along `dim`: positive numbers that sum to one. `dtype` casts x first."""
    x, dim = _prepare("softmax", input, dim, dtype)
    return _softmax(x, dim) if x.ndim else exp(x - x)


def log_softmax(input, dim=None, dtype=None):
    """log(softmax(x)) along `dim`: x - logsumexp(x)."""
    x, dim = _prepare("log_softmax", input, dim, dtype)
    return _log_softmax(x, dim) if x.ndim else x - x


def softmin(input, dim=None, dtype=None):
    """softmax(-x) along `dim`."""
    x, dim = _prepare("softmin", input, dim, dtype)
    return softmax(-x, dim)


def gumbel_softmax(logits, tau=1.0, hard=False, eps=1e-10, dim=-1, generator=None):
    """softmax((logits + noise) / tau), Gumbel noise: near a draw from softmax(logits), and differentiable.

    hard=True gives the draw itself, a one-hot vector, whose gradient is that of the soft one (Jang et al. 2016).
    """
    floating("gumbel_softmax", logits)
    expect(tau > 0, "gumbel_softmax: tau must be positive", tau, error=ArgumentError)
    y = softmax((logits + _gumbel(value(logits), generator)) / tau, dim)
    if not hard:
        return y
    soft = value(y)
    lib = xp(soft)
    one_hot = lib.moveaxis(soft.argmax(dim)[..., None] == lib.arange(soft.shape[dim]), -1, dim)
    return one_hot.astype(soft.dtype) - soft + y


@action
def _gumbel(x, generator):
    """Gumbel noise in the shape and type of x."""
    generator = generator or random.default_generator
    return -xp(x).log(generator.exponential(x.shape, device=device_of(x)).astype(x.dtype) + x.dtype.type(2.0**-60))
