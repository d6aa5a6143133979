"""linear and bilinear, and the products behind them: kernels equal definitions, gradients, refusals."""

import numpy as np
import pytest
from against_numpy import agrees, draw
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, errors
from minigen.nn import functional as F


def test_the_formula():
    agrees(F.linear, lambda x, w, b: x @ w.T + b, draw(2, 3, 4), draw(5, 4), draw(5))
    agrees(F.linear, lambda x, w: x @ w.T, draw(3, 4), draw(5, 4))
    agrees(F.linear, lambda x, w: x @ w.T, draw(4), draw(5, 4))
    agrees(F.linear, lambda x, w: x @ w, draw(3, 4), draw(4))
    agrees(F.bilinear, lambda a, b, w, c: np.einsum("ni,kij,nj->nk", a, w, b) + c,
           draw(2, 3), draw(2, 4), draw(5, 3, 4), draw(5))  # fmt: skip


@pytest.mark.parametrize(
    ("x", "out"),
    [((5, 3), 4), ((300, 90), 70), ((2, 150, 90), 70), ((0, 3), 4), ((4, 0), 5), ((700, 50), 1), ((90,), 2000)],
)
def test_kernel_equals_definition(x, out):
    w, b = draw(out, x[-1]), draw(out)
    kernel_equals_definition(F.linear, draw(*x), w, b)
    kernel_equals_definition(F.linear, draw(*x), w)


def test_strided_operands():
    x, w, b = draw(90, 300), draw(90, 80), draw(160)
    kernel_equals_definition(F.linear, x.T, w.T, b[::2])
    kernel_equals_definition(F.linear, x.T[::2, ::3], w.T[:, ::3], b[::2])
    kernel_equals_definition(F.linear, np.broadcast_to(x.T[:1], (300, 90)), w.T, b[::2])


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "silu", "mish"])
def test_linear_and_an_activation(name):
    alone = F.gelu if name == "gelu_tanh" else getattr(F, name)
    settings = {"approximate": "tanh"} if name == "gelu_tanh" else {}
    activated = lambda *given: F.linear_activation(*given, activation=name)
    x, w, b = [Tensor(draw(*shape)) for shape in ((2, 3, 4), (5, 4), (5,))]
    for given in [(x, w, b), (x, w), (x[0, 0], w, b), (x, w[0], b[0])]:
        np.testing.assert_allclose(activated(*given).data, alone(F.linear(*given), **settings).data, atol=1e-12)
    gradients_are_right(activated, draw(3, 4), draw(5, 4), draw(5))
    gradients_are_right(activated, draw(3, 4), draw(5, 4))
    for shape, out in [((5, 3), 4), ((300, 90), 70), ((0, 3), 4), ((4, 0), 5)]:
        kernel_equals_definition(activated, draw(*shape), draw(out, shape[-1]), draw(out))
    kernel_equals_definition(activated, draw(90, 300).T[::2, ::3], draw(90, 80).T[:, ::3], draw(160)[::2])
    layer = minigen.nn.Linear(4, 5)
    np.testing.assert_array_equal(layer(x.float(), name).data, activated(x.float(), layer.weight, layer.bias).data)


def test_an_unknown_activation_and_shapes_that_do_not_fit():
    with pytest.raises(errors.ArgumentError, match="linear_activation: activation is one of relu, gelu"):
        F.linear_activation(Tensor(draw(3, 4)), Tensor(draw(5, 4)), activation="tanh")
    with pytest.raises(errors.ShapeError, match="linear_activation: x"):
        F.linear_activation(Tensor(draw(3, 4)), Tensor(draw(4, 5)))
    with pytest.raises(errors.DtypeError, match="several types"):
        F.linear_activation(Tensor(draw(3, 4)), Tensor(draw(5, 4).astype(np.float32)))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((300, 90), (90, 70)),
        ((8, 60, 90), (90, 70)),
        ((8, 60, 90), (8, 90, 70)),
        ((60, 90), (8, 90, 70)),
        ((500, 900), (900, 1)),
    ],
)
def test_products(a, b):
    kernel_equals_definition(minigen.matmul, draw(*a), draw(*b))


def test_the_same_bits_on_any_threads():
    same_bits_on_any_threads(F.linear, draw(3000, 60), draw(50, 60), draw(50))
    same_bits_on_any_threads(minigen.matmul, draw(20, 60, 50), draw(20, 50, 60))


def test_second_gradients():
    gradients_are_right(lambda x, w, b: F.linear(x, w, b) ** 2, draw(3, 4), draw(5, 4), draw(5))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 4), (4, 5)), "weight.T"),
        (((3, 4), (5, 3)), r"weight \(out, in\)"),
        (((3, 4), (5, 4), (4,)), "bias"),
        (((), (5, 4)), "linear"),
        (((3, 4), (1, 5, 4)), "linear"),
    ],
)
def test_shapes_that_do_not_fit(shapes, words):
    with pytest.raises(errors.ShapeError, match=words):
        F.linear(*[Tensor(draw(*shape)) for shape in shapes])


def test_types_that_do_not_fit():
    with pytest.raises(errors.DtypeError, match="several types"):
        F.linear(Tensor(draw(3, 4)), Tensor(draw(5, 4).astype(np.float32)))
    with pytest.raises(errors.DtypeError, match="floats"):
        F.linear(Tensor(np.ones((3, 4), int)), Tensor(draw(5, 4)))
    with pytest.raises(errors.ShapeError, match="bilinear"):
        F.bilinear(Tensor(draw(2, 3)), Tensor(draw(2, 4)), Tensor(draw(5, 4, 3)))
