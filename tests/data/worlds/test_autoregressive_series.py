"""The autoregressive series against one big Gaussian."""

import math

import numpy as np
import pytest

import minigen
from minigen.data.worlds import AutoregressiveSeries
from minigen.errors import ArgumentError, DataError, ShapeError
from minigen.random import Generator

WORLDS = {
    "AR(1)": AutoregressiveSeries([0.8], 0.5, length=10),
    "AR(2)": AutoregressiveSeries(length=10),
    "AR(3)": AutoregressiveSeries([0.5, -0.3, 0.4], 2.0, length=10),
    "noise": AutoregressiveSeries([0.0], 1.5, length=10),
}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS)
def world(request):
    return request.param


def brute_covariance(world, length, depth=4000):
    """From the response to a single innovation: x_t is the sum of all earlier innovations times it."""
    response = np.zeros(depth)
    response[0] = 1.0
    for t in range(1, depth):
        last = response[max(0, t - world.order) : t][::-1]
        response[t] = world.coefficients[: len(last)] @ last
    gamma = [world.noise**2 * response[: depth - k] @ response[k:] for k in range(length)]
    place = np.arange(length)
    return np.array(gamma)[abs(place[:, None] - place)]


def test_covariance_is_that_of_the_impulse_response(world):
    np.testing.assert_allclose(world.covariance(), brute_covariance(world, 10), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(world.autocovariance(9), world.covariance()[0])
    assert world.covariance(0).shape == (0, 0) and world.autocovariance(0).shape == (1,)


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_density_and_entropy_are_the_big_gaussians(world, length):
    x = world.sample(7, Generator(0), length=length).astype(np.float64)
    law = brute_covariance(world, length)
    log_volume = np.linalg.slogdet(2 * math.pi * law)[1]
    right = -0.5 * np.einsum("ni,ij,nj->n", x, np.linalg.inv(law), x) - 0.5 * log_volume
    np.testing.assert_allclose(world.log_prob(x), right, rtol=1e-8)
    assert world.entropy(length) == pytest.approx(0.5 * log_volume + 0.5 * length)
    assert world.entropy(length).error == 0


def test_entropy_rate_is_what_one_more_value_adds(world):
    assert world.entropy(9) - world.entropy(8) == pytest.approx(world.entropy_rate())


def test_samples_have_the_law_from_the_first_value_on(world):
    x, e = world.sample_with_latents(40_000, Generator(1))
    assert x.dtype == e.dtype == np.float32
    law = world.covariance()
    off = np.cov(x.T.astype(np.float64)) - law
    assert np.abs(off).max() < 5 * law[0, 0] * math.sqrt(2 / 40_000)
    mean, variance = world.predictions(x)
    np.testing.assert_allclose(x - mean, e, atol=1e-5 * math.sqrt(law[0, 0]) * 10)
    np.testing.assert_allclose(e.var(0), variance, rtol=0.05)
    assert world.sample(3, Generator(0), length=25).shape == (3, 25)


@pytest.mark.parametrize("known", [0, 1, 2, 10])
def test_forecasts_are_conditionals_of_the_big_gaussian(world, known):
    x = world.sample(5, Generator(2), length=known)
    mean, variance = world.forecast(x, steps=4)
    law = brute_covariance(world, known + 4)
    weights = law[known:, :known] @ np.linalg.inv(law[:known, :known])
    np.testing.assert_allclose(mean, x.astype(np.float64) @ weights.T, atol=1e-7)
    np.testing.assert_allclose(variance, np.diag(law[known:, known:] - weights @ law[:known, known:]), rtol=1e-7)


def test_forecast_by_hand():
    world = AutoregressiveSeries([1.6, -0.9], 0.25)
    mean, variance = world.forecast([5.0, 1.0, 2.0], steps=3)
    one = 1.6 * 2 - 0.9 * 1
    two = 1.6 * one - 0.9 * 2
    np.testing.assert_allclose(mean, [one, two, 1.6 * two - 0.9 * one])
    np.testing.assert_allclose(variance, 0.0625 * np.array([1, 1 + 1.6**2, 1 + 1.6**2 + (1.6**2 - 0.9) ** 2]))
    far_mean, far = world.forecast([5.0, 1.0, 2.0], steps=400)
    assert abs(far_mean[-1]) < 1e-6 and far[-1] == pytest.approx(world.autocovariance(0)[0])
    # the closed form of the AR(2) variance
    assert far[-1] == pytest.approx(0.0625 * 1.9 / (0.1 * (1.9**2 - 1.6**2)))


def test_tensors_and_leading_dimensions():
    world = AutoregressiveSeries(length=6)
    x = world.sample(4, Generator(0))
    np.testing.assert_array_equal(world.forecast(minigen.tensor(x), 2)[0], world.forecast(x, 2)[0])
    assert world.forecast(x.reshape(2, 2, 6), 3)[0].shape == (2, 2, 3)
    assert world.predictions(x.reshape(2, 2, 6))[0].shape == (2, 2, 6)


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match=r"multiplied by 1\.01 a step"):
        AutoregressiveSeries([1.01])
    with pytest.raises(ArgumentError, match="unit circle"):
        AutoregressiveSeries([0.5, 0.5])
    with pytest.raises(ArgumentError, match="noise is positive"):
        AutoregressiveSeries([0.5], 0.0)
    with pytest.raises(ArgumentError, match="at least one coefficient"):
        AutoregressiveSeries([])
    with pytest.raises(ArgumentError, match="at least one value"):
        AutoregressiveSeries(length=0)
    with pytest.raises(ShapeError, match="length"):
        AutoregressiveSeries().log_prob(1.0)
    with pytest.raises(DataError, match="NaN"):
        AutoregressiveSeries().log_prob([1.0, math.nan])
