"""Comparing and combining truths, elementwise. Nothing here has a gradient."""

from ..autograd import op
from ..device import xp
from ..errors import describe  # noqa: F401


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
def logical_not(x):
    """Whether x is zero, elementwise."""
    return xp(x).logical_not(x)


@op(promotes=True)
def bitwise_and(a, b):
    """a & b: of booleans, whether both hold; of integers, bit by bit."""
    return a & b


@op(promotes=True)
def bitwise_or(a, b):
    """a | b."""
    return a | b


@op(promotes=True)
def bitwise_xor(a, b):
    """a ^ b."""
    return a ^ b


@op
def bitwise_not(x):
    """~x."""
    return ~x
