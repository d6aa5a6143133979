"""Keys and values of new symbols, written to their places in a cache: kv_cache.cu."""

import numpy as np

from .compile import FLOATS, Source, cast, contiguous, over
from .gemm import memory

TYPES = FLOATS
KERNELS = Source("kv_cache.cu")
WARPS = 8


def cache_write(keys, values, k, v, places):
    """keys[n, :, places[n, t]] = k[n, :, t], and so the values; negative places are left out. As kernels/cpu has it.

    keys (N, G, S, D) and values (N, G, S, E) are contiguous; k (N, G, T, D) and v (N, G, T, E); places (N, T) below S.
    """
    k, v = rows(k), rows(v)
    (N, G, T, D), places = k.shape, contiguous(cast(places, np.int64))
    steps = [stride // x.dtype.itemsize for x in (k, v) for stride in x.strides[:3]]
    arrays = keys, values, memory(k, 0), memory(v, 0), places
    sizes = N, G, T, keys.shape[2], D, v.shape[3]
    KERNELS.run("write_symbols", (k.dtype,), over(N * G * T, WARPS), 32 * WARPS, *arrays, *sizes, *steps)


def rows(x):
    """x, copied if its rows are not dense or lie backward."""
    dense = x.strides[-1] == x.dtype.itemsize and min(x.strides) >= 0 and x.size
    return x if dense else contiguous(x)
