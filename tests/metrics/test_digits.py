"""The shipped judge of digits."""

import numpy as np
import pytest

import minigen
from minigen.data import digits as bundled
from minigen.errors import DataError, ShapeError
from minigen.metrics import digits
from minigen.metrics.frechet import frechet_distance
from minigen.random import Generator


def test_it_is_small_and_as_good_as_is_recorded():
    assert digits.WEIGHTS.stat().st_size < 150_000
    x, y = bundled("test")
    assert np.mean(digits.name_digits(x) == y) == pytest.approx(digits.ACCURACY, abs=1 / len(x))
    assert digits.ACCURACY > 0.98


def test_features_are_what_the_logits_are_made_of():
    x = bundled("test")[0][:20]
    judge = digits.digit_classifier()
    features = digits.digit_features(x)
    assert features.shape == (20, 64) and features.dtype == np.float64
    logits = features @ judge.out.weight.numpy().T + judge.out.bias.numpy()
    share = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(digits.digit_probabilities(x), share / share.sum(1, keepdims=True), atol=1e-5)
    assert (digits.name_digits(minigen.tensor(x)) == logits.argmax(1)).all()


def test_a_picture_is_judged_by_itself(monkeypatch):
    x = bundled("test")[0][:30]
    whole = digits.digit_features(x)
    monkeypatch.setattr(digits, "BLOCK", 7)
    np.testing.assert_allclose(digits.digit_features(x), whole, atol=1e-5)


def test_the_frechet_distance_ranks_real_noisy_and_shuffled_digits():
    g = Generator(0)
    x, rest = bundled("train")[0], bundled("test")[0]
    features = digits.digit_features(x)
    noisy = np.clip(rest + 0.2 * g.normal(rest.shape), 0, 1)
    independent = np.stack([x.reshape(1000, 64)[g.integers(0, 1000, (447,)), i] for i in range(64)], 1)
    distances = [
        frechet_distance(features, digits.digit_features(pictures))
        for pictures in (rest, noisy, independent.reshape(-1, 1, 8, 8))
    ]
    assert distances[0] < 0.5 * distances[1] < 0.5 * distances[2]


def test_training_runs_and_learns():
    judge = digits.train(epochs=1)
    x, y = bundled("test")
    with minigen.no_grad():
        assert np.mean(judge(minigen.tensor(x)).numpy().argmax(1) == y) > 0.5


def test_pictures_on_another_scale_are_refused():
    with pytest.raises(DataError, match=r"write \(x \+ 1\) / 2"):
        digits.name_digits(np.full((1, 1, 8, 8), -1.0))
    with pytest.raises(DataError):
        digits.digit_features(np.full((1, 1, 8, 8), np.nan))
    with pytest.raises(ShapeError):
        digits.digit_features(np.zeros((3, 64)))
