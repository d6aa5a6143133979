"""Scaled dot-product attention, head by head, without ever holding a whole (T, S) matrix of weights.

    attention(q, k, v, mask, keep, scale, causal)                          -> y, logs
    attention_gradient(g, q, k, v, mask, keep, logs, scale, causal, needs) -> gq, gk, gv, gmask

q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) with H a multiple of G: head h of q attends with head h // (H
/ G) of k and v. Their last stride must be one element; all others are free, so views of one projection to
q, k and v are read where they stand. y (B, H, T, E) lies in memory as (B, T, H, E): `y.transpose(0, 2, 1,
3).reshape(B, T, H E)` is a view, and so are the gradients' counterparts.

mask (B, H, T, S) is added to the scores, -inf forbids; keep (B, H, T, S) multiplies the weights (dropout's
mask). Either may be None, and broadcast views cost no memory. A query that may attend to nothing gets
zeros.

Floor: 2 products forward, 5 backward, each 2 T S D operations a head (half of that if causal), and T S
exponentials each way. Reached, at the GPT step's B16 H4 T128 D32, causal, two cores: see the table below.

v1  products of whole heads, weights stored for the way back       T S floats a head, written and read again
v2  blocks of 64 queries: scores, softmax and product in the L2 cache; keys after the block's last query
skipped
    if causal; backward computes the weights again from `logs`, the logarithm of each row's sum (Dao et al.
    2022,
    arXiv:2205.14135): one product more, and the same speed, since memory is slower than arithmetic     <-
    this file
"""

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_nt, gemm_tn, single_threaded_blas
from .compile import inline_sums, kernel
from .vector_math import exp, log

F = np.float32
NEGATIVE = F(-np.inf)
ROWS = 64  # queries a block: (ROWS, S) scores stay in the L2 cache up to S of about 2000
NOTHING = np.empty((0, 0, 1, 1), np.float32)  # empty, and yet NOTHING[:, :, 0, 0] lies inside it


@inline_sums
def block_scores(q, k, mask, scores, first, count, keys, scale, causal):
    """scores[i, j] = scale q[first + i] . k[j] + mask, -inf where forbidden, for i < count and j < keys."""
    gemm_nt(q[first : first + count], k[:keys], scores, F(0))
    for i in range(count):
        row = scores[i]
        if mask.size > 0:
            added = mask[first + i]
            for j in range(keys):
                row[j] = row[j] * scale + added[j]
        else:
            for j in range(keys):
                row[j] *= scale
        if causal:
            for j in range(min(first + i + 1, keys), keys):
                row[j] = NEGATIVE


@kernel(reads=("q", "k", "v", "mask", "keep"))
def forward(q, k, v, mask, keep, y, logs, scale, causal):
    B, H, T, _ = q.shape
    G, S = k.shape[1], k.shape[2]
    blocks = (T + ROWS - 1) // ROWS
    for task in prange(B * H * blocks):
        b, h, first = task // (H * blocks), task // blocks % H, task % blocks * ROWS
        g = h // (H // G)
        count = min(ROWS, T - first)
        keys = min(S, first + count) if causal else S
        scores = np.empty((count, keys), np.float32)
        added = mask[b, h] if mask.size > 0 else mask[:, :, 0, 0]
        block_scores(q[b, h], k[b, g], added, scores, first, count, keys, scale, causal)
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
            logs[b, h, first + i] = top + log(total) if total > 0 else F(np.inf)  # inf: weights of 0 again backward
            share = F(1) / total if total > 0 else F(0)
            for j in range(keys):
                row[j] *= share
            if keep.size > 0:
                kept = keep[b, h, first + i]
                for j in range(keys):
                    row[j] *= kept[j]
        gemm_nn(scores, v[b, g, :keys], y[b, first : first + count, h], F(0))


