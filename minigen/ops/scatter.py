"""Writing at the places that an index names: masked_fill, scatter, index_add and their kin.

All return a new tensor and leave x as it was. Where an index names a place twice, `scatter`, `index_copy` and
`index_put` keep the value written last, and the gradient of the others is not meaningful, as in PyTorch.
"""

import numpy as np

from ..autograd import check_dim, op
from ..device import FLOATS, is_array, xp
from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from ..tensor import Tensor, value
from .at import combine_at
from .indexing import _normalise, _pick, _put_add
from .picking import along, check_fits, check_mask, check_range, places, vector
from .shape import _expand, _reshape, broadcast_tensors


@op
def _masked_fill(x, mask, fill):
    return xp(x).where(mask, fill if is_array(fill) else x.dtype.type(fill), x)


_masked_fill.gradient(
    x=lambda g, mask: _masked_fill(g, mask, 0),
    fill=lambda g, mask: (g * mask).sum(),
)


@op
def _put(x, index, source):
    """A copy of x with `source` at x[index]."""
    y = x.copy()
    y[index] = source
    return y


_put.gradient(x=lambda g, index: _put(g, index, 0), source=lambda g, index: _pick(g, index))


def masked_fill(x, mask, value):
    """x, but `value` (a number or a 0-d tensor) where `mask` is True. The shapes broadcast.

    Raises DtypeError for a mask that is not made of booleans.
    """
    mask = check_mask("masked_fill", mask, x)
    fill = _number("masked_fill", value, x)
    try:
        return _masked_fill(x, mask, fill)
    except ValueError:
        raise ShapeError(f"masked_fill: x {tuple(x.shape)} and mask {tuple(mask.shape)} do not broadcast") from None


def _number(name, fill, x):
    """A number, or a 0-d tensor in the type of x."""
    if not hasattr(fill, "shape"):
        whole = x.dtype.kind in "iub" and isinstance(fill, float) and fill != int(fill)
        expect(not whole, f"{name}: {fill} does not fit into {x.dtype}", error=DtypeError)
        return fill
    expect(fill.ndim == 0, f"{name}: the value must be one number\n  did you mean where(mask, y, x)?", fill)
    expect(fill.dtype.kind in FLOATS + "iub", f"{name}: the value must be real", fill, error=DtypeError)
    if fill.dtype == x.dtype:
        return fill
    expect(x.dtype.kind in FLOATS or fill.dtype.kind not in FLOATS, f"{name}: x and value", x, fill, error=DtypeError)
    return fill.to(x.dtype) if isinstance(fill, Tensor) else fill.astype(x.dtype)


def masked_scatter(x, mask, source):
    """A copy of x with the elements of `source`, in order, where `mask` is True."""
    x, mask = broadcast_tensors(x, check_mask("masked_scatter", mask, x))
    mask = value(mask)
    expect(x.dtype == source.dtype, "masked_scatter: x and source must be of one type", x, source, error=DtypeError)
    count = int(mask.sum())
    size = value(source).size
    expect(size >= count, f"masked_scatter: the mask has {count} places, source {size} numbers", mask, source)
    return _put(x, (mask,), _reshape(source, (-1,))[:count])


# By an index as large as what is written


def scatter(x, dim, index, src, reduce=None):
    """A copy of x with src[i][j][k] written to [i][index[i][j][k]][k] for dim=1; src may be a number.

    reduce="add" or "multiply" combines with what is there instead.
    """
    dim = check_dim("scatter", dim, x.ndim)
    if reduce is not None:
        names = {"add": "sum", "multiply": "prod"}
        expect(reduce in names, f'scatter: reduce is "add" or "multiply", not {reduce!r}', error=ArgumentError)
        src = src if hasattr(src, "shape") else xp(value(x)).full(value(index).shape, src, x.dtype)
        return scatter_reduce(x, dim, index, src, names[reduce])
    index, src = _targets("scatter", x, dim, index, src)
    return _put(x, index, src)


