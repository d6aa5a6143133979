"""Attention of few queries over many keys, which are split among blocks: attention_decode.cu."""

import numpy as np

from .compile import FLOATS, cast, contiguous, library, over
from .heads import for_each_size, head_size, strides, unit_rows

TYPES = FLOATS
FILES = for_each_size("attention_decode.cu")
KERNELS = FILES[64]
SPLIT, THREADS = 64, 128  # keys a block, and its threads
FEW = 8  # queries, at most, whose keys are split


def few_queries(q, k, v, mask, length, scale, with_logs):
    """y and, if asked for, logs, as attention.py has them; of each row the first length[b] keys, or all if None."""
    (B, H, T, D), (_, G, S, E), lib, dtype = q.shape, v.shape, library(q), q.dtype
    file, splits = FILES[head_size(q, v)], max(over(S, SPLIT), 1)
    q, k, v = unit_rows(q, k, v)
    y, logs = lib.empty((B, T, H, E), dtype), lib.empty((B, H, T), np.float32) if with_logs else None
    part = lib.empty((B, H, T, splits, E + 2), np.float32) if splits > 1 else None
    name = "attention_decode_1" if H * T == G else "attention_decode_4"
    file.run(name, (dtype,), B * G * splits, THREADS, q, k, v, mask, length, part, y, logs, H, G, T, S, D, E, splits,
             float(scale), *strides(q, k, v), *strides(mask, dims=4))  # fmt: skip
    if splits > 1:
        file.run("attention_combine", (dtype,), B * H * T, THREADS, part, length, y, logs, H, T, S, E, splits)
    return y.transpose(0, 2, 1, 3), logs


def attention_decode(q, k, v, length, scale):
    """softmax(scale q k^T) v of one query a head, q (B, H, 1, D), over the first length[b] keys: (B, H, 1, E).

    How much is computed follows from `length` (B,) as it stands on the device when the kernel runs: a captured call
    serves for other lengths, too.
    """
    return few_queries(q, k, v, None, contiguous(cast(length, np.int64)), scale, False)[0]
