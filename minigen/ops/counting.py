"""What is counted or found, and has no gradient: nonzero, one_hot, unique, bincount, searchsorted."""

import numpy as np

from ..autograd import check_dim
from ..device import FLOATS, is_array, xp
from ..errors import ArgumentError, DimError, DtypeError, describe, expect
from ..tensor import Tensor, reads, value, wrap


def _like(x, array):
    """`array` as a tensor where x is one."""
    return wrap(array) if isinstance(x, Tensor) else array


def _array(name, x):
    """The array in x, or x itself if it is one."""
    expect(is_array(value(x)), f"{name}: takes a tensor", x, error=DtypeError, hint="write minigen.tensor(...)")
    return value(x)


def nonzero(x, as_tuple=False):
    """Where x is not 0: an (n, x.ndim) tensor of indices, or with `as_tuple` one vector for each dimension."""
    array = _array("nonzero", x)
    if as_tuple:
        found = xp(array).nonzero(array.reshape(1) if array.ndim == 0 else array)
        return tuple([_like(x, i) for i in found])
    return argwhere(x)


def argwhere(x):
    """Where x is not 0, as an (n, x.ndim) tensor of indices."""
    array = _array("argwhere", x)
    return _like(x, xp(array).argwhere(array))


def count_nonzero(x, dim=None):
    """How many elements are not 0, in all or along `dim`."""
    array = _array("count_nonzero", x)
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    axis = None if dims is None else tuple([check_dim("count_nonzero", d, array.ndim) for d in dims if array.ndim])
    return _like(x, xp(array).asarray(xp(array).count_nonzero(array, axis=axis), dtype=np.int64))


def one_hot(x, num_classes=-1):
    """Integers as vectors of 0 with a single 1: (...) -> (..., num_classes), int64. -1 counts the classes.

    Write `.float()` after it to compute with it. Raises DimError for an integer outside 0 .. num_classes - 1.
    """
    array = _array("one_hot", x)
    expect(array.dtype.kind in "iu", "one_hot: takes integers\n  write x.long()", x, error=DtypeError)
    lib = xp(array)
    if num_classes == -1:
        expect(array.size > 0, "one_hot: an empty tensor does not tell num_classes", x, error=ArgumentError)
        reads("one_hot without num_classes")
        num_classes = int(array.max()) + 1
    expect(num_classes > 0 or not array.size, f"one_hot: num_classes={num_classes}", x, error=ArgumentError)
    if lib is np and array.size and (array.min() < 0 or array.max() >= num_classes):
        raise DimError(f"one_hot: classes go from 0 to {num_classes - 1}, got {array.min()} to {array.max()}")
    return _like(x, (array[..., None] == lib.arange(num_classes)).astype(np.int64))


