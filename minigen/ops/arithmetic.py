"""Arithmetic, elementwise and broadcast: + - * / **, signs, the larger and the smaller, where.

Operands come to one type first (`promote` in autograd/promotion.py): Python numbers never widen a tensor, and float32
beside float64 is refused. The engine undoes broadcasting in the gradients. The signs `x + y` call the ops here
directly; the functions add PyTorch's options.
"""

import math

from .. import kernels
from ..autograd import op
from ..autograd.order import added
from ..autograd.promotion import promote
from ..device import FLOATS, is_array, xp
from ..errors import ArgumentError, DtypeError, describe, expect
from ..tensor import Tensor, float32, float64
from .casting import _cast
from .elementary import log
from .operands import floating_pair, is_floating, library_of
from .rounding import _div_trunc, _flat, floor_divide

# The four operations


@op(promotes=True)
def _add(a, b):
    return a + b


_add.gradient(a=lambda g: g, b=lambda g: g)
_add.on_gpu = added


@op
def _add_mixed(x, y, narrow):  # narrow: y's type, beside which x is wide
    family = kernels.find(x, "arithmetic")
    return NotImplemented if family is None else family.add(x, y)


_add_mixed.gradient(x=lambda g: g, y=lambda g, narrow: _cast(g, narrow, g.dtype))


@_add_mixed.definition
def _(x, y, narrow):
    return _add(x, _cast(y, x.dtype, narrow))


def _mixed(a, b):
    return _add_mixed(a, b, b.dtype) if a.dtype == float32 else _add_mixed(b, a, a.dtype)


_add.mixed = _mixed


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
    if y.dtype is float64 and not (_is_double(a) or _is_double(b)):  # NumPy divides integers into float64
        return y.astype(float32)
    return y


_div.gradient(a=lambda g, b: g / b, b=lambda g, y, b: -g * y / b)


def _is_double(x):
    return is_array(x) and x.dtype is float64


@op(elementwise=True)
def neg(x):
    """-x, elementwise."""
    return -x


neg.gradient(x=lambda g: -g)


def add(a, b, *, alpha=1):
    """a + alpha * b, elementwise."""
    return _add(a, b) if alpha == 1 else _add(a, _scaled("add", a, b, alpha))


def sub(a, b, *, alpha=1):
    """a - alpha * b, elementwise."""
    return _sub(a, b) if alpha == 1 else _sub(a, _scaled("sub", a, b, alpha))


def rsub(a, b, *, alpha=1):
    """b - alpha * a, elementwise."""
    return sub(b, a, alpha=alpha)


def _scaled(name, a, b, alpha):
    if isinstance(alpha, float) and not is_floating(a) and not is_floating(b):
        raise DtypeError(f"{name}: alpha={alpha} would turn integers into floats\n  write x.float() first")
    return mul(b, alpha) if hasattr(b, "dtype") else b * alpha


def div(a, b, *, rounding_mode=None):
    """a / b, elementwise; integers give float32.

    rounding_mode  "floor" rounds the quotient down, "trunc" towards zero, and integers stay integers
    """
    if rounding_mode is None:
        return _div(a, b)
    if rounding_mode == "floor":
        return floor_divide(a, b)
    if rounding_mode == "trunc":
        return _div_trunc(a, b)
    raise ArgumentError(f'div: rounding_mode={rounding_mode!r}\n  write "floor", "trunc" or None')


# Signs and sizes


@op(elementwise=True)
def sign(x):
    """-1, 0 or 1, elementwise; of NaN, NaN (where PyTorch says 0)."""
    return x if x.dtype.kind == "b" else xp(x).sign(x)


sign.gradient(x=lambda g: _flat(g))


@op(elementwise=True)
def abs(x):
    """The absolute value, elementwise. Its gradient at 0 is 0."""
    return xp(x).abs(x)


abs.gradient(x=lambda g, x: g * sign(x))


@op(promotes=True)
def copysign(a, b):
    """The size of a with the sign of b, elementwise."""
    a, b = floating_pair(a, b)
    return xp(a).copysign(a, b)


copysign.gradient(a=lambda g, a, y: g * (sign(a) * sign(y)), b=lambda g: _flat(g))


@op(promotes=True)
def hypot(a, b):
    """sqrt(a**2 + b**2), elementwise, without overflow on the way."""
    a, b = floating_pair(a, b)
    return xp(a).hypot(a, b)


hypot.gradient(a=lambda g, a, y: g * (a / y), b=lambda g, b, y: g * (b / y))


# Choosing


@op(promotes=True)
def _where(a, b, condition):
    return xp(condition).where(condition, a, b)


_where.gradient(
    a=lambda g, condition: _where(g, 0.0, condition),
    b=lambda g, condition: _where(0.0, g, condition),
)


