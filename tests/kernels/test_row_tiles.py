"""Products by tiles: right in every shape and layout, inside their borders, and each element's bits its own."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import few_rows, many_rows, panels, weight_gradient

random = np.random.default_rng(0)
SHAPES = [(1, 1, 1), (2, 3, 5), (7, 9, 33), (8, 4, 32), (65, 17, 40), (130, 70, 64), (300, 260, 31), (13, 600, 96)]


def normal(*shape):
    return random.standard_normal(shape, dtype=np.float32)


def close(found, expected, depth):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-6 * depth**0.5)


def double(*arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("rows", [few_rows, many_rows])
@pytest.mark.parametrize("M, K, N", SHAPES)
def test_linear(M, K, N, rows):
    x, w, b = normal(M, K), normal(N, K), normal(N)
    close(rows.linear(x, w, b), double(x)[0] @ double(w)[0].T + b, K)
    close(rows.linear(x, w), double(x)[0] @ double(w)[0].T, K)
    wide = np.repeat(x, 2, axis=1)
    assert rows.linear(wide[:, ::2], w).tobytes() == rows.linear(x, w).tobytes()
    assert rows.linear(wide[:, :K], w).tobytes() == rows.linear(wide[:, :K].copy(), w).tobytes()
    assert rows.linear(x, np.asfortranarray(w)).tobytes() == rows.linear(x, w).tobytes()


@pytest.mark.parametrize("M, K, N", SHAPES)
def test_linear_gradient(M, K, N):
    g, x, w = normal(M, N), normal(M, K), normal(N, K)
    gx, gw, gb = many_rows.linear_gradient(g, x, w)
    g64, x64, w64 = double(g, x, w)
    close(gx, g64 @ w64, N)
    close(gw, g64.T @ x64, M)
    close(gb, g64.sum(0), M)
    for i, whole in enumerate((gx, gw, gb)):
        only = many_rows.linear_gradient(g, x, w, [j == i for j in range(3)])
        assert only[i].tobytes() == whole.tobytes()
        assert all(only[j] is None for j in range(3) if j != i)
    room = np.empty((N, K), np.float32), np.empty(N, np.float32)
    _, in_room, also = many_rows.linear_gradient(g, x, w, into=(None, *room))
    assert in_room is room[0] and also is room[1]
    assert room[0].tobytes() == gw.tobytes() and room[1].tobytes() == gb.tobytes()


def test_two_matrices_in_one_pass():
    d, x, h = normal(70, 20), normal(70, 33), normal(70, 8)
    dw, dv, db = np.empty((20, 33), np.float32), np.empty((20, 8), np.float32), np.empty(20, np.float32)
    weight_gradient.weight_gradients(d, panels.in_panels(x), panels.in_panels(h), dw, dv, db, 16)
    for found, matrix in ((dw, x), (dv, h)):
        assert found.tobytes() == weight_gradient.weight_gradient(d, matrix)[0].tobytes()
    close(db, double(d)[0].sum(0), 70)


@pytest.mark.parametrize("K, N", [(1, 1), (5, 7), (300, 33), (20, 64), (3, 600)])
def test_panels_hold_the_matrix(K, N):
    matrix = normal(K, N)
    for given in (matrix, np.asfortranarray(matrix), np.repeat(matrix, 2, 1)[:, ::2]):
        for once in (False, True):
            found = panels.in_panels(given, once)
            flat = found.transpose(1, 0, 2).reshape(K, -1)
            np.testing.assert_array_equal(flat[:, :N], matrix)
            assert not flat[:, N:].any()
    steps = matrix.reshape(K, 1, N) + np.arange(4, dtype=np.float32)[:, None]
    turned = panels.sequence_in_panels(steps, True)
    np.testing.assert_array_equal(turned, panels.sequence_in_panels(np.ascontiguousarray(steps.swapaxes(0, 1)), False))


@pytest.mark.parametrize("M, K, N", [(9, 40, 33), (64, 5, 64), (3, 3, 1)])
def test_nothing_is_written_beside_the_result(M, K, N):
    memory = np.full((M + 2, N), 7, np.float32)
    x, w = normal(M, K), normal(N, K)
    many_rows.rows_through(x, panels.in_panels(w.T), np.zeros(N, np.float32), memory[1:-1])
    assert (memory[0] == 7).all() and (memory[-1] == 7).all()
    assert memory[1:-1].tobytes() == many_rows.linear(x, w).tobytes()
    memory[1:-1] = 0
    tail = np.zeros((few_rows.STEP, K), np.float32)
    room = np.empty((-(-M // few_rows.WIDTH), K, few_rows.WIDTH), np.float32)
    few_rows.rows_turned(x, w, tail, np.zeros(N, np.float32), memory[1:-1], room)
    assert (memory[0] == 7).all() and (memory[-1] == 7).all()


def test_an_element_does_not_depend_on_its_place():
    x, w, g = normal(200, 50), normal(70, 50), normal(200, 70)
    y, gw = many_rows.linear(x, w), many_rows.linear_gradient(g, x, w)[1]
    for few in (slice(0, 1), slice(3, 8), slice(64, 73), slice(190, 200)):
        assert many_rows.linear(x[few], w).tobytes() == y[few].tobytes()
        assert few_rows.linear(x[few], w).tobytes() == few_rows.linear(x, w)[few].tobytes()
    for some in (slice(0, 1), slice(5, 41), slice(33, 70)):
        assert many_rows.linear(x, w[some]).tobytes() == np.ascontiguousarray(y[:, some]).tobytes()
        assert weight_gradient.weight_gradient(g[:, some], x)[0].tobytes() == gw[some].tobytes()
    spoilt = w.copy()
    spoilt[11] = np.nan
    found = many_rows.linear(x, spoilt)
    assert np.isnan(found[:, 11]).all()
    assert np.delete(found, 11, 1).tobytes() == np.delete(y, 11, 1).tobytes()


PROGRAM = """
import hashlib, sys
import numpy as np
from minigen.kernels.cpu import tiles
if len(sys.argv) > 1:
    tiles.LANES, tiles.VECTORS, tiles.ROWS = map(int, sys.argv[1:])
    tiles.WIDTH = tiles.LANES * tiles.VECTORS
