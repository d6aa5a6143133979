"""Many scales in one flow (Dinh et al. 2017, sec. 3.6): space becomes channels, and half of them leave early.

    Squeeze      (C, H, W) -> (4C, H/2, W/2): each 2x2 block becomes four channels
    FactorOut    half of the channels go to the Gaussian at once, the other half through the layers that follow

The half that leaves is Gaussian *given* the half that stays: z_out = (x_out - mean(x_stay)) / std(x_stay), with mean
and std learned (Kingma & Dhariwal 2018's learned prior), or 0 and 1 (RealNVP). Written as a map to N(0, I) it is one
more affine coupling, so the whole flow is one bijection between pictures and flat vectors (N, D) of unit noise.
"""

import math

from ...errors import ArgumentError, expect
from ...nn import functional as F
from ...ops.elementary import exp
from ...ops.joining import cat
from .bijection import Bijection, halves, no_change, total


class Squeeze(Bijection):
    """Each 2x2 block of pixels becomes four channels (Dinh et al. 2017, fig. 3)."""

    def forward(self, x, context=None):
        return F.pixel_unshuffle(x, 2), no_change(x)

    def inverse(self, z, context=None):
        return F.pixel_shuffle(z, 2), no_change(z)


class FactorOut(Bijection):
    """x (N, C, H, W) -> z (N, C H W): first what `deeper` makes of one half, then the other half in units of its prior.

    deeper    the bijection for the half that stays; its output is flattened
    shape     of what `deeper` gives for one sample
    prior     a network that maps the half that stays to (mean, log std) of the other, or None for N(0, 1)
    """

    def __init__(self, deeper, shape, prior=None):
        self.deeper, self.shape, self.prior = deeper, tuple(shape), prior

    def forward(self, x, context=None):
        stays, leaves = halves(x, "FactorOut")
        mean, log_std = self._prior(stays)
        out = leaves if mean is None else (leaves - mean) * exp(-log_std)
        deep, log_det = self.deeper(stays, context)
        log_det = log_det if mean is None else log_det - total(log_std)
        return cat([deep.flatten(1), out.flatten(1)], 1), log_det

    def inverse(self, z, context=None):
        size = math.prod(self.shape)
        stays, log_det = self.deeper.inverse(z[:, :size].reshape(len(z), *self.shape), context)
        mean, log_std = self._prior(stays)
        out = z[:, size:].reshape(*stays.shape)
        if mean is None:
            return cat([stays, out], 1), log_det
        return cat([stays, mean + out * exp(log_std)], 1), log_det + total(log_std)

    def _prior(self, stays):
        return (None, None) if self.prior is None else self.prior(stays).chunk(2, 1)


def check_scales(name, shape, squeezes):
    """A picture's height and width must be halved `squeezes` times."""
    fits = len(shape) == 3 and all(side % 2**squeezes == 0 and side > 0 for side in shape[1:])
    rule = f"{name}: shape (C, H, W) with height and width multiples of {2**squeezes}, since each scale halves them"
    expect(fits, rule, shape, error=ArgumentError, hint="take fewer scales, or pad the pictures")
