"""Weighted sums along one dimension: mix.cu.

    mix(x, dim, places, weights)     y[..., i, ...] = sum over k of weights[k, i] x[..., places[k, i], ...]

x may lie in any memory order, and y lies in the same. places and weights lie beside x on the GPU.
"""

import math

import numpy as np

from .channels import THREADS
from .compile import FLOATS, Source, cast, contiguous, library, over

TYPES = FLOATS
KERNELS = Source("mix.cu")


def mix(x, dim, places, weights):
    """x, which is not empty, with dimension `dim` replaced. places (K, new) int64, weights (K, new) float32."""
    order = tuple(sorted(range(x.ndim), key=lambda d: (-x.strides[d], d)))
    block = contiguous(x.transpose(order))
    at, shape, (longest, new) = order.index(dim), block.shape, places.shape
    outer, inner = math.prod(shape[:at]), math.prod(shape[at + 1 :])
    y = library(x).empty((*shape[:at], new, *shape[at + 1 :]), x.dtype)
    pack = 16 // x.dtype.itemsize
    name, threads = ("mix_packs", over(inner, pack)) if inner >= pack else ("mix_numbers", inner)
    lists = contiguous(cast(places, np.int64)), contiguous(cast(weights, np.float32))
    sizes = outer, shape[at], new, inner, longest
    KERNELS.run(name, (x.dtype,), over(outer * new * threads, THREADS), THREADS, block, *lists, y, *sizes)
    return y.transpose(tuple(map(order.index, range(x.ndim))))
