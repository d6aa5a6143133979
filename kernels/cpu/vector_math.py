"""exp, log, tanh, erf and their kin on float32 scalars, in arithmetic that the compiler vectorises.

`math.exp` inside a loop is one call an element. These are straight lines of multiplications and selects,
without a branch, a table or a conversion, so LLVM turns a loop over them into 16 elements an instruction.
Each is an `@inline` helper for kernels:

    exp  expm1  log  log1p  log1p_of_unit  sigmoid  softplus  tanh  erf      and of a row:  largest

All are right in the limit: exp(-inf) = 0, exp(inf) = inf, log(0) = -inf, log(-1) = nan, tanh(inf) = 1, NaN gives NaN.
Their relative errors over the whole range are in `tests/kernels/test_vector_math.py`; all are below 1e-6.

exp and log follow Cephes (Moshier 1989, expf.c and logf.c), erf the rational approximation of Eigen (MPL 2.0,
MathFunctionsImpl.h).
"""

import platform

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic

from .compile import inline, inline_sums

F = np.float32

LOG2_E = F(1.44269504088896341)
LN2_HIGH, LN2_LOW = F(0.693359375), F(-2.12194440e-4)  # n * LN2_HIGH is exact for the n that occur
ROUND = F(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer, which then stands in the low bits
ROUND_BITS = np.int32(0x4B400000)
INF, NAN = F(np.inf), F(np.nan)
# Without the instruction LLVM would call a function for each element.
FUSES = platform.machine().lower() in ("aarch64", "arm64") or bool(get_host_cpu_features().get("fma"))


@intrinsic
def bits_to_float(typing_context, bits):
    """The float32 that has these 32 bits."""

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), code


