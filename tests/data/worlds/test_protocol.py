"""What `world.py` promises of every world, asked of every world."""

import copy
import json
import math

import numpy as np
import pytest

import minigen
from minigen.data.worlds import (
    AutoregressiveSeries,
    Estimate,
    GaussianMixture,
    GrammarText,
    HiddenMarkovText,
    MarkovText,
    NoisedTemplates,
    Rings,
    Sprites,
    World,
)
from minigen.data.worlds.world import logsumexp, mean_estimate
from minigen.errors import ShapeError
from minigen.random import Generator

WORLDS = {
    "pair": GaussianMixture.pair(),
    "ring": GaussianMixture.ring(),
    "grid": GaussianMixture.grid(side=2),
    "rings": Rings(),
    "sprites": Sprites(8),
    "noised sprites": Sprites(8).noised(0.5, 0.5),
    "Markov": MarkovText.random(symbols=3, order=2, length=12),
    "autoregressive": AutoregressiveSeries(length=12),
    "grammar": GrammarText(length=12),
    "grammar, letters": GrammarText(length=12, write="characters", begin="story"),
    "hidden Markov": HiddenMarkovText.random(states=3, symbols=4, length=12),
}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS)
def world(request):
    return request.param


def test_samples(world):
    x, latents = world.sample_with_latents(50, Generator(1))
    assert x.shape == (50, *world.shape) and x.dtype in (np.float32, np.int64) and len(latents) == 50
    np.testing.assert_array_equal(x, world.sample(50, Generator(1)))
    assert world.sample(0, Generator(1)).shape == (0, *world.shape)
    minigen.manual_seed(4)
    first = world.sample(5)
    minigen.manual_seed(4)
    np.testing.assert_array_equal(first, world.sample(5))


def test_log_prob(world):
    x = world.sample(6, Generator(0))
    log_p = world.log_prob(x)
    assert log_p.shape == (6,) and log_p.dtype == np.float64 and np.isfinite(log_p).all()
    np.testing.assert_allclose(world.log_prob(minigen.tensor(x)), log_p)
    np.testing.assert_allclose(world.log_prob(x.reshape(2, 3, *world.shape)), log_p.reshape(2, 3))
    np.testing.assert_allclose(world.log_prob(x[0]), log_p[0])
    assert world.log_prob(x[:0]).shape == (0,)


def test_entropy_is_the_mean_of_minus_log_prob(world):
    entropy = world.entropy()
    assert isinstance(entropy, Estimate) and entropy == world.entropy()
    sampled = mean_estimate(-world.log_prob(world.sample(4000, Generator(2))))
    assert abs(sampled - entropy) < 4.5 * math.hypot(sampled.error, entropy.error)


def test_a_truth_moves_no_stream(world):
    before = minigen.random.default_generator.get_state()
    world.entropy()
    assert minigen.random.default_generator.get_state() == before


def test_posterior_adds_up_to_one(world):
    if isinstance(world, NoisedTemplates | AutoregressiveSeries):  # hidden causes that are not one of so many
        return
    x = world.sample(5, Generator(0))
    np.testing.assert_allclose(world.posterior(x).sum(-1), 1)


def test_divergence(world):
    x = world.sample(100, Generator(0))
    itself = world.divergence(x, world.log_prob(x))
    assert itself == 0 and itself.error == 0
    off = world.divergence(x, minigen.tensor(world.log_prob(x) - 0.25))
    assert off == pytest.approx(0.25, abs=1e-6)
    with pytest.raises(ShapeError, match="one number a sample"):
        world.divergence(x, 0.0)


def test_a_world_that_lacks_something_says_what():
    class Empty(World):
        pass

    for ask in (lambda w: w.sample(1), lambda w: w.log_prob(0), lambda w: w.entropy(), lambda w: w.posterior(0)):
        with pytest.raises(NotImplementedError, match="Empty"):
            ask(Empty())


def test_estimate():
    exact, sampled = Estimate(1.5), Estimate(88.0234, 0.031)
    assert sampled - exact == pytest.approx(86.5234) and type(sampled - exact) is float and exact.error == 0
    assert str(exact) == "1.5 (exact)" and repr(sampled) == "88.023 +- 0.031" and f"{sampled:.1f}" == "88.0"
    assert str(Estimate(2.0, 1e-12)) == "2 +- 1e-12" and str(Estimate(200.0, 30.0)) == "200 +- 30"
    assert copy.deepcopy(sampled).error == sampled.error and json.dumps(sampled) == "88.0234"
    assert mean_estimate([1, 2, 3, 4]).error == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)
    assert mean_estimate([1.0]).error == math.inf


def test_logsumexp_of_nothing_possible(recwarn):
    assert logsumexp(np.array([[-np.inf, -np.inf], [0.0, 0.0]])).tolist() == [-np.inf, math.log(2)]
    assert not recwarn.list