@kernel(reads=("dy", "q", "k", "v", "mask", "keep", "logs"))
def backward(dy, q, k, v, mask, keep, logs, dq, dk, dv, dmask, scale, causal):
    """With P the weights, dropped ones zeroed in P~ = P keep:  dV = P~^T dY,  dP = (dY V^T) keep,
    dScores = P (dP - rowsum(P dP)),  dQ = scale dScores K,  dK = scale dScores^T Q.
    """
    B, H, T, _ = q.shape
    G, S = k.shape[1], k.shape[2]
    repeats = H // G
    for task in prange(B * G):
        b, g = task // G, task % G
        dk[b, :, g] = F(0)
        dv[b, :, g] = F(0)
        weights_memory, dscores_memory = np.empty(ROWS * S, np.float32), np.empty(ROWS * S, np.float32)
        for h in range(g * repeats, (g + 1) * repeats):
            added = mask[b, h] if mask.size > 0 else mask[:, :, 0, 0]
            for first in range(0, T, ROWS):
                count = min(ROWS, T - first)
                keys = min(S, first + count) if causal else S
                weights = weights_memory[: count * keys].reshape(count, keys)
                dscores = dscores_memory[: count * keys].reshape(count, keys)
                block_scores(q[b, h], k[b, g], added, weights, first, count, keys, scale, causal)
                rows = dy[b, h, first : first + count]
                gemm_nt(rows, v[b, g, :keys], dscores, F(0))
                for i in range(count):
                    p, d, logarithm = weights[i], dscores[i], logs[b, h, first + i]
                    if keep.size > 0:
                        kept = keep[b, h, first + i]
                        for j in range(keys):
                            d[j] *= kept[j]
                    inner = F(0)
                    for j in range(keys):
                        weight = exp(p[j] - logarithm)
                        p[j] = weight
                        inner += weight * d[j]
                    for j in range(keys):
                        d[j] = p[j] * (d[j] - inner)
                    if dmask.size > 0:
                        for j in range(keys):
                            dmask[b, h, first + i, j] = d[j]
                    for j in range(keys):
                        d[j] *= scale
                    if keep.size > 0:
                        kept = keep[b, h, first + i]
                        for j in range(keys):
                            p[j] *= kept[j]
                gemm_nn(dscores, k[b, g, :keys], dq[b, first : first + count, h], F(0))
                gemm_tn(dscores, q[b, h, first : first + count], dk[b, :keys, g], F(1))
                gemm_tn(weights, rows, dv[b, :keys, g], F(1))


def unit_rows(x):
    """x as BLAS can read it: a last stride of one element and rows that do not overlap. A copy only if it
    must.
    """
    down, along = x.strides[-2:]
    return x if along == 4 and down >= 4 * x.shape[-1] and down % 4 == 0 else np.ascontiguousarray(x)


def attention(q, k, v, mask, keep, scale, causal):
    """softmax(scale q k^T + mask) v, and the logarithm of each softmax's sum. Shapes as in the head; none
    empty.
    """
    (B, H, T, _), E = q.shape, v.shape[3]
    y, logs = np.empty((B, T, H, E), np.float32), np.empty((B, H, T), np.float32)
    mask, keep = NOTHING if mask is None else mask, NOTHING if keep is None else keep
    with single_threaded_blas:
        forward(unit_rows(q), unit_rows(k), unit_rows(v), mask, keep, y, logs, F(scale), causal)
    return y.transpose(0, 2, 1, 3), logs


def attention_gradient(g, q, k, v, mask, keep, logs, scale, causal, mask_too=False):
    """The gradients of q, k and v, and that of the mask, (B, H, T, S), if `mask_too`, else None."""
    B, H, T, S = *q.shape[:3], k.shape[2]
    dq, dk, dv = (np.empty((x.shape[0], x.shape[2], x.shape[1], x.shape[3]), np.float32) for x in (q, k, v))
    dmask = np.zeros((B, H, T, S), np.float32) if mask_too else NOTHING
    mask, keep = NOTHING if mask is None else mask, NOTHING if keep is None else keep
    g, q, k, v = unit_rows(g), unit_rows(q), unit_rows(k), unit_rows(v)
    with single_threaded_blas:
        backward(g, q, k, v, mask, keep, logs, dq, dk, dv, dmask, F(scale), causal)
    dq, dk, dv = (x.transpose(0, 2, 1, 3) for x in (dq, dk, dv))
    return dq, dk, dv, dmask if mask_too else None
