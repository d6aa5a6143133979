"""Random numbers from a counter: the same seed gives the same numbers on the CPU and the GPU, on one thread or many.

    g = Generator(7)
    g.normal((2, 3)), g.uniform(5), g.integers(0, 10, (4,)), g.permutation(52)      # plain arrays
    g.fork("dropout")                    # another stream, independent of this one and of how far it has
    been drawn
    state = g.get_state(); g.set_state(state)                                       # three numbers: JSON
    will do

A counter-based generator is a function: block number -> four random 32-bit words. Nothing is carried from one number
to the next, so any block can be computed anywhere, by any thread, in any order. The function is Philox4x32-10
(Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), as in cuRAND, JAX and TensorFlow.
The seed is its key; the 128-bit counter holds the block number (64 bits) and the stream (64 bits).

Everything is written once, as array code that NumPy and CuPy both run. On the CPU a kernel does the same
arithmetic faster, bit for bit. So that the bits agree, log, sin and cos are short polynomials here, of
additions and multiplications only, which every machine rounds alike; calls into math libraries would differ
in the last place. (float64 normals do call the library: there CPU and GPU may differ by a last place.)
"""

import hashlib
import math
import operator
import threading

import numpy as np

from . import device as devices
from . import kernels
from .device import device_of, library, xp
from .errors import ArgumentError, DtypeError, ShapeError, expect

F = np.float32
U = np.uint64
WORD = U(0xFFFFFFFF)
MULTIPLIERS = U(0xD2511F53), U(0xCD9E8D57)  # of the 32-bit words, from the paper's table 2
KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # added to the key each round: the golden ratio and sqrt(3) - 1
ROUNDS = 10
drawn = None  # called before anything is drawn, by who must know: a capture


