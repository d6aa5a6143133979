"""Sorting and counting: values and indices against NumPy, gradients against differences, ties, NaN, errors."""

import numpy as np
import pytest
from agreement import gradients_are_right

import minigen
from minigen import Tensor
from minigen.errors import ArgumentError, DimError, DtypeError

X = np.random.default_rng(0).standard_normal((3, 5, 4))
LONG = np.random.default_rng(1).standard_normal((2, 200))
nan = float("nan")

TABLE = {
    "sort": (lambda x: x.sort(1).values, lambda x: np.sort(x, 1), X),
    "sort descending": (lambda x: x.sort(descending=True)[0], lambda x: -np.sort(-x, -1), X),
    "msort": (lambda x: x.msort(), lambda x: np.sort(x, 0), X),
    "topk": (lambda x: x.topk(3, 1).values, lambda x: -np.sort(-x, 1)[:, :3], X),
    "topk of many": (lambda x: x.topk(5).values, lambda x: -np.sort(-x)[:, :5], LONG),
    "topk smallest of many": (lambda x: x.topk(5, largest=False).values, lambda x: np.sort(x)[:, :5], LONG),
    "kthvalue": (lambda x: x.kthvalue(2, 0).values, lambda x: np.sort(x, 0)[1], X),
    "kthvalue keepdim": (lambda x: x.kthvalue(4, -1, True).values, lambda x: np.sort(x, -1)[..., 3:], X),
    "median": (lambda x: x.median(), lambda x: np.sort(x.ravel())[29], X),
    "median of a dimension": (lambda x: x.median(1).values, lambda x: np.median(x, 1), X),
    "sort 0-d": (lambda x: x.sort().values, lambda x: x, np.array(2.0)),
    "sort nothing": (lambda x: x.sort().values, lambda x: x, np.zeros((3, 0))),
}


@pytest.mark.parametrize("name", TABLE)
def test_values_and_gradients(name):
    ours, numpys, x = TABLE[name]
    y, expected = ours(Tensor(x)), numpys(x)
    assert y.shape == expected.shape and (y.data == expected).all()
    assert ours(Tensor(x.astype(np.float32))).dtype == np.float32
    if x.size:
        gradients_are_right(ours, x)


@pytest.mark.parametrize(
    "found",
    [
        lambda x: x.sort(1),
        lambda x: x.sort(1, descending=True),
        lambda x: x.topk(2, 1),
        lambda x: x.kthvalue(3, 1, True),
        lambda x: x.median(1, True),
    ],
)
def test_indices_name_the_values(found):
    values, indices = found(Tensor(X))
    assert indices.dtype == np.int64 and not indices.requires_grad
    assert (np.take_along_axis(X, indices.data, 1) == values.data).all()


def test_equal_values_keep_their_order():
    x = Tensor(np.array([2.0, 1.0, 2.0, 1.0, 2.0]))
    assert x.sort().indices.tolist() == [1, 3, 0, 2, 4]
    assert x.sort(descending=True).indices.tolist() == [0, 2, 4, 1, 3]
    assert x.argsort(descending=True).tolist() == [0, 2, 4, 1, 3]


def test_nan_counts_as_largest():
    x = np.array([1.0, nan, 3.0, 2.0])
    assert np.isnan(Tensor(x).sort().values.data[-1])
    assert np.isnan(Tensor(x).sort(descending=True).values.data[0])
    many = np.concatenate([x, np.zeros(100)])
    assert Tensor(many).topk(3).indices.tolist() == [1, 2, 3]
    assert 1 not in Tensor(many).topk(3, largest=False).indices.tolist()
    assert np.isnan(Tensor(x).median().item())
    assert np.isnan(Tensor(x[None]).median(1).values.item())


def test_unique():
    x = np.array([[3, 1, 1], [2, 3, 1]])
    values, inverse, counts = Tensor(x).unique(return_inverse=True, return_counts=True)
    assert values.tolist() == [1, 2, 3] and counts.tolist() == [3, 1, 2]
    assert (values.data[inverse.data] == x).all()
    rows = np.array([[1, 2], [0, 1], [1, 2]])
    values, inverse = Tensor(rows).unique(return_inverse=True, dim=0)
    assert values.tolist() == [[0, 1], [1, 2]] and inverse.tolist() == [1, 0, 1]
    values, counts = Tensor(np.array([1, 1, 2, 1])).unique_consecutive(return_counts=True)
    assert values.tolist() == [1, 2, 1] and counts.tolist() == [2, 1, 1]


def test_counting():
    x = Tensor(np.array([[0, 2], [1, 0]]))
    assert x.nonzero().tolist() == [[0, 1], [1, 0]]
    assert [i.tolist() for i in x.nonzero(as_tuple=True)] == [[0, 1], [1, 0]]
    assert x.count_nonzero().item() == 2 and x.count_nonzero(0).tolist() == [1, 1]
    assert minigen.one_hot(x).tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]]
    assert minigen.one_hot(x, 4).shape == (2, 2, 4)
    labels = Tensor(np.array([0, 2, 2]))
    assert labels.bincount(minlength=4).tolist() == [1, 0, 2, 0]
    weighed = labels.bincount(Tensor(np.array([0.5, 1.0, 2.0], np.float32)))
    assert weighed.tolist() == [0.5, 0.0, 3.0] and weighed.dtype == np.float32


def test_searchsorted_and_bucketize():
    edges = Tensor(np.array([1.0, 3.0, 5.0]))
    x = Tensor(np.array([0.0, 1.0, 4.0, 9.0]))
    assert minigen.bucketize(x, edges).tolist() == [0, 0, 2, 3]
    assert minigen.bucketize(x, edges, right=True).tolist() == [0, 1, 2, 3]
    rows = np.sort(X, -1)
    found = minigen.searchsorted(Tensor(rows), Tensor(X))
    assert (np.take_along_axis(rows, found.data, -1) == X).all()
    assert minigen.searchsorted(edges, 3.5).item() == 2


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda x: x.sort(3), DimError, "dim=3"),
        (lambda x: x.topk(6, 1), ArgumentError, "k=6 of 5"),
        (lambda x: x.kthvalue(0), ArgumentError, "k=0"),
        (lambda x: x[:, :0].median(1), DimError, "empty"),
        (lambda x: minigen.one_hot(x), DtypeError, r"x.long\(\)"),
        (lambda x: minigen.one_hot(x.long() + 5, 3), DimError, "from 0 to 2"),
        (lambda x: x.bincount(), DtypeError, "vector of integers"),
        (lambda x: x[0, 0].long().sub(9).bincount(), ArgumentError, "at least 0"),
        (lambda x: minigen.bucketize(x, x), ArgumentError, "vector"),
        (lambda x: minigen.searchsorted(x[0, 0], x, right=True, side="left"), ArgumentError, "disagree"),
    ],
)
def test_errors(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(Tensor(X))