@intrinsic
def float_to_bits(typing_context, x):
    """The 32 bits of a float32, as a signed integer."""

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), code


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once on a processor that can. Written out where it is meant: left to the compiler, a loop over
    vectors and the loop over the rest of a row may fuse different products, and an element's bits depend on its place.
    """

    def code(context, builder, signature, arguments):
        a, b, c = arguments
        return builder.fma(a, b, c) if FUSES else builder.fadd(builder.fmul(a, b), c)

    return types.float32(types.float32, types.float32, types.float32), code


@intrinsic
def select(typing_context, condition, yes, no):
    """`yes if condition else no` as one instruction: what Python's own form compiles to, a branch, stops
    vectorisation.
    """

    def code(context, builder, signature, arguments):
        return builder.select(*arguments)

    return types.float32(types.boolean, types.float32, types.float32), code


@inline
def power_of_two(n):
    """2**n for an integer n from -126 to 127; inf for 128."""
    return bits_to_float(np.int32((n + np.int32(127)) << np.int32(23)))


@inline
def clip(x, low, high):
    """x held between low and high; NaN stays NaN (each comparison is false and keeps x)."""
    x = select(x < low, low, x)
    return select(x > high, high, x)


@inline
def reduce_exp(x):
    """(n, e**r - 1) with x = n log 2 + r and |r| <= log(2) / 2."""
    shifted = fma(x, LOG2_E, ROUND)
    n = shifted - ROUND
    r = fma(-n, LN2_HIGH, x)
    r = fma(-n, LN2_LOW, r)
    p = fma(F(1.9875691500e-4), r, F(1.3981999507e-3))
    p = fma(p, r, F(8.3334519073e-3))
    p = fma(p, r, F(4.1665795894e-2))
    p = fma(p, r, F(1.6666665459e-1))
    p = fma(p, r, F(5.0000001201e-1))
    return np.int32(float_to_bits(shifted) - ROUND_BITS), fma(p, r * r, r)


@inline
def exp(x):
    """e**x. Scaling by 2**n in two halves reaches the denormals below and overflows to inf above."""
    n, p = reduce_exp(clip(x, F(-104.0), F(89.0)))
    half = np.int32(n >> np.int32(1))
    return (p + F(1)) * power_of_two(half) * power_of_two(np.int32(n - half))


@inline
def expm1(x):
    """e**x - 1, exact in relative terms near 0 too: 2**n (e**r - 1) + (2**n - 1)."""
    n, p = reduce_exp(clip(x, F(-18.0), F(89.0)))
    scale = power_of_two(np.int32(n - np.int32(1)))  # half of 2**n, which might overflow
    return F(2) * fma(scale, p, scale - F(0.5))


@inline
def log(x):
    """The natural logarithm: x = 2**e m with m between sqrt(1/2) and sqrt(2), and a polynomial in m - 1."""
    tiny = x < F(1.17549435e-38)
    scaled = select(tiny, x * F(8388608.0), x)  # a denormal, times 2**23
    bits = np.int32(float_to_bits(scaled) - np.int32(0x3F3504F3))
    e = F(np.int32(bits >> np.int32(23))) - select(tiny, F(23), F(0))
    f = bits_to_float(np.int32((bits & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3))) - F(1)
    z = f * f
    p = fma(F(7.0376836292e-2), f, F(-1.1514610310e-1))
    p = fma(p, f, F(1.1676998740e-1))
    p = fma(p, f, F(-1.2420140846e-1))
    p = fma(p, f, F(1.4249322787e-1))
    p = fma(p, f, F(-1.6668057665e-1))
    p = fma(p, f, F(2.0000714765e-1))
    p = fma(p, f, F(-2.4999993993e-1))
    p = fma(p, f, F(3.3333331174e-1))
    y = fma(p * f, z, LN2_LOW * e)
    y = fma(LN2_HIGH, e, f + fma(F(-0.5), z, y))
    y = select(x == INF, x, y)
    y = select(x == F(0), -INF, y)
    return select(x >= F(0), y, NAN)


@inline
def log1p(x):
    """log(1 + x). What 1 + x loses in rounding is put back by the factor x / ((1 + x) - 1) (Kahan)."""
    u = F(1) + x
    y = log(u) * (x / (u - F(1)))
    y = select(u == F(1), x, y)
    return select(u == INF, u, y)


@inline
def log1p_of_unit(x):
    """log(1 + x) for x from 0 to 1, where losses need it: 2 artanh(x / (2 + x)) by its series, whose terms shrink by
    9.
    """
    s = x / (F(2) + x)
    z = s * s
    p = fma(F(2 / 13), z, F(2 / 11))
    p = fma(p, z, F(2 / 9))
    p = fma(p, z, F(2 / 7))
    p = fma(p, z, F(2 / 5))
    p = fma(p, z, F(2 / 3))
    p = fma(p, z, F(2))
    return s * p


@inline
def one_and_exp(x):
    """1 + e**x: what is smaller than e**-87 does not matter to it, and it is inf from 88.4 on, so one scaling does."""
    n, p = reduce_exp(clip(x, F(-87.0), F(89.0)))
    return F(1) + (p + F(1)) * power_of_two(n)


@inline
def sigmoid(x):
    """1 / (1 + e**-x)."""
    return F(1) / one_and_exp(-x)


@inline
def softplus(x):
    """log(1 + e**x) = max(x, 0) + log(1 + e**-|x|)."""
    return select(x < F(0), F(0), x) + log1p_of_unit(exp(-abs(x)))


@inline
def tanh(x):
    """(e**2x - 1) / (e**2x + 1), by expm1, so that a small x keeps its digits."""
    e = expm1(F(2) * clip(x, F(-10.0), F(10.0)))
    return e / (e + F(2))


@inline
def erf(x):
    """The error function, an odd rational function of x held to [-4, 4], where it is 1 to the last place."""
    x = clip(x, F(-4.0), F(4.0))
    z = x * x
    p = fma(F(-2.72614225801306e-10), z, F(2.77068142495902e-08))
    p = fma(p, z, F(-2.10102402082508e-06))
    p = fma(p, z, F(-5.69250639462346e-05))
    p = fma(p, z, F(-7.34990630326855e-04))
    p = fma(p, z, F(-2.95459980854025e-03))
    p = fma(p, z, F(-1.60960333262415e-02))
    q = fma(F(-1.45660718464996e-05), z, F(-2.13374055278905e-04))
    q = fma(q, z, F(-1.68282697438203e-03))
    q = fma(q, z, F(-7.37332916720468e-03))
    q = fma(q, z, F(-1.42647390514189e-02))
    return clip(x * (p / q), F(-1), F(1))


@inline
def in_order(bits):
    """The bits of a float32 as an integer that grows with it, and back: the negative ones are turned round."""
    return np.int32(bits ^ (np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inline_sums
def largest(row):
    """The largest element of a row that is not empty; NaN if it holds one. Compared as integers, which
    vectorises where floating-point comparison, because of NaN, does not.
    """
    most = np.int32(-0x7FFFFFFF)
    for j in range(row.size):
        most = max(most, in_order(float_to_bits(row[j])))
    return bits_to_float(in_order(most))
