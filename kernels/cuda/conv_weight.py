"""The gradients of a convolution for its weight and bias: products over all places, cut into parts: conv_weight.cu.

    dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t]
    db[o]       = sum over n, q of g[n, o, q]

The places are cut into parts by the shapes alone, and the parts' sums, in float32, are added in order.
"""

import math

import numpy as np

from . import blas
from .compile import FLOATS, Source, cast, library, over
from .layout import inside, turned
from .places import aligned, by_packs, geometry, is_plain
from .precision import tf32
from .reduce import add_parts, sum_leading

TYPES = FLOATS
KERNELS = Source("conv_weight.cu")
TF32_KERNELS = Source("conv_weight.cu", "-DTF32")
# form: the rows and columns of a tile, and the threads of a block, as at the end of conv_weight.cu
FORMS = {"wide": (128, 128, 256), "small": (64, 64, 128), "thin": (16, 128, 128), "each": (64, 64, 128)}
BLOCKS, LEAST = 512, 256  # blocks to aim at, and places of a part, at least
INNER = 64  # a part is a multiple of so many places, which are whole stages in every type
BLOCK = 256


def correlate(x, g, kernel_size, window):
    """dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t].

    x (N, C, ...), g (N, O, ...) -> (O, C / groups, *kernel_size); none of them empty.
    """
    return weight_gradient(inside(x), inside(cast(g, x.dtype)), kernel_size, window, None)


def parameter_gradients(x, g, kernel_size, window, with_bias, into=(None, None)):
    """(dw, db) of the head, db None unless it is wanted; in the contiguous arrays `into` where they are given."""
    x, g = inside(x), inside(cast(g, x.dtype))
    db = sum_leading(g, into[1]) if with_bias else None
    return weight_gradient(x, g, kernel_size, window, into[0]), db


def weight_gradient(x, g, kernel, window, into):
    """dw, in x's type or in `into`, of x (N, D, H, W, C) and g (N, D, H, W, O)."""
    groups, C, O = window[3], x.shape[4], g.shape[4]
    shape = O, C // groups, *kernel
    if is_plain(x.shape[1:4], g.shape[1:4], kernel, window):
        dw = blas.matmul(g.reshape(-1, O).T, x.reshape(-1, C), None if into is None else into.reshape(O, C))
        return dw.reshape(shape) if into is None else into
    numbers = geometry(x, g, C // groups, O // groups, kernel, window)
    sums = sums_of_channels if C == groups == O else sums_of_products
    partial = sums(x, g, math.prod(kernel), groups, numbers)
    whole = add_parts(partial.reshape(1, len(partial), -1), x.dtype if into is None else into.dtype)
    dw = turned(whole.reshape(partial.shape[1:]), into).reshape(shape)
    return dw if into is None else into


def sums_of_products(x, g, taps, groups, numbers):
    """(parts, O, taps, channels of a group), float32."""
    places, O, channels = math.prod(g.shape[:4]), g.shape[4] // groups, x.shape[4] // groups
    form = form_of(x, channels, O, taps)
    rows, columns, block = FORMS[form]
    tiles = over(O, rows), over(taps * channels, columns)
    parts, step = parts_of(places, math.prod(tiles) * groups)
    partial = library(x).empty((parts, groups * O, taps, channels), np.float32)
    source = TF32_KERNELS if x.dtype.name == "float32" and tf32() else KERNELS
    grid = tiles[1], tiles[0] * parts, groups
    source.run(f"correlate_{form}", (x.dtype,), grid, block, aligned(x), aligned(g), partial, step, *numbers)
    return partial


def form_of(x, channels, outputs, taps):
    """The form for so many channels and outputs of a group."""
    if by_packs(x, channels) and outputs <= 16:
        return "thin"
    if not by_packs(x, channels, outputs):
        return "each"
    return "wide" if outputs > 64 and channels * taps > 64 else "small"


def sums_of_channels(x, g, taps, groups, numbers):
    """(parts, 1, taps, C), float32, where each channel is a group."""
    packs = over(groups, 16 // x.itemsize)
    lanes = min(1 << (packs - 1).bit_length(), 32)
    across = over(packs, lanes)
    parts, step = parts_of(math.prod(g.shape[:4]), across * taps)
    partial = library(x).empty((parts, 1, taps, groups), np.float32)
    grid = across, parts, taps
    KERNELS.run("correlate_channels", (x.dtype,), grid, BLOCK, x, g, partial, step, lanes, *numbers)
    return partial


def parts_of(places, blocks):
    """(parts, places of a part): so many that `blocks` blocks for each of them make a card busy."""
    step = max(over(places, max(BLOCKS // blocks, 1)), LEAST)
    step = over(step, INNER) * INNER
    return over(places, step), step
