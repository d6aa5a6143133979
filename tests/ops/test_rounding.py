"""Rounding and remainders."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices

import minigen
from minigen import Tensor, autograd
from minigen.errors import ArgumentError
from minigen.ops import rounding as R

UNARY = {
    "floor": (R.floor, np.floor),
    "ceil": (R.ceil, np.ceil),
    "trunc": (R.trunc, np.trunc),
    "round": (R.round, np.round),
    "round decimals": (lambda x: R.round(x, decimals=1), lambda x: np.round(x, 1)),
    "frac": (R.frac, lambda x: x - np.trunc(x)),
}
BINARY = {
    "floor_divide": (R.floor_divide, np.floor_divide),
    "remainder": (R.remainder, np.remainder),
    "fmod": (R.fmod, np.fmod),
}


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)], ids=str)
@pytest.mark.parametrize("name", UNARY)
@on_devices
def test_unary(name, shape, device):
    agrees(*UNARY[name], draw(*shape), device=device)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((), (5,)), ((0, 3), (1, 3))], ids=str)
@pytest.mark.parametrize("name", BINARY)
@on_devices
def test_binary(name, shapes, device):
    agrees(*BINARY[name], draw(*shapes[0]), draw(*shapes[1], seed=1), device=device)


def test_signs():
    x = minigen.tensor([-5.0, 5.0, -5.0, 5.0])
    y = minigen.tensor([3.0, 3.0, -3.0, -3.0])
    assert (x % y).tolist() == [1, 2, -2, -1] and R.fmod(x, y).tolist() == [-2, 2, -2, 2]
    assert (x // y).tolist() == [-2, 1, 1, -2]
    i, j = x.long(), y.long()
    assert (i % j).tolist() == [1, 2, -2, -1] and R.fmod(i, j).tolist() == [-2, 2, -2, 2]
    assert minigen.div(i, j, rounding_mode="trunc").tolist() == [-1, 1, 1, -1]


def test_halves_go_to_the_even_neighbour():
    assert R.round(minigen.tensor([0.5, 1.5, 2.5, -0.5])).tolist() == [0, 2, 2, 0]


def test_integers_stay_integers():
    i = minigen.tensor([-3, 0, 4])
    for function in (R.floor, R.ceil, R.trunc, R.round):
        assert function(i).dtype == minigen.int64 and (function(i).data == i.data).all()


def test_heaviside():
    x = minigen.tensor([-1.0, 0.0, 2.0, math.nan])
    assert R.heaviside(x, 0.5)[:3].tolist() == [0, 0.5, 1] and R.heaviside(x, 0.5).dtype == minigen.float32
    assert R.heaviside(minigen.tensor([-1, 0, 2]), Tensor(np.array(7))).tolist() == [0, 7, 1]


def test_steps_have_a_gradient_and_it_is_zero():
    x = minigen.tensor([0.3, 1.7], requires_grad=True)
    steps = R.floor, R.ceil, R.trunc, R.round, minigen.sign
    quotients = x // 0.4, minigen.div(x, 0.4, rounding_mode="trunc")
    for y in (*[f(x) for f in steps], *quotients):
        assert autograd.grad(y.sum(), [x])[0].tolist() == [0, 0]


@pytest.mark.parametrize("function", [R.floor_divide, R.remainder, R.fmod])
def test_integers_are_not_divided_by_zero(function):
    for zero in (0, minigen.tensor([1, 0])):
        with pytest.raises(ArgumentError, match="divided by zero"):
            function(minigen.tensor([1, 2]), zero)
