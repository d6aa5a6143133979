"""Memory orders: channels first, (N, C, ...), and channels last, (N, ..., C), of the same logical (N, C, ...) array.

An array seen in the order of its memory is (outer, places, inner): what is done along the places is done `inner`
numbers at a time. One and two spatial dimensions are three with sizes of 1.
"""

import numpy as np
from numba import prange

from ..strides import outside, three
from .compile import kernel


@kernel
def turn(x, y):
    """y[n, p, c] = x[n, c, p], in squares of 16 x 16 that pass through the first cache."""
    N, C, P = x.shape
    columns = (P + 15) // 16
    source, target = x.reshape(x.size), y.reshape(y.size)
    for task in prange(N * columns):
        n, first = task // columns, task % columns * 16
        last = min(P, first + 16)
        square = np.empty((16, 16), np.float32)
        for begin in range(0, C, 16):
            end = min(C, begin + 16)
            for c in range(begin, end):
                at = (n * C + c) * P
                row = source[at + first : at + last]
                to = square[c - begin]
                for i in range(last - first):
                    to[i] = row[i]
            for i in range(last - first):
                at = (n * P + first + i) * C
                to = target[at + begin : at + end]
                for c in range(end - begin):
                    to[c] = square[c, i]


def turned(x):
    """(N, C, P) -> (N, P, C), contiguous."""
    if x.shape[1] == 1 or x.shape[2] == 1:
        return x.reshape(x.shape[0], x.shape[2], x.shape[1])
    y = np.empty((x.shape[0], x.shape[2], x.shape[1]), np.float32)
    (turn if x.size > 16384 else turn.serial)(x, y)
    return y


def inside(x):
    """(N, C, ...) with one to three spatial dimensions -> (N, D, H, W, C), contiguous; a view where x allows it."""
    N, C, *size = x.shape
    last = x.transpose(0, *range(2, x.ndim), 1)
    if not last.flags.c_contiguous:
        whole = x.flags.c_contiguous and x.dtype == np.float32
        last = turned(x.reshape(N, C, -1)) if whole else np.ascontiguousarray(last)
    return last.reshape(N, *(1,) * (3 - len(size)), *size, C)


def channels_first(x):
    """(N, C, ...) whose channels lie last in memory -> the same, contiguous."""
    return turned(x.transpose(0, *range(2, x.ndim), 1).reshape(len(x), -1, x.shape[1])).reshape(x.shape)


def are_last(x):
    """Whether x (N, C, ...) is contiguous with its channels last."""
    return x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous


def planes(x):
    """(N, C, ...) -> ((outer, D, H, W, inner), whether channels are last), contiguous.

    A view of channels last, and of channels first where they are few; many channels are worth turning to the end,
    where arithmetic is done on 16 of them at once.
    """
    if x.flags.c_contiguous and x.shape[1] < 4:
        return x.reshape(x.shape[0] * x.shape[1], *three(x.shape[2:], 1), 1), False
    return inside(x), True


def from_planes(y, like, channels_last):
    """(outer, D, H, W, inner) -> (N, C, ...), a view, with the channels and the number of dimensions of `like`."""
    if channels_last:
        return outside(y, like.ndim - 2)
    return y.reshape(*like.shape[:2], *y.shape[6 - like.ndim : 4])


def in_memory_order(x):
    """(x with its dimensions in the order of memory, contiguous; that order). A copy only if x is no whole block."""
    usual = tuple(range(x.ndim))
    if x.flags.c_contiguous:
        return x, usual
    order = tuple(sorted(usual, key=lambda d: (-x.strides[d], d)))
    block = x.transpose(order)
    return (block, order) if block.flags.c_contiguous else (np.ascontiguousarray(x), usual)
