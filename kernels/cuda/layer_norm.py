"""Layer norm and RMS norm, and their gradients, over the last dimensions: layer_norm.cu.

y and dL/dx have x's type, the gradients of weight and bias have the weight's; mean and rstd are float32, one a row.
"""

import numpy as np

from .compile import FLOATS, Source, cast, contiguous, library, over, rows_of
from .reduce import add_parts
from .rows import NARROW, WARPS, numbers_per_lane, plan, threads_per_row

TYPES = FLOATS
KERNELS = Source("layer_norm.cu")
PARTS = 256  # partial sums, at most, of the gradients of weight and bias


def layer_norm(x, weight, bias, eps, dims=1):
    """Normalise over the last `dims` dimensions. weight and bias may be None. Returns y, mean, rstd (one a row)."""
    rows = rows_of(x, dims)
    y, (mean, rstd) = library(x).empty_like(rows), library(x).empty((2, len(rows)), np.float32)
    forward("layer_norm", rows, weight, bias, eps, y, mean, rstd)
    return y.reshape(x.shape), mean, rstd


def rms_norm(x, weight, eps, dims=1):
    """Divide by the root of the mean square over the last `dims` dimensions. weight may be None. Returns y, rstd."""
    rows = rows_of(x, dims)
    y, rstd = library(x).empty_like(rows), library(x).empty(len(rows), np.float32)
    forward("rms_norm", rows, weight, None, eps, y, None, rstd)
    return y.reshape(x.shape), rstd


def layer_norm_gradient(g, x, weight, mean, rstd, dims=1):
    """dL/dx, dL/dweight, dL/dbias; without a weight dL/dweight means nothing."""
    gx, (gweight, gbias) = gradient("layer_norm", 2, g, x, weight, mean, rstd, dims)
    return gx, gweight, gbias


def rms_norm_gradient(g, x, weight, rstd, dims=1):
    """dL/dx, dL/dweight; without a weight dL/dweight means nothing."""
    gx, (gweight,) = gradient("rms_norm", 1, g, x, weight, None, rstd, dims)
    return gx, gweight


def forward(name, rows, weight, bias, eps, y, mean, rstd):
    kind = parameter_type(weight if bias is None else bias, rows)
    weight, bias = vector(weight, kind), vector(bias, kind)
    form, grid, block = plan(*rows.shape, rows.dtype)
    types = rows.dtype, kind
    KERNELS.run(f"{name}_{form}", types, grid, block, rows, weight, bias, float(eps), y, mean, rstd, *rows.shape)


def gradient(name, count, g, x, weight, mean, rstd, dims):
    """dL/dx, and the gradients of the parameters: `count` arrays of the shape of x's last `dims` dimensions."""
    rows, kind = rows_of(x, dims), parameter_type(weight, x)
    d, gx, weight = rows_of(cast(g, x.dtype), dims), library(x).empty_like(rows), vector(weight, kind)
    (n, width), types = rows.shape, (x.dtype, kind)
    step = max(over(n, PARTS), WARPS)
    parts = over(n, step)
    partial = library(x).empty((count, parts, width), np.float32)
    if width <= NARROW:
        form, block = f"{name}_gradient_narrow_{numbers_per_lane(width, x.dtype)}", 32 * WARPS
        KERNELS.run(form, types, parts, block, d, rows, weight, mean, rstd, gx, partial, n, width, step)
    else:
        block = threads_per_row(width, x.dtype)
        KERNELS.run(f"{name}_gradient_wide", types, n, block, d, rows, weight, mean, rstd, gx, width)
        tiles = over(width, 32 * (16 // x.dtype.itemsize))
        KERNELS.run(
            f"{name}_parameters", types, (tiles, parts), 32 * WARPS, d, rows, mean, rstd, partial, n, width, step
        )
    return gx.reshape(x.shape), add_parts(partial, kind).reshape(count, *x.shape[x.ndim - dims :])


def parameter_type(parameter, x):
    return x.dtype if parameter is None else parameter.dtype


def vector(parameter, dtype):
    return None if parameter is None else contiguous(cast(parameter, dtype)).reshape(-1)
