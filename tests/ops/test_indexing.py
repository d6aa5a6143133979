"""Square brackets, gather and scatter: forward against NumPy, gradients against differences, errors."""

import numpy as np
import pytest
from agreement import gradients_are_right

import minigen
from minigen import Tensor
from minigen.errors import ArgumentError, DimError, DtypeError, GradientError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5, 6))
MASK = RNG.random((4, 5)) > 0.4

INDICES = {
    "a number": 2,
    "a negative number": (-1, 0),
    "slices": (slice(1, 3), slice(None, None, 2)),
    "a step back": (slice(None), slice(None, None, -1)),
    "None": (None, 1, slice(None), None),
    "Ellipsis": (..., 3),
    "all of it": (2, 3, 4),
    "nothing": slice(3, 1),
    "a list": [0, 2, 2, 3],
    "an array twice": (np.array([0, 1, 1]), np.array([2, 2, 2])),
    "arrays that broadcast": (np.array([[0], [3]]), slice(None), np.array([1, 5, 1])),
    "an array behind": (slice(None), slice(None), np.array([[0, 0], [5, -1]])),
    "an array and a number": (np.array([1, 1, 2]), 3),
    "a mask": MASK,
    "a mask of all": X > 0,
    "a mask behind": (slice(None), np.array([True, False, True, True, False])),
    "a mask and an array": (np.array([True, False, False, True]), slice(None), np.array([1, 4])),
    "a NumPy integer": np.int64(3),
    "an empty array": np.zeros(0, np.int64),
}


def as_tensors(index):
    if isinstance(index, tuple):
        return tuple([as_tensors(i) for i in index])
    return Tensor(index) if isinstance(index, np.ndarray) else index


@pytest.mark.parametrize("name", INDICES)
def test_getitem(name):
    index = INDICES[name]
    expected = X[index]
    for given in (index, as_tensors(index)):
        y = Tensor(X)[given]
        assert y.shape == expected.shape and (y.data == expected).all()
        assert isinstance(y.data, np.ndarray)
    assert Tensor(X.astype(np.float32))[index].dtype == np.float32
    if expected.size:
        gradients_are_right(lambda x: x[index], X)


@pytest.mark.parametrize("name", [name for name in INDICES if "twice" not in name])
def test_setitem(name):
    index = INDICES[name]
    expected = X.copy()
    expected[index] = 7.0
    x = Tensor(X.copy())
    x[as_tensors(index)] = 7.0
    assert (x.data == expected).all()
    assert (Tensor(X).index_put(index, 7.0).data == expected).all()


def test_lists_of_tensors_index():
    x = Tensor(X)
    assert (x[[Tensor(1), Tensor(3)]].data == X[[1, 3]]).all()
    assert (x[Tensor(2)].data == X[2]).all()
    assert np.shares_memory(x[Tensor(2)].data, X)


def test_a_slice_of_one_number_is_a_view():
    x = Tensor(np.arange(3.0))
    x[1].fill_(9.0)
    assert x.tolist() == [0, 9, 2]


@pytest.mark.parametrize("width", [1, 7])
def test_the_gradient_of_many_repeated_rows(width):
    """Long enough for the sorted sums, and with negative indices."""
    rng = np.random.default_rng(1)
    rows = rng.integers(-20, 20, 3000)
    x = Tensor(rng.standard_normal((20, width)), requires_grad=True)
    weights = rng.standard_normal((3000, width))
    (g,) = minigen.autograd.grad((x[rows] * Tensor(weights)).sum(), x)
    expected = np.zeros((20, width))
    np.add.at(expected, rows, weights)
    assert np.abs(g.data - expected).max() < 1e-10
    both = rng.integers(0, 4, 2000), rng.integers(0, 5, 2000)
    x = Tensor(X, requires_grad=True)
    for index in (both, (both[0], slice(None), both[1])):
        weights = rng.standard_normal(X[index].shape)
        (g,) = minigen.autograd.grad((x[index] * Tensor(weights)).sum(), x)
        expected = np.zeros_like(X)
        np.add.at(expected, index, weights)
        assert np.abs(g.data - expected).max() < 1e-10


def test_index_put_keeps_gradients():
    gradients_are_right(lambda x, y: x.index_put((slice(1, 3), 0), y), X, RNG.standard_normal((2, 6)))
    rows = np.array([0, 2])
    gradients_are_right(lambda x, y: x.index_put(rows, y), X, RNG.standard_normal((5, 6)))
    repeated = np.array([0, 2, 2])
    gradients_are_right(lambda x, y: x.index_put(repeated, y, accumulate=True), X, RNG.standard_normal((3, 5, 6)))


ALONG = RNG.integers(0, 5, (4, 3, 6))
BIG = RNG.standard_normal((4, 7, 6))
VECTOR = np.array([3, 0, 0, 4])


def scattered(x, index, src, combine):
    y = x.copy()
    for i, j, k in np.ndindex(index.shape):
        y[i, index[i, j, k], k] = combine(y[i, index[i, j, k], k], src[i, j, k])
    return y


