"""Memory orders: what is a view, what is a copy, and that the numbers stay where they belong."""

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import layout, mix, pool

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape, dtype=np.float32)


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 17, 33), (3, 16, 16), (2, 1, 7), (2, 7, 1), (4, 40, 1000)])
def test_turned(shape):
    x = draw(*shape)
    y = layout.turned(x)
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(y, x.transpose(0, 2, 1))


@pytest.mark.parametrize("size", [(5,), (4, 5), (3, 4, 5)])
def test_inside_and_back(size):
    x = draw(2, 6, *size)
    for source in (x, channels_last(x), x[:, ::2], x[..., ::-1]):
        y = layout.inside(source)
        assert y.ndim == 5 and y.flags.c_contiguous
        np.testing.assert_array_equal(layout.outside(y, len(size)), source)
    last = channels_last(x)
    assert np.shares_memory(layout.inside(last), last)


def test_planes_and_back():
    for C in (2, 8):
        for source in (draw(2, C, 3, 4), channels_last(draw(2, C, 3, 4)), draw(2, C, 3, 8)[..., ::2]):
            y, last = layout.planes(source)
            assert y.flags.c_contiguous
            np.testing.assert_array_equal(layout.from_planes(y, source, last), source)


def test_in_memory_order():
    x = draw(2, 3, 4, 5)
    for source in (x, channels_last(x), x.transpose(3, 1, 0, 2)):
        block, order = layout.in_memory_order(source)
        assert block.flags.c_contiguous and np.shares_memory(block, source)
        np.testing.assert_array_equal(block.transpose(np.argsort(order)), source)
    block, order = layout.in_memory_order(x[:, ::2])
    assert block.flags.c_contiguous and order == (0, 1, 2, 3)


def test_mix_along_any_dimension_of_any_order():
    weights = random.standard_normal((3, 7))
    for dim in range(4):
        for x in (draw(4, 6, 5, 3), channels_last(draw(4, 6, 5, 3)), draw(3, 5, 6, 4).transpose(3, 2, 1, 0)):
            places = random.integers(0, x.shape[dim], (3, 7))
            y = mix.mix(x, dim, places, weights)
            expected = 0
            for p, w in zip(places, weights):
                expected = expected + x.take(p, dim) * w.reshape(-1, *[1] * (3 - dim))
            np.testing.assert_allclose(y, expected, atol=1e-5)


def test_take_and_put_are_transposes():
    for C in (2, 9):
        x, places = draw(2, C, 4, 5), random.integers(0, 20, (2, C, 3, 3))
        y = draw(2, C, 3, 3)
        for order in (x, channels_last(x)):
            taken = pool.take(order, places)
            put = pool.put(y, places, (4, 5))
            assert taken.shape == y.shape and put.shape == x.shape
            np.testing.assert_allclose((taken * y).sum(), (put * x).sum(), rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(taken[0, 1].ravel(), x[0, 1].ravel()[places[0, 1].ravel()])
