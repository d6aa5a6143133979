"""Reductions: sum, mean, prod, var, std, logsumexp, all, any. (The largest: extremes.py. Norms: lengths.py.)

Each takes `dim`, one dimension or a tuple of them (None for all), and `keepdim`, which leaves them in place with size
1. A gradient goes back to every place that was summed: `spread` is that step, and its own gradient is a sum.
"""

import math

import numpy as np

from .. import kernels
from ..autograd import op
from ..device import FLOATS, xp
from ..errors import ArgumentError, DtypeError, describe
from ..tensor import float32, int64
from .arithmetic import _where, where
from .casting import cast
from .elementary import exp
from .joining import _cat
from .operands import floating
from .rounding import _flat
from .shape import _permute, _reshape, check_dims

LARGE = 1 << 17  # numbers from which a kernel is so much quicker than NumPy that it is worth compiling


def reduced(name, x, dim):
    """`dim` as a tuple of dimensions counted from the front, or None for all. Raises DimError."""
    if dim is None or dim == () or dim == []:
        return None
    if type(dim) is int and 0 <= dim < x.ndim:
        return (dim,)
    dim = check_dims(name, dim, x.ndim)
    return dim if x.ndim else None


def count(shape, dim):
    """How many elements of `shape` come together over `dim`."""
    return math.prod(shape) if dim is None else math.prod([shape[i] for i in dim])


def kept(shape, dim):
    """`shape` with size 1 over `dim`."""
    return tuple([1 if dim is None or i in dim else n for i, n in enumerate(shape)])


@op
def spread(x, shape, dim):
    """What a reduction of `shape` over `dim` gave, seen again at every place it came from."""
    x, lib = x.reshape(kept(shape, dim)), xp(x)
    if lib is np and math.prod(shape) < 4096:  # NumPy needs longer to make a view than to fill a small array
        y = np.empty(shape, x.dtype)
        y[...] = x
        return y
    return lib.broadcast_to(x, shape)


spread.gradient(x=lambda g, x_shape, dim: _sum(g, dim, False).reshape(x_shape))


def _total(x, dim, keepdim):
    if x.size >= LARGE and type(x) is np.ndarray and x.flags.c_contiguous:
        y = _by_kernel(x, dim)
        if y is not None:
            return y.reshape(kept(x.shape, dim)) if keepdim else y
    if x.dtype.itemsize == 2 and x.dtype.kind in FLOATS:  # eleven bits, or eight, are too few to add in
        return x.sum(axis=dim, keepdims=keepdim, dtype=float32).astype(x.dtype)
    return x.sum(axis=dim, keepdims=keepdim)


def _by_kernel(x, dim):
    """The sum over everything, over the leading dimensions or over the last one; None where no kernel does it."""
    family = kernels.find(x, "reduce")
    if family is None:
        return None
    if dim is None or len(dim) == x.ndim:
        return family.sum_all(x).astype(x.dtype)
    if dim == (x.ndim - 1,):
        return family.sum_trailing(x)
    first = len(dim)
    if dim != tuple(range(first)):
        return None
    return family.sum_leading(x.reshape(*x.shape[:first], -1)).reshape(x.shape[first:])


def _summable(x, dtype):
    """x in the type that its sum has: `dtype` if given, int64 for integers and booleans."""
    if dtype is not None:
        return cast(x, dtype)
    return x if x.dtype.kind in FLOATS else cast(x, int64)


# Sums and means


@op
def _sum(x, dim, keepdim):
    return _total(x, dim, keepdim)


_sum.gradient(x=lambda g, x_shape, dim: spread(g, x_shape, dim))


def sum(x, dim=None, keepdim=False, *, dtype=None):
    """The sum over `dim`. Integers and booleans give int64; of no elements it is 0."""
    return _sum(_summable(x, dtype), reduced("sum", x, dim), keepdim)


def nansum(x, dim=None, keepdim=False, *, dtype=None):
    """The sum over `dim` of what is not NaN."""
    return sum(where(x == x, x, 0), dim, keepdim, dtype=dtype)


@op
def _mean(x, dim, keepdim):
    return _total(x, dim, keepdim) / count(x.shape, dim)


_mean.gradient(x=lambda g, x_shape, dim: spread(g / max(count(x_shape, dim), 1), x_shape, dim))


def mean(x, dim=None, keepdim=False, *, dtype=None):
    """The mean over `dim`; of no elements it is NaN. Raises DtypeError for integers and booleans, unless `dtype`."""
    x = x if dtype is None else cast(x, dtype)
    if x.dtype.kind not in FLOATS:
        raise DtypeError(f"mean: {describe(x)} has no mean of its own type\n  write x.float().mean()")
    return _mean(x, reduced("mean", x, dim), keepdim)


def nanmean(x, dim=None, keepdim=False, *, dtype=None):
    """The mean over `dim` of what is not NaN."""
    return nansum(x, dim, keepdim, dtype=dtype) / sum(cast(x == x, x.dtype), dim, keepdim)


# Products


@op
def _prod(x, dim, keepdim):
    return x.prod(axis=dim, keepdims=keepdim)


