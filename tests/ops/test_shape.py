"""Reshaping, joining and rearranging: forward against NumPy, gradients against differences, views, errors."""

import numpy as np
import pytest
from agreement import gradients_are_right

import minigen
from minigen import Tensor
from minigen.errors import ArgumentError, DimError, DtypeError, ShapeError


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


X = array(2, 3, 4)
SQUARE = array(2, 4, 4)

# name: (ours, NumPy's, arrays)
TABLE = {
    "reshape": (lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1), [X]),
    "reshape to 0-d": (lambda x: x.reshape(()), lambda x: x.reshape(()), [array(1, 1)]),
    "reshape of a list": (lambda x: x.reshape([6, 4]), lambda x: x.reshape(6, 4), [X]),
    "view": (lambda x: x.view(24), lambda x: x.reshape(24), [X]),
    "view of what is transposed": (lambda x: x.mT.view(-1), lambda x: x.swapaxes(1, 2).reshape(-1), [X]),
    "flatten": (lambda x: x.flatten(1), lambda x: x.reshape(2, 12), [X]),
    "flatten 0-d": (lambda x: x.flatten(), lambda x: x.reshape(1), [array()]),
    "unflatten": (lambda x: x.unflatten(-1, (2, -1)), lambda x: x.reshape(2, 3, 2, 2), [X]),
    "squeeze": (lambda x: x.squeeze(), lambda x: x.reshape(3, 2), [array(1, 3, 1, 2)]),
    "squeeze one": (lambda x: x.squeeze((0, 1)), lambda x: x.reshape(3, 1, 2), [array(1, 3, 1, 2)]),
    "unsqueeze": (lambda x: x.unsqueeze(-2), lambda x: x[:, :, None], [X]),
    "permute": (lambda x: x.permute(2, 0, 1), lambda x: x.transpose(2, 0, 1), [X]),
    "permute dims=": (lambda x: minigen.permute(x, dims=(1, 0, 2)), lambda x: x.transpose(1, 0, 2), [X]),
    "transpose": (lambda x: x.transpose(0, -1), lambda x: x.swapaxes(0, 2), [X]),
    "mT": (lambda x: x.mT, lambda x: x.swapaxes(1, 2), [X]),
    "T": (lambda x: x.T, lambda x: x.T, [array(2, 3)]),
    "movedim": (lambda x: x.movedim((0, 1), (2, 0)), lambda x: np.moveaxis(x, (0, 1), (2, 0)), [X]),
    "expand": (lambda x: x.expand(5, -1, 3), lambda x: np.broadcast_to(x, (5, 2, 3)), [array(2, 1)]),
    "broadcast_to": (lambda x: minigen.broadcast_to(x, (2, 3)), lambda x: np.broadcast_to(x, (2, 3)), [array(3)]),
    "broadcast_tensors": (
        lambda x, y: minigen.broadcast_tensors(x, y)[0] * y,
        lambda x, y: x * y,
        [array(2, 1), array(3)],
    ),
    "cat": (lambda x, y: minigen.cat([x, y], -1), lambda x, y: np.concatenate((x, y), -1), [array(2, 3), array(2, 5)]),
    "cat one twice": (lambda x: minigen.cat([x, x * 2]), lambda x: np.concatenate((x, x * 2)), [array(2, 3)]),
    "stack": (
        lambda x, y: minigen.stack([x, y], 1),
        lambda x, y: np.stack((x, y), 1),
        [array(2, 3), array(2, 3, seed=1)],
    ),
    "hstack": (lambda x, y: minigen.hstack([x, y]), lambda x, y: np.hstack((x, y)), [array(2, 3), array(2, 1)]),
    "vstack": (lambda x, y: minigen.vstack([x, y]), lambda x, y: np.vstack((x, y)), [array(3), array(2, 3)]),
    "dstack": (lambda x, y: minigen.dstack([x, y]), lambda x, y: np.dstack((x, y)), [array(3, 2), array(3, 2, seed=1)]),
    "narrow": (lambda x: x.narrow(1, 1, 2), lambda x: x[:, 1:3], [X]),
    "select": (lambda x: x.select(2, -1), lambda x: x[:, :, -1], [X]),
    "flip": (lambda x: x.flip(0, 2), lambda x: np.flip(x, (0, 2)), [X]),
    "flip dims=": (lambda x: x.flip(dims=[1]), lambda x: np.flip(x, 1), [X]),
    "roll": (lambda x: x.roll((1, -2), (0, 2)), lambda x: np.roll(x, (1, -2), (0, 2)), [X]),
    "roll flat": (lambda x: x.roll(5), lambda x: np.roll(x, 5), [X]),
    "rot90": (lambda x: x.rot90(1, (0, 1)), lambda x: np.rot90(x, 1, (0, 1)), [X]),
    "rot90 back": (lambda x: x.rot90(-1, (1, 2)), lambda x: np.rot90(x, -1, (1, 2)), [X]),
    "repeat": (lambda x: x.repeat(2, 1, 3), lambda x: np.tile(x, (2, 1, 3)), [array(2, 3)]),
    "tile": (lambda x: x.tile(3), lambda x: np.tile(x, 3), [array(2, 3)]),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, 1), lambda x: np.repeat(x, 3, 1), [X]),
    "repeat_interleave each": (
        lambda x: x.repeat_interleave(np.array([2, 0, 1]), 1),
        lambda x: np.repeat(x, [2, 0, 1], 1),
        [X],
    ),
    "tril": (lambda x: x.tril(1), lambda x: np.tril(x, 1), [SQUARE]),
    "triu": (lambda x: x.triu(-1), lambda x: np.triu(x, -1), [SQUARE]),
    "diagonal": (lambda x: x.diagonal(1, 0, 2), lambda x: x.diagonal(1, 0, 2), [X]),
    "diag of a vector": (lambda x: x.diag(-1), lambda x: np.diag(x, -1), [array(3)]),
    "diag of a matrix": (lambda x: x.diag(1), lambda x: np.diag(x, 1), [array(3, 4)]),
    "diag_embed": (lambda x: x.diag_embed(), lambda x: x[..., None] * np.eye(4), [X]),
    "unfold": (
        lambda x: x.unfold(-1, 3, 2),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, -1)[..., ::2, :],
        [array(2, 9)],
    ),
    "meshgrid": (
        lambda x, y: minigen.stack(minigen.meshgrid(x, y)),
        lambda x, y: np.stack(np.meshgrid(x, y, indexing="ij")),
        [array(2), array(3)],
    ),
    "meshgrid xy": (
        lambda x, y: minigen.stack(minigen.meshgrid(x, y, indexing="xy")),
        lambda x, y: np.stack(np.meshgrid(x, y)),
        [array(2), array(3)],
    ),
    "atleast_3d": (lambda x: minigen.atleast_3d(x), np.atleast_3d, [array(3)]),
    "an empty one": (lambda x: x.reshape(3, 0).mT.flatten(), lambda x: x.reshape(0), [array(0, 3)]),
}


