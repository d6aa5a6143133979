"""A picture or volume read at any places: `grid_sample`, and the grids of affine maps."""

import math

import numpy as np

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, expect
from ..tensor import Tensor, reads
from ..tensor import value as array
from .arithmetic import clamp
from .linalg import matmul
from .picking import gather
from .shape import expand, reshape, unsqueeze

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    """input (N, C, H, W) read at grid (N, h, w, 2) -> (N, C, h, w); volumes likewise, with grid (N, d, h, w, 3).

    grid           where to read: x (along W) first, -1 and 1 being the two sides (Jaderberg et al. 2015)
    mode           "bilinear" (trilinear for volumes), "nearest", or "bicubic" (pictures only)
    padding_mode   what is outside: "zeros", the "border" element, or the "reflection"
    align_corners  -1 and 1 are the centres of the outermost elements, not their outer edges

    Raises ShapeError, ArgumentError.
    """
    name, align_corners = "grid_sample", bool(align_corners)
    expect(mode in MODES, f"{name}: mode is one of {', '.join(MODES)}", mode, error=ArgumentError)
    expect(
        padding_mode in PADDINGS,
        f"{name}: padding_mode is one of {', '.join(PADDINGS)}",
        padding_mode,
        error=ArgumentError,
    )
    dims = input.ndim - 2
    expect(
        dims in (2, 3)
        and grid.ndim == input.ndim
        and grid.shape[-1] == dims
        and grid.shape[0] == input.shape[0]
        and input.dtype == grid.dtype,
        f"{name}: input (N, C, H, W) and grid (N, h, w, 2), or (N, C, D, H, W) and (N, d, h, w, 3), of one type",
        input,
        grid,
    )
    expect(min(input.shape[2:]) > 0, f"{name}: the input has no elements to read", input)
    expect(mode != "bicubic" or dims == 2, f"{name}: 'bicubic' reads pictures only", input, error=ArgumentError)
    sizes = tuple(input.shape[2:])
    flat = reshape(input, (*input.shape[:2], math.prod(sizes)))
    where = [_unnormalised(grid[..., dims - 1 - d], sizes[d], align_corners) for d in range(dims)]  # rows first
    if mode != "bicubic":
        where = [_inside(p, n, padding_mode, align_corners) for p, n in zip(where, sizes)]
    if mode == "nearest":
        lib = xp(array(input))
        found = _read(flat, [lib.rint(array(p)).astype(np.int64) for p in where], sizes, grid.shape)
        return _flat_in(found, grid)
    taps = range(-1, 3) if mode == "bicubic" else range(2)
    left = [xp(array(p)).floor(array(p)) for p in where]
    total = None
    for corner in np.ndindex(*(len(taps),) * dims):
        weight, places = None, []
        for d in range(dims):
            tap = taps[corner[d]]
            t = where[d] - Tensor(left[d])
            factor = _cubic(t, tap) if mode == "bicubic" else t if tap else 1.0 - t
            weight = factor if weight is None else weight * factor
            place = left[d] + tap
            if mode == "bicubic":
                place = array(_inside(Tensor(place), sizes[d], padding_mode, align_corners))
                place = xp(place).rint(place)
            places.append(place.astype(np.int64))
        term = _read(flat, places, sizes, grid.shape) * unsqueeze(weight, 1)
        total = term if total is None else total + term
    return total


@op
def _flat_in(y, grid):
    """y, of which a change of the grid changes nothing: the gradient of `grid` is zero, not missing."""
    return y


_flat_in.gradient(y=lambda g: g, grid=lambda g, grid: grid * 0.0)


def _unnormalised(p, n, align_corners):
    """-1 to 1 as places 0 to n - 1."""
    return (p + 1.0) * (0.5 * (n - 1)) if align_corners else ((p + 1.0) * n - 1.0) * 0.5


def _inside(p, n, padding_mode, align_corners):
    """Places outside brought inside, as padding_mode says; "zeros" leaves them outside."""
    if padding_mode == "zeros":
        return p
    if padding_mode == "reflection":
        low, span = (0.0, float(n - 1)) if align_corners else (-0.5, float(n))
        if span == 0:
            return p * 0.0
        lib, q = xp(array(p)), array(p)
        flips = lib.floor(lib.abs(q - low) / span)
        sign = lib.where(q < low, -1.0, 1.0).astype(q.dtype)
        away = (p - low) * Tensor(sign) - Tensor(flips * q.dtype.type(span))
        odd = Tensor((flips % 2).astype(q.dtype))
        p = away * (1.0 - 2.0 * odd) + odd * span + low
    return clamp(p, 0.0, float(n - 1))


def _cubic(t, tap):
    """Keys's weight (a = -0.75) of the sample at left + tap, at the place left + t."""
    a = -0.75
    d = t + 1.0 if tap == -1 else t if tap == 0 else 1.0 - t if tap == 1 else 2.0 - t
    if tap in (0, 1):
        return ((a + 2) * d - (a + 3)) * d * d + 1.0
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


def _read(flat, places, sizes, grid_shape):
    """flat (N, C, M) at integer places, one array for each dimension -> (N, C, *grid); zeros outside."""
    lib = xp(array(flat))
    reads("a look at which points lie inside the picture")
    n, channels = flat.shape[:2]
    ok, index = True, 0
    for place, size in zip(places, sizes):
        ok = ok & (place >= 0) & (place < size)
        index = index * size + lib.clip(place, 0, size - 1)
    index = lib.broadcast_to(index.reshape(n, 1, -1), (n, channels, index[0].size if n else 0))
    found = reshape(gather(flat, 2, Tensor(index)), (n, channels, *grid_shape[1:-1]))
    return found if bool(lib.all(ok)) else found * Tensor(lib.expand_dims(ok, 1).astype(flat.dtype))


def affine_grid(theta, size, align_corners=False):
    """The places that the affine maps theta (N, 2, 3) read for an output of size (N, C, H, W) -> (N, H, W, 2).

    For volumes theta (N, 3, 4) and size (N, C, D, H, W) -> (N, D, H, W, 3). What `grid_sample` takes.
    """
    size = tuple(int(n) for n in size)
    dims = len(size) - 2
    expect(
        dims in (2, 3) and tuple(theta.shape) == (size[0], dims, dims + 1),
        "affine_grid: theta (N, 2, 3) with size (N, C, H, W), or (N, 3, 4) with (N, C, D, H, W)",
        theta,
        size,
    )
    expect(min(size) > 0, "affine_grid: every size must be positive", size)
    lib = xp(array(theta))
    axes = []
    for n in size[2:]:
        if align_corners:
            axes.append(lib.linspace(-1.0, 1.0, n) if n > 1 else lib.zeros(1))
        else:
            axes.append((2.0 * lib.arange(n) + 1.0) / n - 1.0)
    places = lib.meshgrid(*axes, indexing="ij")
    base = lib.stack([*places[::-1], lib.ones_like(places[0])], axis=-1).reshape(-1, dims + 1).astype(theta.dtype)
    base = expand(unsqueeze(Tensor(base), 0), size[0], base.shape[0], dims + 1)
    return reshape(matmul(base, theta.swapaxes(1, 2)), (size[0], *size[2:], dims))
