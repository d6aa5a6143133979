"""The elementary functions of one variable: exponentials, logarithms, roots, circular and hyperbolic functions.

Each is one NumPy call and one line of calculus. Integers and booleans give float32. Outside a function's domain the
result is NaN or infinite, as in PyTorch. The special functions (erf, lgamma, ...) are in special.py.
"""

import math

from .. import kernels
from ..autograd import op
from ..device import xp
from ..tensor import Tensor
from .operands import floating

LARGE = 8192  # elements from which a kernel, on all cores, is quicker than NumPy's function


def _for_large(x):
    """The kernel `activation(name, x)` for a large array x; None for a small one, or where there is none."""
    family = kernels.find(x, "activations") if x.size >= LARGE else None
    return None if family is None else family.activation


def _in_one_pass(name, g, y, composed):
    """g times the derivative, from y: by a kernel for a large array; else, and for tensors, as `composed` writes it."""
    family = None if isinstance(g, Tensor) or g.size < LARGE else kernels.find(g, "activations")
    return composed(g, y) if family is None else family.activation_gradient(name, g, y)


# Powers and roots


@op(elementwise=True)
def square(x):
    """x * x, elementwise."""
    return x * x


square.gradient(x=lambda g, x: g * (2.0 * x))


@op(elementwise=True)
def sqrt(x):
    """The square root, elementwise. Its gradient at 0 is infinite."""
    return xp(x).sqrt(floating(x))


sqrt.gradient(x=lambda g, y: g / (2.0 * y))


@op(elementwise=True)
def rsqrt(x):
    """1 / sqrt(x), elementwise."""
    return 1.0 / xp(x).sqrt(floating(x))


rsqrt.gradient(x=lambda g, y: g * (-0.5 * y * y * y))


@op(elementwise=True)
def reciprocal(x):
    """1 / x, elementwise."""
    return 1.0 / floating(x)


reciprocal.gradient(x=lambda g, y: -g * y * y)


# Exponentials and logarithms


@op(elementwise=True)
def exp(x):
    """e**x, elementwise."""
    x = floating(x)
    return xp(x).exp(x) if (kernel := _for_large(x)) is None else kernel("exp", x)


exp.gradient(x=lambda g, y: g * y)


@op(elementwise=True)
def exp2(x):
    """2**x, elementwise."""
    return xp(x).exp2(floating(x))


exp2.gradient(x=lambda g, y: g * (math.log(2.0) * y))


@op(elementwise=True)
def expm1(x):
    """e**x - 1, elementwise, without losing digits where x is small."""
    return xp(x).expm1(floating(x))


expm1.gradient(x=lambda g, y: g * (y + 1.0))


@op(elementwise=True)
def log(x):
    """The natural logarithm, elementwise."""
    return xp(x).log(floating(x))


log.gradient(x=lambda g, x: g / x)


@op(elementwise=True)
def log2(x):
    """The logarithm to base 2, elementwise."""
    return xp(x).log2(floating(x))


log2.gradient(x=lambda g, x: g / (math.log(2.0) * x))


@op(elementwise=True)
def log10(x):
    """The logarithm to base 10, elementwise."""
    return xp(x).log10(floating(x))


log10.gradient(x=lambda g, x: g / (math.log(10.0) * x))


@op(elementwise=True)
def log1p(x):
    """log(1 + x), elementwise, without losing digits where x is small."""
    return xp(x).log1p(floating(x))


log1p.gradient(x=lambda g, x: g / (x + 1.0))


# The circular functions and their inverses


@op(elementwise=True)
def sin(x):
    """The sine of x radians, elementwise."""
    return xp(x).sin(floating(x))


sin.gradient(x=lambda g, x: g * cos(x))


@op(elementwise=True)
def cos(x):
    """The cosine of x radians, elementwise."""
    return xp(x).cos(floating(x))


cos.gradient(x=lambda g, x: -g * sin(x))


@op(elementwise=True)
def tan(x):
    """The tangent of x radians, elementwise."""
    return xp(x).tan(floating(x))


tan.gradient(x=lambda g, y: g * (1.0 + y * y))


@op(elementwise=True)
def asin(x):
    """The angle in [-pi/2, pi/2] whose sine is x, elementwise."""
    return xp(x).arcsin(floating(x))


asin.gradient(x=lambda g, x: g * rsqrt(1.0 - x * x))


@op(elementwise=True)
def acos(x):
    """The angle in [0, pi] whose cosine is x, elementwise."""
    return xp(x).arccos(floating(x))


acos.gradient(x=lambda g, x: -g * rsqrt(1.0 - x * x))


@op(elementwise=True)
def atan(x):
    """The angle in [-pi/2, pi/2] whose tangent is x, elementwise."""
    return xp(x).arctan(floating(x))


atan.gradient(x=lambda g, x: g / (1.0 + x * x))


@op(promotes=True)
def atan2(a, b):
    """The angle in [-pi, pi] of the point whose height is a and whose width is b, elementwise: atan(a / b) and more."""
    lib = xp(a)
    return lib.arctan2(floating(a), floating(b))


atan2.gradient(a=lambda g, a, b: g * (b / _squares(a, b)), b=lambda g, a, b: g * (-a / _squares(a, b)))


def _squares(a, b):
    """a**2 + b**2, and 1 at the origin, where the angle has no direction to grow in: there the gradient is 0."""
    y = a * a + b * b
    return y + (y == 0)


# The hyperbolic functions and their inverses


@op(elementwise=True)
def sinh(x):
    """(e**x - e**-x) / 2, elementwise."""
    return xp(x).sinh(floating(x))


sinh.gradient(x=lambda g, x: g * cosh(x))


@op(elementwise=True)
def cosh(x):
    """(e**x + e**-x) / 2, elementwise."""
    return xp(x).cosh(floating(x))


cosh.gradient(x=lambda g, x: g * sinh(x))


@op(elementwise=True)
def tanh(x):
    """The hyperbolic tangent, elementwise."""
    x = floating(x)
    return xp(x).tanh(x) if (kernel := _for_large(x)) is None else kernel("tanh", x)


tanh.gradient(x=lambda g, y: _in_one_pass("tanh", g, y, lambda g, y: g * (1.0 - y * y)))


@op(elementwise=True)
def asinh(x):
    """The x whose sinh is given, elementwise."""
    return xp(x).arcsinh(floating(x))


asinh.gradient(x=lambda g, x: g * rsqrt(x * x + 1.0))


@op(elementwise=True)
def acosh(x):
    """The x >= 0 whose cosh is given, elementwise."""
    return xp(x).arccosh(floating(x))


acosh.gradient(x=lambda g, x: g * rsqrt((x - 1.0) * (x + 1.0)))


@op(elementwise=True)
def atanh(x):
    """The x whose tanh is given, elementwise."""
    return xp(x).arctanh(floating(x))


atanh.gradient(x=lambda g, x: g / (1.0 - x * x))


@op(elementwise=True)
def sigmoid(x):
    """1 / (1 + e**-x), elementwise. Where e**-x overflows the answer is 0, as it should be."""
    x = floating(x)
    return 1.0 / (1.0 + xp(x).exp(-x)) if (kernel := _for_large(x)) is None else kernel("sigmoid", x)


sigmoid.gradient(x=lambda g, y: _in_one_pass("sigmoid", g, y, lambda g, y: g * (y * (1.0 - y))))
