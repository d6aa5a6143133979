"""Sums of two arrays and arrays in another type, on the CUDA kernels."""

from itertools import product

import numpy as np
import pytest

from minigen.kernels.cuda import arithmetic

pytestmark = pytest.mark.kernels
F = np.dtype(np.float32)
SHAPES = [(0,), (1,), (7,), (3, 8), (5, 3, 67), (33, 257)]


def draw(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layouts(x):
    """x as it is, channels-last where it can be, and from an odd address on."""
    yield x
    if x.ndim > 2:
        yield np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    shifted = np.empty(x.size + 1, x.dtype)[1:].reshape(x.shape)
    shifted[...] = x
    yield shifted


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_in_the_wider_type(on_gpu, dtype, shape):
    for one, other in product((F, dtype), (F, dtype)):
        for a, b in zip(layouts(draw(shape, one)), layouts(draw(shape, other, 1))):
            if not arithmetic.fits(a, b):
                assert one != other and not a.flags.c_contiguous
                continue
            y = on_gpu(arithmetic.add, a, b)
            wider = max(one, other, key=lambda kind: kind.itemsize)
            assert y.dtype == wider and (y.strides == a.strides or one.itemsize < other.itemsize or not y.size)
            assert np.array_equal(y, (a.astype(F) + b.astype(F)).astype(wider))


def test_a_sum_in_place(on_gpu, dtype):
    a, b = draw((3, 41), F), draw((3, 41), dtype, 1)
    want = a + b.astype(F)
    got, _, _ = on_gpu.in_place(lambda x, y, z: arithmetic.add(x, y, x), a, b, a)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("shape", SHAPES)
def test_another_type(on_gpu, dtype, shape):
    for one, other in ((F, dtype), (dtype, F)):
        for x in layouts(draw(shape, one)):
            y = on_gpu(arithmetic.convert, x, other)
            assert y.dtype == other and np.array_equal(y, x.astype(other))
            assert x.strides == tuple(s * x.itemsize // other.itemsize for s in y.strides) or x.size == 0


def test_what_it_does_not_take():
    x = draw((4, 6), F)
    half = x.astype(np.float16)
    assert arithmetic.fits(x, half) and arithmetic.fits(half, x) and arithmetic.fits(x.T, x.T)
    for a, b in ((x, x[:, :1]), (x, x.astype(np.float64)), (x, x.astype(int)), (x.T, half.T), (x[:, ::2], x[:, ::2])):
        assert not arithmetic.fits(a, b)
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert not arithmetic.fits(half, x.astype(bfloat16))
