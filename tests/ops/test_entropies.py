"""Losses of probabilities: formulas, weights, ignored targets, smoothing, kernels equal definitions, refusals."""

import math

import numpy as np
import pytest
from against_numpy import agrees, draw, leaves_nothing
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, errors
from minigen.nn import functional as F

TARGET = np.array([2, 0, 1, -100, 2])
WEIGHT = np.array([0.5, 2.0, 1.5])


def log_softmax(x, dim=1):
    x = x - x.max(dim, keepdims=True)
    return x - np.log(np.exp(x).sum(dim, keepdims=True))


def reference(x, target, weight, smoothing, reduction):
    """cross_entropy row by row, in words: PyTorch's definition."""
    logs, losses, total = log_softmax(x), [], 0.0
    for row, t in zip(logs, target):
        w = weight if weight is not None else np.ones(len(row))
        if t == -100:
            losses.append(0.0)
            continue
        losses.append(-(1 - smoothing) * w[t] * row[t] - smoothing / len(row) * (w * row).sum())
        total += w[t]
    losses = np.array(losses)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / total}[reduction].astype(x.dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_cross_entropy_formula(reduction, smoothing, weight):
    def ours(x):
        w = None if weight is None else weight.astype(x.dtype)
        return F.cross_entropy(x, TARGET, w, reduction=reduction, label_smoothing=smoothing)

    agrees(ours, lambda x: reference(x, TARGET, weight, smoothing, reduction), draw(5, 3), tolerance=1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (300, 65), (4, 3000), (1, 1), (0, 4), (6, 5, 4), (2, 7, 3, 5), (7,)])
