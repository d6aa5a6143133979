"""Norms. (Every p over every kind of `dim`: test_reduction.py.)"""

import math

import numpy as np
import pytest
from against_numpy import draw
from agreement import gradients_are_right

import minigen
from minigen import Tensor, autograd
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops import lengths as L


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, "fro", math.inf])
def test_gradient_at_zero_is_zero(p):
    x = minigen.zeros(3, requires_grad=True)
    assert autograd.grad(L.norm(x, p), [x])[0].tolist() == [0, 0, 0]
    (first,) = autograd.grad(L.norm(x, p), [x], create_graph=True)
    if first.requires_grad:
        assert autograd.grad(first.sum(), [x], allow_unused=True, materialize_grads=True)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("p", [0.5, 1.5, 3])
def test_gradients_beside_zeros(p):
    x = draw(2, 5)
    x[0, 2] = 0
    tensor = Tensor(x, requires_grad=True)
    (g,) = autograd.grad(L.norm(tensor, p, 1).sum(), [tensor])
    size = np.where(x == 0, 1, np.abs(x)) ** (p - 1)
    expected = np.sign(x) * size * L.norm(Tensor(x), p, 1, True).data ** (1 - p)  # 0 where x is 0
    np.testing.assert_allclose(g.data, expected)


def test_zero_counts():
    assert L.norm(minigen.tensor([0.0, 3.0, -2.0]), 0).item() == 2


def test_names():
    x = Tensor(draw(3, 4))
    for y in (L.norm(x), L.norm(x, "fro"), L.norm(x, 2.0), L.norm(x, "fro", (0, 1)), x.norm()):
        assert y.item() == pytest.approx(np.sqrt((x.data**2).sum()))
    assert L.norm(minigen.ones(4), dtype=minigen.float64).dtype == minigen.float64


def test_nuclear_norm():
    x = draw(2, 4, 3)
    expected = np.linalg.svd(x, compute_uv=False).sum(-1)
    np.testing.assert_allclose(L.norm(Tensor(x), "nuc", (1, 2)).data, expected)
    assert L.norm(Tensor(x), "nuc", (1, 2), True).shape == (2, 1, 1)
    gradients_are_right(lambda x: L.norm(x, "nuc"), x[0])


@pytest.mark.parametrize(
    "error, call",
    [
        (ArgumentError, lambda x: x.norm("two")),
        (ShapeError, lambda x: x[0].norm("nuc")),
        (ShapeError, lambda x: x.norm("nuc", 0)),
        (DtypeError, lambda x: x.long().norm()),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call(minigen.ones(2, 3))
