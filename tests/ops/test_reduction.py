"""Reductions: over every kind of `dim`, of empty and 0-d tensors, with zeros, ties and infinities."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw
from agreement import gradients_are_right

import minigen
from minigen import Tensor, autograd
from minigen.errors import ArgumentError, DimError, DtypeError, ShapeError
from minigen.ops import reduction as R


def log_sum_exp(x, axis, keepdims):
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


def variance(correction):
    return lambda x, axis, keepdims: np.var(x, axis=axis, keepdims=keepdims, ddof=correction)


def norm(p):
    def reference(x, axis, keepdims):
        axis = tuple(range(x.ndim)) if axis is None else axis
        return (np.abs(x) ** p).sum(axis=axis, keepdims=keepdims) ** (1 / p)

    return reference


REDUCTIONS = {
    "sum": (R.sum, np.sum),
    "nansum": (R.nansum, np.nansum),
    "mean": (R.mean, np.mean),
    "nanmean": (R.nanmean, np.nanmean),
    "prod": (R.prod, np.prod),
    "var": (lambda x, dim, keepdim: R.var(x, dim, keepdim=keepdim), variance(1)),
    "var correction 0": (lambda x, dim, keepdim: R.var(x, dim, correction=0, keepdim=keepdim), variance(0)),
    "std": (
        lambda x, dim, keepdim: R.std(x, dim, keepdim=keepdim),
        lambda x, axis, keepdims: np.std(x, axis=axis, keepdims=keepdims, ddof=1),
    ),
    "std biased": (
        lambda x, dim, keepdim: R.std(x, dim, unbiased=False, keepdim=keepdim),
        lambda x, axis, keepdims: np.std(x, axis=axis, keepdims=keepdims),
    ),
    "amax": (R.amax, np.max),
    "amin": (R.amin, np.min),
    "logsumexp": (R.logsumexp, log_sum_exp),
    "norm": (lambda x, dim, keepdim: R.norm(x, 2, dim, keepdim), norm(2)),
    "norm 1": (lambda x, dim, keepdim: R.norm(x, 1, dim, keepdim), norm(1)),
    "norm 3": (lambda x, dim, keepdim: R.norm(x, 3, dim, keepdim), norm(3)),
    "norm 0.5": (lambda x, dim, keepdim: R.norm(x, 0.5, dim, keepdim), norm(0.5)),
    "norm -1": (lambda x, dim, keepdim: R.norm(x, -1, dim, keepdim), norm(-1)),
    "norm inf": (
        lambda x, dim, keepdim: R.norm(x, math.inf, dim, keepdim),
        lambda x, axis, keepdims: np.abs(x).max(axis=axis, keepdims=keepdims),
    ),
    "norm -inf": (
        lambda x, dim, keepdim: R.norm(x, -math.inf, dim, keepdim),
        lambda x, axis, keepdims: np.abs(x).min(axis=axis, keepdims=keepdims),
    ),
}
DIMS = [None, 0, -1, 1, (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_dimensions(name, dim, keepdim):
    function, reference = REDUCTIONS[name]
    agrees(
        lambda x: function(x, dim, keepdim),
        lambda x: reference(x, axis=dim, keepdims=keepdim),
        draw(2, 4, 3, seed=len(name)),
        tolerance=1e-11,
    )


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_number_and_an_empty_tuple(name):
    function, reference = REDUCTIONS[name]
    x = np.array(0.7)
    if "var" not in name and "std" not in name:
        for dim in (None, 0, -1):
            agrees(lambda x: function(x, dim, False), lambda x: reference(x, axis=None, keepdims=False), x)  # noqa: B023
    y = draw(2, 3)
    np.testing.assert_allclose(function(Tensor(y), (), False).data, function(Tensor(y), None, False).data)


@pytest.mark.parametrize(
    "function, expected",
    [
        (R.sum, 0.0),
        (R.prod, 1.0),
        (R.mean, math.nan),
        (R.var, math.nan),
        (R.std, math.nan),
        (lambda x, dim: R.logsumexp(x, dim), -math.inf),
        (lambda x, dim: R.norm(x, 2, dim), 0.0),
        (R.all, True),
        (R.any, False),
    ],
)
def test_of_nothing(function, expected):
    with np.errstate(all="ignore"):
        for dim, shape in ((1, (3,)), (None, ())):
            x = minigen.zeros(3, 0, requires_grad=True)
            y = function(x, dim)
            assert y.shape == shape
            np.testing.assert_array_equal(y.data, np.full(shape, expected))
            if y.requires_grad:
                y.sum().backward()
                assert x.grad.shape == (3, 0)
        assert function(minigen.zeros(0, 4), 1).shape == (0,)


@pytest.mark.parametrize("function", [R.amax, R.amin, R.argmax, R.argmin, R.max, R.min])
def test_extremes_of_nothing_are_refused(function):
    with pytest.raises(ShapeError, match="of no elements"):
        function(minigen.zeros(3, 0), 1)
    with pytest.raises(ShapeError, match="of no elements"):
        function(minigen.zeros(0))
    assert function(minigen.zeros(0, 3), 1) is not None  # no rows, each with three elements


def test_variance_of_too_few():
    x = minigen.ones(1, requires_grad=True)
    with np.errstate(all="ignore"):
        assert math.isnan(R.var(x).item()) and R.var(x, correction=0).item() == 0.0
        assert R.var(minigen.tensor([1.0, 2.0]), correction=3).item() == math.inf
        R.var(x).backward()
    assert math.isnan(x.grad.item())


def test_gradients_at_kinks_are_finite():
    x = minigen.ones(3, requires_grad=True)
    assert autograd.grad(R.std(x), [x])[0].tolist() == [0, 0, 0]
    zero = minigen.zeros(3, requires_grad=True)
    for p in (0, 0.5, 1, 1.5, 2, 3, "fro", math.inf):
        assert autograd.grad(R.norm(zero, p), [zero])[0].tolist() == [0, 0, 0], p
    (first,) = autograd.grad(R.norm(zero), [zero], create_graph=True)
    assert autograd.grad(first.sum(), [zero], allow_unused=True)[0].tolist() == [0, 0, 0]


def test_ties():
    x = minigen.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    assert np.allclose(autograd.grad(R.amax(x, 1).sum(), [x])[0].data, [[0, 0.5, 0.5], [1 / 3] * 3])
    assert autograd.grad(R.max(x, 1).values.sum(), [x])[0].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert np.allclose(autograd.grad(R.max(x), [x])[0].data, [[0, 0.5, 0.5], [0, 0, 0]])
    assert np.allclose(autograd.grad(R.norm(x, math.inf), [x])[0].data, [[0, 0.5, 0.5], [0, 0, 0]])


@pytest.mark.parametrize("function, reference", [(R.max, np.max), (R.min, np.min)])
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
    assert R.max(a, b).tolist() == [2, 5] and R.min(a, b).tolist() == [1, 3]
    assert a.max(b).tolist() == [2, 5] and a.max().item() == 5 and a.min(0).indices.item() == 0


def test_where_the_extremes_stand():
    x = draw(3, 4)
    for function, reference in ((R.argmax, np.argmax), (R.argmin, np.argmin)):
        for dim in (None, 0, 1):
            for keepdim in (False, True):
                y = function(Tensor(x), dim, keepdim)
                np.testing.assert_array_equal(y.data, reference(x, axis=dim, keepdims=keepdim))
                assert y.dtype == minigen.int64
    assert R.argmax(minigen.tensor([1.0, 2.0, 2.0])).item() == 1  # the first
    assert R.argmax(minigen.tensor([1.0, math.nan, 2.0])).item() == 1
    assert R.argmax(minigen.tensor(3.0)).item() == R.max(minigen.tensor(3.0), 0).indices.item() == 0


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_products_with_zeros(zeros):
    x = draw(3, 5)
    x[:, [0, 2, 3][:zeros]] = 0
    for dim in (None, 0, 1, (0, 1)):
        gradients_are_right(lambda x: R.prod(x, dim), x)  # noqa: B023


def test_products_any_order():
    x = Tensor(np.array([2.0, 0.0, 3.0]), requires_grad=True)
    y = R.prod(x)
    for i in (1, 0, 2):  # d3 / dx1 dx0 dx2 = 1
        (g,) = autograd.grad(y, [x], create_graph=True)
        y = g[i]
    assert y.item() == 1.0


def test_logsumexp_of_infinities():
    x = Tensor(np.array([[-math.inf, -math.inf], [-math.inf, 2.0], [1000.0, 1000.0]]), requires_grad=True)
    y = R.logsumexp(x, 1)
    np.testing.assert_allclose(y.data, [-math.inf, 2.0, 1000 + math.log(2)])
    np.testing.assert_allclose(autograd.grad(y.sum(), [x])[0].data, [[0, 0], [0, 1], [0.5, 0.5]])
    assert R.logsumexp(minigen.tensor([math.inf, 1.0]), 0).item() == math.inf


def test_types():
    for dtype in ("bool", "uint8", "int32", "int64"):
        i = Tensor(np.array([1, 0, 1]).astype(dtype))
        assert R.sum(i).dtype == R.prod(i).dtype == minigen.int64 and R.sum(i).item() == 2
        assert R.sum(i, dtype=minigen.float32).dtype == minigen.float32
        assert R.mean(i, dtype=minigen.float64).dtype == minigen.float64
        assert R.logsumexp(i, 0).dtype == minigen.float32
        assert R.amax(i).dtype == dtype
        for function in (R.mean, R.var, R.std, R.norm):
            with pytest.raises(DtypeError, match="float"):
                function(i)
    assert R.sum(minigen.ones(3), dtype=minigen.float64).dtype == minigen.float64


def test_half_precision_adds_in_single():
    x = minigen.ones(4096, dtype=minigen.float16)
    assert R.sum(x).item() == 4096 and R.mean(x).item() == 1 and R.sum(x).dtype == minigen.float16


def test_single_precision_adds_in_pairs():
    x = np.full(1_000_001, 0.1, np.float32)
    assert R.sum(Tensor(x)).item() == pytest.approx(x.astype(float).sum(), rel=1e-6)


def test_truths():
    x = minigen.tensor([[1.0, 0.0], [2.0, math.nan]])
    assert R.all(x, 1).tolist() == [False, True] and R.any(x, 0).tolist() == [True, True]
    assert R.all(x).dtype == bool and not R.all(x).item() and R.any(x).item()
    assert R.all(x, (0, 1), True).shape == (1, 1)


def test_pairs():
    x = Tensor(draw(3, 4))
    low, high = R.aminmax(x, dim=1)
    assert (low.data == x.data.min(1)).all() and (high.data == x.data.max(1)).all()
    deviation, mean = R.std_mean(x, 1, correction=0)
    np.testing.assert_allclose(deviation.data, x.data.std(1))
    variance, again = R.var_mean(x, 1)
    np.testing.assert_allclose(variance.data, x.data.var(1, ddof=1))
    assert (mean.data == again.data).all()


def test_nuclear_norm():
    x = draw(2, 4, 3)
    expected = np.linalg.svd(x, compute_uv=False).sum(-1)
    np.testing.assert_allclose(R.norm(Tensor(x), "nuc", (1, 2)).data, expected)
    assert R.norm(Tensor(x), "nuc", (1, 2), True).shape == (2, 1, 1)
    gradients_are_right(lambda x: R.norm(x, "nuc"), x[0])


@pytest.mark.parametrize(
    "error, call",
    [
        (DimError, lambda x: x.sum(2)),
        (DimError, lambda x: x.mean(-3)),
        (DimError, lambda x: x.sum((0, 0))),
        (DimError, lambda x: x.max(2)),
        (DimError, lambda x: x.argmax(2)),
        (DimError, lambda x: x.sum(1.0)),
        (ArgumentError, lambda x: x.sum(axis=0)),
        (ArgumentError, lambda x: x.sum(0, keepdims=True)),
        (ArgumentError, lambda x: x.var(unbiased=True, correction=0)),
        (ArgumentError, lambda x: x.norm("two")),
        (ShapeError, lambda x: x[0].norm("nuc")),
        (DtypeError, lambda x: minigen.sum([1.0, 2.0])),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call(minigen.ones(2, 3))


def test_numpy_s_words_are_answered():
    with pytest.raises(ArgumentError, match="did you mean dim="):
        minigen.ones(2, 3).sum(axis=0)
