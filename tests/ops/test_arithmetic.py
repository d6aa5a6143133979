"""Arithmetic, elementwise: values, types, gradients, and what is refused."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices

import minigen
from minigen import Tensor, autograd
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops import arithmetic as A

SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1)), ((), (5,)), ((), ()), ((0, 3), (1, 3))]

BINARY = {
    "add": (A.add, np.add),
    "add alpha": (lambda a, b: A.add(a, b, alpha=3), lambda a, b: a + 3 * b),
    "sub": (A.sub, np.subtract),
    "sub alpha": (lambda a, b: A.sub(a, b, alpha=0.5), lambda a, b: a - 0.5 * b),
    "rsub": (A.rsub, lambda a, b: b - a),
    "mul": (A.mul, np.multiply),
    "div": (A.div, np.divide),
    "div floor": (lambda a, b: A.div(a, b, rounding_mode="floor"), np.floor_divide),
    "div trunc": (lambda a, b: A.div(a, b, rounding_mode="trunc"), lambda a, b: np.trunc(a / b)),
    "maximum": (A.maximum, np.maximum),
    "minimum": (A.minimum, np.minimum),
    "copysign": (A.copysign, np.copysign),
    "hypot": (A.hypot, np.hypot),
    "lerp": (lambda a, b: A.lerp(a, b, 0.3), lambda a, b: a + 0.3 * (b - a)),
    "addcmul": (lambda a, b: A.addcmul(a, b, a, value=2), lambda a, b: a + 2 * b * a),
    "addcdiv": (lambda a, b: A.addcdiv(a, a, b), lambda a, b: a + a / b),
    "where": (lambda a, b: A.where(a > b, a, b * 2), lambda a, b: np.where(a > b, a, b * 2)),
}
UNARY = {
    "neg": (A.neg, np.negative),
    "abs": (A.abs, np.abs),
    "sign": (A.sign, np.sign),
    "nan_to_num": (A.nan_to_num, np.nan_to_num),
    "square by pow": (lambda x: A.pow(x, 2), np.square),
    "cube": (lambda x: A.pow(x, 3), lambda x: x**3),
    "power 0": (lambda x: A.pow(x, 0), np.ones_like),
    "power 1": (lambda x: A.pow(x, 1), lambda x: x),
    "power -2": (lambda x: A.pow(x, -2), lambda x: x**-2.0),
    "exponent": (lambda x: A.pow(2.5, x), lambda x: 2.5**x),
    "clamp": (lambda x: A.clamp(x, -0.6, 1), lambda x: np.clip(x, -0.6, 1)),
    "clamp below": (lambda x: A.clamp(x, min=0.25), lambda x: np.maximum(x, 0.25)),
    "clamp above": (lambda x: A.clamp(x, max=0.25), lambda x: np.minimum(x, 0.25)),
    "clamp crossed": (lambda x: A.clamp(x, 1, -1), lambda x: np.full_like(x, -1)),
}


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", BINARY)
@on_devices
def test_binary(name, shapes, device):
    function, reference = BINARY[name]
    agrees(function, reference, draw(*shapes[0]), draw(*shapes[1], seed=1), device=device)


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)], ids=str)
@pytest.mark.parametrize("name", UNARY)
@on_devices
def test_unary(name, shape, device):
    function, reference = UNARY[name]
    agrees(function, reference, draw(*shape), device=device)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@on_devices
def test_powers_of_two_tensors(shapes, device):
    agrees(A.pow, np.power, draw(*shapes[0], low=0.2), draw(*shapes[1], seed=1), device=device)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@on_devices
def test_clamp_between_tensors(shapes, device):
    low, high = draw(*shapes[1], seed=1) - 0.5, draw(*shapes[0], seed=2) + 0.5
    agrees(A.clamp, lambda x, a, b: np.minimum(np.maximum(x, a), b), draw(*shapes[0]), low, high, device=device)


def gradient_of(function, *numbers):
    """Derivatives of a function of 0-d float64 tensors."""
    tensors = [Tensor(np.array(x, np.float64), requires_grad=True) for x in numbers]
    return [g.item() for g in autograd.grad(function(*tensors), tensors)]


def test_gradients_where_a_formula_would_give_nan():
    assert gradient_of(lambda x: x**0, 0.0) == [0.0]
    assert gradient_of(lambda x: x**1, 0.0) == [1.0]
    assert gradient_of(lambda x: x**2.0, 0.0) == [0.0]
    assert gradient_of(A.pow, 0.0, 0.0) == [0.0, 0.0]
    assert gradient_of(A.pow, 0.0, 2.0) == [0.0, 0.0]
    assert gradient_of(lambda x: 0.0**x, 2.0) == [0.0]
    assert gradient_of(abs, 0.0) == [0.0]
    assert gradient_of(lambda x: A.where(x > 0, x, 0.0), -1.0) == [0.0]


@pytest.mark.parametrize("power, derivatives", [(2, [0, 2]), (3, [0, 0, 6]), (4.0, [0, 0, 0, 24])])
def test_derivatives_of_a_power_at_zero(power, derivatives):
    x = Tensor(np.array(0.0), requires_grad=True)
    y = x**power
    for expected in derivatives:
        (y,) = autograd.grad(y, [x], create_graph=True)
        assert y.item() == expected


def test_equal_operands_share_the_gradient():
    assert gradient_of(A.maximum, 2.0, 2.0) == [0.5, 0.5]
    assert gradient_of(A.minimum, 2.0, 2.0) == [0.5, 0.5]
    assert gradient_of(lambda x: A.clamp(x, 2.0, 3.0), 2.0) == [1.0]  # the border belongs to the inside


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: 1.5 - x,
        lambda x: x * 2.5,
        lambda x: 3 / x,
        lambda x: x**2,
        lambda x: x**0.5,
        lambda x: 2.0**x,
        lambda x: x // 2,
        lambda x: x % 0.7,
        lambda x: A.where(x > 1, x, 0.5),
        lambda x: A.where(x > 1, 1, x),
        lambda x: A.clamp(x, 0, 1.5),
        lambda x: A.maximum(x, 0.3),
        lambda x: A.add(x, x, alpha=0.3),
        lambda x: A.lerp(x, x, 0.3),
        lambda x: x * np.float64(2.5),
        lambda x: np.float64(2.5) * x,
        lambda x: x * True,
        lambda x: x * Tensor(np.array(2.5)),  # a 0-d tensor does not widen either
        lambda x: x.sum() * 1.5,
    ],
)
def test_numbers_never_promote(function, dtype):
    x = Tensor(np.array([0.5, 1.0, 2.0], dtype), requires_grad=True)
    y = function(x)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_types_of_integers():
    i = minigen.tensor([-3, 2, 7])
    assert (i + 1).dtype == minigen.int64 and (i + 0.5).dtype == minigen.float32
    assert (i / 2).dtype == minigen.float32 and (i / i).dtype == minigen.float32
    assert (i // 2).tolist() == [-2, 1, 3]
    assert A.div(i, 2, rounding_mode="trunc").tolist() == [-1, 1, 3]
    assert A.div(i, 2, rounding_mode="trunc").dtype == minigen.int64
    assert (i % 4).tolist() == [1, 2, 3] and minigen.fmod(i, 4).tolist() == [-3, 2, 3]
    assert (i * minigen.ones(3)).dtype == minigen.float32
    assert A.clamp(i, 0, 2.5).tolist() == [0.0, 2.0, 2.5]
    assert (minigen.tensor([True, False]) + minigen.tensor([True, True])).dtype == bool


def test_numpy_arrays_take_part():
    x = minigen.ones(3, requires_grad=True)
    for y in (x * np.arange(3), np.arange(3) * x, np.arange(3.0, dtype=np.float32) * x):
        assert isinstance(y, Tensor) and y.tolist() == [0, 1, 2] and y.dtype == minigen.float32


def test_where_of_numbers():
    yes = minigen.tensor([True, False])
    assert A.where(yes, 1.0, 0).dtype == minigen.float32
    assert A.where(yes, 1, 0).dtype == minigen.int64
    assert [i.tolist() for i in A.where(yes)] == [[0]]


def test_nan_goes_through():
    x = minigen.tensor([math.nan, 1.0])
    for y in (abs(x), A.sign(x), A.maximum(x, 0), A.minimum(x, 0), A.clamp(x, 0, 1), x**2, minigen.floor(x)):
        assert math.isnan(y[0].item())
    assert A.nan_to_num(minigen.tensor([math.nan, math.inf]), nan=2.0, posinf=3.0).tolist() == [2, 3]


@pytest.mark.parametrize(
    "error, call",
    [
        (ShapeError, lambda x: x + minigen.ones(4)),
        (ShapeError, lambda x: A.where(x > 0, x, minigen.ones(2))),
        (DtypeError, lambda x: x + x.double()),
        (DtypeError, lambda x: x + "one"),
        (DtypeError, lambda x: x + None),
        (DtypeError, lambda x: A.where(x, x, x)),
        (DtypeError, lambda x: -(x > 0)),
        (DtypeError, lambda x: (x > 0) - (x > 0)),
        (DtypeError, lambda x: A.add(x.long(), x.long(), alpha=0.5)),
        (DtypeError, lambda x: x.byte() + 300),
        (DtypeError, lambda x: minigen.add(1, 2)),
        (ArgumentError, lambda x: A.clamp(x)),
        (ArgumentError, lambda x: A.div(x, x, rounding_mode="up")),
        (ArgumentError, lambda x: x.long() // 0),
        (ArgumentError, lambda x: x.long() % minigen.tensor([1, 0, 1])),
        (ArgumentError, lambda x: x.long() ** -1),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call(minigen.ones(3))


def test_a_refusal_names_the_op_and_the_shapes():
    with pytest.raises(ShapeError, match=r"mul: \(3,\) float32, \(4,\) float32 do not broadcast"):
        minigen.ones(3) * minigen.ones(4)
    with pytest.raises(DtypeError, match=r"x.float\(\) or x.double\(\)"):
        minigen.ones(3) * minigen.ones(3).double()
