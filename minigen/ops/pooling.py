"""Pooling: windows of a sequence, picture or volume reduced to their mean, their largest element, or a p-norm.

    avg_pool max_pool lp_pool             windows of a given size and stride, in one to three dimensions
    adaptive_avg_pool adaptive_max_pool   windows that give a wanted size
    max_unpool                            the largest elements put back where they were

A window's place (i, j) over all windows at once is a strided slice of the input, so that a pool of k x k is k * k
additions, or comparisons, of whole arrays.
"""

import itertools
import math

import numpy as np

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, DimError, DtypeError, ShapeError, expect
from ..tensor import Tensor
from ..tensor import value as array
from .activations import relu
from .arithmetic import abs, sign
from .linalg import matmul
from .padding import pad as add_border
from .picking import gather
from .scatter import scatter_add
from .shape import movedim, reshape, squeeze, unsqueeze

# Arguments


def several(name, what, value, dims, least=1):
    """`value` for each of `dims` dimensions. Raises ArgumentError for what is not integers of at least `least`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    values = values * dims if len(values) == 1 else values
    expect(
        len(values) == dims and all(isinstance(n, (int, np.integer)) and n >= least for n in values),
        f"{name}: {what} is one integer or {dims}, at least {least}",
        value,
        error=ArgumentError,
    )
    return tuple([int(n) for n in values])


def batched(name, x, dims):
    """(x with a batch dimension in front, whether it had one)."""
    places = ", ".join("DHW"[3 - dims :])
    expect(
        isinstance(x, Tensor) and x.ndim in (dims + 1, dims + 2),
        f"{name}: input must be a tensor (N, C, {places}) or (C, {places})",
        x,
        error=ShapeError if isinstance(x, Tensor) else DtypeError,
    )
    return (x, True) if x.ndim == dims + 2 else (unsqueeze(x, 0), False)


def counted(name, x, kernel, stride, padding, dilation, ceil_mode):
    """How many windows fit into each dimension. Raises ShapeError if none does, ArgumentError for too much padding."""
    count = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation):
        expect(
            2 * p <= d * (k - 1) + 1, f"{name}: padding {p} is more than half of the kernel {k}", error=ArgumentError
        )
        room = n + 2 * p - d * (k - 1) - 1
        c = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (c - 1) * s >= n + p:  # the last window must start inside the input or its left border
            c -= 1
        expect(n > 0 and c > 0, f"{name}: no window of {kernel}, dilation {dilation}, fits into {x.shape[2:]}", x)
        count.append(c)
    return tuple(count)


def bordered(x, kernel, stride, padding, dilation, count, fill):
    """x with a border such that all windows are whole."""
    widths = []
    for n, k, s, p, d, c in zip(x.shape[2:], kernel, stride, padding, dilation, count):
        widths = [p, (c - 1) * s + d * (k - 1) + 1 - n - p, *widths]
    return add_border(x, tuple(widths), value=fill) if any(widths) else x


def windows(kernel, stride, dilation, count):
    """For each place in a window: the place, and the slices that pick it from every window."""
    for place in itertools.product(*map(range, kernel)):
        yield (
            place,
            (
                ...,
                *[slice(i * d, i * d + s * (c - 1) + 1, s) for i, s, d, c in zip(place, stride, dilation, count)],
            ),
        )


# Means


@op
def _window_sums(x, kernel, stride, count):
    y = 0
    for _, place in windows(kernel, stride, (1,) * len(kernel), count):
        y = y + x[place]
    return y


@op
def _window_spread(y, kernel, stride, size):
    """Each window's number added to all its places: the transpose of `_window_sums`."""
    x = xp(y).zeros_like(y, shape=(*y.shape[:2], *size))
    for _, place in windows(kernel, stride, (1,) * len(kernel), y.shape[2:]):
        x[place] += y
    return x


_window_sums.gradient(x=lambda g, x_shape, kernel, stride: _window_spread(g, kernel, stride, tuple(x_shape[2:])))
_window_spread.gradient(y=lambda g, kernel, stride, y_shape: _window_sums(g, kernel, stride, tuple(y_shape[2:])))


