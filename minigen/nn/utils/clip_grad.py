"""Gradient clipping, in one pass where an optimiser keeps the gradients in one array.

On the GPU the norm and the factor stay there: the host waits for nothing, and a step with clipping can be captured.
"""

import math

import numpy as np

from ... import device, kernels
from ...autograd import action
from ...device import xp
from ...errors import ArgumentError, NonFiniteError, expect
from ...optim.flat import merged, spread_over
from ...tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm"]


def _gradients(parameters):
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad.data for p in parameters if p.grad is not None]


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False):
    """The norm of all numbers of several tensors (or arrays) together, as a tensor of no dimensions."""
    arrays = [x.data if isinstance(x, Tensor) else x for x in tensors]
    if _stays_on_device(arrays, error_if_nonfinite):
        return Tensor(_norm_and_factor([array for (array,) in merged(arrays)], float(norm_type), 0.0)[0])
    norm = _norm([array for (array,) in merged(arrays)], float(norm_type))
    if error_if_nonfinite and not math.isfinite(norm):
        raise NonFiniteError(
            f"the norm of the gradients is {norm}: there is a NaN or an Inf in them\n"
            f"  find the op with minigen.detect_anomaly(), or clip with error_if_nonfinite=False"
        )
    return Tensor(np.asarray(norm, arrays[0].dtype if arrays else np.float32))


def _stays_on_device(arrays, error_if_nonfinite):
    """Whether nobody on the host needs the norm: not an error's message, and not other processes."""
    if not arrays or (device.capturing is None and xp(arrays[0]) is np):
        return False
    if error_if_nonfinite and device.capturing is not None:
        device.capturing.refuse("error_if_nonfinite=True looks at the norm on the host", "leave it out")
    return not error_if_nonfinite and all([spread_over(array) is None for array in arrays])


def _norm_and_factor(rows, p, most):
    """The norm, and the factor that brings it down to `most`, as device arrays: float32, or the gradients' float64."""
    lib, family = xp(rows[0]), kernels.find(rows[0], "numbers")
    dtype = np.promote_types(rows[0].dtype, np.float32)
    if p == 2 and family is not None and all([kernels.find(row, "reduce") is not None for row in rows]):
        squares = lib.empty(len(rows), np.float64)
        for i, row in enumerate(rows):
            kernels.find(row, "reduce").sum_squares(row, squares[i : i + 1])
        return family.clip_factor(squares, most)
    if p == math.inf:
        norm = lib.stack([abs(row).max() for row in rows if row.size]).max()
    else:
        norm = sum([(abs(row) ** p).sum(dtype=np.float64) for row in rows]) ** (1 / p)
    norm = norm.astype(dtype)
    return norm, lib.minimum(most / (norm + 1e-6), dtype.type(1))


def _norm(rows, p):
    """The p-norm. Where processes hold a part each (distributed.ShardedOptimizer), that of all the parts."""
    together = {}
    for row in rows:
        together.setdefault(spread_over(row), []).append(row)
    numbers = [_added(its, p) if group is None else group.combined(_added(its, p), "MAX" if p == math.inf else "SUM")
               for group, its in together.items()]  # fmt: skip
    if p == math.inf:
        return max(numbers, default=0.0)
    return math.sqrt(sum(numbers)) if p == 2 else sum(numbers) ** (1 / p)


def _added(rows, p):
    """The sum of |x|^p over all numbers, or the largest |x|."""
    if p == math.inf:
        return max((float(abs(row).max()) for row in rows if row.size), default=0.0)
    if p == 2:
        return sum(_sum_of_squares(row) for row in rows)
    return sum(float((abs(row) ** p).sum()) for row in rows)


def _sum_of_squares(row):
    kernel = kernels.find(row, "reduce")
    return float(kernel.sum_squares(row) if kernel is not None else (row * row).sum())


@action
def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients down together, in place, so that their norm is at most `max_norm`. Returns the norm before.

    error_if_nonfinite  raise NonFiniteError for a NaN or an Inf, instead of spreading it
    """
    expect(max_norm >= 0, f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}", error=ArgumentError)
    gradients = _gradients(parameters)
    if _stays_on_device(gradients, error_if_nonfinite):
        rows = [row for (row,) in merged(gradients)]
        norm, factor = _norm_and_factor(rows, float(norm_type), max_norm)
        for row in rows:
            kernel = kernels.find(row, "optim") if row.ndim == 1 else None
            if kernel is not None:
                kernel.scale(row, factor)
            else:
                row[...] = xp(row).where(row == 0, row, row * factor)
        return Tensor(norm)
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


@action
def clip_grad_value_(parameters, clip_value, foreach=None):
    """Clamp every number of the gradients to [-clip_value, clip_value], in place."""
    expect(clip_value >= 0, f"clip_grad_value_: clip_value must be at least 0, got {clip_value}", error=ArgumentError)
    for (row,) in merged(_gradients(parameters)):
        row.clip(-clip_value, clip_value, out=row)
