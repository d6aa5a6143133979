"""Batch and group norm on the GPU beside float64 mathematics: both memory orders, odd and strided shapes, large means.

Results must be the exact ones, rounded to the type of the array.
"""

import numpy as np
import pytest
from test_cuda_kernels import check, draw, wide

from minigen.kernels.cuda import channels, group_norm, norms

pytestmark = pytest.mark.kernels
F = np.float32
# one number a channel; odd sizes; whole packs of 16 bytes; a line of several packs; channels enough for two tiles
SHAPES = [(6, 3), (2, 5, 7), (3, 4, 2, 4), (2, 6, 3, 5, 2), (9, 8, 16), (2, 132, 3), (2, 2, 700)]
GROUPS = [((6, 5), 1), ((2, 6, 7), 3), ((3, 4, 2, 4), 1), ((2, 6, 3, 5), 6), ((2, 136, 5), 4), ((1, 4, 700), 2)]


def orders(x):
    """x in either memory order, and with gaps in each."""
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    yield x
    yield last
    yield np.repeat(x, 2, axis=0)[::2]
    yield np.moveaxis(np.repeat(np.moveaxis(last, 1, -1), 2, axis=1)[:, ::2], -1, 1) if x.ndim > 2 else x[:, ::-1]


def exact(x, weight, bias, eps, axes, groups=None):
    """y, mean and 1 / deviation in float64, and a function from g to dx, dweight, dbias."""
    shape, x = x.shape, wide(x).astype(np.float64)
    per_channel = (1, -1, *[1] * (len(shape) - 2))
    w = np.ones(shape[1]) if weight is None else wide(weight).astype(np.float64)
    b = np.zeros(shape[1]) if bias is None else wide(bias).astype(np.float64)
    grouped = (shape[0], groups, -1) if groups else shape
    axes = (2,) if groups else axes
    x = x.reshape(grouped)
    mean, rstd = x.mean(axes, keepdims=True), 1 / np.sqrt(x.var(axes, keepdims=True) + eps)
    h = (x - mean) * rstd

    def gradient(g):
        g = wide(g).astype(np.float64)
        v = (g * w.reshape(per_channel)).reshape(grouped)
        gx = rstd * (v - v.mean(axes, keepdims=True) - h * (v * h).mean(axes, keepdims=True))
        over = (0, *range(2, len(shape)))
        return gx.reshape(shape), (g * h.reshape(shape)).sum(over), g.sum(over)

    return h.reshape(shape) * w.reshape(per_channel) + b.reshape(per_channel), mean, rstd, gradient


def over_batch(x):
    return (0, *range(2, x.ndim))


def lies_like(y, x):
    """Whether y's channels lie first or last as those of x do, where x has no gaps and more than one place."""
    first, last = x.flags.c_contiguous, np.moveaxis(x, 1, -1).flags.c_contiguous
    if first == last:
        return True
    return y.flags.c_contiguous if first else np.moveaxis(y, 1, -1).flags.c_contiguous


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(on_gpu, dtype, shape):
    weight, bias = draw(shape[1], seed=2), draw(shape[1], seed=3)
    for x, g in zip(orders(draw(shape, dtype, 2.0)), orders(draw(shape, dtype, 1.0, 1))):
        want, mean, _, gradient = exact(x, weight, bias, 1e-5, over_batch(x))
        y, k, offset, r, m, v = on_gpu(norms.batch_norm, x, weight, bias, 1e-5)
        assert y.dtype == dtype and lies_like(y, x)
        check(y, want)
        check(m, mean.reshape(-1))
        check(v, wide(x).astype(np.float64).var(over_batch(x)))
        made = on_gpu(norms.batch_norm_gradient, g, x, weight, k, offset, r)
        assert made[0].dtype == dtype and made[1].dtype == F and lies_like(made[0], x)
        for got, wanted in zip(made, gradient(g)):
            check(got, wanted, absolute=2e-5)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_batch_norm_in_evaluation(on_gpu, dtype, shape):
    channels = (1, -1, *[1] * (len(shape) - 2))
    weight, bias, mean = (draw(shape[1], seed=seed) for seed in (2, 3, 4))
    variance = draw(shape[1], seed=5) ** 2
    r = 1 / np.sqrt(variance.astype(np.float64) + 1e-3).reshape(channels)
    for x, g in zip(orders(draw(shape, dtype, 2.0)), orders(draw(shape, dtype, 1.0, 1))):
        h, d = (wide(x).astype(np.float64) - mean.reshape(channels)) * r, wide(g).astype(np.float64)
        y = on_gpu(norms.batch_norm_eval, x, weight, bias, mean, variance, 1e-3)
        assert lies_like(y, x)
        check(y, h * weight.reshape(channels) + bias.reshape(channels))
        gx, gweight, gbias = on_gpu(norms.batch_norm_eval_gradient, g, x, weight, mean, variance, 1e-3)
        check(gx, d * r * weight.reshape(channels))
        check(gweight, (d * h).sum(over_batch(x)), absolute=1e-5)
        check(gbias, d.sum(over_batch(x)), absolute=1e-5)


