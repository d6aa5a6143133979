"""Convolution of channels-last arrays: tiles of places times tiles of channels, x read where it lies.

Everything here is one sum. With q a place of the result and t a tap of the kernel (each three indices),

    y[n, phase + jump q, o] = bias[o] + sum over t, c of x[n, stride q + start + step t, c] weight[o, t, c]

where x is 0 outside its bounds. A convolution is that with start = -padding and step = dilation. So is the transposed
one, in stride x stride x ... phases: the places of its result that leave the same remainder modulo the stride see the
same taps, in reverse order, one step apart. No two terms are added to one place by two threads, so any number of
threads gives the same bits.

    convolve(x, weight, bias, size, window)     the convolution
    spread(g, weight, bias, size, window)       the transposed one, which is the convolution's gradient for x
    correlate(x, g, kernel_size, window)        its gradient for the weight; parameter_gradients: and for the bias
                                                (conv_weight.py)
    sum_positions(g)                            the gradient for the bias alone

window is (stride, padding, dilation, groups). Arrays come and go as (N, C, ...); what comes out lies in memory as
(N, ..., C), and what comes in so is not copied.

Floor: 2 N P O C T operations for P places, C and O channels and T taps. What makes it fast:

v1  channels first: a column's elements lie far apart                          1.4 to 3.7 times slower than
v2  channels last: columns in the L2 cache, then BLAS                          1.0
v3  no columns and no BLAS: a product whose rows are addresses (tiles.py,
    places.py). Few outputs are dot products, depthwise plain sums             0.6        <- this file

Microseconds on one core (Zen 5, AVX-512), of the result, dL/dx, and dL/dweight with dL/dbias; PyTorch 2.13 on the same
core with channels last, and in brackets as NCHW:

    16 x 32 -> 32, 32 x 32, kernel 3              1375 + 1381 + 1406      1284 + 1276 + 1389  (1602 + 1584 + 1638)
    16 x 64 -> 64, 16 x 16, kernel 3              1280 + 1287 + 1633      1180 + 1179 + 1319  (1345 + 1347 + 1408)
    64 x 64 -> 128, 14 x 14, kernel 4, stride 2   3786 + 3798 + 4962      3260 + 3510 + 4186  (4031 + 4241 + 4221)
    16 x 64 -> 64, 28 x 28, kernel 1               479 +  483 +  626       454 +  454 +  675   (646 +  647 +  812)
    64 x 1 -> 64, 28 x 28, kernel 4, stride 2      235 +  877 +  229       247 + 4326 +  614   (254 + 2026 +  277)
    16 x 32 -> 1, 32 x 32, kernel 3                250 +  121 +  169       696 +  116 +  695  (1008 +  855 +  806)
"""

import itertools
import math

import numpy as np
from numba import prange

from .compile import choose, kernel
from .conv_weight import correlate, parameter_gradients  # noqa: F401
from .layout import inside, outside, three
from .places import TASKS, first_of, places_of, seen, steps_of, upright
from .reduce import sum_leading
from .tiles import LANES, ROWS, WIDTH, dot_tile, product_tile
from .vector_math import fma

F = np.float32
SMALL = 1 << 14  # numbers of a weight that one thread lays out while others would still be waking
FEW, LONG = 4, 16  # outputs, at most, that are made as dot products, in runs of at least so many numbers


@kernel(reads=("weight", "bias"))
def fill_panels(weight, bias, panels, biases):
    """weight (groups, T, C, O) and bias (groups, O) -> panels (groups, O / WIDTH, T C, WIDTH), and biases like it."""
    groups, T, C, O = weight.shape
    pieces = panels.shape[1]
    for task in prange(groups * pieces):
        group, piece = task // pieces, task % pieces
        first = piece * WIDTH
        width = min(WIDTH, O - first)
        for t in range(T):
            for c in range(C):
                to = panels[group, piece, t * C + c]
                for o in range(width):
                    to[o] = weight[group, t, c, first + o]
                to[width:] = F(0)
        for o in range(WIDTH):
            biases[group, piece, o] = bias[group, first + o] if o < width else F(0)


