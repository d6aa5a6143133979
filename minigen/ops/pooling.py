"""Pooling: windows of a sequence, picture or volume reduced to their mean, their largest element, or a p-norm.

    avg_pool max_pool lp_pool             windows of a given size and stride, in one to three dimensions
    adaptive_avg_pool adaptive_max_pool   windows that give a wanted size
    max_unpool                            the largest elements put back where they were

Two pairs of linear ops carry the gradients, of every order: `_window_sums` and its transpose `_spread_sums`, `_take`
and its transpose `_put`. Without a kernel for the array, a pool of k x k is k * k additions, or comparisons, of slices.
"""

import functools
import itertools
import math

import numpy as np

from .. import kernels
from ..autograd import op
from ..device import home, xp
from ..errors import ArgumentError, DimError, DtypeError, expect
from ..tensor import Tensor
from ..tensor import value as array
from .activations import relu
from .along import Mix, mix
from .arithmetic import abs, sign
from .at import combine_at
from .windows import Window, batched, per_dim, taps, unbatched, window_count


def _arguments(name, dims, kernel, stride, padding, dilation=1):
    """(kernel, Window), one entry for each dimension; the stride is the kernel's size if None."""
    kernel = per_dim(name, "kernel_size", kernel, dims, least=1)
    stride = kernel if stride is None or stride == () else per_dim(name, "stride", stride, dims, least=1)
    padding = per_dim(name, "padding", padding, dims)
    dilation = per_dim(name, "dilation", dilation, dims, least=1)
    for k, p in zip(kernel, padding):
        if 2 * p > k:
            raise ArgumentError(f"{name}: padding {p} is more than half of the kernel {k}")
    return kernel, Window(stride, padding, dilation)


def _count(name, x, kernel, window, ceil_mode):
    """How many windows fit into each dimension. Raises ShapeError if none does."""
    if 0 in x.shape[1:]:
        expect(False, f"{name}: there is nothing to pool in", x)
    lines = zip(x.shape[2:], kernel, *window[:3])
    return tuple([window_count(name, *line, ceil_mode=ceil_mode) for line in lines])


# Means


@op
def _window_sums(x, kernel, count, window, scale=1.0):
    """x (N, C, ...) -> `scale` times the sum of each window (N, C, *count)."""
    family = kernels.find(x, "pool")
    if family is not None and x.size:
        return family.sum_pool(x, kernel, count, window, scale)
    y = xp(x).zeros((*x.shape[:2], *count), x.dtype)
    for _, reached, seen in taps(kernel, count, x.shape[2:], window):
        y[reached] += x[seen]
    return y * scale


@op
def _spread_sums(y, kernel, size, window, scale=1.0):
    """The transpose: each number y (N, C, ...), times `scale`, added to all places of its window in (N, C, *size)."""
    family = kernels.find(y, "pool")
    if family is not None and y.size:
        return family.spread(y, kernel, size, window, scale)
    y = y * scale
    x = xp(y).zeros((*y.shape[:2], *size), y.dtype)
    for _, reached, seen in taps(kernel, y.shape[2:], size, window):
        x[seen] += y[reached]
    return x


_window_sums.gradient(
    x=lambda g, x_shape, kernel, window, scale: _spread_sums(g, kernel, tuple(x_shape[2:]), window, scale)
)
_spread_sums.gradient(
    y=lambda g, y_shape, kernel, window, scale: _window_sums(g, kernel, tuple(y_shape[2:]), window, scale)
)


