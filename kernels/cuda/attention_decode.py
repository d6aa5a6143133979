"""Attention of few queries over many keys, which are split among blocks: attention_decode.cu."""

import numpy as np

from .compile import FLOATS, cast, contiguous, library, over
from .heads import for_each_size, head_size, strides, unit_rows

TYPES = FLOATS
FILES, LONG_FILES = for_each_size("attention_decode.cu"), for_each_size("attention_decode.cu", "-DLONG")
KERNELS = FILES[64]
SPLIT, THREADS = 64, 128  # keys a block, and its threads
LONG_SPLIT, LONG_THREADS = 512, 512  # those of -DLONG
FEW = 8  # queries, at most, whose keys are split


def few_queries(q, k, v, mask, length, scale, with_logs, new=(None, None)):
    """y and, if asked for, logs, as attention.py has them; of each row the first length[b] keys, or all if None.

    new    (B, G, 1, D) and (B, G, 1, E), the last key and value of each row, which k and v, contiguous, get here
    """
    (B, H, T, D), (_, G, S, E), lib, dtype = q.shape, v.shape, library(q), q.dtype
    alone = H * T == G  # each query has keys of its own
    long = alone and SPLIT < S <= LONG_SPLIT
    file, threads = (LONG_FILES if long else FILES)[head_size(q, v)], LONG_THREADS if long else THREADS
    splits = 1 if long else max(over(S, SPLIT), 1)
    q, k, v = unit_rows(q, k, v)
    new = unit_rows(*new) if new[0] is not None else new
    y, logs = lib.empty((B, T, H, E), dtype), lib.empty((B, H, T), np.float32) if with_logs else None
    part = lib.empty((B, H, T, splits, E + 2), np.float32) if splits > 1 else None
    name = "attention_decode_1" if alone else "attention_decode_4"
    arrays, sizes = (q, k, v, *new, mask, length, part, y, logs), (H, G, T, S, D, E, splits)
    steps = *strides(q, k, v), *strides(*new, dims=2), *strides(mask, dims=4)
    file.run(name, (dtype,), B * G * splits, threads, *arrays, *sizes, float(scale), *steps)
    if splits > 1:
        file.run("attention_combine", (dtype,), B * H * T, THREADS, part, length, y, logs, H, T, S, E, splits)
    return y.transpose(0, 2, 1, 3), logs


def attention_decode(q, k, v, length, scale, new=(None, None)):
    """softmax(scale q k^T) v of one query a head, q (B, H, 1, D), over the first length[b] keys: (B, H, 1, E).

    new    the last key and value of each row, (B, G, 1, D) and (B, G, 1, E), where the caches k and v, contiguous, lack
           them: they are written there

    How much is computed follows from `length` (B,) as it stands on the device when the kernel runs: a captured call
    serves for other lengths, too.
    """
    return few_queries(q, k, v, None, contiguous(cast(length, np.int64)), scale, False, new)[0]
