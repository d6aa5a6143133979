"""GaussianMixture against sums, grids and finite differences done the plain way."""

import math

import numpy as np
import pytest

import minigen
from minigen.data.worlds import GaussianMixture
from minigen.errors import ArgumentError, ShapeError
from minigen.random import Generator

LINE = GaussianMixture([0.3, 0.7], [-1.0, 2.0], [0.25, 1.0])
PLANE = GaussianMixture(
    [1, 2, 1], [[0, 0], [2, 1], [-1, 2]], [[[1, 0.3], [0.3, 0.5]], [[0.2, 0], [0, 0.4]], [[0.6, -0.2], [-0.2, 0.3]]]
)
SPACE = GaussianMixture([1, 3], np.array([[0, 0, 0, 0], [1, 1, 0, -1]]), np.array([[1, 2, 1, 0.5], [0.5, 1, 1, 1]]))
WORLDS = {"1-D": LINE, "2-D": PLANE, "4-D": SPACE}


def plain_density(world, x):
    """The formula, point by point."""
    total = []
    for point in x:
        p = 0.0
        for w, m, c in zip(world.weights, world.means, world.covariances):
            d = point - m
            p += w * math.exp(-0.5 * d @ np.linalg.inv(c) @ d) / math.sqrt((2 * math.pi) ** len(d) * np.linalg.det(c))
        total.append(p)
    return np.array(total)


def numeric_gradient(f, x, h=1e-5):
    steps = np.eye(x.shape[-1]) * h
    return np.stack([(f(x + e) - f(x - e)) / (2 * h) for e in steps], -1)


def grid(world, step, reach):
    axis = np.arange(-reach, reach, step)
    points = np.stack(np.meshgrid(*[axis] * world.dim, indexing="ij"), -1).reshape(-1, world.dim)
    return points, step**world.dim


@pytest.fixture(params=WORLDS.values(), ids=WORLDS)
def world(request):
    return request.param


def test_density_is_the_formula(world):
    x = world.sample(50, Generator(1))
    np.testing.assert_allclose(np.exp(world.log_prob(x)), plain_density(world, x.astype(float)), rtol=1e-10)


def test_score_is_the_gradient(world):
    x = world.sample(20, Generator(1)).astype(float) * 1.5
    np.testing.assert_allclose(world.score(x), numeric_gradient(world.log_prob, x), atol=1e-6)


def test_truths_far_away_stay_finite():
    far = np.array([[1e6], [-1e6]])
    assert np.isfinite(LINE.log_prob(far)).all()
    np.testing.assert_allclose(LINE.score(far)[:, 0], [-(1e6 - 2), 1e6 + 2])  # the wide component rules both ends


def test_samples_have_the_world_s_moments(world):
    x, component = world.sample_with_latents(60_000, Generator(3))
    assert x.dtype == np.float32 and component.dtype == np.int64
    np.testing.assert_allclose(np.bincount(component) / len(x), world.weights, atol=0.01)
    np.testing.assert_allclose(x.mean(0), world.mean(), atol=0.03)
    np.testing.assert_allclose(np.cov(x.T).reshape(world.dim, -1), world.covariance(), atol=0.06)
    one = x[component == 1]
    np.testing.assert_allclose(np.cov(one.T).reshape(world.dim, -1), world.covariances[1], atol=0.06)


def test_same_seed_same_samples(world):
    assert (world.sample(100, Generator(5)) == world.sample(100, Generator(5))).all()
    minigen.manual_seed(7)
    first = world.sample(100)
    minigen.manual_seed(7)
    assert (world.sample(100) == first).all() and (world.sample(100) != first).any()


