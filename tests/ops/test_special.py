"""erf, erfc and their kin, against the standard library's and against identities."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, on_devices

import minigen
from minigen import Tensor, autograd
from minigen.ops import special as S

erf, erfc = np.vectorize(math.erf, otypes=[float]), np.vectorize(math.erfc, otypes=[float])


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)], ids=str)
@pytest.mark.parametrize("function, reference", [(S.erf, erf), (S.erfc, erfc)])
@on_devices
def test_error_function(function, reference, shape, device):
    agrees(function, reference, draw(*shape, low=-5, high=5), device=device)


def test_float16_is_rounded_once():
    x = np.linspace(-6, 6, 241).astype(np.float16)
    for function, reference in ((S.erf, erf), (S.erfc, erfc)):
        wanted = reference(x.astype(np.float32))
        np.testing.assert_allclose(function(x), wanted.astype(np.float16), rtol=1e-3, atol=1e-6)
        assert function(x).dtype == np.float16


@pytest.mark.parametrize("dtype, error", [("float64", 2e-15), ("float32", 1e-6)])
def test_every_region_to_the_last_digits(dtype, error):
    x = np.concatenate([np.linspace(-6, 6, 24001), np.linspace(-0.5, 0.5, 2001), np.linspace(5, 9, 2001)]).astype(dtype)
    np.testing.assert_allclose(S.erf(x), erf(x), rtol=error)
    np.testing.assert_allclose(S.erfc(x), erfc(x), rtol=error)
    assert S.erf(x).dtype == S.erfc(x).dtype == dtype


def test_edges():
    x = np.array([math.inf, -math.inf, math.nan, 0.0])
    np.testing.assert_array_equal(S.erf(x), [1, -1, math.nan, 0])
    np.testing.assert_array_equal(S.erfc(x), [0, 2, math.nan, 1])


def test_memory_order_is_kept():
    x = np.zeros((2, 3, 4)).transpose(0, 2, 1)
    assert S.erf(x).strides == x.strides


@on_devices
def test_logaddexp(device):
    agrees(S.logaddexp, np.logaddexp, draw(3, 4), draw(4, seed=1), device=device)
    equal = draw(4)
    agrees(S.logaddexp, np.logaddexp, equal, equal.copy(), device=device)
    a = Tensor(np.array([1000.0, -math.inf, -math.inf, math.inf]), requires_grad=True)
    b = Tensor(np.array([1000.0, 2.0, -math.inf, 1.0]), requires_grad=True)
    y = S.logaddexp(a, b)
    np.testing.assert_allclose(y.data, [1000 + math.log(2), 2.0, -math.inf, math.inf])
    found = autograd.grad(y.sum(), [a, b])
    np.testing.assert_allclose(found[0].data, [0.5, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(found[1].data, [0.5, 1.0, 0.5, 0.0])


@on_devices
def test_xlogy(device):
    agrees(S.xlogy, lambda a, b: a * np.log(b), draw(3, 4), draw(4, low=0.1, seed=1), device=device)
    p = minigen.tensor([0.0, 0.5], requires_grad=True)
    y = S.xlogy(p, p)  # p log p, whose limit at 0 is 0
    assert y.tolist() == pytest.approx([0.0, 0.5 * math.log(0.5)])
    assert S.xlogy(minigen.tensor([0.0, math.nan]), math.nan).isnan().tolist() == [True, True]
    agrees(lambda a: S.xlogy(a, 2.5), lambda a: a * math.log(2.5), draw(3, 4), device=device)


@on_devices
def test_logit(device):
    agrees(S.logit, lambda p: np.log(p / (1 - p)), draw(3, 4, low=0.1, high=0.9), device=device)
    assert S.logit(minigen.tensor([0.0, 1.0]), eps=0.25).tolist() == pytest.approx([-math.log(3), math.log(3)])


@pytest.mark.parametrize("function", [S.erf, S.erfc, S.logit, lambda x: S.logaddexp(x, x), lambda x: S.xlogy(x, 2)])
def test_integers_give_float32(function):
    with np.errstate(divide="ignore"):
        assert function(minigen.tensor([0, 1])).dtype == minigen.float32
