"""Scaled dot-product attention that never holds a whole (T, S) matrix of weights: attention.cu and the files beside it.

    attention(q, k, v, mask, drop, scale, causal)                                -> y, logs
    attention_gradient(g, q, k, v, mask, drop, y, logs, scale, causal, mask_too) -> gq, gk, gv, gmask
    attention_decode(q, k, v, length, scale)                                     -> y: T is 1, row b sees length[b] keys

Shapes, and the words that dropout draws, are those of kernels/cpu/attention.py; D and E go up to WIDEST. Results are
of q's type, and lie in memory as (B, T, H, E). Products of float32 are rounded to TF32 where precision.py allows it.
Of few queries the keys are split among blocks, as in decoding, unless there is dropout. Wider heads, where there is no
mask, no dropout and a key head for each of q's, are attention_wide.py's.
"""

import numpy as np

from . import attention_wide
from .attention_decode import FEW, SPLIT, attention_decode, few_queries
from .attention_gradient import attention_gradient
from .compile import FLOATS, cast, library, over
from .heads import WIDEST, Files, dropout_of, numbers, unit_rows

__all__ = ["TYPES", "WIDEST", "attention", "attention_decode", "attention_gradient"]
TYPES = FLOATS
FILES = Files("attention.cu")
KERNELS = FILES.of[False][64]


def attention(q, k, v, mask, drop, scale, causal):
    """softmax(scale q k^T + mask) v, and the logarithm of each softmax's sum, float32 (B, H, T).

    Of heads beyond WIDEST the weights themselves, (B, H, T, S).
    """
    if max(q.shape[3], v.shape[3]) > WIDEST:
        return attention_wide.attention(q, k, v, scale)
    (B, H, T, _), (S, E), lib = q.shape, v.shape[2:], library(q)
    (file, rows), mask = FILES(q, v), cast(mask, q.dtype)
    if T <= FEW and S > SPLIT and drop is None and not causal:
        return few_queries(q, k, v, mask, None, scale, True)
    q, k, v = unit_rows(q, k, v)
    y, logs = lib.empty((B, T, H, E), q.dtype), lib.empty((B, H, T), np.float32)
    arrays = q, k, v, mask, y, logs
    file.run("attention", (q.dtype,), B * H * over(T, rows), 2 * rows, *arrays, *dropout_of(drop),
             *numbers(q, k, v, mask, scale, causal))  # fmt: skip
    return y.transpose(0, 2, 1, 3), logs
