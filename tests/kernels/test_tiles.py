"""Tiles: the sums they promise, of operands that lie anywhere, to the same bits wherever that is."""

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu.compile import kernel
from minigen.kernels.cpu.tiles import LANES, ROWS, WIDTH, dot_tile, product_tile, turned_tile

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape, dtype=np.float32)


@kernel(parallel=False)
def product(x, at, lags, depth, panel, bias, y, to):
    product_tile(x, at, lags, depth, panel, bias, y, to)


@kernel(parallel=False)
def turned(x, at, lags, g, apart, c, down):
    turned_tile(x, at, lags, g, apart, c, down)


@kernel(parallel=False)
def dots(x, at, lags, depth, factors, tile):
    dot_tile(x, at, lags, depth, factors, tile)


def moved(x, by):
    """The same numbers, `by` numbers further on in memory."""
    return np.concatenate([np.full(by, np.nan, np.float32), x.ravel()])[by:]


@pytest.mark.parametrize("depth, runs", [(1, 1), (3, 3), (16, 2), (33, 1), (7, 5)])
def test_product_tile(depth, runs):
    x, panel, bias = draw(600), draw(runs * depth, WIDTH), draw(WIDTH)
    at, lags = random.integers(0, 300, ROWS), random.integers(0, 250, runs)  # rows that overlap, in any order
    rows = np.stack([np.concatenate([x[a + lag : a + lag + depth] for lag in lags]) for a in at])
    to = random.permutation(ROWS) * (WIDTH + 3)
    results = []
    for by in (0, 1, 5):
        y = np.full(ROWS * (WIDTH + 3), 7, np.float32)
        product(moved(x, by), at, lags, depth, moved(panel, by), moved(bias, by), y, to)
        results.append(y.reshape(ROWS, WIDTH + 3)[to // (WIDTH + 3)])
        assert (results[-1][:, WIDTH:] == 7).all()
    np.testing.assert_allclose(results[0][:, :WIDTH], rows.astype(np.float64) @ panel + bias, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("places", [0, 1, 2, 17, 64])
def test_turned_tile_adds(places):
    x, g, c = draw(500), draw(places, WIDTH + 2), draw(ROWS, WIDTH + 1)
    at, lags = random.integers(0, 200, places), random.integers(0, 250, ROWS)
    expected = c.astype(np.float64)
    expected[:, :WIDTH] += x[at[:, None] + lags].astype(np.float64).T @ g[:, :WIDTH]
    results = []
    for by in (0, 3):
        results.append(moved(c, by))
        turned(moved(x, by), at, lags, moved(g, by), WIDTH + 2, results[-1], WIDTH + 1)
    np.testing.assert_allclose(results[0].reshape(ROWS, WIDTH + 1), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(results[1], results[0])


@pytest.mark.parametrize("vectors, runs, rest", [(0, 1, 3), (1, 1, 0), (3, 2, 3), (4, 3, 0)])
def test_dot_tile_leaves_what_is_no_whole_vector(vectors, runs, rest):
    depth = vectors * LANES + rest
    x, factors = draw(900), draw(runs, depth)
    at, lags = random.integers(0, 300, ROWS), random.integers(0, 250, runs)
    tile = np.full(ROWS * LANES, np.nan, np.float32)
    dots(x, at, lags, depth, factors.ravel(), tile)
    k = np.arange(vectors * LANES)
    expected = [(x[a + lags[:, None] + k].astype(np.float64) * factors[:, k]).sum() for a in at]
    np.testing.assert_allclose(tile.reshape(ROWS, LANES).sum(1), expected, rtol=1e-4, atol=1e-4)
