"""Losses of numbers: formulas, every reduction, kernels equal definitions, shapes that must not broadcast."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, leaves_nothing
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

from minigen import Tensor, errors
from minigen.nn import functional as F


def kinked(d, at, inside, outside):
    return np.where(d < at, inside(d), outside(d))


LOSSES = {
    "mse": (F.mse_loss, lambda x, t: (x - t) ** 2),
    "l1": (F.l1_loss, lambda x, t: np.abs(x - t)),
    "smooth_l1": (
        lambda x, t, **o: F.smooth_l1_loss(x, t, beta=0.7, **o),
        lambda x, t: kinked(np.abs(x - t), 0.7, lambda d: d * d / 1.4, lambda d: d - 0.35),
    ),
    "smooth_l1 beta 0": (lambda x, t, **o: F.smooth_l1_loss(x, t, beta=0, **o), lambda x, t: np.abs(x - t)),
    "huber": (
        lambda x, t, **o: F.huber_loss(x, t, delta=0.7, **o),
        lambda x, t: kinked(np.abs(x - t), 0.7, lambda d: d * d / 2, lambda d: 0.7 * (d - 0.35)),
    ),
    "poisson": (F.poisson_nll_loss, lambda x, t: np.exp(x) - t * x),
    "gaussian": (
        lambda x, t, **o: F.gaussian_nll_loss(x, t, 0.5, full=True, **o),
        lambda x, t: (math.log(0.5) + (x - t) ** 2 / 0.5 + math.log(2 * math.pi)) / 2,
    ),
}
REDUCED = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}
FUSED = ["mse", "l1", "smooth_l1", "smooth_l1 beta 0", "huber"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", REDUCED)
def test_the_formula(name, reduction):
    function, reference = LOSSES[name]
    agrees(
        lambda x, t: function(x, t, reduction=reduction),
        lambda x, t: REDUCED[reduction](reference(x, t)),
        draw(3, 4),
        draw(3, 4, seed=1),
        gradients=name != "smooth_l1 beta 0" or reduction == "sum",
    )


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (101, 103), (7, 4096)])
@pytest.mark.parametrize("reduction", REDUCED)
def test_kernel_equals_definition(name, shape, reduction):
    if shape == (0, 4) and reduction == "mean":
        return  # NaN: see below
    function, _ = LOSSES[name]
    kernel_equals_definition(lambda x, t: function(x, t, reduction=reduction), draw(*shape), draw(*shape, seed=1))


def test_strided_input():
    x, t = draw(70, 80), draw(80, 70, seed=1)
    for reduction in REDUCED:
        kernel_equals_definition(lambda x, t, r=reduction: F.mse_loss(x, t, reduction=r), x, t.T)
        kernel_equals_definition(lambda x, t, r=reduction: F.mse_loss(x, t, reduction=r), x[::2], t.T[::2])


def test_empty_means_are_nan_and_sums_zero():
    empty = Tensor(np.zeros((0, 3), np.float32))
    assert np.isnan(F.mse_loss(empty, empty).item()) and F.mse_loss(empty, empty, reduction="sum").item() == 0


def test_weights():
    x, t, w = draw(3, 4), draw(3, 4, seed=1), draw(3, 4, low=0.1, seed=2)
    reference = lambda x, t, w: (w * (x - t) ** 2).sum() / w.sum()
    agrees(lambda x, t, w: F.mse_loss(x, t, weight=w), reference, x, t, w)


def test_integer_targets_take_the_predictions_type():
    x, t = Tensor(draw(3).astype(np.float32)), Tensor(np.array([0, 1, 1]))
    np.testing.assert_allclose(F.mse_loss(x, t).item(), ((x.data - t.data) ** 2).mean(), rtol=1e-6)


def test_gaussian_variances():
    x, t, v = draw(3, 4), draw(3, 4, seed=1), draw(3, low=0.3, seed=2)
    reference = lambda x, t, v: (0.5 * (np.log(v[:, None]) + (x - t) ** 2 / v[:, None])).mean()
    agrees(F.gaussian_nll_loss, reference, x, t, v)
    agrees(lambda x, t, v: F.gaussian_nll_loss(x, t, v.reshape(3, 1)), reference, x, t, v)
    tiny = Tensor(np.zeros((3, 4)), requires_grad=True)
    F.gaussian_nll_loss(Tensor(x), Tensor(t), tiny, eps=0.1).backward()
    expected = (0.5 * (1 / 0.1 - (x - t) ** 2 / 0.01)) / 12
    np.testing.assert_allclose(tiny.grad.data, expected, rtol=1e-10)  # the floor passes the gradient


def test_poisson_variants():
    x, t = draw(3, 4, low=0.5, high=3), np.array([[0.0, 1, 2, 5]] * 3)
    stirling = np.where(t > 1, t * np.log(np.maximum(t, 1)) - t + 0.5 * np.log(2 * np.pi * np.maximum(t, 1)), 0)
    found = F.poisson_nll_loss(Tensor(x), Tensor(t), log_input=False, full=True, reduction="none").data
    np.testing.assert_allclose(found, x - t * np.log(x + 1e-8) + stirling, rtol=1e-12)


def test_the_same_bits_on_any_threads():
    for name in FUSED:
        same_bits_on_any_threads(LOSSES[name][0], draw(300, 90), draw(300, 90, seed=1))


def test_second_gradients_and_memory():
    gradients_are_right(lambda x, t: F.huber_loss(x, t) ** 2, draw(3, 4), draw(3, 4, seed=1))
    leaves_nothing(F.mse_loss, draw(3, 4).astype(np.float32), draw(3, 4, seed=1).astype(np.float32))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_a_column_beside_a_row_is_refused(name):
    """PyTorch broadcasts these, and compares each prediction with every target."""
    with pytest.raises(errors.ShapeError, match=r"prediction \(5, 1\) and target \(5,\).*\n.*reshape"):
        getattr(F, name)(Tensor(draw(5, 1)), Tensor(draw(5)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.mse_loss(x, x, reduction="avg"), errors.ArgumentError, "mean, sum, none"),
        (lambda x: F.mse_loss(x, Tensor(x.data.astype(np.float32))), errors.DtypeError, "several types"),
        (lambda x: F.mse_loss(x, [1.0]), errors.DtypeError, "target"),
        (lambda x: F.mse_loss(Tensor(np.arange(3)), Tensor(np.arange(3))), errors.DtypeError, "floats"),
        (lambda x: F.huber_loss(x, x, delta=0), errors.ArgumentError, "delta"),
        (lambda x: F.smooth_l1_loss(x, x, beta=-1), errors.ArgumentError, "beta"),
        (lambda x: F.gaussian_nll_loss(x, x, -x * x), errors.ArgumentError, "variances"),
        (lambda x: F.gaussian_nll_loss(x, x, x[0]), errors.ShapeError, "var"),
        (lambda x: F.gaussian_nll_loss(x, x, 1.0, eps=0), errors.ArgumentError, "eps"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(3, 4)))
