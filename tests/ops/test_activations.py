"""Activations: kernels equal definitions, gradients equal differences, bad input is refused."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, leaves_nothing
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, errors
from minigen.nn import functional as F

sigmoid = lambda x: 1 / (1 + np.exp(-x))
erf = np.vectorize(math.erf, otypes=[float])
softplus = lambda x: np.logaddexp(x, 0)

FUSED = {
    "relu": (F.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "elu": (lambda x: F.elu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "gelu": (F.gelu, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    "gelu tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (F.silu, lambda x: x * sigmoid(x)),
    "mish": (F.mish, lambda x: x * np.tanh(softplus(x))),
    "softplus": (lambda x: F.softplus(x, 1.5, 2.1), lambda x: np.where(1.5 * x > 2.1, x, softplus(1.5 * x) / 1.5)),
    "logsigmoid": (F.logsigmoid, lambda x: -softplus(-x)),
    "hardswish": (F.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "sigmoid": (minigen.sigmoid, sigmoid),
    "tanh": (minigen.tanh, np.tanh),
    "exp": (minigen.exp, np.exp),
}
PLAIN = {
    "glu": (lambda x: F.glu(x, 1), lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    "relu6": (lambda x: F.relu6(4 * x), lambda x: np.clip(4 * x, 0, 6)),
    "selu": (F.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "celu": (lambda x: F.celu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7))),
    "hardtanh": (lambda x: F.hardtanh(x, -0.7, 1.2), lambda x: np.clip(x, -0.7, 1.2)),
    "hardsigmoid": (lambda x: F.hardsigmoid(3 * x), lambda x: np.clip(x / 2 + 0.5, 0, 1)),
    "threshold": (lambda x: F.threshold(x, 0.2, -3.0), lambda x: np.where(x > 0.2, x, -3)),
    "softsign": (F.softsign, lambda x: x / (1 + np.abs(x))),
    "tanhshrink": (F.tanhshrink, lambda x: x - np.tanh(x)),
    "hardshrink": (F.hardshrink, lambda x: np.where(np.abs(x) > 0.5, x, 0)),
    "softshrink": (F.softshrink, lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    "rrelu": (lambda x: F.rrelu(x, 0.1, 0.3), lambda x: np.where(x > 0, x, 0.2 * x)),
}
SHAPES = [(), (1,), (3, 5), (0, 4), (7, 2500), (150, 129)]


@pytest.mark.parametrize("name", {**FUSED, **PLAIN})
def test_the_formula(name):
    function, reference = {**FUSED, **PLAIN}[name]
    agrees(function, reference, draw(3, 4))


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_equals_definition(name, shape):
    kernel_equals_definition(FUSED[name][0], draw(*shape, low=-8, high=8))


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_any_strides_and_the_memory_order_stays(name):
    function, _ = FUSED[name]
    x = draw(4, 70, 60)
    for view in (x.T, x[:, ::2], x[::-1], x.transpose(0, 2, 1), np.broadcast_to(x[:1], x.shape)):
        kernel_equals_definition(function, view)
    channels_last = Tensor(x.astype(np.float32).transpose(0, 2, 1), requires_grad=True)
    y = function(channels_last)
    assert y.data.strides == channels_last.data.strides
    g = Tensor(np.ones(y.shape, np.float32))  # of another order than x
    if name != "tanh":  # whose rule is NumPy's arithmetic
        (gx,) = minigen.autograd.grad(y, [channels_last], g)
        assert gx.data.strides == channels_last.data.strides


@pytest.mark.parametrize("name", FUSED)
def test_the_same_bits_on_any_threads(name):
    same_bits_on_any_threads(FUSED[name][0], draw(100, 300))


@pytest.mark.parametrize("name", FUSED)
def test_the_ends(name):
    function, _ = FUSED[name]
    x = np.array([np.inf, -np.inf, np.nan, 0.0, 200.0, -200.0] * 4000, np.float32)
    small, large = function(Tensor(x[:6])).data, function(Tensor(x)).data
    with minigen.kernels.disabled():
        definition = function(Tensor(x[:6])).data
    np.testing.assert_allclose(large, np.tile(small, 4000), rtol=1e-6)
    ends = [0, 2, 3, 4, 5] if name != "gelu" else [2, 3, 4, 5]  # inf * cdf(inf): NaN or inf, both are seen in the wild
    np.testing.assert_allclose(small[ends], definition[ends], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", FUSED)
def test_gradients_at_the_ends_are_finite(name):
    x = Tensor(np.array([88.0, -88.0, 0.0, 20.0, -20.0], np.float32), requires_grad=True)
    function, _ = FUSED[name]
    function(x).sum().backward()
    assert np.isfinite(x.grad.data).all()


def test_relu_has_no_gradient_at_zero_and_passes_nan():
    x = Tensor(np.array([0.0, -0.0, np.nan, 1.0, -1.0], np.float32), requires_grad=True)
    y = F.relu(x)
    y.backward(Tensor(np.full(5, np.inf, np.float32)))
    np.testing.assert_array_equal(y.data, [0, 0, np.nan, 1, 0])
    np.testing.assert_array_equal(x.grad.data, [0, 0, np.inf, np.inf, 0])


def test_prelu():
    x, w = draw(2, 3, 4), draw(3, low=0.1, high=0.4)
    agrees(F.prelu, lambda x, w: np.where(x > 0, x, w[:, None] * x), x, w)
    agrees(F.prelu, lambda x, w: np.where(x > 0, x, w * x), draw(5), draw(1))
    with pytest.raises(errors.ShapeError, match="3 channels"):
        F.prelu(Tensor(x), Tensor(draw(2)))


def test_rrelu_draws_its_slopes():
    x = Tensor(-np.ones(20000))
    y = F.rrelu(x, 0.2, 0.4, training=True).data
    assert -0.4 <= y.min() < -0.39 and -0.21 < y.max() <= -0.2 and abs(y.mean() + 0.3) < 0.003


@pytest.mark.parametrize("function", [F.gelu, F.mish, lambda x: F.softmax(x, -1), lambda x: F.layer_norm(x, (4,))])
def test_backward_where_forward_had_a_kernel_and_backward_has_none(function):
    x = Tensor(draw(3, 4).astype(np.float32), requires_grad=True)
    function(x).sum().backward()
    expected, x.grad = x.grad.data, None
    y = function(x).sum()
    with minigen.kernels.disabled():
        y.backward()
    np.testing.assert_allclose(x.grad.data, expected, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_another_type_takes_the_outputs():
    x = Tensor(draw(3, 4).astype(np.float32), requires_grad=True)
    F.gelu(x).backward(Tensor(np.ones((3, 4))))
    assert x.grad.dtype == np.float32


def test_nothing_is_left_behind():
    for name in ("gelu", "silu", "relu"):
        leaves_nothing(FUSED[name][0], draw(3, 4).astype(np.float32))


def test_second_derivative_of_relu_is_zero():
    gradients_are_right(F.relu, draw(4, 5))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.gelu(Tensor(draw(3)), approximate="fast"), errors.ArgumentError, "tanh"),
        (lambda: F.gelu(Tensor(np.arange(3))), errors.DtypeError, r"x.float\(\)"),
        (lambda: F.silu([1.0, 2.0]), errors.DtypeError, "tensor"),
        (lambda: F.relu(Tensor(np.array([True]))), errors.DtypeError, "booleans"),
        (lambda: F.glu(Tensor(draw(3, 5)), 1), errors.ShapeError, "even"),
        (lambda: F.glu(Tensor(draw(3, 4)), 2), errors.DimError, "dim"),
        (lambda: F.hardtanh(Tensor(draw(3)), 1, -1), errors.ArgumentError, "min_val"),
        (lambda: F.softshrink(Tensor(draw(3)), -1), errors.ArgumentError, "lambd"),
        (lambda: F.rrelu(Tensor(draw(3)), 0.5, 0.1), errors.ArgumentError, "lower"),
        (lambda: F.celu(Tensor(draw(3)), 0), errors.ArgumentError, "alpha"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
