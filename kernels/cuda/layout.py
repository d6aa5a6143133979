"""Memory orders: channels first, (N, C, ...), and channels last, (N, ..., C), of the same logical array: layout.cu.

One and two spatial dimensions are three with sizes of 1.
"""

from ..strides import outside, three  # noqa: F401
from .compile import FLOATS, Source, contiguous, library, over
from .reduce import add_parts

TYPES = FLOATS
KERNELS = Source("layout.cu")
SIDE = 32  # as in layout.cu
BLOCK = 256


def turned(x, into=None):
    """(N, C, P), contiguous -> (N, P, C), contiguous: a view where there is nothing to turn.

    into    an array of as many numbers, of x's type and contiguous, to write it to and return
    """
    N, C, P = x.shape
    if C == 1 or P == 1:
        if into is None:
            return x.reshape(N, P, C)
        into[...] = x.reshape(into.shape)
        return into
    y = library(x).empty((N, P, C), x.dtype) if into is None else into
    KERNELS.run("turn", (x.dtype,), (N * over(P, SIDE), over(C, SIDE)), BLOCK, x, y, C, P)
    return y


def turned_sums(x, dtype, into=None):
    """(parts, N, C, P), float32 and contiguous -> (N, P, C) of this type: the sum over the parts, turned.

    into    an array of as many numbers, contiguous, of any type in FLOATS, to write it to and return
    """
    parts, N, C, P = x.shape
    if C == 1 or P == 1:
        whole = add_parts(x.reshape(1, parts, -1), dtype, None if into is None else into.reshape(1, -1))
        return whole.reshape(N, P, C) if into is None else into
    y = library(x).empty((N, P, C), dtype) if into is None else into
    KERNELS.run("turn_sums", (y.dtype,), (N * over(P, SIDE), over(C, SIDE)), BLOCK, x, y, parts, N, C, P)
    return y


def inside(x):
    """(N, C, ...) with one to three spatial dimensions -> (N, D, H, W, C), contiguous; a view where x allows it."""
    N, C, *size = x.shape
    last = x.transpose(0, *range(2, x.ndim), 1)
    if not last.flags.c_contiguous:
        last = turned(x.reshape(N, C, -1)) if x.flags.c_contiguous and x.size else contiguous(last)
    return last.reshape(N, *three(size, 1), C)