def test_cross_entropy_kernel(shape, smoothing, weighted):
    random = np.random.default_rng(0)
    classes = shape[min(1, len(shape) - 1)]
    target = random.integers(0, classes, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    if target.size > 2:
        target.reshape(-1)[1] = -100
    weight = random.uniform(0.5, 2, classes)

    def loss(x):
        w = weight.astype(x.dtype) if weighted else None
        return F.cross_entropy(x, target, w, reduction="sum", label_smoothing=smoothing)

    kernel_equals_definition(loss, 4 * draw(*shape))
    if len(shape) == 2:
        kernel_equals_definition(loss, (4 * draw(*shape[::-1])).T)


@pytest.mark.parametrize("on", [True, False])
def test_cross_entropy_of_extreme_logits(on):
    x = np.array([[1e4, 0, -1e4], [-np.inf, 0, 0], [1e4, 1e4, 1e4]], np.float32)
    run = lambda: F.cross_entropy(Tensor(x), np.array([0, 1, 2]), reduction="none").data
    if on:
        found = run()
    else:
        with minigen.kernels.disabled():
            found = run()
    np.testing.assert_allclose(found, [0, math.log(2), math.log(3)], rtol=1e-6, atol=1e-7)


def test_probabilities_as_targets():
    x, t = draw(5, 3), np.abs(draw(5, 3, seed=1))
    for weight in (None, WEIGHT):
        w = 1.0 if weight is None else weight
        agrees(lambda x, t, weight=weight: F.cross_entropy(x, t, None if weight is None else weight.astype(x.dtype)),
               lambda x, t, w=w: -(w * t * log_softmax(x)).sum() / 5, x, t, tolerance=1e-10)  # fmt: skip
    smooth = lambda t: 0.7 * t + 0.1
    agrees(lambda x, t: F.cross_entropy(x, t, label_smoothing=0.3, reduction="sum"),
           lambda x, t: -(smooth(t) * log_softmax(x)).sum(), x, t, tolerance=1e-10)  # fmt: skip
    spatial = draw(2, 3, 4)
    agrees(lambda x: F.cross_entropy(x, np.ones((2, 3, 4), x.dtype), reduction="none"),
           lambda x: -log_softmax(x).sum(1), spatial, tolerance=1e-10)  # fmt: skip


def test_all_ignored_is_nan_and_none_is_zero():
    x = Tensor(draw(2, 3).astype(np.float32))
    assert np.isnan(F.cross_entropy(x, np.array([-100, -100])).item())
    assert F.cross_entropy(x, np.array([-100, -100]), reduction="sum").item() == 0
    assert F.cross_entropy(x, np.array([1, 1]), ignore_index=1, reduction="sum").item() == 0


def test_nll_loss():
    rows, t = [0, 1, 2, 4], TARGET[[0, 1, 2, 4]]
    agrees(lambda x: F.nll_loss(x, TARGET, WEIGHT.astype(x.dtype)),
           lambda x: -(WEIGHT[t] * x[rows, t]).sum() / WEIGHT[t].sum(), draw(5, 3))  # fmt: skip
    agrees(lambda x: F.nll_loss(x, np.int64(2)), lambda x: -x[2], draw(3))
    t = np.array([[0, 2], [1, 1]])
    agrees(
        lambda x: F.nll_loss(x, t, reduction="none"),
        lambda x: -np.take_along_axis(x, t[:, None], 1)[:, 0],
        draw(2, 3, 2),
    )
    x = Tensor(draw(5, 3))
    two = F.nll_loss(F.log_softmax(x, 1), TARGET).item()
    assert abs(two - F.cross_entropy(x, TARGET).item()) < 1e-12


# Yes or no


def bce(x, t, w=1.0, p=1.0):
    return w * (p * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_bce_with_logits_formula(reduction):
    reduced = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}[reduction]
    x, t = draw(3, 4), draw(3, 4, low=0, high=1, seed=1)
    w, p = draw(4, low=0.1, seed=2), draw(3, 1, low=0.1, seed=3)
    f = F.binary_cross_entropy_with_logits
    agrees(lambda x, t: f(x, t, reduction=reduction), lambda x, t: reduced(bce(x, t)), x, t)
    given = lambda a, x: None if a is None else a.astype(x.dtype)
    for weight, positive in ((w, None), (None, p), (w, p)):
        agrees(lambda x, t, w=weight, p=positive: f(x, t, given(w, x), reduction, given(p, x)),
               lambda x, t, w=weight, p=positive: reduced(bce(x, t, 1 if w is None else w, 1 if p is None else p)),
               x, t)  # fmt: skip


@pytest.mark.parametrize("shape", [(), (3, 5), (0, 4), (101, 103), (4, 4096)])
def test_bce_with_logits_kernel(shape):
    x, t = 6 * draw(*shape), draw(*shape, low=0, high=1, seed=1)
    for reduction in ("sum", "none"):
        kernel_equals_definition(lambda x, t, r=reduction: F.binary_cross_entropy_with_logits(x, t, reduction=r), x, t)
    last = shape[-1:] or ()
    w, p = draw(*last, low=0.1, seed=2), draw(*last, low=0.1, seed=3)

    def weighted(x, t):
        return F.binary_cross_entropy_with_logits(x, t, w.astype(x.dtype), "sum", p.astype(x.dtype))

    kernel_equals_definition(weighted, x, t)


def test_bce_of_extreme_logits():
    x = Tensor(np.array([200.0, -200.0, 1e30, -1e30], np.float32), requires_grad=True)
    t = Tensor(np.array([0.0, 1.0, 1.0, 0.0], np.float32))
    y = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(y.data, [200, 200, 0, 0])
    y.sum().backward()
    np.testing.assert_allclose(x.grad.data, [1, -1, 0, 0])


def test_binary_cross_entropy():
    x, t, w = draw(3, 4, low=0.1, high=0.9), draw(3, 4, low=0, high=1, seed=1), draw(4, low=0.1, seed=2)
    formula = lambda x, t: -(t * np.log(x) + (1 - t) * np.log(1 - x))
    agrees(F.binary_cross_entropy, lambda x, t: formula(x, t).mean(), x, t)
    agrees(lambda x, t, w: F.binary_cross_entropy(x, t, w, "none"), lambda x, t, w: w * formula(x, t), x, t, w)
    sure = Tensor(np.array([0.0, 1.0]), requires_grad=True)
    y = F.binary_cross_entropy(sure, Tensor(np.array([1.0, 0.0])), reduction="none")
    assert y.data.tolist() == [100, 100]
    y.sum().backward()
    assert np.isfinite(sure.grad.data).all()


def test_kl_div():
    p = np.exp(log_softmax(draw(5, 3)))
    q = log_softmax(draw(5, 3, seed=1))
    divergence = (p * (np.log(p) - q)).sum() / 5
    for target, log_target in ((p, False), (np.log(p), True)):
        found = F.kl_div(Tensor(q), Tensor(target), reduction="batchmean", log_target=log_target)
        assert abs(found.item() - divergence) < 1e-12 and divergence > 0
        gradients_are_right(lambda q, t, lt=log_target: F.kl_div(q, t, log_target=lt), q, target)
    assert F.kl_div(Tensor(q), Tensor(np.eye(5, 3))).item() == pytest.approx(-(np.eye(5, 3) * q).mean())


def test_the_same_bits_on_any_threads():
    t = np.random.default_rng(0).integers(0, 50, 400)
    same_bits_on_any_threads(lambda x: F.cross_entropy(x, t, label_smoothing=0.1), draw(400, 50))
    same_bits_on_any_threads(F.binary_cross_entropy_with_logits, draw(400, 50), draw(400, 50, low=0, high=1))


def test_second_gradients_and_memory():
    gradients_are_right(lambda x: F.cross_entropy(x, TARGET, label_smoothing=0.1) ** 2, draw(5, 3))
    leaves_nothing(lambda x: F.cross_entropy(x, TARGET), draw(5, 3).astype(np.float32))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.cross_entropy(x, np.array([0, 1, 2, 3, 0])), errors.DimError, "0 to 2.*3"),
        (lambda x: F.cross_entropy(x, np.array([0, 1, 2, -1, 0])), errors.DimError, "-1"),
        (lambda x: F.cross_entropy(x, np.array([0, 1])), errors.ShapeError, r"must be \(5,\)"),
        (lambda x: F.cross_entropy(x, np.array([[0], [1], [0], [0], [0]])), errors.ShapeError, "must be"),
        (lambda x: F.cross_entropy(x, np.array([0.0, 1, 0, 0, 0])), errors.ShapeError, r"target.long\(\)"),
        (lambda x: F.cross_entropy(x, TARGET, np.ones(4)), errors.ShapeError, "3 classes"),
        (lambda x: F.cross_entropy(x, TARGET, label_smoothing=2), errors.ArgumentError, "label_smoothing"),
        (lambda x: F.cross_entropy(x, TARGET, reduction="batchmean"), errors.ArgumentError, "reduction"),
        (lambda x: F.nll_loss(x, np.ones(5)), errors.DtypeError, r"target.long\(\)"),
        (lambda x: F.binary_cross_entropy_with_logits(x, x[:, :1]), errors.ShapeError, "prediction"),
        (lambda x: F.binary_cross_entropy_with_logits(x, x, np.ones(4)), errors.ShapeError, "weight"),
        (lambda x: F.binary_cross_entropy(3 * x, x * 0), errors.ArgumentError, "logits"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(5, 3)))
