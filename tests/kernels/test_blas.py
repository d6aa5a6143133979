"""Products beside NumPy's in float64: shapes, strides, threads, and NumPy's own threads left alone."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import blas

needs_openblas = pytest.mark.skipif(blas.FOUND is None, reason="NumPy's BLAS is not OpenBLAS here")
random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape, dtype=np.float32)


def check(y, a, b, bias=0.0):
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64)) + bias
    assert y.dtype == np.float32 and y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * max(1, a.shape[-1]) ** 0.5)


def layouts(rows, columns):
    """The same shape in every kind of stride."""
    yield draw(rows, columns)
    yield draw(columns, rows).T
    yield draw(2 * rows, 2 * columns)[::2, ::2]
    yield draw(rows, columns + 3)[:, 1 : columns + 1]
    yield draw(rows, columns)[::-1]
    yield draw(rows, columns)[:, ::-1]
    yield np.broadcast_to(draw(1, columns), (rows, columns))
    yield np.broadcast_to(draw(rows, 1), (rows, columns))


@needs_openblas
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 7), (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 30, 20), (20, 30, 1), (33, 40, 65)]
)
def test_every_layout(shape):
    M, K, N = shape
    for a in layouts(M, K):
        for b in layouts(K, N):
            check(blas.product(a, b), a, b)


@needs_openblas
@pytest.mark.parametrize("shape", [(300, 200, 500), (64, 40000, 64), (20, 9000, 700), (2000, 30, 800)])
def test_products_that_are_cut_into_blocks(shape):
    M, K, N = shape
    a, b, bias = draw(M, K), draw(K, N), draw(N)
    check(blas.matmul(a, b), a, b)
    check(blas.matmul(a, np.asfortranarray(b)), a, b)
    check(blas.product(a, b, bias), a, b, bias.astype(np.float64))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3, 50, 60), (60, 70)),
        ((50, 60), (2, 3, 60, 70)),
        ((2, 1, 50, 60), (3, 60, 70)),
        ((2, 2, 2, 30, 40), (2, 1, 2, 40, 50)),
        ((0, 3, 4), (0, 4, 5)),
        ((40, 100, 60), (40, 60, 70)),
    ],
)
def test_stacks(a, b):
    a, b = draw(*a), draw(*b)
    check(blas.matmul(a, b), a, b)
    if blas.FOUND is not None:
        check(blas.product(a, b), a, b)


def test_heads_of_attention_are_not_copied():
    q = draw(2, 100, 3, 48).transpose(0, 2, 1, 3)
    k = q.swapaxes(-1, -2)
    for x, transposed in ((q, False), (k, True)):
        stored, turned = blas.as_stored(x)
        assert np.shares_memory(stored, q) and turned == transposed
    assert not np.shares_memory(blas.as_stored(q[..., ::2])[0], q)


@pytest.mark.parametrize("rows", [(), (5,), (300,), (4, 75)])
def test_linear(rows):
    x, w, b = draw(*rows, 100), draw(80, 100), draw(80)
    check(blas.linear(x, w, b), x, w.T, b.astype(np.float64))
    check(blas.linear(x, w), x, w.T)


@needs_openblas
def test_the_same_bits_on_any_number_of_threads():
    import numba

    a, b = draw(500, 3000), draw(3000, 90)
    before = numba.get_num_threads()
    results = []
    for threads in {1, before}:
        numba.set_num_threads(threads)
        results.append(blas.product(a, b).tobytes())
        results.append(blas.product(a.T, a).tobytes())
    numba.set_num_threads(before)
    assert results[:2] == results[-2:]


@needs_openblas
def test_numpys_own_threads_come_back():
    before = blas._get_threads()
    try:
        blas._set_threads(2)
        with blas.single_threaded_blas:
            assert blas._get_threads() == 1
            with blas.single_threaded_blas:
                pass
            assert blas._get_threads() == 1, "the inner block does not end the outer one"
        assert blas._get_threads() == 2

        def work():
            for _ in range(200):
                with blas.single_threaded_blas:
                    assert blas._get_threads() == 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert blas._get_threads() == 2 and blas.single_threaded_blas.depth == 0
    finally:
        blas._set_threads(before)


def test_nan_in_unset_memory_does_not_leak():
    """beta = 0 must write, not multiply what stands there by zero."""
    a, b = draw(300, 200), draw(200, 300)
    waste = np.full((300, 300), np.nan, np.float32)
    del waste
    assert np.isfinite(blas.matmul(a, b)).all()


WITHOUT = """
import ctypes, numpy as np, numba
def none(path, *args):
    raise OSError("no such library")
ctypes.PyDLL = none
from minigen.kernels.cpu import blas
assert blas.FOUND is None and "plain loops" in blas.describe()
rng = np.random.default_rng(0)
draw = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
for M, K, N in ((5, 7, 3), (1, 1, 1), (4, 0, 3)):
    for name, a, b in (("nn", draw(M, K), draw(K, N)), ("nt", draw(M, K), draw(N, K)),
                       ("tn", draw(K, M), draw(K, N)), ("tt", draw(K, M), draw(N, K))):
        gemm = getattr(blas, "gemm_" + name)
        run = numba.njit(lambda a, b, c, beta: gemm(a, b, c, beta))
        A, B = a.T if name[0] == "t" else a, b.T if name[1] == "t" else b
        c = np.full((M, N), np.nan, np.float32)
        run(a, b, c, 0)
        np.testing.assert_allclose(c, A @ B, atol=1e-5)
        run(a, b, c, 1)
        np.testing.assert_allclose(c, 2 * (A @ B), atol=1e-5)
x, w, b = draw(200, 100), draw(80, 100), draw(80)
np.testing.assert_allclose(blas.linear(x, w, b), x @ w.T + b, atol=1e-4)
np.testing.assert_allclose(blas.matmul(x, w.T), x @ w.T, atol=1e-4)
"""


def test_without_openblas_there_are_loops(tmp_path):
    environment = {**os.environ, "MINIGEN_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
