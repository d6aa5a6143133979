"""What conv.cuh is told of a convolution, and which of its kernels suit the arrays."""

import math

import numpy as np

from . import compile
from .layout import three


def geometry(x, y, channels, outputs, kernel, window, transposed=False):
    """A convolution from x (N, D, H, W, C) to y (N, D, H, W, O), as numbers: struct Geometry of conv.cuh.

    channels, outputs    of one group
    transposed           x is what the window's convolution makes of y's shape

    Raises ValueError where places are too many for 32 bits.
    """
    stride, padding, dilation, groups = window
    if max(math.prod(x.shape[:4]), math.prod(y.shape[:4])) >= 2**31:
        raise ValueError(
            f"convolution of {x.shape[0]} samples of {x.shape[1:4]} places to {y.shape[1:4]}: the GPU's kernels count "
            "up to 2**31 places in all\n  split the batch"
        )
    kernel, stride, padding, dilation = three(kernel, 1), three(stride, 1), three(padding, 0), three(dilation, 1)
    lines = zip(x.shape[1:4], y.shape[1:4], kernel, stride, padding, dilation)
    numbers = len(x), groups, channels, outputs, int(transposed), *(n for line in lines for n in line)
    return tuple(map(int, numbers))


def is_plain(size, to_size, kernel, window):
    """Whether each place sees itself alone, through one tap: a product of matrices."""
    stride, padding, _, groups = window
    once = math.prod(kernel) == max(stride) == groups == 1
    return once and not any(padding) and tuple(size) == tuple(to_size)


def by_packs(x, *channels):
    """Whether rows of so many channels, of each group, are whole packs of 16 bytes."""
    return not any(n * x.itemsize % 16 for n in channels)


def aligned(x):
    """x itself if it begins at a multiple of 16 bytes, as packs do, else a copy that does."""
    if compile.machine.address(x) % 16 == 0:
        return x
    room = compile.library(x).empty(x.nbytes + 16, np.uint8)  # NumPy promises less for small arrays than CuPy
    first = -compile.machine.address(room) % 16
    copy = room[first : first + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy
