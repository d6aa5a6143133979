"""Markov and hidden Markov text against sums over every text and every path of states."""

import itertools
import math

import numpy as np
import pytest

from minigen.data.worlds import HiddenMarkovText, MarkovText
from minigen.errors import ArgumentError, DataError, ShapeError
from minigen.random import Generator

HIDDEN = HiddenMarkovText.random(states=3, symbols=4, contrast=1.5, seed=1, length=5)
SECOND = MarkovText.random(symbols=3, order=2, contrast=1.0, seed=2, length=5)
TEXTS = {world: np.array(list(itertools.product(range(len(world.symbols)), repeat=5))) for world in (HIDDEN, SECOND)}


def by_paths(world, x):
    """p(x) as the sum over all S^L paths."""
    total = np.zeros(len(x))
    for path in itertools.product(range(len(world.start)), repeat=x.shape[1]):
        p = world.start[path[0]] * world.emission[path[0], x[:, 0]]
        for t in range(1, x.shape[1]):
            p = p * world.transition[path[t - 1], path[t]] * world.emission[path[t], x[:, t]]
        total += p
    return total


def by_table(world, x):
    """p(x) of the second-order chain, from the table and the stationary law of pairs found by walking long."""
    law = np.full((3, 3), 1 / 9)
    for _ in range(2000):
        law = np.einsum("ab,abc->bc", law, world.table)
    p = law[x[:, 0], x[:, 1]]
    for t in range(2, x.shape[1]):
        p = p * world.table[x[:, t - 2], x[:, t - 1], x[:, t]]
    return p


PLAIN = {HIDDEN: by_paths(HIDDEN, TEXTS[HIDDEN]), SECOND: by_table(SECOND, TEXTS[SECOND])}


@pytest.fixture(params=[HIDDEN, SECOND], ids=["hidden", "second order"])
def world(request):
    return request.param


def test_probabilities_are_the_sum_over_paths(world):
    np.testing.assert_allclose(np.exp(world.log_prob(TEXTS[world])), PLAIN[world], rtol=1e-9)
    assert PLAIN[world].sum() == pytest.approx(1, abs=1e-9)


def test_conditionals_are_ratios_of_sums(world):
    texts, p = TEXTS[world], PLAIN[world]
    ahead = world.conditionals(texts)
    for t in range(5):
        for row in (0, 7, len(texts) - 1):
            same_before = (texts[:, :t] == texts[row, :t]).all(1)
            truth = [p[same_before & (texts[:, t] == v)].sum() for v in range(len(world.symbols))]
            np.testing.assert_allclose(ahead[row, t], np.array(truth) / sum(truth), rtol=1e-8)
    np.testing.assert_allclose(world.next_symbol(texts[:, :3]), ahead[:, 3], rtol=1e-12)
    np.testing.assert_allclose(world.next_symbol(texts[:1, :0]), ahead[:1, 0], rtol=1e-12)


@pytest.mark.parametrize("mask", [[0, 0, 1, 0, 0], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], ids=str)
def test_masked_conditionals_are_ratios_of_sums(world, mask):
    texts, p, mask = TEXTS[world], PLAIN[world], np.array(mask, bool)
    found = world.masked_conditionals(texts, mask)
    for row in (0, 11, len(texts) - 2):
        for t in range(5):
            seen = ~mask & (np.arange(5) != t)
            fits = (texts[:, seen] == texts[row, seen]).all(1)
            truth = np.array([p[fits & (texts[:, t] == v)].sum() for v in range(len(world.symbols))])
            np.testing.assert_allclose(found[row, t], truth / truth.sum(), rtol=1e-8)


def test_what_is_masked_is_not_looked_at(world):
    x, mask = world.sample(4, Generator(0)), np.array([0, 1, 0, 1, 1], bool)
    other = np.where(mask, 99, x)  # not even a symbol
    np.testing.assert_array_equal(world.masked_conditionals(x, mask), world.masked_conditionals(other, mask))


def test_posterior_over_states_is_the_sum_over_paths():
    x = TEXTS[HIDDEN][123]
    truth = np.zeros((5, 3))
    for path in itertools.product(range(3), repeat=5):
        p = HIDDEN.start[path[0]]
        for t in range(5):
            p *= HIDDEN.emission[path[t], x[t]] * (HIDDEN.transition[path[t], path[t + 1]] if t < 4 else 1)
        truth[range(5), path] += p
    np.testing.assert_allclose(HIDDEN.posterior(x), truth / truth.sum(1, keepdims=True), rtol=1e-9)


def test_entropy_is_the_sum_over_texts(world):
    truth = -(PLAIN[world] * np.log(PLAIN[world])).sum()
    entropy = world.entropy()
    assert abs(entropy - truth) < max(1e-9, 4 * entropy.error)
    assert entropy.error < 0.02 and (entropy.error == 0) == (world is SECOND)
    shorter = -sum(q * math.log(q) for q in PLAIN[world].reshape(len(world.symbols), -1).sum(1))
    one = world.entropy(length=1)
    assert abs(one - shorter) < max(1e-9, 4 * one.error)


