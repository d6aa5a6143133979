"""The largest and the smallest: where they stand, and who gets the gradient. (Over dimensions: test_reduction.py.)"""

import math

import numpy as np
import pytest
from against_numpy import draw
from agreement import gradients_are_right

import minigen
from minigen import Tensor, autograd
from minigen.errors import ArgumentError, DimError, DtypeError, ShapeError
from minigen.ops import extremes as E


@pytest.mark.parametrize("function", [E.amax, E.amin, E.argmax, E.argmin, E.max, E.min])
def test_extremes_of_nothing_are_refused(function):
    with pytest.raises(ShapeError, match="of no elements"):
        function(minigen.zeros(3, 0), 1)
    with pytest.raises(ShapeError, match="of no elements"):
        function(minigen.zeros(0))
    assert function(minigen.zeros(0, 3), 1) is not None  # no rows, each with three elements


def test_ties():
    x = minigen.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    assert np.allclose(autograd.grad(E.amax(x, 1).sum(), [x])[0].data, [[0, 0.5, 0.5], [1 / 3] * 3])
    assert autograd.grad(E.max(x, 1).values.sum(), [x])[0].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert np.allclose(autograd.grad(E.max(x), [x])[0].data, [[0, 0.5, 0.5], [0, 0, 0]])
    assert np.allclose(autograd.grad(E.amin(x, 1).sum(), [x])[0].data, [[1, 0, 0], [1 / 3] * 3])


@pytest.mark.parametrize("function, reference", [(E.max, np.max), (E.min, np.min)])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_max_with_dim(function, reference, dim, keepdim):
    x = draw(4, 3, 5)
    values, indices = function(Tensor(x), dim, keepdim)
    np.testing.assert_array_equal(values.data, reference(x, axis=dim, keepdims=keepdim))
    at = indices.data if keepdim else np.expand_dims(indices.data, dim)
    found = np.take_along_axis(x, at, dim)
    np.testing.assert_array_equal(found, reference(x, axis=dim, keepdims=True))
    assert indices.dtype == minigen.int64 and not indices.requires_grad
    assert function(Tensor(x), dim).values.shape == function(Tensor(x), dim=dim)[0].shape
    gradients_are_right(lambda x: function(x, dim, keepdim).values, x)


def test_max_of_two():
    a, b = minigen.tensor([1.0, 5.0]), minigen.tensor([2.0, 3.0])
    assert E.max(a, b).tolist() == [2, 5] and E.min(a, b).tolist() == [1, 3]
    assert a.max(b).tolist() == [2, 5] and a.max().item() == 5 and a.min(0).indices.item() == 0


def test_where_the_extremes_stand():
    x = draw(3, 4)
    for function, reference in ((E.argmax, np.argmax), (E.argmin, np.argmin)):
        for dim in (None, 0, 1):
            for keepdim in (False, True):
                y = function(Tensor(x), dim, keepdim)
                np.testing.assert_array_equal(y.data, reference(x, axis=dim, keepdims=keepdim))
                assert y.dtype == minigen.int64
    assert E.argmax(minigen.tensor([1.0, 2.0, 2.0])).item() == 1  # the first
    assert E.argmax(minigen.tensor([1.0, math.nan, 2.0])).item() == 1
    assert E.argmax(minigen.tensor(3.0)).item() == E.max(minigen.tensor(3.0), 0).indices.item() == 0


def test_both():
    x = Tensor(draw(3, 4))
    low, high = E.aminmax(x, dim=1)
    assert (low.data == x.data.min(1)).all() and (high.data == x.data.max(1)).all()
    assert E.aminmax(x).min.shape == () and E.aminmax(x, dim=1, keepdim=True).max.shape == (3, 1)


@pytest.mark.parametrize(
    "error, call",
    [
        (DimError, lambda x: x.max(2)),
        (DimError, lambda x: x.argmax(-3)),
        (DimError, lambda x: x.amax((0, 0))),
        (ArgumentError, lambda x: x.amax(axis=1)),
        (DtypeError, lambda x: minigen.max(2, 3)),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call(minigen.ones(2, 3))
