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
    pairs = sorted_pairs(index, rows, g.dtype)
    packs = over(width, 16 // g.dtype.itemsize)
    block = min(32 * over(packs, 32), 256)
    skipped = -1 if padding_idx is None else int(padding_idx)
    KERNELS.run("add_rows", (g.dtype,), (n, over(packs, block)), block, g, pairs, skipped, table, n, width)
    return table


def sorted_pairs(index, rows, dtype):
    """The indices sorted, each with its place, by which equal ones are in order: uint64, the index the upper half."""
    n, tiles = index.size, over(index.size, TILE)
    counts = library(index).empty(DIGITS * tiles, np.int32)
    pairs = None
    for shift in range(0, max((rows - 1).bit_length(), 1), 8):
        moved = library(index).empty(n, np.uint64)
        KERNELS.run("count_digits", (dtype,), tiles, TILE, index, pairs, counts, n, shift)
        KERNELS.run("sum_before", (dtype,), min(tiles, 1), 1024, counts, tiles)
        KERNELS.run("move_pairs", (dtype,), tiles, TILE, index, pairs, counts, moved, n, shift)
        pairs = moved
    return pairs