DISTINCT = np.argsort(RNG.random((4, 5, 6)), 1)[:, :3]
TABLE = {
    "gather": (lambda x: x.gather(1, Tensor(ALONG)), lambda x: np.take_along_axis(x, ALONG, 1), [X]),
    "gather less": (
        lambda x: x.gather(1, ALONG[:2, :, :3]),
        lambda x: np.take_along_axis(x[:2, :, :3], ALONG[:2, :, :3], 1),
        [X],
    ),
    "take_along_dim": (
        lambda x: x.take_along_dim(ALONG[:, :1], 1),
        lambda x: np.take_along_axis(x, ALONG[:, :1], 1),
        [X],
    ),
    "take": (lambda x: x.take(np.array([[0, 7], [-1, 7]])), lambda x: x.take([[0, 7], [-1, 7]]), [X]),
    "index_select": (lambda x: x.index_select(1, VECTOR), lambda x: x[:, VECTOR], [X]),
    "masked_select": (lambda x: x.masked_select(X > 0), lambda x: x[X > 0], [X]),
    "masked_fill": (lambda x: x.masked_fill(MASK[..., None], -2.0), lambda x: np.where(MASK[..., None], -2.0, x), [X]),
    "masked_fill a tensor": (
        lambda x, v: x.masked_fill(MASK[..., None], v),
        lambda x, v: np.where(MASK[..., None], v, x),
        [X, np.array(0.5)],
    ),
    "masked_scatter": (
        lambda x, y: x.masked_scatter(MASK, y),
        lambda x, y: np.where(MASK, _spread(y), x),
        [X[..., 0], BIG[0]],
    ),
    "scatter": (
        lambda x, y: x.scatter(1, DISTINCT, y),
        lambda x, y: scattered(x, DISTINCT, y, lambda old, new: new),
        [X, BIG],
    ),
    "scatter a number": (
        lambda x: x.scatter(1, DISTINCT, 3.0),
        lambda x: scattered(x, DISTINCT, np.full(DISTINCT.shape, 3.0), lambda old, new: new),
        [X],
    ),
    "scatter_add": (
        lambda x, y: x.scatter_add(1, ALONG, y),
        lambda x, y: scattered(x, ALONG, y, lambda old, new: old + new),
        [X, BIG],
    ),
    "scatter_reduce prod": (
        lambda x, y: x.scatter_reduce(1, ALONG, y, "prod"),
        lambda x, y: scattered(x, ALONG, y, lambda old, new: old * new),
        [X, BIG],
    ),
    "scatter_reduce amax": (
        lambda x, y: x.scatter_reduce(1, ALONG, y, "amax"),
        lambda x, y: scattered(x, ALONG, y, max),
        [X, BIG],
    ),
    "scatter_reduce amin without self": (
        lambda x, y: x.scatter_reduce(1, ALONG, y, "amin", include_self=False),
        lambda x, y: scattered(scattered(x, ALONG, y, lambda old, new: np.inf), ALONG, y, min),
        [X, BIG],
    ),
    "scatter_reduce mean": (
        lambda x, y: x.scatter_reduce(1, ALONG, y, "mean"),
        lambda x, y: scattered(x, ALONG, y, lambda old, new: old + new)
        / scattered(np.ones_like(x), ALONG, np.ones_like(y), lambda old, new: old + new),
        [X, BIG],
    ),
    "index_add": (
        lambda x, y: x.index_add(1, VECTOR, y, alpha=2.0),
        lambda x, y: _index_add(x, y),
        [X, RNG.standard_normal((4, 4, 6))],
    ),
    "index_copy": (
        lambda x, y: x.index_copy(0, np.array([2, 0]), y),
        lambda x, y: np.stack([y[1], x[1], y[0], x[3]]),
        [X, RNG.standard_normal((2, 5, 6))],
    ),
    "index_fill": (
        lambda x, v: x.index_fill(0, np.array([1, 1, -1]), v),
        lambda x, v: np.where(np.array([False, True, False, True])[:, None, None], v, x),
        [X, np.array(2.5)],
    ),
}  # fmt: skip


def _spread(y):
    out = np.zeros(MASK.shape)
    out[MASK] = y.ravel()[: MASK.sum()]
    return out


def _index_add(x, y):
    out = x.copy()
    for i, j in enumerate(VECTOR):
        out[:, j] += 2 * y[:, i]
    return out


@pytest.mark.parametrize("name", TABLE)
def test_forward_and_gradients(name):
    ours, numpys, arrays = TABLE[name]
    before = [a.copy() for a in arrays]
    y, expected = ours(*[Tensor(a) for a in arrays]), numpys(*arrays)
    assert y.shape == expected.shape
    assert np.allclose(y.data, expected, rtol=1e-13, atol=1e-14)
    assert ours(*[Tensor(a.astype(np.float32)) for a in arrays]).dtype == np.float32
    gradients_are_right(ours, *arrays)
    assert all((a == b).all() for a, b in zip(arrays, before)), "an argument was written to"


