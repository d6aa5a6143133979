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

from .compile import FLOATS, Source, cast, contiguous, library, over
from .conv_weight import correlate, parameter_gradients  # noqa: F401
from .layout import inside, outside, three, turned
from .linear import linear
from .places import aligned, by_packs, geometry, is_plain
from .precision import tf32
from .reduce import add_parts, sum_leading

TYPES = FLOATS
KERNELS = Source("conv.cu")
TF32_KERNELS = Source("conv.cu", "-DTF32")
# form: the rows and columns of a tile, and the threads of a block, as at the end of conv.cu
FORMS = {"wide": (128, 128, 256), "small": (64, 64, 128), "thin": (128, 16, 128), "each": (64, 64, 128)}
MANY = 128  # tiles that keep a card busy
LEAST = 512  # numbers of the inner dimension in a part, at least, where fewer tiles are cut into parts
INNER = 32  # a part is a multiple of so many numbers, which are whole stages in every type
BLOCK = 256


def form_of(x, places, channels, outputs, groups):
    """The form for so many places, channels and outputs, the latter two of one group."""
    if not by_packs(x, channels):
        return "each"
    if outputs <= 16:
        return "thin"
    rows, columns, _ = FORMS["wide"]
    return "wide" if outputs > 64 and over(places, rows) * over(outputs, columns) * groups >= MANY else "small"


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
    if channels == outputs == 1 < groups:
        weight = turned(weight.reshape(1, groups, taps))  # (1, taps, C)
        grid = over(places * over(groups, 16 // x.itemsize), BLOCK), phases
        KERNELS.run("convolve_channels", (x.dtype,), grid, BLOCK, x, weight, bias, y, *numbers)
        return y
    form = form_of(x, places * phases, channels, outputs, groups)
    rows, columns, block = FORMS[form]
    tiles = over(places, rows) * over(outputs, columns)
    parts, step = parts_of(tiles * phases * groups, math.prod(map(over, three(kernel, 1), apart)) * channels)
    partial = library(x).empty((1, parts, y.size), np.float32) if parts > 1 else None
    source = TF32_KERNELS if x.dtype.name == "float32" and tf32() else KERNELS
    arrays = aligned(x), aligned(weight), bias, y, partial
    source.run(f"convolve_{form}", (x.dtype,), (tiles, phases, groups * parts), block, *arrays, step, *numbers)
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