def test_entropy_rate_of_a_markov_chain():
    """Two symbols that change with probability a and b: the rate is (b h(a) + a h(b)) / (a + b)."""
    a, b = 0.1, 0.4
    world = MarkovText([[1 - a, a], [b, 1 - b]])
    h = lambda p: -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert world.entropy_rate() == pytest.approx((b * h(a) + a * h(b)) / (a + b)) and world.entropy_rate().error == 0
    longer = SECOND.entropy(400) - SECOND.entropy(399)
    assert longer == pytest.approx(SECOND.entropy_rate())


def test_entropy_rate_of_a_hidden_chain():
    lower, upper = HIDDEN.entropy_rate_bounds()
    rate = HIDDEN.entropy_rate()
    assert lower <= upper + 1e-9 and rate.error < 0.01
    # H(X_1..X_9) - H(X_1..X_8) by brute force is above the rate, and close to it for a chain that forgets so fast.
    every = np.array(list(itertools.product(range(4), repeat=8)))
    log_p = HIDDEN.log_prob(every)
    ahead = HIDDEN.next_symbol(every)
    truth = -(np.exp(log_p)[:, None] * ahead * np.log(ahead)).sum()
    assert abs(rate - truth) < 4 * rate.error + 1e-3
    # Where the states show, the hidden chain is a Markov chain, and its exact rate is known.
    shown = HiddenMarkovText(HIDDEN.transition, np.eye(3))
    exact = MarkovText(HIDDEN.transition).entropy_rate()
    assert abs(shown.entropy_rate() - exact) < 4 * shown.entropy_rate().error


def test_rough_bounds_are_bounds():
    """Averaged from depth 1 on they are far apart, and the rate lies between."""
    sticky = HiddenMarkovText([[0.98, 0.02], [0.02, 0.98]], [[0.6, 0.4], [0.4, 0.6]])
    lower, upper = sticky.entropy_rate_bounds(depth=1, length=4, samples=4000)
    assert lower + 0.001 < sticky.entropy_rate() < upper - 0.001


def test_samples_follow_the_probabilities(world):
    x, z = world.sample_with_latents(200_000, Generator(3))
    assert x.shape == z.shape == (200_000, 5) and x.dtype == z.dtype == np.int64
    number = x @ len(world.symbols) ** np.arange(4, -1, -1)
    found = np.bincount(number, minlength=len(PLAIN[world])) / len(x)
    np.testing.assert_allclose(found, PLAIN[world], atol=0.003)
    assert (world.sample(9, Generator(3)) == world.sample(9, Generator(3))).all()
    assert world.sample(2, Generator(0), length=70).shape == (2, 70)


def test_long_texts_do_not_underflow():
    x = HIDDEN.sample(2, Generator(0), length=5000)
    log_p = HIDDEN.log_prob(x)
    assert np.isfinite(log_p).all() and (log_p < -1000).all()
    assert np.isfinite(HIDDEN.masked_conditionals(x, np.zeros(5000, bool))).all()


def test_impossible_texts():
    never = MarkovText([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    assert never.log_prob([[0, 0, 1, 2, 0], [0, 2, 0, 0, 0], [1, 1, 1, 0, 0]]).tolist()[1:] == [-np.inf, -np.inf]
    assert np.isfinite(never.log_prob([0, 0, 1, 2, 0]))
    ahead = never.conditionals([0, 2, 0])
    assert np.isfinite(ahead[:2]).all() and np.isnan(ahead[2]).all()


def test_letters():
    world = MarkovText.random(symbols=4)
    assert world.decode([0, 3, 1]) == "adb" and world.decode([[0], [3]]) == ["a", "d"]
    assert world.encode("adb").tolist() == [0, 3, 1]
    with pytest.raises(DataError, match="'z' is not one of its symbols"):
        world.encode("az")


def test_worlds_are_the_same_on_every_machine():
    """The tables come from the counter-based generator: these numbers must never change."""
    world = HiddenMarkovText.random(seed=0)
    np.testing.assert_allclose(world.transition[0, :3], FIRST_ROW, rtol=1e-5)
    assert world.decode(world.sample(1, Generator(0))[0, :20]) == FIRST_TEXT


FIRST_ROW = [4.5300326e-05, 8.0956985e-07, 1.0764773e-05]
FIRST_TEXT = "pfaaafpdoibjbapjmbjb"


def test_errors_say_what_to_write():
    with pytest.raises(ArgumentError, match="add up to 1"):
        MarkovText([[0.5, 0.6], [0.5, 0.5]])
    with pytest.raises(ShapeError, match="one dimension more than the order"):
        MarkovText(np.ones((2, 3)) / 3)
    with pytest.raises(ShapeError, match=r"transition \(S, S\)"):
        HiddenMarkovText(np.eye(3), np.ones((2, 4)) / 4)
    with pytest.raises(ArgumentError, match="give start="):
        HiddenMarkovText(np.eye(2), np.ones((2, 2)) / 2)
    HiddenMarkovText(np.eye(2), np.ones((2, 2)) / 2, start=[1, 0])
    with pytest.raises(ArgumentError, match="at most 4096"):
        MarkovText.random(symbols=20, order=3)
    with pytest.raises(DataError, match="whole numbers from 0 to 3"):
        HIDDEN.log_prob([0, 4])
    with pytest.raises(DataError, match="whole numbers"):
        HIDDEN.log_prob([0.5, 1.0])
    with pytest.raises(ArgumentError, match="different letters"):
        MarkovText([[0.5, 0.5], [0.5, 0.5]], symbols="aa")
