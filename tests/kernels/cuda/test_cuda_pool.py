"""Pooling and weighted sums on the GPU beside the CPU's kernels: both memory orders, one to three dimensions."""

import numpy as np
import pytest
from test_cuda_kernels import check, draw, wide
from test_cuda_norms import lies_like

from minigen.kernels.cpu import pool as cpu_pool
from minigen.kernels.cuda import mix, pool
from minigen.ops.windows import Window

pytestmark = pytest.mark.kernels
F = np.float32
CASES = [  # shape, kernel, number of windows, stride, padding, dilation
    ((2, 3, 9), (3,), (4,), (2,), (0,), (1,)),
    ((2, 16, 6, 8), (2, 2), (3, 4), (2, 2), (0, 0), (1, 1)),
    ((2, 5, 7, 6), (3, 2), (4, 4), (2, 2), (1, 1), (1, 1)),  # windows that overlap
    ((1, 9, 8, 7), (2, 3), (4, 3), (1, 1), (0, 1), (3, 2)),  # with gaps in them
    ((2, 4, 5, 9), (2, 2), (2, 3), (4, 3), (0, 0), (1, 1)),  # places that no window holds
    ((1, 6, 3, 4, 5), (2, 2, 2), (2, 3, 4), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    ((2, 9, 6, 7), (6, 7), (1, 1), (6, 7), (0, 0), (1, 1)),  # many taps
    ((2, 3, 8, 9), (7, 6), (3, 4), (2, 2), (3, 3), (1, 1)),
    ((1, 20, 1, 1), (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
]


def orders(x):
    """x in either memory order, and with gaps."""
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    return [x, last, np.repeat(x, 2, axis=-1)[..., ::2]]


@pytest.mark.parametrize("shape, kernel, count, stride, padding, dilation", CASES)
def test_pools(on_gpu, dtype, shape, kernel, count, stride, padding, dilation):
    window = Window(stride, padding, dilation)
    small = (*shape[:2], *count)
    for x, g in zip(orders(draw(shape, dtype)), orders(draw(small, dtype, 1.0, 1))):
        y, places = on_gpu(pool.max_pool, x, kernel, count, window)
        want, stands = cpu_pool.max_pool(wide(x), kernel, count, window)
        assert y.dtype == dtype and places.dtype == np.int64 and lies_like(y, x) and lies_like(places, x)
        assert np.array_equal(wide(y), want) and np.array_equal(places, stands)
        assert np.array_equal(on_gpu(pool.take, x, places), y)
        put = on_gpu(pool.put, g, places, shape[2:], (kernel, window))
        wanted = cpu_pool.put(wide(g), stands, shape[2:])
        assert put.dtype == dtype and lies_like(put, g)
        check(put, wanted)
        check(on_gpu(pool.put, g, places, shape[2:]), wanted)
        y = on_gpu(pool.sum_pool, x, kernel, count, window, 0.3)
        assert y.dtype == dtype and lies_like(y, x)
        check(y, cpu_pool.sum_pool(wide(x), kernel, count, window, 0.3))
        x = on_gpu(pool.spread, g, kernel, shape[2:], window, 0.3)
        assert x.dtype == dtype and lies_like(x, g)
        check(x, cpu_pool.spread(wide(g), kernel, shape[2:], window, 0.3))


def test_the_largest_of_what_is_special(on_gpu):
    window = Window((2, 2), (0, 0), (1, 1))
    given = np.zeros((1, 5, 4, 4), F)
    given[0, 1, 0, 1], given[0, 1, 1, 0] = np.nan, np.inf
    given[0, 2] = -np.inf
    given[0, 3, 0, :2] = -0.0
    for x in orders(given):
        y, places = on_gpu(pool.max_pool, x, (2, 2), (2, 2), window)
        want, stands = cpu_pool.max_pool(x, (2, 2), (2, 2), window)
        assert np.array_equal(y, want, equal_nan=True) and np.array_equal(places, stands)


def test_a_window_that_sees_nothing(on_gpu):
    window = Window((1,), (1,), (3,))  # taps at -1 and 2, of 2 places
    for x in orders(draw((1, 5, 2))):
        for y, places in (on_gpu(pool.max_pool, x, (2,), (1,), window), cpu_pool.max_pool(x, (2,), (1,), window)):
            assert (y == -np.inf).all() and (places == 0).all()


def test_a_mean_where_the_sum_is_beyond_float16(on_gpu):
    for x in orders(np.full((1, 8, 16, 16), 1000, np.float16))[:2]:
        assert (on_gpu(pool.sum_pool, x, (16, 16), (1, 1), Window((16, 16), (0, 0), (1, 1)), 1 / 256) == 1000).all()


def test_more_channels_than_a_block_takes_at_once(on_gpu):
    for x in orders(draw((1, 140, 6, 6)))[:2]:
        y = on_gpu(pool.sum_pool, x, (6, 6), (1, 1), Window((6, 6), (0, 0), (1, 1)))
        check(y, x.astype(np.float64).sum((2, 3), keepdims=True))


# ---- weighted sums along one dimension ----


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4, 5), (2, 16, 3, 5), (1, 9, 2, 3, 4)])
def test_mix(on_gpu, dtype, shape):
    for x in orders(draw(shape, dtype)) if len(shape) > 2 else [draw(shape, dtype)]:
        for dim, old in enumerate(shape):
            places = np.random.default_rng(dim).integers(0, old, (3, 4))
            weights = draw((3, 4), seed=dim)
            weights[2, 1:] = 0
            y = on_gpu(mix.mix, x, dim, places, weights)
            taken = np.take(wide(x).astype(np.float64), places, axis=dim)  # (..., 3, 4, ...)
            by = weights.reshape(3, 4, *[1] * (len(shape) - dim - 1))
            check(y, (taken * by).sum(dim))
            assert y.dtype == dtype and np.argsort(y.strides, kind="stable").tolist() == y_order(x, y)


def y_order(x, y):
    """The order of y's strides if its dimensions lie as those of x."""
    order = sorted(range(x.ndim), key=lambda d: (-x.strides[d], d))
    laid = np.empty([y.shape[d] for d in order], y.dtype).transpose(np.argsort(order))
    return np.argsort(laid.strides, kind="stable").tolist()


def test_a_weight_of_0_hides_what_stands_there(on_gpu):
    small = np.array([[1.0, np.nan], [np.inf, 2.0]], F)
    for x, dim in ((small, 1), (np.repeat(small, 9, axis=1), 0)):  # a thread makes one number; a thread makes a pack
        y = on_gpu(mix.mix, x, dim, np.array([[0, 1], [1, 0]]), np.array([[1.0, 1.0], [0.0, 0.0]], F))
        assert np.array_equal(y, np.take(x, [0, 1], dim), equal_nan=True)
