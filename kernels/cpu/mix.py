"""Weighted sums along one dimension: what `interpolate` and uneven means are made of.

    mix(x, dim, places, weights)     y[..., i, ...] = sum over k of weights[k, i] x[..., places[k, i], ...]

x may lie in any memory order, and y lies in the same, except that four channels or more are turned to the end. Seen
in that order x is (outer, old, inner), and each sum is made `inner` numbers at a time; fewer than 8, one by one.

Floor: write y, read x once: 4 bytes an element each.
"""

import math
from functools import lru_cache

import numpy as np
from numba import prange

from .compile import kernel
from .layout import in_memory_order, inside, outside

F = np.float32


@kernel
def weighted_sums(x, places, weights, y):
    outer, new, inner = y.shape
    K = places.shape[0]
    for row in prange(outer * new):
        n, i = row // new, row % new
        to, seen, weight = y[n, i], x[n, places[0, i]], weights[0, i]
        for j in range(inner):
            to[j] = weight * seen[j]
        for k in range(1, K):
            seen, weight = x[n, places[k, i]], weights[k, i]
            if weight != 0:
                for j in range(inner):
                    to[j] += weight * seen[j]


@kernel
def narrow_sums(x, places, weights, y):
    """The same where `inner` is small."""
    outer, new, inner = y.shape
    K = places.shape[0]
    for n in prange(outer):
        for i in range(new):
            for j in range(inner):
                total = F(0)
                for k in range(K):
                    total += weights[k, i] * x[n, places[k, i], j]
                y[n, i, j] = total


@lru_cache(256)
def inverse(order):
    """The permutation that undoes another."""
    return tuple([order.index(d) for d in range(len(order))])


def mix(x, dim, places, weights):
    """See the head of this file. x is not empty; places (K, new) int64, weights (K, new)."""
    if x.flags.c_contiguous and dim > 1 and x.shape[1] >= 4:
        x = outside(inside(x), x.ndim - 2)  # turning the channels to the end costs less than sums one by one
    block, order = in_memory_order(x)
    at = order.index(dim)
    shape = block.shape
    outer, inner = math.prod(shape[:at]), math.prod(shape[at + 1 :])
    y = np.empty((*shape[:at], places.shape[1], *shape[at + 1 :]), F)
    run = narrow_sums if inner < 8 else weighted_sums
    if y.size < 16384:
        run = run.serial
    run(block.reshape(outer, -1, inner), places, weights.astype(F, copy=False), y.reshape(outer, -1, inner))
    return y.transpose(inverse(order))
