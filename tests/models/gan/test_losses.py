"""The losses of both players, at the optimum that is known."""

import math

import numpy as np
import pytest

import minigen
from minigen import autograd
from minigen.errors import ArgumentError
from minigen.models.gan.losses import LOSSES, discriminator_loss, generator_loss
from minigen.random import Generator


def two_worlds():
    """Probabilities p and q of six cells, none of them zero."""
    p, q = (Generator(i).uniform((6,)) + 0.1 for i in (0, 1))
    return (x.astype(np.float64) / x.sum() for x in (p, q))


def expected_loss(score, p, q, kind):
    """E over both worlds, as one call with scores weighted by repeating cells is not possible: cell by cell."""
    one = lambda i: score[i : i + 1]
    nothing = {"hinge": 1.0, "least-squares": 0.5, "wasserstein": 0.0}.get(kind, math.log(2))  # the other term at 0
    zero = minigen.zeros(1, dtype=minigen.float64)
    real = sum(p[i] * (discriminator_loss(one(i), zero, kind) - (nothing if kind != "least-squares" else 0)) for i in
               range(6))  # fmt: skip
    fake = sum(q[i] * (discriminator_loss(zero, one(i), kind) - nothing) for i in range(6))
    return real + fake


@pytest.mark.parametrize("kind, best", [
    ("minimax", lambda p, q: np.log(p / q)),
    ("non-saturating", lambda p, q: np.log(p / q)),
    ("least-squares", lambda p, q: p / (p + q)),
    ("hinge", lambda p, q: np.sign(p - q)),
])  # fmt: skip
def test_the_best_discriminator(kind, best):
    """log p/q for the logistic losses, which is D* = p / (p + q); p / (p + q) by squares; a sign by hinge."""
    p, q = two_worlds()
    if kind == "hinge":
        for i, right in enumerate(best(p, q)):  # piecewise linear: the slope at 0 points to the right corner
            score = minigen.zeros(6, dtype=minigen.float64, requires_grad=True)
            slope = autograd.grad(expected_loss(score, p, q, kind), [score])[0].numpy()
            assert np.sign(-slope[i]) == right
        return
    score = minigen.tensor(best(p, q), dtype=minigen.float64, requires_grad=True)
    slope = autograd.grad(expected_loss(score, p, q, kind), [score])[0].numpy()
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_the_games_value_at_the_optimum_is_the_jensen_shannon_divergence():
    p, q = two_worlds()
    m = (p + q) / 2
    js = 0.5 * (p * np.log(p / m)).sum() + 0.5 * (q * np.log(q / m)).sum()
    score = minigen.tensor(np.log(p / q), dtype=minigen.float64)
    assert expected_loss(score, p, q, "minimax").item() == pytest.approx(2 * math.log(2) - 2 * js)


def test_a_sure_discriminator_leaves_the_minimax_generator_no_slope():
    score = minigen.tensor([-10.0], requires_grad=True)
    slopes = {kind: autograd.grad(generator_loss(score, kind), [score])[0].item() for kind in LOSSES}
    assert slopes["minimax"] == pytest.approx(-math.exp(-10), rel=1e-3)
    assert slopes["non-saturating"] == pytest.approx(-1, rel=1e-3)
    assert slopes["hinge"] == slopes["wasserstein"] == -1
    assert all(slope < 0 for slope in slopes.values())  # all of them want the score to rise


def test_large_scores_stay_finite():
    score = minigen.tensor([-1e4, 1e4])
    assert all(math.isfinite(discriminator_loss(score, score, kind).item()) for kind in LOSSES)
    assert all(math.isfinite(generator_loss(score, kind).item()) for kind in LOSSES)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ArgumentError, match="kind is one of minimax, non-saturating"):
        discriminator_loss(minigen.zeros(2), minigen.zeros(2), "bce")
