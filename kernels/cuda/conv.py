"""Convolution of channels-last arrays, as a product whose left factor is read from x as it is needed: conv.cu.

With q a place of the result and t a tap of the kernel,

    y[n, q, o] = bias[o] + sum over t, c of x[n, stride q - padding + dilation t, c] weight[o, t, c]

    convolve(x, weight, bias, size, window)     that
    spread(g, weight, bias, size, window)       the transposed convolution, which is its gradient for x
    correlate(x, g, kernel_size, window)        its gradient for the weight; parameter_gradients: and for the bias
                                                (conv_weight.py)
    sum_positions(g)                            the gradient for the bias alone

window is (stride, padding, dilation, groups). Arrays come and go as (N, C, ...); what comes out lies in memory as
(N, ..., C), and what comes in so is not copied. Each call lays the weight out anew, with what is summed over last. A
kernel of one tap is the linear layer's product of rows (linear.py).
"""

import math

import numpy as np

from .compile import FLOATS, cast, contiguous, library, over
from .conv_weight import correlate, parameter_gradients  # noqa: F401
from .layout import inside, outside, three, turned
from .linear import linear
from .places import aligned, by_packs, geometry, is_plain
from .reduce import add_parts, sum_leading
from .tiles import at_once, by_groups, sources, way

TYPES = FLOATS
BY_WAY = sources("conv.cu")
KERNELS = BY_WAY[None]
# the tiles, as at the end of conv.cu
TILES = {
    "wide": at_once(128, 128, 256),
    "small": at_once(64, 64, 128),
    "thin": at_once(128, 16, 128),
    "each": at_once(64, 64, 128),
}
LARGE = {
    "widest": by_groups(128, 256, 4),
    "tall": by_groups(256, 128, 4),
    "wide": by_groups(128, 128, 3),
    "small": by_groups(128, 64, 4),
}
FORMS = {None: TILES, "TF32": TILES, "WARPGROUPS": TILES | LARGE}
WIDE = "widest", "tall", "wide"
MANY = 128  # tiles that keep a card busy
LEAST = 512  # numbers of the inner dimension in a part, at least, where fewer tiles are cut into parts
INNER = 64  # a part is a multiple of so many numbers, which are whole stages in every type
BLOCK = 256


def form_of(x, forms, places, channels, outputs, groups):
    """The name of the form for so many places, channels and outputs, the latter two of one group."""
    if not by_packs(x, channels):
        return "each"
    if outputs <= 16:
        return "thin"
    tiles = {name: tiles_of(forms[name], places, outputs) * groups for name in WIDE if name in forms}
    if tiles.get("widest", 0) >= MANY and 2 * tiles["widest"] == tiles["wide"]:  # no columns are wasted for its width
        return "widest"
    return next((name for name in ("tall", "wide") if outputs > 64 and tiles.get(name, 0) >= MANY), "small")


def tiles_of(form, places, outputs):
    return over(places, form.rows) * over(outputs, form.columns)


def add_up(x, weight, bias, size, kernel, window, transposed):
    """y (N, *size, O) of x (N, D, H, W, C) and weight (groups, outputs, taps, channels of a group)."""
    groups, outputs, taps, channels = weight.shape
    size, stride = three(size, 1), three(window[0], 1)
    y = library(x).empty((len(x), *size, groups * outputs), x.dtype)
    bias = None if bias is None else contiguous(cast(bias, x.dtype))
    numbers = geometry(x, y, channels, outputs, kernel, window, transposed)
    jump = stride if transposed else (1, 1, 1)
    phases = math.prod(map(min, jump, size))
    apart = [n // math.gcd(n, d) for n, d in zip(jump, three(window[2], 1))]  # of the taps that a phase sees
    places = len(x) * math.prod(map(over, size, jump))  # of the phase that has most
    source, forms = BY_WAY[way(x)], FORMS[way(x)]
    if channels == outputs == 1 < groups:
        weight = turned(weight.reshape(1, groups, taps))  # (1, taps, C)
        grid = over(places * over(groups, 16 // x.itemsize), BLOCK), phases
        source.run("convolve_channels", (x.dtype,), grid, BLOCK, x, weight, bias, y, *numbers)
        return y
    name = form_of(x, forms, places * phases, channels, outputs, groups)
    form = forms[name]
    tiles = tiles_of(form, places, outputs)
    parts, step = parts_of(tiles * phases * groups, math.prod(map(over, three(kernel, 1), apart)) * channels)
    partial = library(x).empty((1, parts, y.size), np.float32) if parts > 1 else None
    arrays, grid = (aligned(x), aligned(weight), bias, y, partial), (tiles, phases, groups * parts)
    source.run(f"convolve_{name}", (x.dtype,), grid, form.threads, *arrays, step, *numbers, shared=form.shared)
    return y if partial is None else add_parts(partial, x.dtype).reshape(y.shape)


def parts_of(tiles, inner):
    """(parts, numbers of a part): into how many parts the inner dimension is cut, where there are so many tiles."""
    parts = max(min(MANY // max(tiles, 1), inner // LEAST), 1)
    step = over(over(inner, parts), INNER) * INNER
    return over(inner, step), step


def convolve(x, weight, bias, size, window):
    """y[n, o, q] = bias[o] + sum over c, t of weight[o, c, t] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), weight (O, C / groups, ...), bias (O,) or None -> (N, O, *size); none of them empty.
    """
    groups = window[3]
    O, channels, *kernel = weight.shape
    x, weight = inside(x), contiguous(cast(weight, x.dtype))
    if is_plain(x.shape[1:4], three(size, 1), kernel, window):
        y = linear(x, weight.reshape(O, channels), bias)
    else:
        weight = turned(weight.reshape(O, channels, -1)).reshape(groups, O // groups, -1, channels)
        y = add_up(x, weight, bias, size, kernel, window, False)
    return outside(y, len(kernel))


def spread(g, weight, bias, size, window):
    """y[n, c, p] = bias[c] + sum over o and all q, t with
    p = stride q - padding + dilation t of weight[o, c, t] g[n, o, q].

    g (N, O, ...), weight (O, C / groups, ...), bias (C,) or None -> (N, C, *size); none of them empty.
    """
    groups = window[3]
    O, channels, *kernel = weight.shape
    g, weight = inside(g), contiguous(cast(weight, g.dtype))
    if is_plain(g.shape[1:4], three(size, 1), kernel, window):
        y = linear(g, weight.reshape(O, channels).T, bias)
    else:
        weight = turned(weight.reshape(groups, O // groups, -1)).reshape(groups, channels, -1, O // groups)
        y = add_up(g, weight, bias, size, kernel, window, True)
    return outside(y, len(kernel))


def sum_positions(g):
    """(N, C, ...) -> (C,): the sum over everything but the channels."""
    return sum_leading(inside(g))