def test_posterior_is_bayes(world):
    x = world.sample(30, Generator(2)).astype(float)
    parts = [
        GaussianMixture([1], world.means[k : k + 1], world.covariances[k : k + 1]) for k in range(len(world.weights))
    ]
    joint = np.stack([w * plain_density(part, x) for w, part in zip(world.weights, parts)], 1)
    np.testing.assert_allclose(world.posterior(x), joint / joint.sum(1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("a, s", [(0.8, 0.6), (0.1, 1.0), (1.0, 0.05)])
def test_noised_is_the_convolution(a, s):
    """p_t(y) = sum over a fine grid of x of p(x) N(y; a x, s^2), and the denoiser is the mean under it."""
    x, cell = grid(LINE, 0.002, 9)
    y = np.linspace(-3, 4, 15)
    kernel = np.exp(-0.5 * ((y[:, None] - a * x[:, 0]) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    joint = kernel * plain_density(LINE, x) * cell
    noised = LINE.noised(a, s)
    np.testing.assert_allclose(np.exp(noised.log_prob(y[:, None])), joint.sum(1), rtol=1e-8)
    np.testing.assert_allclose(LINE.posterior_mean(y[:, None], a, s)[:, 0], joint @ x[:, 0] / joint.sum(1), rtol=1e-7)


def test_denoiser_and_score_obey_tweedie():
    y, a, s = PLANE.sample(20, Generator(4)).astype(float), 0.7, 0.9
    by_score = (y + s * s * PLANE.noised(a, s).score(y)) / a
    np.testing.assert_allclose(PLANE.posterior_mean(y, a, s), by_score, rtol=1e-9)
    np.testing.assert_allclose(PLANE.posterior_mean(y, 0.0, 1.0), np.tile(PLANE.mean(), (20, 1)))


def test_entropy_in_one_dimension_is_the_grid_sum():
    x, cell = grid(LINE, 0.001, 12)
    p = plain_density(LINE, x)
    entropy = LINE.entropy()
    assert abs(entropy + (p * np.log(p)).sum() * cell) < 1e-9 and entropy.error < 1e-9


def test_entropy_in_two_dimensions_is_the_grid_sum():
    x, cell = grid(PLANE, 0.1, 9)
    log_p = PLANE.log_prob(x)
    assert abs(PLANE.entropy() + (np.exp(log_p) * log_p).sum() * cell) < 1e-7


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_entropy_of_one_gaussian_is_the_closed_form(dim):
    root = np.tril(0.3 * np.ones((dim, dim))) + np.eye(dim)
    world = GaussianMixture([1], np.ones((1, dim)), (root @ root.T)[None])
    truth = 0.5 * dim * (1 + math.log(2 * math.pi)) + math.log(np.linalg.det(root))
    entropy = world.entropy()
    assert abs(entropy - truth) < max(1e-9, 4 * entropy.error)
    assert (entropy.error < 1e-9) == (dim < 3)


def test_kl_of_two_gaussians_is_the_closed_form():
    p, q = GaussianMixture([1], [0.5], 0.25), GaussianMixture([1], [-0.5], 1.0)
    truth = math.log(1 / 0.5) + (0.25 + 1.0) / 2 - 0.5
    assert abs(p.kl(q) - truth) < 1e-10 and abs(p.kl(q.log_prob) - truth) < 1e-10
    assert abs(p.cross_entropy(q.log_prob) - p.entropy() - truth) < 1e-10
    assert p.kl(p) == 0
    sampled = p.divergence(x := p.sample(20_000, Generator(0)), q.log_prob(x))
    assert abs(sampled - truth) < 4 * sampled.error < 0.1


def test_modes_of_a_pair():
    """Two equal bumps merge when they are closer than two standard deviations."""
    assert len(GaussianMixture.pair(distance=2.2, std=1.0).modes()) == 2
    assert len(GaussianMixture.pair(distance=1.8, std=1.0).modes()) == 1
    modes = GaussianMixture.pair(4.0, 0.5, (0.3, 0.7)).modes()
    np.testing.assert_allclose(modes[:, 0], [2, -2], atol=1e-5)  # the higher first
    for mode in PLANE.modes():
        np.testing.assert_allclose(PLANE.score(mode), 0, atol=1e-6)


def test_counting_modes():
    world = GaussianMixture.ring(8)
    x = world.sample(8000, Generator(0))
    whole = world.count_modes(x)
    assert (whole.hit, whole.total) == (8, 8) and whole.on_mode > 0.999 and whole.kl < 0.005
    collapsed = world.count_modes(world.means[[0, 0, 3]])
    assert (collapsed.hit, collapsed.on_mode) == (2, 1.0)
    share = np.array([2 / 3, 1 / 3])
    assert collapsed.kl == pytest.approx((share * np.log(share * 8)).sum())
    nothing = world.count_modes(np.zeros((5, 2)))
    assert (nothing.hit, nothing.on_mode, nothing.kl) == (0, 0.0, math.inf)


def test_cdf_is_the_integral():
    x = np.linspace(-3, 5, 9)
    fine = np.arange(-10, 5.0001, 0.0005)
    p = plain_density(LINE, fine[:, None])
    cumulative = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2) * 0.0005])
    np.testing.assert_allclose(LINE.cdf(x[:, None]), np.interp(x, fine, cumulative), atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 7, 200])
