"""Reductions: sum, mean, var, the largest and smallest, logsumexp, prod, norm.

Each takes `dim`, a dimension or a tuple of them (None for all), and `keepdim`. A gradient goes back to every place
that was reduced: `spread` is that step, and the gradient of `spread` is a sum.
"""

import builtins
import math
from collections import namedtuple

from ..autograd import check_dim, op
from ..device import xp
from ..errors import ArgumentError, DimError, DtypeError, describe
from ..tensor import float32, int64
from .arithmetic import maximum, minimum
from .casting import cast


def dims(name, x, dim):
    """`dim` as None (all) or a tuple of dimensions counted from the front. Raises DimError."""
    if dim is None:
        return None
    if not isinstance(dim, (tuple, list)):
        return (check_dim(name, dim, x.ndim),)
    if not dim:
        return None
    found = tuple([check_dim(name, d, x.ndim) for d in dim])
    if len({*found}) != len(found):
        raise DimError(f"{name}: dim={tuple(dim)} names a dimension twice")
    return found if x.ndim else None


def _kept(shape, dim):
    return tuple([1 if dim is None or i in dim else n for i, n in enumerate(shape)])


@op
def spread(x, shape, dim):
    """What a reduction of `shape` over `dim` gave, seen again at every place it came from."""
    return xp(x).broadcast_to(x.reshape(_kept(shape, dim)), shape)


spread.gradient(x=lambda g, x_shape, dim: _fold(g, dim, x_shape))


@op
def _fold(x, dim, shape):
    return x.sum(axis=dim).reshape(shape)


_fold.gradient(x=lambda g, x_shape, dim: spread(g, x_shape, dim))


@op
def _sum(x, dim, keepdim):
    return x.sum(axis=dim, keepdims=keepdim)


_sum.gradient(x=lambda g, x_shape, dim: spread(g, x_shape, dim))


def sum(x, dim=None, keepdim=False, *, dtype=None):
    """The sum over `dim` (all dimensions if None). Integers and booleans give int64."""
    if dtype is not None:
        x = cast(x, dtype)
    elif x.dtype.kind in "bui":
        x = cast(x, int64)
    return _sum(x, dims("sum", x, dim), keepdim)


def _count(x, dim):
    return math.prod([n for i, n in enumerate(x.shape) if dim is None or i in dim])


@op
def _mean(x, dim, keepdim):
    return x.sum(axis=dim, keepdims=keepdim) / _count(x, dim)


_mean.gradient(x=lambda g, x_shape, dim: spread(g / _places(x_shape, dim), x_shape, dim))


def _places(shape, dim):
    return builtins.max(math.prod([n for i, n in enumerate(shape) if dim is None or i in dim]), 1)


def mean(x, dim=None, keepdim=False, *, dtype=None):
    """The mean over `dim`. Integers are refused: write x.float().mean()."""
    if dtype is not None:
        x = cast(x, dtype)
    elif x.dtype.kind != "f":
        raise DtypeError(f"mean: of integers or booleans, {describe(x)}\n  write x.float().mean()")
    return _mean(x, dims("mean", x, dim), keepdim)


@op
def _var(x, dim, correction, keepdim):
    n = _count(x, dim)
    centred = x - x.sum(axis=dim, keepdims=True) / n
    return (centred * centred).sum(axis=dim, keepdims=keepdim) / builtins.max(0, n - correction)


@_var.gradient
def _(g, x, dim, correction):
    n = _count(x, dim)
    return spread(g, x.shape, dim) * (2.0 / (n - correction)) * (x - mean(x, dim, True))


def var(x, dim=None, *, correction=1, keepdim=False, unbiased=None):
    """The variance over `dim`, divided by n - correction."""
    if unbiased is not None:
        correction = int(unbiased)
    return _var(x, dims("var", x, dim), correction, keepdim)


def std(x, dim=None, *, correction=1, keepdim=False, unbiased=None):
    """The standard deviation over `dim`."""
    return var(x, dim, correction=correction, keepdim=keepdim, unbiased=unbiased) ** 0.5


@op
def _amax(x, dim, keepdim):
    return x.max(axis=dim, keepdims=keepdim)


@op
def _amin(x, dim, keepdim):
    return x.min(axis=dim, keepdims=keepdim)