from minigen.kernels.cpu import attention, few_rows, many_rows
random = np.random.default_rng(0)
digest = hashlib.sha256()
for M, K, N in ((65, 17, 40), (130, 70, 64), (9, 33, 31)):
    x, w, b, g = (random.standard_normal(s, dtype=np.float32) for s in ((M, K), (N, K), N, (M, N)))
    found = few_rows.linear(x, w, b), many_rows.linear(x, w, b), *many_rows.linear_gradient(g, x, w)
    for a, e in zip(found, (x @ w.T + b, x @ w.T + b, g @ w, g.T @ x, g.sum(0))):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)
        digest.update(a.tobytes())
q, k, v, g = random.standard_normal((4, 2, 3, 70, 24), dtype=np.float32)
y, logs = attention.attention(q, k, v, None, None, 0.2, True)
s = np.where(np.tri(70, dtype=bool), 0.2 * q @ k.swapaxes(2, 3), -np.inf)
p = np.exp(s - s.max(-1, keepdims=True))
p /= p.sum(-1, keepdims=True)
np.testing.assert_allclose(y, p @ v, rtol=1e-4, atol=1e-5)
d = p * (g @ v.swapaxes(2, 3) - (g * y).sum(-1, keepdims=True)) * 0.2
expected = d @ k, d.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ g
for a, e in zip(attention.attention_gradient(g, q, k, v, None, None, y, logs, 0.2, True), expected):
    np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)
    digest.update(np.ascontiguousarray(a).tobytes())
print(digest.hexdigest())
"""


def program(*shape, threads=1):
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", PROGRAM, *map(str, shape)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow  # 20 seconds, of compiling
@pytest.mark.parametrize("shape", [(8, 2, 6)])
def test_tiles_of_other_processors(shape):
    """The tiles of AVX2, which a processor with wider vectors runs too."""
    program(*shape)


def test_same_bits_in_processes_of_one_and_of_two_threads():
    assert program(threads=1) == program(threads=2)
