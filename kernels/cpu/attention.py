"""Scaled dot-product attention, head by head, without ever holding a whole (T, S) matrix of weights.

    attention(q, k, v, mask, drop, scale, causal)                                -> y, logs
    attention_gradient(g, q, k, v, mask, drop, y, logs, scale, causal, mask_too) -> gq, gk, gv, gmask
    attention_decode(q, k, v, length, scale)                                     -> y: T is 1, row b sees length[b] keys

q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) with H a multiple of G: head h of q attends with head h // (H / G) of k
and v. Their last stride must be one element; all others are free, so views of one projection to q, k and v are read
where they stand. y (B, H, T, E) lies in memory as (B, T, H, E): `y.transpose(0, 2, 1, 3).reshape(B, T, H E)` is a view,
and so are the gradients' counterparts.

mask (B, H, T, S), or None, is added to the scores, -inf forbids; a broadcast view costs no memory. A query that may
attend to nothing gets zeros.

drop is None, or dropout of the weights: (threshold, factor, (seed, stream, first)). As in dropout.py nothing of it is
stored: a weight is kept, times `factor`, where its word of the Philox stream is at least `threshold`. The rows of the
weights (B, H, T, S), in this order, begin with a block of four words each: weight s of row r belongs to word s % 4 of
block first + r ceil(S / 4) + s // 4. So a block serves four keys of one query, which lie in one column here, and 16
queries' blocks are made side by side.

Floor: 2 products forward, 5 backward, each 2 T S D operations a head (half of that if causal), and T S exponentials
each way: at the GPT step's B16 H4 T128 D32, causal, on two cores of a Zen 5 (450 GFLOPS and 9 exponentials a
nanosecond) 0.21 + 0.44 ms. What became of it:

v1  products of whole heads, weights stored for the way back: T S floats a head, written and read again
v2  blocks of 64 queries: scores, softmax and product in the L2 cache, keys after the block's last query skipped if
    causal; backward computes the weights again from `logs`, the logarithm of each row's sum (Dao et al. 2022,
    arXiv:2205.14135): one product more, and the same speed, since memory is slower than arithmetic   0.84 + 1.21 ms
v3  scores lie across: a key's row holds its scores with the block's queries. Then k, v, q and dy are read where they
    stand by all five products (row_tiles.py; only q and dy are turned, once a block), the softmax goes down the columns
    without a sum across a vector, and if causal each product leaves out what is not seen, 8 rows at a time; no BLAS
                                                                                            0.43 + 0.75 ms
v4  dropout (0.1) draws its words here, a block of queries at a time, forward and again backward; before, it multiplied
    by an array of T S numbers a head. Of one core's time, without dropout 0.85 + 1.54 ms:
                                                                          2.54 + 2.68  ->  1.10 + 1.89 ms <- this file
"""

import numpy as np
from numba import prange

from .addresses import address, shifted
from .attention_few import FEW, few_queries, one_query
from .blas import FOUND, single_threaded_blas
from .compile import choose, inline_sums, kernel
from .random import U64, block
from .row_tiles import ROWS, WIDTH, by_panel
from .vector_math import exp, log, select

F = np.float32
NEGATIVE = F(-np.inf)
SERIAL = 1 << 17  # numbers in keys and values for which one query's threads are not worth their start
BLOCK = 64  # queries at once: (S, BLOCK) scores stay in the L2 cache up to S of about 2000
WIDEST = np.inf  # how large a head may be
NOTHING = np.empty((0, 0, 1, 1), np.float32)  # empty, and yet NOTHING[:, :, 0, 0] lies inside it
KEEPS_ALL = np.uint32(0), F(1), U64(0), U64(0), U64(0)  # a threshold of 0: nothing is drawn


@inline_sums
def across(x, factor, panels):
    """panels[p, d, i] = factor x[p WIDTH + i, d], and zeros beyond the rows of x."""
    count, width = x.shape
    for p in range(panels.shape[0]):
        panel, rows = panels[p], min(WIDTH, count - p * WIDTH)
        for i in range(rows):
            row = x[p * WIDTH + i]
            for d in range(width):
                panel[d, i] = row[d] * factor
        for i in range(rows, WIDTH):
            for d in range(width):
                panel[d, i] = F(0)


@inline_sums
def padded(x, room):
    """x (n, width) copied to `room`, whose rows are whole panels, unless x's own are: nothing then."""
    n, width = x.shape
    if width % WIDTH != 0:
        for j in range(n):
            row = room[j]
            for d in range(width):
                row[d] = x[j, d]


