"""Weighted sums along one dimension, by a short list for each new element. Resampling and pooling are made of it.

    y[..., i, ...] = sum over k of  weights[k, i] x[..., places[k, i], ...]

It is a linear map, and its transpose, which its gradient needs, is a sum of the same kind with another list.
"""

import functools

import numpy as np

from .. import kernels
from ..autograd import op
from ..device import home, xp


class Mix:
    """The lists: places and weights, (K, new) arrays, and the old size. Shorter lists get weights of 0."""

    def __init__(self, places, weights, old):
        self.places = np.ascontiguousarray(places, dtype=np.int64)
        self.weights = np.ascontiguousarray(weights, dtype=np.float64)
        self.old, self.new = old, self.places.shape[1]
        self._beside = {}

    def beside(self, x):
        """(places, weights) on the device of x, and the weights in a type that x may be multiplied by.

        They are kept: a step that is captured in a CUDA graph must not carry them to the GPU again.
        """
        lib, place = home(x)
        double = x.dtype == np.float64
        key = lib, place, double
        if key not in self._beside:
            weights = self.weights if double else self.weights.astype(np.float32)
            self._beside[key] = lib.asarray(self.places), lib.asarray(weights)
        return self._beside[key]

    @functools.cached_property
    def transposed(self):
        """The lists of the transposed map."""
        target, column = np.nonzero(self.weights.T)  # sorted by the new element
        source, weight = self.places[column, target], self.weights[column, target]
        order = np.argsort(source, kind="stable")
        source, target, weight = source[order], target[order], weight[order]
        rank = np.arange(len(source)) - np.searchsorted(source, source)  # the how many-th of its own source
        longest = int(rank.max(initial=0)) + 1
        places, weights = np.zeros((longest, self.old), np.int64), np.zeros((longest, self.old))
        places[rank, source], weights[rank, source] = target, weight
        back = Mix(places, weights, self.new)
        back.__dict__["transposed"] = self
        return back


@op
def mix(x, dim, lists):
    """x with dimension `dim` replaced by the weighted sums that `lists`, a Mix, describes."""
    family = kernels.find(x, "mix")
    if family is not None and x.size and lists.new:
        return family.mix(x, dim, *lists.beside(x))
    before = (slice(None),) * dim
    y = xp(x).zeros_like(x, shape=(*x.shape[:dim], lists.new, *x.shape[dim + 1 :]))
    for places, weights in zip(*lists.beside(x)):
        y += x[(*before, places)] * weights.astype(x.dtype, copy=False).reshape(-1, *[1] * (x.ndim - dim - 1))
    return y


mix.gradient(x=lambda g, dim, lists: mix(g, dim, lists.transposed))