def scatter_add(x, dim, index, src):
    """A copy of x with src[i][j][k] added at [i][index[i][j][k]][k] for dim=1. The adjoint of `gather`."""
    dim = check_dim("scatter_add", dim, x.ndim)
    expect(hasattr(src, "shape"), "scatter_add: src must be a tensor", src, error=DtypeError)
    index, src = _targets("scatter_add", x, dim, index, src)
    return x + _put_add(src, tuple(x.shape), index)


def _targets(name, x, dim, index, src):
    """The places in x that the entries of `index` name, and the part of `src` that goes there."""
    index = places(name, index, x)
    if index.size:
        check_fits(name, x, dim, index)
        check_range(name, index, x.shape[dim] if x.ndim else 1)
    if hasattr(src, "shape"):
        expect(src.dtype == x.dtype, f"{name}: x and src must be of one type", x, src, error=DtypeError)
        fits = max(src.ndim, 1) == max(index.ndim, 1) and all([m >= n for m, n in zip(src.shape, index.shape)])
        expect(fits or index.size == 0, f"{name}: src must be at least as large as index", src, index)
    elif name == "scatter":
        return (...,) if x.ndim == 0 else along(index.reshape(-1) if index.ndim == 0 else index, dim), src
    if index.size == 0:
        none = xp(index).zeros(0, np.int64)
        return (none,) * max(x.ndim, 1), _reshape(src, (-1,))[:0]
    if x.ndim == 0:
        return (...,), _reshape(src, ())
    if index.ndim == 0:
        index = index.reshape(1)
    src = _reshape(src, (1,)) if src.ndim == 0 else src[tuple([slice(n) for n in index.shape])]
    return along(index, dim), src


def scatter_reduce(x, dim, index, src, reduce, include_self=True):
    """A copy of x in which the src that go to one place are reduced: "sum", "prod", "mean", "amax" or "amin".

    include_self   whether what stands in x there takes part
    """
    dim = check_dim("scatter_reduce", dim, x.ndim)
    known = "sum", "prod", "mean", "amax", "amin"
    expect(reduce in known, f"scatter_reduce: reduce is one of {', '.join(known)}, not {reduce!r}", error=ArgumentError)
    expect(hasattr(src, "shape"), "scatter_reduce: src must be a tensor", src, error=DtypeError)
    if x.ndim == 0:
        x, index, src = _reshape(x, (1,)), value(index).reshape(-1), _reshape(src, (-1,))
        return _reshape(scatter_reduce(x, 0, index, src, reduce, include_self), ())
    index, src = _targets("scatter_reduce", x, dim, index, src)
    if reduce in ("amax", "amin"):
        return _extreme(x, src, index, reduce == "amax", include_self)
    if reduce == "prod":
        return _product(x if include_self else _put(x, index, 1), src, index)
    base = x if include_self else _put(x, index, 0)
    total = base + _put_add(src, tuple(x.shape), index)
    if reduce == "sum":
        return total
    lib = xp(value(x))
    count = lib.zeros(x.shape, x.dtype)
    combine_at("add", count, index, 1)
    count = count + 1 if include_self else lib.maximum(count, 1)
    if x.dtype.kind in FLOATS:
        return total / count
    whole = value(total) // count.astype(x.dtype)
    return Tensor(whole) if isinstance(x, Tensor) else whole


@op
def _extreme(x, src, index, largest, include_self):
    y = x.copy()
    if not include_self:
        lowest = -np.inf if x.dtype.kind in FLOATS else np.iinfo(x.dtype).min
        highest = np.inf if x.dtype.kind in FLOATS else np.iinfo(x.dtype).max
        y[index] = lowest if largest else highest
    combine_at("maximum" if largest else "minimum", y, index, src)
    return y


@_extreme.gradient
def _(g, y, x, src, index, include_self):
    """The gradient goes in equal parts to all that attain the extreme, as in PyTorch."""
    lib, x, y, src = xp(value(g)), value(x), value(y), value(src)
    mine = (x == y).astype(x.dtype)
    if not include_self:
        mine[index] = 0
    theirs = (src == y[index]).astype(x.dtype)
    count = mine.copy()
    combine_at("add", count, index, theirs)
    share = g / lib.maximum(count, 1)
    return share * mine, _pick(share, index) * theirs


