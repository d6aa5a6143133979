"""Gradient clipping, in one pass where an optimiser keeps the gradients in one array."""

import math

import numpy as np

from ... import kernels
from ...errors import ArgumentError, NonFiniteError, expect
from ...optim.flat import merged
from ...tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm"]


def _gradients(parameters):
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad.data for p in parameters if p.grad is not None]


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False):
    """The norm of all numbers of several tensors (or arrays) together, as a tensor of no dimensions."""
    arrays = [x.data if isinstance(x, Tensor) else x for x in tensors]
    norm = _norm([array for (array,) in merged(arrays)], float(norm_type))
    if error_if_nonfinite and not math.isfinite(norm):
        raise NonFiniteError(
            f"the norm of the gradients is {norm}: there is a NaN or an Inf in them\n"
            f"  find the op with minigen.detect_anomaly(), or clip with error_if_nonfinite=False"
        )
    return Tensor(np.asarray(norm, arrays[0].dtype if arrays else np.float32))


def _norm(rows, p):
    if not rows:
        return 0.0
    if p == math.inf:
        return max((float(abs(row).max()) for row in rows if row.size), default=0.0)
    if p == 2:
        return math.sqrt(sum(_sum_of_squares(row) for row in rows))
    return sum(float((abs(row) ** p).sum()) for row in rows) ** (1 / p)


def _sum_of_squares(row):
    kernel = kernels.find(row, "reduce")
    return float(kernel.sum_squares(row) if kernel is not None else (row * row).sum())


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients down together, in place, so that their norm is at most `max_norm`. Returns the norm before.

    error_if_nonfinite  raise NonFiniteError for a NaN or an Inf, instead of spreading it
    """
    expect(max_norm >= 0, f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}", error=ArgumentError)
    gradients = _gradients(parameters)
    total = get_total_norm(gradients, norm_type, error_if_nonfinite)
    factor = max_norm / (total.item() + 1e-6)
    if not factor >= 1:  # smaller, or NaN
        # The gaps between gradients in a flat array must stay zero, which a factor of NaN would not leave them.
        rows = [row for (row,) in merged(gradients)] if math.isfinite(factor) else gradients
        for row in rows:
            kernel = kernels.find(row, "optim") if row.ndim == 1 else None
            if kernel is not None:
                kernel.scale(row, factor)
            else:
                row *= factor
    return total


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Clamp every number of the gradients to [-clip_value, clip_value], in place."""
    expect(clip_value >= 0, f"clip_grad_value_: clip_value must be at least 0, got {clip_value}", error=ArgumentError)
    for (row,) in merged(_gradients(parameters)):
        row.clip(-clip_value, clip_value, out=row)
