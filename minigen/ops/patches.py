"""Windows of a picture as columns, and back (`unfold`, `fold`); and channels traded for pixels (`pixel_shuffle`)."""

import math

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, expect
from .padding import pad as add_border
from .shape import reshape, squeeze, unsqueeze


def pair(name, what, value, least):
    """`value` for both dimensions. Raises ArgumentError for what is not one or two integers of at least `least`."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    expect(
        len(pair) == 2 and all(isinstance(n, int) and n >= least for n in pair),
        f"{name}: {what} is one integer or two, at least {least}",
        value,
        error=ArgumentError,
    )
    return pair


def positions(size, kernel, dilation, stride):
    """How many windows fit into each dimension."""
    return tuple([(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(size, kernel, dilation, stride)])


def _windows(kernel, dilation, stride, count):
    """For each place in the kernel, the slices that pick its element in every window."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            starts = i * dilation[0], j * dilation[1]
            yield (i, j), tuple([slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, stride, count)])


@op
def _unfold(x, kernel, dilation, stride):
    """x (N, C, H, W) -> its windows (N, C, kh, kw, oh, ow)."""
    count = positions(x.shape[2:], kernel, dilation, stride)
    y = xp(x).empty((*x.shape[:2], *kernel, *count), x.dtype)
    for (i, j), (rows, columns) in _windows(kernel, dilation, stride, count):
        y[:, :, i, j] = x[:, :, rows, columns]
    return y


@op
def _fold(y, size, kernel, dilation, stride):
    """Windows y (N, C, kh, kw, oh, ow) -> their sum where they overlap (N, C, *size): the transpose of `_unfold`."""
    x = xp(y).zeros((*y.shape[:2], *size), y.dtype)
    for (i, j), (rows, columns) in _windows(kernel, dilation, stride, y.shape[4:]):
        x[:, :, rows, columns] += y[:, :, i, j]
    return x


_unfold.gradient(x=lambda g, x_shape, kernel, dilation, stride: _fold(g, tuple(x_shape[2:]), kernel, dilation, stride))
_fold.gradient(y=lambda g, kernel, dilation, stride: _unfold(g, kernel, dilation, stride))


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of input (N, C, H, W), or (C, H, W), as columns (N, C * kh * kw, L) (im2col). L counts the windows.

    Raises ShapeError if no window fits.
    """
    kernel, dilation, stride = (
        pair("unfold", what, value, 1)
        for what, value in (("kernel_size", kernel_size), ("dilation", dilation), ("stride", stride))
    )
    padding = pair("unfold", "padding", padding, 0)
    expect(input.ndim in (3, 4), "unfold: input must be (N, C, H, W) or (C, H, W)", input)
    x = unsqueeze(input, 0) if input.ndim == 3 else input
    if any(padding):
        x = add_border(x, (padding[1], padding[1], padding[0], padding[0]))
    count = positions(x.shape[2:], kernel, dilation, stride)
    expect(min(count) > 0, f"unfold: no window of {kernel}, dilation {dilation}, fits", input)
    y = reshape(_unfold(x, kernel, dilation, stride), (x.shape[0], x.shape[1] * math.prod(kernel), math.prod(count)))
    return squeeze(y, 0) if input.ndim == 3 else y


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns (N, C * kh * kw, L), or without N, added up to a picture (N, C, *output_size): unfold's transpose.

    Raises ShapeError if L is not the number of windows, or the rows are no multiple of kh * kw.
    """
    size = pair("fold", "output_size", output_size, 1)
    kernel, dilation, stride = (
        pair("fold", what, value, 1)
        for what, value in (("kernel_size", kernel_size), ("dilation", dilation), ("stride", stride))
    )
    padding = pair("fold", "padding", padding, 0)
    expect(input.ndim in (2, 3), "fold: input must be (N, C * kh * kw, L) or (C * kh * kw, L)", input)
    y = unsqueeze(input, 0) if input.ndim == 2 else input
    grown = tuple([n + 2 * p for n, p in zip(size, padding)])
    count, area = positions(grown, kernel, dilation, stride), math.prod(kernel)
    expect(
        y.shape[1] % area == 0 and min(count) > 0 and y.shape[2] == math.prod(count),
        f"fold: output {size} has {math.prod(max(n, 0) for n in count)} windows of {kernel}: input must be "
        f"(N, C * {area}, {math.prod(max(n, 0) for n in count)})",
        input,
    )
    y = reshape(y, (y.shape[0], y.shape[1] // area, *kernel, *count))
    x = _fold(y, grown, kernel, dilation, stride)
    if any(padding):
        x = add_border(x, (-padding[1], -padding[1], -padding[0], -padding[0]))
    return squeeze(x, 0) if input.ndim == 2 else x


def pixel_shuffle(input, upscale_factor):
    """(..., C r^2, H, W) -> (..., C, H r, W r): each pixel's channels become r x r pixels (Shi et al. 2016)."""
    r = _factor("pixel_shuffle", "upscale_factor", upscale_factor)
    *lead, channels, height, width = _picture("pixel_shuffle", input)
    expect(channels % r**2 == 0, f"pixel_shuffle: the channels must be a multiple of {r}^2 = {r * r}", input)
    x = reshape(input, (-1 if input.numel() else math.prod(lead), channels // r**2, r, r, height, width))
    return reshape(x.permute(0, 1, 4, 2, 5, 3), (*lead, channels // r**2, height * r, width * r))


def pixel_unshuffle(input, downscale_factor):
    """(..., C, H r, W r) -> (..., C r^2, H, W): the inverse of `pixel_shuffle`."""
    r = _factor("pixel_unshuffle", "downscale_factor", downscale_factor)
    *lead, channels, height, width = _picture("pixel_unshuffle", input)
    expect(height % r == 0 == width % r, f"pixel_unshuffle: height and width must be multiples of {r}", input)
    x = reshape(input, (-1 if input.numel() else math.prod(lead), channels, height // r, r, width // r, r))
    return reshape(x.permute(0, 1, 3, 5, 2, 4), (*lead, channels * r**2, height // r, width // r))


def channel_shuffle(input, groups):
    """(N, C, ...): channels of `groups` groups dealt out in turn, for the next layer to mix (Zhang et al. 2018)."""
    groups = _factor("channel_shuffle", "groups", groups)
    expect(input.ndim >= 3, "channel_shuffle: input must be (N, C, ...)", input)
    n, channels, *rest = input.shape
    expect(channels % groups == 0, f"channel_shuffle: the channels must be a multiple of groups={groups}", input)
    return reshape(reshape(input, (n, groups, channels // groups, *rest)).transpose(1, 2), (n, channels, *rest))


def _factor(name, what, factor):
    expect(isinstance(factor, int) and factor > 0, f"{name}: {what} is a positive integer", factor, error=ArgumentError)
    return factor


def _picture(name, x):
    expect(x.ndim >= 3, f"{name}: input must be (..., C, H, W)", x)
    return x.shape
