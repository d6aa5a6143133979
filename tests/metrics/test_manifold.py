"""Improved precision and recall, where they are known."""

import numpy as np
import pytest

from minigen.errors import ArgumentError
from minigen.metrics.manifold import precision_recall
from minigen.random import Generator


def test_on_a_line_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])  # with k = 1 the balls have radii 1, 1, 1, 8
    fake = np.array([[0.5], [1.5], [30.0], [31.0]])  # radii 1, 1, 1, 1
    assert precision_recall(real, fake, k=1) == (0.5, 0.75)


def test_collapse_keeps_precision_and_loses_recall():
    g = Generator(0)
    real, near = g.normal((500, 2)), 0.05 * g.normal((500, 2))
    precision, recall = precision_recall(real, near)
    assert precision > 0.99 and recall < 0.05
    precision, recall = precision_recall(real, 10 * g.normal((500, 2)))
    assert precision < 0.3 and recall > 0.9


def test_the_same_in_slabs(monkeypatch):
    from minigen.metrics import manifold

    g = Generator(1)
    real, fake = g.normal((60, 3)), g.normal((50, 3)) + 0.5
    whole = precision_recall(real, fake)
    monkeypatch.setattr(manifold, "BLOCK", 1000)
    assert precision_recall(real, fake) == pytest.approx(whole)


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="k is 1 to 2"):
        precision_recall(np.zeros((3, 2)), np.zeros((5, 2)))
