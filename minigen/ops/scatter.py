"""Reading and writing at the places an index names: gather, scatter, index_select, masked_fill and their kin."""

import numpy as np

from ..autograd import check_dim, op
from ..device import is_array, xp
from ..errors import DimError, DtypeError, ShapeError, describe, expect
from ..tensor import value
from .indexing import _pick, _put_add


def places(name, index, like):
    """`index` as an integer array on the device of `like`. Raises DtypeError for anything else."""
    array = value(index)
    lib = xp(value(like))
    if not is_array(array) or xp(array) is not lib:
        array = lib.asarray(array)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    expect(array.dtype.kind in "iu", f"{name}: an index is made of integers\n  write index.long()", index, error=DtypeError)
    return array


def check_range(name, index, size, lowest=0):
    """Raise DimError unless lowest <= index < size. On the GPU the check would stall the stream: it is not made."""
    if xp(index) is np and index.size:
        low, high = index.min(), index.max()
        if low < lowest or high >= size:
            bad = int(low if low < lowest else high)
            raise DimError(f"{name}: index {bad} is out of range\n  it must be from {lowest} to {size - 1}")


def _along(index, dim, lib):
    """What `x[...]` takes to read x at `index` along `dim`, and at its own place along the other dimensions."""
    n = index.ndim
    entries = [lib.arange(size).reshape((1,) * i + (size,) + (1,) * (n - 1 - i)) for i, size in enumerate(index.shape)]
    entries[dim] = index
    return tuple(entries)


def gather(x, dim, index):
    """y[i][j][k] = x[i][index[i][j][k]][k] for dim=1: one element of x along `dim` for each entry of `index`.

    index has as many dimensions as x, and is nowhere larger than x but along `dim`.
    """
    dim = check_dim("gather", dim, x.ndim)
    index = places("gather", index, x)
    _check_fits("gather", x, dim, index)
    if x.ndim == 0 or index.ndim == 0:
        check_range("gather", index, x.shape[0] if x.ndim else 1)
        return x.reshape(1)[index.reshape(-1)].reshape(index.shape) if x.ndim == 0 else x[index]
    check_range("gather", index, x.shape[dim])
    return _pick(x, _along(index, dim, xp(index)))


def _check_fits(name, x, dim, index):
    fits = max(index.ndim, 1) == max(x.ndim, 1) and all(
        [i == dim or m <= n for i, (m, n) in enumerate(zip(index.shape, x.shape))]
    )
    expect(
        fits or index.size == 0,
        f"{name}: index needs as many dimensions as x, and sizes no larger but in dimension {dim}",
        x,
        index,
    )


@op
def _masked_fill(x, mask, fill):
    return xp(x).where(mask, fill, x)


_masked_fill.gradient(
    x=lambda g, mask: _masked_fill(g, mask, _zero(g)),
    fill=lambda g, mask: (g * mask).sum() if g.dtype.kind == "f" else None,
)


def _zero(g):
    return xp(value(g)).zeros((), g.dtype)


def masked_fill(x, mask, fill):
    """x, but `fill` (a number or a 0-d tensor) where `mask` is True. The shapes broadcast."""
    mask = mask if is_array(value(mask)) else np.asarray(mask)
    if mask.dtype.kind != "b":
        raise DtypeError(f"masked_fill: a mask is made of booleans, got {describe(mask)}\n  write mask.bool(), or x == 0")
    if hasattr(fill, "shape"):
        expect(fill.ndim == 0, "masked_fill: the value must be one number\n  did you mean where(mask, y, x)?", fill)
    else:
        fill = np.asarray(fill, x.dtype) if x.dtype.kind == "f" else np.asarray(fill)
    fill = fill.astype(x.dtype) if is_array(fill) else fill
    try:
        return _masked_fill(x, mask, fill)
    except ValueError:
        raise ShapeError(f"masked_fill: x {tuple(x.shape)} and mask {tuple(mask.shape)} do not broadcast") from None
