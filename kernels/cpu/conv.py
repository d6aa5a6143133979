"""Convolution of channels-last arrays: im2col into a block that fits the cache, then a product, in one parallel loop.

Everything here is one sum. With q a place of the result and t a tap of the kernel (each three indices),

    y[n, phase + jump q, o] = bias[o] + sum over t, c of x[n, stride q + start + step t, c] weight[o, t, c]

where x is 0 outside its bounds. A convolution is that with start = -padding and step = dilation. So is the transposed
one, in stride x stride x ... phases: the places of its result that leave the same remainder modulo the stride see the
same taps, in reverse order, one step apart. No two terms are added to one place by two threads, so any number of
threads gives the same bits.

    convolve(x, weight, bias, size, window)     the convolution
    spread(g, weight, bias, size, window)       the transposed one, which is the convolution's gradient for x
    correlate(x, g, kernel_size, window)        its gradient for the weight (conv_weight.py)
    sum_positions(g)                            its gradient for the bias

window is (stride, padding, dilation, groups). Arrays come and go as (N, C, ...); what comes out lies in memory as
(N, ..., C), and what comes in so is not copied.

Floor: 2 N P O C T operations for P places, C and O channels and T taps. What makes it fast:

v1  channels first: a column's elements lie far apart                          1.4 to 3.7 times slower than
v2  channels last: each tap row is one run of kernel_width x C numbers         1.0
v3  kernels of one tap read x itself; up to 4 input channels the block is built transposed, so that its rows, not its
    columns, are long; up to 4 output channels, and depthwise, a product is a waste, and plain sums win  <- this file
"""

import itertools
import math

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_tn, single_threaded_blas
from .columns import BLOCK, FEW, TASKS, gather, gather_rows, line_of, padded, place_tile
from .compile import kernel
from .conv_weight import correlate  # noqa: F401
from .layout import inside, outside, three
from .reduce import sum_leading

LEAST = 4  # pieces of work to aim at even where there is little
BAND = 16  # lines of the result that a task takes where outputs are few
TALL = 128  # rows of a block below which a product wastes its time on packing the weights

# weight is (groups, T C / groups, O / groups), where nothing else is said.