def test_the_gradient_of_a_product_with_zeros_in_it():
    index = np.array([[0, 0, 1], [1, 1, 1]])
    x, src = np.array([[0.0, 2.0], [3.0, 0.0]]), np.array([[2.0, 3.0, 0.0], [4.0, 5.0, 6.0]])
    gradients_are_right(lambda x, y: x.scatter_reduce(1, index, y, "prod"), x, src)


def test_equal_extremes_share_the_gradient():
    x = Tensor(np.array([3.0, 1.0]), requires_grad=True)
    src = Tensor(np.array([3.0, 3.0, 0.0]), requires_grad=True)
    y = x.scatter_reduce(0, Tensor(np.array([0, 0, 1])), src, "amax")
    gx, gsrc = minigen.autograd.grad((y * Tensor(np.array([6.0, 5.0]))).sum(), [x, src])
    assert gx.tolist() == [2.0, 5.0] and gsrc.tolist() == [2.0, 2.0, 0.0]


def test_empty_and_0d():
    none = Tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    index = Tensor(np.zeros((0, 3), np.int64))
    for y in (
        none.gather(0, index),
        none.scatter_add(0, index, none),
        none.index_select(1, [0, 2]),
        none[none.data > 0],
    ):
        assert y.numel() == 0 and y.dtype == np.float32
        assert minigen.autograd.grad(y.sum(), none)[0].shape == (0, 3)
    number = Tensor(np.array(2.0), requires_grad=True)
    assert number.gather(0, Tensor(np.array(0))).item() == 2.0
    assert number.scatter_add(0, Tensor(np.array(0)), Tensor(np.array(3.0))).item() == 5.0
    assert number[None].shape == (1,) and number[...].shape == ()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda x: x[4], DimError, "index 4 is out of bounds"),
        (lambda x: x[0, 0, 0, 0], DimError, "too many indices"),
        (lambda x: x[1.5], DtypeError, "cannot index"),
        (lambda x: x["a"], DtypeError, "cannot index"),
        (lambda x: x[Tensor(np.array([0.0]))], DtypeError, r"index.long\(\)"),
        (lambda x: x[np.array([0, 9])], DimError, "out of bounds"),
        (lambda x: x[np.ones((3, 3), bool)], DimError, "boolean"),
        (lambda x: x.gather(0, np.zeros((1, 5, 6))), DtypeError, r"index.long\(\)"),
        (lambda x: x.gather(0, np.zeros((1, 5), int)), ShapeError, "as many dimensions"),
        (lambda x: x.gather(0, np.zeros((1, 9, 6), int)), ShapeError, "no larger"),
        (lambda x: x.gather(0, np.full((1, 5, 6), 4)), DimError, "from 0 to 3"),
        (lambda x: x.gather(0, np.full((1, 5, 6), -1)), DimError, "index -1"),
        (lambda x: x.scatter_add(0, np.zeros((2, 5, 6), int), x[:1]), ShapeError, "at least as large"),
        (lambda x: x.scatter(0, np.zeros((1, 5, 6), int), x.double()), DtypeError, "one type"),
        (lambda x: x.scatter_reduce(0, np.zeros((1, 5, 6), int), x, "median"), ArgumentError, "one of sum"),
        (lambda x: x.index_select(0, [[0]]), ShapeError, "vector"),
        (lambda x: x.index_select(0, [True]), DtypeError, "masked_select"),
        (lambda x: x.index_add(0, [0, 1], x), ShapeError, "source must be"),
        (lambda x: x.masked_fill(x, 0.0), DtypeError, r"mask.bool\(\)"),
        (lambda x: x.masked_fill(x > 0, x), ShapeError, "where"),
        (lambda x: x.masked_fill(np.ones((3, 3), bool), 0.0), ShapeError, "do not broadcast"),
        (lambda x: x.masked_select(x), DtypeError, "booleans"),
        (lambda x: x.masked_scatter(x == x, x[0]), ShapeError, "120 places"),
        (lambda x: x.take([200]), DimError, "119"),
    ],
)
def test_errors(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(Tensor(X.astype(np.float32)))


def test_setitem_says_what_to_write_instead():
    leaf, free = Tensor(X.copy(), requires_grad=True), Tensor(X.copy())
    for x, new in ((leaf, 0.0), (leaf * 2.0, 0.0), (free, leaf[0])):
        with pytest.raises(GradientError, match="index_put"):
            x[0] = new
    with minigen.no_grad():
        leaf[0] = 0.0
    assert (leaf.data[0] == 0).all()
    with pytest.raises(ShapeError, match="setitem"):
        free[0] = np.zeros(4)
    with pytest.raises(DtypeError, match="float"):
        Tensor(np.arange(3))[0] = 1.5
    with pytest.raises(ArgumentError, match="clone"):
        Tensor(np.zeros(1)).expand(3)[0] = 1.0


def test_setitem_is_seen_by_the_graph():
    x = Tensor(X.copy(), requires_grad=True)
    h = x * 1.0
    y = (h * h).sum()
    with minigen.no_grad():
        h[0] = 0.0
    with pytest.raises(GradientError, match="written in place"):
        y.backward()
