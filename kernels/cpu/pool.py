"""Pooling: windows reduced to their largest element or their sum, and the way back.

    max_pool(x, kernel, count, window)        -> y, places: where each largest stands in the flattened last dimensions
    take(x, places)                           -> y: x at such places
    put(y, places, size)                      -> x: zeros of `size`, and y added at its places
    sum_pool(x, kernel, count, window, scale) -> y: scale times the sum
    spread(y, kernel, size, window, scale)    -> x: scale times each window's number added to all its places

x is (N, C, ...) with one to three dimensions more, in either memory order; the results lie as x does. Seen as
(outer, D, H, W, inner), channels last means `inner` numbers side by side at each place, channels first means 1.
`spread` and `put` add within one (N, C) plane by one thread, so they need no atomics.

Floor: read x, write y (and 8 bytes a place for where it stood).
"""

from functools import lru_cache

import numpy as np
from numba import prange

from .compile import choose, inline_sums, kernel
from .layout import from_planes, inside, planes, three

F = np.float32
SLICE = 64  # of the channels, where they are last: what one task takes of a plane


@inline_sums
def visible(q, size, taps, stride, padding, dilation):
    """The first tap of window q that lies inside, and the one after the last."""
    at = stride * q - padding
    first = max(0, -(at // dilation)) if at < 0 else 0
    return first, min(taps, (size - 1 - at) // dilation + 1)


@kernel
def largest(x, y, places, taps, stride, padding, dilation):
    """Of equals the first; a NaN counts as the largest. Of no taps, which a dilated window may see, it is -inf."""
    outer, D, H, W, inner = x.shape
    rows = y.shape[1] * y.shape[2]
    for task in prange(outer * rows):
        n, q_d, q_h = task // rows, task // y.shape[2] % y.shape[1], task % y.shape[2]
        d_first, d_last = visible(q_d, D, taps[0], stride[0], padding[0], dilation[0])
        h_first, h_last = visible(q_h, H, taps[1], stride[1], padding[1], dilation[1])
        for q_w in range(y.shape[3]):
            w_first, w_last = visible(q_w, W, taps[2], stride[2], padding[2], dilation[2])
            best, where = y[n, q_d, q_h, q_w], places[n, q_d, q_h, q_w]
            best[:], where[:] = -np.inf, 0
            fresh = True
            for t_d in range(d_first, d_last):
                d = stride[0] * q_d - padding[0] + dilation[0] * t_d
                for t_h in range(h_first, h_last):
                    h = stride[1] * q_h - padding[1] + dilation[1] * t_h
                    for t_w in range(w_first, w_last):
                        w = stride[2] * q_w - padding[2] + dilation[2] * t_w
                        seen, place = x[n, d, h, w], (d * H + h) * W + w
                        if fresh:
                            for c in range(inner):
                                best[c] = seen[c]
                                where[c] = place
                            fresh = False
                        else:
                            for c in range(inner):
                                v = seen[c]
                                better = (v > best[c]) | (v != v)
                                best[c] = v if better else best[c]
                                where[c] = place if better else where[c]


@inline_sums
def add_line(line, at, first, last, apart, total):
    """total += line[at + apart t] for t from first to last, eight at a time: a sum is loaded and stored once."""
    for t in range(first, last - 7, 8):
        w = at + apart * t
        a, b, p, q = line[w], line[w + apart], line[w + 2 * apart], line[w + 3 * apart]
        d, e, r, s = line[w + 4 * apart], line[w + 5 * apart], line[w + 6 * apart], line[w + 7 * apart]
        for c in range(total.size):
            total[c] += ((a[c] + b[c]) + (p[c] + q[c])) + ((d[c] + e[c]) + (r[c] + s[c]))
    for t in range(first + max(0, last - first) // 8 * 8, last):
        a = line[at + apart * t]
        for c in range(total.size):
            total[c] += a[c]


@kernel
def sums(x, y, taps, stride, padding, dilation, scale):
    outer, D, H, W, inner = x.shape
    rows = y.shape[1] * y.shape[2]
    for task in prange(outer * rows):
        n, q_d, q_h = task // rows, task // y.shape[2] % y.shape[1], task % y.shape[2]
        d_first, d_last = visible(q_d, D, taps[0], stride[0], padding[0], dilation[0])
        h_first, h_last = visible(q_h, H, taps[1], stride[1], padding[1], dilation[1])
        for q_w in range(y.shape[3]):
            w_first, w_last = visible(q_w, W, taps[2], stride[2], padding[2], dilation[2])
            total = y[n, q_d, q_h, q_w]
            total[:] = F(0)
            for t_d in range(d_first, d_last):
                d = stride[0] * q_d - padding[0] + dilation[0] * t_d
                for t_h in range(h_first, h_last):
                    h = stride[1] * q_h - padding[1] + dilation[1] * t_h
                    add_line(x[n, d, h], stride[2] * q_w - padding[2], w_first, w_last, dilation[2], total)
            for c in range(inner):
                total[c] *= scale


@kernel
def spread_sums(y, x, taps, stride, padding, dilation, scale):
    outer, D, H, W, inner = x.shape
    parts = (inner + SLICE - 1) // SLICE
    for task in prange(outer * parts):
        n, begin, end = task // parts, task % parts * SLICE, min(inner, (task % parts + 1) * SLICE)
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    x[n, d, h, w, begin:end] = F(0)
        for q_d in range(y.shape[1]):
            d_first, d_last = visible(q_d, D, taps[0], stride[0], padding[0], dilation[0])
            for q_h in range(y.shape[2]):
                h_first, h_last = visible(q_h, H, taps[1], stride[1], padding[1], dilation[1])
                for q_w in range(y.shape[3]):
                    w_first, w_last = visible(q_w, W, taps[2], stride[2], padding[2], dilation[2])
                    given = y[n, q_d, q_h, q_w, begin:end]
                    for t_d in range(d_first, d_last):
                        d = stride[0] * q_d - padding[0] + dilation[0] * t_d
                        for t_h in range(h_first, h_last):
                            h = stride[1] * q_h - padding[1] + dilation[1] * t_h
                            for t_w in range(w_first, w_last):
                                to = x[n, d, h, stride[2] * q_w - padding[2] + dilation[2] * t_w, begin:end]
                                for c in range(end - begin):
                                    to[c] += scale * given[c]


@kernel
def taken(x, places, y):
    """x (outer, P, inner), places and y (outer, Q, inner)."""
    outer, Q, inner = y.shape
    for n in prange(outer):
        for q in range(Q):
            for c in range(inner):
                y[n, q, c] = x[n, places[n, q, c], c]


@kernel
def put_back(y, places, x):
    outer, Q, inner = y.shape
    parts = (inner + SLICE - 1) // SLICE
    for task in prange(outer * parts):
        n, begin, end = task // parts, task % parts * SLICE, min(inner, (task % parts + 1) * SLICE)
        for p in range(x.shape[1]):
            x[n, p, begin:end] = F(0)
        for q in range(Q):
            for c in range(begin, end):
                x[n, places[n, q, c], c] += y[n, q, c]


# ---------------------------------------------------------------------------------------------------------------------
# What the ops call. `window` is (stride, padding, dilation, groups); nothing is empty.


@lru_cache(256)
def geometry(kernel, window):
    stride, padding, dilation = window[:3]
    return three(kernel, 1), three(stride, 1), three(padding, 0), three(dilation, 1)


def empty_planes(like, size, dtype=F):
    """An array for a result of `size` beside `like`, (outer, D, H, W, inner)."""
    return np.empty((like.shape[0], *three(size, 1), like.shape[4]), dtype)


def max_pool(x, kernel, count, window):
    """The largest element of each window, and where it stands."""
    source, last = planes(x)
    y, places = empty_planes(source, count), empty_planes(source, count, np.int64)
    choose(largest, x.size)(source, y, places, *geometry(kernel, window))
    return from_planes(y, x, last), from_planes(places, x, last)


def sum_pool(x, kernel, count, window, scale=1.0):
    """`scale` times the sum of each window."""
    source, last = planes(x)
    y = empty_planes(source, count)
    choose(sums, x.size)(source, y, *geometry(kernel, window), F(scale))
    return from_planes(y, x, last)


def spread(y, kernel, size, window, scale=1.0):
    """`scale` times each window's number, added to all its places."""
    given, last = planes(y)
    x = empty_planes(given, size)
    choose(spread_sums, x.size)(given, x, *geometry(kernel, window), F(scale))
    return from_planes(x, y, last)


def take(x, places):
    """x (N, C, ...) at places counted in its flattened last dimensions, an array of the shape of `places`."""
    where, last = planes(places)
    source = inside(x) if last else np.ascontiguousarray(x)
    y = empty_planes(where, places.shape[2:])
    outer, inner = where.shape[0], where.shape[4]
    run = choose(taken, x.size)
    run(source.reshape(outer, -1, inner), where.reshape(outer, -1, inner), y.reshape(outer, -1, inner))
    return from_planes(y, places, last)


def put(y, places, size, pooled=None):
    """Zeros (N, C, *size), and y added at its places. pooled, their windows, is for the GPU."""
    where, last = planes(places)
    given = inside(y) if last else np.ascontiguousarray(y)
    x = empty_planes(where, size)
    outer, inner = where.shape[0], where.shape[4]
    run = choose(put_back, x.size)
    run(given.reshape(outer, -1, inner), where.reshape(outer, -1, inner), x.reshape(outer, -1, inner))
    return from_planes(x, y, last)
