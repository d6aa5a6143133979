"""The gradient of a convolution for its weight: products over all places, cut into a fixed number of parts.

    dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t]

The places are cut into parts by the shapes alone; each part is summed by one thread, and the parts are added in order.
Floor: 2 N P O C T operations, as many as the convolution itself.
"""

import math

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_tn, single_threaded_blas
from .columns import BLOCK, FEW, TASKS, gather, gather_rows, line_of, padded
from .compile import kernel
from .layout import inside, three

F = np.float32
LARGEST = 1 << 22  # numbers in all parts together
WIDE = 64  # numbers in a tap row from which on it makes a product of its own
DEEP = 512  # rows of a block beyond which products slow down
# parts[i, (t, c), o] is the sum over the i-th part of the places.


@kernel
def products_many(x, g, parts, groups, count, taps, stride, start, step, block, rows):
    """For any number of channels. A task is one part, one group and `rows` tap rows."""
    N, C, O = x.shape[0], x.shape[4], g.shape[4]
    places, channels, outputs = N * count[0] * count[1] * count[2], C // groups, O // groups
    one_tap = taps[0] * taps[1] * taps[2] == 1 and start[0] == 0 and start[1] == 0 and start[2] == 0
    as_it_is = one_tap and count[0] == x.shape[1] and count[1] == x.shape[2] and count[2] == x.shape[3]
    flat_x, flat_g = x.reshape(x.size // C, C), g.reshape(g.size // O, O)
    several, width = taps[0] * taps[1] // rows, taps[2] * channels
    for task in prange(parts.shape[0] * groups * several):
        part, group, row = task // (groups * several), task // several % groups, task % several * rows
        begin, end = places * part // parts.shape[0], places * (part + 1) // parts.shape[0]
        to = parts[part, row * width : (row + rows) * width, group * outputs : (group + 1) * outputs]
        for first in range(begin, end, block):  # the first product writes, the others add
            last = min(end, first + block)
            if as_it_is:
                seen = flat_x[first:last, group * channels : (group + 1) * channels]
            else:
                seen = np.empty((last - first, rows * width), np.float32)
                gather(x, seen, first, last, group * channels, channels, count, taps, stride, start, step, row, rows)
            gemm_tn(seen, flat_g[first:last, group * outputs : (group + 1) * outputs], to, first > begin)


@kernel
def products_few_in(x, g, parts, groups, count, taps, stride, start, step, block):
    """For up to FEW channels of x a group."""
    N, C, O = x.shape[0], x.shape[4], g.shape[4]
    places, channels, outputs, K = N * count[0] * count[1] * count[2], C // groups, O // groups, parts.shape[1]
    flat_g = g.reshape(g.size // O, O)
    for task in prange(parts.shape[0] * groups):
        part, group = task // groups, task % groups
        begin, end = places * part // parts.shape[0], places * (part + 1) // parts.shape[0]
        to = parts[part, :, group * outputs : (group + 1) * outputs]
        for first in range(begin, end, block):  # the first product writes, the others add
            last = min(end, first + block)
            seen = np.empty((K, last - first), np.float32)
            gather_rows(x, seen, first, last, group * channels, channels, count, taps, stride, start, step)
            gemm_nn(seen, flat_g[first:last, group * outputs : (group + 1) * outputs], to, first > begin)


@kernel
def products_each(x, g, parts, count, taps, stride, start, step):
    """For as many groups as channels, each its own: parts (., t, c)."""
    N, D, H, W, C = x.shape
    places = N * count[0] * count[1] * count[2]
    flat_g = g.reshape(g.size // C, C)
    for part in prange(parts.shape[0]):
        parts[part] = F(0)
        for p in range(places * part // parts.shape[0], places * (part + 1) // parts.shape[0]):
            n, q_d, q_h = line_of(p, count)
            factors = flat_g[p]
            for r in range(taps[0] * taps[1]):
                d = q_d * stride[0] + start[0] + r // taps[1] * step[0]
                h = q_h * stride[1] + start[1] + r % taps[1] * step[1]
                if 0 <= d < D and 0 <= h < H:
                    for t in range(taps[2]):
                        w = p % count[2] * stride[2] + start[2] + t * step[2]
                        if 0 <= w < W:
                            seen, to = x[n, d, h, w], parts[part, r * taps[2] + t]
                            for c in range(C):
                                to[c] += seen[c] * factors[c]


@kernel
def add_parts(parts):
    """parts[0] becomes the sum of all, added in order."""
    for row in prange(parts.shape[1]):
        total = parts[0, row]
        for part in range(1, parts.shape[0]):
            more = parts[part, row]
            for i in range(total.size):
                total[i] += more[i]


def correlate(x, g, kernel_size, window):
    """dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), g (N, O, ...) -> (O, C / groups, *kernel_size), not contiguous; none of them empty.
    """
    stride, padding, dilation, groups = window
    if groups == 1 and g.shape[1] <= FEW < x.shape[1] and max(stride) == 1:
        # x's places are as many as g's: let x's channels be the many outputs, and g what is seen, from the last tap on
        before = tuple([d * (k - 1) - p for k, p, d in zip(kernel_size, padding, dilation)])
        dw = correlate(g, x, kernel_size, (stride, before, dilation, 1))
        return np.flip(dw, tuple(range(2, dw.ndim))).swapaxes(0, 1)
    x, g = inside(x), inside(g)
    O, channels, T = g.shape[4], x.shape[4] // groups, math.prod(kernel_size)
    taps, count = three(kernel_size, 1), g.shape[1:4]
    places, K = g.shape[0] * math.prod(count), T * channels
    geometry = count, taps, three(stride, 1), three([-p for p in padding], 0)
    step = three(dilation, 1)
    rows = 1 if taps[2] * channels >= WIDE else taps[0] * taps[1]
    each = channels == 1 < groups == O
    tasks = 1 if each else groups * (taps[0] * taps[1] // rows)
    parts = max(1, min(-(-TASKS // tasks), places // 256, LARGEST // (O * K)))
    parts = np.empty((parts, T if each else K, O), np.float32)
    block = max(16, min(BLOCK // (K if channels <= FEW else rows * taps[2] * channels), DEEP))
    with single_threaded_blas:
        if each:
            products_each(x, g, parts, *geometry, step)
        elif channels <= FEW:
            x, start = padded(x, *geometry, step)
            products_few_in(x, g, parts, groups, *geometry[:3], start, step, block)
        else:
            products_many(x, g, parts, groups, *geometry, step, block, rows)
    if len(parts) > 1:
        add_parts(parts)
    return parts[0].reshape(T, channels, O).transpose(2, 1, 0).reshape(O, channels, *kernel_size)
