"""Windows of a picture as columns, and back (`unfold`, `fold`); and channels traded for pixels (`pixel_shuffle`)."""

import math

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, expect
from .shape import reshape
from .windows import Window, batched, per_dim, taps, unbatched, window_count


@op
def _unfold(x, kernel, count, window):
    """x (N, C, H, W) -> its windows (N, C, kh, kw, oh, ow)."""
    y = xp(x).zeros((*x.shape[:2], *kernel, *count), x.dtype)
    for tap, reached, seen in taps(kernel, count, x.shape[2:], window):
        y[(slice(None), slice(None), *tap[1:], *reached[1:])] = x[seen]
    return y


@op
def _fold(y, size, window):
    """Windows y (N, C, kh, kw, oh, ow) -> their sum where they overlap (N, C, *size): the transpose of `_unfold`."""
    x = xp(y).zeros((*y.shape[:2], *size), y.dtype)
    for tap, reached, seen in taps(y.shape[2:4], y.shape[4:], size, window):
        x[seen] += y[(slice(None), slice(None), *tap[1:], *reached[1:])]
    return x


_unfold.gradient(x=lambda g, x_shape, window: _fold(g, tuple(x_shape[2:]), window))
_fold.gradient(y=lambda g, y_shape, window: _unfold(g, tuple(y_shape[2:4]), tuple(y_shape[4:]), window))


def _arguments(name, kernel, dilation, padding, stride):
    kernel, dilation = per_dim(name, "kernel_size", kernel, 2, 1), per_dim(name, "dilation", dilation, 2, 1)
    return kernel, Window(per_dim(name, "stride", stride, 2, 1), per_dim(name, "padding", padding, 2), dilation)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of input (N, C, H, W), or (C, H, W), as columns (N, C * kh * kw, L) (im2col). L counts the windows.

    Raises ShapeError if no window fits.
    """
    kernel, window = _arguments("unfold", kernel_size, dilation, padding, stride)
    x, had_batch = batched("unfold", input, 2)
    count = tuple([window_count("unfold", *line) for line in zip(x.shape[2:], kernel, *window[:3])])
    columns = x.shape[0], x.shape[1] * math.prod(kernel), math.prod(count)
    return unbatched(reshape(_unfold(x, kernel, count, window), columns), had_batch)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns (N, C * kh * kw, L), or without N, added up to a picture (N, C, *output_size): unfold's transpose.

    Raises ShapeError if L is not the number of windows, or the rows are no multiple of kh * kw.
    """
    size = per_dim("fold", "output_size", output_size, 2, 1)
    kernel, window = _arguments("fold", kernel_size, dilation, padding, stride)
    expect(input.ndim in (2, 3), "fold: input must be (N, C * kh * kw, L) or (C * kh * kw, L)", input)
    y = input if input.ndim == 3 else reshape(input, (1, *input.shape))
    count = tuple([window_count("fold", *line) for line in zip(size, kernel, *window[:3])])
    area = math.prod(kernel)
    expect(
        y.shape[1] % area == 0 and y.shape[2] == math.prod(count),
        f"fold: output {size} has {math.prod(count)} windows of {kernel}: input must be "
        f"(N, C * {area}, {math.prod(count)})",
        input,
    )
    y = reshape(y, (y.shape[0], y.shape[1] // area, *kernel, *count))
    return unbatched(_fold(y, size, window), input.ndim == 3)


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
