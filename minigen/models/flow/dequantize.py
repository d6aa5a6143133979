"""Pictures of whole numbers, for models of real ones.

A density fitted to whole numbers can be made as large as you like: a spike on each. So noise is added first. If
v = x + u with u in [0, 1), the density p(v) belongs to a model of the whole numbers, P(x) = integral of p(x + u) over
u, and for any way q(u | x) of drawing the noise (Jensen's inequality)

    log P(x)  >=  E_q[log p(x + u) - log q(u | x)]                   (Ho et al. 2019, arXiv:1902.00275, eq. 11)

With u uniform on all of [0, 1), q is 1 and the second term is 0 (Theis, van den Oord & Bethge 2016): a bound of the
discrete log-likelihood in nats, to be compared with any other. With u on [0, 1/2) the second term would be log 2 for
each pixel, and who forgets it reports a number that no model can reach.

Uniform noise makes a staircase with edges, which is a hard thing for a smooth flow to be. Ho et al. let a second flow
learn the noise, given the picture: variational dequantisation.

    UniformDequantization        u ~ U(0, 1)
    VariationalDequantization    u = sigmoid(flow(noise; x))
    Logit                        from (0, levels) to the whole line, so that the flow need not know the edges
"""

import math

from ... import nn
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import log, sigmoid
from .base import StandardLogistic
from .bijection import Bijection, Composition, Inverse, total
from .coupling import AffineCoupling, checkerboard
from .networks import GlowNet


class UniformDequantization(nn.Module):
    """x + u with u ~ U(0, 1) for each element, and log q(u | x) = 0."""

    def forward(self, x, generator=None):
        """x (N, ...) whole numbers as floats -> v (N, ...), log q (N,)."""
        return x + creation.rand_like(x, generator=generator), creation.zeros(len(x), dtype=x.dtype, device=x.device)


class VariationalDequantization(nn.Module):
    """x + u with u = sigmoid(f(e; h(x))), e logistic noise, f a flow of affine couplings on checkerboards.

    Ho et al. take Gaussian noise. The sigmoid of logistic noise is uniform, so with it and couplings that start as the
    identity, learning starts from the uniform bound.

    shape       (C, H, W) of one picture
    levels      its whole numbers are 0 to levels - 1
    hidden      channels of the networks;  couplings  how many
    """

    def __init__(self, shape, levels, hidden=32, couplings=4):
        expect(len(shape) == 3, "VariationalDequantization: shape is (C, H, W)", shape, error=ShapeError)
        self.shape, self.levels = tuple(shape), levels
        channels, height, width = self.shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU()
        )
        layers = [
            AffineCoupling(
                GlowNet(channels + hidden, 2 * channels, hidden),
                checkerboard(height, width, flip=i % 2 == 1),
                scale="tanh",
                channels=channels,
            )
            for i in range(couplings)
        ]
        self.noise = StandardLogistic(math.prod(self.shape))
        self.flow = Composition(*layers, Inverse(Logit(1, alpha=0.0)))

    def forward(self, x, generator=None):
        """x (N, C, H, W) whole numbers as floats -> v (N, C, H, W), log q (N,)."""
        e = self.noise.sample(len(x), generator=generator)
        context = self.features(x * (2 / (self.levels - 1)) - 1)
        u, log_det = self.flow(e.reshape(*x.shape), context)
        return x + u, self.noise.log_prob(e) - log_det


class Logit(Bijection):
    """v in (0, levels) -> logit(alpha + (1 - 2 alpha) v / levels) (Dinh et al. 2017, sec. 4.1).

    alpha keeps the ends of the range away from infinity. log|det| counts the division by `levels` too, so that a
    density of z, brought back, is one of v in units of a level: there is no constant to remember.
    """

    def __init__(self, levels=256, alpha=0.05):
        expect(0 <= alpha < 0.5, "Logit: alpha is from 0 to below 0.5", alpha, error=ArgumentError)
        self.levels, self.alpha = levels, alpha
        self.log_slope = math.log((1 - 2 * alpha) / levels)

    def forward(self, x, context=None):
        share = self.alpha + (1 - 2 * self.alpha) / self.levels * x
        a, b = log(share), log(1 - share)
        return a - b, total(self.log_slope - a - b)

    def inverse(self, z, context=None):
        v = (sigmoid(z) - self.alpha) * (self.levels / (1 - 2 * self.alpha))
        return v, total(F.logsigmoid(z) + F.logsigmoid(-z) - self.log_slope)
