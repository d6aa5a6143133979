"""Softmax and its kin: kernels equal definitions along every dimension, masks work, gradients are right."""

import numpy as np
import pytest
from against_numpy import agrees, draw
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, errors
from minigen.nn import functional as F


def softmax(x, dim):
    e = np.exp(x - x.max(dim, keepdims=True))
    return e / e.sum(dim, keepdims=True)


FUNCTIONS = {
    "softmax": (F.softmax, softmax),
    "log_softmax": (F.log_softmax, lambda x, dim: np.log(softmax(x, dim))),
    "softmin": (F.softmin, lambda x, dim: softmax(-x, dim)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_formula(name, dim):
    function, reference = FUNCTIONS[name]
    agrees(lambda x: function(x, dim), lambda x: reference(x, dim), draw(2, 3, 4), tolerance=1e-11)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 65), (300, 50), (0, 4), (4, 0), (5, 1), (7, 3001)])
def test_kernel_equals_definition(name, shape):
    for dim in range(len(shape)):
        kernel_equals_definition(lambda x, d=dim: FUNCTIONS[name][0](x, d), 5 * draw(*shape))


def test_any_strides():
    x = draw(6, 70, 40)
    for view in (x.T, x[:, ::2, ::3], x[::-1], np.broadcast_to(x[:1], x.shape)):
        for dim in (0, -1):
            kernel_equals_definition(lambda x, d=dim: F.softmax(x, d), view)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits_on_any_threads(name):
    same_bits_on_any_threads(lambda x: FUNCTIONS[name][0](x, -1), draw(300, 90))


@pytest.mark.parametrize("on", [True, False])
def test_masks_and_large_numbers(on):
    x = np.array([[-np.inf, 0, 1], [1e30, 1e30, -1e30], [-np.inf] * 3, [np.nan, 0, 1]], np.float32)
    run = lambda f: f(Tensor(x), -1).data
    if on:
        p, logs = run(F.softmax), run(F.log_softmax)
    else:
        with minigen.kernels.disabled():
            p, logs = run(F.softmax), run(F.log_softmax)
    np.testing.assert_allclose(p[:2], [[0, 1 / (1 + np.e), np.e / (1 + np.e)], [0.5, 0.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(logs[0], [-np.inf, -np.log(1 + np.e), 1 - np.log(1 + np.e)], rtol=1e-6)
    assert np.isnan(p[2:]).all() and np.isnan(logs[2:]).all()


def test_dtype_and_single_numbers():
    x = Tensor(draw(3, 4).astype(np.float32))
    assert F.softmax(x, -1, dtype="float64").dtype == np.float64
    assert F.softmax(Tensor(np.array([1, 2])), 0, dtype="float32").dtype == np.float32
    assert F.softmax(Tensor(np.float32(3)), 0).item() == 1.0 and F.log_softmax(Tensor(np.float32(3)), 0).item() == 0.0
    assert x.softmax(-1).data.tobytes() == minigen.softmax(x, dim=-1).data.tobytes()


def test_gumbel_softmax_draws_from_the_softmax():
    logits = Tensor(np.log(np.array([[0.2, 0.5, 0.3]], np.float32)).repeat(40000, 0), requires_grad=True)
    y = F.gumbel_softmax(logits, tau=0.5, hard=True)
    assert set(np.unique(y.data.round(5))) == {0, 1}
    np.testing.assert_allclose(y.data.mean(0), [0.2, 0.5, 0.3], atol=0.012)
    (y * Tensor(np.array([1.0, 2.0, 3.0], np.float32))).sum().backward()
    assert np.abs(logits.grad.data).max() > 0
    soft = F.gumbel_softmax(logits, dim=0)
    np.testing.assert_allclose(soft.data.sum(0), 1, rtol=1e-4)


def test_second_gradients():
    gradients_are_right(lambda x: F.softmax(x, 0) ** 2, draw(3, 4))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.softmax(x), errors.ArgumentError, "dim"),
        (lambda x: F.softmax(x, 2), errors.DimError, "dim=2"),
        (lambda x: F.softmax(Tensor(np.arange(3)), 0), errors.DtypeError, "floats"),
        (lambda x: F.gumbel_softmax(x, tau=0), errors.ArgumentError, "tau"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(2, 3)))
