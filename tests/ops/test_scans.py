"""Running sums, products, extremes and sums of exponentials."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices
from agreement import gradients_are_right

import minigen
from minigen import Tensor, autograd
from minigen.errors import DimError
from minigen.ops import scans as S

SCANS = {
    "cumsum": (S.cumsum, np.cumsum),
    "cumprod": (S.cumprod, np.cumprod),
    "logcumsumexp": (S.logcumsumexp, lambda x, axis: np.log(np.cumsum(np.exp(x), axis))),
    "cummax": (lambda x, dim: S.cummax(x, dim).values, np.maximum.accumulate),
    "cummin": (lambda x, dim: S.cummin(x, dim).values, np.minimum.accumulate),
}


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("shape", [(2, 5, 3), (3, 1), (1, 8)], ids=str)
@pytest.mark.parametrize("name", SCANS)
@on_devices
def test_along(name, shape, dim, device):
    function, reference = SCANS[name]
    agrees(lambda x: function(x, dim), lambda x: reference(x, dim), draw(*shape), tolerance=1e-11, device=device)


@pytest.mark.parametrize("name", SCANS)
@on_devices
def test_numbers_and_nothing(name, device):
    function, _ = SCANS[name]
    agrees(lambda x: function(x, 0), lambda x: x, np.array(0.3), device=device)
    x = minigen.zeros(0, 3, requires_grad=True)
    y = function(x, 0)
    assert y.shape == (0, 3)
    y.sum().backward()
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("places", [[], [0], [2], [6], [1, 4], [0, 1, 2, 3, 4, 5, 6]])
def test_products_with_zeros(places):
    x = draw(2, 7)
    x[:, places] = 0
    gradients_are_right(lambda x: S.cumprod(x, 1), x)


def test_sums_of_exponentials_far_out():
    x = Tensor(np.array([-math.inf, -1000.0, 1000.0, 1000.0]), requires_grad=True)
    y = S.logcumsumexp(x, 0)
    np.testing.assert_allclose(y.data, [-math.inf, -1000.0, 1000.0, 1000.0 + math.log(2)])
    np.testing.assert_allclose(autograd.grad(y.sum(), [x])[0].data, [0, 1, 1.5, 0.5])


def test_second_derivative_through_a_zero_gradient():
    x, w = Tensor(draw(4), requires_grad=True), Tensor(np.zeros(4), requires_grad=True)
    (g,) = autograd.grad((S.logcumsumexp(x, 0) * w).sum(), [x], create_graph=True)
    (jacobian_row,) = autograd.grad(g[0], [w])
    expected = np.exp(x.data[0]) / np.cumsum(np.exp(x.data))  # dy[k]/dx[0]
    np.testing.assert_allclose(jacobian_row.data, expected)


def test_where_the_extremes_stood():
    x = minigen.tensor([1.0, 3.0, 2.0, 3.0, math.nan, 9.0])
    values, indices = S.cummax(x, 0)
    assert values[:4].tolist() == [1, 3, 3, 3] and values[4:].isnan().all()
    assert indices.tolist() == [0, 1, 1, 3, 4, 4]
    assert S.cummin(minigen.tensor([[3, 1, 2], [0, 0, 5]]), 1).indices.tolist() == [[0, 1, 1], [0, 1, 1]]


def test_types():
    for dtype in ("bool", "int32", "uint8"):
        i = Tensor(np.array([1, 0, 1]).astype(dtype))
        assert S.cumsum(i, 0).tolist() == [1, 1, 2] and S.cumsum(i, 0).dtype == minigen.int64
        assert S.cumprod(i, 0).dtype == minigen.int64 and S.logcumsumexp(i, 0).dtype == minigen.float32
    assert S.cumsum(minigen.ones(2), 0, dtype=minigen.float64).dtype == minigen.float64


@pytest.mark.parametrize("name", SCANS)
def test_refused(name):
    with pytest.raises(DimError, match="dim=2"):
        SCANS[name][0](minigen.ones(2, 3), 2)


@pytest.mark.parametrize("name", ["logaddexp", "maximum", "minimum"])
def test_doubling_equals_accumulating(name, monkeypatch):
    """What runs where the array library cannot accumulate (on the GPU)."""
    x = draw(3, 7, 2)
    expected = getattr(np, name).accumulate(x, axis=1)
    library = type("library", (), {name: staticmethod(getattr(np, name))})
    monkeypatch.setattr(S, "xp", lambda array: library)
    np.testing.assert_allclose(S._accumulate(name, x, 1), expected, rtol=1e-12)
