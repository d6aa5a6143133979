"""The distributions at the far end of a flow: simple, independent in every dimension, exact.

    StandardNormal      N(0, I)
    StandardLogistic    the logistic distribution, which NICE chose for its kinder gradients far out
    ClassNormal         a Gaussian for each class, its mean and standard deviation learned

Each has log_prob(z, labels) (N,) in nats, for z (N, D), and sample(n, labels, temperature, generator) (n, D). The
temperature multiplies the standard deviation: below 1 it keeps to what is typical (Kingma & Dhariwal 2018, sec. 6).
"""

import math

from ... import nn
from ...autograd import no_grad
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import exp, log
from ...ops.joining import cat
from ...tensor import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
LEAST = 1e-7  # uniform noise is kept this far from 0 and 1 before its logit is taken


class StandardNormal(nn.Module):
    """N(0, I) in `dim` dimensions."""

    def __init__(self, dim):
        self.dim = dim
        self.register_buffer("like", creation.zeros(1))  # carries the device and the type

    def log_prob(self, z, labels=None):
        return -(0.5 * z * z + HALF_LOG_TWO_PI).sum(1)

    @no_grad()
    def sample(self, n, labels=None, temperature=1.0, generator=None):
        return temperature * normal_like(self.like, n, self.dim, generator)


class StandardLogistic(StandardNormal):
    """log p(z) = -log(1 + e^z) - log(1 + e^-z) in each dimension (Dinh et al. 2014, eq. 15)."""

    def log_prob(self, z, labels=None):
        return -(F.softplus(z) + F.softplus(-z)).sum(1)

    @no_grad()
    def sample(self, n, labels=None, temperature=1.0, generator=None):
        like = self.like
        u = creation.rand(n, self.dim, generator=generator, dtype=like.dtype, device=like.device)
        u = u.clamp(LEAST, 1 - LEAST)
        return temperature * (log(u) - log(1 - u))


class ClassNormal(StandardNormal):
    """For each class a Gaussian with independent dimensions, N(mean[c], exp(log_std[c])^2); they start as N(0, I).

    top    only the first `top` dimensions know the class, the others stay N(0, 1): in a multi-scale flow those are
           the ones left at the end, as in Glow. None for all.
    """

    def __init__(self, dim, classes, top=None):
        super().__init__(dim)
        self.classes, self.top = classes, dim if top is None else top
        self.mean = nn.Parameter(creation.zeros(classes, self.top))
        self.log_std = nn.Parameter(creation.zeros(classes, self.top))

    def log_prob(self, z, labels=None):
        mean, log_std = self._of(labels, len(z))
        unit = (z - mean) * exp(-log_std)
        return -(0.5 * unit * unit + log_std + HALF_LOG_TWO_PI).sum(1)

    @no_grad()
    def sample(self, n, labels=None, temperature=1.0, generator=None):
        mean, log_std = self._of(labels, n)
        return mean + temperature * exp(log_std) * normal_like(self.like, n, self.dim, generator)

    def _of(self, labels, n):
        """Mean and log standard deviation for each sample, (N, dim)."""
        hint = f"write labels=, {n} integers from 0 to {self.classes - 1}"
        expect(labels is not None, "this flow is conditional: it needs the labels", error=ArgumentError, hint=hint)
        labels = labels if isinstance(labels, Tensor) else Tensor(labels)
        expect(tuple(labels.shape) == (n,), "labels (N,), one for each sample", labels, error=ShapeError, hint=hint)
        labels = labels.long().to(self.like.device)
        rest = creation.zeros(n, self.dim - self.top, dtype=self.like.dtype, device=self.like.device)
        return tuple(cat([F.embedding(labels, p), rest], 1) for p in (self.mean, self.log_std))


def normal_like(like, n, dim, generator):
    """(n, dim) standard normal noise with the type and the device of `like`."""
    return creation.randn(n, dim, generator=generator, dtype=like.dtype, device=like.device)