def _avg_pool(name, dims, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    x, had_batch = batched(name, x, dims)
    kernel, window = _arguments(name, dims, kernel, stride, padding)
    expect(divisor is None or divisor != 0, f"{name}: divisor_override must not be zero", error=ArgumentError)
    count = _count(name, x, kernel, window, ceil_mode)
    if divisor is None and (ceil_mode or (not count_include_pad and any(window.padding))):
        held = tuple(x.shape[2:]), kernel, count, window, count_include_pad
        sums = _window_sums(x, kernel, count, window)
        y = sums * Tensor(_shares(held, *home(array(x)), sums.dtype))
    else:
        y = _window_sums(x, kernel, count, window, 1.0 / (divisor or math.prod(kernel)))
    return unbatched(y, had_batch)


@functools.lru_cache(256)
def _shares(held, lib, place, dtype):
    """1 / the areas of the windows, in memory that stays on the GPU number `place`, for a step captured there."""
    return lib.asarray(1.0 / _areas(*held), dtype)


def _areas(size, kernel, count, window, count_include_pad):
    """How many places each window has inside the input, or inside the input and its padding."""
    areas = np.ones(())
    for n, k, c, s, p in zip(size, kernel, count, window.stride, window.padding):
        first = np.arange(c) * s - p
        end = np.minimum(first + k, n + p)
        held = end - first if count_include_pad else np.minimum(end, n) - np.maximum(first, 0)
        areas = np.multiply.outer(areas, held)
    return areas


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of each window of input (N, C, W) or (C, W). See `avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """The mean of each window of input (N, C, H, W) or (C, H, W).

    stride             the kernel's size if None
    padding            a border of zeros, at most half of the kernel
    ceil_mode          also a last window that is only partly inside
    count_include_pad  the zeros of the border count in the mean
    divisor_override   divide the sum by this instead

    Raises ShapeError if no window fits, ArgumentError.
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
    kernel = per_dim(name, "kernel_size", kernel, dims, least=1)
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


# Maxima. Where one stands is counted in the flattened last dimensions, and the gradient goes there.


@op
def _take(x, places):
    """x (N, C, ...) at places (N, C, ...)."""
    family = kernels.find(x, "pool")
    if family is not None and x.size and places.size:
        return family.take(x, places)
    flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    where = places.reshape(*places.shape[:2], math.prod(places.shape[2:]))
    return xp(x).take_along_axis(flat, where, axis=2).reshape(places.shape)


@op
def _put(y, places, size, pooled=None):
    """Zeros (N, C, *size), and y (N, C, ...) added at its places: the transpose of `_take`.

    pooled: (kernel, window) if place i lies in the i-th of these windows, so that few have to be looked at for each x.
    """
    family = kernels.find(y, "pool")
    if family is not None and y.size and 0 not in size:
        return family.put(y, places, size, pooled)
    planes, each = math.prod(y.shape[:2]), math.prod(y.shape[2:])
    x = xp(y).zeros((planes, math.prod(size)), y.dtype)
    index = xp(y).arange(planes)[:, None], places.reshape(planes, each)
    combine_at("add", x, index, y.reshape(planes, each))
    return x.reshape(*y.shape[:2], *size)


@op
def _place(y, places, size):
    """Zeros (N, C, *size), and y (N, C, ...) written at its places; of several at one place the last stays."""
    planes, each = math.prod(y.shape[:2]), math.prod(y.shape[2:])
    x = xp(y).zeros((planes, math.prod(size)), y.dtype)
    x[xp(y).arange(planes)[:, None], places.reshape(planes, each)] = y.reshape(planes, each)
    return x.reshape(*y.shape[:2], *size)


_place.gradient(y=lambda g, places: _take(g, places))
_take.gradient(x=lambda g, x_shape, places: _put(g, places, tuple(x_shape[2:])))
_put.gradient(y=lambda g, places: _take(g, places))


@op(outputs=2, saves=("places",))
def _largest(x, kernel, count, window):
    """The largest element of each window, and where it stands. Of equals the first; a NaN counts as the largest."""
    family = kernels.find(x, "pool")
    if family is not None and x.size:
        y, places = family.max_pool(x, kernel, count, window)
        return y, places, places
    lib, size = xp(x), x.shape[2:]
    numbers = lib.arange(math.prod(size)).reshape(size)
    y = lib.full((*x.shape[:2], *count), -np.inf, x.dtype)
    places = lib.full(y.shape, -1)
    for _, reached, seen in taps(kernel, count, size, window):
        better = (places[reached] < 0) | (x[seen] > y[reached]) | (x[seen] != x[seen])
        y[reached] = lib.where(better, x[seen], y[reached])
        places[reached] = lib.where(better, numbers[seen], places[reached])
    places = lib.maximum(places, 0)
    return y, places, places


_largest.gradient(x=lambda g, x_shape, kernel, window, places: _put(g[0], places, tuple(x_shape[2:]), (kernel, window)))


def _max_pool(name, dims, x, kernel, stride, padding, dilation, ceil_mode, return_indices):
    x, had_batch = batched(name, x, dims)
    kernel, window = _arguments(name, dims, kernel, stride, padding, dilation)
    y, places = _largest(x, kernel, _count(name, x, kernel, window, ceil_mode), window)
    y = unbatched(y, had_batch)
    return (y, unbatched(places, had_batch)) if return_indices else y


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of input (N, C, W) or (C, W). See `max_pool2d`."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of input (N, C, H, W) or (C, H, W).

    stride          the kernel's size if None
    padding         a border of -inf, at most half of the kernel
    ceil_mode       also a last window that is only partly inside
    return_indices  also where they stand, counted in each flattened picture: what `max_unpool2d` takes

    Raises ShapeError if no window fits, ArgumentError.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of input (N, C, D, H, W) or (C, D, H, W). See `max_pool2d`."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_unpool(name, dims, x, indices, kernel, stride, padding, output_size):
    x, had_batch = batched(name, x, dims)
    expect(hasattr(indices, "shape"), f"{name}: the indices must be a tensor", indices, error=DtypeError)
    places = array(indices) if had_batch else array(indices)[None]
    expect(tuple(x.shape) == places.shape, f"{name}: one index for each element", x, indices)
    expect(places.dtype.kind in "iu", f"{name}: the indices must be integers", indices, error=DtypeError)
    kernel, window = _arguments(name, dims, kernel, stride, padding)
    usual = tuple([(n - 1) * s - 2 * p + k for n, k, s, p in zip(x.shape[2:], kernel, *window[:2])])
    size = usual if output_size is None else tuple(output_size)[-dims:]
    near = len(size) == dims and all(-s < n - u < s for n, u, s in zip(size, usual, window.stride))
    expect(near, f"{name}: output_size must be within a stride of {usual}", output_size)
    rows = math.prod(size)
    if places.size and xp(places) is np and not (int(places.min()) >= 0 and int(places.max()) < rows):
        raise DimError(f"{name}: an index of {int(places.max())} in pictures of {size}, {rows} elements each")
    return unbatched(_place(x, places.astype(np.int64, copy=False), size), had_batch)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, and the elements of input (N, C, W) at `indices`, as `max_pool1d` gave them. See `max_unpool2d`."""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, and the elements of input (N, C, H, W) at `indices`, as `max_pool2d` gave them (Zeiler & Fergus 2014).

    output_size says which of the sizes that pool to input's is meant. Of two that go to one place the last stays.
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, and the elements of input (N, C, D, H, W) at `indices`. See `max_unpool2d`."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


# Windows that give a wanted size: the i-th of `new` goes from floor(i old / new) to ceil((i + 1) old / new), exclusive


def _wanted(name, x, output_size, dims):
    size = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    expect(len(size) == dims, f"{name}: output_size is one integer or {dims}", output_size, error=ArgumentError)
    size = tuple([old if new is None else new for new, old in zip(size, x.shape[2:])])
    size = per_dim(name, "output_size", size, dims)
    expect(0 not in x.shape[2:] or 0 in size, f"{name}: there is nothing to pool in", x)
    return size


def _edges(old, new):
    """Where the windows start and end."""
    i = np.arange(new)
    return i * old // max(new, 1), -(-(i + 1) * old // max(new, 1))


@functools.lru_cache(256)
def _means(old, new):
    """The means of even windows as lists for `mix`."""
    first, end = _edges(old, new)
    k = np.arange(max((end - first).max(initial=1), 1))[:, None]
    places = np.minimum(first + k, max(old - 1, 0))
    return Mix(places, (first + k < end) / np.maximum(end - first, 1), old)


def _adaptive_avg_pool(name, dims, x, output_size):
    x, had_batch = batched(name, x, dims)
    size = _wanted(name, x, output_size, dims)
    if all(n and old and old % n == 0 for old, n in zip(x.shape[2:], size)):
        kernel = tuple([old // n for old, n in zip(x.shape[2:], size)])
        return unbatched(_avg_pool(name, dims, x, kernel, None, 0, False, True, None), had_batch)
    for d, (old, new) in enumerate(zip(x.shape[2:], size)):
        x = mix(x, d + 2, _means(old, new))
    return unbatched(x, had_batch)


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
    if all(n and old and old % n == 0 for old, n in zip(x.shape[2:], size)):
        kernel = tuple([old // n for old, n in zip(x.shape[2:], size)])
        y, places = _largest(x, kernel, size, Window(kernel, (0,) * dims, (1,) * dims))
    else:
        places = _largest_of_uneven(array(x), size)
        y, places = _take(x, places), Tensor(places)
    y = unbatched(y, had_batch)
    return (y, unbatched(places, had_batch)) if return_indices else y


def _largest_of_uneven(x, size):
    """Where the largest elements of even windows stand, one window after another."""
    edges = [list(zip(*_edges(old, new))) for old, new in zip(x.shape[2:], size)]
    places = xp(x).zeros((*x.shape[:2], *size), np.int64)
    numbers = xp(x).arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for cell in itertools.product(*map(range, size)):
        seen = (..., *[slice(*edges[d][i]) for d, i in enumerate(cell)])
        held = x[seen].reshape(*x.shape[:2], -1) if x.size else x[seen].reshape(*x.shape[:2], numbers[seen].size)
        places[(..., *cell)] = numbers[seen].reshape(-1)[held.argmax(-1)]
    return places


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """The largest element of each of output_size even windows of input (N, C, W) or (C, W)."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """The largest element of each of even windows of input (N, C, H, W) or (C, H, W); None keeps a size."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """The largest element of each of even windows of input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)
