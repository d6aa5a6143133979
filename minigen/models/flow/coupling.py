"""Coupling layers: half of x stays as it is, and says how the other half moves.

    z_a = x_a
    z_b = x_b + t(x_a)                          additive (Dinh, Krueger & Bengio 2014, arXiv:1410.8516, eq. 9)
    z_b = x_b * exp(s(x_a)) + t(x_a)            affine   (Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803, eq. 4-5)

Whoever has z has x_a, so he can compute s and t and undo the move: s and t are never inverted, and may be any network.
The Jacobian is triangular, with exp(s) on its diagonal, so log|det| is the sum of s. Nothing else is needed.

Which half is which: two halves of the channels (`mask=None`), or a mask of ones (that stay) and zeros (that move),
such as the checkerboard.

    AdditiveCoupling, AffineCoupling    the two layers
    checkerboard, alternating, channel_halves    masks
"""

import numpy as np

from ... import nn
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import exp, tanh
from ...ops.joining import cat
from ...tensor import Tensor
from .bijection import Bijection, halves, no_change, total

SCALES = ("exp", "tanh", "sigmoid")


class Coupling(Bijection):
    """What both kinds share: `network` is given the part that stays (and the context, joined to it in dimension 1).

    mask    None: the first half of dimension 1 stays, or the second if `swap`
            an array of 0 and 1 that broadcasts over one sample's shape: where it is 1, x stays
    """

    def __init__(self, network, mask=None, swap=False):
        self.network, self.swap = network, swap
        self.register_buffer("mask", None if mask is None else Tensor(np.asarray(mask, np.float32)))

    def _cut(self, x):
        """(what stays, what may move): halves; or x under the mask, and all of x."""
        if self.mask is None:
            a, b = halves(x, type(self).__name__)
            return (b, a) if self.swap else (a, b)
        return x * self.mask, x

    def _join(self, a, b):
        if self.mask is not None:
            return b
        return cat([b, a] if self.swap else [a, b], 1)

    def _moving(self, move):
        """A move with nothing of it where x stays."""
        return move if self.mask is None else move * (1 - self.mask)

    def _network(self, a, context, size):
        out = self.network(a if context is None else cat([a, context], 1))
        rule = f"{type(self).__name__}: from this part of x the network must make {size} times as many as move"
        expect(out.shape[1] == size * a.shape[1], rule, a, out, error=ShapeError)
        return out


class AdditiveCoupling(Coupling):
    """z_b = x_b + network(x_a): it keeps volumes, log|det| is 0. The network maps as many channels to as many."""

    def forward(self, x, context=None):
        a, b = self._cut(x)
        return self._join(a, b + self._moving(self._network(a, context, 1))), no_change(x)

    def inverse(self, z, context=None):
        a, b = self._cut(z)
        return self._join(a, b - self._moving(self._network(a, context, 1))), no_change(z)


class AffineCoupling(Coupling):
    """z_b = x_b * exp(s) + t. The network gives raw s, then t: twice as many channels as it is given of x.

    scale    what s is of the raw s:
             "exp"        s = raw, as in the formula
             "tanh"       s = rescale * tanh(raw), `rescale` learned for each of `channels` (RealNVP, sec. 4.1)
             "sigmoid"    exp(s) = sigmoid(raw + 2), as in Glow's published code: never above 1, and near it at first
    """

    def __init__(self, network, mask=None, swap=False, scale="exp", channels=None):
        expect(scale in SCALES, f"AffineCoupling: scale is one of {SCALES}", scale, error=ArgumentError)
        super().__init__(network, mask, swap)
        self.scale = scale
        if scale == "tanh":
            hint = "give channels=, the number that the network is given of x"
            expect(channels, 'AffineCoupling: scale="tanh" learns one factor a channel', error=ArgumentError, hint=hint)
            self.rescale = nn.Parameter(creation.ones(channels))

    def parameters_of(self, a, context=None):
        """(s, t) from what stays."""
        raw, t = self._network(a, context, 2).chunk(2, 1)
        if self.scale == "tanh":
            raw = tanh(raw) * self.rescale.reshape(-1, *(1,) * (raw.ndim - 2))
        elif self.scale == "sigmoid":
            raw = F.logsigmoid(raw + 2.0)
        return self._moving(raw), self._moving(t)

    def forward(self, x, context=None):
        a, b = self._cut(x)
        s, t = self.parameters_of(a, context)
        return self._join(a, b * exp(s) + t), total(s)

    def inverse(self, z, context=None):
        a, b = self._cut(z)
        s, t = self.parameters_of(a, context)
        return self._join(a, (b - t) * exp(-s)), -total(s)


def checkerboard(height, width, flip=False):
    """A mask (1, height, width) with ones where row + column is even; odd if `flip`."""
    row, column = np.indices((height, width))
    return ((row + column + flip) % 2 == 0)[None].astype(np.float32)


def alternating(dim, flip=False):
    """A mask (dim,) with ones at 0, 2, 4, ...; at 1, 3, 5, ... if `flip`."""
    return ((np.arange(dim) + flip) % 2 == 0).astype(np.float32)


def channel_halves(channels, flip=False):
    """A mask (channels, 1, 1) with ones in the first half; in the second if `flip`."""
    return ((np.arange(channels) < channels // 2) != flip).astype(np.float32)[:, None, None]
