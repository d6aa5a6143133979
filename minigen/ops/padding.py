"""Padding: a border of constants, of the edge, of the mirrored inside, or of the other side; and cutting it off."""

import functools

import numpy as np

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, DtypeError, ShapeError, expect
from .along import Mix, mix


@op
def _pad(x, widths, fill):
    """x with widths[d] = (before, after) elements of `fill` beside each dimension d; negative ones are cut off."""
    cut = tuple([slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(widths, x.shape)])
    x = x[cut]
    grown = [(max(a, 0), max(b, 0)) for a, b in widths]
    y = xp(x).empty_like(x, shape=[n + a + b for (a, b), n in zip(grown, x.shape)])  # in the memory order of x
    y.fill(fill)
    y[tuple([slice(a, a + n) for (a, _), n in zip(grown, x.shape)])] = x
    return y


@_pad.gradient
def _(g, widths):
    if all(a >= 0 <= b for a, b in widths):  # what was added is cut off: a view will do
        return g[tuple([slice(a, n - b) for (a, b), n in zip(widths, g.shape)])]
    return _pad(g, tuple([(-a, -b) for a, b in widths]), 0.0)


MODES = {
    "reflect": lambda n, a, b: np.abs((np.arange(-a, n + b) + n - 1) % max(2 * n - 2, 1) - (n - 1)),
    "replicate": lambda n, a, b: np.clip(np.arange(-a, n + b), 0, n - 1),
    "circular": lambda n, a, b: np.arange(-a, n + b) % n,
}


def pad(input, pad, mode="constant", value=None):
    """input with a border.

    pad    (before, after) of the last dimension, then of the one before it, and so on. Negative widths cut off.
    mode   "constant" (`value`, 0 if None); "reflect", the inside mirrored at the edge element; "replicate", the edge
           element; "circular", the other side. The last three pad one to three dimensions of (N, C, ...) or (C, ...)

    Raises ShapeError for a border that the input is too small for, ArgumentError for an unknown mode.
    """
    pad = (pad,) if isinstance(pad, int) else tuple(pad)
    whole = all(isinstance(width, (int, np.integer)) for width in pad)
    expect(whole, "pad: the widths must be integers", pad, error=DtypeError)
    expect(len(pad) % 2 == 0, "pad: widths come in pairs, (before, after) of the last dimension first", pad)
    pairs = len(pad) // 2
    expect(pairs <= input.ndim, f"pad: widths for {pairs} dimensions of a tensor with {input.ndim}", input, pad)
    widths = [(0, 0)] * (input.ndim - pairs) + [(int(a), int(b)) for a, b in zip(pad[-2::-2], pad[::-2])]
    for dim, ((a, b), n) in enumerate(zip(widths, input.shape)):
        expect(
            n + a + b >= 0, f"pad: dimension {dim} of size {n} with widths {(a, b)} would have a negative size", input
        )
    if mode == "constant":
        return _pad(input, tuple(widths), 0 if value is None else value)
    expect(mode in MODES, f"pad: mode is 'constant', {', '.join(map(repr, MODES))}", mode, error=ArgumentError)
    expect(value in (None, 0), f"pad: mode={mode!r} takes no value", value, error=ArgumentError)
    expect(
        1 <= pairs <= 3 and input.ndim in (pairs + 1, pairs + 2),
        f"pad: mode={mode!r} pads the last {pairs} dimensions of (N, C, ...) or (C, ...)",
        input,
        pad,
    )
    for dim, (a, b) in enumerate(widths):
        if (a, b) != (0, 0):
            input = _border(input, dim, a, b, mode)
    return input


def _border(x, dim, a, b, mode):
    n = x.shape[dim]
    most = n - 1 if mode == "reflect" else n if mode == "circular" else None
    if most is not None and max(a, b) > most:
        raise ShapeError(f"pad: mode={mode!r} of dimension {dim}, size {n}, can add at most {most}, got {(a, b)}")
    expect(n > 0, f"pad: mode={mode!r} needs elements to copy, dimension {dim} has none", x)
    return mix(x, dim, _copies(mode, n, a, b))


@functools.lru_cache(256)
def _copies(mode, n, a, b):
    """Which of n elements each of the a + n + b new ones is a copy of."""
    if mode == "replicate":  # the edge stays to be copied, even where a negative width on the other side cuts it off
        places = MODES[mode](n, a, b)
    else:  # what a negative width cuts off is not there to be copied
        first, end = max(-a, 0), n - max(-b, 0)
        places = first + MODES[mode](end - first, max(a, 0), max(b, 0))
    return Mix(places[None], np.ones((1, len(places))), n)
