"""Arrays (N, C, ...) in either memory order, and how kernels over their channels are launched: see channels.cuh."""

import math

import numpy as np

from .compile import cast, contiguous, library, over
from .elementwise import grid
from .layer_norm import parameter_type, vector

THREADS = 256  # of a block
PARTS = 256  # of a pair, at most
BLOCKS = 1024  # enough for any card: more parts are not made
LEAST = 8  # packs that a thread takes, at least, if a pair is cut


def power(n, most):
    """The smallest power of two from n on, at most `most`."""
    return min(1 << max(n - 1, 0).bit_length(), most)


def arranged(x, last=None):
    """(x itself, or a copy, that lies as (N, C, ...) or as (N, ..., C) without gaps; whether channels lie last).

    last: which of the two it shall be; None if either will do.
    """
    behind = (0, *range(2, x.ndim), 1)
    if last is None:
        last = math.prod(x.shape[2:]) == 1 or (not x.flags.c_contiguous and x.strides[1] <= min(x.strides))
    if not last:
        return contiguous(x), False
    return contiguous(x.transpose(behind)).transpose(0, x.ndim - 1, *range(1, x.ndim - 1)), True


def empty(lib, shape, last, dtype):
    """A new array of the shape (N, C, ...) in either memory order."""
    if not last:
        return lib.empty(shape, dtype)
    n, c, *size = shape
    return lib.empty((n, *size, c), dtype).transpose(0, len(shape) - 1, *range(1, len(shape) - 1))


class Channels:
    """x (N, C, ...) as the kernels see it.

    x         the array, or a copy, whose memory is (N, C, P) or (N, P, C) without gaps
    last      whether the channels lie last
    kind      the type of the weights: that of `parameter`, or x's where it is None
    together  whether a channel of all samples is one pair, and not a channel of each sample
    """

    def __init__(self, x, parameter=None, together=False):
        self.samples, self.channels = x.shape[:2]
        self.places = x.size // max(self.samples * self.channels, 1)
        x, self.last = arranged(x)
        self.x, self.together, self.pack = x, together, 16 // x.dtype.itemsize
        self.kind = parameter_type(parameter, x)
        self.types = x.dtype, self.kind
        # what the element-wise kernels know: see Places in channels.cuh
        self.inner = 1 if self.last else self.places
        self.coefficients = self.channels if together else self.samples * self.channels
        self.period = x.size if together else x.size // max(self.samples * self.inner, 1)

    def like(self, g):
        """g, of x's shape, in x's type and memory order."""
        return arranged(cast(g, self.x.dtype), self.last)[0]

    def empty(self):
        """An array like x."""
        return empty(library(self.x), self.x.shape, self.last, self.x.dtype)

    def floats(self, rows, width=None):
        """`rows` arrays of float32, one number a coefficient in each if there is no width."""
        return library(self.x).empty((rows, self.coefficients if width is None else width), np.float32)

    def vector(self, parameter):
        """A weight or bias as the kernels take it."""
        return vector(parameter, self.kind)

    @property
    def elementwise(self):
        """The form's suffix, (blocks, threads), and the arguments that end a launch over all numbers of x."""
        if self.last and self.channels % self.pack == 0 and self.x.size:
            columns = self.sums()
            return "_columns", (columns.grid, THREADS), columns.arguments
        sizes = self.x.size, self.inner, self.channels, self.period, self.coefficients
        return "", grid(self.x.size, self.x.dtype), sizes

    def sums(self, wide=1):
        """How sums over pairs are launched. wide: channels, one beside the other in memory, that are one pair."""
        if self.last:
            slices, rows = (1, self.samples * self.places) if self.together else (self.samples, self.places)
            return Columns(slices, rows, self.channels, self.pack)
        if self.together:
            return Lines(self.channels, self.places, self.samples, self.channels * self.places, self.pack)
        width = wide * self.places
        return Lines(self.samples * self.channels // wide, width, 1, width, self.pack)


class Lines:
    """`lines` pairs, each `runs` runs of `width` numbers, `stride` apart."""

    form = "lines"

    def __init__(self, lines, width, runs, stride, pack):
        packs = runs * over(width, pack)
        self.lanes = power(over(packs, 4), THREADS)
        blocks = over(lines, THREADS // self.lanes)
        self.step, self.parts = cut(packs, self.lanes, blocks)
        self.grid, self.pairs = (blocks, self.parts), lines
        self.arguments = lines, width, runs, stride, self.lanes, self.step
        self.geometry = self.parts, width, runs, self.step


class Columns:
    """`slices` times `width` pairs, each a column of `rows` numbers."""

    form = "columns"

    def __init__(self, slices, rows, width, pack):
        self.lanes = power(over(width, pack), 32)
        tiles = over(width, pack * self.lanes)
        self.step, self.parts = cut(rows, THREADS // self.lanes, tiles * slices)
        self.grid, self.pairs = (slices * tiles, self.parts), slices * width
        self.arguments = rows, width, tiles, self.lanes, self.step
        self.geometry = self.parts, 1, rows, self.step


def cut(n, threads, blocks):
    """(step, parts): n packs or rows cut into parts, for `threads` at once and `blocks` beside each other."""
    parts = max(min(n // (threads * LEAST), BLOCKS // max(blocks, 1), PARTS), 1)
    step = max(over(n, parts), 1)
    return step, max(over(n, step), 1)