def unique(x, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The different values of x in ascending order (along `dim`: the different slices).

    return_inverse   also, for each element of x, where its value stands among them
    return_counts    also how often each occurs
    """
    array = _array("unique", x)
    lib = xp(array)
    axis = None if dim is None else check_dim("unique", dim, array.ndim)
    given = {"equal_nan": False} if lib is np or axis is None else {}
    found = lib.unique(array, return_inverse=True, return_counts=True, axis=axis, **given)
    values, inverse, counts = found
    results = [values]
    if return_inverse:
        results.append(inverse.reshape(array.shape if axis is None else -1).astype(np.int64, copy=False))
    if return_counts:
        results.append(counts.astype(np.int64, copy=False))
    results = tuple([_like(x, r) for r in results])
    return results if len(results) > 1 else results[0]


def unique_consecutive(x, return_inverse=False, return_counts=False, dim=None):
    """x with runs of one value as a single element (along `dim`: of one slice); see `unique` for what is returned."""
    array = _array("unique_consecutive", x)
    lib = xp(array)
    rows = (
        array.reshape(-1) if dim is None else lib.moveaxis(array, check_dim("unique_consecutive", dim, array.ndim), 0)
    )
    changes = (rows[1:] != rows[:-1]).any(tuple(range(1, rows.ndim)))
    first = lib.concatenate((lib.ones(min(len(rows), 1), bool), changes))
    starts = lib.flatnonzero(first)
    values = rows[starts]
    results = [values if dim is None else lib.moveaxis(values, 0, dim)]
    if return_inverse:
        inverse = lib.cumsum(first) - 1
        results.append(inverse.reshape(array.shape) if dim is None else inverse)
    if return_counts:
        results.append(lib.diff(lib.concatenate((starts, lib.asarray([len(rows)])))))
    results = tuple([_like(x, r) for r in results])
    return results if len(results) > 1 else results[0]


def bincount(x, weights=None, minlength=0):
    """How often each integer 0, 1, ... occurs in the vector x; with `weights`, the sum of their weights."""
    array = _array("bincount", x)
    expect(array.ndim == 1 and array.dtype.kind in "iu", "bincount: takes a vector of integers", x, error=DtypeError)
    expect(minlength >= 0, f"bincount: minlength must be at least 0, not {minlength}", error=ArgumentError)
    lib = xp(array)
    if array.size and array.min() < 0:  # CuPy waits for the card here, too: the length depends on the numbers
        raise ArgumentError(f"bincount: integers must be at least 0, got {array.min()}")
    if weights is None:
        return _like(x, lib.bincount(array, minlength=minlength).astype(np.int64, copy=False))
    heavy = value(weights)
    expect(heavy.shape == array.shape, "bincount: x and weights must be of one shape", x, weights, error=ArgumentError)
    kind = heavy.dtype if heavy.dtype.kind in FLOATS else np.float64
    return _like(x, lib.bincount(array, heavy, minlength).astype(kind, copy=False))


def searchsorted(sorted_sequence, values, *, right=False, side=None, sorter=None, out_int32=False):
    """Where each value would be inserted to keep a sequence sorted: before its equals, or with right=True behind.

    A vector serves all values; rows (..., n) each serve the values (..., m) of the same row. `sorter` holds the indices
    that sort a sequence which is not sorted itself; `out_int32` gives int32 instead of int64.
    """
    given = values
    sequence = value(sorted_sequence)
    lib = xp(sequence)
    if sorter is not None:
        expect(sorter.shape == sequence.shape, "searchsorted: sorter needs the sequence's shape", sorter, sequence)
        sequence = lib.take_along_axis(sequence, value(sorter), -1)
    values = lib.asarray(value(values), None if hasattr(values, "dtype") else sequence.dtype)
    expect(
        side in (None, "left", "right"), f'searchsorted: side is "left" or "right", not {side!r}', error=ArgumentError
    )
    expect(not (right and side == "left"), 'searchsorted: right=True and side="left" disagree', error=ArgumentError)
    side = side or ("right" if right else "left")
    if sequence.ndim == 1:
        found = lib.searchsorted(sequence, values, side)
    else:
        expect(
            sequence.ndim > 1 and sequence.shape[:-1] == values.shape[:-1],
            "searchsorted: sequence (..., n) and values (..., m) must agree in all but the last dimension",
            sequence,
            values,
        )
        rows = zip(sequence.reshape(-1, sequence.shape[-1]), values.reshape(-1, values.shape[-1]))
        found = [lib.searchsorted(s, v, side) for s, v in rows]
        found = lib.stack(found).reshape(values.shape) if found else lib.zeros(values.shape, np.int64)
    found = lib.asarray(found, np.int32 if out_int32 else np.int64)
    return wrap(found) if isinstance(given, Tensor) or isinstance(sorted_sequence, Tensor) else found


def bucketize(x, boundaries, *, right=False, out_int32=False):
    """The bucket of each x between ascending `boundaries`: i with boundaries[i-1] < x <= boundaries[i].

    right=True closes the buckets on the left instead.
    """
    if value(boundaries).ndim != 1:
        raise ArgumentError(f"bucketize: boundaries must be a vector, got {describe(boundaries)}")
    return searchsorted(boundaries, x, right=right, out_int32=out_int32)
