"""The gradients of a convolution for its weight and bias: products over all places, cut into parts: conv_weight.cu.

    dw[o, c, t] = sum over n, q of g[n, o, q] x[n, c, stride q - padding + dilation t]
    db[o]       = sum over n, q of g[n, o, q]

The places are cut into parts by the shapes alone, and the parts' sums, in float32, are added in order.
"""

import math

import numpy as np

from . import blas
from .compile import FLOATS, cast, library, over
from .layout import inside, turned_sums
from .places import aligned, by_packs, geometry, is_plain
from .reduce import sum_leading
from .tiles import at_once, by_groups, sources, way

TYPES = FLOATS
BY_WAY = sources("conv_weight.cu")
KERNELS = BY_WAY[None]
# the tiles, as at the end of conv_weight.cu
TILES = {
    "wide": at_once(128, 128, 256),
    "small": at_once(64, 64, 128),
    "thin": at_once(16, 128, 128),
    "each": at_once(64, 64, 128),
}
FORMS = {None: TILES, "TF32": TILES}
FORMS["WARPGROUPS"] = TILES | {"wide": by_groups(128, 128, 3), "small": by_groups(64, 128, 4)}
# Blocks to aim at, twice as many as run at one time, since parts are written and read again; places of a part, at least
BLOCKS, LEAST = 256, 256
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
    dw = turned_sums(partial, x.dtype, into)
    return dw.reshape(shape) if into is None else into


def sums_of_products(x, g, taps, groups, numbers):
    """(parts, O, taps, channels of a group), float32."""
    places, O, channels = math.prod(g.shape[:4]), g.shape[4] // groups, x.shape[4] // groups
    name = form_of(x, channels, O, taps)
    source, form = BY_WAY[way(x)], FORMS[way(x)][name]
    tiles = over(O, form.rows), over(taps * channels, form.columns)
    parts, step = parts_of(places, math.prod(tiles) * groups)
    partial = library(x).empty((parts, groups * O, taps, channels), np.float32)
    grid, arrays = (tiles[1], tiles[0] * parts, groups), (aligned(x), aligned(g), partial)
    source.run(f"correlate_{name}", (x.dtype,), grid, form.threads, *arrays, step, *numbers, shared=form.shared)
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
    BY_WAY[way(x)].run("correlate_channels", (x.dtype,), grid, BLOCK, x, g, partial, step, lanes, *numbers)
    return partial


def parts_of(places, blocks):
    """(parts, places of a part): so many that `blocks` blocks for each of them make a card busy."""
    step = max(over(places, max(BLOCKS // blocks, 1)), LEAST)
    step = over(step, INNER) * INNER
    return over(places, step), step
