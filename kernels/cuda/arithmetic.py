"""Sums of two arrays, and arrays in another type: arithmetic.cu.

if fits(a, b): add(a, b)        a + b, in the wider of the two types
convert(x, dtype)               x in another of the three types
"""

from ..strides import is_dense
from .compile import FLOATS, Source, library
from .elementwise import dense, grid

TYPES = FLOATS
KERNELS = Source("arithmetic.cu")


def fits(a, b):
    """Whether `add` takes them: of one shape and memory order, without gaps, and no two different types of 16 bits."""
    if a.shape != b.shape or a.dtype.name not in FLOATS or b.dtype.name not in FLOATS:
        return False
    alike = a.flags.c_contiguous and b.flags.c_contiguous
    if not alike and not (a.itemsize == b.itemsize and a.strides == b.strides and is_dense(a)):
        return False
    return a.dtype == b.dtype or a.itemsize != b.itemsize


def add(a, b, into=None):
    """a + b of what fits, in a's memory order. into: an array like the wider of the two, to write it to and return."""
    if a.itemsize < b.itemsize:
        a, b = b, a
    y = library(a).empty_like(a) if into is None else into
    KERNELS.run("add", (a.dtype, b.dtype), *grid(a.size, a.dtype), a, b, y, a.size)
    return y


def convert(x, dtype):
    """x in the type `dtype`, in x's memory order."""
    x = dense(x)
    y = library(x).empty_like(x, dtype=dtype)
    KERNELS.run("convert", (x.dtype, y.dtype), *grid(x.size, x.dtype), x, y, x.size)
    return y
