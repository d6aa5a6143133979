"""How a product of matrices sees its arrays: nothing is copied that can be read as it lies.

    batch, M, K, N = sizes(a, b)
    A, B, calls = operands(a, b, batch)

A and B say how a and b lie in memory; `calls`, how the leading dimensions `batch` of their product, whose memory is
contiguous, are walked: all at once where that can be. Strides are in numbers, not in bytes.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from .compile import contiguous, library

CALLS = 16  # for one product, at most, where copies of its operands would make do with fewer
ALONE = 1, (0, 0, 0), [(0, 0, 0)]  # the calls for two matrices


class Stored(NamedTuple):
    """array: the memory; transposed: whether each matrix lies in it as its transpose; step: from one row there to the
    next; batch: from one matrix to the next, along each leading dimension, 0 where it is the same one."""

    array: object
    transposed: bool
    step: int
    batch: tuple


def sizes(a, b):
    """(batch, M, K, N) of a (..., M, K) @ b (..., K, N). Raises ValueError and TypeError where they do not fit."""
    *lead, M, K = a.shape
    *other, inner, N = b.shape
    if inner != K:
        raise ValueError(f"a product of {a.shape} and {b.shape}: the inner sizes differ")
    if a.dtype != b.dtype:
        raise TypeError(f"a product of {a.dtype.name} and {b.dtype.name}: both must be of one type")
    return (tuple(lead) if lead == other else np.broadcast_shapes(lead, other)), M, K, N


def operands(a, b, batch):
    """a (..., M, K) and b (..., K, N) as `Stored`, and the calls that make their product (*batch, M, N)."""
    A, B = as_stored(a), as_stored(b)
    if not batch:
        return A, B, ALONE
    own = own_strides((*batch, a.shape[-2], b.shape[-1]))[:-2]
    calls = stacked(batch, stretched(A, len(batch)), stretched(B, len(batch)), own)
    if len(calls[2]) > CALLS and not (a.flags.c_contiguous and b.flags.c_contiguous):
        return operands(contiguous(a), contiguous(b), batch)
    return A, B, calls


def own_strides(shape):
    """Those of a contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def as_stored(x):
    """x (..., rows, columns) as it lies if its rows, or its columns, are runs and in order, else a copy."""
    size = x.itemsize
    *batch, down, along = x.strides
    rows, columns = x.shape[-2:]
    if x.ndim == 2 or all(s >= 0 and s % size == 0 for s in batch):
        if lies(rows, columns, down, along, size):
            return Stored(x, False, down // size if rows > 1 else max(columns, 1), tuple(s // size for s in batch))
        if lies(columns, rows, along, down, size):
            return Stored(x, True, along // size if columns > 1 else max(rows, 1), tuple(s // size for s in batch))
    own = own_strides(x.shape)
    return Stored(library(x).array(x, order="C"), False, max(columns, 1), own[:-2])


def lies(rows, columns, down, along, size):
    """Whether each row's numbers stand side by side, and the next row begins behind them."""
    return (along == size or columns == 1) and (rows == 1 or (down >= columns * size and down % size == 0))


def stretched(stored, ndim):
    """Its strides along `ndim` leading dimensions, of which it may lack the first, and have a size of 1 in others."""
    lead = stored.array.shape[:-2]
    own = tuple(0 if size == 1 else stride for size, stride in zip(lead, stored.batch))
    return (0,) * (ndim - len(own)) + own


def stacked(batch, *strides):
    """(count, strides, starts): the leading dimensions `batch` as calls for `count` matrices each.

    strides     those of the three arrays along `batch`; in the result, from one matrix of a call to the next
    starts      for each call, where in each array it begins

    Dimensions that every array walks as one are made one; the longest is a call's, the others are calls.
    """
    dimensions = []
    for size, *steps in zip(batch, *strides):
        if size == 1:
            continue
        if dimensions and all(outer == size * step for outer, step in zip(dimensions[-1][1], steps)):
            size *= dimensions.pop()[0]
        dimensions.append((size, steps))
    if not dimensions:
        return ALONE
    longest = max(range(len(dimensions)), key=lambda i: dimensions[i][0])
    count, steps = dimensions.pop(longest)
    starts = [
        tuple(sum(i * own[array] for i, (_, own) in zip(index, dimensions)) for array in range(3))
        for index in product(*[range(size) for size, _ in dimensions])
    ]
    return count, tuple(steps), starts