@op
def _share(g, x, y, dim):
    """The gradient of amax and amin: shared evenly among the places that are equal to the extreme."""
    tied = (x == y.reshape(_kept(x.shape, dim))).astype(g.dtype)
    return tied * (g.reshape(_kept(x.shape, dim)) / tied.sum(axis=dim, keepdims=True))


_amax.gradient(x=lambda g, x, y, dim: _share(g, x, y, dim))
_amin.gradient(x=lambda g, x, y, dim: _share(g, x, y, dim))


def amax(x, dim=None, keepdim=False):
    """The largest element over `dim`."""
    return _amax(x, dims("amax", x, dim), keepdim)


def amin(x, dim=None, keepdim=False):
    """The smallest element over `dim`."""
    return _amin(x, dims("amin", x, dim), keepdim)


@op
def _logsumexp(x, dim, keepdim):
    lib = xp(x)
    top = x.max(axis=dim, keepdims=True)
    top = lib.where(lib.isfinite(top), top, 0.0)
    y = lib.log(lib.exp(x - top).sum(axis=dim, keepdims=True)) + top
    return y if keepdim else y.squeeze(axis=dim)


def logsumexp(x, dim, keepdim=False):
    """log(sum(exp(x))) over `dim`, without overflow."""
    return _logsumexp(x, dims("logsumexp", x, dim), keepdim)


@_logsumexp.gradient
def _(g, x, y, dim):
    from .elementary import exp

    return spread(g, x.shape, dim) * exp(x - spread(y, x.shape, dim))


@op
def _argmax(x, dim, keepdim):
    return x.argmax(axis=dim, keepdims=keepdim)


@op
def _argmin(x, dim, keepdim):
    return x.argmin(axis=dim, keepdims=keepdim)


def argmax(x, dim=None, keepdim=False):
    """The index of the largest element."""
    return _argmax(x, None if dim is None else check_dim("argmax", dim, x.ndim), keepdim)


def argmin(x, dim=None, keepdim=False):
    """The index of the smallest element."""
    return _argmin(x, None if dim is None else check_dim("argmin", dim, x.ndim), keepdim)


@op
def all(x, dim=None, keepdim=False):
    """Whether all are true."""
    return x.all(axis=dim, keepdims=keepdim)


@op
def any(x, dim=None, keepdim=False):
    """Whether any is true."""
    return x.any(axis=dim, keepdims=keepdim)


Extreme = namedtuple("Extreme", ["values", "indices"])


@op
def _place(x, index, dim, n):
    """Zeros, n along `dim`, but for x at `index`."""
    shape = list(x.shape)
    shape[dim] = n
    y = xp(x).zeros(shape, x.dtype)
    xp(x).put_along_axis(y, index, x, axis=dim)
    return y


@op
def _pick(x, index, dim):
    return xp(x).take_along_axis(x, index, axis=dim)


_place.gradient(x=lambda g, index, dim: _pick(g, index, dim))
_pick.gradient(x=lambda g, x_shape, index, dim: _place(g, index, dim, x_shape[dim]))


def max(x, dim=None, keepdim=False):
    """The largest element; with `dim`, the largest along it and where it stands; with a tensor, the larger of two."""
    return _extreme("max", _argmax, amax, x, dim, keepdim)


def min(x, dim=None, keepdim=False):
    """The smallest element; with `dim`, the smallest along it and where it stands; with a tensor, the smaller of two."""
    return _extreme("min", _argmin, amin, x, dim, keepdim)


def _extreme(name, where, whole, x, dim, keepdim):
    if dim is None:
        return whole(x)
    if hasattr(dim, "shape"):
        return (maximum if name == "max" else minimum)(x, dim)
    dim = check_dim(name, dim, x.ndim)
    if x.ndim == 0:
        return Extreme(x, argmax(x, 0))
    index = where(x, dim, True)
    values = _pick(x, index, dim)
    if keepdim:
        return Extreme(values, index)
    from .shape import squeeze

    return Extreme(squeeze(values, dim), squeeze(index, dim))


def prod(x, dim=None, keepdim=False, *, dtype=None):
    """The product over `dim`."""
    if dtype is not None:
        x = cast(x, dtype)
    elif x.dtype.kind in "bui":
        x = cast(x, int64)
    return _prod(x, dims("prod", x, dim), keepdim)


@op
def _prod(x, dim, keepdim):
    return x.prod(axis=dim, keepdims=keepdim)


_prod.gradient(x=lambda g, x, y, dim: spread(g * y, x.shape, dim) / x)
