"""What every world has in common: it samples data, and it knows the truth about them.

A world is a distribution written down in full, so that a model fitted to its samples can be scored by its distance
from the optimum. Every world has

    shape                               shape of one sample
    sample(n, generator)                n samples, a NumPy array (n, *shape)
    sample_with_latents(n, generator)   the same samples, and the hidden causes that made them
    log_prob(x)                         log density, or log probability, of each sample, in nats
    entropy()                           -E[log p], in nats a sample: the least any model's loss can be
    posterior(x)                        p(hidden cause | x)
    divergence(x, log_q)                KL(world || model) measured on the world's samples x

and beyond these what its kind allows: a `score`, the `noised` world of a diffusion, `count_modes`, `conditionals` of
the next symbol. A new world subclasses World and writes `shape`, `sample_with_latents`, `log_prob` and `entropy`.

Samples are float32 or int64, as a network takes them. Truths are computed and returned in float64, whatever came in:
they are what others are measured with. Questions take NumPy arrays or Tensors, of shape (..., *shape).
"""

from dataclasses import dataclass

import numpy as np

from ... import random
from ...errors import ShapeError, expect
from ...ops import reduction
from ..arrays import as_numpy


class World:
    """The base of all worlds; see the head of this file."""

    shape = ()

    def sample_with_latents(self, n, generator=None):
        """n samples (n, *shape) and the hidden causes that made them, which are the world's own kind of array."""
        raise NotImplementedError(f"{type(self).__name__} must say how it samples")

    def log_prob(self, x):
        """Log density (or probability) of each sample, in nats: (..., *shape) -> (...)."""
        raise NotImplementedError(f"{type(self).__name__} must say how likely a sample is")

    def entropy(self):
        """-E[log p(x)] in nats a sample, an Estimate: its `error` is 0 where the value is exact."""
        raise NotImplementedError(f"{type(self).__name__} must know its entropy")

    def posterior(self, x):
        """The probability of each hidden cause, given the sample."""
        raise NotImplementedError(f"{type(self).__name__} keeps no posterior")

    def sample(self, n, generator=None):
        """n samples (n, *shape), from `generator` or the default one."""
        return self.sample_with_latents(n, generator)[0]

    def divergence(self, x, log_q):
        """KL(world || model) in nats a sample, from samples x of the world and the model's log q(x) of them.

        The mean of log p(x) - log q(x): the noise that both logarithms share cancels, so this is far sharper than the
        difference between a loss and the entropy. Returns an Estimate.
        """
        log_q = as_numpy(log_q, np.float64)
        log_p = self.log_prob(x)
        expect(log_q.shape == log_p.shape, "divergence: log_q must hold one number a sample", log_q, log_p)
        return mean_estimate(log_p - log_q)

    def _checked(self, x, name):
        """`x` as a float64 array whose last dimensions are one sample's."""
        x = as_numpy(x, np.float64)
        fits = x.ndim >= len(self.shape) and x.shape[x.ndim - len(self.shape) :] == self.shape
        hint = "write x[..., None]: a sample is a vector, even of one number" if self.shape == (1,) else None
        expect(
            fits,
            f"{type(self).__name__}.{name}: x is (..., {', '.join(map(str, self.shape))})",
            x,
            error=ShapeError,
            hint=hint,
        )
        return x


class Estimate(float):
    """A number that knows its standard error: `value.error` is 0 for one that is exact.

    It is a float, so it can be subtracted from a loss; what comes of arithmetic is a plain float again.
    """

    __slots__ = ("error",)

    def __new__(cls, value, error=0.0):
        self = super().__new__(cls, value)
        self.error = float(error)
        return self

    def __getnewargs__(self):
        return float(self), self.error

    def __repr__(self):
        if not 1e-6 <= self.error < np.inf:
            return f"{float(self):.6g} " + ("(exact)" if self.error == 0 else f"+- {self.error:.0e}")
        digits = max(0, 1 - int(np.floor(np.log10(self.error))))
        return f"{float(self):.{digits}f} +- {self.error:.{digits}f}"

    __str__ = __repr__


def mean_estimate(values):
    """The mean of independent draws with its standard error, as an Estimate."""
    values = np.asarray(values, dtype=np.float64)
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.inf
    return Estimate(values.mean(), error)


@dataclass(frozen=True)
class ModeCount:
    """Which modes of a world a set of samples reaches: the exact answer to "has the model collapsed?".

    counts    samples nearest to each mode, of those near enough to one
    on_mode   share of all samples that are near enough
    hit       number of modes with at least one sample
    total     number of modes
    kl        KL(the samples' histogram over modes || the world's own), in nats: 0 when every mode gets its due.
              A finite sample of the world itself has about (total - 1) / (2 n), so compare with that.
    weights   the world's own probability of each mode
    """

    counts: np.ndarray
    on_mode: float
    hit: int
    total: int
    kl: float
    weights: np.ndarray

    @classmethod
    def of(cls, nearest, near, weights):
        """From each sample's nearest mode, whether it is near enough, and the modes' probabilities."""
        counts = np.bincount(nearest[near], minlength=len(weights))
        if counts.sum():
            share = counts / counts.sum()
            seen = share > 0
            kl = float((share[seen] * np.log(share[seen] / weights[seen])).sum())
        else:
            kl = float("inf")
        return cls(counts, float(near.mean()) if near.size else 0.0, int((counts > 0).sum()), len(weights), kl, weights)


def truth_generator():
    """The stream of every Monte Carlo truth: always the same, so a truth is the same number each time it is asked for,
    and nobody else's stream moves."""
    return random.Generator(20_260_101)


def choose(probabilities, n, generator=None):
    """n independent indices drawn by `probabilities`, int64."""
    return (generator or random.default_generator).categorical(probabilities, (n,))


def logsumexp(x):
    """log(sum(exp(x))) over the last dimension; -inf, without a warning, where every x is."""
    with np.errstate(divide="ignore"):
        return reduction.logsumexp(x, -1)


def entropy_of(p):
    """-sum p log p over the last dimension, in nats."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
