"""The linear kernels equal the products that define them, for every way in which the work is cut."""

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import blas, linear

random = np.random.default_rng(0)
# one task, several, too few rows to share, depth 1, one output, more work than these kernels take, nothing at all
SHAPES = [
    (5, 3, 7),
    (256, 64, 64),
    (300, 130, 90),
    (16, 512, 512),
    (256, 1, 64),
    (65, 33, 1),
    (700, 100, 90),
    (0, 3, 4),
    *((n, 37, 70) for n in range(1, 10)),  # up to eight rows, one by one and four at a time
    (3, 1, 5),
    (1, 768, 300),
]


def draw(*shape):
    return random.standard_normal(shape, dtype=np.float32)


def close(found, wanted, depth):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * max(depth, 1) ** 0.5 * 10)


def strided(x):
    """The same numbers with gaps between the columns."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), np.float32)
    wide[..., ::2] = x
    return wide[..., ::2]


@pytest.mark.parametrize(
    "turned", [np.asarray, strided, lambda x: np.asfortranarray(x)], ids=["rows", "gaps", "columns"]
)
@pytest.mark.parametrize(("n", "inputs", "outputs"), SHAPES)
def test_forward(n, inputs, outputs, turned):
    x, w, b = draw(n, inputs), draw(outputs, inputs), draw(outputs)
    wanted = x.astype(np.float64) @ w.T.astype(np.float64)
    close(linear.linear(turned(x), turned(w), strided(b)), wanted + b, inputs)
    close(linear.linear(turned(x), w), wanted, inputs)


@pytest.mark.parametrize(
    "turned", [np.asarray, strided, lambda x: np.asfortranarray(x)], ids=["rows", "gaps", "columns"]
)
@pytest.mark.parametrize(("n", "inputs", "outputs"), SHAPES)
def test_gradient(n, inputs, outputs, turned):
    g, x, w = draw(n, outputs), draw(n, inputs), draw(outputs, inputs)
    double = [a.astype(np.float64) for a in (g, x, w)]
    wanted = double[0] @ double[2], double[0].T @ double[1], double[0].sum(0)
    for needs in [(True, True, True), (True, False, False), (False, True, False), (False, False, True), (False,) * 3]:
        found = linear.linear_gradient(turned(g), turned(x), turned(w), needs)
        for part, full, needed in zip(found, wanted, needs):
            assert (part is not None) == needed
            if needed:
                close(part, full, max(n, outputs))


@pytest.mark.parametrize(("n", "inputs", "outputs"), SHAPES)
def test_gradient_into_given_memory(n, inputs, outputs):
    g, x, w = draw(n, outputs), draw(n, inputs), draw(outputs, inputs)
    memory = np.full(w.size + outputs, np.nan, np.float32)
    into = None, memory[: w.size].reshape(w.shape), memory[w.size :]
    _, gw, gb = linear.linear_gradient(g, x, w, into=into)
    assert gw is into[1] and gb is into[2]
    _, *fresh = linear.linear_gradient(g, x, w)
    assert gw.tobytes() == fresh[0].tobytes() and gb.tobytes() == fresh[1].tobytes()


def test_more_dimensions():
    g, x, w, b = draw(3, 5, 4), draw(3, 5, 6), draw(4, 6), draw(4)
    close(linear.linear(x, w, b), x @ w.T + b, 6)
    gx, gw, gb = linear.linear_gradient(g, x, w)
    close(gx, g @ w, 4)
    close(gw, np.einsum("abo,abi->oi", g, x), 15)
    close(gb, g.sum((0, 1)), 15)


@pytest.mark.skipif(blas.FOUND is None, reason="NumPy's BLAS is not OpenBLAS")
def test_the_same_bits_on_any_number_of_threads():
    import numba

    g, x, w, b = draw(400, 90), draw(400, 100), draw(90, 100), draw(90)
    few, large, bias = draw(7, 300), draw(900, 300), draw(900)
    before, results = numba.get_num_threads(), []
    for threads in (1, before):
        numba.set_num_threads(threads)
        results.append([a.tobytes() for a in (linear.linear(x, w, b), *linear.linear_gradient(g, x, w))])
        results[-1].append(linear.linear(few, large, bias).tobytes())
    numba.set_num_threads(before)
    assert results[0] == results[1]
