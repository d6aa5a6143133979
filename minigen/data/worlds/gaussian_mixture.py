"""Mixtures of Gaussians: the world where everything about a diffusion, a flow or a GAN can be known exactly.

    world = GaussianMixture.ring(modes=8)
    x = world.sample(1000, generator)               # (1000, 2)
    world.log_prob(x), world.score(x)               # the density and its gradient
    world.noised(a, s).score(x_t)                   # of x_t = a x + s n: a mixture again, because Gaussians add
    world.posterior_mean(x_t, a, s)                 # E[x | x_t], what the best denoiser answers

Integrals are exact too, in one and two dimensions: `expectation` adds up f over each component's own grid, and for a
smooth f under a Gaussian the trapezoid rule converges faster than any power of the step (Trefethen & Weideman 2014).
"""

import math

import numpy as np

from ... import random
from ...errors import ArgumentError, expect
from ..arrays import as_numpy
from .transport import mixture_cdf, mixture_wasserstein, sliced
from .world import Estimate, ModeCount, World, choose, logsumexp, mean_estimate, truth_generator

REACH = 9.0  # standard deviations to which an integral goes: beyond lie 1e-18
STEPS = {1: (1 / 8, 1 / 16, 1 / 64, 1 / 256, 1 / 1024, 1 / 4096), 2: (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)}
BLOCK = 20_000  # points of a grid that f is given at a time
DRAWS = 200_000  # for an integral in three dimensions or more