@pytest.mark.parametrize("name", TABLE)
def test_forward_and_gradients(name):
    ours, numpys, arrays = TABLE[name]
    y = ours(*[Tensor(a) for a in arrays])
    expected = numpys(*arrays)
    assert y.shape == expected.shape
    assert (y.data == expected).all()
    assert ours(*[Tensor(a.astype(np.float32)) for a in arrays]).dtype == np.float32
    gradients_are_right(ours, *arrays)


def test_on_plain_arrays():
    """Ops compute on arrays too: gradient rules and data code rely on it."""
    x = array(2, 3)
    for y in (
        minigen.cat([x, x]), minigen.stack([x, x]), minigen.flip(x, 0), minigen.roll(x, 1, 0), minigen.tril(x),
        minigen.unsqueeze(x, 0), minigen.permute(x, 1, 0), minigen.reshape(x, 6), minigen.split(x, 1)[0],
    ):  # fmt: skip
        assert isinstance(y, np.ndarray)


def pieces(name, *args):
    return {
        "split": lambda x: minigen.split(x, *args),
        "chunk": lambda x: minigen.chunk(x, *args),
        "tensor_split": lambda x: minigen.tensor_split(x, *args),
        "unbind": lambda x: minigen.unbind(x, *args),
    }[name]


@pytest.mark.parametrize(
    ("cut", "places"),
    [
        (pieces("split", 3), [slice(0, 3), slice(3, 6), slice(6, 7)]),
        (pieces("split", [2, 0, 5]), [slice(0, 2), slice(2, 2), slice(2, 7)]),
        (pieces("chunk", 3), [slice(0, 3), slice(3, 6), slice(6, 7)]),
        (pieces("tensor_split", 3), [slice(0, 3), slice(3, 5), slice(5, 7)]),
        (pieces("tensor_split", [2, 4]), [slice(0, 2), slice(2, 4), slice(4, 7)]),
        (pieces("unbind"), list(range(7))),
    ],
)
def test_cutting(cut, places):
    x = array(7, 2)
    parts = cut(Tensor(x))
    assert len(parts) == len(places)
    assert all((part.data == x[place]).all() for part, place in zip(parts, places))
    gradients_are_right(lambda x: minigen.cat([p.flatten() * i for i, p in enumerate(cut(x))]), x)
    gradients_are_right(lambda x: cut(x)[0].sum() ** 2, x)  # the other pieces have no gradient


def test_a_piece_of_a_split_is_one_concatenation_back():
    x = Tensor(array(6, 2), requires_grad=True)
    a, b, c = x.split(2)
    assert a.node is b.node is c.node


