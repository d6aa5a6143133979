"""What every flow layer has in common: a map x <-> z that can be turned round, and the volume that it changes.

If z = f(x) and z has the density p(z), then x has the density

    p(x) = p(f(x)) |det df/dx|,        log p(x) = log p(z) + log|det df/dx|

so a layer gives its output together with log|det| of its Jacobian, one number for each sample. Layers one after the
other add their logarithms.

    Bijection      forward x -> (z, log_det), inverse z -> (x, log_det); each log_det is that of the map just taken
    Composition    one bijection after the other
    Inverse        a bijection the other way round
    Permutation    elements in another order
    Reshape        the same elements in another shape
"""

import math

import numpy as np

from ... import nn
from ...errors import ArgumentError, ShapeError, expect
from ...ops import creation
from ...ops.indexing import getitem
from ...tensor import Tensor


class Bijection(nn.Module):
    """A map that can be turned round. Subclasses write `forward` and `inverse`.

    Both take (N, ...) and give (N, ...) and log|det| of the Jacobian of the map taken, (N,) in nats. `context` is what
    the map may depend on besides, (N, K) or (N, K, H, W); a layer that has no use for it ignores it.
    """

    def forward(self, x, context=None):
        raise NotImplementedError(f"{type(self).__name__} must say how x becomes z")

    def inverse(self, z, context=None):
        raise NotImplementedError(f"{type(self).__name__} must say how z becomes x")


class Composition(Bijection):
    """The layers in order: forward from the first to the last, inverse from the last to the first."""

    def __init__(self, *layers):
        self.layers = nn.ModuleList(layers)

    def forward(self, x, context=None):
        total = no_change(x)
        for layer in self.layers:
            x, log_det = layer(x, context)
            total = total + log_det
        return x, total

    def inverse(self, z, context=None):
        total = no_change(z)
        for layer in reversed(list(self.layers)):
            z, log_det = layer.inverse(z, context)
            total = total + log_det
        return z, total


class Inverse(Bijection):
    """`bijection` the other way round."""

    def __init__(self, bijection):
        self.bijection = bijection

    def forward(self, x, context=None):
        return self.bijection.inverse(x, context)

    def inverse(self, z, context=None):
        return self.bijection(z, context)


class Permutation(Bijection):
    """Elements of dimension 1 in another order: z[:, i] = x[:, order[i]]."""

    def __init__(self, order):
        order = np.asarray(order, np.int64)
        fits = order.ndim == 1 and (np.sort(order) == np.arange(len(order))).all()
        expect(fits, "Permutation: order holds each of 0 .. D - 1 once", order, error=ArgumentError)
        self.register_buffer("order", Tensor(order))
        self.register_buffer("back", Tensor(np.argsort(order)))

    @classmethod
    def reverse(cls, dim):
        """The last first, as MAF has it between its layers."""
        return cls(np.arange(dim)[::-1])

    @classmethod
    def shuffle(cls, dim, generator=None):
        """A fixed random order."""
        return cls(creation.randperm(dim, generator=generator).numpy())

    def forward(self, x, context=None):
        return getitem(x, (slice(None), self.order)), no_change(x)

    def inverse(self, z, context=None):
        return getitem(z, (slice(None), self.back)), no_change(z)


class Reshape(Bijection):
    """(N, *before) -> (N, *after)."""

    def __init__(self, before, after):
        self.before, self.after = tuple(before), tuple(after)
        fits = math.prod(self.before) == math.prod(self.after)
        expect(fits, "Reshape: both shapes hold the same number of elements", before, after)

    def forward(self, x, context=None):
        return x.reshape(len(x), *self.after), no_change(x)

    def inverse(self, z, context=None):
        return z.reshape(len(z), *self.before), no_change(z)


def no_change(x):
    """The log-determinant of a map that keeps volumes: zeros (N,)."""
    return creation.zeros(len(x), dtype=x.dtype, device=x.device)


def total(x):
    """The sum over all dimensions but the first, (N, ...) -> (N,)."""
    return x.flatten(1).sum(1)


def halves(x, name):
    """The two halves of dimension 1."""
    expect(x.shape[1] % 2 == 0, f"{name}: dimension 1 is cut in half: its size must be even", x, error=ShapeError)
    return x.chunk(2, 1)
