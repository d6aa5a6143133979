"""What every element-wise kernel shares: which arrays it can walk as they lie in memory, and how it is launched.

An element-wise kernel keeps the memory order of its input (channels-last stays channels-last), so it only needs the
elements one after another as they lie in memory. Each thread takes one pack of 16 bytes.

Floor: each array is read or written once.
"""

from ..strides import is_dense
from .compile import library, over

BLOCK = 256


def dense(x):
    """x itself if its elements lie in memory without gaps, in any order of dimensions; else a copy that does."""
    return x if x.flags.c_contiguous or is_dense(x) else library(x).array(x, order="K")


def like(x, model):
    """x (of the same shape) in the type and memory order of `model`, which is dense: itself if it has them."""
    if x.strides == model.strides and x.dtype == model.dtype:
        return x
    copy = library(model).empty_like(model)
    copy[...] = x
    return copy


def grid(n, dtype):
    """(blocks, threads) for n numbers of this type in memory, a pack a thread."""
    return over(n, BLOCK * (16 // dtype.itemsize)), BLOCK
