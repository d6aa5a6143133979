"""Attention of a few queries, as when a text is written symbol by symbol: scores lie with a query's keys in one row.

    few_queries(q, k, v, mask, drop, y, logs, scale, causal)     shapes as in attention.py
    one_query(q, k, v, length, y, scale)                         a query a head, and a length for each row's keys

attention.py works on WIDTH queries at once, across the keys; of fewer than FEW most of that would be wasted. Here each
query's scores are a product with a vector, or a few, by OpenBLAS.

Floor: read k and v once, 4 S (D + E) bytes a head. One query, 8 heads, S 256, D 64: 11 us on two cores of a Zen 5, 36
by attention.py.

one_query reads a cache made for more keys than there are yet. Its loops are plain ones: a product with a vector moves
as much memory as OpenBLAS would, and 8 rows of different lengths need no mask.
"""

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_nt
from .compile import inline_sums, kernel
from .random import U64, block
from .vector_math import exp, log, select

F = np.float32
NEGATIVE = F(-np.inf)
FEW = 8  # queries, at most


@inline_sums
def score_rows(q, k, mask, scores, scale, causal):
    """scores[i, j] = scale q[i] . k[j] + mask[i, j], -inf where forbidden."""
    count, keys = scores.shape
    gemm_nt(q, k[:keys], scores, F(0))
    for i in range(count):
        row = scores[i]
        if mask.size > 0:
            added = mask[i]
            for j in range(keys):
                row[j] = row[j] * scale + added[j]
        else:
            for j in range(keys):
                row[j] *= scale
        if causal:
            for j in range(min(i + 1, keys), keys):
                row[j] = NEGATIVE


@inline_sums
def drop_some(row, words, drop, first):
    """row[j] *= factor, or = 0 where its word of the blocks from `first` on is below the threshold."""
    threshold, factor, seed, stream, _ = drop
    for c in range((row.size + 3) // 4):
        w0, w1, w2, w3 = block(seed, stream, U64(first + U64(c)))
        words[0, c] = w0
        words[1, c] = w1
        words[2, c] = w2
        words[3, c] = w3
    for j in range(row.size):
        row[j] = select(words[j % 4, j // 4] >= threshold, row[j] * factor, F(0))


@kernel(reads=("q", "k", "v", "mask"))
def few_queries(q, k, v, mask, drop, y, logs, scale, causal):
    B, H, count, _ = q.shape
    blocks = (k.shape[2] + 3) // 4  # of dropout's words in a row
    keys = min(k.shape[2], count) if causal else k.shape[2]
    for task in prange(B * H):
        b, h = task // H, task % H
        g = h // (H // k.shape[1])
        scores = np.empty((count, keys), np.float32)
        score_rows(q[b, h], k[b, g], mask[b, h] if mask.size > 0 else mask[:, :, 0, 0], scores, scale, causal)
        for i in range(count):
            row = scores[i]
            top = NEGATIVE
            for j in range(keys):
                top = max(top, row[j])
            if top == NEGATIVE:  # nothing may be attended to: every weight becomes exp(-inf - 0) = 0
                top = F(0)
            total = F(0)
            for j in range(keys):
                e = exp(row[j] - top)
                row[j] = e
                total += e
            logs[b, h, i] = top + log(total) if total > 0 else F(np.inf)  # inf: weights of 0 again backward
            share = F(1) / total if total > 0 else F(0)
            for j in range(keys):
                row[j] *= share
            if drop[0] > 0:
                words = np.empty((4, blocks), np.uint32)
                drop_some(row, words, drop, drop[4] + U64((b * H + h) * count + i) * U64(blocks))
        gemm_nn(scores, v[b, g, :keys], y[b, :, h], F(0))


@inline_sums
def dot(x, y):
    total = F(0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@kernel(reads=("q", "k", "v", "length"), dense=("q", "k", "v", "length", "y"))
def one_query(q, k, v, length, y, scale):
    (B, H, _), G, E = q.shape, k.shape[1], v.shape[3]
    for task in prange(B * H):
        b, h = task // H, task % H
        g = h // (H // G)
        query, out, keys, values = q[b, h], y[b, h], k[b, g], v[b, g]
        count = min(length[b], k.shape[2])
        weights = np.empty(count, np.float32)
        top, total = NEGATIVE, F(0)
        for j in range(count):
            weights[j] = scale * dot(query, keys[j])
        for j in range(count):
            top = max(top, weights[j])
        for j in range(count):
            weights[j] = exp(weights[j] - top)
            total += weights[j]
        for e in range(E):
            out[e] = F(0)
        for j in range(count):
            weight, row = weights[j], values[j]
            for e in range(E):
                out[e] += weight * row[e]
        share = F(1) / total if count > 0 else F(0)
        for e in range(E):
            out[e] *= share
