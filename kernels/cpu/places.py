"""What the places of a convolution see, as offsets into memory: the geometry that its kernels share.

A place q of a result (three indices, of which there are `count`) sees x (N, D, H, W, C) at

    stride q + start + step t            for every tap t of the kernel (three indices below `taps`)

and 0 outside x. A block of places is some lines of one sample, or a few whole samples. What block b sees of x is

    seen(...)[at[i] + lag]               for its i-th place, and the lag of a tap and a channel

`at` and the lags are the same for every block. Where nothing outside x is seen, seen() is x itself from some number
on, and nothing is copied. Otherwise it is the part of x that the block can see, copied with zeros around it: kernel
height - 1 more lines than the block has, where columns (im2col) would copy kernel height x width times as many numbers.

One and two dimensions are three with sizes of 1.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .compile import inline_sums

F = np.float32
TASKS = 16  # pieces of work to aim at
LEAST, MOST = 64, 256  # places in a block
NUMBERS = 1 << 16  # that a block may copy: a quarter of a megabyte, to stay in the L2 cache beside the weights


class Places(NamedTuple):
    """The geometry of one convolution, as kernels take it."""

    count: tuple  # places of the result
    stride: tuple
    start: tuple
    block: tuple  # (samples, lines) of a block
    blocks: int
    box: tuple  # the part of x that a line's block can see, (D, H, W); of zeros where x is read as it lies
    span: int  # lines that one line of places sees
    at: np.ndarray  # where the places of a block see their first tap
    lags: np.ndarray  # how much further on tap t and channel c lie, (T * channels,)
    runs: np.ndarray  # the lags of the runs of `depth` numbers that lie side by side in memory
    depth: int


@lru_cache(256)
def places_of(shape, channels, count, taps, stride, start, step):
    """The Places of a convolution over x of a shape (N, D, H, W, C), in groups of `channels`."""
    N, *size, C = shape
    spans = [(t - 1) * d + 1 for t, d in zip(taps, step)]
    reach = [(n - 1) * j + s for n, j, s in zip(count, stride, spans)]
    within = all([s >= 0 and s + r <= n for s, r, n in zip(start, reach, size)])

    wanted = min(max(N * math.prod(count) // TASKS, LEAST), MOST)
    lines = max(1, min(count[1], wanted // count[2]))
    height = (NUMBERS // (spans[0] * reach[2] * C) - spans[1]) // stride[1] + 1  # lines whose copy stays small
    lines = lines if within else max(1, min(lines, height))
    bands = -(-count[1] // lines)
    lines = -(-count[1] // bands)
    box = (spans[0], (lines - 1) * stride[1] + spans[1], reach[2])
    samples = 1
    if bands == count[0] == 1:
        samples = max(1, min(N, wanted // (count[1] * count[2])))
        samples = samples if within else max(1, min(samples, NUMBERS // (math.prod(box) * C)))
    blocks = -(-N // samples) * count[0] * bands

    D, H, W = size if within else box
    sizes = D * H * W * C, H * W * C, W * C, C  # numbers in a sample, a plane, a line, a place
    at = _sums(samples, sizes[0], lines, stride[1] * sizes[2], count[2], stride[2] * C)
    lags = _sums(taps[0], step[0] * sizes[1], taps[1], step[1] * sizes[2], taps[2], step[2] * C)
    first = np.flatnonzero(
        np.diff(lags, prepend=-1 - channels) != channels
    )  # a tap that does not lie beside the one before
    even = len(set(np.diff(first, append=len(lags)).tolist())) == 1
    runs, depth = (lags[first], channels * len(lags) // len(first)) if even else (lags, channels)
    lags = (lags[:, None] + np.arange(channels)).reshape(-1)
    box = (0, 0, 0) if within else box
    return Places(count, stride, start, (samples, lines), blocks, box, spans[1], at, lags, runs, depth)


def _sums(*pairs):
    """All sums of multiples: n, step, m, step, ... -> the flattened array of i step + j step + ..."""
    total = np.zeros(1, np.int64)
    for n, step in zip(pairs[::2], pairs[1::2]):
        total = (total[:, None] + step * np.arange(n)).reshape(-1)
    return total


@lru_cache(1024)
def steps_of(shape, block, width, jump):
    """Where a block's lines of `width` places are written, every jump-th of a result of a shape (N, D, H, W, O)."""
    _, D, H, W, O = shape
    return _sums(block[0], D * H * W * O, block[1], jump[1] * W * O, width, jump[2] * O)


def upright(shape, to_shape, count, taps, stride, start, *others):
    """The same geometry, the shapes of what is read and of what is written included, so that it can be cut anywhere.

    A line is never cut. So one dimension stands upright, as lines of one place; and where place q sees x[q] alone, all
    samples are one column.
    """
    N, *size, C = shape
    once = (1, 1, 1)
    if taps == stride == once and start == (0, 0, 0) and tuple(size) == tuple(count) == tuple(to_shape[1:4]):
        column = 1, N * math.prod(count), 1
        return (1, *column, C), (1, *column, to_shape[4]), column, taps, stride, start, *others
    if shape[1] == shape[2] == to_shape[1] == to_shape[2] == taps[0] == taps[1] == 1:
        turn = lambda t: (t[0], t[2], t[1]) if len(t) == 3 else (t[0], t[1], t[3], t[2], t[4])
        return tuple(turn(t) for t in (shape, to_shape, count, taps, stride, start, *others))
    return shape, to_shape, count, taps, stride, start, *others


@inline_sums
def first_of(b, N, count, block):
    """(n, q_d, q_h, samples, lines): the first line of places of block b, and how many there are of them."""
    bands = (count[1] + block[1] - 1) // block[1]
    n, q_d, q_h = b // (count[0] * bands) * block[0], b // bands % count[0], b % bands * block[1]
    return n, q_d, q_h, min(block[0], N - n), min(block[1], count[1] - q_h)


@inline_sums
def seen(x, b, count, stride, start, block, box, span):
    """What block b sees of x: x itself, from its first number on, or a copy with zeros around it."""
    N, D, H, W, C = x.shape
    n, q_d, q_h, samples, lines = first_of(b, N, count, block)
    d, h, w = q_d * stride[0] + start[0], q_h * stride[1] + start[1], start[2]
    if box[0] == 0:
        return x.reshape(x.size)[(((n * D + d) * H + h) * W + w) * C :]
    copy = np.empty((samples * box[0] * box[1], box[2] * C), F)
    left, right = min(max(0, -w), box[2]) * C, max(0, min(box[2], W - w)) * C
    left = min(left, right)
    for i in range(samples * box[0]):
        for j in range((lines - 1) * stride[1] + span):
            to = copy[i * box[1] + j]
            z, y = d + i % box[0], h + j
            if z < 0 or z >= D or y < 0 or y >= H:
                to[:] = F(0)
                continue
            line = x[n + i // box[0], z, y].reshape(W * C)[w * C + left : w * C + right]
            to[:left] = F(0)
            inside = to[left:right]
            for k in range(right - left):
                inside[k] = line[k]
            to[right:] = F(0)
    return copy.reshape(copy.size)