@_prod.gradient
def _(g, x, dim):
    if count(x.shape, None) == 0:
        return _flat(x)
    order = [i for i in range(x.ndim) if dim is not None and i not in dim]
    order += [i for i in range(x.ndim) if dim is None or i in dim]
    back = tuple([order.index(i) for i in range(x.ndim)])
    rows = _permute(x, tuple(order))
    others = _product_of_others(_reshape(rows, (-1, count(x.shape, dim))))
    return spread(g, x.shape, dim) * _permute(_reshape(others, rows.shape), back)


def _product_of_others(x):
    """Each element of a row replaced by the product of all others in the row, without dividing: zeros are no trouble.

    Elements are multiplied in pairs, the products in pairs, and so on: the others of an element are its partner times
    the others of their pair. Only products are used, so this can be differentiated any number of times.
    """
    n = x.shape[-1]
    if n < 2:
        return _flat(x) + 1.0
    half = n // 2
    a, b, odd = x[:, :half], x[:, half : 2 * half], x[:, 2 * half :]
    others = _product_of_others(_cat(a * b, odd, dim=1))
    of_pair = others[:, :half]
    return _cat(of_pair * b, of_pair * a, others[:, half:], dim=1)


def prod(x, dim=None, keepdim=False, *, dtype=None):
    """The product over `dim`. Integers and booleans give int64; of no elements it is 1."""
    return _prod(_summable(x, dtype), reduced("prod", x, dim), keepdim)


# Spread about the mean


@op
def _var(x, dim, correction, keepdim):
    n = count(x.shape, dim)
    centred = x - _total(x, dim, True) / n
    squares = _total(centred * centred, dim, keepdim)
    return squares / max(0, n - correction)


@_var.gradient
def _(g, x, dim, correction):
    n = count(x.shape, dim)
    slope = 2.0 / (n - correction) if n != correction else math.inf
    return spread(g, x.shape, dim) * (slope * (x - _mean(x, dim, True)))


def var(x, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The variance over `dim`: the squared distances from the mean, added up and divided by n - correction.

    correction is 1 (Bessel's) unless given; `unbiased` True or False is another way to write 1 or 0. NaN or infinite
    where n - correction is not positive.
    """
    if isinstance(dim, bool):  # PyTorch's x.var(False)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise ArgumentError("var: unbiased= and correction= say the same thing; give one of them")
    if unbiased is not None:
        correction = int(unbiased)
    if x.dtype.kind not in FLOATS:
        raise DtypeError(f"var: {describe(x)} has no variance of its own type\n  write x.float().var()")
    return _var(x, reduced("var", x, dim), 1 if correction is None else correction, keepdim)


@op
def _root(x):
    """sqrt, with the gradient 0 at 0: of a length or a deviation, the subgradient nearest to no direction at all."""
    return xp(x).sqrt(x)


_root.gradient(x=lambda g, y: _where(g, 0.0, y != 0) / (2.0 * _where(y, 1.0, y != 0)))


def std(x, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The standard deviation over `dim`, the root of `var`. Its gradient at 0 is 0."""
    return _root(var(x, dim, unbiased, keepdim, correction=correction))


def var_mean(x, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """(var, mean) over `dim`."""
    mean_dim = None if isinstance(dim, bool) else dim
    return var(x, dim, unbiased, keepdim, correction=correction), mean(x, mean_dim, keepdim)


def std_mean(x, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """(std, mean) over `dim`."""
    variance, average = var_mean(x, dim, unbiased, keepdim, correction=correction)
    return _root(variance), average


# Exponentials added up


@op
def _logsumexp(x, dim, keepdim):
    x, lib = floating(x), xp(x)
    if count(x.shape, dim) == 0:
        return lib.full(_total(x, dim, keepdim).shape, -math.inf, x.dtype)
    top = x.max(axis=dim, keepdims=True)
    top = lib.where(lib.isfinite(top), top, 0)  # exp(-inf - -inf) would be NaN
    y = lib.log(_total(lib.exp(x - top), dim, True)) + top
    return y if keepdim else y.squeeze(axis=tuple(range(x.ndim)) if dim is None else dim)


# Where y is -inf every x is: exp(x) is 0 and so is the gradient
_logsumexp.gradient(x=lambda g, y, x, dim: spread(g, x.shape, dim) * exp(x - spread(_finite(y), x.shape, dim)))


def _finite(y):
    return _where(y, 0.0, y != -math.inf)


def logsumexp(x, dim, keepdim=False):
    """log(sum(exp(x))) over `dim`, without overflow; of no elements it is -inf."""
    return _logsumexp(x, reduced("logsumexp", x, dim), keepdim)


# Truths


@op
def _all(x, dim, keepdim):
    return x.all(axis=dim, keepdims=keepdim)


@op
def _any(x, dim, keepdim):
    return x.any(axis=dim, keepdims=keepdim)


def all(x, dim=None, keepdim=False):
    """Whether no element over `dim` is 0; of no elements it is True."""
    return _all(x, reduced("all", x, dim), keepdim)


def any(x, dim=None, keepdim=False):
    """Whether some element over `dim` is not 0; of no elements it is False."""
    return _any(x, reduced("any", x, dim), keepdim)
