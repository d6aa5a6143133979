"""Exact Wasserstein-1 distances between a mixture of Gaussians on the line and a sample.

On the line W1 is the area between the two distribution functions, the integral of |F - F_n|. Between two neighbouring
samples F_n is the constant i/n, and F has a closed-form integral, so the area is a sum of closed forms; where F crosses
i/n inside an interval, the crossing is found by bisection and the interval cut in two.
"""

import math

import numpy as np

from ... import random
from ...errors import ArgumentError, expect
from ...ops.special import erfc
from .world import Estimate


def mixture_cdf(x, weights, means, stds):
    """P(X <= x) for the mixture, elementwise."""
    z = (x[..., None] - means) / stds
    return 0.5 * erfc(-z / math.sqrt(2)) @ weights


def mixture_wasserstein(x, weights, means, stds):
    """W1 between the mixture and the sample x (n,)."""
    expect(x.size > 0, "wasserstein: at least one sample is needed", x, error=ArgumentError)
    x = np.sort(x)
    n = len(x)
    low, high = x[:-1], x[1:]
    level = np.arange(1, n) / n

    def below(points):
        return _area_below(points, weights, means, stds)

    total = below(x[:1])[0] + _area_above(x[-1:], weights, means, stds)[0]
    start, end = mixture_cdf(low, weights, means, stds), mixture_cdf(high, weights, means, stds)
    cut = np.where(end <= level, high, low)  # F - level is negative before the cut and positive after it
    crossing = (start < level) & (level < end)
    cut[crossing] = _quantile(level[crossing], low[crossing], high[crossing], weights, means, stds)
    at_low, at_cut, at_high = below(low), below(cut), below(high)
    before = level * (cut - low) - (at_cut - at_low)
    after = (at_high - at_cut) - level * (high - cut)
    return float(total + before.sum() + after.sum())


def sliced(world, x, directions):
    """The mean over directions of W1 between `world.projected(direction)` and x @ direction.

    In two dimensions the directions are evenly spread over the half circle and the mean is exact up to their number; in
    more they are drawn at random, from a fixed stream, and `error` is the standard error.
    """
    dim = x.shape[-1]
    if dim == 2:
        angle = math.pi * (np.arange(directions) + 0.5) / directions
        units = np.stack([np.cos(angle), np.sin(angle)], 1)
    else:
        units = random.Generator(20_260_102).normal((directions, dim)).astype(np.float64)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
    x = x.reshape(-1, dim)
    found = np.array([world.projected(u).wasserstein((x @ u)[:, None]) for u in units])
    error = 0.0 if dim == 2 or directions < 2 else found.std(ddof=1) / math.sqrt(directions)
    return Estimate(found.mean(), error)


def _area_below(x, weights, means, stds):
    """The integral of F from minus infinity to x: for one Gaussian, sigma (z Phi(z) + phi(z))."""
    z = (x[..., None] - means) / stds
    return (z * 0.5 * erfc(-z / math.sqrt(2)) + _phi(z)) @ (weights * stds)


def _area_above(x, weights, means, stds):
    """The integral of 1 - F from x to infinity."""
    return _area_below(-x, weights, -means, stds)


def _phi(z):
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _quantile(level, low, high, weights, means, stds):
    """Where F reaches `level` between low and high, by 26 halvings. |F - level| is 0 there, so an error of 2^-26 in the
    place changes the area by its square."""
    for _ in range(26):
        middle = 0.5 * (low + high)
        under = mixture_cdf(middle, weights, means, stds) < level
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return 0.5 * (low + high)
