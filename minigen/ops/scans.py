"""Scans along a dimension: running sums, products, maxima, and sums of exponentials.

The gradient of a running sum is a running sum from the other end.
"""

import math

import numpy as np

from .. import kernels
from ..autograd import check_dim, op
from ..device import FLOATS, xp
from ..tensor import Tensor, int64, value, wrap
from .arithmetic import _where
from .casting import cast
from .elementary import exp
from .extremes import Extreme
from .indexing import _pick
from .joining import _cat
from .operands import floating
from .picking import along
from .rounding import _flat
from .shape import _reshape

SMALL = 1024  # numbers below which NumPy is quicker than a kernel


def _prepared(name, x, dim, dtype):
    """x in the type of the result, and `dim` counted from the front."""
    dim = check_dim(name, dim, x.ndim)
    if dtype is not None:
        return cast(x, dtype), dim
    return (x if x.dtype.kind in FLOATS else cast(x, int64)), dim


# Sums


@op
def _cumsum(x, dim, backwards):
    if x.ndim == 0:
        return x.copy()
    family = None if type(x) is np.ndarray and x.size < SMALL else kernels.find(x, "scan")
    if family is not None:
        return family.cumsum(x, dim, backwards)
    if backwards:
        return xp(x).flip(xp(x).flip(x, dim).cumsum(axis=dim), dim).copy()  # no negative strides for what follows
    return x.cumsum(axis=dim)


_cumsum.gradient(x=lambda g, dim, backwards: _cumsum(g, dim, not backwards))


def cumsum(x, dim, *, dtype=None):
    """y[i] = x[0] + ... + x[i] along `dim`. Integers and booleans give int64."""
    x, dim = _prepared("cumsum", x, dim, dtype)
    return _cumsum(x, dim, False)


# Products


@op
def _cumprod(x, dim):
    return x.cumprod(axis=dim) if x.ndim else x.copy()


@_cumprod.gradient
def _(g, y, x, dim):
    # dy[k]/dx[i] is the product of x up to k without x[i]: what stands before i times what stands between i and k.
    # With s[i] = sum over k >= i of g[k] x[i+1] ... x[k], which is g[i] + x[i+1] s[i+1], nothing is divided, so a
    # zero is no trouble.
    if x.ndim == 0 or x.size == 0:
        return g
    n = x.shape[dim]
    before = _cat(_flat(_slice(y, dim, 0, 1)) + 1.0, _slice(y, dim, 0, n - 1), dim=dim)
    factor = _cat(_slice(x, dim, 1, n), _flat(_slice(x, dim, 0, 1)), dim=dim)
    return before * _recurrence(factor, g, dim)


def _slice(x, dim, start, stop):
    return x[(slice(None),) * dim + (slice(start, stop),)]


def _recurrence(factor, term, dim):
    """s[i] = term[i] + factor[i] s[i+1], from the end (where s is 0), in log2(n) steps instead of n.

    After a step, s[i] = term[i] + factor[i] s[i + reach], where reach has doubled (Hillis & Steele 1986).
    """
    n, reach = term.shape[dim], 1
    while reach < n:
        last_factor, last_term = _slice(factor, dim, n - reach, n), _slice(term, dim, n - reach, n)
        here_factor, here_term = _slice(factor, dim, 0, n - reach), _slice(term, dim, 0, n - reach)
        term = _cat(here_term + here_factor * _slice(term, dim, reach, n), last_term, dim=dim)
        factor = _cat(here_factor * _slice(factor, dim, reach, n), last_factor, dim=dim)
        reach *= 2
    return term


def cumprod(x, dim, *, dtype=None):
    """y[i] = x[0] * ... * x[i] along `dim`. Integers and booleans give int64."""
    x, dim = _prepared("cumprod", x, dim, dtype)
    return _cumprod(x, dim)


# Sums of exponentials


@op
def _logcumsumexp(x, dim):
    x = floating(x)
    return _accumulate("logaddexp", x, dim) if x.ndim else x.copy()


@_logcumsumexp.gradient
def _(g, y, x, dim):
    # The gradient is the sum over k >= i of g[k] exp(x[i] - y[k]). As a recurrence, y[i] <= y[i+1] keeps every
    # exponential at 1 or below.
    if x.ndim == 0 or x.size == 0:
        return g
    n = x.shape[dim]
    finite = _where(y, 0.0, y != -math.inf)  # where y is -inf, exp(x) is 0 and so is the gradient
    step = exp(_slice(y, dim, 0, n - 1) - _slice(finite, dim, 1, n))
    return exp(x - finite) * _recurrence(_cat(step, _flat(_slice(y, dim, 0, 1)), dim=dim), g, dim)


def logcumsumexp(x, dim):
    """y[i] = log(exp(x[0]) + ... + exp(x[i])) along `dim`, without overflow."""
    return _logcumsumexp(x, check_dim("logcumsumexp", dim, x.ndim))


# The largest and the smallest so far


def cummax(x, dim):
    """The largest of x[0] ... x[i] along `dim`, and where it stands (the last, of equal ones): (values, indices)."""
    return _running("cummax", x, dim, "maximum")


def cummin(x, dim):
    """The smallest of x[0] ... x[i] along `dim`, and where it stands (the last, of equal ones): (values, indices)."""
    return _running("cummin", x, dim, "minimum")


def _running(name, x, dim, ufunc):
    dim = check_dim(name, dim, x.ndim)
    array = value(x)
    lib, shape = xp(array), array.shape
    if array.ndim == 0:
        array = array.reshape(1)
    best = _accumulate(ufunc, array, dim)
    reached = (array == best) | (array != array)
    places = lib.arange(array.shape[dim]).reshape((-1,) + (1,) * (array.ndim - dim - 1))
    index = _accumulate("maximum", lib.where(reached, places, 0), dim)
    values = _reshape(_pick(_reshape(x, array.shape), along(index, dim)), shape)
    index = index.reshape(shape)
    return Extreme(values, wrap(index) if isinstance(x, Tensor) else index)


def _accumulate(ufunc, x, dim):
    """y[i] = ufunc(x[0], ..., x[i]). CuPy has none for these ufuncs: there in log2(n) steps that double their reach."""
    lib = xp(x)
    function = getattr(lib, ufunc)
    if lib is np:
        return function.accumulate(x, axis=dim)
    y, reach = x.copy(), 1
    while reach < x.shape[dim]:
        late, early = (slice(None),) * dim + (slice(reach, None),), (slice(None),) * dim + (slice(-reach),)
        y[late] = function(y[late], y[early].copy())
        reach *= 2
    return y
