"""Philox4x32-10 and Box-Muller, one block of four numbers at a time: the very bits of `minigen/random.py`, faster.

Floor: a block is 20 multiplications of 32 x 32 bits; 4 bytes written a number.

Fast because a block depends on its number alone: LLVM computes 16 blocks side by side, and threads take
chunks of them. The array code in minigen/random.py makes some 150 passes over memory for the same numbers.

Measured on one core (CPU time, AMD EPYC with AVX-512; PyTorch 2.13 on one core in brackets):
nanoseconds a number: 0.39 a word (3.0; NumPy's PCG64 1.3), 0.68 a normal one (2.4; NumPy 7.8).
"""

import numpy as np
from numba import prange

from .compile import choose, inline, kernel
from .vector_math import bits_to_float, float_to_bits, select

F, U32, U64 = np.float32, np.uint32, np.uint64
M0, M1, W0, W1 = U64(0xD2511F53), U64(0xCD9E8D57), U32(0x9E3779B9), U32(0xBB67AE85)
UNIT, HALF_UNIT = F(2.0**-32), F(2.0**-33)
TURN, EIGHTH = F(np.pi / 2 * 2.0**-30), F(np.pi / 4)
CHUNK = 512  # blocks that one task draws
SERIAL = 16384  # numbers up to which threads do not pay


@inline
def one_round(k0, k1, c0, c1, c2, c3):
    p0, p1 = U64(c0) * M0, U64(c2) * M1
    return U32(U32(U32(p1 >> U64(32)) ^ c1) ^ k0), U32(p1), U32(U32(U32(p0 >> U64(32)) ^ c3) ^ k1), U32(p0)


@inline
def two_rounds(k0, k1, c0, c1, c2, c3):
    c0, c1, c2, c3 = one_round(k0, k1, c0, c1, c2, c3)
    return one_round(U32(k0 + W0), U32(k1 + W1), c0, c1, c2, c3)


@inline
def philox(k0, k1, c0, c1, c2, c3):
    """The four words of the block with counter (c0, c1, c2, c3) under the key (k0, k1): ten rounds, written
    out, since a loop inside the loop over blocks would keep that one from being vectorised.
    """
    c0, c1, c2, c3 = two_rounds(k0, k1, c0, c1, c2, c3)
    c0, c1, c2, c3 = two_rounds(U32(k0 + U32(2) * W0), U32(k1 + U32(2) * W1), c0, c1, c2, c3)
    c0, c1, c2, c3 = two_rounds(U32(k0 + U32(4) * W0), U32(k1 + U32(4) * W1), c0, c1, c2, c3)
    c0, c1, c2, c3 = two_rounds(U32(k0 + U32(6) * W0), U32(k1 + U32(6) * W1), c0, c1, c2, c3)
    return two_rounds(U32(k0 + U32(8) * W0), U32(k1 + U32(8) * W1), c0, c1, c2, c3)


@inline
def block(seed, stream, number):
    """Block `number` of a stream: the counter's low half is the number, its high half the stream."""
    return philox(
        U32(seed), U32(seed >> U64(32)), U32(number), U32(number >> U64(32)), U32(stream), U32(stream >> U64(32))
    )


@inline
def log_unit(word):
    """log of (word + 1/2) / 2**32; the polynomial of minigen/random.py, rounding by rounding."""
    u = F(word) * UNIT + HALF_UNIT
    bits = np.int32(float_to_bits(u) - np.int32(0x3F3504F3))
    e = F(np.int32(bits >> np.int32(23)))
    f = bits_to_float(np.int32(np.int32(bits & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3))) - F(1)
    z = f * f
    p = f * F(7.0376836292e-2) + F(-1.1514610310e-1)
    p = p * f + F(1.1676998740e-1)
    p = p * f + F(-1.2420140846e-1)
    p = p * f + F(1.4249322787e-1)
    p = p * f + F(-1.6668057665e-1)
    p = p * f + F(2.0000714765e-1)
    p = p * f + F(-2.4999993993e-1)
    p = p * f + F(3.3333331174e-1)
    p = p * f
    p = p * z + e * F(-2.12194440e-4)
    p = p - z * F(0.5)
    return (f + p) + e * F(0.693359375)


@inline
def box_muller(w0, w1):
    """Two words to two standard normal numbers."""
    radius = F(np.sqrt(log_unit(w0) * F(-2)))
    quadrant, rest = U32(w1 >> U32(30)), U32(w1 & U32(0x3FFFFFFF))
    a = F(rest) * TURN - EIGHTH
    z = a * a
    sine = z * F(-1.9515295891e-4) + F(8.3321608736e-3)
    sine = sine * z + F(-1.6666654611e-1)
    sine = sine * z
    sine = sine * a + a
    cosine = z * F(2.443315711809948e-5) + F(-1.388731625493765e-3)
    cosine = cosine * z + F(4.166664568298827e-2)
    cosine = cosine * z
    cosine = cosine * z - z * F(0.5)
    cosine = cosine + F(1)
    odd = U32(quadrant & U32(1)) != U32(0)
    first, second = select(odd, sine, cosine), select(odd, cosine, sine)
    first = select(U32(U32(quadrant + U32(1)) & U32(2)) != U32(0), -first, first)
    second = select(U32(quadrant & U32(2)) != U32(0), -second, second)
    return radius * first, radius * second


@inline
def interleave(columns, out):
    """out[i, j] = columns[j, i]. (Written straight into `out`, four apart, the numbers would not be vectorised.)"""
    for i in range(out.shape[0]):
        out[i, 0] = columns[0, i]
        out[i, 1] = columns[1, i]
        out[i, 2] = columns[2, i]
        out[i, 3] = columns[3, i]


@kernel(exact=True)
def fill_bits(seed, stream, first, out):
    """out (blocks, 4) uint32."""
    n = out.shape[0]
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        part = out[start : min(n, start + CHUNK)]
        columns = np.empty((4, CHUNK), np.uint32)
        for i in range(part.shape[0]):
            w0, w1, w2, w3 = block(seed, stream, U64(first + U64(start + i)))
            columns[0, i] = w0
            columns[1, i] = w1
            columns[2, i] = w2
            columns[3, i] = w3
        interleave(columns, part)


@kernel(exact=True)
def fill_normal(seed, stream, first, out):
    """out (blocks, 4) float32."""
    n = out.shape[0]
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        part = out[start : min(n, start + CHUNK)]
        columns = np.empty((4, CHUNK), np.float32)
        for i in range(part.shape[0]):
            w0, w1, w2, w3 = block(seed, stream, U64(first + U64(start + i)))
            z0, z1 = box_muller(w0, w1)
            z2, z3 = box_muller(w2, w3)
            columns[0, i] = z0
            columns[1, i] = z1
            columns[2, i] = z2
            columns[3, i] = z3
        interleave(columns, part)


def bits(seed, stream, first, n):
    """n words from block `first` on: (n,) uint32."""
    out = np.empty((-(-n // 4), 4), np.uint32)
    choose(fill_bits, n, SERIAL)(U64(seed), U64(stream), U64(first), out)
    return out.reshape(-1)[:n]


def normal(seed, stream, first, n):
    """n standard normal numbers from block `first` on: (n,) float32."""
    out = np.empty((-(-n // 4), 4), F)
    choose(fill_normal, n, SERIAL)(U64(seed), U64(stream), U64(first), out)
    return out.reshape(-1)[:n]
