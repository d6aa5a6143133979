"""How far a model is from a world whose truth is known.

    kl_to_model(world, log_q)    a model that knows its likelihood: KL(world || model), from samples of the world
    judge_samples(world, x)      a model that only samples, a GAN say: which modes it reaches, how evenly, how well

The world does the work, by its own `divergence` and `count_modes`. What is added here is what a *perfect* model would
score with as many samples: a finite sample is never quite even. For K modes and n samples the histogram's divergence is
about (K - 1) / (2 n) (Wilks 1938); `expected_divergence` has it exactly, for small n too.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, expect


def kl_to_model(world, log_q, n=10_000, generator=None):
    """KL(world || model) in nats a sample, an Estimate (its `.error` is the standard error), from n samples.

    log_q   a function: samples (n, *shape), a NumPy array -> log q of each, (n,), by the model
    """
    x = world.sample(n, generator)
    return world.divergence(x, log_q(x))


@dataclass(frozen=True)
class SampleReport:
    """What n samples show of a world's modes; `str()` is a line of words.

    on_mode            share of samples near enough to a mode
    hit, total         modes with a sample, and all of them;  perfect_hit: how many n perfect samples would reach
    divergence         KL(histogram over modes || the world's), nats, of the samples on a mode
    perfect_divergence the mean of the same for as many perfect samples: the bias of the measure
    counts             samples of each mode
    """

    on_mode: float
    hit: int
    total: int
    perfect_hit: float
    divergence: float
    perfect_divergence: float
    counts: np.ndarray

    def __str__(self):
        return (
            f"{self.on_mode:.1%} on a mode, {self.hit} of {self.total} modes (perfect: {self.perfect_hit:.1f}), "
            f"divergence {self.divergence:.3f} (perfect: {self.perfect_divergence:.3f}) nats"
        )


def judge_samples(world, x, within=None):
    """A SampleReport of samples x (n, *shape), by `world.count_modes(x, within)`.

    Two numbers belong together: a generator that has collapsed may have all its samples on a mode, and one that paints
    noise may reach every mode by chance.
    """
    found = world.count_modes(x) if within is None else world.count_modes(x, within)
    n, weights = int(found.counts.sum()), found.weights
    perfect = expected_divergence(weights, n) if n else math.nan
    reached = float((1 - (1 - weights) ** n).sum())
    return SampleReport(found.on_mode, found.hit, found.total, reached, found.kl, perfect, found.counts)


def expected_divergence(weights, n):
    """E[KL(histogram || weights)] of n draws from `weights` (K,) themselves, in nats: what a perfect sampler scores.

    Exact: the count of mode k is binomial, and E[c/n log(c/n)] is summed over every count c.
    """
    weights = np.asarray(weights, np.float64)
    fits = weights.ndim == 1 and (weights > 0).all() and abs(weights.sum() - 1) < 1e-6
    expect(fits, "expected_divergence: weights (K,) are positive and add up to 1", weights, error=ArgumentError)
    expect(n >= 1, "expected_divergence: n is 1 or more", n, error=ArgumentError)
    c = np.arange(1, n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(c))])
    log_choose = log_factorial[n] - log_factorial[c] - log_factorial[n - c]
    gain = c / n * np.log(c / n)
    values, repeats = np.unique(weights, return_counts=True)
    total = 0.0
    for w, repeat in zip(values, repeats):
        stay = (n - c) * math.log1p(-w) if w < 1 else np.where(c == n, 0.0, -np.inf)
        total += repeat * ((np.exp(log_choose + c * math.log(w) + stay) * gain).sum() - w * math.log(w))
    return float(total)


def histogram_divergence(counts, probabilities):
    """(KL(counts / n || probabilities), its mean for n perfect draws), in nats: for any cells of known probability.

    Cells that the world never fills make it infinite if the samples do; cells without a sample cost nothing by
    themselves, since their share is missing elsewhere.
    """
    counts, p = np.asarray(counts, np.float64), np.asarray(probabilities, np.float64)
    expect(counts.shape == p.shape and counts.ndim == 1, "histogram_divergence: counts (K,) and probabilities (K,)",
           counts, p)  # fmt: skip
    n = int(counts.sum())
    expect(n >= 1, "histogram_divergence: there is no sample", counts, error=ArgumentError)
    share, seen = counts / n, counts > 0
    with np.errstate(divide="ignore"):
        found = float((share[seen] * np.log(share[seen] / p[seen])).sum())
    return found, expected_divergence(p[p > 0] / p.sum(), n)
