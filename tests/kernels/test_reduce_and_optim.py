"""Sums and optimiser steps: against float64, on odd and empty sizes, the same bits on any number of threads."""

import numpy as np
import pytest

pytest.importorskip("numba")
import numba

from minigen.kernels.cpu import optim, reduce, scan

ALL = reduce.sum_leading, reduce.sum_trailing, reduce.sum_all, reduce.sum_squares, lambda x: scan.cumsum(x, 0)
SIZES = [0, 1, 7, 4096, 4097, 100_003]


@pytest.fixture(params=[1, None], ids=["one thread", "all threads"])
def threads(request):
    before = numba.get_num_threads()
    numba.set_num_threads(request.param or before)
    yield
    numba.set_num_threads(before)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (4, 0), (70_000, 3), (3, 70_000), (7, 50, 90)])
def test_sum_leading(shape, threads):
    x = draw(*shape)
    expected = x.sum(tuple(range(x.ndim - 1)), dtype=np.float64)
    np.testing.assert_allclose(reduce.sum_leading(x), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (0, 4), (4, 0), (70_000, 3), (3, 70_000), (7, 50, 90)])
def test_sum_trailing(shape, threads):
    x = draw(*shape)
    for y in (x, np.asfortranarray(x)):
        np.testing.assert_allclose(reduce.sum_trailing(y), x.sum(-1, dtype=np.float64), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(5,), (9, 40), (0, 4), (4, 0), (3, 7000), (1000, 31), (3, 600, 70), (17, 5, 3)])
@pytest.mark.parametrize("backwards", [False, True])
def test_cumsum(shape, backwards, threads):
    x = draw(*shape)
    for dim in range(x.ndim):
        expected = np.flip(x, dim).cumsum(dim, dtype=np.float64) if backwards else x.cumsum(dim, dtype=np.float64)
        expected = np.flip(expected, dim) if backwards else expected
        for y in (x, np.repeat(x, 2, 0)[::2], np.asfortranarray(x)):
            found = scan.cumsum(y, dim, backwards)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", SIZES)
def test_sum_all_and_squares(n, threads):
    x = draw(n)
    np.testing.assert_allclose(reduce.sum_all(x), x.sum(dtype=np.float64), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(reduce.sum_squares(x), np.square(x, dtype=np.float64).sum(), rtol=1e-6)


def test_the_same_bits_on_any_number_of_threads():
    x = draw(3000, 50)
    before, found = numba.get_num_threads(), []
    for count in (1, before):
        numba.set_num_threads(count)
        found.append(b"".join(f(x).tobytes() for f in ALL))
    numba.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("maximize", [False, True])
def test_adam(n, maximize, threads):
    """Kingma & Ba 2014, algorithm 1, in float64."""
    for most, decoupled in ((False, False), (True, False), (False, True)):
        p, m, v = draw(n), np.zeros(n, np.float32), np.zeros(n, np.float32)
        largest = np.zeros(n, np.float32) if most else None
        q, m64, v64, top = p.astype(np.float64), 0.0, 0.0, 0.0
        for step in range(1, 4):
            g = draw(n, seed=step)
            optim.adam(p, g, m, v, largest, step, 0.01, 0.9, 0.99, 1e-8, 0.1, decoupled, maximize)
            d = (-1 if maximize else 1) * g.astype(np.float64)
            q, d = (q * (1 - 0.001), d) if decoupled else (q, d + 0.1 * q)
            m64, v64 = 0.9 * m64 + 0.1 * d, 0.99 * v64 + 0.01 * d * d
            top = np.maximum(top, v64) if most else v64
            q = q - 0.01 * (m64 / (1 - 0.9**step)) / (np.sqrt(top / (1 - 0.99**step)) + 1e-8)
        np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", SIZES)
def test_sgd(n, threads):
    for momentum, dampening, nesterov in ((0, 0, False), (0.9, 0, False), (0.9, 0.5, False), (0.9, 0, True)):
        p, buffer = draw(n), np.zeros(n, np.float32) if momentum else None
        q, b = p.astype(np.float64), 0.0
        for step in range(3):
            g = draw(n, seed=step)
            optim.sgd(p, g, buffer, 0.1, momentum, dampening, 0.01, nesterov)
            d = g + 0.01 * q
            b = momentum * b + (1 - dampening) * d
            q = q - 0.1 * (d + momentum * b if nesterov else b if momentum else d)
        np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", SIZES)
def test_lerp_and_scale(n, threads):
    a, b = draw(n), draw(n, seed=1)
    expected = a + np.float64(0.1) * (b - a)
    optim.lerp(a, b, 0.1)
    np.testing.assert_allclose(a, expected, rtol=1e-6, atol=1e-6)
    optim.scale(b, 0.5)
    np.testing.assert_array_equal(b, draw(n, seed=1) * np.float32(0.5))
