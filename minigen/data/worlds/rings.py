"""Rings: circles blurred by Gaussian noise. A world that is not a mixture of anything simple, and still fully known.

    world = Rings(radii=(1.0, 2.0), std=0.1)
    x = world.sample(1000, generator)               # (1000, 2)
    world.noised(a, s)                              # rings again: radii a R, variance a^2 std^2 + s^2

A point is R (cos t, sin t) + std n with t uniform. Its density depends on the distance r from the centre alone
(z = r R / std^2, I0 and I1 the modified Bessel functions):

    p(x)  = exp(-(r^2 + R^2) / 2 std^2) I0(z) / (2 pi std^2)
    p(r)  = 2 pi r p(x)                                             (Rice 1945)
    score = (R I1(z) / I0(z) - r) / std^2, outward
"""

import math

import numpy as np

from ... import random
from ...errors import ArgumentError, expect
from ..arrays import as_numpy
from .gaussian_mixture import GaussianMixture
from .transport import sliced
from .world import Estimate, ModeCount, World, choose, logsumexp


class Rings(World):
    """Concentric rings in the plane.

    radii    (K,), zero or more;  std  the blur, one number or (K,), positive;  weights  (K,), equal if None

    Samples are (n, 2) float32; the hidden cause is the ring's index.
    """

    shape = (2,)

    def __init__(self, radii=(1.0, 2.0), std=0.1, weights=None):
        self.radii = as_numpy(radii, np.float64).reshape(-1)
        count = len(self.radii)
        self.std = np.broadcast_to(as_numpy(std, np.float64), (count,)).copy()
        weights = np.ones(count) if weights is None else as_numpy(weights, np.float64).reshape(-1)
        expect(count > 0 and len(weights) == count, "Rings: radii (K,) and weights (K,)", self.radii, weights)
        expect((self.radii >= 0).all(), "Rings: radii are not negative", radii, error=ArgumentError)
        expect((self.std > 0).all(), "Rings: std is positive", std, error=ArgumentError)
        expect((weights > 0).all(), "Rings: weights are positive", weights, error=ArgumentError)
        self.weights = weights / weights.sum()

    # Samples and density

    def sample_with_latents(self, n, generator=None):
        """(n, 2) float32, and the ring that each came from, (n,) int64."""
        generator = generator or random.default_generator
        ring = choose(self.weights, n, generator)
        angle = 2 * math.pi * generator.uniform((n,)).astype(np.float64)
        noise = generator.normal((n, 2)).astype(np.float64)
        circle = self.radii[ring, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        return (circle + self.std[ring, None] * noise).astype(np.float32), ring

    def log_prob(self, x):
        return logsumexp(self._log_joint(self._radius(x, "log_prob")))

    def posterior(self, x):
        """p(ring | x), (..., K)."""
        return self._share(self._radius(x, "posterior"))

    def score(self, x):
        """The gradient of log p at x, (..., 2)."""
        x = self._checked(x, "score")
        r = np.linalg.norm(x, axis=-1)
        variance = self.std**2
        outward = (self.radii**2 / variance * bessel_ratio(r[..., None] * self.radii / variance) - 1) / variance
        return x * (self._share(r) * outward).sum(-1, keepdims=True)

    def noised(self, a, s):
        """The law of x_t = a x + s n with n ~ N(0, I): Rings again."""
        return Rings(abs(a) * self.radii, np.sqrt(a * a * self.std**2 + s * s), self.weights)

    def posterior_mean(self, x_t, a, s):
        """E[x | a x + s n = x_t], (..., 2): the answer of the best possible denoiser, in squared error.

        With v = a^2 std^2 + s^2 and z = a R |x_t| / v, the point on the circle is expected at R I1(z)/I0(z) towards
        x_t, and the answer is s^2/v of that plus a std^2/v of x_t.
        """
        noised = self.noised(a, s)
        x_t = noised._checked(x_t, "posterior_mean")
        r, v = np.linalg.norm(x_t, axis=-1), noised.std**2
        circle = a * self.radii**2 / v * bessel_ratio(r[..., None] * noised.radii / v)
        return x_t * (noised._share(r) * (s * s * circle + a * self.std**2) / v).sum(-1, keepdims=True)

    # The radius

    def radius_density(self, r):
        """The density of the distance from the centre, (...) -> (...): a mixture of Rice laws."""
        r = as_numpy(r, np.float64)
        return np.where(r < 0, 0.0, 2 * math.pi * r * np.exp(logsumexp(self._log_joint(np.abs(r)))))

    def radius_cdf(self, r):
        """P(distance <= r), (...) -> (...), to about 1e-8: the trapezoid rule on a fine grid."""
        grid = np.linspace(0, (self.radii + 12 * self.std).max(), 80_001)
        density = self.radius_density(grid)
        below = np.r_[0.0, np.cumsum((density[1:] + density[:-1]) / 2) * grid[1]]
        return np.interp(as_numpy(r, np.float64), grid, below / below[-1], left=0.0, right=1.0)

    def modes(self):
        """The radii where the density of x peaks, highest first; 0 is the centre."""
        r = np.linspace(0, (self.radii + 5 * self.std).max(), 200_001)
        log_p = logsumexp(self._log_joint(r))
        higher_left = np.r_[True, log_p[1:] > log_p[:-1]]
        higher_right = np.r_[log_p[:-1] > log_p[1:], True]
        peaks = np.flatnonzero(higher_left & higher_right)
        return r[peaks[np.argsort(-log_p[peaks], kind="stable")]]

    def count_modes(self, x, sectors=16, within=4.0):
        """Which parts of the rings the samples x (n, 2) reach, a ModeCount: each ring is cut into `sectors` equal arcs.

        A sample belongs to the nearest ring (in blurs) and counts if it is within `within` blurs of it.
        """
        x = self._checked(x, "count_modes")
        blurs = np.abs(np.linalg.norm(x, axis=-1)[..., None] - self.radii) / self.std
        ring = blurs.argmin(-1)
        turn = np.arctan2(x[..., 1], x[..., 0]) / (2 * math.pi) % 1.0
        arc = ring * sectors + np.minimum((turn * sectors).astype(np.int64), sectors - 1)
        return ModeCount.of(arc, blurs.min(-1) <= within, np.repeat(self.weights / sectors, sectors))

    # Integrals and distances

    def entropy(self):
        return self.radial_expectation(lambda r: -logsumexp(self._log_joint(r)))

    def radial_expectation(self, f):
        """E[f(|x|)] as an Estimate; f takes and returns (n,). The trapezoid rule, its step halved once for `error`."""
        values = []
        for points in (40_001, 80_001):
            r = np.linspace(0, (self.radii + 12 * self.std).max(), points)
            values.append(np.trapezoid(self.radius_density(r) * f(r), r))
        return Estimate(values[1], abs(values[1] - values[0]))

    def projected(self, direction=(1.0, 0.0)):
        """The law of x . direction for a unit vector, the same for all: a mixture of Gaussians on the line.

        R cos t with t uniform is an integral over t; the trapezoid rule on a period is exact once its step is smaller
        than the blur, and makes it a finite mixture.
        """
        length = float(np.linalg.norm(direction))
        points = 2 * math.ceil(16 + 4 * (self.radii / self.std).max())
        angle = math.pi * (np.arange(points) + 0.5) / points
        means = length * (self.radii[:, None] * np.cos(angle)).ravel()
        variances = np.repeat((length * self.std) ** 2, points)
        return GaussianMixture(np.repeat(self.weights / points, points), means, variances)

    def sliced_wasserstein(self, x, directions=16):
        """The mean over directions of the exact Wasserstein-1 distance between the projections of world and samples."""
        return sliced(self, self._checked(x, "sliced_wasserstein"), directions)

    # Pieces

    def _radius(self, x, name):
        return np.linalg.norm(self._checked(x, name), axis=-1)

    def _log_joint(self, r):
        """log weights[k] p(x | ring k) at distance r, (...) -> (..., K)."""
        r, variance = r[..., None], self.std**2
        scaled = np.log(bessel_scaled(0, r * self.radii / variance))
        return np.log(self.weights / (2 * math.pi * variance)) - 0.5 * (r - self.radii) ** 2 / variance + scaled

    def _share(self, r):
        joint = self._log_joint(r)
        return np.exp(joint - logsumexp(joint)[..., None])


def bessel_scaled(order, z):
    """exp(-z) I_order(z) for z >= 0, order 0 or 1, to about 1e-14.

    Up to 30 by the power series, whose terms are all positive; beyond by the asymptotic one, whose smallest term is
    then 1e-26 (Abramowitz & Stegun 9.6.10 and 9.7.1).
    """
    z = np.asarray(z, dtype=np.float64)
    near, far = np.minimum(z, 30.0), np.maximum(z, 30.0)
    term = np.exp(-near) * (near / 2) ** order
    series = term.copy()
    for k in range(1, 80):
        term = term * (near / 2) ** 2 / (k * (k + order))
        series += term
    tail = np.ones_like(far)
    asymptotic = tail.copy()
    for k in range(1, 30):
        tail = tail * -(4 * order**2 - (2 * k - 1) ** 2) / (8 * k * far)
        asymptotic += tail
    return np.where(z <= 30.0, series, asymptotic / np.sqrt(2 * math.pi * far))


def bessel_ratio(z):
    """I1(z) / (z I0(z)) for z >= 0; its limit at 0 is 1/2."""
    safe = np.where(z > 0, z, 1.0)
    return np.where(z > 0, bessel_scaled(1, z) / (safe * bessel_scaled(0, z)), 0.5)
