"""Embedding: rows of a table, picked by index."""

import numpy as np

from .. import kernels
from ..autograd import action, op
from ..device import xp
from ..errors import ArgumentError, DimError, DtypeError, expect
from ..tensor import Tensor, value, wrote
from .at import combine_at

__all__ = ["embedding"]


@op
def _embedding(weight, index, padding_idx, by_freq):
    family = kernels.find(weight, "embedding")
    return weight[index] if family is None else family.embedding(weight, index)


_embedding.gradient(
    weight=lambda g, weight_shape, index, padding_idx, by_freq: _add_rows(
        g, index, weight_shape[0], padding_idx, by_freq
    )
)


@op
def _add_rows(g, index, rows, padding_idx, by_freq):
    """Each row of g added to the row of a table that its index names."""
    lib = xp(g)
    if by_freq:
        g = g / lib.bincount(index.reshape(-1), minlength=rows)[index][..., None].astype(g.dtype)
    family = kernels.find(g, "embedding")
    if family is not None:
        return family.embedding_gradient(g, index, rows, padding_idx)
    table = lib.zeros((rows, g.shape[-1]), g.dtype)
    if lib is np:
        np.add.at(table, index, g)
    else:
        combine_at("add", table, index.reshape(-1), g.reshape(-1, g.shape[-1]))
    if padding_idx is not None:
        table[padding_idx] = 0
    return table


_add_rows.gradient(g=lambda h, index, rows, padding_idx, by_freq: _read_rows(h, index, padding_idx, by_freq))


@op
def _read_rows(table, index, padding_idx, by_freq):
    """What `_add_rows` does, turned round: rows read from a table, with its weights."""
    y, lib = table[index], xp(table)
    if by_freq:
        y = y / lib.bincount(index.reshape(-1), minlength=len(table))[index][..., None].astype(y.dtype)
    if padding_idx is not None:
        y[index == padding_idx] = 0
    return y


_read_rows.gradient(
    table=lambda g, table_shape, index, padding_idx, by_freq: _add_rows(g, index, table_shape[0], padding_idx, by_freq)
)


@action
def _check_rows(index, shape):
    """Raise DimError for an index that is no row of a table of this shape."""
    if index.size and type(index) is np.ndarray:
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= shape[0]:
            raise DimError(
                f"embedding: indices go from 0 to {shape[0] - 1}, the rows of weight {shape}; "
                f"got {low if low < 0 else high}"
            )


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of weight (V, D) at the integers `input` (...) -> (..., D).

    padding_idx         this row receives no gradient
    max_norm            rows that are used and longer than this (in the `norm_type` norm) are first
    shortened, in place scale_grad_by_freq  a row's gradient is divided by how often it was used
    sparse              taken, and without effect: gradients are dense here

    Raises DimError for an integer outside 0 .. V - 1, DtypeError for indices that are no integers.
    """
    index = value(input)
    expect(hasattr(index, "dtype"), "embedding: the indices are a tensor", index, error=DtypeError)
    expect(
        index.dtype.kind in "iu",
        "embedding: the first argument holds integers, the second the table",
        input,
        weight,
        error=DtypeError,
        hint="write index.long()",
    )
    expect(hasattr(weight, "ndim") and weight.ndim == 2, "embedding: weight is (rows, dim)", weight)
    rows = weight.shape[0]
    _check_rows(index, tuple(weight.shape))
    if padding_idx is not None:
        expect(
            -rows <= padding_idx < rows,
            f"embedding: padding_idx must name one of the {rows} rows",
            padding_idx,
            error=ArgumentError,
        )
        padding_idx %= rows
    if max_norm is not None:
        _shorten(weight, index, max_norm, norm_type)
    return _embedding(weight, index, padding_idx, bool(scale_grad_by_freq))


def _shorten(weight, index, max_norm, norm_type):
    table = value(weight)
    used = xp(table).unique(index)
    norms = xp(table).linalg.norm(table[used], norm_type, axis=1)
    long = norms > max_norm
    scale = max_norm / (norms[long] + 1e-7)
    table[used[long]] *= scale[:, None].astype(table.dtype)
    if isinstance(weight, Tensor):
        wrote(table)
