"""Muon: momentum made orthogonal, for the weight matrices of hidden layers (Jordan et al. 2024).

Of the momentum U S V^T only U V^T is used: every direction moves by the same amount. A polynomial iteration (Newton
& Schulz) drives all singular values towards 1 with products alone, no decomposition. Five rounds leave them
between 0.7 and 1.2, which is enough, and bfloat16 is exact enough for it.
"""

import math

import numpy as np

from .. import kernels
from ..device import xp
from ..errors import ArgumentError, expect
from .optimizer import Optimizer

__all__ = ["Muon"]

RATES = {  # by how much the step of an (A, B) matrix is scaled
    None: lambda a, b: math.sqrt(max(1, a / b)),
    "original": lambda a, b: math.sqrt(max(1, a / b)),
    "match_rms_adamw": lambda a, b: 0.2 * math.sqrt(max(a, b)),  # Liu et al. 2025: Adam's rates can be kept
}


class Muon(Optimizer):
    """b <- momentum * b + (1 - momentum) * g;  p <- (1 - lr weight_decay) p - lr * ratio * orthogonalised(b).

    Takes matrices only: give biases, gains, embeddings and the output layer to AdamW.
    nesterov      orthogonalises (1 - momentum) * g + momentum * b
    adjust_lr_fn  "original": ratio sqrt(max(1, A / B)) for a matrix (A, B); "match_rms_adamw": 0.2 sqrt(max(A, B))
    """

    arrays = ("momentum_buffer",)
    numbers = ()
    flags = ()
    alone = True

    def __init__(
        self,
        params,
        lr=1e-3,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=True,
        ns_coefficients=(3.4445, -4.7750, 2.0315),
        eps=1e-7,
        ns_steps=5,
        adjust_lr_fn=None,
    ):
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group):
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            expect(
                p.ndim == 2,
                "Muon only supports 2D parameters",
                p,
                error=ArgumentError,
                hint="give this one to AdamW",
            )

    def check(self, ns_coefficients, ns_steps, adjust_lr_fn, **_):
        expect(
            adjust_lr_fn in RATES,
            f"Muon: Adjust learning rate function {adjust_lr_fn} is not supported: one of {list(RATES)}",
            error=ArgumentError,
        )
        expect(len(ns_coefficients) == 3, "Muon: ns_coefficients are three numbers", error=ArgumentError)
        expect(0 <= ns_steps < 100, f"Muon: ns_steps must be below 100, got {ns_steps}", error=ArgumentError)

    def update(self, s, lr, weight_decay, momentum, nesterov, ns_coefficients, eps, ns_steps, adjust_lr_fn, **_):
        p, g, b = s.p, s.g, s["momentum_buffer"]
        b += (1 - momentum) * (g - b)
        direction = g + momentum * (b - g) if nesterov else b
        direction = orthogonalised(direction, ns_coefficients, ns_steps, eps)
        p *= 1 - lr * weight_decay
        p -= lr * RATES[adjust_lr_fn](*p.shape) * direction


def orthogonalised(matrix, coefficients, steps, eps):
    """U V^T of the matrix U S V^T, nearly: x <- a x + (b A + c A^2) x with A = x x^T, in bfloat16.

    Each product is rounded once, from float32, as PyTorch's is.
    """
    a, b, c = [np.float32(k) for k in coefficients]
    x = _bfloat16(matrix)
    x = x if x.shape[0] <= x.shape[1] else x.T
    norm = _bfloat16(((x * x).sum(keepdims=True) ** 0.5).clip(min=eps))
    x = _bfloat16(x / norm)
    for _ in range(steps):
        gram = _bfloat16(_product(x, x.T))
        change = _bfloat16(_multiply_add(b, gram, c * _product(gram, gram)))
        x = _bfloat16(_multiply_add(a, x, _product(change, x)))
    x = x if matrix.shape[0] <= matrix.shape[1] else x.T
    return x.astype(matrix.dtype)


def _product(a, b):
    """a @ b; on a GPU by the kernel, which a captured step may hold: CuPy's own call it may not."""
    family = None if type(a) is np.ndarray else kernels.find(a, "blas")
    return a @ b if family is None else family.matmul(a, b)


def _multiply_add(a, x, y):
    """a x + y in one rounding, as the processor's fused instruction does it."""
    return x.astype(np.float64) * float(a) + y


def _bfloat16(x):
    """Numbers rounded to the nearest that bfloat16 has, to even: 8 bits of mantissa. They stay in float32."""
    library = xp(x)
    bits = library.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + (np.uint32(0x7FFF) + odd)) & np.uint32(0xFFFF0000)).view(np.float32)
