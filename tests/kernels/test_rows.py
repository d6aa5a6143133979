"""Kernels that sum over a row and write rows: the bits of a result depend on the numbers, not on where arrays lie.

The serial form is compiled for arrays that may overlap unless it is told otherwise; it would then look where they lie,
and take another loop, with another order of sums, for a small output right behind its input.
"""

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import embedding, layer_norm, losses, reduce, softmax

F = np.float32
ROWS, NONE = 3, np.empty(0, F)
random = np.random.default_rng(0)


def normal(*shape):
    return 2 * random.standard_normal(shape, dtype=F)


def room(*shape):
    return np.zeros(shape, F)


def softmaxes(n):
    x, g, y = normal(ROWS, n), normal(ROWS, n), np.abs(normal(ROWS, n))
    yield softmax.softmax_rows, x, room(ROWS, n), 1
    yield softmax.softmax_gradient_rows, g, y, room(ROWS, n), 1
    yield softmax.log_softmax_rows, x, room(ROWS, n), 1
    yield softmax.log_softmax_gradient_rows, g, -y, room(ROWS, n), 1


def cross_entropies(n):
    x, target, g = normal(ROWS, n), random.integers(0, n, ROWS), normal(ROWS)
    for weight in (NONE, np.abs(normal(n))):
        for smoothing in (F(0), F(0.1)):
            given = target, weight, -100, smoothing
            yield softmax.cross_entropy_rows, x, *given, room(ROWS), room(ROWS), 1
            yield softmax.cross_entropy_gradient_rows, g, x, *given, np.abs(normal(ROWS)) + 4, room(ROWS, n), 1


def norms(n):
    x, g, weight, bias = normal(ROWS, n), normal(ROWS, n), normal(n), normal(n)
    mean, rstd, one = normal(ROWS), np.abs(normal(ROWS)), [room(ROWS)]
    for w, b in ((NONE, NONE), (weight, NONE), (weight, bias)):
        yield layer_norm.layer_norm_rows, x, w, b, F(1e-5), room(ROWS, n), *one, room(ROWS), ROWS
    for w in (NONE, weight):
        sums = room(1, n), room(1, n)
        yield layer_norm.layer_norm_gradient_rows, g, x, w, mean, rstd, room(ROWS, n), *sums, ROWS
        yield layer_norm.rms_norm_rows, x, w, F(1e-5), room(ROWS, n), room(ROWS), ROWS
        yield layer_norm.rms_norm_gradient_rows, g, x, w, rstd, room(ROWS, n), sums[0], ROWS


def sums(n):
    x, t = normal(ROWS * n), normal(ROWS * n)
    yield reduce.sum_rows, x.reshape(ROWS, n), room(1, n), ROWS
    yield reduce.sum_chunks, x, room(1)
    yield reduce.square_chunks, x, room(1)
    yield losses.sum_loop(losses.mse), x, t, F(0), room(1)
    yield losses.sum_loop(losses.bce), x, t, F(0), room(1)
    index = random.integers(0, 2, ROWS)
    yield embedding.add_rows, x.reshape(ROWS, n), index, -1, room(2, n)


FAMILIES = {"softmax": softmaxes, "cross_entropy": cross_entropies, "norm": norms, "sum": sums}


def placed(arguments, gap):
    """The arguments, the float arrays among them one behind the other in one memory, and that memory."""
    memory, place, found = np.zeros(6000, F), 16, []
    for a in arguments:
        if isinstance(a, np.ndarray) and a.dtype == F and a.size:
            view = memory[place : place + a.size].reshape(a.shape)
            view[...] = a
            place += a.size + gap
            a = view
        found.append(a)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_bits_wherever_arrays_lie(family):
    for n in [*range(1, 40), 47, 48, 63, 64, 65, 70]:
        for kernel, *arguments in FAMILIES[family](n):
            results = set()
            for gap in (0, 1, 4, 8, 500):
                views = placed(arguments, gap)
                kernel.serial(*views)
                results.add(b"".join(a.tobytes() for a in views if isinstance(a, np.ndarray)))
            assert len(results) == 1, (kernel, n)


def test_rows_far_from_zero_lose_no_digits():
    """m + log_total, added first, would round at the size of m."""
    from minigen.kernels.cpu import softmax

    x = random.standard_normal((64, 50), dtype=np.float32) + np.float32(1e4)
    target = np.arange(64) % 50
    double = x.astype(np.float64)
    logs = double - double.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    np.testing.assert_allclose(softmax.log_softmax(x), logs, atol=2e-6)
    own = logs[np.arange(64), target]
    np.testing.assert_allclose(softmax.cross_entropy(x, target)[0], -own, atol=2e-6)
    smooth = -0.9 * own - 0.1 * logs.mean(1)
    np.testing.assert_allclose(softmax.cross_entropy(x, target, label_smoothing=0.1)[0], smooth, atol=2e-6)
