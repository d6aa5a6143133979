"""ctc_loss against the sum over all paths, one by one."""

import itertools
import math

import numpy as np
import pytest
from against_numpy import draw, leaves_nothing
from agreement import gradients_are_right, kernel_equals_definition

from minigen import Tensor, errors
from minigen.nn import functional as F

X = draw(6, 3, 4)
TARGETS = np.array([[1, 1, 3], [2, 3, 0], [0, 0, 0]])  # a repeat; one shorter; one empty
FRAMES, LENGTHS = np.array([6, 4, 5]), np.array([3, 2, 0])


def loss(x, reduction="none", **options):
    return F.ctc_loss(F.log_softmax(x, -1), TARGETS, FRAMES, LENGTHS, reduction=reduction, **options)


def by_all_paths(log_probs, target, blank=0):
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [s for s, _ in itertools.groupby(path) if s != blank] == list(target):
            total += math.exp(sum(log_probs[t, s] for t, s in enumerate(path)))
    return -math.log(total)


def test_the_sum_over_all_paths():
    logs = F.log_softmax(Tensor(X), -1).data
    found = loss(Tensor(X)).data
    expected = [by_all_paths(logs[:n, i], TARGETS[i, :k]) for i, (n, k) in enumerate(zip(FRAMES, LENGTHS))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert abs(loss(Tensor(X), "sum").item() - sum(expected)) < 1e-10
    assert abs(loss(Tensor(X), "mean").item() - np.mean(np.array(expected) / [3, 2, 1])) < 1e-10
    other = F.ctc_loss(Tensor(logs[:, 0]), np.array([0, 3]), np.array(6), np.array(2), blank=1, reduction="none")
    assert other.shape == () and abs(other.item() - by_all_paths(logs[:, 0], [0, 3], 1)) < 1e-10


def test_targets_in_one_row():
    row = np.array([1, 1, 3, 2, 3])
    found = F.ctc_loss(F.log_softmax(Tensor(X), -1), row, FRAMES, LENGTHS, reduction="none").data
    np.testing.assert_allclose(found, loss(Tensor(X)).data)


def test_gradients():
    gradients_are_right(loss, X)
    gradients_are_right(lambda x: F.ctc_loss(x, TARGETS, FRAMES, LENGTHS, reduction="sum"), X)  # not normalised


def test_float32():
    kernel_equals_definition(loss, X)
    kernel_equals_definition(lambda x: loss(x, "mean"), 10 * X)


def test_an_unreachable_target():
    """Two equal symbols need a blank between them: three frames."""
    x = Tensor(draw(2, 1, 3), requires_grad=True)
    arguments = np.array([[1, 1]]), np.array([2]), np.array([2])
    assert F.ctc_loss(F.log_softmax(x, -1), *arguments).item() == np.inf
    y = F.ctc_loss(F.log_softmax(x, -1), *arguments, zero_infinity=True)
    assert y.item() == 0
    y.backward()
    assert (x.grad.data == 0).all()


def test_padding_does_not_matter():
    changed = X.copy()
    changed[4:, 1] = 100.0
    np.testing.assert_array_equal(loss(Tensor(changed)).data[1], loss(Tensor(X)).data[1])
    leaves_nothing(loss, X.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"targets": np.full((3, 3), 4)}, errors.DimError, "0 to 3"),
        ({"targets": np.ones((3, 3))}, errors.DtypeError, "integers"),
        ({"targets": np.ones((3, 2), int)}, errors.ShapeError, "at least 3"),
        ({"targets": np.ones(7, int)}, errors.ShapeError, "sum of target_lengths, 5"),
        ({"input_lengths": np.array([7, 4, 5])}, errors.ArgumentError, "6 frames"),
        ({"input_lengths": np.array([6, 4])}, errors.ShapeError, "3 samples"),
        ({"target_lengths": np.array([3, -1, 0])}, errors.ArgumentError, "not negative"),
        ({"blank": 4}, errors.ArgumentError, "blank"),
        ({"log_probs": Tensor(X[0, 0])}, errors.ShapeError, "log_probs"),
        ({"reduction": "average"}, errors.ArgumentError, "reduction"),
    ],
)
def test_bad_input(change, error, words):
    given = {"log_probs": Tensor(X), "targets": TARGETS, "input_lengths": FRAMES, "target_lengths": LENGTHS}
    with pytest.raises(error, match=words):
        F.ctc_loss(**{**given, **change})