@op
def _product(x, src, index):
    y = x.copy()
    combine_at("multiply", y, index, src)
    return y


@_product.gradient
def _(g, x, src, index):
    """d(product)/d(factor) is the product of the other factors.

    With no zero among the factors of a place that is y / factor. With one, it is the product of the rest at the zero,
    and 0 elsewhere; there the zero itself is written in, so that the second derivative is right too.
    """
    zero_x, zero_src = (value(x) == 0).astype(g.dtype), (value(src) == 0).astype(g.dtype)
    zeros = zero_x + _put_add(zero_src, zero_x.shape, index)
    the_zero = x * zero_x + _put_add(src * zero_src, zero_x.shape, index)
    nonzero_x, nonzero_src = x + zero_x, src + zero_src  # each zero made 1
    rest = _product(nonzero_x, nonzero_src, index) * g

    def others(factor, nonzero, is_zero, zeros, the_zero, rest):
        none, one, two = ((zeros == n).astype(g.dtype) for n in range(3))
        beside = none + the_zero * (one * (1 - is_zero)) + one * is_zero + (the_zero - factor) * (two * is_zero)
        return rest / nonzero * beside

    gx = others(x, nonzero_x, zero_x, zeros, the_zero, rest)
    return gx, others(src, nonzero_src, zero_src, zeros[index], _pick(the_zero, index), _pick(rest, index))


# By a vector of places along one dimension


def index_add(x, dim, index, source, alpha=1):
    """A copy of x with alpha * source[i] added to slice index[i] along `dim`."""
    dim, where, source = _slices("index_add", x, dim, index, source)
    added = _put_add(source, tuple(x.shape), where)
    return x + (added if alpha == 1 else added * alpha)


def index_copy(x, dim, index, source):
    """A copy of x with source[i] written to slice index[i] along `dim`."""
    dim, where, source = _slices("index_copy", x, dim, index, source)
    return _put(x, where, source)


def index_fill(x, dim, index, value):
    """A copy of x with `value` (a number or a 0-d tensor) in the slices that `index` names along `dim`."""
    dim = check_dim("index_fill", dim, x.ndim)
    index = vector("index_fill", index, x)
    n = x.shape[dim] if x.ndim else 1
    check_range("index_fill", index, n, -n)
    mask = xp(index).zeros(x.shape, bool)
    mask[(slice(None),) * dim + (index,) if x.ndim else ...] = True
    return _masked_fill(x, mask, _number("index_fill", value, x))


def _slices(name, x, dim, index, source):
    dim = check_dim(name, dim, x.ndim)
    index = vector(name, index, x)
    expect(source.dtype == x.dtype, f"{name}: x and source must be of one type", x, source, error=DtypeError)
    check_range(name, index, x.shape[dim] if x.ndim else 1)
    if x.ndim == 0:
        expect(value(source).size == 1 == index.size, f"{name}: one number goes into a 0-d tensor", source, index)
        return dim, (...,), _reshape(source, ())
    fit = (*x.shape[:dim], index.size, *x.shape[dim + 1 :])
    if source.ndim == 0 and index.size == 1 and x.ndim == 1:
        source = _reshape(source, (1,))
    expect(tuple(source.shape) == fit, f"{name}: source must be {fit}", source, hint=f"x is {describe(x)}, dim={dim}")
    return dim, (slice(None),) * dim + (index,), source


def index_put(x, indices, values, accumulate=False):
    """A copy of x with x[indices] = values, or += values if `accumulate`: what stands between brackets, as a tuple."""
    index, _ = _normalise(indices, value(x))
    values = values if hasattr(values, "shape") else xp(value(x)).asarray(values, x.dtype)
    expect(values.dtype == x.dtype, "index_put: x and values must be of one type", x, values, error=DtypeError)
    if not accumulate:
        return _put(x, index, values)
    return x + _put_add(_expand(values, value(x)[index].shape), tuple(x.shape), index)