@inline_sums
def room_for(n, width):
    """Room for `padded`."""
    return np.empty((n if width % WIDTH != 0 else 0, (width + WIDTH - 1) // WIDTH * WIDTH), np.float32)


@inline_sums
def products_across(x, panels, scores, zero, first, causal):
    """scores[j, i] = x[j] . query i, where i may see j (a few more are made, and not used)."""
    keys, depth = x.shape
    for p in range(panels.shape[0]):
        rows = min(keys, first + (p + 1) * WIDTH) if causal else keys
        by_panel(
            *(address(x), x.strides[0], 4, depth, shifted(address(panels), p * panels.strides[0]), 4 * WIDTH),
            *(shifted(address(scores), 4 * WIDTH * p), 4 * BLOCK, address(zero), 0, rows, WIDTH),
        )


@inline_sums
def to_queries(weights, x, room, y, zero, first, count, causal):
    """y[i] = sum over keys j of weights[j, i] x[j]."""
    keys, width = x.shape
    base, down = (address(room), room.strides[0]) if room.size > 0 else (address(x), x.strides[0])
    for column in range(0, width, WIDTH):
        for i in range(0, count, ROWS):
            seen = min(keys, first + i + ROWS) if causal else keys
            by_panel(
                *(shifted(address(weights), 4 * i), 4, 4 * BLOCK, seen, shifted(base, 4 * column), down),
                *(shifted(address(y), i * y.strides[0] + 4 * column), y.strides[0], address(zero), 0),
                *(min(ROWS, count - i), width - column),
            )


@inline_sums
def to_keys(weights, x, room, y, first, keys, causal):
    """y[j] += sum over queries i of weights[j, i] x[i]."""
    count, width = x.shape
    base, down = (address(room), room.strides[0]) if room.size > 0 else (address(x), x.strides[0])
    for column in range(0, width, WIDTH):
        for j in range(0, keys, ROWS):
            i = max(0, j - first) if causal else 0  # the first that sees one of these keys
            c = shifted(address(y), j * y.strides[0] + 4 * column)
            by_panel(
                *(shifted(address(weights), 4 * (BLOCK * j + i)), 4 * BLOCK, 4, count - i),
                *(shifted(base, i * down + 4 * column), down, c, y.strides[0], c, y.strides[0]),
                *(min(ROWS, keys - j), width - column),
            )


@inline_sums
def add_mask(scores, mask, first, count):
    """scores[j, i] += mask[first + i, j]."""
    for j in range(scores.shape[0]):
        row = scores[j]
        if mask.strides[0] == 0:  # the same for all queries
            for i in range(count):
                row[i] += mask[0, j]
        else:
            for i in range(count):
                row[i] += mask[first + i, j]


@inline_sums
def draw_kept(kept, drop, row, per_row):
    """kept[j, i] = whether dropout keeps the weight of key j in query i. `row`: of query 0, of per_row blocks each.

    Always of BLOCK queries: so many are drawn six times as fast as a number of them that the compiler does not know.
    """
    threshold, _, seed, stream, begin = drop
    words, keys = np.empty((4, BLOCK), np.uint32), kept.shape[0]
    for j in range(0, keys, 4):
        number = begin + U64(row) * U64(per_row) + U64(j // 4)
        for i in range(BLOCK):
            w0, w1, w2, w3 = block(seed, stream, U64(number + U64(i) * U64(per_row)))
            words[0, i] = w0
            words[1, i] = w1
            words[2, i] = w2
            words[3, i] = w3
        for r in range(min(4, keys - j)):
            word, to = words[r], kept[j + r]
            for i in range(BLOCK):
                to[i] = word[i] >= threshold


@inline_sums
def room_for_kept(drop, keys):
    """Room for `draw_kept`, if anything is dropped."""
    return np.empty((keys if drop[0] > 0 else 0, BLOCK), np.bool_)


@inline_sums
def leave_kept(x, kept, factor):
    """x[j, i] *= factor, or = 0 where it is not kept."""
    for j in range(kept.shape[0]):
        row, keep = x[j], kept[j]
        for i in range(BLOCK):
            row[i] = select(keep[i], row[i] * factor, F(0))


@kernel(reads=("q", "k", "v", "mask"), dense=("y", "logs"))
def forward(q, k, v, mask, drop, y, logs, scale, causal):
    B, H, T, D = q.shape
    G, S, E = k.shape[1], k.shape[2], v.shape[3]
    blocks = (T + BLOCK - 1) // BLOCK
    zero = np.zeros(WIDTH, np.float32)
    for task in prange(B * H * blocks):
        b, h, first = task // (H * blocks), task // blocks % H, task % blocks * BLOCK
        g = h // (H // G)
        count = min(BLOCK, T - first)
        keys = min(S, first + count) if causal else S
        scores, panels = (
            np.empty((keys, BLOCK), np.float32),
            np.empty(((count + WIDTH - 1) // WIDTH, D, WIDTH), np.float32),
        )
        top, total = np.full(BLOCK, NEGATIVE), np.zeros(BLOCK, np.float32)
        across(q[b, h, first : first + count], scale, panels)
        products_across(k[b, g, :keys], panels, scores, zero, first, causal)
        if mask.size > 0:
            add_mask(scores, mask[b, h], first, count)
        for j in range(keys):
            unseen = min(count, max(0, j - first)) if causal else 0
            row, most = scores[j, unseen:count], top[unseen:count]
            for i in range(row.size):
                most[i] = select(row[i] > most[i], row[i], most[i])
        for i in range(count):  # nothing may be attended to: every weight becomes exp(-inf - 0) = 0
            top[i] = select(top[i] == NEGATIVE, F(0), top[i])
        for j in range(keys):
            unseen = min(count, max(0, j - first)) if causal else 0
            row, most, sums = scores[j, unseen:count], top[unseen:count], total[unseen:count]
            for i in range(row.size):
                e = exp(row[i] - most[i])
                row[i] = e
                sums[i] += e
            row = scores[j]
            for i in range(unseen):
                row[i] = F(0)
        kept = room_for_kept(drop, keys)
        if kept.size > 0:
            draw_kept(kept, drop, (b * H + h) * T + first, (S + 3) // 4)
            leave_kept(scores, kept, drop[1])
        values, out = v[b, g, :keys], y[b, first : first + count, h]
        room = room_for(keys, E)
        padded(values, room)
        to_queries(scores, values, room, out, zero, first, count, causal)
        for i in range(count):
            logs[b, h, first + i] = top[i] + log(total[i]) if total[i] > 0 else F(np.inf)  # inf: weights of 0 backward
            share, line = F(1) / total[i] if total[i] > 0 else F(0), y[b, first + i, h]
            for e in range(E):
                line[e] *= share


@kernel(reads=("dy", "q", "k", "v", "mask", "logs"), dense=("logs",))
def backward(dy, q, k, v, mask, drop, logs, dq, dk, dv, dmask, scale, causal):
    """With P the weights and K what dropout multiplies them by, P~ = P K:  dV = P~^T dY,  dP = (dY V^T) K,
    dScores = P (dP - rowsum(P dP)),  dQ = scale dScores K,  dK = scale dScores^T Q.
    """
    B, H, T, D = q.shape
    G, S, E = k.shape[1], k.shape[2], v.shape[3]
    repeats = H // G
    zero = np.zeros(WIDTH, np.float32)
    for task in prange(B * G):
        b, g = task // G, task % G
        dk[b, :, g] = F(0)
        dv[b, :, g] = F(0)
        weights_room, slopes_room = np.empty((S, BLOCK), np.float32), np.empty((S, BLOCK), np.float32)
        kept_room = room_for_kept(drop, S)
        key_room, query_room, dy_room = room_for(S, D), room_for(BLOCK, D), room_for(BLOCK, E)
        inner = np.empty(BLOCK, np.float32)
        padded(k[b, g], key_room)
        for h in range(g * repeats, (g + 1) * repeats):
            for first in range(0, T, BLOCK):
                count = min(BLOCK, T - first)
                keys = min(S, first + count) if causal else S
                weights, slopes, kept = weights_room[:keys], slopes_room[:keys], kept_room[:keys]
                queries, rows, log_sum = (
                    q[b, h, first : first + count],
                    dy[b, h, first : first + count],
                    logs[b, h, first:],
                )
                number = (count + WIDTH - 1) // WIDTH
                panels, dy_panels = np.empty((number, D, WIDTH), np.float32), np.empty((number, E, WIDTH), np.float32)
                across(queries, scale, panels)
                across(rows, F(1), dy_panels)
                products_across(k[b, g, :keys], panels, weights, zero, first, causal)
                products_across(v[b, g, :keys], dy_panels, slopes, zero, first, causal)
                if mask.size > 0:
                    add_mask(weights, mask[b, h], first, count)
                if kept.size > 0:
                    draw_kept(kept, drop, (b * H + h) * T + first, (S + 3) // 4)
                    leave_kept(slopes, kept, drop[1])
                inner[:] = F(0)
                for j in range(keys):
                    unseen = min(count, max(0, j - first)) if causal else 0
                    p, d, sums, less = (
                        weights[j, unseen:count],
                        slopes[j, unseen:count],
                        inner[unseen:],
                        log_sum[unseen:],
                    )
                    for i in range(p.size):
                        weight = exp(p[i] - less[i])
                        p[i] = weight
                        sums[i] += weight * d[i]
                    p, d = weights[j], slopes[j]
                    for i in range(unseen):
                        p[i] = F(0)
                        d[i] = F(0)
                for j in range(keys):
                    p, d = weights[j], slopes[j]
                    for i in range(count):
                        d[i] = p[i] * (d[i] - inner[i])
                if dmask.size > 0:
                    for j in range(keys):
                        d = slopes[j]
                        for i in range(count):
                            dmask[b, h, first + i, j] = d[i]
                for j in range(keys):
                    d = slopes[j]
                    for i in range(count):
                        d[i] *= scale
                if kept.size > 0:
                    leave_kept(weights, kept, drop[1])
                padded(queries, query_room)
                padded(rows, dy_room)
                to_queries(
                    slopes, k[b, g, :keys], key_room, dq[b, first : first + count, h], zero, first, count, causal
                )
                to_keys(slopes, queries, query_room, dk[b, :keys, g], first, keys, causal)
                to_keys(weights, rows, dy_room, dv[b, :keys, g], first, keys, causal)


def unit_rows(x):
    """x itself if its last stride is one element and its rows do not overlap (few_queries hands them to BLAS), else a
    copy.
    """
    down, along = x.strides[-2:]
    return x if along == 4 and down >= 4 * x.shape[-1] and down % 4 == 0 else np.ascontiguousarray(x)


def dropout_of(drop):
    """What the kernels take of dropout: threshold, factor, seed, stream and first block."""
    if drop is None:
        return KEEPS_ALL
    threshold, factor, (seed, stream, first) = drop
    return np.uint32(threshold), F(factor), U64(seed), U64(stream), U64(first)


def attention(q, k, v, mask, drop, scale, causal):
    """softmax(scale q k^T + mask) v, and the logarithm of each softmax's sum. Shapes as in the head; none
    empty.
    """
    (B, H, T, _), E = q.shape, v.shape[3]
    y, logs = np.empty((B, T, H, E), np.float32), np.empty((B, H, T), np.float32)
    mask = NOTHING if mask is None else mask
    arguments = unit_rows(q), unit_rows(k), unit_rows(v), mask, dropout_of(drop), y, logs, F(scale), causal
    if T <= FEW and FOUND is not None:
        with single_threaded_blas:
            few_queries(*arguments)
    else:
        forward(*arguments)
    return y.transpose(0, 2, 1, 3), logs


def attention_gradient(g, q, k, v, mask, drop, y, logs, scale, causal, mask_too=False):
    """The gradients of q, k and v, and that of the mask, (B, H, T, S), if `mask_too`, else None.

    y serves the GPU's kernel: here a row's sum of P dP is made of the weights, which are at hand.
    """
    B, H, T, S = *q.shape[:3], k.shape[2]
    dq, dk, dv = (np.empty((x.shape[0], x.shape[2], x.shape[1], x.shape[3]), np.float32) for x in (q, k, v))
    dmask = np.zeros((B, H, T, S), np.float32) if mask_too else NOTHING
    mask = NOTHING if mask is None else mask
    g, q, k, v = unit_rows(g), unit_rows(q), unit_rows(k), unit_rows(v)
    backward(g, q, k, v, mask, dropout_of(drop), logs, dq, dk, dv, dmask, F(scale), causal)
    dq, dk, dv = (x.transpose(0, 2, 1, 3) for x in (dq, dk, dv))
    return dq, dk, dv, dmask if mask_too else None


def attention_decode(q, k, v, length, scale):
    """softmax(scale q k^T) v of one query a head, q (B, H, 1, D), over the first length[b] keys: (B, H, 1, E)."""
    (B, H, _, D), S, E = q.shape, k.shape[2], v.shape[3]
    y = np.empty((B, H, E), np.float32)
    dense = np.ascontiguousarray
    run = choose(one_query, B * H * S * (D + E), SERIAL)
    run(dense(q[:, :, 0]), dense(k), dense(v), dense(length), y, F(scale))
    return y.reshape(B, H, 1, E)
