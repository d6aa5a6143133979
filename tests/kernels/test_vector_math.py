"""exp, log and their kin, in float32, against the mathematics in float64, over the whole range and at its ends."""

import math

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import vector_math
from minigen.kernels.cpu.compile import kernel


def mapped(function):
    @kernel(parallel=False)
    def run(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    def call(x):
        y = np.empty_like(x)
        run(x, y)
        return y

    return call


REFERENCE = {
    "exp": (np.exp, 1e-7),
    "expm1": (np.expm1, 1.5e-7),
    "log": (np.log, 1e-7),
    "log1p": (np.log1p, 2e-7),
    "sigmoid": (lambda x: np.exp(-np.logaddexp(0, -x)), 2e-7),
    "softplus": (lambda x: np.logaddexp(0, x), 2.5e-7),
    "tanh": (np.tanh, 2e-7),
    "erf": (np.vectorize(math.erf), 5e-7),
}


def numbers():
    small = np.geomspace(1e-37, 1e38, 20001)
    return np.concatenate([np.linspace(-100, 100, 40001), np.linspace(-3, 3, 40001), small, -small]).astype(np.float32)


@pytest.mark.parametrize("name", REFERENCE)
def test_relative_error_over_the_range(name):
    reference, allowed = REFERENCE[name]
    x = numbers()
    with np.errstate(all="ignore"):
        expected = reference(x.astype(np.float64))
        single = expected.astype(np.float32)
        normal = np.isfinite(single) & (np.abs(expected) > 1.2e-38)
        y = mapped(getattr(vector_math, name))(x)
        error = np.abs(y[normal] - expected[normal]) / np.abs(expected[normal])
    assert error.max() < allowed, f"{error.max():.3g} at {x[normal][error.argmax()]}"
    others = ~normal & ~np.isfinite(single)
    np.testing.assert_array_equal(y[others], single[others])
    np.testing.assert_allclose(y[~normal & np.isfinite(single)], single[~normal & np.isfinite(single)], atol=2e-38)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", {0: 1, np.inf: np.inf, -np.inf: 0, -200: 0, 100: np.inf, np.nan: np.nan}),
        ("expm1", {0: 0, np.inf: np.inf, -np.inf: -1, -200: -1, 100: np.inf, np.nan: np.nan}),
        ("log", {0: -np.inf, 1: 0, -1: np.nan, np.inf: np.inf, -np.inf: np.nan, np.nan: np.nan}),
        ("log1p", {0: 0, -1: -np.inf, -2: np.nan, np.inf: np.inf, np.nan: np.nan}),
        ("sigmoid", {0: 0.5, np.inf: 1, -np.inf: 0, -200: 0, 200: 1, np.nan: np.nan}),
        ("softplus", {np.inf: np.inf, -np.inf: 0, 200: 200, np.nan: np.nan}),
        ("tanh", {0: 0, np.inf: 1, -np.inf: -1, 50: 1, np.nan: np.nan}),
        ("erf", {0: 0, np.inf: 1, -np.inf: -1, 10: 1, np.nan: np.nan}),
    ],
)
def test_the_ends(name, pairs):
    x = np.array(list(pairs) * 20, np.float32)  # enough of them that the vectorised loop runs, too
    y = mapped(getattr(vector_math, name))(x)
    np.testing.assert_array_equal(y, np.array(list(pairs.values()) * 20, np.float32))


def test_log1p_of_unit():
    x = np.concatenate([np.linspace(0, 1, 100001), np.geomspace(1e-37, 1, 10001)]).astype(np.float32)
    np.testing.assert_allclose(mapped(vector_math.log1p_of_unit)(x), np.log1p(x.astype(np.float64)), rtol=2.5e-7)
    assert np.isnan(mapped(vector_math.log1p_of_unit)(np.float32([np.nan])))[0]


def test_exp_reaches_the_denormals():
    x = np.float32([-87.5, -95, -103])
    np.testing.assert_allclose(mapped(vector_math.exp)(x), np.exp(x.astype(np.float64)), atol=1.5e-45)


def test_largest():
    @kernel(parallel=False)
    def run(x, y):
        y[0] = vector_math.largest(x)

    def largest(x):
        y = np.empty(1, np.float32)
        run(np.asarray(x, np.float32), y)
        return y[0]

    random = np.random.default_rng(0)
    for size in (1, 2, 7, 16, 100, 1001):
        x = random.standard_normal(size) * 10 - 20
        assert largest(x) == np.float32(x).max()
    assert largest([-np.inf] * 5) == -np.inf and largest([-np.inf, -3, np.inf]) == np.inf
    assert np.isnan(largest([1, np.nan, 2] * 20)) and largest([-0.0, 0.0]) == 0
