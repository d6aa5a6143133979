"""The largest and the smallest: amax, amin, max, min, argmax, argmin, aminmax.

`amax` shares its gradient among all places that are equal to the largest; `max(dim)`, which also says where, gives it
to the place that it names.
"""

from typing import NamedTuple

from ..autograd import check_dim, op
from ..errors import expect
from ..tensor import Tensor, value
from .arithmetic import maximum, minimum
from .casting import cast
from .indexing import _pick
from .picking import along
from .reduction import _sum, count, kept, reduced, spread
from .shape import _reshape


class Extreme(NamedTuple):
    """What `max(dim)` and `min(dim)` return: `values, indices = x.max(1)` or `x.max(1).values`."""

    values: Tensor
    indices: Tensor


class Extremes(NamedTuple):
    """What `aminmax` returns."""

    min: Tensor
    max: Tensor


@op
def _amax(x, dim, keepdim):
    return x.max(axis=dim, keepdims=keepdim)


@op
def _amin(x, dim, keepdim):
    return x.min(axis=dim, keepdims=keepdim)


def _shared(g, x, y, dim):
    """The gradient of the extreme y of x, in equal parts for all that are equal to it."""
    tied = cast(x == spread(y, x.shape, dim), g.dtype)
    return tied * spread(g / _reshape(_sum(tied, dim, False), g.shape), x.shape, dim)


_amax.gradient(x=lambda g, y, x, dim: _shared(g, x, y, dim))
_amin.gradient(x=lambda g, y, x, dim: _shared(g, x, y, dim))


def _nonempty(name, x, dim):
    expect(count(x.shape, dim) > 0 or 0 in kept(x.shape, dim), f"{name}: of no elements there is none", x)
    return dim


def amax(x, dim=None, keepdim=False):
    """The largest element over `dim`. Where several are equal they share the gradient."""
    return _amax(x, _nonempty("amax", x, reduced("amax", x, dim)), keepdim)


def amin(x, dim=None, keepdim=False):
    """The smallest element over `dim`. Where several are equal they share the gradient."""
    return _amin(x, _nonempty("amin", x, reduced("amin", x, dim)), keepdim)


def aminmax(x, *, dim=None, keepdim=False):
    """The smallest and the largest element over `dim`: (min, max)."""
    return Extremes(amin(x, dim, keepdim), amax(x, dim, keepdim))


@op
def _argmax(x, dim, keepdim):
    return x.argmax(axis=dim, keepdims=keepdim)


@op
def _argmin(x, dim, keepdim):
    return x.argmin(axis=dim, keepdims=keepdim)


def argmax(x, dim=None, keepdim=False):
    """Where the largest element stands along `dim` (in x flattened, if None): the first of several equal ones."""
    return _argmax(x, _one_dim("argmax", x, dim), keepdim)


def argmin(x, dim=None, keepdim=False):
    """Where the smallest element stands along `dim` (in x flattened, if None): the first of several equal ones."""
    return _argmin(x, _one_dim("argmin", x, dim), keepdim)


def _one_dim(name, x, dim):
    if dim is not None:
        dim = check_dim(name, dim, x.ndim)
    dim = None if x.ndim == 0 else dim  # of one number; CuPy knows no dimension 0 of it
    _nonempty(name, x, None if dim is None else (dim,))
    return dim


def max(x, dim=None, keepdim=False):
    """The largest element; `max(x, dim)`: (values, indices) along `dim`; `max(x, other)`: the larger, elementwise.

    With `dim` the gradient goes to the element that the index names; see `amax` for one that ties share.
    """
    if hasattr(dim, "dtype"):
        return maximum(x, dim)
    return amax(x) if dim is None else _extreme("max", _argmax, x, dim, keepdim)


def min(x, dim=None, keepdim=False):
    """The smallest element; `min(x, dim)`: (values, indices) along `dim`; `min(x, other)`: the smaller, elementwise.

    With `dim` the gradient goes to the element that the index names; see `amin` for one that ties share.
    """
    if hasattr(dim, "dtype"):
        return minimum(x, dim)
    return amin(x) if dim is None else _extreme("min", _argmin, x, dim, keepdim)


def _extreme(name, find, x, dim, keepdim):
    dim = _one_dim(name, x, dim)
    if x.ndim == 0:
        return Extreme(_reshape(x, ()), find(x, dim, False))
    index = find(x, dim, True)
    values = _pick(x, along(value(index), dim))
    if not keepdim:
        shape = (*x.shape[:dim], *x.shape[dim + 1 :])
        values, index = _reshape(values, shape), _reshape(index, shape)
    return Extreme(values, index)
