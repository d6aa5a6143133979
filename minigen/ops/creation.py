"""New tensors: filled with a number, counting, or drawn at random."""

import numpy as np

from ..device import xp
from ..tensor import Tensor, float32, int64, new_library


def _shape(name, sizes):
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
        sizes = tuple(sizes[0])
    return tuple([int(n) for n in sizes])


def _default_generator():
    from .. import random

    return random.default_generator


def full(size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """A tensor of shape `size` with `fill_value` everywhere."""
    return Tensor(new_library(device).full(size, fill_value, dtype or float32), requires_grad)


def zeros(*size, dtype=None, device=None, requires_grad=False):
    """Zeros of shape `size`."""
    return Tensor(new_library(device).zeros(_shape("zeros", size), dtype or float32), requires_grad)


def ones(*size, dtype=None, device=None, requires_grad=False):
    """Ones of shape `size`."""
    return Tensor(new_library(device).ones(_shape("ones", size), dtype or float32), requires_grad)


def zeros_like(x, *, dtype=None, requires_grad=False):
    """Zeros in the shape of x."""
    return Tensor(xp(x.data).zeros_like(x.data, dtype=dtype), requires_grad)


def ones_like(x, *, dtype=None, requires_grad=False):
    """Ones in the shape of x."""
    return Tensor(xp(x.data).ones_like(x.data, dtype=dtype), requires_grad)


def arange(start, end=None, step=1, *, dtype=None, device=None, requires_grad=False):
    """start, start + step, ... up to but without `end`."""
    if end is None:
        start, end = 0, start
    if dtype is None:
        dtype = (
            int64 if isinstance(start, int) and isinstance(end, int) and isinstance(step, int) else float32
        )
    return Tensor(new_library(device).arange(start, end, step, dtype=dtype), requires_grad)


def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False):
    """`steps` numbers from start to end, both included."""
    return Tensor(new_library(device).linspace(start, end, steps, dtype=dtype or float32), requires_grad)


def eye(n, m=None, *, dtype=None, device=None, requires_grad=False):
    """The identity matrix."""
    return Tensor(new_library(device).eye(n, m, dtype=dtype or float32), requires_grad)


def rand(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform on [0, 1)."""
    generator = generator or _default_generator()
    return Tensor(
        generator.uniform(_shape("rand", size), dtype=dtype or float32, device=device), requires_grad
    )


def randn(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Standard normal."""
    generator = generator or _default_generator()
    return Tensor(
        generator.normal(_shape("randn", size), dtype=dtype or float32, device=device), requires_grad
    )
