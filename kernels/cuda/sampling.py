"""The next symbol of a text, from logits on the GPU, with nothing read by the host: sampling.cu.

    draw(logits, temperature, top_k, top_p, min_p, seed, stream, first)     as minigen/sampling/drawing.py defines it
    largest(logits)                                                         the likeliest symbol
    repetition_penalty(logits, ids, penalty)
    read_symbols(text, place)  write_symbols(text, place, chosen)           around them, in a text (N, T) in memory

logits (N, V). `first`, the first block of the Philox stream, is a number, or in a captured step a pair: so many blocks
after the number in a uint64 array; so each replay draws anew. See random.py.
"""

import numpy as np

from .compile import FLOATS, Source, cast, contiguous, library, over
from .random import place

TYPES = FLOATS
KERNELS = Source("sampling.cu")
MOST = 2**23  # symbols: their probabilities are added in units of 2**-40, in 64 bits
BLOCK = 256
FLOAT32 = np.dtype(np.float32)


def draw(logits, temperature, top_k, top_p, min_p, seed, stream, first):
    """A symbol of each row: (N,) int64. -1 where the logits are no distribution: NaN, +inf, or -inf throughout.

    top_k, top_p and min_p may be None. Row i takes the words 2 i and 2 i + 1 of the stream. Raises ValueError.
    """
    rest = -1.0 if top_p is None else float(1 - top_p)
    cuts = int(top_k or 0), rest, float(min_p or 0)
    return each_row("draw", logits, float(temperature), *cuts, seed, stream, *place(first))


def largest(logits):
    """Where the largest logit of each row stands, the first of several: (N,) int64."""
    return each_row("largest", logits)


def each_row(name, logits, *numbers):
    (rows, width), x = logits.shape, contiguous(logits)
    if not 0 < width <= MOST:
        raise ValueError(f"{name}: from 1 to {MOST} symbols, not {width}")
    ids = library(x).empty(rows, np.int64)
    block = min(32 * over(width, 32 * (16 // x.dtype.itemsize)), 1024)
    KERNELS.run(name, (x.dtype,), rows, block, x, ids, width, *numbers)
    return ids


def read_symbols(text, place):
    """The symbols of text (N, T), int64 and contiguous, at place (1,): (N, 1); 0 for -1, which is none."""
    (rows, width), ids = text.shape, library(text).empty((len(text), 1), np.int64)
    KERNELS.run("read_symbols", (FLOAT32,), over(rows, BLOCK), BLOCK, text, place, ids, rows, width)
    return ids


def write_symbols(text, place, chosen):
    """place += 1, and the symbols chosen (N,) stand there in text, but where there was one; in place."""
    KERNELS.run("write_symbols", (FLOAT32,), 1, BLOCK, text, place, chosen, *text.shape)


def repetition_penalty(logits, ids, penalty):
    """Logits (N, V) with those of ids (N, T) made smaller, as minigen/sampling/logits.py defines it."""
    x, ids = contiguous(logits), contiguous(cast(ids, np.int64))
    (rows, width), length = x.shape, ids.shape[1]
    out = x.copy()
    grid = over(length, BLOCK), rows
    KERNELS.run("penalize", (x.dtype,), grid, BLOCK, x, ids, out, length, width, float(penalty))
    return out
