"""Reading at the places that an index names: gather, take_along_dim, index_select, masked_select.

On the CPU an index out of range raises DimError. On the GPU the check would have to wait for the device, and a step
that waits cannot be captured in a graph; there it is left to the user, as in CuPy.
"""

import numpy as np

from ..autograd import action, check_dim
from ..device import CPU, CUDA, FLOATS, device_of, is_array, to_device, xp
from ..errors import DimError, DtypeError, ShapeError, describe, expect
from ..tensor import Tensor, value
from .indexing import _pick
from .shape import _reshape, broadcast_tensors, expand


def places(name, index, like):
    """`index` as an integer array on the device of `like`. Raises DtypeError for anything else."""
    array, lib = value(index), xp(value(like))
    array = to_device(array if is_array(array) else np.asarray(array), CPU if lib is np else CUDA)
    if array.size == 0 and array.dtype.kind in FLOATS:  # an empty list
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        hint = "write mask.nonzero(), or masked_select" if array.dtype.kind == "b" else "write index.long()"
        raise DtypeError(f"{name}: an index is made of integers, got {describe(array)}\n  {hint}")
    return array


@action
def check_range(name, index, size, lowest=0):
    """Raise DimError unless lowest <= index < size."""
    if xp(index) is np and index.size:
        low, high = index.min(), index.max()
        if low < lowest or high >= size:
            bad = int(low if low < lowest else high)
            raise DimError(f"{name}: index {bad} is out of range\n  it must be from {lowest} to {size - 1}")


def check_mask(name, mask, like):
    """`mask`, on the device of `like`, if it is made of booleans."""
    if not hasattr(mask, "dtype"):
        mask = np.asarray(mask)
    if mask.dtype.kind != "b":
        raise DtypeError(f"{name}: a mask is made of booleans, got {describe(mask)}\n  write mask.bool(), or x == 0")
    return mask if isinstance(mask, Tensor) else to_device(mask, device_of(value(like)))


@action
def along(index, dim):
    """The tuple that, between square brackets, reads at `index` along `dim` and in place along the others."""
    lib, n = xp(index), index.ndim
    entries = [lib.arange(size).reshape((1,) * i + (size,) + (1,) * (n - 1 - i)) for i, size in enumerate(index.shape)]
    entries[dim] = index
    return tuple(entries)


def check_fits(name, x, dim, index):
    """Raise ShapeError unless index has x's dimensions, and is nowhere larger but along `dim`."""
    fits = max(index.ndim, 1) == max(x.ndim, 1) and all(
        [i == dim or m <= n for i, (m, n) in enumerate(zip(index.shape, x.shape))]
    )
    rule = f"{name}: index needs as many dimensions as x, and sizes no larger but in dimension {dim}"
    expect(fits or index.size == 0, rule, x, index)


def gather(x, dim, index):
    """y[i][j][k] = x[i][index[i][j][k]][k] for dim=1: one element of x along `dim` for each entry of `index`.

    index has as many dimensions as x, and is nowhere larger than x but along `dim`. Raises DimError out of range.
    """
    dim = check_dim("gather", dim, x.ndim)
    index = places("gather", index, x)
    check_fits("gather", x, dim, index)
    check_range("gather", index, x.shape[dim] if x.ndim else 1)
    if x.ndim == 0 or index.ndim == 0:
        return _reshape(_pick(_reshape(x, (-1,)), (index.reshape(-1),)), index.shape)
    if index.size == 0:
        return _pick(_reshape(x, (-1,)), (xp(index).zeros(index.shape, np.int64),))
    return _pick(x, along(index, dim))


def take_along_dim(x, indices, dim=None):
    """x at `indices` along `dim`, both broadcast in the other dimensions; without `dim`, both flattened."""
    indices = places("take_along_dim", indices, x)
    if dim is None:
        x, indices, dim = _reshape(x, (-1,)), indices.reshape(-1), 0
    dim = check_dim("take_along_dim", dim, x.ndim)
    expect(indices.ndim == x.ndim, "take_along_dim: x and indices need as many dimensions", x, indices)
    before, after = x.shape[:dim], x.shape[dim + 1 :]
    try:
        lead = np.broadcast_shapes(before, indices.shape[:dim])
        tail = np.broadcast_shapes(after, indices.shape[dim + 1 :])
    except ValueError:
        raise ShapeError(
            f"take_along_dim: {describe(x)} and {describe(indices)} do not broadcast beside dimension {dim}"
        ) from None
    check_range("take_along_dim", indices, x.shape[dim], -x.shape[dim])
    indices = xp(indices).broadcast_to(indices, (*lead, indices.shape[dim], *tail))
    return _pick(expand(x, (*lead, x.shape[dim], *tail)), along(indices, dim))


def take(x, index):
    """x at `index`, counted in x flattened; the result has the shape of `index`."""
    index = places("take", index, x)
    count = value(x).size
    check_range("take", index, count, -count)
    return _pick(_reshape(x, (-1,)), (index,))


def index_select(x, dim, index):
    """The slices of x along `dim` that the vector `index` names, in its order. Raises DimError out of range."""
    dim = check_dim("index_select", dim, x.ndim)
    index = vector("index_select", index, x)
    check_range("index_select", index, x.shape[dim] if x.ndim else 1)
    if x.ndim == 0:
        expect(index.size == 1, "index_select: a 0-d tensor has one element to select", index)
        return _reshape(x, ())
    return _pick(x, (slice(None),) * dim + (index,))


def vector(name, index, x):
    """`index` as a vector of integers."""
    index = places(name, index, x)
    expect(index.ndim <= 1, f"{name}: index must be a vector", index)
    return index.reshape(-1)


def masked_select(x, mask):
    """The elements of x where `mask` is True, in one dimension. The shapes broadcast."""
    x, mask = broadcast_tensors(x, check_mask("masked_select", mask, x))
    return _pick(x, (value(mask),))
