"""Philox against its published vectors; each distribution against its law; the same bits whichever code
draws them.
"""

import copy
import json
import math

import numpy as np
import pytest

from minigen import errors, kernels, random
from minigen.random import Generator, philox

N = 1 << 20


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Kernels from the first number on."""
    monkeypatch.setattr(random, "_patience", 0)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123's kat_vectors, philox4x32 10
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter, key, words):
    c, k = ([int(word, 16) for word in text.split()] for text in (counter, key))
    arguments = k[0] | k[1] << 32, c[2] | c[3] << 32, c[0] | c[1] << 32
    expected = [int(word, 16) for word in words.split()]
    assert philox(*arguments, 4).tolist() == expected
    kernel = kernels.find(np.empty(0, np.float32), "random")
    if kernel is not None:
        assert kernel.bits(*arguments, 4).tolist() == expected


DRAWS = {
    "bits": lambda g, n: g.bits(n),
    "uniform": lambda g, n: g.uniform(n, -2, 5),
    "uniform64": lambda g, n: g.uniform(n, dtype=np.float64),
    "normal": lambda g, n: g.normal(n),
    "normal64": lambda g, n: g.normal(n, dtype=np.float64),
    "integers": lambda g, n: g.integers(-3, 1000, n),
    "integers64": lambda g, n: g.integers(0, 3 << 61, n),
    "permutation": lambda g, n: g.permutation(n),
    "categorical": lambda g, n: g.categorical(np.array([0.2, 0.0, 0.5]), n),
    "bernoulli": lambda g, n: g.bernoulli(0.3, n),
    "exponential": lambda g, n: g.exponential(n),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("n", [0, 1, 5, 4095, 20001])
def test_kernels_on_and_off_draw_the_same_bits(name, n):
    on = DRAWS[name](Generator(9).fork("x"), n)
    with kernels.disabled():
        off = DRAWS[name](Generator(9).fork("x"), n)
    assert on.dtype == off.dtype and on.shape == off.shape == (n,)
    assert on.tobytes() == off.tobytes()


@pytest.mark.parametrize("name", DRAWS)
def test_draws_go_on_and_can_be_drawn_again(name):
    g = Generator(3)
    first = DRAWS[name](g, 100)
    state = json.loads(json.dumps(g.get_state()))
    second = DRAWS[name](g, 100)
    assert (first != second).any()
    assert (DRAWS[name](Generator().set_state(state), 100) == second).all()
    assert (DRAWS[name](Generator(3), 100) == first).all()


def test_streams_are_independent_of_each_other_and_of_what_was_drawn():
    g = Generator(5)
    before = g.fork("noise").bits(1000)
    g.bits(12345)
    assert (g.fork("noise").bits(1000) == before).all()
    others = [g, g.fork("data"), g.fork(1), g.fork("1"), g.fork("noise").fork("noise"), Generator(6).fork("noise")]
    for other in others:
        assert (other.bits(1000) == before).mean() < 0.01
        assert abs(np.corrcoef(other.uniform(N), g.fork("noise").uniform(N))[0, 1]) < 5 / math.sqrt(N)


def test_uniform():
    for dtype in (np.float32, np.float64):
        u = Generator(1).uniform((N,), dtype=dtype)
        assert u.dtype == dtype and u.min() >= 0 and u.max() < 1
        assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / N)
        counts = np.bincount((u * 256).astype(int), minlength=256)
        chi = ((counts - N / 256) ** 2 / (N / 256)).sum()
        assert abs(chi - 255) < 5 * math.sqrt(2 * 255)
    u = Generator(1).uniform((N,), 1000.0, 1000.001)
    assert u.max() < np.float32(1000.001) and u.min() >= np.float32(1000.0)
    assert (Generator(1).uniform(5, 2, 2) == 2).all()


def kolmogorov(sample, cdf):
    """The Kolmogorov-Smirnov statistic times sqrt(n): above 2.3 with probability 5e-5."""
    x = np.sort(sample.astype(np.float64))
    grid = np.arange(1, len(x) + 1) / len(x)
    return max((grid - cdf(x)).max(), (cdf(x) - grid + 1 / len(x)).max()) * math.sqrt(len(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal(dtype):
    z = Generator(2).normal((N,), dtype=dtype)
    assert z.dtype == dtype
    assert kolmogorov(z[: 1 << 16], np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))) < 2.3
    z = z.astype(np.float64)
    for power, moment, spread in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]:
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(spread / N), power
    tail = (np.abs(z) > 4).mean()
    assert abs(tail - 6.334e-5) < 5 * math.sqrt(6.334e-5 / N)
    pairs = z.reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 5 / math.sqrt(N / 2)
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 5 / math.sqrt(N / 2)


def test_normal_is_the_box_muller_of_its_words():
    words = Generator(4).bits(4096).reshape(-1, 2).astype(np.float64)
    radius = np.sqrt(-2 * np.log((words[:, 0] + 0.5) / 2**32))
    angle = words[:, 1] / 2**32 * 2 * math.pi - math.pi / 4
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    np.testing.assert_allclose(Generator(4).normal(4096), expected, rtol=2e-5, atol=1e-6)


def test_the_extreme_words_give_finite_numbers():
    words = np.array([[0, 0], [0, 2**32 - 1], [2**32 - 1, 0], [1, 2**31], [2**32 - 1, 2**30]], np.uint32)
    z = random.box_muller(words)
    assert np.isfinite(z).all() and abs(np.abs(z).max() - 4.78) < 0.01  # sqrt(-2 log 2**-33) / sqrt(2)


def test_exponential():
    x = Generator(3).exponential((N,))
    assert x.dtype == np.float32 and x.min() >= 0
    assert kolmogorov(x[: 1 << 16], lambda x: -np.expm1(-x)) < 2.3


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-3, 4), (0, 1), (5, 5 + 3 * 2**31), (-(2**63), 2**63)])
def test_integers(low, high):
    x = Generator(4).integers(low, high, (N,))
    assert x.dtype == np.int64 and x.min() >= low and x.max() <= high - 1
    thirds = np.searchsorted(np.array([low + (high - low) // 3, low + 2 * (high - low) // 3]), x, side="right")
    exact = np.diff([0, (high - low) // 3, 2 * (high - low) // 3, high - low]).astype(float) / (high - low)
    counts = np.bincount(thirds, minlength=3)
    assert (np.abs(counts - N * exact) <= 5 * np.sqrt(N * exact * (1 - exact)) + 1e-9).all()


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-7, 2**31), (0, 2**32)])
def test_integers_are_a_block_modulo_the_span(low, high):
    words = Generator(4).bits(4 * 50).reshape(-1, 4).tolist()
    blocks = [sum(word << (96 - 32 * i) for i, word in enumerate(row)) for row in words]
    assert Generator(4).integers(low, high, 50).tolist() == [low + block % (high - low) for block in blocks]


def test_integers_are_even_where_a_modulo_of_64_bits_would_not_be():
    x = Generator(4).integers(-(3 << 61), 3 << 61, N)
    low = (x < -(3 << 61) + (1 << 62)).mean()  # a plain 64-bit modulo would give 1/2 instead of 1/3
    assert abs(low - 1 / 3) < 5 * math.sqrt(2 / 9 / N)


def test_permutation():
    p = Generator(5).permutation(1000)
    assert (np.sort(p) == np.arange(1000)).all()
    g, trials = Generator(6), 24000
    counts = {}
    for _ in range(trials):
        key = tuple(g.permutation(4))
        counts[key] = counts.get(key, 0) + 1
    chi = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert len(counts) == 24 and abs(chi - 23) < 5 * math.sqrt(46)


def test_categorical():
    p = np.array([0.0, 0.1, 0.0, 0.6, 0.3, 0.0])
    counts = np.bincount(Generator(7).categorical(7 * p, (N,)), minlength=6)
    assert (counts[p == 0] == 0).all()
    assert (np.abs(counts - N * p) <= 5 * np.sqrt(N * p * (1 - p))).all()
    rows = Generator(7).categorical(np.stack([p, p[::-1]]), (3, 5))
    assert rows.shape == (3, 5, 2) and rows.dtype == np.int64
    assert set(rows[..., 0].ravel()) <= {1, 3, 4} and set(rows[..., 1].ravel()) <= {1, 2, 4}


def test_bernoulli():
    x = Generator(8).bernoulli(0.3, (N,))
    assert x.dtype == bool and abs(x.mean() - 0.3) < 5 * math.sqrt(0.21 / N)
    assert Generator(8).bernoulli(np.array([[0.0], [1.0]]), (2, 1000)).all(1).tolist() == [False, True]
    assert not Generator(8).bernoulli(0.0, 1000).any()
    assert Generator(8).bernoulli(np.full((2, 3), 0.5)).shape == (2, 3)


def test_shapes():
    g = Generator(0)
    assert g.normal().shape == () and g.uniform(3).shape == (3,) and g.integers(0, 2, (2, 0)).shape == (2, 0)
    assert g.permutation(0).shape == (0,)


def test_copies_go_on_alone():
    g = Generator(1)
    g.bits(10)
    twin = copy.deepcopy(g)
    assert (twin.bits(8) == g.bits(8)).all()


def test_manual_seed():
    random.manual_seed(12)
    first = random.default_generator.normal(4)
    random.manual_seed(12)
    assert (random.default_generator.normal(4) == first).all()
    assert Generator(-1).seed == 2**64 - 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda g: g.integers(3, 3), errors.ArgumentError, "exclusive"),
        (lambda g: g.integers(0, 2.5), errors.DtypeError, "integer"),
        (lambda g: g.uniform(3, 2, 1), errors.ArgumentError, "low"),
        (lambda g: g.normal((2, -1)), errors.ShapeError, "negative"),
        (lambda g: g.normal(2.5), errors.DtypeError, "shape"),
        (lambda g: g.normal(2, dtype=np.float16), errors.DtypeError, "float32 or float64"),
        (lambda g: g.categorical(np.array([-1.0, 2.0])), errors.ArgumentError, "negative"),
        (lambda g: g.categorical(np.zeros(3)), errors.ArgumentError, "zero"),
        (lambda g: g.bernoulli(1.5, 3), errors.ArgumentError, "0, 1"),
        (lambda g: g.bernoulli(np.ones(2), 3), errors.ShapeError, "broadcast"),
        (lambda g: g.set_state({"seed": 1}), errors.ArgumentError, "state"),
        (lambda g: g.fork(None), errors.DtypeError, "name"),
        (lambda g: Generator("7"), errors.DtypeError, "seed"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Generator(0))
