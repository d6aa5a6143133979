"""Distances to a world: against the world's own truths and against simulation."""

import numpy as np
import pytest

from minigen.data import worlds
from minigen.errors import ArgumentError
from minigen.metrics.worlds import expected_divergence, histogram_divergence, judge_samples, kl_to_model
from minigen.random import Generator


def test_the_world_is_at_no_distance_from_itself_and_a_floor_at_its_own():
    world = worlds.Sprites(8, radii=(2,), places=2)
    assert kl_to_model(world, world.log_prob, 100, Generator(0)) == 0
    ink = world.weights @ world.templates.reshape(len(world.weights), -1)
    share = world.flip + (1 - 2 * world.flip) * ink

    def independent(x):
        x = x.reshape(len(x), -1)
        return (x * np.log(share) + (1 - x) * np.log(1 - share)).sum(1)

    found = kl_to_model(world, independent, 4000, Generator(0))
    assert abs(found - (world.independent_entropy() - world.entropy())) < 4 * found.error


def test_the_expected_divergence_is_that_of_simulated_samples():
    g = Generator(0)
    for weights, n in [(np.full(12, 1 / 12), 30), (np.array([0.7, 0.2, 0.1]), 5)]:
        counts = np.stack([np.bincount(row, minlength=len(weights)) for row in g.categorical(weights, (4000, n))])
        found = [histogram_divergence(row, weights)[0] for row in counts]
        assert abs(np.mean(found) - expected_divergence(weights, n)) < 4 * np.std(found) / np.sqrt(4000)
    assert expected_divergence(np.full(12, 1 / 12), 10_000) == pytest.approx(11 / 20_000, rel=0.01)
    assert expected_divergence(np.ones(1), 10) == pytest.approx(0)


@pytest.mark.parametrize(
    "world",
    [worlds.Sprites(8, radii=(2,), places=2), worlds.GaussianMixture.ring(), worlds.Rings()],
    ids=["sprites", "mixture", "rings"],
)
def test_a_perfect_a_collapsed_and_a_noisy_sampler(world):
    x = world.sample(2000, Generator(0))
    perfect = judge_samples(world, x)
    assert perfect.on_mode > 0.98 and perfect.hit == perfect.total == round(perfect.perfect_hit)
    assert perfect.divergence < 3 * perfect.perfect_divergence
    collapsed = judge_samples(world, np.repeat(x[:1], 2000, 0))
    assert collapsed.hit == 1 and collapsed.divergence == pytest.approx(np.log(perfect.total))
    noise = (Generator(1).uniform(x.shape) < 0.5).astype(np.float32)
    noise *= 1 if isinstance(world, worlds.Sprites) else 50
    assert judge_samples(world, noise).on_mode < 0.01
    assert f"{perfect.hit} of {perfect.total} modes" in str(perfect)


def test_cells_the_world_never_fills():
    with np.errstate(divide="ignore"):
        assert histogram_divergence([1, 1], [1.0, 0.0])[0] == np.inf


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="add up to 1"):
        expected_divergence([0.5, 0.6], 10)
    with pytest.raises(ArgumentError, match="no sample"):
        histogram_divergence([0, 0], [0.5, 0.5])
