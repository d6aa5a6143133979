"""Rows of a table by index, and the gradient, whose sums have one order: embedding.cu."""

import numpy as np

from .compile import FLOATS, Source, cast, contiguous, library, over

TYPES = FLOATS
KERNELS = Source("embedding.cu")
TILE, DIGITS = 256, 256  # as in embedding.cu
WARPS = 8


def as_index(index):
    return contiguous(cast(index, np.int64)).reshape(-1)


def embedding(table, index):
    """table (V, D), index (...) of integers from 0 to V - 1 (not checked here) -> (..., D)."""
    table, rows = contiguous(table), as_index(index)
    n, width = rows.size, table.shape[1]
    out = library(table).empty((n, width), table.dtype)
    KERNELS.run("gather_rows", (table.dtype,), over(n, WARPS), 32 * WARPS, table, rows, out, n, width)
    return out.reshape(index.shape + table.shape[1:])


def embedding_gradient(g, index, rows, padding_idx=None):
    """dL/dtable (rows, D) from g (..., D). Rows at padding_idx get none."""
    width, index = g.shape[-1], as_index(index)
    g, n = contiguous(g).reshape(-1, width), index.size
    table = library(g).zeros((rows, width), g.dtype)
    order = sorted_places(index, rows, g.dtype)
    packs = over(width, 16 // g.dtype.itemsize)
    block = min(32 * over(packs, 32), 256)
    skipped = -1 if padding_idx is None else int(padding_idx)
    KERNELS.run("add_rows", (g.dtype,), (n, over(packs, block)), block, g, index, order, skipped, table, n, width)
    return table


def sorted_places(index, rows, dtype):
    """The places 0 to n - 1 of the indices, sorted by index, and by place where it is the same: int32."""
    n, tiles = index.size, over(index.size, TILE)
    counts = library(index).empty(DIGITS * tiles, np.int32)
    order = None
    for shift in range(0, max((rows - 1).bit_length(), 1), 8):
        moved = library(index).empty(n, np.int32)
        KERNELS.run("count_digits", (dtype,), tiles, TILE, index, order, counts, n, shift)
        KERNELS.run("sum_before", (dtype,), min(tiles, 1), 1024, counts, counts.size)
        KERNELS.run("move_places", (dtype,), tiles, TILE, index, order, counts, moved, n, shift)
        order = moved
    return order
