"""Keys and values of new symbols, written to their places in a cache.

    cache_write(keys, values, k, v, places)     keys[n, :, places[n, t]] = k[n, :, t], and so the values

keys (N, G, S, D) and values (N, G, S, E) are contiguous; k (N, G, T, D) and v (N, G, T, E) may be views of one
projection. places (N, T) int64 below S; a symbol whose place is negative is not stored.

Floor: read k and v, write as much: 8 N G T (D + E) bytes, 0.1 us for one symbol of GPT-2. One call for both, instead of
two assignments with index arrays, 4 us less a layer.
"""

from numba import prange

from .compile import choose, kernel


@kernel(reads=("k", "v", "places"), dense=("keys", "values"))
def write(keys, values, k, v, places):
    N, G, T = k.shape[:3]
    for task in prange(N * G):
        n, g = task // G, task % G
        for t in range(T):
            s = places[n, t]
            if s >= 0:
                row, new = keys[n, g, s], k[n, g, t]
                for d in range(new.size):
                    row[d] = new[d]
                row, new = values[n, g, s], v[n, g, t]
                for d in range(new.size):
                    row[d] = new[d]


def cache_write(keys, values, k, v, places):
    choose(write, k.size + v.size)(keys, values, k, v, places)
