"""Combining numbers into places that an index may name more than once: y[index] += g, in place, for each of them.

NumPy has `ufunc.at` for that. CuPy has it for `add`, `maximum` and `minimum`, each for a few types: others are combined
in a wider type here, and 16-bit floats in float32. It has none for `multiply`.
"""

import numpy as np

from ..device import FLOATS, xp
from ..tensor import float32

OF_CUPY = ("float32", "float64", "int32", "int64", "uint32", "uint64")


def combine_at(ufunc, y, index, g):
    """y[index] = ufunc(y[index], g) in place, as often as a place is named; ufunc: "add", "multiply", "maximum", ..."""
    lib = xp(y)
    if lib is np:
        getattr(np, ufunc).at(y, index, g)
    elif ufunc == "multiply":
        _multiply_sorted(lib, y, index, g)
    elif y.dtype.name in OF_CUPY:
        getattr(lib, ufunc).at(y, index, g)
    else:
        wide = y.astype(float32 if y.dtype.kind in FLOATS else np.int64)
        getattr(lib, ufunc).at(wide, index, g)
        y[...] = wide


def _multiply_sorted(lib, y, index, g):
    """The factors, sorted by place: a place's product is a run's, which log2(n) steps of doubled reach give."""
    places = lib.arange(y.size).reshape(y.shape)[index]
    factors = lib.broadcast_to(g, places.shape).reshape(-1)
    places = places.reshape(-1)
    order = lib.argsort(places)
    places, product, reach = places[order], factors[order], 1
    while reach < places.size:  # product[i]: of the last `reach` factors of its place up to the i-th
        one_place = places[reach:] == places[:-reach]
        product[reach:] = lib.where(one_place, product[reach:] * product[:-reach], product[reach:])
        reach *= 2
    last = lib.searchsorted(places, places, side="right") - 1
    flat = y.reshape(-1)
    flat[places] = flat[places] * product[last]
    y[...] = flat.reshape(y.shape)