def where(condition, a=None, b=None):
    """a where `condition` holds, b elsewhere; all three broadcast.

    `where(condition)` alone gives the indices where it holds, one vector for each dimension.
    """
    if not hasattr(condition, "dtype") or condition.dtype.kind != "b":
        raise DtypeError(f"where: the condition is made of booleans\n  got {describe(condition)}; write x != 0")
    if a is None and b is None:
        from .counting import nonzero

        return nonzero(condition, as_tuple=True)
    if not hasattr(a, "dtype") and not hasattr(b, "dtype"):  # two numbers
        library = xp(condition.data if isinstance(condition, Tensor) else condition)
        a = library.asarray(a, dtype=float32 if isinstance(a, float) or isinstance(b, float) else None)
    return _where(a, b, condition)


@op(promotes=True)
def maximum(a, b):
    """The larger of a and b, elementwise. Where they are equal each receives half the gradient."""
    return library_of(a, b).maximum(a, b)


maximum.gradient(
    a=lambda g, a, b: _where(mul(g, 0.5), _where(0.0, g, a < b), a == b),
    b=lambda g, a, b: _where(mul(g, 0.5), _where(0.0, g, b < a), a == b),
)


@op(promotes=True)
def minimum(a, b):
    """The smaller of a and b, elementwise. Where they are equal each receives half the gradient."""
    return library_of(a, b).minimum(a, b)


minimum.gradient(
    a=lambda g, a, b: _where(mul(g, 0.5), _where(0.0, g, a > b), a == b),
    b=lambda g, a, b: _where(mul(g, 0.5), _where(0.0, g, b > a), a == b),
)


@op(elementwise=True)
def _clamp(x, low, high):
    if x.dtype.kind not in FLOATS or is_array(low) or is_array(high):
        if low is not None:
            x, low = promote("clamp", [x, low])
        if high is not None:
            x, high = promote("clamp", [x, high])
    return x.clip(low, high)


_clamp.gradient(
    x=lambda g, x, low, high: _where(g, 0.0, _within(x, low, high)),
    low=lambda g, x, low, high: _where(g, 0.0, (x < low) if high is None else (x < low) & (low < high)),
    high=lambda g, x, low, high: _where(g, 0.0, (x > high) if low is None else (x > high) | (high < low)),
)


def _within(x, low, high):
    if low is None or high is None:
        return x <= high if low is None else x >= low
    return (x >= low) & (x <= high)


def clamp(x, min=None, max=None):
    """x, but no smaller than `min` and no larger than `max`: numbers or tensors, None for no limit."""
    if min is None and max is None:
        raise ArgumentError("clamp: give min=, max= or both")
    return _clamp(x, min, max)


clip = clamp


def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """x with NaN replaced by `nan`, and infinities by `posinf` and `neginf` (the largest finite numbers if None)."""
    expect(hasattr(x, "dtype"), "nan_to_num: takes a tensor", x, error=DtypeError, hint="write minigen.tensor(...)")
    return _nan_to_num(x, nan, posinf, neginf)


@op(elementwise=True)
def _nan_to_num(x, nan, posinf, neginf):
    return xp(x).nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf)


_nan_to_num.gradient(x=lambda g, x: _where(g, 0.0, abs(x) < math.inf))


# Powers


@op(promotes=True)
def pow(a, b):
    """a ** b, elementwise. The gradients where a or b is 0 are the limits, as long as these are finite."""
    if type(b) is int and b == 3:
        return a * a * a  # the general power is twenty times slower
    try:
        return a**b
    except ValueError as fault:
        if "negative integer powers" not in str(fault):
            raise
        raise ArgumentError("pow: integers to a negative power are not integers\n  write x.float() ** y") from None


pow.gradient(a=lambda g, a, b: g * _slope(a, b), b=lambda g, y, a, b: g * _growth(y, a, b))


def _slope(a, b):
    """d(a**b)/da = b a**(b - 1), which is 0 for b = 0 also where a is 0."""
    if hasattr(b, "dtype"):
        return b * where((a == 0) & (b == 0), 1.0, a) ** (b - 1)
    return a * 2.0 if b == 2 else _flat(a) if b == 0 else b * a ** (b - 1)


def _growth(y, a, b):
    """d(a**b)/db = a**b log(a), which is 0 for a = 0 as long as b is not negative."""
    if hasattr(a, "dtype"):
        return y * log(where((a == 0) & (b >= 0), 1.0, a))
    if a > 0:
        return y * math.log(a)
    return where(b >= 0, 0.0, y * -math.inf) if a == 0 else y * math.nan


# Several operations in one call


def lerp(start, end, weight):
    """start + weight * (end - start), elementwise: from start (weight 0) to end (weight 1)."""
    return start + weight * (end - start)


def addcmul(x, a, b, *, value=1):
    """x + value * a * b, elementwise."""
    return add(x, mul(a, b), alpha=value)


def addcdiv(x, a, b, *, value=1):
    """x + value * a / b, elementwise."""
    return add(x, _div(a, b), alpha=value)


# PyTorch's second names

absolute, negative = abs, neg
subtract, multiply, divide, true_divide = sub, mul, div, div
