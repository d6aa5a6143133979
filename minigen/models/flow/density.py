"""FlowModel: a bijection and the noise at its far end, as a model with an exact density.

    log p(x) = log p_base(f(x)) + log|det df/dx|

Sampling is the other way round: draw z, and turn the bijection. Pictures of whole numbers are dequantised first
(dequantize.py): then the number is a bound of their discrete log-likelihood.
"""

import math
from dataclasses import dataclass

from ... import nn
from ...autograd import no_grad
from ...errors import ArgumentError, ShapeError, expect
from ...ops.joining import stack
from ...ops.reduction import logsumexp
from ...published import Pretrained
from .base import ClassNormal, StandardNormal
from .bijection import Composition, Reshape
from .dequantize import Logit, UniformDequantization, VariationalDequantization

DEQUANTIZATIONS = ("uniform", "variational")


@dataclass
class FlowConfig:
    """What every flow's configuration has.

    shape            of one sample: (D,), or (C, H, W)
    classes          0, or the number of classes of a conditional flow
    levels           0: x are real numbers. Otherwise x are whole numbers 0 to levels - 1, dequantised
    alpha            of the logit that follows (dequantize.py)
    dequantization   "uniform" or "variational"
    noise_hidden     channels of the networks of a variational one;  noise_couplings  how many it has
    """

    shape: tuple = (2,)
    classes: int = 0
    levels: int = 0
    alpha: float = 0.05
    dequantization: str = "uniform"
    noise_hidden: int = 32
    noise_couplings: int = 4

    def __post_init__(self):
        self.shape = tuple(self.shape)
        expect(self.dequantization in DEQUANTIZATIONS, f"{type(self).__name__}: dequantization is one of "
               f"{DEQUANTIZATIONS}", self.dequantization, error=ArgumentError)  # fmt: skip
        expect(not self.levels or 0 < self.alpha < 0.5, f"{type(self).__name__}: alpha is between 0 and 0.5",
               self.alpha, error=ArgumentError)  # fmt: skip

    @property
    def dim(self):
        return math.prod(self.shape)


class FlowModel(Pretrained, nn.Module):
    """A distribution over x (N, *config.shape). Call it for the training loss in nats a sample.

    bijection    from x (after the logit, where there are levels) to z, (N, *shape) or (N, D)
    base         the distribution of z (N, D): log_prob and sample; if None N(0, I), or one Gaussian for each class
    """

    def __init__(self, config, bijection, base=None):
        self.config = config
        start = [Logit(config.levels, config.alpha)] if config.levels else []
        self.bijection = Composition(*start, bijection)
        if base is None:
            base = ClassNormal(config.dim, config.classes) if config.classes else StandardNormal(config.dim)
        self.base = base
        if config.levels and config.dequantization == "variational":
            self.dequantizer = VariationalDequantization(
                config.shape, config.levels, config.noise_hidden, config.noise_couplings
            )
        else:
            self.dequantizer = UniformDequantization()

    # Densities

    def log_density(self, v, labels=None):
        """log p(v) of real numbers v (N, *shape), exact: (N,). Where there are levels v lies in [0, levels]."""
        z, log_det = self.encode(v, labels)
        return self.base.log_prob(z, labels) + log_det

    def log_prob(self, x, labels=None, generator=None):
        """log p(x), (N,) in nats: exact for real numbers; for levels one draw of the bound of log P(x)."""
        if not self.config.levels:
            return self.log_density(x, labels)
        v, log_q = self.dequantizer(self._checked(x).float() if x.dtype.kind != "f" else x, generator)
        return self.log_density(v, labels) - log_q

    def bound(self, x, k=1, labels=None, generator=None):
        """The log of the mean of k weights p(x + u) / q(u | x), (N,): a bound of log P(x) that rises to it with k."""
        draws = [self.log_prob(x, labels, generator) for _ in range(k)]
        return draws[0] if k == 1 else logsumexp(stack(draws), 0) - math.log(k)

    def forward(self, x, labels=None, generator=None):
        return -self.log_prob(x, labels, generator).mean()

    # There and back

    def encode(self, v, labels=None):
        """z (N, D) and log|dz/dv| (N,), for real numbers v (N, *shape)."""
        z, log_det = self.bijection(self._checked(v), self._context(labels, len(v)))
        return z.reshape(len(v), -1), log_det

    def decode(self, z, labels=None):
        """v (N, *shape) for z (N, D). Where there are levels, whole numbers of v are reached by `quantize`."""
        expect(z.ndim == 2 and z.shape[1] == self.config.dim, f"decode: z is (N, {self.config.dim})", z)
        return self.bijection.inverse(z, self._context(labels, len(z)))[0]

    def quantize(self, v):
        """The level that v lies in, 0 to levels - 1, as floats; v itself where there are no levels."""
        return v.floor().clamp(0, self.config.levels - 1) if self.config.levels else v

    @no_grad()
    def sample(self, n, labels=None, temperature=1.0, generator=None):
        """n draws (n, *shape). temperature: of the noise z; 1 is the model itself, less keeps to its middle."""
        z = self.base.sample(n, labels, temperature, generator)
        return self.quantize(self.decode(z, labels))

    # Pieces

    def _context(self, labels, n):
        """What the bijection is told of the labels: nothing, unless a subclass says so. The base knows them."""
        return None

    def _checked(self, x):
        shape = self.config.shape
        rule = f"{type(self).__name__}: x is (N, {', '.join(map(str, shape))})"
        expect(tuple(x.shape[1:]) == shape, rule, x, error=ShapeError)
        return x


class FlatShaped(Composition):
    """A composition whose output (N, D) is given its shape back when it is turned round."""

    def __init__(self, shape, *layers):
        super().__init__(*layers, Reshape(shape, (math.prod(shape),)))