class GaussianMixture(World):
    """sum_k weights[k] N(means[k], covariances[k]).

    weights       (K,), positive; scaled to add up to 1
    means         (K, D), or (K,) in one dimension
    covariances   (K, D, D), or (K, D) diagonals, or (K,) variances that are the same in all directions, or one variance

    Samples are (n, D) float32; the hidden cause is the component's index. Raises ArgumentError for weights or
    covariances that are not positive, ShapeError for shapes that do not fit.
    """

    def __init__(self, weights, means, covariances):
        self.weights = as_numpy(weights, np.float64).reshape(-1)
        means = as_numpy(means, np.float64)
        self.means = means[:, None] if means.ndim == 1 else means
        expect(
            self.means.ndim == 2 and len(self.means) == len(self.weights) > 0,
            "GaussianMixture: weights (K,) and means (K, D)",
            self.weights,
            means,
        )
        expect((self.weights > 0).all(), "GaussianMixture: weights are positive", weights, error=ArgumentError)
        self.weights = self.weights / self.weights.sum()
        self.covariances = _full(as_numpy(covariances, np.float64), *self.means.shape)
        rule = "GaussianMixture: covariances are symmetric and positive definite"
        expect(np.allclose(self.covariances, self.covariances.mT), rule, covariances, error=ArgumentError)
        try:
            self._roots = np.linalg.cholesky(self.covariances)
        except np.linalg.LinAlgError:
            expect(False, rule, covariances, error=ArgumentError)
        self._whiten = np.linalg.inv(self._roots)
        log_volume = np.log(np.diagonal(self._roots, axis1=1, axis2=2)).sum(1) + 0.5 * self.dim * math.log(2 * math.pi)
        self._log_peak = np.log(self.weights) - log_volume

    @classmethod
    def pair(cls, distance=4.0, std=0.5, weights=(0.5, 0.5)):
        """Two bumps on the line, `distance` apart, centred at 0."""
        return cls(weights, [-distance / 2, distance / 2], std**2)

    @classmethod
    def ring(cls, modes=8, radius=2.0, std=0.1):
        """Equal round bumps on a circle: the classic test for a GAN's mode collapse."""
        angle = 2 * math.pi * np.arange(modes) / modes
        return cls(np.ones(modes), radius * np.stack([np.cos(angle), np.sin(angle)], 1), std**2)

    @classmethod
    def grid(cls, side=5, spacing=1.0, std=0.05):
        """side x side equal round bumps on a square grid centred at 0."""
        place = spacing * (np.arange(side) - (side - 1) / 2)
        return cls(np.ones(side * side), np.stack(np.meshgrid(place, place), -1).reshape(-1, 2), std**2)

    @property
    def dim(self):
        return self.means.shape[1]

    @property
    def shape(self):
        return (self.dim,)

    # Samples and density

    def sample_with_latents(self, n, generator=None):
        """(n, D) float32, and the component that each came from, (n,) int64."""
        generator = generator or random.default_generator
        component = choose(self.weights, n, generator)
        noise = generator.normal((n, self.dim)).astype(np.float64)
        x = self.means[component] + np.einsum("nij,nj->ni", self._roots[component], noise)
        return x.astype(np.float32), component

    def log_prob(self, x):
        return logsumexp(self._log_joint(self._checked(x, "log_prob")))

    def posterior(self, x):
        """p(component | x), (..., K): the responsibilities of EM's E-step."""
        return _softmax(self._log_joint(self._checked(x, "posterior")))

    def score(self, x):
        """The gradient of log p at x, (..., D): where the density grows, and how fast."""
        x = self._checked(x, "score")
        share = _softmax(self._log_joint(x))
        return sum(share[..., k, None] * self._pull(x, k) for k in range(len(self.weights)))

    def mean(self):
        return self.weights @ self.means

    def covariance(self):
        centred = self.means - self.mean()
        return np.einsum("k,kij->ij", self.weights, self.covariances + centred[:, :, None] * centred[:, None, :])

    # Under noise

    def noised(self, a, s):
        """The law of x_t = a x + s n with n ~ N(0, I), a GaussianMixture: ask it for its density and score."""
        return GaussianMixture(self.weights, a * self.means, a * a * self.covariances + s * s * np.eye(self.dim))

    def posterior_mean(self, x_t, a, s):
        """E[x | a x + s n = x_t], (..., D): the answer of the best possible denoiser, in squared error."""
        noised = self.noised(a, s)
        x_t = noised._checked(x_t, "posterior_mean")
        share = _softmax(noised._log_joint(x_t))
        # Each component's own answer is linear in x_t: m + a C (a^2 C + s^2 I)^-1 (x_t - a m)
        answers = [m - a * noised._pull(x_t, k) @ c for k, (m, c) in enumerate(zip(self.means, self.covariances))]
        return sum(share[..., k, None] * answer for k, answer in enumerate(answers))

    # Modes

    def modes(self, tolerance=1e-10, steps=10_000):
        """The peaks of the density, (M, D), highest first, by climbing from every component's mean.

        The climb is Carreira-Perpinan's (2000) fixed point: x <- (sum_k r_k P_k)^-1 sum_k r_k P_k m_k, with r the
        responsibilities and P the inverse covariances. It never goes down, and finds every peak that a mean leads to
        (in one dimension with equal variances, and wherever components are well apart, that is all of them).
        """
        precisions = np.einsum("kji,kjl->kil", self._whiten, self._whiten)
        pulled = np.einsum("kij,kj->ki", precisions, self.means)
        x = self.means.copy()
        for _ in range(steps):
            share = _softmax(self._log_joint(x))
            new = np.linalg.solve(np.einsum("nk,kij->nij", share, precisions), (share @ pulled)[..., None])[..., 0]
            moved = np.abs(new - x).max()
            x = new
            if moved < tolerance:
                break
        x = x[np.argsort(-self.log_prob(x), kind="stable")]
        same = 1e-3 * math.sqrt(np.linalg.eigvalsh(self.covariances).min())
        peaks = []
        for point in x:
            if all(np.linalg.norm(point - peak) > same for peak in peaks):
                peaks.append(point)
        return np.array(peaks)

    def count_modes(self, x, within=None):
        """Which components the samples x (n, D) reach, a ModeCount.

        A sample belongs to the component it is nearest to, in that component's standard deviations, and counts if that
        is at most `within`: sqrt(D) + 3 if None, which fewer than one true sample in a thousand exceeds.
        """
        x = self._checked(x, "count_modes")
        distance = np.stack([np.linalg.norm(self._white(x, k), axis=-1) for k in range(len(self.weights))], -1)
        near = distance.min(-1) <= (math.sqrt(self.dim) + 3 if within is None else within)
        return ModeCount.of(distance.argmin(-1), near, self.weights)

    # Integrals

    def expectation(self, f, tolerance=1e-10):
        """E[f(x)] as an Estimate; f takes (n, D) float64 and returns (n,).

        In one and two dimensions by the trapezoid rule, the step halved until two agree to `tolerance`; `error` is
        their difference. In more, the mean over 200,000 samples and its standard error.
        """
        if self.dim not in STEPS:
            return mean_estimate(f(self.sample(DRAWS, truth_generator()).astype(np.float64)))
        values = []
        for step in STEPS[self.dim]:
            values.append(sum(w * self._integral(f, k, step) for k, w in enumerate(self.weights)))
            if len(values) > 1 and abs(values[-1] - values[-2]) <= tolerance * max(1.0, abs(values[-1])):
                break
        return Estimate(values[-1], abs(values[-1] - values[-2]))

    def entropy(self):
        return self.cross_entropy(self.log_prob)

    def cross_entropy(self, log_q):
        """-E[log q(x)] in nats; `log_q` is a function on (n, D) arrays, a model's log density."""
        return self.expectation(lambda x: -as_numpy(log_q(x), np.float64))

    def kl(self, other):
        """KL(self || other) in nats; `other` is a world, or a function that gives log q(x)."""
        log_q = getattr(other, "log_prob", other)
        return self.expectation(lambda x: self.log_prob(x) - as_numpy(log_q(x), np.float64))

    # Distances to a sample

    def cdf(self, x):
        """P(X <= x), one dimension only: (..., 1) -> (...)."""
        self._needs_one("cdf")
        return mixture_cdf(self._checked(x, "cdf")[..., 0], self.weights, self.means[:, 0], self._roots[:, 0, 0])

    def wasserstein(self, x):
        """The exact Wasserstein-1 distance between this world and the samples x (n, 1): one dimension only."""
        self._needs_one("wasserstein")
        x = self._checked(x, "wasserstein").reshape(-1)
        return mixture_wasserstein(x, self.weights, self.means[:, 0], self._roots[:, 0, 0])

    def sliced_wasserstein(self, x, directions=32):
        """The mean over directions of the exact Wasserstein-1 distance between the projections of world and samples."""
        return sliced(self, self._checked(x, "sliced_wasserstein"), directions)

    def projected(self, direction):
        """The law of x . direction: a mixture on the line."""
        direction = as_numpy(direction, np.float64)
        variances = np.einsum("i,kij,j->k", direction, self.covariances, direction)
        return GaussianMixture(self.weights, self.means @ direction, variances)

    # Pieces

    def _white(self, x, k):
        """x in standard deviations from component k's mean."""
        return (x - self.means[k]) @ self._whiten[k].T

    def _pull(self, x, k):
        """The score of component k alone."""
        return -self._white(x, k) @ self._whiten[k]

    def _log_joint(self, x):
        """log weights[k] N(x; ...), (..., K)."""
        squares = [(self._white(x, k) ** 2).sum(-1) for k in range(len(self.weights))]
        return self._log_peak - 0.5 * np.stack(squares, -1)

    def _integral(self, f, k, step):
        """E_k[f] on a grid in component k's own coordinates."""
        line = np.arange(-round(REACH / step), round(REACH / step) + 1) * step
        bell = np.exp(-0.5 * line * line)
        bell /= bell.sum()
        if self.dim == 1:
            return float(bell @ f(line[:, None] * self._roots[k, 0, 0] + self.means[k]))
        total, rows = 0.0, max(1, BLOCK // len(line))
        for i in range(0, len(line), rows):
            u, v = np.meshgrid(line[i : i + rows], line, indexing="ij")
            points = np.stack([u.ravel(), v.ravel()], 1) @ self._roots[k].T + self.means[k]
            total += float(np.outer(bell[i : i + rows], bell).ravel() @ f(points))
        return total

    def _needs_one(self, name):
        rule = f"{name}: this mixture has {self.dim} dimensions, not one"
        hint = "write sliced_wasserstein, or project it first: world.projected(direction)"
        expect(self.dim == 1, rule, error=ArgumentError, hint=hint)


def _full(covariances, count, dim):
    """Any of the accepted forms as (K, D, D)."""
    forms = [(), (count,), (count, dim), (count, dim, dim)]
    expect(
        covariances.shape in forms,
        f"GaussianMixture: covariances are one number, ({count},), ({count}, {dim}) or ({count}, {dim}, {dim})",
        covariances,
    )
    if covariances.ndim == 3:
        return covariances
    diagonals = covariances if covariances.ndim == 2 else np.broadcast_to(covariances.reshape(-1, 1), (count, dim))
    return diagonals[:, :, None] * np.eye(dim)


def _softmax(x):
    return np.exp(x - logsumexp(x)[..., None])
