"""Order along a dimension: sort, topk, kthvalue, median. The gradient goes back to where a value came from.

What returns values and indices returns a named tuple: `values, indices = x.sort()` or `x.sort().values`.
"""

from typing import NamedTuple

import numpy as np

from ..autograd import check_dim
from ..device import FLOATS, xp
from ..errors import ArgumentError, DimError, expect
from ..tensor import Tensor, value, wrap
from .indexing import _pick
from .picking import along
from .shape import _reshape


class Sorted(NamedTuple):
    """What `sort`, `topk`, `kthvalue` and `median(dim)` return."""

    values: Tensor
    indices: Tensor


def _sortable(x):
    """x in a type that can be sorted: CuPy sorts no bfloat16, whose order float32 has, too."""
    return x.astype(np.float32) if xp(x) is not np and x.dtype.name == "bfloat16" else x


def _order(x, dim, descending=False):
    """Indices that sort the array x along `dim`: equal values keep their order, NaN counts as largest."""
    lib, x = xp(x), _sortable(x)
    if not descending:
        return lib.argsort(x, axis=dim, kind="stable")
    # Equal values must keep their order here too: sort what is reversed, and reverse the result.
    back = lib.argsort(lib.flip(x, dim), axis=dim, kind="stable")
    return x.shape[dim] - 1 - lib.flip(back, dim)


def _take(x, index, dim):
    """x at `index` along `dim`, with the index as a tensor."""
    like = wrap if isinstance(x, Tensor) else (lambda a: a)
    return Sorted(_pick(x, along(index, dim)), like(index))


def _one(x):
    """A 0-d tensor with its index 0."""
    index = xp(value(x)).zeros((), "int64")
    return Sorted(_reshape(x, ()), wrap(index) if isinstance(x, Tensor) else index)


def sort(x, dim=-1, descending=False, stable=False):
    """x sorted along `dim`, and where each value stood: (values, indices). Always stable; NaN counts as largest."""
    dim = check_dim("sort", dim, x.ndim)
    return _one(x) if x.ndim == 0 else _take(x, _order(value(x), dim, descending), dim)


def argsort(x, dim=-1, descending=False, stable=False):
    """The indices that sort x along `dim`. Always stable."""
    return sort(x.detach() if isinstance(x, Tensor) else x, dim, descending).indices


def msort(x):
    """x sorted along its first dimension."""
    return sort(x, 0).values


def topk(x, k, dim=-1, largest=True, sorted=True):
    """The k largest (or smallest) values along `dim`, best first, and where they stood: (values, indices).

    NaN counts as largest. `sorted=False` promises no order; here they come sorted all the same.
    """
    dim = check_dim("topk", dim, x.ndim)
    n = x.shape[dim] if x.ndim else 1
    expect(0 <= k <= n, f"topk: k={k} of {n} values along dimension {dim}", x, error=ArgumentError)
    if x.ndim == 0:
        found = _one(x)
        return found if k else Sorted(_reshape(found.values, (1,))[:0], _reshape(found.indices, (1,))[:0])
    array, lib = _sortable(value(x)), xp(value(x))
    best = (slice(None),) * dim + (slice(int(k)),)
    if n < 64 or k == 0 or 2 * k > n:
        return _take(x, _order(array, dim, largest)[best], dim)
    # Split the k best off without sorting the rest, then sort those.
    if largest:
        chosen = lib.argpartition(array, n - k, axis=dim)[(slice(None),) * dim + (slice(n - int(k), None),)]
    else:
        chosen = lib.argpartition(array, k - 1, axis=dim)[best]
    order = _order(lib.take_along_axis(array, chosen, dim), dim, largest)
    return _take(x, lib.take_along_axis(chosen, order, dim), dim)


def kthvalue(x, k, dim=-1, keepdim=False):
    """The k-th smallest value along `dim`, counted from 1, and where it stood: (values, indices)."""
    dim = check_dim("kthvalue", dim, x.ndim)
    n = x.shape[dim] if x.ndim else 1
    expect(1 <= k <= n, f"kthvalue: k={k} of {n} values along dimension {dim}", x, error=ArgumentError)
    return _one(x) if x.ndim == 0 else _nth(x, k - 1, dim, keepdim)


def _nth(x, place, dim, keepdim):
    """The values at one place of the order along `dim`; `place` is a number, or an array of one for each."""
    order = _order(value(x), dim)
    if hasattr(place, "shape"):
        index = xp(order).take_along_axis(order, place, dim)
    else:
        index = order[(slice(None),) * dim + (slice(place, place + 1),)]
    found = _take(x, index, dim)
    if keepdim:
        return found
    shape = (*x.shape[:dim], *x.shape[dim + 1 :])
    return Sorted(_reshape(found.values, shape), _reshape(found.indices, shape))


def median(x, dim=None, keepdim=False):
    """The middle value, the lower of two: a number over everything, or (values, indices) along `dim`.

    NaN if there is a NaN, as in PyTorch.
    """
    if dim is None:
        if value(x).size == 0:
            return _reshape(x, (-1,)).sum() * float("nan")
        return median(_reshape(x, (-1,)), 0).values
    dim = check_dim("median", dim, x.ndim)
    if x.ndim == 0:
        return _one(x)
    n = x.shape[dim]
    expect(n > 0, f"median: dimension {dim} is empty", x, error=DimError)
    array, lib = value(x), xp(value(x))
    bad = lib.isnan(array).any(axis=dim, keepdims=True) if array.dtype.kind in FLOATS else None
    place = (n - 1) // 2 if bad is None or not bad.any() else lib.where(bad, n - 1, (n - 1) // 2)
    return _nth(x, place, dim, keepdim)
