"""Datasets: what PyTorch's of the same name do, row by row and batch by batch."""

from collections import namedtuple

import numpy as np
import pytest

import minigen
from minigen.data import ConcatDataset, Dataset, Subset, TensorDataset, default_collate, random_split
from minigen.errors import ArgumentError, DataError, DimError, DtypeError, MinigenError, ShapeError
from minigen.random import Generator

X, Y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10)


def test_tensor_dataset():
    data = TensorDataset(X, minigen.tensor(Y))
    assert len(data) == 10
    x, y = data[3]
    assert isinstance(x, minigen.Tensor) and x.tolist() == [6, 7] and y.item() == 3 and y.dtype == np.int64
    assert data[-1][1].item() == 9 and data[2:4][0].shape == (2, 2)
    x.data[:] = 99
    assert X[3, 0] == 6  # a row is a copy
    assert [len(data[i]) for i in range(10)] == [2] * 10 and len(list(data)) == 10  # IndexError ends a plain loop


def test_subset_and_concat():
    data = TensorDataset(X, Y)
    part = Subset(data, [7, 1, 7])
    assert [part[i][1].item() for i in range(3)] == [7, 1, 7] and part[-1][1].item() == 7
    assert part.batch(np.array([2, 1]))[1].tolist() == [7, 1]
    nested = Subset(part, [1])
    assert nested.batch(np.array([0]))[1].tolist() == [1]
    both = ConcatDataset([part, data])
    assert len(both) == 13 and [both[i][1].item() for i in (0, 2, 3, 12, -1)] == [7, 7, 0, 9, 9]
    assert ConcatDataset([Subset(data, []), data])[0][1].item() == 0


def test_random_split():
    data = TensorDataset(X, Y)
    parts = random_split(data, [7, 2, 1], Generator(0))
    seen = np.concatenate([part.indices for part in parts])
    assert [len(part) for part in parts] == [7, 2, 1] and sorted(seen) == list(range(10)) and list(seen) != sorted(seen)
    again = random_split(data, [7, 2, 1], Generator(0))
    assert all((a.indices == b.indices).all() for a, b in zip(parts, again))
    assert [len(part) for part in random_split(data, [0.25, 0.25, 0.5])] == [3, 2, 5]
    assert [len(part) for part in random_split(data, [1.0])] == [10]
    for bad in ([5, 4], [0.5, 0.4], [-1, 11], []):
        with pytest.raises(ArgumentError, match="add up"):
            random_split(data, bad)


Point = namedtuple("Point", "x y")


def test_collate_keeps_the_structure():
    rows = [{"a": (1, 2.5), "b": [X[i]], "c": "text", "p": Point(True, np.float64(i))} for i in range(3)]
    batch = default_collate(rows)
    assert batch["a"][0].dtype == np.int64 and batch["a"][1].dtype == np.float32 and batch["a"][1].shape == (3,)
    assert isinstance(batch["b"], list) and (batch["b"][0].numpy() == X[:3]).all()
    assert batch["c"] == ["text"] * 3
    assert isinstance(batch["p"], Point) and batch["p"].x.dtype == np.bool_ and batch["p"].y.dtype == np.float64
    assert default_collate([minigen.tensor(X[0])] * 2).shape == (2, 2)


def test_collate_says_what_does_not_fit():
    with pytest.raises(DataError, match=r"same shapes: row 0 has \(2,\), row 1 has \(1,\)"):
        default_collate([X[0], X[0, :1]])
    with pytest.raises(DataError, match="same keys"):
        default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(DataError, match="same lengths"):
        default_collate([(1, 2), (1,)])
    with pytest.raises(DtypeError, match="give the DataLoader a collate_fn"):
        default_collate([object()])


def test_errors_say_what_to_write():
    data = TensorDataset(X, Y)
    for index in (10, -11):
        with pytest.raises(DimError, match=f"row {index} of 10"):
            data[index]
    with pytest.raises(ShapeError, match=r"share their first dimension.*\n.*\(10, 2\).*\(9,\)"):
        TensorDataset(X, Y[:9])
    with pytest.raises(ShapeError, match="first dimension"):
        TensorDataset(np.float32(1))
    with pytest.raises(ArgumentError, match="at least one"):
        TensorDataset()
    with pytest.raises(NotImplementedError, match="write __len__"):
        len(Dataset())
    assert issubclass(DimError, MinigenError) and issubclass(DimError, IndexError)