def test_views_share_memory():
    x = Tensor(array(4, 6))
    for view in (
        x.reshape(2, 12), x.permute(1, 0), x.unsqueeze(0), x.expand(3, 4, 6), x[1:, ::2], x.narrow(0, 1, 2),
        x.diagonal(), x.unfold(1, 2, 2), x.split(2)[1], x.chunk(2, 1)[0], x.unbind(1)[2], x[0, 0], x.squeeze(), x.T,
    ):  # fmt: skip
        assert np.shares_memory(view.data, x.data)
    for copy in (x.flip(0), x.roll(1), x.repeat(1, 1), x.tril()):
        assert not np.shares_memory(copy.data, x.data)
    x.diagonal().fill_(5.0)
    assert (np.diag(x.data) == 5).all()


def test_a_write_through_a_view_is_seen_by_the_graph():
    x = Tensor(array(4, 4), requires_grad=True)
    h = x * 2.0
    y = (h * h).sum()
    with minigen.no_grad():
        h.view(16)[3:5].zero_()
    with pytest.raises(minigen.errors.GradientError, match="written in place"):
        y.backward()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda x: x.reshape(5, -1), ShapeError, "24 numbers do not divide into rows of 5"),
        (lambda x: x.reshape(2, 3), ShapeError, "24 numbers do not fit into 6 places"),
        (lambda x: x.reshape(-1, -1), ShapeError, "only one size can be -1"),
        (lambda x: x.reshape(-2, 12), ShapeError, "at least 0"),
        (lambda x: x.reshape(2.0, 12), DtypeError, "made of integers"),
        (lambda x: x.permute(0, 1), DimError, "cannot be ordered"),
        (lambda x: x.permute(0, 1, 1), DimError, "twice"),
        (lambda x: x.transpose(0, 3), DimError, "from -3 to 2"),
        (lambda x: x.squeeze(7), DimError, "dim=7"),
        (lambda x: x.expand(2, 3, 5), ShapeError, "only dimensions of size 1"),
        (lambda x: x.unflatten(2, (3, 2)), ShapeError, "not the product"),
        (lambda x: x.flatten(2, 1), DimError, "comes after"),
        (lambda x: minigen.cat([x, x[:, :2]]), ShapeError, "equal but in dimension 0"),
        (lambda x: minigen.cat([x, x.double()]), DtypeError, "two types"),
        (lambda x: minigen.cat(x), ArgumentError, r"write cat\(\[a, b\]\)"),
        (lambda x: minigen.cat([]), ArgumentError, "empty"),
        (lambda x: minigen.stack([x, x[:1]]), ShapeError, r"cat\(\)"),
        (lambda x: x.split([1, 5], 1), ArgumentError, "add up to the size 3"),
        (lambda x: x.chunk(0), ArgumentError, "positive"),
        (lambda x: x.narrow(1, 2, 2), DimError, "out of range"),
        (lambda x: x.repeat(2), ShapeError, "tile"),
        (lambda x: x.roll((1, 2), 0), ArgumentError, "2 shifts for 1 dims"),
        (lambda x: x.unfold(1, 4, 1), ShapeError, "window of 4"),
        (lambda x: x[0, 0].tril(), ShapeError, "2 dimensions"),
        (lambda x: x.diagonal(0, 1, 1), DimError, "twice"),
        (lambda x: x.t(), DimError, "x.mT"),
        (lambda x: minigen.meshgrid(x), ShapeError, "vectors"),
        (lambda x: minigen.broadcast_tensors(x, x[:, :2]), ShapeError, "no common shape"),
        (lambda x: minigen.cat([x, x], axis=0), ArgumentError, "dim="),
    ],
)
def test_errors(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(Tensor(array(2, 3, 4).astype(np.float32)))


def test_iterating_gives_slices_with_one_node_for_all():
    x = Tensor(array(3, 2), requires_grad=True)
    rows = list(x)
    assert len(rows) == 3 and rows[0].node is rows[2].node
    gradients_are_right(lambda x: minigen.stack([row * i for i, row in enumerate(x)]), array(3, 2))
    assert list(Tensor(np.zeros((0, 2)))) == []


@pytest.mark.parametrize("name", ["atleast_1d", "atleast_2d", "atleast_3d"])
def test_atleast_takes_one_several_or_a_list(name):
    ours, numpys = getattr(minigen, name), getattr(np, name)
    arrays = [array(), array(3), array(2, 3)]
    for found in (ours(*map(Tensor, arrays)), ours([Tensor(a) for a in arrays])):
        assert isinstance(found, tuple)
        for x, expected in zip(found, numpys(*arrays)):
            np.testing.assert_array_equal(x.data, expected)
    np.testing.assert_array_equal(ours(Tensor(arrays[1])).data, numpys(arrays[1]))
