"""The gradient of attention: attention_gradient.cu."""

import numpy as np

from . import attention_wide, compile
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
    if stand_side_by_side(q, k, v):
        whole = lib.empty((B, T, 3, H, D), dtype)
        side, places, parts = 3, [whole] * 3, [whole[:, :, i] for i in range(3)]
    else:
        side, parts = 1, [lib.empty(shape, dtype) for shape in ((B, T, H, D), (B, S, G, D), (B, S, G, E))]
        places = parts
    g, q, k, v, y = unit_rows(g, q, k, v, y)
    inner = lib.empty((B, H, T), np.float32)
    dmask = lib.zeros((B, H, T, S), dtype) if mask_too else None
    first, last = (g, q, k, v), (mask, logs, inner)
    file.run("attention_gradient_queries", (dtype,), B * H * over(T, rows), 2 * rows, *first, y, *last, places[0],
             dmask, side, *drops, *numbers(q, k, v, mask, scale, causal, g, y))  # fmt: skip
    file.run("attention_gradient_keys", (dtype,), B * G * over(S, rows), 2 * rows, *first, *last, *places[1:], side,
             *drops, *numbers(q, k, v, mask, scale, causal, g))  # fmt: skip
    return *(x.transpose(0, 2, 1, 3) for x in parts), dmask


def stand_side_by_side(q, k, v):
    """Whether each place's q, k and v, of all heads, are neighbours in memory, as one layer makes them.

    Then so do their gradients, and nothing must be joined for that layer's.
    """
    _, H, T, D = q.shape
    row = H * D * q.itemsize
    if q.shape != k.shape or q.shape != v.shape or not q.strides == k.strides == v.strides:
        return False
    starts = [compile.machine.address(x) for x in (q, k, v)]
    lie = q.strides == (3 * T * row, D * q.itemsize, 3 * row, q.itemsize)
    return lie and starts[1] - starts[0] == starts[2] - starts[1] == row
