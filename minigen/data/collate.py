"""From a list of rows to one batch: arrays are stacked, and what holds them is rebuilt around the stacks."""

import numpy as np

from ..device import is_array, xp
from ..errors import DataError, DtypeError
from ..tensor import Tensor, as_tensor
from .arrays import as_array


def default_collate(rows):
    """One batch from a list of rows of the same make.

    tensors and arrays  -> a Tensor with one more dimension in front     floats -> float32    ints -> int64
    tuples, lists, dicts and named tuples -> the same, entry by entry    strings -> the list of strings

    Raises DataError where rows differ in shape, length or keys, DtypeError for anything else.
    """
    first = rows[0]
    if isinstance(first, Tensor) or is_array(first):
        return as_tensor(_stack([as_array(row) for row in rows]))
    if isinstance(first, (bool, np.bool_)):
        return as_tensor(np.array(rows, dtype=bool))
    if isinstance(first, (int, np.integer)):
        return as_tensor(np.array(rows, dtype=np.int64))
    if isinstance(first, (float, np.floating)):
        return as_tensor(np.array(rows, dtype=getattr(first, "dtype", np.float32)))
    if isinstance(first, (str, bytes)):
        return list(rows)
    if isinstance(first, dict):
        _alike([tuple(row) for row in rows], "keys")
        return {key: default_collate([row[key] for row in rows]) for key in first}
    if isinstance(first, (tuple, list)):
        _alike([len(row) for row in rows], "lengths")
        fields = [default_collate(list(field)) for field in zip(*rows)]
        if hasattr(first, "_fields"):  # a named tuple
            return type(first)(*fields)
        return tuple(fields) if isinstance(first, tuple) else fields
    raise DtypeError(
        f"collate: rows of type {type(first).__name__} cannot be put into one batch\n"
        f"  return arrays, numbers, strings, or tuples and dicts of them; or give the DataLoader a collate_fn"
    )


def _stack(arrays):
    _alike([a.shape for a in arrays], "shapes")
    return xp(arrays[0]).stack(arrays)


def _alike(values, what):
    """Raise unless every row has the same; the message names the first row that differs."""
    for i, value in enumerate(values):
        if value != values[0]:
            raise DataError(
                f"collate: the rows of a batch must have the same {what}: row 0 has {values[0]}, row {i} has {value}\n"
                f"  pad or crop them in the dataset, or give the DataLoader a collate_fn"
            )
