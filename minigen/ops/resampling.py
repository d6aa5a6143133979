"""A sequence, picture or volume at another size: `interpolate`.

Resampling one dimension is a linear map: each new sample is a weighted sum of a few old ones. So it is written as a
small matrix (new, old) for each dimension, and a product along that dimension; its gradients, of any order, are
products with the same matrix. Only the nearest neighbour, which copies, is done by copying.
"""

import math

import numpy as np

from ..device import xp
from ..errors import ArgumentError, ShapeError, expect
from ..tensor import Tensor
from ..tensor import value as array
from .linalg import matmul
from .picking import index_select
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .shape import movedim, reshape

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
    for d in range(dims):
        old = input.shape[d + 2]
        if not interpolating:
            input = _nearest(input, d + 2, new[d], scales[d], exact=mode == "nearest-exact")
        elif old != new[d] or scales[d] != 1.0 or align_corners:
            cubic = mode == "bicubic"
            weights = (_smooth if antialias else _weights)(old, new[d], scales[d], bool(align_corners), cubic)
            input = _along(input, d + 2, weights)
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


def _nearest(x, dim, new, scale, exact):
    old = x.shape[dim]
    if new % old == 0 and scale == old / new:  # each sample repeated
        shape = tuple(x.shape)
        y = reshape(x, (*shape[: dim + 1], 1, *shape[dim + 1 :])).expand(
            *shape[: dim + 1], new // old, *shape[dim + 1 :]
        )
        return reshape(y, (*shape[:dim], new, *shape[dim + 1 :]))
    i = np.arange(
        new, dtype=np.float32
    )  # in float32, as in PyTorch: 3 * (1 / 0.6) is 5 there, and just below 5 in float64
    places = np.floor((i + np.float32(0.5 * exact)) * np.float32(scale)).astype(np.int64)
    return index_select(x, dim, xp(array(x)).asarray(np.minimum(places, old - 1)))


def _along(x, dim, weights):
    """weights (new, old) applied along one dimension of x."""
    w = xp(array(x)).asarray(weights, x.dtype)
    if dim == x.ndim - 1:
        return matmul(x, Tensor(w.T))
    if dim == x.ndim - 2:
        return matmul(Tensor(w), x)
    return movedim(matmul(movedim(x, dim, -1), Tensor(w.T)), -1, dim)


def _weights(old, new, scale, align_corners, cubic):
    """The matrix of linear or cubic interpolation (Keys 1981, with a = -0.75)."""
    i = np.arange(new)
    if align_corners:
        where = i * ((old - 1) / (new - 1) if new > 1 else 0.0)
    else:
        where = (i + 0.5) * scale - 0.5
    if not cubic:
        where = np.maximum(where, 0.0)
    left = np.floor(where).astype(np.int64)
    t = where - left
    taps = range(-1, 3) if cubic else range(2)
    weights = np.zeros((new, old))
    for tap in taps:
        factor = keys(np.abs(t - tap), -0.75) if cubic else 1 - np.abs(t - tap)
        np.add.at(weights, (i, np.clip(left + tap, 0, old - 1)), factor)
    return weights


def _smooth(old, new, scale, align_corners, cubic):
    """The same with a filter that is `scale` times as wide when shrinking (a = -0.5), so that no sample is skipped."""
    if align_corners:
        scale = (old - 1) / (new - 1) if new > 1 else 0.0
    wide = max(scale, 1.0)
    centre = scale * (np.arange(new)[:, None] + 0.5)
    reach = (2.0 if cubic else 1.0) * wide
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach + 0.5).astype(np.int64), old)
    j = np.arange(old)[None, :]
    distance = np.abs((j - centre + 0.5) / wide)
    weights = keys(distance, -0.5) if cubic else np.maximum(1 - distance, 0.0)
    weights = np.where((j >= first) & (j < end), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def keys(d, a):
    """Keys's cubic filter at the distances d >= 0 (Keys 1981, eq. 15; a = -0.5 there)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
