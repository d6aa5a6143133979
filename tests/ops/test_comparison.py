"""Comparing: truths and their types, what is close, what is equal."""

import math
import operator

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices

import minigen
from minigen import Tensor
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops import comparison as C

SHAPES = [((3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((), (5,)), ((0, 3), (3,))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@on_devices
def test_comparisons(name, shapes, device):
    a, b = np.round(draw(*shapes[0])), np.round(draw(*shapes[1], seed=1))
    sign = getattr(operator, name)
    agrees(getattr(C, name), sign, a, b, gradients=False, device=device)
    y = sign(Tensor(a), Tensor(b))
    assert y.dtype == bool and not y.requires_grad
    assert (sign(Tensor(a), 1).data == sign(a, 1)).all() and (sign(1.0, Tensor(a)).data == sign(1.0, a)).all()


def test_equality_with_other_things():
    x = minigen.ones(2)
    assert (x == None) is False and (x != None) is True  # noqa: E711
    assert (x == "one") is False and x not in ("one", None)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
@on_devices
def test_truths(name, shapes, device):
    a, b = np.round(draw(*shapes[0])), np.round(draw(*shapes[1], seed=1))
    agrees(getattr(C, name), getattr(np, name), a, b, gradients=False, device=device)
    agrees(C.logical_not, np.logical_not, a, gradients=False, device=device)


@pytest.mark.parametrize("sign", [operator.and_, operator.or_, operator.xor])
@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_bits(sign, dtype):
    a, b = np.array([0, 1, 6, 3]).astype(dtype), np.array([1, 1, 3, 0]).astype(dtype)
    y = sign(Tensor(a), Tensor(b))
    assert y.dtype == dtype and (y.data == sign(a, b)).all()
    assert ((~Tensor(a)).data == ~a).all()
    with pytest.raises(DtypeError):
        sign(Tensor(a), minigen.ones(4))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_what_a_number_is(dtype):
    x = np.array([0, -1, 2]).astype(dtype)
    if dtype != "int64":
        x = np.append(x, np.array([math.nan, math.inf, -math.inf, -0.0], dtype))
    for name in ("isnan", "isinf", "isfinite"):
        assert (getattr(C, name)(Tensor(x)).data == getattr(np, name)(x)).all()
    assert (C.signbit(Tensor(x)).data == (np.signbit(x.astype(float)))).all()


def test_close_and_equal():
    x = minigen.tensor([1.0, math.nan, math.inf, 0.0])
    assert C.isclose(x, x + 1e-6).tolist() == [True, False, True, False]
    assert C.isclose(x, x, equal_nan=True).all()
    assert C.isclose(x, minigen.tensor([1.1, 0.0, 5.0, 0.05]), rtol=0.2, atol=0.1).tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert C.isclose(minigen.tensor([100]), minigen.tensor([101]), rtol=0.1).item()
    assert C.allclose(minigen.ones(2, 3), minigen.ones(3)) is True
    assert C.allclose(minigen.ones(2), minigen.zeros(2)) is False
    assert C.equal(minigen.ones(2), minigen.ones(2)) is True
    assert C.equal(minigen.ones(2), minigen.ones(2, 2)) is False
    assert C.equal(minigen.zeros(0), minigen.zeros(0)) is True


def test_comparing_python_numbers_does_not_widen():
    x = Tensor(np.array([0.1], np.float32))
    assert (x == 0.1).item()  # 0.1 as a float32, not as a float64


@pytest.mark.parametrize(
    "error, call",
    [
        (ShapeError, lambda x: x < minigen.ones(4)),
        (DtypeError, lambda x: x < "a"),
        (DtypeError, lambda x: ~x),
        (DtypeError, lambda x: x < x.double()),
        (DtypeError, lambda x: C.isclose(x, x.long())),
        (ArgumentError, lambda x: C.isclose(x, x, rtol=-1.0)),
        (ArgumentError, lambda x: bool(x > 0)),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call(minigen.ones(3))
