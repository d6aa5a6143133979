"""The elementary functions: values, types and gradients on their domains, and at the edges."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices

import minigen
from minigen import Tensor, autograd
from minigen.errors import DtypeError
from minigen.ops import elementary as E

FUNCTIONS = {  # function: NumPy's, and where it is defined
    E.square: (np.square, -2, 2),
    E.sqrt: (np.sqrt, 0.1, 3),
    E.rsqrt: (lambda x: 1 / np.sqrt(x), 0.1, 3),
    E.reciprocal: (lambda x: 1 / x, 0.2, 2),
    E.exp: (np.exp, -3, 3),
    E.exp2: (np.exp2, -3, 3),
    E.expm1: (np.expm1, -1, 1),
    E.log: (np.log, 0.1, 4),
    E.log2: (np.log2, 0.1, 4),
    E.log10: (np.log10, 0.1, 4),
    E.log1p: (np.log1p, -0.9, 2),
    E.sin: (np.sin, -4, 4),
    E.cos: (np.cos, -4, 4),
    E.tan: (np.tan, -1.4, 1.4),
    E.asin: (np.arcsin, -0.9, 0.9),
    E.acos: (np.arccos, -0.9, 0.9),
    E.atan: (np.arctan, -4, 4),
    E.sinh: (np.sinh, -2, 2),
    E.cosh: (np.cosh, -2, 2),
    E.tanh: (np.tanh, -2, 2),
    E.asinh: (np.arcsinh, -4, 4),
    E.acosh: (np.arccosh, 1.1, 4),
    E.atanh: (np.arctanh, -0.9, 0.9),
    E.sigmoid: (lambda x: 1 / (1 + np.exp(-x)), -4, 4),
}


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)], ids=str)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
@on_devices
def test_function(function, shape, device):
    reference, low, high = FUNCTIONS[function]
    agrees(function, reference, draw(*shape, low=low, high=high), device=device)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((2, 1), (3,)), ((), ()), ((0, 2), (2,))], ids=str)
@on_devices
def test_atan2(shapes, device):
    agrees(E.atan2, np.arctan2, draw(*shapes[0]), draw(*shapes[1], seed=1), device=device)


def test_no_direction_at_the_origin():
    a, b = minigen.zeros(1, requires_grad=True), minigen.zeros(1, requires_grad=True)
    assert [g.item() for g in autograd.grad(E.atan2(a, b), [a, b])] == [0, 0]


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f is not E.square], ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers_give_float32(function, dtype):
    y = function(Tensor(np.array([1], dtype)))
    assert y.dtype == minigen.float32
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y.data, FUNCTIONS[function][0](np.array([1.0])), rtol=1e-6)


def test_outside_the_domain():
    with np.errstate(all="ignore"):
        assert math.isnan(E.log(minigen.tensor(-1.0)).item()) and math.isnan(E.sqrt(minigen.tensor(-1.0)).item())
        assert E.log(minigen.tensor(0.0)).item() == -math.inf and E.reciprocal(minigen.tensor(0.0)).item() == math.inf
        x = minigen.tensor(0.0, requires_grad=True)
        E.sqrt(x).backward()
        assert x.grad.item() == math.inf


def test_far_out():
    x = Tensor(np.array([-800.0, -90.0, 0.0, 90.0, 800.0]))
    with np.errstate(over="ignore"):
        assert E.sigmoid(x).tolist() == pytest.approx([0.0, math.exp(-90), 0.5, 1.0, 1.0], rel=1e-12)
        assert E.sigmoid(x.float()).isfinite().all() and E.tanh(x).tolist() == [-1, -1, 0, 1, 1]


def test_small_numbers_keep_their_digits():
    x = Tensor(np.array([1e-12, -1e-12]))
    np.testing.assert_allclose(E.expm1(x).data, [1e-12, -1e-12], rtol=1e-11)
    np.testing.assert_allclose(E.log1p(x).data, [1e-12, -1e-12], rtol=1e-11)


def test_any_order():
    x = Tensor(np.array(0.3), requires_grad=True)
    y = E.sin(x)
    for expected in (math.cos(0.3), -math.sin(0.3), -math.cos(0.3), math.sin(0.3), math.cos(0.3)):
        (y,) = autograd.grad(y, [x], create_graph=True)
        assert y.item() == pytest.approx(expected, rel=1e-12)


def test_refused():
    for wrong in ([1.0, 2.0], "text", 2.0):
        with pytest.raises(DtypeError, match="tensor"):
            minigen.exp(wrong)
