"""Attention whose heads are too wide for attention.cu: its weights are written out, between two products of cuBLAS.

    attention(q, k, v, scale)                           -> y, weights (B, H, T, S)
    attention_gradient(g, q, k, v, weights, scale)      -> gq, gk, gv

U-Nets attend so: one head of 256 or 512 numbers, over some hundred places. No mask, no dropout; shapes as in
attention.py, with as many heads of k and v as of q. Floor: the products, and 4 B H T S numbers forward, 8 in the
gradient. Not yet measured.
"""

from . import blas
from .compile import FLOATS, cast
from .softmax import softmax, softmax_gradient

TYPES = FLOATS


def attention(q, k, v, scale):
    """softmax(scale q k^T) v, and the weights."""
    weights = softmax(blas.matmul(q, k.swapaxes(2, 3), scale=scale))
    return blas.matmul(weights, v), weights


def attention_gradient(g, q, k, v, weights, scale):
    """dL/dq, dL/dk, dL/dv."""
    g = cast(g, q.dtype)
    dv = blas.matmul(weights.swapaxes(2, 3), g)
    scores = softmax_gradient(blas.matmul(g, v.swapaxes(2, 3)), weights)
    dq, dk = blas.matmul(scores, k, scale=scale), blas.matmul(scores.swapaxes(2, 3), q, scale=scale)
    return dq, dk, dv
