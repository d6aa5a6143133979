"""The gradient of attention: attention_gradient.cu."""

import numpy as np

from . import attention_wide
from .compile import FLOATS, cast, library, over
from .heads import Files, dropout_of, numbers, unit_rows

TYPES = FLOATS
FILES = Files("attention_gradient.cu")
KERNELS = FILES.of[False][64]


def attention_gradient(g, q, k, v, mask, drop, y, logs, scale, causal, mask_too=False):
    """The gradients of q, k and v, and that of the mask, (B, H, T, S), if `mask_too`, else None.

    y and logs are what `attention` returned.
    """
    if logs.ndim == 4:
        return *attention_wide.attention_gradient(g, q, k, v, logs, scale), None
    (B, H, T, D), (_, G, S, E), lib, dtype = q.shape, v.shape, library(q), q.dtype
    (file, rows), mask, drops = FILES(q, v), cast(mask, dtype), dropout_of(drop)
    g, q, k, v, y = unit_rows(g, q, k, v, y)
    dq, dk, dv = (lib.empty(shape, dtype) for shape in ((B, T, H, D), (B, S, G, D), (B, S, G, E)))
    inner = lib.empty((B, H, T), np.float32)
    dmask = lib.zeros((B, H, T, S), dtype) if mask_too else None
    first, last = (g, q, k, v), (mask, logs, inner)
    file.run("attention_gradient_queries", (dtype,), B * H * over(T, rows), 2 * rows, *first, y, *last, dq, dmask,
             *drops, *numbers(q, k, v, mask, scale, causal, g, y))  # fmt: skip
    file.run("attention_gradient_keys", (dtype,), B * G * over(S, rows), 2 * rows, *first, *last, dk, dv,
             *drops, *numbers(q, k, v, mask, scale, causal, g))  # fmt: skip
    return *(x.transpose(0, 2, 1, 3) for x in (dq, dk, dv)), dmask
