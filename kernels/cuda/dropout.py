"""Dropout by the random words of a Philox stream, in one pass: dropout.cu."""

from .compile import FLOATS, Source, contiguous, library
from .elementwise import grid
from .random import place

TYPES = FLOATS
KERNELS = Source("dropout.cu")


def dropout(x, threshold, scale, seed, stream, first):
    """x * scale where the element's word is at least `threshold`, else 0."""
    a = contiguous(x)
    y = library(a).empty_like(a)
    numbers = int(threshold), float(scale), seed, stream, *place(first)
    KERNELS.run("dropout", (a.dtype,), *grid(a.size, a.dtype), a, y, a.size, *numbers)
    if a is x:
        return y
    out = library(x).empty_like(x)  # keep the memory order of x
    out[...] = y
    return out