@kernel
def sum_many(x, weight, bias, y, count, taps, stride, start, step, phase, jump, block, across):
    """For any number of channels. A task is `block` places, one group, and its `across`-th part of the
    outputs.
    """
    N, C, O = x.shape[0], x.shape[4], y.shape[4]
    groups, K, outputs = weight.shape
    places, channels = N * count[0] * count[1] * count[2], C // groups
    one_tap = taps[0] * taps[1] * taps[2] == 1 and start[0] == 0 and start[1] == 0 and start[2] == 0
    as_it_is = one_tap and count[0] == x.shape[1] and count[1] == x.shape[2] and count[2] == x.shape[3]
    in_place = jump[0] == 1 and jump[1] == 1 and jump[2] == 1
    flat_x, flat_y = x.reshape(x.size // C, C), y.reshape(y.size // O, O)
    blocks = (places + block - 1) // block
    for task in prange(blocks * groups * across):
        first, group, part = task // (groups * across) * block, task // across % groups, task % across
        last = min(places, first + block)
        begin, end = outputs * part // across, outputs * (part + 1) // across
        at = group * outputs + begin
        if in_place:
            fresh = np.empty((0, 0), np.float32)
            for p in range(first, last):
                flat_y[p, at : at + end - begin] = bias[at : at + end - begin]
            tile = flat_y[first:last, at : at + end - begin]
        else:
            fresh = np.empty((last - first, end - begin), np.float32)
            for i in range(last - first):
                fresh[i] = bias[at : at + end - begin]
            tile = fresh
        if as_it_is:
            seen = flat_x[first:last, group * channels : (group + 1) * channels]
        else:
            seen = np.empty((last - first, K), np.float32)
            gather(
                x, seen, first, last, group * channels, channels, count, taps, stride, start, step, 0, taps[0] * taps[1]
            )
        gemm_nn(seen, weight[group, :, begin:end], tile, 1)
        if not in_place:
            place_tile(fresh, y, first, at, count, phase, jump)


@kernel
def sum_few_in(x, weight, bias, y, count, taps, stride, start, step, phase, jump, block):
    """For up to FEW channels of x a group: the same with the columns transposed."""
    N, C, O = x.shape[0], x.shape[4], y.shape[4]
    groups, K, outputs = weight.shape
    places, channels = N * count[0] * count[1] * count[2], C // groups
    in_place = jump[0] == 1 and jump[1] == 1 and jump[2] == 1
    flat_y = y.reshape(y.size // O, O)
    for task in prange((places + block - 1) // block * groups):
        first, group = task // groups * block, task % groups
        last, at = min(places, first + block), group * outputs
        if in_place:
            fresh = np.empty((0, 0), np.float32)
            for p in range(first, last):
                flat_y[p, at : at + outputs] = bias[at : at + outputs]
            tile = flat_y[first:last, at : at + outputs]
        else:
            fresh = np.empty((last - first, outputs), np.float32)
            for i in range(last - first):
                fresh[i] = bias[at : at + outputs]
            tile = fresh
        seen = np.empty((K, last - first), np.float32)
        gather_rows(x, seen, first, last, group * channels, channels, count, taps, stride, start, step)
        gemm_tn(seen, weight[group], tile, 1)
        if not in_place:
            place_tile(fresh, y, first, at, count, phase, jump)


@kernel
def sum_few_out(x, weight, bias, y, count, taps, stride, start, step, phase, jump, band):
    """For up to FEW outputs and one group: the product comes first, for all taps at once, and its columns are added up
    where they belong. A task is `band` lines of the result. weight (T_d, C, (t_h, t_w, o)).
    """
    N, D, H, W, C = x.shape
    O = y.shape[4]
    bands = (count[1] + band - 1) // band
    for task in prange(N * count[0] * bands):
        n, q_d, first = task // (count[0] * bands), task // bands % count[0], task % bands * band
        last = min(count[1], first + band)
        top = max(0, stride[1] * first + start[1])
        bottom = max(top, min(H, stride[1] * (last - 1) + start[1] + (taps[1] - 1) * step[1] + 1))
        plane = y[n, phase[0] + jump[0] * q_d]
        products = np.empty(((bottom - top) * W, weight.shape[2]), np.float32)
        for q_h in range(first, last):
            for q_w in range(count[2]):
                for o in range(O):
                    plane[phase[1] + jump[1] * q_h, phase[2] + jump[2] * q_w, o] = bias[o]
        for t_d in range(taps[0]):
            d = stride[0] * q_d + start[0] + t_d * step[0]
            if d < 0 or d >= D or top == bottom:
                continue
            gemm_nn(x[n, d, top:bottom].reshape((bottom - top) * W, C), weight[t_d], products, 0)
            for q_h in range(first, last):
                line = plane[phase[1] + jump[1] * q_h]
                for t_h in range(taps[1]):
                    h = stride[1] * q_h + start[1] + t_h * step[1]
                    if h < top or h >= bottom:
                        continue
                    for t_w in range(taps[2]):
                        at = (t_h * taps[2] + t_w) * O
                        for q_w in range(count[2]):
                            w = stride[2] * q_w + start[2] + t_w * step[2]
                            if 0 <= w < W:
                                for o in range(O):
                                    line[phase[2] + jump[2] * q_w, o] += products[(h - top) * W + w, at + o]


@kernel
def sum_each(x, weight, bias, y, count, taps, stride, start, step, phase, jump, block):
    """For as many groups as channels, each its own (depthwise): no product, but C sums at once. weight (T, C)."""
    N, D, H, W, C = x.shape
    places = N * count[0] * count[1] * count[2]
    for task in prange((places + block - 1) // block):
        for p in range(task * block, min(places, (task + 1) * block)):
            n, q_d, q_h = line_of(p, count)
            q_w = p % count[2]
            to = y[n, phase[0] + jump[0] * q_d, phase[1] + jump[1] * q_h, phase[2] + jump[2] * q_w]
            for c in range(C):
                to[c] = bias[c]
            for r in range(taps[0] * taps[1]):
                d = q_d * stride[0] + start[0] + r // taps[1] * step[0]
                h = q_h * stride[1] + start[1] + r % taps[1] * step[1]
                if 0 <= d < D and 0 <= h < H:
                    for t in range(taps[2]):
                        w = q_w * stride[2] + start[2] + t * step[2]
                        if 0 <= w < W:
                            seen, factors = x[n, d, h, w], weight[r * taps[2] + t]
                            for c in range(C):
                                to[c] += seen[c] * factors[c]


def add_up(x, weight, bias, y, count, taps, stride, start, step, phase, jump):
    """The sum of the head by the kernel that suits its numbers of channels."""
    groups, K, outputs = weight.shape
    places, channels = x.shape[0] * math.prod(count), x.shape[4] // groups
    geometry = count, taps, stride, start, step, phase, jump
    if groups == 1 and outputs <= FEW < channels:
        weight = weight.reshape(taps[0], -1, channels, outputs).transpose(0, 2, 1, 3).reshape(taps[0], channels, -1)
        sum_few_out(x, np.ascontiguousarray(weight), bias, y, *geometry, BAND)
        return
    if channels == outputs == 1 < groups:
        sum_each(x, np.ascontiguousarray(weight[:, :, 0].T), bias, y, *geometry, max(64, places // 64))
        return
    block = min(max(TALL, places // TASKS), max(TALL, BLOCK // K))
    block -= block % count[2] if block > count[2] else 0
    if channels <= FEW:
        x, start = padded(x, count, taps, stride, start, step)
        sum_few_in(x, weight, bias, y, count, taps, stride, start, step, phase, jump, block)
    else:
        tasks = -(-places // block) * groups
        across = max(1, min(-(-LEAST // tasks), outputs // 64))
        sum_many(x, weight, bias, y, *geometry, block, across)


def convolve(x, weight, bias, size, window):
    """y[n, o, q] = bias[o] + sum over c, t of weight[o, c, t] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), weight (O, C / groups, ...), bias (O,) or None -> (N, O, *size); none of them empty.
    """
    stride, padding, dilation, groups = window
    O, channels, *taps = weight.shape
    x, size = inside(x), three(size, 1)
    y = np.empty((x.shape[0], *size, O), np.float32)
    factors = weight.reshape(groups, O // groups, channels, -1).transpose(0, 3, 2, 1)
    factors = np.ascontiguousarray(factors).reshape(groups, -1, O // groups)
    start = three([-p for p in padding], 0)
    geometry = size, three(taps, 1), three(stride, 1), start, three(dilation, 1), (0, 0, 0), (1, 1, 1)
    with single_threaded_blas:
        add_up(x, factors, np.zeros(O, np.float32) if bias is None else bias, y, *geometry)
    return outside(y, len(taps))


def spread(g, weight, bias, size, window):
    """y[n, c, p] = bias[c] + sum over o and all q, t with
    p = stride q - padding + dilation t of weight[o, c, t] g[n, o, q].

    g (N, O, ...), weight (O, C / groups, ...), bias (C,) or None -> (N, C, *size); none of them empty.
    """
    stride, padding, dilation, groups = window
    O, channels, *taps = weight.shape
    g, size, jump = inside(g), three(size, 1), three(stride, 1)
    y = np.empty((g.shape[0], *size, channels * groups), np.float32)
    bias = np.zeros(channels * groups, np.float32) if bias is None else bias
    factors = weight.reshape(groups, O // groups * channels, *three(taps, 1)).transpose(0, 2, 3, 4, 1)
    lines = zip(size, three(taps, 1), jump, three(padding, 0), three(dilation, 1))
    with single_threaded_blas:
        for phases in itertools.product(*[list(phases_of(*line)) for line in lines]):
            phase, count, reach, start, step = zip(*phases)
            if 0 in map(len, reach):
                y[:, phase[0] :: jump[0], phase[1] :: jump[1], phase[2] :: jump[2]] = bias
                continue
            d, h, w = [slice(r.start, r.stop if r.stop >= 0 else None, r.step) for r in reach]
            some = np.ascontiguousarray(factors[:, d, h, w]).reshape(groups, -1, channels)
            add_up(g, some, bias, y, count, tuple(map(len, reach)), (1, 1, 1), start, step, phase, jump)
    return outside(y, len(taps))


def phases_of(size, taps, stride, padding, dilation):
    """One dimension of `spread`, for each remainder of a place p of its result modulo the stride: the remainder, how
    many places have it, the taps that reach them, last first, and where in g the first of these places sees them: at
    `start`, `start + step`, ...

    Tap t brings g[q] to p if q = (p + padding - dilation t) / stride is whole.
    """
    common = math.gcd(stride, dilation)
    for remainder in range(min(stride, size)):
        reach = [t for t in range(taps) if (remainder + padding - dilation * t) % stride == 0]
        apart = stride // common
        chosen = range(reach[-1], reach[0] - 1, -apart) if reach else range(0)
        start = (remainder + padding - dilation * reach[-1]) // stride if reach else 0
        yield remainder, len(range(remainder, size, stride)), chosen, start, dilation // common


def sum_positions(g):
    """(N, C, ...) -> (C,): the sum over everything but the channels."""
    return sum_leading(inside(g))
