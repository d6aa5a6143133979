"""Rounding, and what rounding leaves: floor, ceil, trunc, round, //, %, and their kin.

Functions made of steps are flat between them: their gradient is zero wherever there is one.
"""

import numpy as np

from ..autograd import op
from ..device import FLOATS, xp
from ..errors import ArgumentError, describe
from .operands import is_floating, library_of


@op
def _flat(x):
    """Zeros like x: the gradient between two steps."""
    return xp(x).zeros_like(x)


_flat.gradient(x=lambda g: _flat(g))


@op(elementwise=True)
def floor(x):
    """The largest integer not above x, elementwise."""
    return xp(x).floor(x)


floor.gradient(x=lambda g: _flat(g))


@op(elementwise=True)
def ceil(x):
    """The smallest integer not below x, elementwise."""
    return xp(x).ceil(x)


ceil.gradient(x=lambda g: _flat(g))


@op(elementwise=True)
def trunc(x):
    """x without what stands after the point, elementwise."""
    return xp(x).trunc(x)


trunc.gradient(x=lambda g: _flat(g))


@op(elementwise=True)
def round(x, decimals=0):
    """x rounded to `decimals` places, halves to the even neighbour, elementwise."""
    return xp(x).round(x, decimals)


round.gradient(x=lambda g: _flat(g))


@op(promotes=True)
def heaviside(x, values):
    """0 where x < 0, 1 where x > 0, and `values` where x is 0, elementwise."""
    return xp(x).heaviside(x, values).astype(x.dtype, copy=False)


@op(promotes=True)
def floor_divide(a, b):
    """a / b rounded down, elementwise; integers stay integers."""
    _refuse_zero("floor_divide", a, b)
    return a // b


floor_divide.gradient(a=lambda g: _flat(g), b=lambda g: _flat(g))


@op(promotes=True)
def _div_trunc(a, b):
    _refuse_zero("div", a, b)
    floored = a // b
    if floored.dtype.kind in FLOATS:
        return library_of(a, b).trunc(a / b)
    return floored + ((a % b != 0) & ((a < 0) != (b < 0)))


_div_trunc.gradient(a=lambda g: _flat(g), b=lambda g: _flat(g))


def _refuse_zero(name, a, b):
    """NumPy divides an integer by zero into 0: that is no answer. (On the GPU the check would stall the stream.)"""
    if is_floating(a) or is_floating(b) or library_of(a, b) is not np:
        return
    if np.any(b == 0):
        raise ArgumentError(f"{name}: an integer divided by zero, {describe(a)} by {describe(b)}")


# What is left over


@op(promotes=True)
def remainder(a, b):
    """a - b * floor(a / b), elementwise: Python's %, which has the sign of b."""
    _refuse_zero("remainder", a, b)
    return a % b


remainder.gradient(a=lambda g: g, b=lambda g, a, b: -g * floor_divide(a, b))


@op(promotes=True)
def fmod(a, b):
    """a - b * trunc(a / b), elementwise: C's %, which has the sign of a."""
    _refuse_zero("fmod", a, b)
    return library_of(a, b).fmod(a, b)


fmod.gradient(a=lambda g: g, b=lambda g, a, b: -g * _div_trunc(a, b))


@op(elementwise=True)
def frac(x):
    """x - trunc(x), elementwise."""
    return x - xp(x).trunc(x)


frac.gradient(x=lambda g: g)
