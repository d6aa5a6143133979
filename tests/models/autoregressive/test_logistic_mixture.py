"""The discretised mixture of logistics: a distribution, with the published numbers, that can be drawn from."""

import numpy as np
import pytest

import minigen
from minigen.errors import ShapeError
from minigen.gradcheck import gradcheck
from minigen.models.autoregressive.logistic_mixture import (
    discretized_logistic_mixture,
    outputs,
    sample_logistic_mixture,
)
from minigen.random import Generator


def grid(levels):
    return np.arange(levels) * (2 / (levels - 1)) - 1


def draw(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


def test_it_adds_up_to_one_over_256_levels_however_sharp():
    params = draw(5, 9)
    params[1, 6:] = [-7, -9, -3]  # spikes
    params[2, 3:6] = [3, -3, 40]  # means outside
    params[3, 6:] = 4  # nearly flat: all in the end bins
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        p = minigen.tensor(np.repeat(params[:, None], 256, 1).astype(dtype))
        x = minigen.tensor(np.tile(grid(256), (5, 1))[..., None].astype(dtype))
        log_p = discretized_logistic_mixture(p, x).numpy()
        assert np.isfinite(log_p).all() and log_p.dtype == dtype
        np.testing.assert_allclose(np.exp(log_p.astype(np.float64)).sum(1), 1, atol=tolerance)


def test_three_channels_add_up_to_one():
    levels = 6
    every = np.stack(np.meshgrid(*[grid(levels)] * 3, indexing="ij"), -1).reshape(-1, 3)
    params = np.broadcast_to(draw(1, outputs(2, 3)), (len(every), outputs(2, 3))).copy()
    log_p = discretized_logistic_mixture(minigen.tensor(params), minigen.tensor(every), levels).numpy()
    assert abs(np.exp(log_p).sum() - 1) < 1e-12


def test_it_is_the_difference_of_two_sigmoids():
    params, x = draw(7, 6), np.repeat(grid(256)[[40, 100, 0, 255, 128, 200, 127]][:, None], 1, 1)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    m, s = params[:, 2:4], np.exp(params[:, 4:])
    up = np.where(x > 0.999, 1, sigmoid((x + 1 / 255 - m) / s))
    down = np.where(x < -0.999, 0, sigmoid((x - 1 / 255 - m) / s))
    share = np.exp(params[:, :2]) / np.exp(params[:, :2]).sum(1, keepdims=True)
    log_p = discretized_logistic_mixture(minigen.tensor(params), minigen.tensor(x)).numpy()
    np.testing.assert_allclose(log_p, np.log((share * (up - down)).sum(1)), rtol=1e-9)


@pytest.mark.parametrize("channels, mixtures", [(1, 3), (3, 2)])
def test_its_gradient_is_that_of_differences(channels, mixtures):
    params = minigen.tensor(draw(4, outputs(mixtures, channels)), requires_grad=True)
    x = minigen.tensor(grid(256)[Generator(1).integers(0, 256, (4, channels))], requires_grad=True)
    x.data[0] = -1.0
    assert gradcheck(lambda p: discretized_logistic_mixture(p, x.detach()), [params])
    inside = minigen.tensor(x.data[1:].clip(-0.9, 0.9), requires_grad=True)
    assert gradcheck(lambda v: discretized_logistic_mixture(params.detach()[1:], v), [inside])


def test_far_from_every_mean_float32_still_knows_the_way_back():
    params = minigen.tensor(np.array([[0.0, -0.9, -6.0]], np.float32), requires_grad=True)
    log_p = discretized_logistic_mixture(params, minigen.tensor([[0.5]]))
    log_p.backward()
    exact = discretized_logistic_mixture(
        minigen.tensor(params.data.astype(np.float64)), minigen.tensor(np.array([[0.5]]))
    )
    assert log_p.item() == pytest.approx(exact.item(), rel=1e-5) and log_p.item() < -500
    assert params.grad.numpy()[0, 1] == pytest.approx(np.exp(6.0), rel=1e-3)


@pytest.mark.parametrize("channels, levels", [(1, 8), (3, 3)])
def test_draws_are_as_frequent_as_they_are_probable(channels, levels):
    n, params = 40_000, draw(outputs(2, channels), seed=4)
    p = minigen.tensor(np.broadcast_to(params, (n, len(params))).astype(np.float32))
    x = sample_logistic_mixture(p, channels, levels, Generator(0)).numpy()
    index = np.rint((x + 1) * (levels - 1) / 2).astype(int)
    np.testing.assert_allclose(x, grid(levels)[index], atol=1e-6)
    seen = np.bincount(index @ levels ** np.arange(channels)[::-1], minlength=levels**channels)
    every = np.stack(np.meshgrid(*[grid(levels)] * channels, indexing="ij"), -1).reshape(-1, channels)
    params = np.broadcast_to(params, (len(every), len(params))).copy()
    expected = n * np.exp(discretized_logistic_mixture(minigen.tensor(params), minigen.tensor(every), levels).numpy())
    kept = expected > 5
    assert ((seen - expected)[kept] ** 2 / expected[kept]).sum() < kept.sum() + 4 * np.sqrt(2 * kept.sum())


def test_a_wrong_number_of_parameters_is_named():
    with pytest.raises(ShapeError, match="3 numbers for each component"):
        discretized_logistic_mixture(minigen.ones(2, 10), minigen.ones(2, 1))
