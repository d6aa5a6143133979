"""The rules on logits: each against what its paper says, on distributions that can be looked at."""

import itertools

import numpy as np
import pytest

from minigen.errors import ArgumentError, ShapeError
from minigen.sampling import logits as rules

P = np.array([[0.4, 0.3, 0.15, 0.1, 0.05]])
LOGITS = np.log(P).astype(np.float32)


def kept(logits):
    return [set(np.flatnonzero(np.isfinite(row))) for row in logits]


def random_logits(n=50, v=12, spread=3.0):
    return (spread * np.random.default_rng(0).standard_normal((n, v))).astype(np.float32)


def chances(logits):
    p = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def test_temperature():
    np.testing.assert_allclose(chances(rules.temperature(LOGITS, 0.5)), P**2 / (P**2).sum(), rtol=1e-5)
    with pytest.raises(ArgumentError, match="greedy"):
        rules.temperature(LOGITS, 0.0)


def test_top_k():
    assert kept(rules.top_k(LOGITS, 2)) == [{0, 1}] and kept(rules.top_k(LOGITS, 99)) == [{0, 1, 2, 3, 4}]
    level = np.array([[1.0, 0.0, 0.0, -1.0]], np.float32)
    assert kept(rules.top_k(level, 2)) == [{0, 1, 2}]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8, 0.95])
def test_top_p_keeps_the_smallest_set(p):
    """By trying all sets: none that is smaller has the mass, and ours is the likeliest of its size."""
    logits = random_logits(n=20, v=8)
    for chance, chosen in zip(chances(logits), kept(rules.top_p(logits, p))):
        enough = [s for k in range(1, 9) for s in itertools.combinations(range(8), k) if chance[list(s)].sum() >= p]
        smallest = min(map(len, enough))
        best = max((s for s in enough if len(s) == smallest), key=lambda s: chance[list(s)].sum())
        assert chosen == set(best)


def test_top_p_of_one_keeps_all_and_of_nothing_one():
    assert kept(rules.top_p(LOGITS, 1.0)) == [{0, 1, 2, 3, 4}] and kept(rules.top_p(LOGITS, 1e-9)) == [{0}]


def test_min_p():
    assert kept(rules.min_p(LOGITS, 0.3)) == [{0, 1, 2}] and kept(rules.min_p(LOGITS, 1.0)) == [{0}]


def test_typical_takes_the_surprises_nearest_to_the_entropy():
    p = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    off = abs(-np.log(p) - -(p * np.log(p)).sum())
    order = np.argsort(off)
    assert order[0] != 0  # the likeliest symbol is not the most typical one
    for mass in (0.05, 0.3, 0.6, 0.9):
        count = np.searchsorted(np.cumsum(p[order]), mass) + 1
        assert kept(rules.typical(np.log(p)[None].astype(np.float32), mass)) == [set(order[:count])]


def test_epsilon_and_eta():
    assert kept(rules.epsilon_cutoff(LOGITS, 0.12)) == [{0, 1, 2}] and kept(rules.epsilon_cutoff(LOGITS, 0.9)) == [{0}]
    logits = random_logits()
    p = chances(logits)
    entropy = -(p * np.log(p)).sum(1, keepdims=True)
    for epsilon in (0.003, 0.09):
        limit = np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-entropy))
        assert kept(rules.eta_cutoff(logits, epsilon)) == [set(np.flatnonzero(row)) for row in p >= limit]
    assert (limit < epsilon).any() and (limit == epsilon).any()


def test_repetition_penalty_once_for_each_symbol():
    logits = np.array([[2.0, -2.0, 1.0, 0.0]], np.float32)
    once = rules.repetition_penalty(logits, np.array([[0, 1, 3]]), 2.0)
    assert once.tolist() == [[1.0, -4.0, 1.0, 0.0]] and logits[0, 0] == 2.0
    assert rules.repetition_penalty(logits, np.array([[0, 0, 0, 1, 3]]), 2.0).tolist() == once.tolist()


def test_no_repeat_ngram():
    rng = np.random.default_rng(0)
    ids, logits = rng.integers(0, 4, (30, 15)), np.zeros((30, 4), np.float32)
    for n in (1, 2, 3, 4):
        for row, found in zip(ids.tolist(), kept(rules.no_repeat_ngram(logits, ids, n))):
            seen = {tuple(row[i : i + n]) for i in range(len(row) - n + 1)}
            assert found == {v for v in range(4) if (*row[len(row) - n + 1 :], v) not in seen}
    assert kept(rules.no_repeat_ngram(logits, ids[:, :2], 4)) == [{0, 1, 2, 3}] * 30


def test_by_decree():
    assert kept(rules.allow(LOGITS, [1, 4])) == [{1, 4}] and kept(rules.forbid(LOGITS, [1, 4])) == [{0, 2, 3}]
    mask = np.array([[True, False, False, True, False]])
    assert kept(rules.allow(LOGITS, mask)) == [{0, 3}]
    ids = np.zeros((1, 6), int)
    assert rules.at_length(LOGITS, ids, 9, 2) is LOGITS
    assert rules.at_length(LOGITS, ids, 7, 2).tolist() == [[-np.inf, -np.inf, 0.0, -np.inf, -np.inf]]


EVERY = [
    lambda x: rules.temperature(x, 0.7),
    lambda x: rules.top_k(x, 3),
    lambda x: rules.top_p(x, 0.7),
    lambda x: rules.min_p(x, 0.1),
    lambda x: rules.typical(x, 0.7),
    lambda x: rules.epsilon_cutoff(x, 0.05),
    lambda x: rules.eta_cutoff(x, 0.05),
    lambda x: rules.repetition_penalty(x, np.zeros((50, 3), int), 1.3),
    lambda x: rules.no_repeat_ngram(x, np.zeros((50, 3), int), 2),
    lambda x: rules.allow(x, [0]),
]


@pytest.mark.parametrize("rule", EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_stay_something_stays_and_what_is_ruled_out_stays_out(rule, dtype):
    logits = random_logits().astype(dtype)
    logits[:, 1] = -np.inf
    before = logits.copy()
    out = rule(logits)
    assert out.dtype == dtype and np.isfinite(out).any(1).all() and not np.isnan(out).any()
    assert (out[:, 1] == -np.inf).all() and (logits == before).all()


def test_bad_numbers():
    for rule, value in [
        (rules.top_k, 0), (rules.top_p, 0.0), (rules.top_p, 1.5), (rules.min_p, -0.1), (rules.typical, 1.0),
        (rules.epsilon_cutoff, 0.0), (rules.eta_cutoff, 1.0),
    ]:  # fmt: skip
        with pytest.raises(ArgumentError, match=rule.__name__):
            rule(LOGITS, value)
    with pytest.raises(ShapeError, match=r"ids \(N, T\)"):
        rules.repetition_penalty(LOGITS, [1, 2], 1.3)
