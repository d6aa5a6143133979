"""Convolution of channels-last arrays: im2col into a block that fits the cache, then a product, in one parallel loop.

Everything here is one sum. With q a place of the result and t a tap of the kernel (each three indices),

    y[n, phase + jump q, o] = bias[o] + sum over t, c of x[n, stride q + start + step t, c] weight[o, t, c]

where x is 0 outside its bounds. A convolution is that with start = -padding and step = dilation. So is the
transposed one, in stride x stride x ... phases: the places of its result that leave the same remainder modulo the
stride see the same taps, in reverse order, one step apart. No two terms are added to one place by two threads, so
any number of threads gives the same bits. One and two dimensions are three with sizes of 1.

    convolve(x, weight, bias, size, window)     the convolution
    spread(g, weight, bias, size, window)       the transposed one, which is the convolution's gradient for x
    correlate(x, g, kernel_size, window)        its gradient for the weight
    sum_positions(g)                            its gradient for the bias

Arrays come and go as (N, C, ...); what comes out lies in memory as (N, ..., C), and what comes in so is not copied.

Floor: 2 N P O C T operations for P places, C and O channels and T taps. What makes it fast:

v1  channels first: a column's elements lie far apart                          1.4 to 3.7 times slower than
v2  channels last: each tap row is one run of kernel_width x C numbers         1.0
v3  kernels of one tap read x itself; up to 4 input channels the block is built transposed, so that its rows, not
    its columns, are long; up to 4 output channels a product is a waste, and dot products win     <- this file
"""

import itertools
import math

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_nt, gemm_tn, gemm_tt, single_threaded_blas
from .compile import inline_sums, kernel
from .reduce import sum_leading

F = np.float32
FEW = 4  # channels
BLOCK = 200_000  # numbers in a block of columns: with the weights it should stay in the L2 cache
TASKS = 16  # pieces of work to aim at, where there is enough of it


# ----------------------------------------------------------------------------------------------------------
# A block of columns: what each place of the result sees


@inline_sums
def line_of(place, count):
    """(n, q_d, q_h) of the line along the last dimension that place number `place` stands in."""
    line = place // count[2]
    return line // (count[0] * count[1]), line // count[1] % count[0], line % count[1]


@inline_sums
def gather(x, columns, first, last, channel, channels, count, taps, stride, start, step, row, rows):
    """columns[p - first, (t, c)] = what place p sees of channel `channel` + c at tap t, for `rows` tap rows
    from `row`.
    """
    _, D, H, W, C = x.shape
    width = taps[2] * channels
    whole = channels == C and step[2] == 1  # then a tap row is one run in memory
    p = first
    while p < last:
        n, q_d, q_h = line_of(p, count)
        begin = p % count[2]
        end = min(count[2], begin + last - p)
        block = columns[p - first : p - first + end - begin]
        for r in range(row, row + rows):
            d = q_d * stride[0] + start[0] + r // taps[1] * step[0]
            h = q_h * stride[1] + start[1] + r % taps[1] * step[1]
            left = (r - row) * width
            if d < 0 or d >= D or h < 0 or h >= H:
                for i in range(end - begin):
                    block[i, left : left + width] = F(0)
                continue
            line = x[n, d, h].reshape(W * C)
            for i in range(end - begin):
                w = (begin + i) * stride[2] + start[2]
                if whole:
                    a = min(max(0, -w), taps[2]) * C
                    b = max(a, min(taps[2], W - w) * C)
                    block[i, left : left + a] = F(0)
                    to = block[i, left + a : left + b]
                    seen = line[w * C + a : w * C + b]
                    for c in range(b - a):
                        to[c] = seen[c]
                    block[i, left + b : left + width] = F(0)
                else:
                    for t in range(taps[2]):
                        at = w + t * step[2]
                        to = block[i, left + t * channels : left + (t + 1) * channels]
                        if at < 0 or at >= W:
                            to[:] = F(0)
                        else:
                            seen = line[at * C + channel : at * C + channel + channels]
                            for c in range(channels):
                                to[c] = seen[c]
        p += end - begin