@kernel
def sum_tiles(x, panels, biases, y, outputs, channels, places, phase, jump, to, across):
    """For any number of channels. A task is a block of places, one group, and its `across`-th part of the outputs."""
    count, stride, start, block, blocks, box, span, at, _, runs, depth = places
    groups, pieces = panels.shape[:2]
    D, H, W, O = y.shape[1:]
    flat_y = y.reshape(y.size)
    for task in prange(blocks * groups * across):
        b, group, part = task // (groups * across), task // across % groups, task % across
        n, q_d, q_h, samples, lines = first_of(b, x.shape[0], count, block)
        sight = seen(x, b, count, stride, start, block, box, span)[group * channels :]
        corner = ((n * D + phase[0] + jump[0] * q_d) * H + phase[1] + jump[1] * q_h) * W + phase[2]
        rows = samples * lines * count[2]
        spare, straight = np.empty(ROWS * WIDTH, F), np.empty(ROWS, np.int64)
        some = np.empty(ROWS, np.int64)
        for i in range(ROWS):
            straight[i] = i * WIDTH
        for piece in range(pieces * part // across, pieces * (part + 1) // across):
            width = min(WIDTH, outputs - piece * WIDTH)
            panel, bias = panels[group, piece].reshape(panels.shape[2] * WIDTH), biases[group, piece]
            target = flat_y[corner * O + group * outputs + piece * WIDTH :]
            for i in range(0, rows, ROWS):
                few = min(ROWS, rows - i)
                full = few == ROWS and width == WIDTH
                if not full:  # such a tile sees its last place again and again
                    for k in range(ROWS):
                        some[k] = at[i + min(k, few - 1)]
                where, into, places_in = (at[i:], target, to[i:]) if full else (some, spare, straight)
                product_tile(sight, where, runs, depth, panel, bias, into, places_in)
                if not full:
                    for k in range(few):
                        row, made = target[to[i + k] :], spare[k * WIDTH :]
                        for o in range(width):
                            row[o] = made[o]


@kernel
def sum_dots(x, weight, bias, y, outputs, channels, places, phase, jump, to):
    """For up to FEW outputs a group: a vector of them would be mostly empty. weight (groups, O, T C)."""
    count, stride, start, block, blocks, box, span, at, _, runs, depth = places
    groups = weight.shape[0]
    D, H, W, O = y.shape[1:]
    flat_y = y.reshape(y.size)
    for task in prange(blocks * groups):
        b, group = task // groups, task % groups
        n, q_d, q_h, samples, lines = first_of(b, x.shape[0], count, block)
        sight = seen(x, b, count, stride, start, block, box, span)[group * channels :]
        corner = ((n * D + phase[0] + jump[0] * q_d) * H + phase[1] + jump[1] * q_h) * W + phase[2]
        target = flat_y[corner * O + group * outputs :]
        rows = samples * lines * count[2]
        tile, some = np.empty(ROWS * LANES, F), np.empty(ROWS, np.int64)
        for i in range(0, rows, ROWS):
            few = min(ROWS, rows - i)
            for k in range(ROWS):
                some[k] = at[i + min(k, few - 1)]
            for o in range(outputs):
                factors = weight[group, o]
                dot_tile(sight, some, runs, depth, factors, tile)
                for k in range(few):
                    total = F(0)
                    for j in range(LANES):
                        total += tile[k * LANES + j]
                    for r in range(runs.size):  # what is left of a run that is no multiple of LANES
                        for j in range(depth // LANES * LANES, depth):
                            total += sight[some[k] + runs[r] + j] * factors[r * depth + j]
                    target[to[i + k] + o] = total + bias[group, o]


@kernel
def sum_each(x, weight, bias, y, count, taps, stride, start, step, phase, jump, block):
    """For as many groups as channels, each its own (depthwise): no product, but C sums at once. weight (T, C)."""
    N, D, H, W, C = x.shape
    places = N * count[0] * count[1] * count[2]
    for task in prange((places + block - 1) // block):
        for p in range(task * block, min(places, (task + 1) * block)):
            line = p // count[2]
            n, q_d, q_h, q_w = line // (count[0] * count[1]), line // count[1] % count[0], line % count[1], p % count[2]
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
                            here, factors = x[n, d, h, w], weight[r * taps[2] + t]
                            for c in range(C):
                                to[c] = fma(here[c], factors[c], to[c])


def add_up(x, weight, bias, y, count, taps, stride, start, step, phase, jump):
    """The sum of the head by the kernel that suits its numbers of channels. weight (groups, T, C, O), any strides."""
    groups, T, channels, outputs = weight.shape
    if channels == outputs == 1 < groups:
        places = x.shape[0] * math.prod(count)
        weight = np.ascontiguousarray(weight[:, :, 0, 0].T)
        sum_each(x, weight, bias, y, count, taps, stride, start, step, phase, jump, max(64, places // 64))
        return
    shape, to_shape, *geometry = upright(x.shape, y.shape, count, taps, stride, start, step, phase, jump)
    *geometry, phase, jump = geometry
    x, y, bias = x.reshape(shape), y.reshape(to_shape), bias.reshape(groups, outputs)
    places = places_of(shape, channels, *geometry)
    to = steps_of(to_shape, places.block, places.count[2], jump)
    if outputs <= FEW and places.depth >= LONG:
        weight = np.ascontiguousarray(weight.transpose(0, 3, 1, 2)).reshape(groups, outputs, -1)
        sum_dots(x, weight, bias, y, outputs, channels, places, phase, jump, to)
        return
    pieces = -(-outputs // WIDTH)
    panels = np.empty((groups, pieces, T * channels, WIDTH), F)
    biases = np.empty((groups, pieces, WIDTH), F)
    choose(fill_panels, panels.size, SMALL)(weight, bias, panels, biases)
    across = max(1, min(pieces, TASKS // (places.blocks * groups)))
    sum_tiles(x, panels, biases, y, outputs, channels, places, phase, jump, to, across)


def convolve(x, weight, bias, size, window):
    """y[n, o, q] = bias[o] + sum over c, t of weight[o, c, t] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), weight (O, C / groups, ...), bias (O,) or None -> (N, O, *size); none of them empty.
    """
    stride, padding, dilation, groups = window
    O, channels, *taps = weight.shape
    x, size = inside(x), three(size, 1)
    y = np.empty((x.shape[0], *size, O), F)
    weight = weight.reshape(groups, O // groups, channels, -1).transpose(0, 3, 2, 1)
    start = three([-p for p in padding], 0)
    geometry = size, three(taps, 1), three(stride, 1), start, three(dilation, 1), (0, 0, 0), (1, 1, 1)
    add_up(x, weight, np.zeros(O, F) if bias is None else bias, y, *geometry)
    return outside(y, len(taps))


def spread(g, weight, bias, size, window):
    """y[n, c, p] = bias[c] + sum over o and all q, t with
    p = stride q - padding + dilation t of weight[o, c, t] g[n, o, q].

    g (N, O, ...), weight (O, C / groups, ...), bias (C,) or None -> (N, C, *size); none of them empty.
    """
    stride, padding, dilation, groups = window
    O, channels, *taps = weight.shape
    g, size, jump = inside(g), three(size, 1), three(stride, 1)
    y = np.empty((g.shape[0], *size, channels * groups), F)
    bias = np.zeros(channels * groups, F) if bias is None else bias
    weight = weight.reshape(groups, O // groups, channels, *three(taps, 1)).transpose(0, 3, 4, 5, 1, 2)
    lines = zip(size, three(taps, 1), jump, three(padding, 0), three(dilation, 1))
    for phases in itertools.product(*[list(phases_of(*line)) for line in lines]):
        phase, count, reach, start, step = zip(*phases)
        if 0 in map(len, reach):
            y[:, phase[0] :: jump[0], phase[1] :: jump[1], phase[2] :: jump[2]] = bias
            continue
        d, h, w = [slice(r.start, r.stop if r.stop >= 0 else None, r.step) for r in reach]
        some = weight[:, d, h, w].reshape(groups, -1, O // groups, channels)
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
