"""Layer norm and RMS norm, and their gradients, over the last dimensions: layer_norm.cu.

dL/dx has x's type, and so has y, unless it is asked for in 16 bits of a float32 x. The gradients of weight and bias
have the weight's type; mean and rstd are float32, one a row.
"""

import numpy as np

from .compile import FLOATS, Source, cast, contiguous, library, over, rows_of
from .reduce import add_parts
from .rows import NARROW, WARPS, numbers_per_lane, plan, threads_per_row

TYPES = FLOATS
KERNELS = Source("layer_norm.cu")
PARTS = 256  # partial sums, at most, of the gradients of weight and bias
HOLDERS = 512  # threads, at most, that hold a row of the gradient in registers, 8 or 16 numbers each


def layer_norm(x, weight, bias, eps, dims=1, dtype=None):
    """Normalise over the last `dims` dimensions. weight and bias may be None. Returns y, mean, rstd (one a row).

    dtype    y's type, by default x's
    """
    rows = rows_of(x, dims)
    y, (mean, rstd) = library(x).empty(rows.shape, dtype or x.dtype), library(x).empty((2, len(rows)), np.float32)
    forward("layer_norm", rows, weight, bias, eps, y, mean, rstd)
    return y.reshape(x.shape), mean, rstd


def rms_norm(x, weight, eps, dims=1, dtype=None):
    """Divide by the root of the mean square over the last `dims` dimensions. weight may be None. Returns y, rstd."""
    rows = rows_of(x, dims)
    y, rstd = library(x).empty(rows.shape, dtype or x.dtype), library(x).empty(len(rows), np.float32)
    forward("rms_norm", rows, weight, None, eps, y, None, rstd)
    return y.reshape(x.shape), rstd


def layer_norm_gradient(g, x, weight, mean, rstd, dims=1, into=(None, None)):
    """dL/dx, dL/dweight, dL/dbias; without a weight dL/dweight means nothing.

    into    contiguous arrays to write the last two to and return, or None for new ones
    """
    return gradient("layer_norm", g, x, weight, mean, rstd, dims, into)


def rms_norm_gradient(g, x, weight, rstd, dims=1, into=(None,)):
    """dL/dx, dL/dweight; without a weight dL/dweight means nothing."""
    return gradient("rms_norm", g, x, weight, None, rstd, dims, into)


def forward(name, rows, weight, bias, eps, y, mean, rstd):
    kind = parameter_type(weight if bias is None else bias, rows)
    weight, bias = vector(weight, kind), vector(bias, kind)
    form, grid, block = plan(*rows.shape, rows.dtype)
    types = types_of(rows, kind, y)
    KERNELS.run(f"{name}_{form}", types, grid, block, rows, weight, bias, float(eps), y, mean, rstd, *rows.shape)


def gradient(name, g, x, weight, mean, rstd, dims, into):
    """dL/dx, and the gradients of the parameters, of the shape of x's last `dims` dimensions, as many as `into` has."""
    rows, kind = rows_of(x, dims), parameter_type(weight, x)
    d = rows_of(g if g.dtype.itemsize < x.dtype.itemsize else cast(g, x.dtype), dims)
    gx, weight, (n, width), types = library(x).empty_like(rows), vector(weight, kind), rows.shape, types_of(x, kind, d)
    step = max(over(n, PARTS), WARPS)
    parts = over(n, step)
    partial = library(x).empty((len(into), parts, width), np.float32)
    if width <= NARROW:
        form, block = f"{name}_gradient_narrow_{numbers_per_lane(width, x.dtype)}", 32 * WARPS
        KERNELS.run(form, types, parts, block, d, rows, weight, mean, rstd, gx, partial, n, width, step)
    elif width <= 16 * HOLDERS:
        each = 8 if width <= 8 * HOLDERS else 16
        form, block = f"{name}_gradient_held_{each}", 32 * over(width, 32 * each)
        KERNELS.run(form, types, parts, block, d, rows, weight, mean, rstd, gx, partial, n, width, step)
    else:
        block = threads_per_row(width, x.dtype)
        KERNELS.run(f"{name}_gradient_wide", types, n, block, d, rows, weight, mean, rstd, gx, width)
        tiles = over(width, 32 * (16 // x.dtype.itemsize))
        KERNELS.run(
            f"{name}_parameters", types, (tiles, parts), 32 * WARPS, d, rows, mean, rstd, partial, n, width, step
        )
    shape = x.shape[x.ndim - dims :]
    if all(array is None for array in into):
        return gx.reshape(x.shape), *add_parts(partial, kind).reshape(len(into), *shape)
    sums = [add_parts(partial[i : i + 1], kind, array) for i, array in enumerate(into)]
    return gx.reshape(x.shape), *[a.reshape(shape) if array is None else array for a, array in zip(sums, into)]


def types_of(x, kind, y):
    """T, W and, where it is not T, Y."""
    return (x.dtype, kind) if y.dtype == x.dtype else (x.dtype, kind, y.dtype)


def parameter_type(parameter, x):
    return x.dtype if parameter is None else parameter.dtype


def vector(parameter, dtype):
    return None if parameter is None else contiguous(cast(parameter, dtype)).reshape(-1)
