"""Reductions: over every kind of `dim`, of empty and 0-d tensors, with zeros, ties and infinities."""

import functools
import math

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices
from agreement import gradients_are_right

import minigen
from minigen import Tensor, autograd
from minigen.errors import ArgumentError, DimError, DtypeError
from minigen.ops import extremes as X
from minigen.ops import lengths as L
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
    "amax": (X.amax, np.max),
    "amin": (X.amin, np.min),
    "logsumexp": (R.logsumexp, log_sum_exp),
    "norm": (lambda x, dim, keepdim: L.norm(x, 2, dim, keepdim), norm(2)),
    "norm 1": (lambda x, dim, keepdim: L.norm(x, 1, dim, keepdim), norm(1)),
    "norm 3": (lambda x, dim, keepdim: L.norm(x, 3, dim, keepdim), norm(3)),
    "norm 0.5": (lambda x, dim, keepdim: L.norm(x, 0.5, dim, keepdim), norm(0.5)),
    "norm -1": (lambda x, dim, keepdim: L.norm(x, -1, dim, keepdim), norm(-1)),
    "norm inf": (
        lambda x, dim, keepdim: L.norm(x, math.inf, dim, keepdim),
        lambda x, axis, keepdims: np.abs(x).max(axis=axis, keepdims=keepdims),
    ),
    "norm -inf": (
        lambda x, dim, keepdim: L.norm(x, -math.inf, dim, keepdim),
        lambda x, axis, keepdims: np.abs(x).min(axis=axis, keepdims=keepdims),
    ),
}
DIMS = [None, 0, -1, 1, (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
@on_devices
def test_over_dimensions(name, dim, keepdim, device):
    function, reference = REDUCTIONS[name]
    agrees(
        lambda x: function(x, dim, keepdim),
        lambda x: reference(x, axis=dim, keepdims=keepdim),
        draw(2, 4, 3, seed=len(name)),
        tolerance=1e-11,
        device=device,
    )


@pytest.mark.parametrize("name", REDUCTIONS)
@on_devices
def test_a_number_and_an_empty_tuple(name, device):
    function, reference = REDUCTIONS[name]
    x = np.array(0.7)
    if "var" not in name and "std" not in name:
        for dim in (None, 0, -1):
            over = functools.partial(function, dim=dim, keepdim=False)
            agrees(over, functools.partial(reference, axis=None, keepdims=False), x, device=device)
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
        (lambda x, dim: L.norm(x, 2, dim), 0.0),
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


def test_variance_of_too_few():
    x = minigen.ones(1, requires_grad=True)
    with np.errstate(all="ignore"):
        assert math.isnan(R.var(x).item()) and R.var(x, correction=0).item() == 0.0
        assert R.var(minigen.tensor([1.0, 2.0]), correction=3).item() == math.inf
        R.var(x).backward()
    assert math.isnan(x.grad.item())


def test_gradient_of_no_deviation():
    x = minigen.ones(3, requires_grad=True)
    assert autograd.grad(R.std(x), [x])[0].tolist() == [0, 0, 0]


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
        assert X.amax(i).dtype == dtype
        for function in (R.mean, R.var, R.std, L.norm):
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
    deviation, mean = R.std_mean(x, 1, correction=0)
    np.testing.assert_allclose(deviation.data, x.data.std(1))
    variance, again = R.var_mean(x, 1)
    np.testing.assert_allclose(variance.data, x.data.var(1, ddof=1))
    assert (mean.data == again.data).all()


@pytest.mark.parametrize(
    "error, call",
    [
        (DimError, lambda x: x.sum(2)),
        (DimError, lambda x: x.mean(-3)),
        (DimError, lambda x: x.sum((0, 0))),
        (DimError, lambda x: x.sum(1.0)),
        (ArgumentError, lambda x: x.sum(axis=0)),
        (ArgumentError, lambda x: x.sum(0, keepdims=True)),
        (ArgumentError, lambda x: x.var(unbiased=True, correction=0)),
        (DtypeError, lambda x: minigen.sum([1.0, 2.0])),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call(minigen.ones(2, 3))


def test_numpy_s_words_are_answered():
    with pytest.raises(ArgumentError, match="did you mean dim="):
        minigen.ones(2, 3).sum(axis=0)
