"""Special functions: erf and erfc, logit, logaddexp, xlogy.

NumPy has no error function, so it stands here: rational approximations, good to the last digits of float64.
"""

import math

import numpy as np

from ..autograd import op
from ..device import FLOATS, xp
from ..tensor import float32, value
from .arithmetic import _where, clamp
from .casting import cast
from .comparison import isinf
from .elementary import exp, log, log1p, sigmoid
from .operands import floating, floating_pair

# Cody 1969, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 631-637. The coefficients of
# two polynomials, highest power first.
CENTRE = (  # erf(x) = x P(x^2) / Q(x^2), |x| <= 15/32
    [1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3],
    [1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3],
)  # fmt: skip
FLANK = (  # erfc(x) = exp(-x^2) P(x) / Q(x), 15/32 < x <= 4
    [2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3],
    [1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3],
)  # fmt: skip
TAIL = (  # erfc(x) = exp(-x^2) / x (1 / sqrt(pi) - s P(s) / Q(s)), s = 1 / x^2, x > 4
    [1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4],
    [1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3],
)  # fmt: skip


def _ratio(x, polynomials):
    """P(x) / Q(x), by Horner's rule."""
    above, below = polynomials
    p, q = above[0] * x, below[0] * x
    for a, b in zip(above[1:-1], below[1:-1]):
        p, q = (p + a) * x, (q + b) * x
    return (p + above[-1]) / (q + below[-1])


def _erfc_positive(x):
    """erfc of an array of numbers above 15/32."""
    x = np.minimum(x, 28.0)  # from there it underflows
    y = np.empty_like(x)
    flank = x <= 4.0
    y[flank] = _ratio(x[flank], FLANK)
    tail = x[~flank]
    s = 1.0 / (tail * tail)
    y[~flank] = (1 / math.sqrt(math.pi) - s * _ratio(s, TAIL)) / tail
    # exp(-x^2) in two factors: the square of `coarse` is exact, so that no digit of x^2 is lost before the exponential
    coarse = np.trunc(x * 16.0) / 16.0
    return np.exp(-coarse * coarse) * np.exp((coarse - x) * (coarse + x)) * y


def _error_function(x, complement):
    """erf(x), or 1 - erf(x) if `complement`, of a NumPy array: each region by its own approximation."""
    x = floating(x)
    if x.itemsize == 2:  # in which the approximations would overflow
        return _error_function(x.astype(np.float32), complement).astype(x.dtype)
    if x.ndim == 0:
        return _error_function(x.reshape(1), complement).reshape(())
    size = np.abs(x)
    y = x.copy(order="K")  # what is NaN stays NaN
    centre, outside = size <= 15 / 32, size > 15 / 32
    near = x[centre]
    near = near * _ratio(near * near, CENTRE)
    y[centre] = 1.0 - near if complement else near
    sign, far = np.sign(x[outside]), _erfc_positive(size[outside])
    y[outside] = (1.0 - sign) + sign * far if complement else sign * (1.0 - far)
    return y


def _in_type(function, x):
    """function(x) in the type of x: CuPy's special functions answer float16 in float64."""
    return function(x).astype(x.dtype, copy=False)


@op(elementwise=True)
def erf(x):
    """The integral of 2 / sqrt(pi) e^(-t^2) over t from 0 to x, elementwise."""
    if xp(x) is np:
        return _error_function(x, complement=False)
    from cupyx.scipy.special import erf as on_gpu

    return _in_type(on_gpu, floating(x))


erf.gradient(x=lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-x * x)))


@op(elementwise=True)
def erfc(x):
    """1 - erf(x), elementwise, with all its digits where erf is nearly 1."""
    if xp(x) is np:
        return _error_function(x, complement=True)
    from cupyx.scipy.special import erfc as on_gpu

    return _in_type(on_gpu, floating(x))


erfc.gradient(x=lambda g, x: g * (-2 / math.sqrt(math.pi) * exp(-x * x)))


def logit(x, eps=None):
    """log(x / (1 - x)), elementwise, the inverse of sigmoid; `eps` keeps x between eps and 1 - eps."""
    x = x if x.dtype.kind in FLOATS else cast(x, float32)
    x = x if eps is None else clamp(x, eps, 1.0 - eps)
    return log(x) - log1p(-x)


@op(promotes=True)
def logaddexp(a, b):
    """log(exp(a) + exp(b)), elementwise, without overflow."""
    a, b = floating_pair(a, b)
    return xp(a).logaddexp(a, b)


logaddexp.gradient(
    a=lambda g, a, b: g * sigmoid(_difference(a, b)),
    b=lambda g, a, b: g * sigmoid(_difference(b, a)),
)


def _difference(a, b):
    """a - b, with 0 for two equal infinities."""
    return _where(0.0, a - b, (a == b) & isinf(a))


@op(promotes=True)
def _xlogy(a, b):
    a, b = floating_pair(a, b)
    lib = xp(a)
    zero = (a == 0) & (b == b)
    return lib.where(zero, 0, a * lib.log(lib.where(zero, 1, b)))


_xlogy.gradient(
    a=lambda g, a, b: g * log(_where(b, 1.0, (a != 0) | (b > 0))),
    b=lambda g, a, b: g * (a / b),
)


def xlogy(a, b):
    """a * log(b), elementwise, and 0 where a is 0: p log p of a probability, without a NaN at 0."""
    if not hasattr(b, "dtype"):
        b = xp(value(a)).full((), b, a.dtype if a.dtype.kind in FLOATS else float32)
    return _xlogy(a, b)
