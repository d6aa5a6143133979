"""A sequence, picture or volume at another size: `interpolate`.

Resampling one dimension is a linear map: each new sample is a weighted sum of a few old ones. So each mode is a list of
places and weights for each new sample, and one op (along.py) applies it, one dimension after another; its gradients, of
any order, are the same op with the transposed lists.
"""

import functools
import math

import numpy as np

from ..errors import ArgumentError, ShapeError, expect
from .along import Mix, mix
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

DIMENSIONS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
MODES = ("nearest", "nearest-exact", "area", *DIMENSIONS)


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """input (N, C, d1, ...), with one to three dimensions d, at another size.

    size or scale_factor     one number, or one for each dimension
    mode                     "nearest", "nearest-exact", "linear" (one dimension), "bilinear", "bicubic" (two),
                             "trilinear" (three), "area" (the mean)
    align_corners            the first and last samples stay where they are; otherwise a sample stands for its cell
    recompute_scale_factor   use new size / old size, not the factor given
    antialias                when shrinking, widen the filter over all old samples ("bilinear" and "bicubic")

    Raises ArgumentError or ShapeError.
    """
    expect(mode in MODES, f"interpolate: mode is one of {', '.join(MODES)}", mode, error=ArgumentError)
    dims = input.ndim - 2
    expect(1 <= dims <= 3, "interpolate: input must be (N, C, ...) with one to three dimensions more", input)
    wanted = DIMENSIONS.get(mode, dims)
    expect(wanted == dims, f"interpolate: mode={mode!r} resamples {wanted} dimensions, the input has {dims}", input)
    interpolating = mode in DIMENSIONS
    expect(
        interpolating or align_corners is None,
        f"interpolate: mode={mode!r} takes no align_corners",
        error=ArgumentError,
    )
    expect(
        not antialias or mode in ("bilinear", "bicubic"),
        "interpolate: antialias goes with 'bilinear' and 'bicubic'",
        mode,
        error=ArgumentError,
    )
    new, scales = _sizes(input, dims, size, scale_factor, recompute_scale_factor)
    expect(min(input.shape[2:]) > 0 and min(new) > 0, f"interpolate: to {new}: every size must be at least 1", input)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[dims - 1](input, new)
    for d, (old, count, scale) in enumerate(zip(input.shape[2:], new, scales)):
        if old != count or scale != 1.0:
            input = mix(input, d + 2, _lists(mode, old, count, scale, bool(align_corners), bool(antialias)))
    return input


upsample = interpolate


def _sizes(x, dims, size, scale_factor, recompute):
    """The new size of each dimension, and how far apart two new samples are, in old ones."""
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: give size or scale_factor, and not both")
    given = size if size is not None else scale_factor
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,) * dims
    old = tuple(x.shape[2:])
    if len(given) != dims:
        raise ShapeError(
            f"interpolate: {given} for the {dims} dimensions of {tuple(x.shape)}: give one number, or {dims}"
        )
    if size is not None:
        expect(not recompute, "interpolate: recompute_scale_factor goes with scale_factor", error=ArgumentError)
        new = tuple([int(n) for n in given])
        return new, [o / max(n, 1) for o, n in zip(old, new)]
    new = tuple([math.floor(o * float(f)) for o, f in zip(old, given)])
    if recompute:
        return new, [o / max(n, 1) for o, n in zip(old, new)]
    return new, [1.0 / float(f) if f else 1.0 for f in given]


@functools.lru_cache(256)
def _lists(mode, old, new, scale, align_corners, antialias):
    """The places and weights of one dimension. `scale` is how far apart two new samples are, in old ones."""
    if align_corners:
        scale = (old - 1) / (new - 1) if new > 1 else 0.0
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest-exact" else 0.0
        places = np.floor((np.arange(new) + half) * np.float32(scale)).astype(np.int64)
        return Mix(np.minimum(places, old - 1)[None], np.ones((1, new)), old)
    cubic = mode == "bicubic"
    return _widened(old, new, scale, cubic) if antialias else _between(old, new, scale, align_corners, cubic)


def _between(old, new, scale, align_corners, cubic):
    """Linear or cubic interpolation (Keys 1981, with a = -0.75) between the 2 or 4 nearest old samples."""
    where = np.arange(new) * scale if align_corners else (np.arange(new) + 0.5) * scale - 0.5
    left = np.floor(where).astype(np.int64)
    tap = np.arange(-1, 3)[:, None] if cubic else np.arange(2)[:, None]
    distance = np.abs(where - left - tap)
    return Mix(np.clip(left + tap, 0, old - 1), keys(distance, -0.75) if cubic else 1.0 - distance, old)


def _widened(old, new, scale, cubic):
    """The same with a filter `scale` times as wide when shrinking (a = -0.5), so that no old sample is skipped."""
    wide = max(scale, 1.0)
    centre, reach = scale * (np.arange(new) + 0.5), (2.0 if cubic else 1.0) * wide
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach + 0.5).astype(np.int64), old)
    place = first + np.arange((end - first).max())[:, None]
    distance = np.abs((place - centre + 0.5) / wide)
    weights = keys(distance, -0.5) if cubic else np.maximum(1 - distance, 0.0)
    weights = np.where(place < end, weights, 0.0)
    return Mix(np.minimum(place, old - 1), weights / weights.sum(0), old)


def keys(d, a):
    """Keys's cubic filter at the distances d >= 0 (Keys 1981, eq. 15; a = -0.5 there)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
