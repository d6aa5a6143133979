"""Rings against the mixture of very many small bumps that they are the limit of."""

import math

import numpy as np
import pytest

from minigen.data.worlds import GaussianMixture, Rings
from minigen.data.worlds.rings import bessel_ratio, bessel_scaled
from minigen.errors import ArgumentError, ShapeError
from minigen.random import Generator

WORLD = Rings((1.0, 2.5), std=(0.2, 0.4), weights=(1, 3))
N = 100
ANGLES = 2 * math.pi * np.arange(N) / N
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)
BUMPS = GaussianMixture(
    np.repeat([1, 3], N), np.concatenate([CIRCLE, 2.5 * CIRCLE]), np.repeat([0.2**2, 0.4**2], N)
)  # equal to the rings, but for 1e-16
POINTS = np.array([[0.0, 0.0], [1e-9, 0.0], [0.3, -0.4], [1.0, 0.1], [-2.0, 2.0], [5.0, 0.0], [0.0, -8.0]])


def test_density_and_score():
    np.testing.assert_allclose(WORLD.log_prob(POINTS), BUMPS.log_prob(POINTS), rtol=1e-10)
    np.testing.assert_allclose(WORLD.score(POINTS), BUMPS.score(POINTS), atol=1e-8)


def test_noised_and_denoised():
    for a, s in [(0.7, 0.7), (-0.5, 0.3), (0.0, 1.0)]:
        y = POINTS[:6] * 0.8
        np.testing.assert_allclose(WORLD.noised(a, s).log_prob(y), BUMPS.noised(a, s).log_prob(y), rtol=1e-9)
        np.testing.assert_allclose(WORLD.posterior_mean(y, a, s), BUMPS.posterior_mean(y, a, s), atol=1e-9)


def test_posterior():
    by_bump = BUMPS.posterior(POINTS[:6])
    by_ring = np.stack([by_bump[:, :N].sum(1), by_bump[:, N:].sum(1)], 1)
    np.testing.assert_allclose(WORLD.posterior(POINTS[:6]), by_ring, atol=1e-10)


def test_a_narrow_ring_does_not_overflow():
    world = Rings((3.0,), std=0.001)  # z = 9e6: I0 itself would be e^9e6
    x = np.array([[3.0, 0.0], [0.0, 3.001], [0.0, 0.0]])
    r = np.linalg.norm(x, axis=1)
    almost = -0.5 * ((r - 3) / 0.001) ** 2 - math.log(0.001 * math.sqrt(2 * math.pi)) - np.log(2 * math.pi * 3)
    np.testing.assert_allclose(world.log_prob(x)[:2], almost[:2], rtol=1e-3)
    assert np.isfinite(world.log_prob(x)).all() and np.isfinite(world.score(x)).all()


def test_samples_obey_the_radius_law():
    x, ring = WORLD.sample_with_latents(100_000, Generator(0))
    assert x.shape == (100_000, 2) and x.dtype == np.float32
    np.testing.assert_allclose(np.bincount(ring) / len(x), [0.25, 0.75], atol=0.005)
    r = np.sort(np.linalg.norm(x, axis=1))
    assert np.abs(WORLD.radius_cdf(r) - np.arange(len(r)) / len(r)).max() < 0.006  # Kolmogorov: 1.36 / sqrt(n) = 0.0043
    turn = np.arctan2(x[:, 1], x[:, 0]) / (2 * math.pi) % 1
    assert np.abs(np.sort(turn) - np.arange(len(r)) / len(r)).max() < 0.006


def test_the_radius_density_is_that_of_the_plane():
    r = np.linspace(0, 6, 60_001)
    density = WORLD.radius_density(r)
    assert density.sum() * r[1] == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(WORLD.radius_cdf(r[::1000]), np.cumsum(density)[::1000] * r[1], atol=1e-4)
    assert WORLD.radius_density(-1.0) == 0 and WORLD.radius_cdf(np.array([-1.0, 99.0])).tolist() == [0, 1]


def test_entropy_is_the_grid_sum():
    axis = np.arange(-6, 6, 0.05)
    log_p = BUMPS.log_prob(np.stack(np.meshgrid(axis, axis), -1))
    entropy = WORLD.entropy()
    assert abs(entropy + (np.exp(log_p) * log_p).sum() * 0.05**2) < 1e-7 and entropy.error < 1e-7


def test_projection_and_sliced_distance():
    line = WORLD.projected((0.6, 0.8))
    x = np.linspace(-3, 3, 7)[:, None]
    np.testing.assert_allclose(line.log_prob(x), BUMPS.projected((0.6, 0.8)).log_prob(x), rtol=1e-9)
    sample = WORLD.sample(2000, Generator(1))
    assert WORLD.sliced_wasserstein(sample, directions=4) < 0.08
    assert WORLD.sliced_wasserstein(2 * sample, directions=4) > 0.5


def test_modes():
    radii = Rings((1.0, 2.0), std=0.1).modes()
    np.testing.assert_allclose(np.sort(radii), [1, 2], atol=0.01)
    assert WORLD.log_prob([radii[0], 0]) > 0 or len(radii) == 2
    assert Rings((0.5,), std=1.0).modes().tolist() == [0.0]  # so blurred that the hole is filled


def test_counting_modes():
    world = Rings((1.0, 2.0), std=0.05)
    count = world.count_modes(world.sample(20_000, Generator(0)), sectors=8)
    assert (count.hit, count.total) == (16, 16) and count.on_mode > 0.999 and count.kl < 0.003
    half = np.abs(world.sample(2000, Generator(0)))  # one quadrant
    assert world.count_modes(half, sectors=8).hit == 4


def test_bessel():
    z = np.array([0, 1e-8, 0.1, 1, 7.5, 29.9, 30, 30.1, 100, 600])
    np.testing.assert_allclose(bessel_scaled(0, z), np.i0(z) * np.exp(-z), rtol=1e-13)
    t = (np.arange(4000) + 0.5) * math.pi / 4000  # I1(z) = the mean of e^(z cos t) cos t, by its definition
    truth = np.array([(np.exp(v * (np.cos(t) - 1)) * np.cos(t)).mean() for v in z])
    np.testing.assert_allclose(bessel_scaled(1, z), truth, rtol=1e-12, atol=1e-15)
    assert bessel_ratio(np.array([0.0, 1e-200])).tolist() == [0.5, 0.5]


def test_errors():
    with pytest.raises(ArgumentError, match="std is positive"):
        Rings((1.0,), std=0.0)
    with pytest.raises(ArgumentError, match="not negative"):
        Rings((-1.0,))
    with pytest.raises(ShapeError, match="Rings: radii"):
        Rings((1.0, 2.0), weights=(1,))
    with pytest.raises(ShapeError, match=r"Rings\.score"):
        WORLD.score(np.zeros((4, 3)))