def test_wasserstein_is_the_area_between_the_distribution_functions(n):
    x = LINE.sample(n, Generator(n)).astype(float) * 1.3 - 0.2
    fine = np.arange(-15, 15, 0.001)
    ours = np.searchsorted(np.sort(x[:, 0]), fine, side="right") / n
    area = np.abs(LINE.cdf(fine[:, None]) - ours).sum() * 0.001
    assert LINE.wasserstein(x) == pytest.approx(area, abs=2e-3)


def test_wasserstein_of_a_shift_is_the_shift():
    quantiles = GaussianMixture([1], [0.0], 1.0)
    u = (np.arange(20_000) + 0.5) / 20_000
    low, high = np.full_like(u, -9), np.full_like(u, 9)
    for _ in range(60):
        middle = (low + high) / 2
        below = quantiles.cdf(middle[:, None]) < u
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    assert quantiles.wasserstein((low + 3)[:, None]) == pytest.approx(3, abs=1e-3)
    assert quantiles.wasserstein(low[:, None]) < 1e-3


def test_sliced_wasserstein():
    x = PLANE.sample(4000, Generator(0))
    assert PLANE.sliced_wasserstein(x) < 0.05
    shift = np.array([3.0, 0.0])  # the mean of |3 cos t| over directions is 6 / pi
    assert PLANE.sliced_wasserstein(x + shift) == pytest.approx(6 / math.pi, abs=0.05)
    assert SPACE.sliced_wasserstein(SPACE.sample(2000, Generator(1))) < 0.15


def test_tensors_and_shapes_are_taken(world):
    x = world.sample(6, Generator(0))
    np.testing.assert_array_equal(world.log_prob(minigen.tensor(x)), world.log_prob(x))
    stacked = world.log_prob(x.reshape(2, 3, world.dim))
    np.testing.assert_allclose(stacked.reshape(-1), world.log_prob(x))
    assert world.score(x[0]).shape == (world.dim,) and world.log_prob(x[:0]).shape == (0,)
    assert world.log_prob(x).dtype == world.score(x).dtype == np.float64
    assert world.sample(0).shape == (0, world.dim)


def test_errors_say_what_to_write():
    with pytest.raises(ShapeError, match=r"x\[\.\.\., None\]"):
        LINE.log_prob(np.zeros(5))
    with pytest.raises(ShapeError, match=r"x is \(\.\.\., 2\)"):
        PLANE.score(np.zeros((5, 3)))
    with pytest.raises(ArgumentError, match="sliced_wasserstein"):
        PLANE.wasserstein(np.zeros((5, 2)))
    with pytest.raises(ArgumentError, match="positive definite"):
        GaussianMixture([1], [[0, 0]], [[[1, 2], [2, 1]]])
    with pytest.raises(ArgumentError, match="symmetric"):
        GaussianMixture([1], [[0, 0]], [[[1, 0.5], [0, 1]]])
    with pytest.raises(ArgumentError, match="weights are positive"):
        GaussianMixture([1, -1], [0, 1], 1.0)
    with pytest.raises(ShapeError, match="covariances are"):
        GaussianMixture([1, 1], [[0, 0], [1, 1]], np.ones((3, 3)))
    with pytest.raises(ArgumentError, match="at least one sample"):
        LINE.wasserstein(np.zeros((0, 1)))
    with pytest.raises(ShapeError, match="one number a sample"):
        LINE.divergence(np.zeros((5, 1)), np.zeros((5, 1)))
