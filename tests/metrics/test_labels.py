"""What a classifier says of samples."""

import numpy as np
import pytest

from minigen.errors import DataError, ShapeError
from minigen.metrics.labels import class_accuracy, confusion, inception_score


def test_class_accuracy_and_confusion():
    named, asked = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    assert class_accuracy(named, asked) == 0.75
    assert confusion(named, asked, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_inception_score_at_its_ends_and_in_between():
    assert inception_score(np.full((5, 4), 0.25)) == pytest.approx(1)
    assert inception_score(np.tile(np.eye(4), (3, 1))) == pytest.approx(4)
    p = np.array([[0.9, 0.1], [0.1, 0.9]])  # log 2 less the entropy of a 0.1 coin
    assert np.log(inception_score(p)) == pytest.approx(np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1))


def test_mistakes_are_answered():
    with pytest.raises(DataError, match="adds up to 1"):
        inception_score(np.array([[2.0, -1.0]]))
    with pytest.raises(ShapeError, match="class_accuracy"):
        class_accuracy(np.zeros(3), np.zeros(4))
