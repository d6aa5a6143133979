"""The gradients of a convolution for its weight and bias: products over all places, cut into a fixed number of parts.

    dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t]
    db[o]       = sum over n, q of g[n, o, q]                                               in the same pass over g

The places are cut into parts by the shapes alone; each part is summed by one thread, and the parts are added in order.
Floor: 2 N P O C T operations, as many as the convolution itself. A tile of ROWS (tap, channel) pairs by WIDTH outputs
is summed in registers over a block of places (tiles.py). Blocks, and what they see, are the convolution's (places.py).
"""

import math

import numpy as np
from numba import prange

from .compile import inline, kernel
from .layout import inside, three
from .places import TASKS, first_of, places_of, seen, upright
from .reduce import sum_leading
from .tiles import ROWS, WIDTH, turned_tile
from .vector_math import fma

F = np.float32
SMALL = 1 << 15  # numbers in what one task adds up: an eighth of a megabyte
FEW = 4  # outputs, up to so many of which x's channels take the outputs' part


@inline
def add_four(total, a, b, c, d):
    return total + ((a + b) + (c + d))


@kernel
def products(x, g, parts, sums, outputs, channels, places, slices):
    """parts[i, (t, c), o] and, unless it is empty, sums[i, o]: the sums over the i-th part of the blocks. A task is a
    part, a group and a slice of (t, c).
    """
    count, stride, start, block, blocks, box, span, at, lags, _, _ = places
    K, O = parts.shape[1:]
    groups = O // outputs
    flat_g = g.reshape(g.size)
    pieces = (outputs + WIDTH - 1) // WIDTH
    whole = outputs % WIDTH == 0
    for task in prange(parts.shape[0] * groups * slices):
        part, group, slice = task // (groups * slices), task // slices % groups, task % slices
        begin, end = K * slice // slices, K * (slice + 1) // slices
        mine = parts[part].reshape(K * O)
        for k in range(begin, end):
            mine[k * O + group * outputs : k * O + (group + 1) * outputs] = F(0)
        with_sums = slice == 0 and sums.size > 0
        if with_sums:
            sums[part, group * outputs : (group + 1) * outputs] = F(0)
        tile, some = np.empty(ROWS * WIDTH, F), np.empty(ROWS, np.int64)
        for number in range(blocks * part // parts.shape[0], blocks * (part + 1) // parts.shape[0]):
            n, q_d, q_h, samples, lines = first_of(number, x.shape[0], count, block)
            sight = seen(x, number, count, stride, start, block, box, span)[group * channels :]
            rows = samples * lines * count[2]
            given = flat_g[((n * count[0] + q_d) * count[1] + q_h) * count[2] * O + group * outputs :]
            if with_sums:
                total = sums[part, group * outputs : (group + 1) * outputs]
                for p in range(0, rows - rows % 4, 4):  # four at once: each addition to `total` waits for the last
                    a, b, c, d = given[p * O :], given[(p + 1) * O :], given[(p + 2) * O :], given[(p + 3) * O :]
                    for o in range(outputs):
                        total[o] = add_four(total[o], a[o], b[o], c[o], d[o])
                for p in range(rows - rows % 4, rows):
                    a = given[p * O :]
                    for o in range(outputs):
                        total[o] += a[o]
            apart, along = O, WIDTH
            if not whole:  # tiles are WIDTH wide: fill up with zeros
                apart, along = WIDTH, rows * WIDTH
                filled = np.empty(pieces * rows * WIDTH, F)
                for piece in range(pieces):
                    width = min(WIDTH, outputs - piece * WIDTH)
                    for p in range(rows):
                        to, row = filled[(piece * rows + p) * WIDTH :], given[p * O + piece * WIDTH :]
                        for o in range(width):
                            to[o] = row[o]
                        to[width:WIDTH] = F(0)
                given = filled
            for piece in range(pieces):
                first = group * outputs + piece * WIDTH
                width = min(WIDTH, outputs - piece * WIDTH)
                for k in range(begin, end, ROWS):
                    few = min(ROWS, end - k)
                    full = few == ROWS and width == WIDTH
                    if not full:  # such a tile holds its last row again and again
                        for i in range(ROWS):
                            some[i] = lags[k + min(i, few - 1)]
                        tile[:] = F(0)
                    which, to = (lags[k:], mine[k * O + first :]) if full else (some, tile)
                    turned_tile(sight, at[:rows], which, given[piece * along :], apart, to, O if full else WIDTH)
                    if not full:
                        for i in range(few):
                            total, more = mine[(k + i) * O + first :], tile[i * WIDTH :]
                            for o in range(width):
                                total[o] += more[o]


@kernel
def products_each(x, g, parts, count, taps, stride, start, step):
    """For as many groups as channels, each its own: parts (., t, c)."""
    N, D, H, W, C = x.shape
    places = N * count[0] * count[1] * count[2]
    flat_g = g.reshape(g.size // C, C)
    for part in prange(parts.shape[0]):
        parts[part] = F(0)
        for p in range(places * part // parts.shape[0], places * (part + 1) // parts.shape[0]):
            line = p // count[2]
            n, q_d, q_h = line // (count[0] * count[1]), line // count[1] % count[0], line % count[1]
            factors = flat_g[p]
            for r in range(taps[0] * taps[1]):
                d = q_d * stride[0] + start[0] + r // taps[1] * step[0]
                h = q_h * stride[1] + start[1] + r % taps[1] * step[1]
                if 0 <= d < D and 0 <= h < H:
                    for t in range(taps[2]):
                        w = p % count[2] * stride[2] + start[2] + t * step[2]
                        if 0 <= w < W:
                            here, to = x[n, d, h, w], parts[part, r * taps[2] + t]
                            for c in range(C):
                                to[c] = fma(here[c], factors[c], to[c])


@kernel
def add_parts(parts, dw, step):
    """dw[o, c, t] = the sum over the parts, in order, of parts[., (t, c), o]. A task is `step` channels."""
    O, C, T = dw.shape
    for task in prange((C + step - 1) // step):
        first, last = task * step, min(C, (task + 1) * step)
        total = np.empty(((last - first) * T, O), F)
        for c in range(first, last):
            for t in range(T):
                row = total[(c - first) * T + t]
                row[:] = F(0)
                for part in range(parts.shape[0]):
                    more = parts[part, t * C + c]
                    for o in range(O):
                        row[o] += more[o]
        for o in range(O):
            to = dw[o].reshape(C * T)[first * T : last * T]
            for i in range(to.size):
                to[i] = total[i, o]


def correlate(x, g, kernel_size, window):
    """dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), g (N, O, ...) -> (O, C / groups, *kernel_size); none of them empty.
    """
    return _gradients(x, g, kernel_size, window, None, None)


def parameter_gradients(x, g, kernel_size, window, with_bias, into=(None, None)):
    """(dw, db) of the head, db None unless it is wanted; in the arrays `into` where they are given."""
    db = None
    if with_bias:
        db = np.empty(g.shape[1], F) if into[1] is None else into[1]
    return _gradients(x, g, kernel_size, window, into[0], db), db


def _gradients(x, g, kernel_size, window, into, db):
    stride, padding, dilation, groups = window
    if groups == 1 and g.shape[1] <= FEW < x.shape[1] and max(stride) == 1:
        # x's places are as many as g's: let x's channels be the many outputs, and g what is seen, from the last tap on
        before = tuple([d * (k - 1) - p for k, p, d in zip(kernel_size, padding, dilation)])
        dw = _gradients(g, x, kernel_size, (stride, before, dilation, 1), None, None)
        if db is not None:
            sum_leading(inside(g), db)
        dw = np.flip(dw, tuple(range(2, dw.ndim))).swapaxes(0, 1)
        if into is None:
            return dw
        into[...] = dw
        return into
    x, g = inside(x), inside(g)
    O, channels, T = g.shape[4], x.shape[4] // groups, math.prod(kernel_size)
    count, taps, stride, step = g.shape[1:4], three(kernel_size, 1), three(stride, 1), three(dilation, 1)
    start = three([-p for p in padding], 0)
    if channels == 1 < groups == O:
        parts = np.empty((max(1, min(TASKS, g.shape[0] * math.prod(count) // 256)), T, O), F)
        products_each(x, g, parts, count, taps, stride, start, step)
        if db is not None:
            sum_leading(g, db)
    else:
        shape, to_shape, *geometry = upright(x.shape, g.shape, count, taps, stride, start, step)
        places = places_of(shape, channels, *geometry)
        K = T * channels
        slices = max(1, min(-(-K * O // SMALL), TASKS, K // ROWS))
        parts = np.empty((max(1, min(-(-TASKS // slices), places.blocks)), K, O), F)
        sums = np.empty((len(parts), 0 if db is None else O), F)
        products(x.reshape(shape), g.reshape(to_shape), parts, sums, O // groups, channels, places, slices)
        if db is not None:
            np.add.reduce(sums, axis=0, out=db)
    dw = np.empty((O, channels, *kernel_size), F) if into is None else into
    add_parts(parts, dw.reshape(O, channels, T), max(4, 16 // T))
    return dw