@pytest.mark.parametrize("shape, groups", GROUPS)
def test_group_norm(on_gpu, dtype, shape, groups):
    weight, bias = draw(shape[1], seed=2), draw(shape[1], seed=3)
    for x, g in zip(orders(draw(shape, dtype, 2.0)), orders(draw(shape, dtype, 1.0, 1))):
        want, _, _, gradient = exact(x, weight, bias, 1e-5, None, groups)
        y, k, offset, rstd, *_ = on_gpu(group_norm.group_norm, x, groups, weight, bias, 1e-5)
        assert y.dtype == dtype and lies_like(y, x)
        check(y, want)
        made = on_gpu(group_norm.group_norm_gradient, g, x, groups, weight, k, offset, rstd)
        assert made[0].dtype == dtype and made[1].dtype == F and lies_like(made[0], x)
        for got, wanted in zip(made, gradient(g)):
            check(got, wanted, absolute=2e-5)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_pair_cut_into_parts(on_gpu, parts, monkeypatch):
    """However a pair is cut the mathematics is the same; a cut may go through a run and end with an empty part."""
    monkeypatch.setattr(channels, "cut", lambda n, threads, blocks: (-(-n // parts), -(-n // -(-n // parts))))
    weight = draw(6, seed=2)
    for x, g in list(zip(orders(draw((5, 6, 9))), orders(draw((5, 6, 9), seed=1))))[:2]:
        want, _, _, gradient = exact(x, weight, None, 1e-5, over_batch(x))
        y, k, offset, r, _, _ = on_gpu(norms.batch_norm, x, weight, None, 1e-5)
        check(y, want)
        for got, wanted in zip(on_gpu(norms.batch_norm_gradient, g, x, weight, k, offset, r), gradient(g)):
            check(got, wanted, absolute=2e-5)
        want, _, _, gradient = exact(x, weight, None, 1e-5, None, 2)
        y, k, offset, r, *_ = on_gpu(group_norm.group_norm, x, 2, weight, None, 1e-5)
        check(y, want)
        for got, wanted in zip(on_gpu(group_norm.group_norm_gradient, g, x, 2, weight, k, offset, r), gradient(g)):
            check(got, wanted, absolute=2e-5)


def test_without_weight_and_with_other_types_of_it(on_gpu, dtype):
    x = draw((3, 4, 6), dtype)
    want, _, _, gradient = exact(x, None, None, 1e-5, over_batch(x))
    y, k, offset, r, _, _ = on_gpu(norms.batch_norm, x, None, None, 1e-5)
    check(y, want)
    g = draw((3, 4, 6), dtype, seed=1)
    check(on_gpu(norms.batch_norm_gradient, g, x, None, k, offset, r)[0], gradient(g)[0], absolute=2e-5)
    y, k, offset, r, *_ = on_gpu(group_norm.group_norm, x, 2, None, draw(4).astype(dtype), 1e-5)
    check(y, exact(x, None, draw(4).astype(dtype), 1e-5, None, 2)[0])
    weight = draw(4, seed=1).astype(dtype)
    made = on_gpu(group_norm.group_norm_gradient, x, x, 2, weight, k, offset, r)
    assert made[1].dtype == made[2].dtype == dtype


@pytest.mark.parametrize("mean, first", [(3e5, 0.0), (0.0, 1e3), (-2e4, 50.0)])
def test_a_large_mean_and_a_first_number_far_from_it(on_gpu, mean, first):
    given = draw((4, 4, 40)) + F(mean)
    given[:, :, 0] += F(first)
    for x in list(orders(given))[:2]:
        want, m, rstd, gradient = exact(x, None, None, 1e-5, over_batch(x))
        y, k, offset, r, *_ = on_gpu(norms.batch_norm, x, None, None, 1e-5)
        check(y, want, absolute=1e-5)
        check(r, rstd.reshape(-1), relative=1e-5)
        assert (abs(k.astype(np.float64) + offset - m.reshape(-1)) < 1e-6 / r).all()  # far less than k's own rounding
        g = draw(x.shape, seed=1)
        check(on_gpu(norms.batch_norm_gradient, g, x, None, k, offset, r)[0], gradient(g)[0], absolute=1e-5)
        want, _, _, gradient = exact(x, None, None, 1e-5, None, 2)
        y, *saved = on_gpu(group_norm.group_norm, x, 2, None, None, 1e-5)
        check(y, want, absolute=1e-5)
        check(on_gpu(group_norm.group_norm_gradient, g, x, 2, None, *saved)[0], gradient(g)[0], absolute=1e-5)


def test_what_is_not_finite_stays_in_its_channel(on_gpu):
    given = draw((3, 4, 8))
    given[1, 2, 3] = np.nan
    given[0, 0, 0] = np.inf
    for x in list(orders(given))[:2]:
        y = on_gpu(norms.batch_norm, x, None, None, 1e-5)[0]
        assert np.isnan(y[:, 2]).all() and np.isnan(y[:, 0]).all() and np.isfinite(y[:, [1, 3]]).all()
        y = on_gpu(group_norm.group_norm, x, 4, None, None, 1e-5)[0]
        assert np.isnan(y[1, 2]).all() and np.isnan(y[0, 0]).all() and np.isnan(y).sum() == 16
