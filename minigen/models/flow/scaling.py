"""Layers that scale and shift each channel, and so keep the numbers between the couplings near unit size.

    DiagonalScaling    z = x exp(s), one s for each element: NICE's last layer
    ActNorm            z = (x + b) exp(s), one b and s a channel, set by the first batch: Glow's
    BatchNorm          the batch's own mean and variance: RealNVP's and MAF's

Channels are dimension 1; x is (N, C) or (N, C, H, W).
"""

import math

from ... import nn
from ...autograd import no_grad
from ...errors import ShapeError, expect
from ...ops import creation
from ...ops.elementary import exp, log
from .bijection import Bijection, no_change

SMALLEST = 1e-6  # added to a standard deviation before its logarithm is taken


class DiagonalScaling(Bijection):
    """z = x exp(s) with one s for each element of a sample (Dinh et al. 2014, sec. 3.3)."""

    def __init__(self, *shape):
        self.s = nn.Parameter(creation.zeros(*shape))

    def forward(self, x, context=None):
        return x * exp(self.s), no_change(x) + self.s.sum()

    def inverse(self, z, context=None):
        return z * exp(-self.s), no_change(z) - self.s.sum()


class ActNorm(Bijection):
    """z = (x + b) exp(s), with one b and s for each channel (Kingma & Dhariwal 2018, sec. 3.1).

    The first batch that it sees in training sets both, so that each channel of z has mean 0 and variance 1. From then
    on they are parameters like any other. Before that it is the identity.
    """

    def __init__(self, channels):
        self.b, self.s = nn.Parameter(creation.zeros(channels)), nn.Parameter(creation.zeros(channels))
        self.register_buffer("initialised", creation.zeros(1))
        self._known = False  # spares a look at the buffer, which may lie on a GPU

    def forward(self, x, context=None):
        places = _places(x, len(self.s))
        if self.training and not self._known:
            if not self.initialised.item():
                self.initialise(x)
            self._known = True
        z = (x + per_channel(self.b, x)) * exp(per_channel(self.s, x))
        return z, no_change(x) + places * self.s.sum()

    def inverse(self, z, context=None):
        x = z * exp(-per_channel(self.s, z)) - per_channel(self.b, z)
        return x, no_change(z) - _places(z, len(self.s)) * self.s.sum()

    @no_grad()
    def initialise(self, x):
        """Set b and s from a batch: the data-dependent initialisation."""
        mean, variance = _statistics(x)
        # New arrays: written in place, they would spoil what the layers before have recorded, for an optimiser keeps
        # all parameters in one array.
        self.b.data, self.s.data = (-mean).data, (-log(variance.sqrt() + SMALLEST)).data
        self.initialised.fill_(1.0)


class BatchNorm(Bijection):
    """z = (x - mean) / sqrt(variance + eps) * exp(gamma) + beta, of the batch in training, of all data after it.

    RealNVP (sec. 3.7) has it without gamma and beta, MAF (Papamakarios et al. 2017, sec. 3.5) with them. In `eval` mode
    and in the inverse the running statistics take the batch's place. Training's log|det| takes the batch's statistics
    for constants, as both papers do; in `eval` mode it is exact.
    """

    def __init__(self, channels, affine=True, momentum=0.1, eps=1e-5):
        self.momentum, self.eps, self.affine = momentum, eps, affine
        self.register_buffer("running_mean", creation.zeros(channels))
        self.register_buffer("running_var", creation.ones(channels))
        if affine:
            self.gamma = nn.Parameter(creation.zeros(channels))
            self.beta = nn.Parameter(creation.zeros(channels))

    def forward(self, x, context=None):
        if self.training:
            mean, variance = _statistics(x)
            self._follow(mean.detach(), variance.detach())
        else:
            mean, variance = self.running_mean, self.running_var
        log_scale = self._log_scale(variance)
        z = (x - per_channel(mean, x)) * exp(per_channel(log_scale, x))
        z = z + per_channel(self.beta, x) if self.affine else z
        return z, no_change(x) + _places(x, len(mean)) * log_scale.sum()

    def inverse(self, z, context=None):
        log_scale = self._log_scale(self.running_var)
        x = z - per_channel(self.beta, z) if self.affine else z
        x = x * exp(-per_channel(log_scale, z)) + per_channel(self.running_mean, z)
        return x, no_change(z) - _places(z, len(self.running_mean)) * log_scale.sum()

    def _log_scale(self, variance):
        scale = -0.5 * log(variance + self.eps)
        return scale + self.gamma if self.affine else scale

    @no_grad()
    def _follow(self, mean, variance):
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def per_channel(p, x):
    """(C,) in the shape that goes with x (N, C, ...)."""
    return p if x.ndim == 2 else p.reshape(1, -1, *(1,) * (x.ndim - 2))


def _places(x, channels):
    """How many elements of one sample a channel has."""
    expect(x.ndim >= 2 and x.shape[1] == channels, f"x is (N, {channels}, ...)", x, error=ShapeError)
    return math.prod(x.shape[2:])


def _statistics(x):
    """The mean and the variance of each channel over samples and places, (C,) each."""
    dims = (0, *range(2, x.ndim))
    return x.mean(dims), x.var(dims, unbiased=False)
