"""Comparing and combining truths, elementwise. Nothing here has a gradient."""

from ..autograd import op
from ..device import FLOATS, xp
from ..errors import ArgumentError, DtypeError, describe, expect
from ..tensor import Tensor, value
from .arithmetic import abs as _abs
from .operands import library_of

# Comparing


@op(promotes=True)
def eq(a, b):
    """Whether a == b, elementwise."""
    return a == b


@op(promotes=True)
def ne(a, b):
    """Whether a != b, elementwise."""
    return a != b


@op(promotes=True)
def lt(a, b):
    """Whether a < b, elementwise."""
    return a < b


@op(promotes=True)
def le(a, b):
    """Whether a <= b, elementwise."""
    return a <= b


@op(promotes=True)
def gt(a, b):
    """Whether a > b, elementwise."""
    return a > b


@op(promotes=True)
def ge(a, b):
    """Whether a >= b, elementwise."""
    return a >= b


def equals(a, b):
    """`a == b` as Python means it: elementwise beside tensors, arrays and numbers, False beside anything else."""
    return eq(a, b) if _is_operand(b) else NotImplemented


def differs(a, b):
    """`a != b` as Python means it: elementwise beside tensors, arrays and numbers, True beside anything else."""
    return ne(a, b) if _is_operand(b) else NotImplemented


def _is_operand(x):
    return isinstance(x, (Tensor, int, float)) or hasattr(x, "dtype")


# Asking one thing of each element


@op
def isnan(x):
    """Whether x is NaN, elementwise."""
    return xp(x).isnan(x)


@op
def isinf(x):
    """Whether x is infinite, elementwise."""
    return xp(x).isinf(x)


@op
def isfinite(x):
    """Whether x is neither NaN nor infinite, elementwise."""
    return xp(x).isfinite(x)


@op
def signbit(x):
    """Whether x is negative, elementwise; it is for -0.0."""
    return xp(x).signbit(x) if x.dtype.kind in FLOATS else x < 0


# Combining truths: any number but 0 counts as true


@op
def logical_not(x):
    """Whether x is 0, elementwise."""
    return xp(x).logical_not(x)


@op(promotes=True)
def logical_and(a, b):
    """Whether neither a nor b is 0, elementwise."""
    return library_of(a, b).logical_and(a, b)


@op(promotes=True)
def logical_or(a, b):
    """Whether a or b is not 0, elementwise."""
    return library_of(a, b).logical_or(a, b)


@op(promotes=True)
def logical_xor(a, b):
    """Whether exactly one of a and b is 0, elementwise."""
    return library_of(a, b).logical_xor(a, b)


@op(promotes=True)
def bitwise_and(a, b):
    """a & b, elementwise: of booleans, whether both hold; of integers, bit by bit."""
    return a & b


@op(promotes=True)
def bitwise_or(a, b):
    """a | b, elementwise: of booleans, whether one holds; of integers, bit by bit."""
    return a | b


@op(promotes=True)
def bitwise_xor(a, b):
    """a ^ b, elementwise: of booleans, whether they differ; of integers, bit by bit."""
    return a ^ b


@op
def bitwise_not(x):
    """~x, elementwise: the other truth of a boolean, every bit of an integer."""
    return ~x


# Comparing whole tensors


def isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether |a - b| <= atol + rtol * |b|, elementwise.

    Equal infinities are close; NaN is close to nothing, or with `equal_nan` to NaN.
    """
    a, b = value(a), value(b)
    expect(rtol >= 0 and atol >= 0, f"isclose: rtol={rtol} and atol={atol} must not be negative", error=ArgumentError)
    if a.dtype != b.dtype:
        raise DtypeError(f"isclose: {describe(a)} and {describe(b)} are of two types\n  write x.to(y.dtype)")
    close = a == b
    if a.dtype.kind in FLOATS:
        near = _abs(a - b) <= atol + rtol * _abs(b)
        close = close | (near & xp(a).isfinite(b) & xp(a).isfinite(a))
        if equal_nan:
            close = close | (xp(a).isnan(a) & xp(b).isnan(b))
    else:
        close = close | (_abs(a - b) <= atol + rtol * _abs(b))
    return Tensor(close)


def allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether every element of a is close to its fellow in b, as one bool. See `isclose`."""
    return bool(isclose(a, b, rtol, atol, equal_nan).data.all())


def equal(a, b):
    """Whether a and b have the same shape and the same elements, as one bool."""
    a, b = value(a), value(b)
    return a.shape == b.shape and bool((a == b).all())