def _avg_pool(name, dims, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    x, had_batch = batched(name, x, dims)
    kernel = several(name, "kernel_size", kernel, dims)
    stride = kernel if stride is None or stride == () else several(name, "stride", stride, dims)
    padding, ones = several(name, "padding", padding, dims, 0), (1,) * dims
    expect(divisor is None or divisor != 0, f"{name}: divisor_override must not be zero", error=ArgumentError)
    count = counted(name, x, kernel, stride, padding, ones, ceil_mode)
    sums = _window_sums(bordered(x, kernel, stride, padding, ones, count, 0), kernel, stride, count)
    if divisor is not None:
        y = sums * (1.0 / divisor)
    elif not ceil_mode and (count_include_pad or not any(padding)):
        y = sums * (1.0 / math.prod(kernel))
    else:
        area = np.ones(())
        for n, k, s, p, c in zip(x.shape[2:], kernel, stride, padding, count):
            first = np.arange(c) * s - p
            end = np.minimum(first + k, n + p)
            held = end - first if count_include_pad else np.minimum(end, n) - np.maximum(first, 0)
            area = np.multiply.outer(area, held)
        y = sums * Tensor(xp(array(x)).asarray(1.0 / area, x.dtype))
    return y if had_batch else squeeze(y, 0)


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of each window of input (N, C, W) or (C, W). See `avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """The mean of each window of input (N, C, H, W) or (C, H, W).

    stride             the kernel's size if None
    ceil_mode          also a last window that is only partly inside
    count_include_pad  the zeros of the border count in the mean
    divisor_override   divide the sum by this instead

    Raises ShapeError if no window fits.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """The mean of each window of input (N, C, D, H, W) or (C, D, H, W). See `avg_pool2d`."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(name, dims, x, norm_type, kernel, stride, ceil_mode):
    expect(norm_type != 0, f"{name}: norm_type must not be 0", error=ArgumentError)
    kernel = several(name, "kernel_size", kernel, dims)
    means = _avg_pool(name, dims, x**norm_type, kernel, stride, 0, ceil_mode, True, None)
    return (sign(means) * relu(abs(means)) * float(math.prod(kernel))) ** (1.0 / norm_type)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of each window, p = norm_type: (sum of x**p) ** (1/p). Input (N, C, W) or (C, W)."""
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of each window, p = norm_type: (sum of x**p) ** (1/p). Input (N, C, H, W) or (C, H, W)."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of each window, p = norm_type: (sum of x**p) ** (1/p). Input (N, C, D, H, W) or (C, D, H, W)."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


# Maxima


def _largest(x, kernel, stride, padding, dilation, count):
    """Where each window's largest element stands in x (N, C, ...), counted in its flattened last dimensions: an array.

    Of equals the first; a NaN counts as the largest. Places in the border are never chosen.
    """
    lib = xp(x)
    size, lowest = x.shape[2:], -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    x = bordered(x, kernel, stride, padding, dilation, count, lowest)
    best = where = None
    for place, slices in windows(kernel, stride, dilation, count):
        found, flat = x[slices], np.zeros((), np.int64)
        inside = np.ones((), bool)
        for i, s, p, d, c, n in zip(place, stride, padding, dilation, count, size):
            here = np.arange(c) * s + i * d - p
            flat = flat[..., None] * n + here
            inside = inside[..., None] & (here >= 0) & (here < n)
        flat, inside = lib.asarray(flat), lib.asarray(inside)
        if best is None:
            best, where = found, lib.where(inside, lib.broadcast_to(flat, found.shape), -1)
        else:
            better = inside & ((found > best) | lib.isnan(found) | (where < 0))
            best, where = lib.where(better, found, best), lib.where(better, flat, where)
    return where


def _at(x, where):
    """The elements of x (N, C, ...) at flat places (N, C, ...): differentiable, as `gather` is."""
    n, c, rows = *x.shape[:2], math.prod(x.shape[2:])
    places = Tensor(where.reshape(n, c, math.prod(where.shape[2:])))
    return reshape(gather(reshape(x, (n, c, rows)), 2, places), where.shape)


def _max_pool(name, dims, x, kernel, stride, padding, dilation, ceil_mode, return_indices):
    x, had_batch = batched(name, x, dims)
    kernel = several(name, "kernel_size", kernel, dims)
    stride = kernel if stride is None or stride == () else several(name, "stride", stride, dims)
    padding = several(name, "padding", padding, dims, 0)
    for k, p in zip(kernel, padding):
        expect(2 * p <= k, f"{name}: padding {p} is more than half of the kernel {k}", error=ArgumentError)
    dilation = several(name, "dilation", dilation, dims)
    count = counted(name, x, kernel, stride, padding, dilation, ceil_mode)
    where = _largest(array(x), kernel, stride, padding, dilation, count)
    return _with_indices(_at(x, where), where, had_batch, return_indices)


def _with_indices(y, where, had_batch, return_indices):
    if not had_batch:
        y, where = squeeze(y, 0), where[0]
    return (y, Tensor(where)) if return_indices else y


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of input (N, C, W) or (C, W). See `max_pool2d`."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of input (N, C, H, W) or (C, H, W).

    stride          the kernel's size if None
    padding         a border of -inf, at most half of the kernel
    ceil_mode       also a last window that is only partly inside
    return_indices  also where they stand, counted in each flattened picture: what `max_unpool2d` takes

    Raises ShapeError if no window fits.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of input (N, C, D, H, W) or (C, D, H, W). See `max_pool2d`."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_unpool(name, dims, x, indices, kernel, stride, padding, output_size):
    x, had_batch = batched(name, x, dims)
    where = array(indices)
    where = where if had_batch else where[None]
    expect(x.shape == where.shape, f"{name}: one index for each element", x, indices)
    expect(where.dtype.kind in "iu", f"{name}: the indices must be integers", indices, error=DtypeError)
    kernel = several(name, "kernel_size", kernel, dims)
    stride = kernel if stride is None or stride == () else several(name, "stride", stride, dims)
    padding = several(name, "padding", padding, dims, 0)
    usual = tuple([(n - 1) * s - 2 * p + k for n, k, s, p in zip(x.shape[2:], kernel, stride, padding)])
    size = usual if output_size is None else tuple(output_size)[-dims:]
    near = len(size) == dims and all(-s < n - u < s for n, u, s in zip(size, usual, stride))
    expect(near, f"{name}: output_size must be within a stride of {usual}", output_size)
    n, c, rows = *x.shape[:2], math.prod(size)
    if where.size and not (int(where.min()) >= 0 and int(where.max()) < rows):
        raise DimError(f"{name}: an index of {int(where.max())} in pictures of {size}, {rows} elements each")
    zeros = Tensor(xp(where).zeros((n, c, rows), x.dtype))
    flat = math.prod(x.shape[2:])
    y = scatter_add(zeros, 2, Tensor(where.reshape(n, c, flat)), reshape(x, (n, c, flat)))
    y = reshape(y, (n, c, *size))
    return y if had_batch else squeeze(y, 0)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, and the elements of input (N, C, W) at `indices`, as `max_pool1d` gave them. See `max_unpool2d`."""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, and the elements of input (N, C, H, W) at `indices`, as `max_pool2d` gave them (Zeiler & Fergus 2014).

    output_size says which of the sizes that pool to input's is meant. Where two windows chose one element, it is added.
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, and the elements of input (N, C, D, H, W) at `indices`. See `max_unpool2d`."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


# Windows that give a wanted size


def _wanted(name, x, output_size, dims):
    size = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    expect(len(size) == dims, f"{name}: output_size is one integer or {dims}", output_size, error=ArgumentError)
    size = tuple([old if new is None else new for new, old in zip(size, x.shape[2:])])
    size = several(name, "output_size", size, dims, 0)
    expect(min(x.shape[2:]) > 0 or 0 in size, f"{name}: the input has no elements to pool", x)
    return size


def _edges(old, new):
    """Where the windows start and end: as even as integers allow."""
    i = np.arange(new)
    return i * old // max(new, 1), -(-(i + 1) * old // max(new, 1))


def _adaptive_avg_pool(name, dims, x, output_size):
    x, had_batch = batched(name, x, dims)
    size = _wanted(name, x, output_size, dims)
    if all(n and old % n == 0 for old, n in zip(x.shape[2:], size)):
        kernel = tuple([old // n for old, n in zip(x.shape[2:], size)])
        y = _avg_pool(name, dims, x, kernel, None, 0, False, True, None)
    else:  # a linear map of each dimension: one small matrix of means each
        y = x
        for d, (old, new) in enumerate(zip(x.shape[2:], size)):
            first, end = _edges(old, new)
            j = np.arange(old)
            means = ((j >= first[:, None]) & (j < end[:, None])) / np.maximum(end - first, 1)[:, None]
            y = movedim(matmul(movedim(y, d + 2, -1), Tensor(xp(array(x)).asarray(means.T, x.dtype))), -1, d + 2)
    return y if had_batch else squeeze(y, 0)


def adaptive_avg_pool1d(input, output_size):
    """The means of output_size even windows of input (N, C, W) or (C, W)."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input, output_size):
    """The means of even windows of input (N, C, H, W) or (C, H, W), as many as output_size says; None keeps a size."""
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """The means of even windows of input (N, C, D, H, W) or (C, D, H, W). See `adaptive_avg_pool2d`."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_max_pool(name, dims, x, output_size, return_indices):
    x, had_batch = batched(name, x, dims)
    size = _wanted(name, x, output_size, dims)
    values, lib = array(x), xp(array(x))
    edges = [list(zip(*_edges(old, new))) for old, new in zip(x.shape[2:], size)]
    where = lib.zeros((*x.shape[:2], *size), np.int64)
    flat = lib.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for cell in itertools.product(*map(range, size)):
        window = (..., *[slice(*edges[d][i]) for d, i in enumerate(cell)])
        found = values[window].reshape(*x.shape[:2], -1)
        where[(..., *cell)] = flat[window].reshape(-1)[found.argmax(-1)]
    return _with_indices(_at(x, where), where, had_batch, return_indices)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """The largest element of each of output_size even windows of input (N, C, W) or (C, W)."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """The largest element of each of even windows of input (N, C, H, W) or (C, H, W); None keeps a size."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """The largest element of each of even windows of input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)
