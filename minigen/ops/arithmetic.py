"""Arithmetic, elementwise and broadcast: + - * / ** and their kin, the larger and the smaller, signs, rounding.

Operands come to one type first (see `promote` in autograd.py): Python numbers never widen a tensor, and float32
beside float64 is refused. The engine undoes broadcasting in the gradients.
"""

from ..autograd import op
from ..device import is_array, xp
from ..errors import ArgumentError, DtypeError, describe
from ..tensor import Tensor, float32, float64
from .casting import cast, floating
from .elementary import log

__all__ = [
    "abs",
    "add",
    "addcdiv",
    "addcmul",
    "ceil",
    "clamp",
    "copysign",
    "div",
    "fix",
    "floor",
    "floor_divide",
    "fmod",
]
__all__ += [
    "frac",
    "heaviside",
    "hypot",
    "lerp",
    "maximum",
    "minimum",
    "mul",
    "nan_to_num",
    "neg",
    "pow",
    "remainder",
]
__all__ += ["round", "rsub", "sign", "sub", "trunc", "where"]

# The four operations. The signs + - * / call these ops directly; the functions add PyTorch's options.


@op(promotes=True)
def _add(a, b):
    return a + b


_add.gradient(a=lambda g: g, b=lambda g: g)


@op(promotes=True)
def _sub(a, b):
    return a - b


_sub.gradient(a=lambda g: g, b=lambda g: -g)


@op(promotes=True)
def mul(a, b):
    """a * b, elementwise."""
    return a * b


mul.gradient(a=lambda g, b: g * b, b=lambda g, a: g * a)


@op(promotes=True)
def _div(a, b):
    y = a / b
    # NumPy divides integers into float64
    return y if y.dtype is not float64 or _wide(a) or _wide(b) else y.astype(float32)


_div.gradient(a=lambda g, b: g / b, b=lambda g, y, b: -g * y / b)


def _wide(x):
    return is_array(x) and x.dtype is float64


@op
def neg(x):
    """-x."""
    return -x


neg.gradient(x=lambda g: -g)


def add(a, b, *, alpha=1):
    """a + alpha * b, elementwise."""
    return _add(a, b) if alpha == 1 else _add(a, mul(b, alpha))


def sub(a, b, *, alpha=1):
    """a - alpha * b, elementwise."""
    return _sub(a, b) if alpha == 1 else _sub(a, mul(b, alpha))


def rsub(a, b, *, alpha=1):
    """b - alpha * a, elementwise."""
    return sub(b, a, alpha=alpha)


def div(a, b, *, rounding_mode=None):
    """a / b, elementwise; integers give float32.

    rounding_mode  "floor" or "trunc" rounds the quotient down, or towards zero, and keeps integers integers
    """
    if rounding_mode is None:
        return _div(a, b)
    if rounding_mode == "floor":
        return floor_divide(a, b)
    if rounding_mode == "trunc":
        return _div_trunc(a, b)
    raise ArgumentError(f'div: rounding_mode={rounding_mode!r}\n  write "floor", "trunc" or None')


# Rounding: constant between its steps, so the gradient is zero wherever there is one


@op
def _nothing(x):
    """Zeros like x: the gradient of a function made of steps."""
    return xp(x).zeros_like(x)


_nothing.gradient(x=lambda g: _nothing(g))


@op
def floor(x):
    """The largest integer not above x, elementwise."""
    return xp(x).floor(x)


floor.gradient(x=lambda g: _nothing(g))


@op
def ceil(x):
    """The smallest integer not below x, elementwise."""
    return xp(x).ceil(x)


ceil.gradient(x=lambda g: _nothing(g))


@op
def trunc(x):
    """x without what stands after the point, elementwise."""
    return xp(x).trunc(x)


trunc.gradient(x=lambda g: _nothing(g))


@op
def round(x, decimals=0):
    """x rounded to `decimals` places, halves to the even neighbour, elementwise."""
    return xp(x).round(x, decimals)


round.gradient(x=lambda g: _nothing(g))


@op
def frac(x):
    """x - trunc(x), elementwise."""
    return x - xp(x).trunc(x)


frac.gradient(x=lambda g: g)


# Signs


@op
def abs(x):
    """The absolute value, elementwise. Its gradient at 0 is 0."""
    return xp(x).abs(x)


abs.gradient(x=lambda g, x: g * sign(x))


@op
def sign(x):
    """-1, 0 or 1, elementwise."""
    return xp(x).sign(x)


sign.gradient(x=lambda g: _nothing(g))


# Choosing


@op(promotes=True)
def _where(a, b, condition):
    return xp(condition).where(condition, a, b)


_where.gradient(
    a=lambda g, condition: _where(g, 0.0, condition),
    b=lambda g, condition: _where(0.0, g, condition),
)


def where(condition, a, b):
    """a where `condition` holds, b elsewhere; all three broadcast."""
    return _where(a, b, condition)


@op(promotes=True)
def maximum(a, b):
    """The larger of a and b, elementwise. Where they are equal each receives half the gradient."""
    return xp(a if is_array(a) else b).maximum(a, b)


maximum.gradient(
    a=lambda g, a, b: _where(g * 0.5, _where(0.0, g, a < b), a == b),
    b=lambda g, a, b: _where(g * 0.5, _where(0.0, g, b < a), a == b),
)


@op(promotes=True)
def minimum(a, b):
    """The smaller of a and b, elementwise. Where they are equal each receives half the gradient."""
    return xp(a if is_array(a) else b).minimum(a, b)


minimum.gradient(
    a=lambda g, a, b: _where(g * 0.5, _where(0.0, g, a > b), a == b),
    b=lambda g, a, b: _where(g * 0.5, _where(0.0, g, b > a), a == b),
)


@op
def _clamp(x, low, high):
    return xp(x).clip(x, low, high)


_clamp.gradient(x=lambda g, x, low, high: _where(g, 0.0, (x >= low) & (x <= high)))


def clamp(x, min=None, max=None):
    """x, no smaller than `min` and no larger than `max` (numbers or tensors; None for no limit)."""
    low = float("-inf") if min is None else min
    high = float("inf") if max is None else max
    return _clamp(x, low, high)


# Powers


@op(promotes=True)
def pow(a, b):
    """a ** b, elementwise."""
    return a**b


pow.gradient(
    a=lambda g, a, b: g * _slope(a, b),
    b=lambda g, y, a, b: g * (y * log(a)),
)


def _slope(a, b):
    return b * a ** (b - 1)


# Remainders


@op(promotes=True)
def floor_divide(a, b):
    """a / b rounded down, elementwise; integers stay integers."""
    return a // b


floor_divide.gradient(a=lambda g: _nothing(g), b=lambda g: _nothing(g))


@op(promotes=True)
def _div_trunc(a, b):
    return xp(a if is_array(a) else b).trunc(a / b)


@op(promotes=True)
def remainder(a, b):
    """a - b * floor(a / b), elementwise: Python's %, with the sign of b."""
    return a % b


remainder.gradient(a=lambda g: g, b=lambda g, a, b: -g * floor_divide(a, b))
