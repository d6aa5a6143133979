"""Units of likelihood, and what dequantisation must pay."""

import math

import numpy as np
import pytest

from minigen.errors import ArgumentError
from minigen.metrics.likelihood import bits_per_dim, dequantisation_constant, nats_of_bits, perplexity


def test_bits_and_nats():
    assert bits_per_dim(64 * math.log(17), 64) == pytest.approx(math.log2(17))  # 17 levels, all as likely
    assert nats_of_bits(bits_per_dim(106.3, 64), 64) == pytest.approx(106.3)
    np.testing.assert_allclose(bits_per_dim(np.array([1.0, 2.0]), 1), [1.442695, 2.885390], rtol=1e-6)


def test_perplexity_counts_equal_choices():
    assert perplexity(math.log(50257)) == pytest.approx(50257)


def test_the_best_density_of_dequantised_levels_has_just_the_nats_of_the_levels():
    """The best density of x = (k + w u) step is P(k) / (w step) on its stairs: the constant takes it back to P."""
    p = np.array([0.5, 0.3, 0.2])
    entropy = -(p * np.log(p)).sum()
    for step, noise in [(1.0, 1.0), (1 / 256, 1.0), (2 / 255, 0.5)]:
        nats = -(p * np.log(p / (step * noise))).sum()
        assert nats + dequantisation_constant(1, step, noise) == pytest.approx(entropy)


def test_known_constants():
    assert dequantisation_constant(3072, 1 / 256) == pytest.approx(3072 * math.log(256))
    assert 122.5 + dequantisation_constant(64, noise=0.5) == pytest.approx(166.86, abs=0.01)


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="dims is positive"):
        bits_per_dim(1.0, 0)
    with pytest.raises(ArgumentError, match="mixes levels"):
        dequantisation_constant(1, noise=2.0)