@inline_sums
def gather_rows(x, columns, first, last, channel, channels, count, taps, stride, start, step):
    """The same transposed, columns[(t, c), p - first], for few channels: long rows instead of short ones."""
    _, D, H, W, C = x.shape
    for k in range(taps[0] * taps[1] * taps[2] * channels):
        t, c = k // channels, k % channels + channel
        t_d, t_h, t_w = t // (taps[1] * taps[2]), t // taps[2] % taps[1], t % taps[2]
        origin = start[2] + t_w * step[2]
        inside = max(0, (stride[2] - 1 - origin) // stride[2])  # the first place whose input is not left of x
        outside = max(inside, (W - 1 - origin) // stride[2] + 1)  # the first whose input is right of it
        apart = stride[2] * C
        p = first
        while p < last:
            n, q_d, q_h = line_of(p, count)
            begin = p % count[2]
            end = min(count[2], begin + last - p)
            to = columns[k, p - first : p - first + end - begin]
            d = q_d * stride[0] + start[0] + t_d * step[0]
            h = q_h * stride[1] + start[1] + t_h * step[1]
            p += end - begin
            if d < 0 or d >= D or h < 0 or h >= H:
                to[:] = F(0)
                continue
            a = min(max(inside, begin), end) - begin
            b = max(a, min(outside, end) - begin)
            line = x[n, d, h].reshape(W * C)
            to[:a] = F(0)
            middle = to[a:b]
            seen = line[((begin + a) * stride[2] + origin) * C + c :]
            if apart == 1:
                for i in range(b - a):
                    middle[i] = seen[i]
            else:
                for i in range(b - a):
                    middle[i] = seen[i * apart]
            to[b:] = F(0)


@inline_sums
def place_tile(tile, y, first, columns, count, phase, jump):
    """y[n, phase + jump q, columns] = the rows of `tile`, for the places from number `first` on."""
    for i in range(tile.shape[0]):
        n, q_d, q_h = line_of(first + i, count)
        q_w = (first + i) % count[2]
        to = y[n, phase[0] + jump[0] * q_d, phase[1] + jump[1] * q_h, phase[2] + jump[2] * q_w]
        to = to[columns : columns + tile.shape[1]]
        row = tile[i]
        for o in range(tile.shape[1]):
            to[o] = row[o]


# ----------------------------------------------------------------------------------------------------------
# The sum of the head. weight is (groups, O / groups, T C / groups), its last two dimensions swapped if
# `turned`.


@kernel
def sum_many(x, weight, turned, bias, y, count, taps, stride, start, step, phase, jump, block, across):
    """For any number of channels. A task is `block` places, one group, and its `across`-th part of the
    outputs.
    """
    N, C, O = x.shape[0], x.shape[4], y.shape[4]
    groups, K = weight.shape[0], weight.shape[1 if turned else 2]
    places, channels, outputs = N * count[0] * count[1] * count[2], C // groups, O // groups
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
            tile = flat_y[first:last, at : at + end - begin]
        else:
            tile = np.empty((last - first, end - begin), np.float32)
        for i in range(last - first):
            tile[i] = bias[at : at + end - begin]
        if as_it_is:
            seen = flat_x[first:last, group * channels : (group + 1) * channels]
        else:
            seen = np.empty((last - first, K), np.float32)
            gather(
                x, seen, first, last, group * channels, channels, count, taps, stride, start, step, 0, taps[0] * taps[1]
            )
        if turned:
            gemm_nn(seen, weight[group, :, begin:end], tile, 1)
        else:
            gemm_nt(seen, weight[group, begin:end], tile, 1)
        if not in_place:
            place_tile(tile, y, first, at, count, phase, jump)


@kernel
def sum_few_in(x, weight, turned, bias, y, count, taps, stride, start, step, phase, jump, block):
    """For up to FEW channels of x a group: the same with the columns transposed."""
    N, C, O = x.shape[0], x.shape[4], y.shape[4]
    groups, K = weight.shape[0], weight.shape[1 if turned else 2]
    places, channels, outputs = N * count[0] * count[1] * count[2], C // groups, O // groups
    in_place = jump[0] == 1 and jump[1] == 1 and jump[2] == 1
    flat_y = y.reshape(y.size // O, O)
    for task in prange((places + block - 1) // block * groups):
        first, group = task // groups * block, task % groups
        last, at = min(places, first + block), group * outputs
        if in_place:
            tile = flat_y[first:last, at : at + outputs]
        else:
            tile = np.empty((last - first, outputs), np.float32)
        for i in range(last - first):
            tile[i] = bias[at : at + outputs]
        seen = np.empty((K, last - first), np.float32)
        gather_rows(x, seen, first, last, group * channels, channels, count, taps, stride, start, step)
        if turned:
            gemm_tn(seen, weight[group], tile, 1)
        else:
            gemm_tt(seen, weight[group], tile, 1)
        if not in_place:
            place_tile(tile, y, first, at, count, phase, jump)


@kernel
def sum_few_out(x, weight, bias, y, count, taps, stride, start, phase, jump, block):
    """For up to FEW outputs, one group and step 1: each place is a dot product with the runs it sees. weight (O, K)."""
    N, D, H, W, C = x.shape
    O = y.shape[4]
    places, width = N * count[0] * count[1] * count[2], taps[2] * C
    for task in prange((places + block - 1) // block):
        for p in range(task * block, min(places, (task + 1) * block)):
            n, q_d, q_h = line_of(p, count)
            q_w = p % count[2]
            to = y[n, phase[0] + jump[0] * q_d, phase[1] + jump[1] * q_h, phase[2] + jump[2] * q_w]
            w = q_w * stride[2] + start[2]
            a = min(max(0, -w), taps[2]) * C
            b = max(a, min(taps[2], W - w) * C)
            for o in range(O):
                total = bias[o]
                for r in range(taps[0] * taps[1]):
                    d = q_d * stride[0] + start[0] + r // taps[1]
                    h = q_h * stride[1] + start[1] + r % taps[1]
                    if 0 <= d < D and 0 <= h < H:
                        seen = x[n, d, h].reshape(W * C)[w * C + a : w * C + b]
                        factors = weight[o, r * width + a : r * width + b]
                        for c in range(b - a):
                            total += seen[c] * factors[c]
                to[o] = total


# ---------------------------------------------------------------------------------------------------------------------
# The gradient for the weight: parts[i, o, (t, c)] = sum over the i-th part of the places of g[q, o] x[seen at t, c]


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
        to = parts[part, group * outputs : (group + 1) * outputs, row * width : (row + rows) * width]
        to[:] = F(0)
        for first in range(begin, end, block):
            last = min(end, first + block)
            if as_it_is:
                seen = flat_x[first:last, group * channels : (group + 1) * channels]
            else:
                seen = np.empty((last - first, rows * width), np.float32)
                gather(
                    x, seen, first, last, group * channels, channels, count, taps, stride, start, step, row, rows
                )
            gemm_tn(flat_g[first:last, group * outputs : (group + 1) * outputs], seen, to, 1)


@kernel
def products_few_in(x, g, parts, groups, count, taps, stride, start, step, block):
    """For up to FEW channels of x a group."""
    N, C, O = x.shape[0], x.shape[4], g.shape[4]
    places, channels, outputs, K = N * count[0] * count[1] * count[2], C // groups, O // groups, parts.shape[2]
    flat_g = g.reshape(g.size // O, O)
    for task in prange(parts.shape[0] * groups):
        part, group = task // groups, task % groups
        begin, end = places * part // parts.shape[0], places * (part + 1) // parts.shape[0]
        to = parts[part, group * outputs : (group + 1) * outputs]
        to[:] = F(0)
        for first in range(begin, end, block):
            last = min(end, first + block)
            seen = np.empty((K, last - first), np.float32)
            gather_rows(x, seen, first, last, group * channels, channels, count, taps, stride, start, step)
            gemm_tt(flat_g[first:last, group * outputs : (group + 1) * outputs], seen, to, 1)


@kernel
def products_few_out(x, g, parts, count, taps, stride, start):
    """For up to FEW outputs, one group and step 1."""
    N, D, H, W, C = x.shape
    O = g.shape[4]
    places, width = N * count[0] * count[1] * count[2], taps[2] * C
    flat_g = g.reshape(g.size // O, O)
    for part in prange(parts.shape[0]):
        parts[part] = F(0)
        for p in range(places * part // parts.shape[0], places * (part + 1) // parts.shape[0]):
            n, q_d, q_h = line_of(p, count)
            w = p % count[2] * stride[2] + start[2]
            a = min(max(0, -w), taps[2]) * C
            b = max(a, min(taps[2], W - w) * C)
            for r in range(taps[0] * taps[1]):
                d = q_d * stride[0] + start[0] + r // taps[1]
                h = q_h * stride[1] + start[1] + r % taps[1]
                if 0 <= d < D and 0 <= h < H:
                    seen = x[n, d, h].reshape(W * C)[w * C + a : w * C + b]
                    for o in range(O):
                        factor = flat_g[p, o]
                        to = parts[part, o, r * width + a : r * width + b]
                        for c in range(b - a):
                            to[c] += factor * seen[c]


@kernel
def add_parts(parts, total, channels):
    """total[o, c, t] = the sum of parts[:, o, (t, c)], in order."""
    for o in prange(total.shape[0]):
        to = parts[0, o]
        for part in range(1, parts.shape[0]):
            row = parts[part, o]
            for k in range(row.size):
                to[k] += row[k]
        for c in range(channels):
            for t in range(total.shape[2]):
                total[o, c, t] = to[t * channels + c]


# ---------------------------------------------------------------------------------------------------------------------
# Memory order


@kernel
def turn(x, y):
    """y[n, p, c] = x[n, c, p], in tiles that fit the first cache."""
    N, C, P = x.shape
    tiles = (P + 63) // 64
    for task in prange(N * tiles):
        n, first = task // tiles, task % tiles * 64
        last = min(P, first + 64)
        for begin in range(0, C, 16):
            for p in range(first, last):
                for c in range(begin, min(C, begin + 16)):
                    y[n, p, c] = x[n, c, p]


def turned(x):
    """(N, C, P) -> (N, P, C), contiguous."""
    if x.shape[1] == 1 or x.shape[2] == 1:
        return x.reshape(x.shape[0], x.shape[2], x.shape[1])
    y = np.empty((x.shape[0], x.shape[2], x.shape[1]), np.float32)
    (turn if x.size > 16384 else turn.serial)(x, y)
    return y


def inside(x):
    """(N, C, ...) with one to three spatial dimensions -> (N, D, H, W, C), contiguous; a view where x allows it."""
    N, C, *size = x.shape
    last = x.transpose(0, *range(2, x.ndim), 1)
    if not last.flags.c_contiguous:
        last = turned(x.reshape(N, C, -1)) if x.flags.c_contiguous else np.ascontiguousarray(last)
    return last.reshape(N, *(1,) * (3 - len(size)), *size, C)


def outside(y, dims):
    """(N, D, H, W, C) -> (N, C, ...), a view."""
    y = y.reshape(y.shape[0], *y.shape[4 - dims :])
    return y.transpose(0, dims + 1, *range(1, dims + 1))


def three(values, fill):
    """One to three values, filled up in front to three."""
    return (fill,) * (3 - len(values)) + tuple(values)


# ---------------------------------------------------------------------------------------------------------------------
# What the ops call


def add_up(x, weight, is_turned, bias, y, count, taps, stride, start, step, phase, jump):
    """The sum of the head by the kernel that suits its numbers of channels."""
    groups, K = weight.shape[0], weight.shape[1 if is_turned else 2]
    places, channels = x.shape[0] * math.prod(count), x.shape[4] // groups
    block = max(16, min(BLOCK // K, max(64, places // TASKS)))
    block -= block % count[2] if block > count[2] else 0
    if groups == 1 and y.shape[4] <= FEW and step[2] == 1 and (step[0], step[1]) == (1, 1) and channels > FEW:
        weight = np.ascontiguousarray(weight[0].T) if is_turned else weight[0]
        sum_few_out(x, weight, bias, y, count, taps, stride, start, phase, jump, max(64, places // 64))
    elif channels <= FEW:
        sum_few_in(x, weight, is_turned, bias, y, count, taps, stride, start, step, phase, jump, block)
    else:
        blocks = -(-places // block) * groups
        across = max(1, min(TASKS // 2 // blocks, y.shape[4] // groups // 64))
        sum_many(x, weight, is_turned, bias, y, count, taps, stride, start, step, phase, jump, block, across)


def convolve(x, weight, bias, size, window):
    """y[n, o, q] = bias[o] + sum over c, t of weight[o, c, t] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), weight (O, C / groups, ...), bias (O,) or None -> (N, O, *size); none of them empty.
    """
    stride, padding, dilation, groups = window
    O, channels, *taps = weight.shape
    x, size = inside(x), three(size, 1)
    y = np.empty((x.shape[0], *size, O), np.float32)
    factors = turned(np.ascontiguousarray(weight).reshape(O, channels, -1)).reshape(groups, O // groups, -1)
    start = three([-p for p in padding], 0)
    geometry = size, three(taps, 1), three(stride, 1), start, three(dilation, 1), (0, 0, 0), (1, 1, 1)
    with single_threaded_blas:
        add_up(x, factors, False, np.zeros(O, np.float32) if bias is None else bias, y, *geometry)
    return outside(y, len(taps))


def spread(g, weight, bias, size, window):
    """y[n, c, p] = bias[c] + the sum over all o, q, t with p = stride q - padding + dilation t of weight[o, c, t] g[n, o, q].

    g (N, O, ...), weight (O, C / groups, ...), bias (C,) or None -> (N, C, *size); none of them empty.
    """
    stride, padding, dilation, groups = window
    O, channels, *taps = weight.shape
    g, size, taps3 = inside(g), three(size, 1), three(taps, 1)
    C = channels * groups
    y = np.empty((g.shape[0], *size, C), np.float32)
    bias = np.zeros(C, np.float32) if bias is None else bias
    factors = turned(np.ascontiguousarray(weight).reshape(groups, O // groups * channels, -1))
    factors = factors.reshape(groups, *taps3, O // groups * channels)
    lines = zip(size, taps3, three(stride, 1), three(padding, 0), three(dilation, 1))
    with single_threaded_blas:
        for phases in itertools.product(*[list(phases_of(*line)) for line in lines]):
            phase, count, chosen, start, step = zip(*phases)
            jump = three(stride, 1)
            if any(not taps for taps in chosen):
                y[:, phase[0] :: jump[0], phase[1] :: jump[1], phase[2] :: jump[2]] = bias
                continue
            some = factors[:, *[slice(c.start, c.stop if c.stop >= 0 else None, c.step) for c in chosen]]
            some = np.ascontiguousarray(some).reshape(groups, -1, channels)
            seen = tuple(len(taps) for taps in chosen)
            add_up(g, some, True, bias, y, count, seen, (1, 1, 1), start, step, phase, jump)
    return outside(y, len(taps))


def phases_of(size, taps, stride, padding, dilation):
    """For each remainder modulo the stride of a place p of `spread`'s result: the remainder, how many places have it, and
    the taps t that reach it, last first, so that the q they come from are `start`, `start + step`, ... beside the first.

    q = (p + padding - dilation t) / stride must be whole.
    """
    common = math.gcd(stride, dilation)
    for remainder in range(min(stride, size)):
        reach = [t for t in range(taps) if (remainder + padding - dilation * t) % stride == 0]
        apart = stride // common
        chosen = range(reach[-1], reach[0] - 1, -apart) if reach else range(0)
        start = (remainder + padding - dilation * reach[-1]) // stride if reach else 0
        yield remainder, len(range(remainder, size, stride)), chosen, start, dilation // common


def correlate(x, g, kernel_size, window):
    """dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t], as (O, C / groups, *kernel_size)."""
    stride, padding, dilation, groups = window
    x, g = inside(x), inside(g)
    O, channels, T = g.shape[4], x.shape[4] // groups, math.prod(kernel_size)
    taps, count = three(kernel_size, 1), g.shape[1:4]
    places, K = g.shape[0] * math.prod(count), T * channels
    geometry = count, taps, three(stride, 1), three([-p for p in padding], 0)
    step = three(dilation, 1)
    few_out = groups == 1 and O <= FEW and step == (1, 1, 1) and channels > FEW
    rows = 1 if taps[2] * channels >= 64 and not few_out else taps[0] * taps[1]
    tasks = groups * (taps[0] * taps[1] // rows)
    parts = np.empty((max(1, min(-(-TASKS // tasks), places // 256)), O, K), np.float32)
    block = max(16, min(BLOCK // (K if channels <= FEW else rows * taps[2] * channels), 4096))
    dw = np.empty((O, channels, T), np.float32)
    with single_threaded_blas:
        if few_out:
            products_few_out(x, g, parts, *geometry)
        elif channels <= FEW:
            products_few_in(x, g, parts, groups, *geometry, step, block)
        else:
            products_many(x, g, parts, groups, *geometry, step, block, rows)
    add_parts(parts, dw, channels)
    return dw.reshape(O, channels, *kernel_size)


def sum_positions(g):
    """(N, C, ...) -> (C,): the sum over everything but the channels."""
    return sum_leading(inside(g))