class Generator:
    """A stream of random numbers. Every method draws the next ones and returns a plain array on `device`.

    seed: any integer, taken modulo 2**64. `shape`: an integer or a tuple.
    """

    def __init__(self, seed=0):
        self.seed = _integer(seed, "seed") % 2**64
        self.stream, self.counter = 0, 0  # `counter`: the next block
        self._lock = threading.Lock()

    def __repr__(self):
        return f"Generator(seed={self.seed}, stream={self.stream}, counter={self.counter})"

    def __getstate__(self):  # a lock can be neither copied nor pickled
        return self.get_state()

    def __setstate__(self, state):
        self.__init__()
        self.set_state(state)

    def manual_seed(self, seed):
        """Start again from `seed`. Returns self."""
        self.seed, self.stream, self.counter = _integer(seed, "seed") % 2**64, 0, 0
        return self

    def get_state(self):
        """Where the stream stands: {"seed", "stream", "counter"}, three integers."""
        return {"seed": self.seed, "stream": self.stream, "counter": self.counter}

    def set_state(self, state):
        """Go to a state that `get_state` gave. Returns self."""
        wanted = {"seed", "stream", "counter"}
        expect(
            isinstance(state, dict) and set(state) == wanted,
            'Generator.set_state: a state is a dict of "seed", "stream" and "counter"',
            state,
            error=ArgumentError,
        )
        if drawn is not None:
            drawn()
        self.seed, self.stream, self.counter = (
            _integer(state[name], name) % 2**64 for name in ("seed", "stream", "counter")
        )
        return self

    def fork(self, name):
        """A generator of the same seed on a stream of its own, named by a string or an integer.

        The same name gives the same stream, however much has been drawn here; two names share no block.
        """
        expect(
            isinstance(name, (str, int)), "Generator.fork: the name is a string or an integer", name, error=DtypeError
        )
        child = Generator(self.seed)
        text = f"{self.stream}/{type(name).__name__}/{name}"
        child.stream = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        return child

    def reserve(self, words):
        """Take enough blocks for so many 32-bit words. Returns (seed, stream, first block), for kernels that draw.

        In a step that is captured on the GPU the first block is a pair: so many after the number in a device array.
        """
        if drawn is not None:
            drawn()
        with self._lock:
            first = self.counter
            self.counter = (first + -(-words // 4)) % 2**64
        if devices.capturing is not None:
            first = devices.capturing.place(self, first)
        return self.seed, self.stream, first

    def bits(self, n, device="cpu"):
        """n random 32-bit words: (n,) uint32."""
        n = _size(n)[0]
        place = self.reserve(n)
        kernel = _kernel(device, n)
        return philox(*place, n, library(device)) if kernel is None else kernel.bits(*place, n)

    def uniform(self, shape=(), low=0.0, high=1.0, dtype=np.float32, device="cpu"):
        """Uniform on [low, high), of 24 random bits in float32 and 53 in float64."""
        expect(low <= high, "uniform: low must not exceed high", low, high, error=ArgumentError)
        n, shape = _size(shape)
        if _float(dtype, "uniform") == np.float64:
            w = self.bits(2 * n, device).reshape(-1, 2).astype(np.float64)
            u = (_floor(w[:, 0] / 32) * 2.0**26 + _floor(w[:, 1] / 64)) * 2.0**-53
        else:
            u = (self.bits(n, device) >> np.uint32(8)).astype(F) * F(2.0**-24)
        if (low, high) != (0.0, 1.0):
            real = u.dtype.type
            u = u * real(high - low) + real(low)
            if low < high:  # the sum may round up to `high`
                u = xp(u).minimum(u, np.nextafter(real(high), real(low)))
        return u.reshape(shape)

    def normal(self, shape=(), dtype=np.float32, device="cpu"):
        """Standard normal, by Box & Muller (1958): two uniform numbers are the radius and the angle of two
        normal ones.
        """
        n, shape = _size(shape)
        pairs = -(-n // 2)
        if _float(dtype, "normal") == np.float64:
            u = self.uniform((2 * pairs,), dtype=np.float64, device=device).reshape(-1, 2)
            lib = xp(u)
            radius, angle = lib.sqrt(-2 * lib.log1p(-u[:, 0])), 2 * math.pi * u[:, 1]
            z = lib.stack([radius * lib.cos(angle), radius * lib.sin(angle)], axis=1)
        elif (kernel := _kernel(device, 2 * pairs)) is not None:
            return kernel.normal(*self.reserve(2 * pairs), n).reshape(shape)
        else:
            z = box_muller(self.bits(2 * pairs, device).reshape(-1, 2))
        return z.reshape(-1)[:n].reshape(shape)

    def integers(self, low, high, shape=(), device="cpu"):
        """Integers from low to high - 1, each as likely as the others: int64."""
        low, high = _integer(low, "low"), _integer(high, "high")
        expect(low < high, "integers: low must be below high (which is exclusive)", low, high, error=ArgumentError)
        n, shape = _size(shape)
        span = high - low
        if span <= 2**32:  # 128 random bits modulo the span: uneven by less than 2**-96, and no number is drawn twice
            w = self.bits(4 * n, device).reshape(-1, 4).astype(U)
            base, rest = U(2**32 % span), w[:, 0] % U(span)
            for column in range(1, 4):
                rest = (rest * base + w[:, column]) % U(span)
        else:  # 64 random bits, drawn again where they fall into the last, incomplete span
            limit = 2**64 - 2**64 % span
            rest = self._words64(n, device)
            while limit < 2**64 and (again := rest >= U(limit)).any():
                rest[again] = self._words64(int(again.sum()), device)
            rest = rest % U(span) if span < 2**64 else rest
        return (rest + U(low % 2**64)).astype(np.int64).reshape(shape)

    def permutation(self, n, device="cpu"):
        """The numbers 0 to n - 1 in random order: int64. Each has a random 64-bit key, and the keys are sorted."""
        n = _size(n)[0]
        keys = self._words64(n, device)
        return xp(keys).argsort(keys, kind="stable").astype(np.int64)

    def categorical(self, probabilities, shape=()):
        """Indices drawn with the given probabilities (..., K), which need not sum to one: int64, shape + (...)."""
        lib = xp(probabilities)
        p = lib.asarray(probabilities).astype(np.float64)
        expect(p.ndim > 0 and p.shape[-1] > 0, "categorical: probabilities must be (..., K) with K > 0", p)
        expect(
            bool((p >= 0).all() and lib.isfinite(p).all() and (p.sum(-1) > 0).all()),
            "categorical: probabilities must be finite, not negative, and not all zero",
            p,
            error=ArgumentError,
        )
        _, shape = _size(shape)
        cumulative = lib.cumsum(p, axis=-1)
        u = self.uniform(shape + p.shape[:-1], dtype=np.float64, device=device_of(p)) * cumulative[..., -1]
        u = lib.minimum(u, lib.nextafter(cumulative[..., -1], 0 * cumulative[..., -1]))
        if p.ndim == 1:
            return lib.searchsorted(cumulative, u.reshape(-1), side="right").reshape(u.shape).astype(np.int64)
        return (cumulative <= u[..., None]).sum(-1).astype(np.int64)

    def bernoulli(self, p, shape=None, device="cpu"):
        """True with probability p, a number or an array; `shape` defaults to p's."""
        alone = isinstance(p, (int, float))  # it stays on the host, for a captured step's sake
        p = np.asarray(p, np.float64) if alone else library(device).asarray(p, dtype=np.float64)
        expect(bool(((p >= 0) & (p <= 1)).all()), "bernoulli: p must lie in [0, 1]", p, error=ArgumentError)
        n, shape = _size(p.shape if shape is None else shape)
        fits = p.ndim <= len(shape) and all(a in (1, b) for a, b in zip(p.shape[::-1], shape[::-1]))
        expect(fits, f"bernoulli: p does not broadcast to {shape}", p)
        return self.bits(n, device).reshape(shape) < (p.item() if alone else p) * 2.0**32

    def exponential(self, shape=(), device="cpu"):
        """Exponentially distributed with mean 1: minus the logarithm of a uniform number."""
        n, shape = _size(shape)
        return (-log(_unit(self.bits(n, device)))).reshape(shape)

    def _words64(self, n, device):
        w = self.bits(2 * n, device).astype(U).reshape(-1, 2)
        return w[:, 0] | (w[:, 1] << U(32))


# ----------------------------------------------------------------------------------------------------------


def philox(seed, stream, first, n, lib=np):
    """The n words of the blocks from `first` on, by Philox4x32-10: (n,) uint32.

    A round multiplies two of the counter's four words by constants and mixes the products' upper halves
    with the others and the key; a block is ten rounds.
    """
    offset, place = first if type(first) is tuple else (first, None)
    blocks = lib.arange(-(-n // 4), dtype=U) + U(offset)
    blocks = blocks if place is None else blocks + place
    c0, c1 = blocks & WORD, blocks >> U(32)
    c2, c3 = lib.full_like(blocks, stream & 0xFFFFFFFF), lib.full_like(blocks, stream >> 32)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # 32 x 32 -> 64 bits
        c0, c1, c2, c3 = (p1 >> U(32)) ^ c1 ^ U(k0), p1 & WORD, (p0 >> U(32)) ^ c3 ^ U(k1), p0 & WORD
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return lib.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)[:n]


# Each line below is one rounding, in the same order as in kernels/cpu/random.py.


def _unit(words):
    """Words to float32 in (0, 1]; the least is 2**-33."""
    return words.astype(F) * F(2.0**-32) + F(2.0**-33)


def log(u):
    """The natural logarithm of float32 numbers in (0, 1] that are not denormal, after Cephes' logf.c."""
    bits = u.view(np.int32) - np.int32(0x3F3504F3)
    e = (bits >> np.int32(23)).astype(F)
    f = ((bits & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)).view(F) - F(1)
    z = f * f
    p = f * F(7.0376836292e-2) + F(-1.1514610310e-1)
    for coefficient in LOG:
        p = p * f + coefficient
    p = p * f
    p = p * z + e * F(-2.12194440e-4)
    p = p - z * F(0.5)
    return (f + p) + e * F(0.693359375)


def box_muller(words):
    """Pairs of words (n, 2) to pairs of standard normal numbers (n, 2).

    The second word's upper two bits choose the quadrant, the others the angle in it, from -pi/4 to pi/4.
    """
    lib = xp(words)
    radius = lib.sqrt(log(_unit(words[:, 0])) * F(-2))
    quadrant, rest = words[:, 1] >> np.uint32(30), words[:, 1] & np.uint32(0x3FFFFFFF)
    a = rest.astype(F) * F(math.pi / 2 * 2.0**-30) - F(math.pi / 4)
    z = a * a
    sine = z * SIN[0] + SIN[1]
    sine = sine * z + SIN[2]
    sine = sine * z
    sine = sine * a + a
    cosine = z * COS[0] + COS[1]
    cosine = cosine * z + COS[2]
    cosine = cosine * z
    cosine = cosine * z - z * F(0.5)
    cosine = cosine + F(1)
    odd = (quadrant & np.uint32(1)).astype(bool)
    first, second = lib.where(odd, sine, cosine), lib.where(odd, cosine, sine)
    first = lib.where((quadrant + np.uint32(1)) & np.uint32(2) != 0, -first, first)
    second = lib.where(quadrant & np.uint32(2) != 0, -second, second)
    return lib.stack([radius * first, radius * second], axis=1)


LOG = tuple(
    F(c)
    for c in (
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
SIN = F(-1.9515295891e-4), F(8.3321608736e-3), F(-1.6666654611e-1)
COS = F(2.443315711809948e-5), F(-1.388731625493765e-3), F(4.166664568298827e-2)


def _floor(x):
    return xp(x).floor(x)


_PROBE = np.empty(0, F)
_patience = 1_000_000  # numbers that the array code draws before it is worth a third of a second to load Numba for them


def _kernel(device, n):
    global _patience
    if devices.capturing is not None:
        devices.capturing.draws_on(device)
    if device != "cpu":
        return kernels.find(library(device).empty(0, F), "random")
    if _patience > 0:
        _patience -= n + 1000
        return None
    return kernels.find(_PROBE, "random")


def _integer(value, name):
    try:
        return operator.index(value)
    except TypeError:
        raise DtypeError(f"{name} must be an integer, not {value!r}") from None


def _size(shape):
    """(number of elements, shape as a tuple)."""
    try:
        shape = (operator.index(shape),) if not isinstance(shape, (tuple, list)) else tuple(map(operator.index, shape))
    except TypeError:
        raise DtypeError(f"a shape is an integer or a tuple of integers, not {shape!r}") from None
    expect(all(n >= 0 for n in shape), f"a shape has no negative dimensions, as {shape} has", error=ShapeError)
    return math.prod(shape), shape


def _float(dtype, name):
    dtype = np.dtype(dtype)
    expect(dtype in (np.float32, np.float64), f"{name}: draws float32 or float64, not {dtype}", error=DtypeError)
    return dtype


default_generator = Generator(0)


def manual_seed(seed):
    """Seed the generator that everything random uses when it is given none. Returns it."""
    return default_generator.manual_seed(seed)
