"""The n-gram model against counting by hand."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

import minigen
from minigen.data.worlds import MarkovText
from minigen.errors import ArgumentError, DataError, ShapeError
from minigen.models.autoregressive.ngram import NGram, discounts_of
from minigen.random import Generator

NOTHING = np.zeros(0, np.int64)
OPTIONS = list(itertools.product([False, True], [1, 3]))


def by_hand(rows, order, symbols, kneser_ney, kinds):
    """p(v | context) as a function, from dictionaries of tuples and the formulas of the papers."""
    counts = [Counter() for _ in range(order + 1)]
    left = [defaultdict(set) for _ in range(order + 1)]
    for row in rows:
        for k in range(1, order + 1):
            for t in range(k - 1, len(row)):
                gram = tuple(row[t - k + 1 : t + 1])
                counts[k][gram] += 1
                left[k][gram].add(row[t - k] if t >= k else "edge")
    shorter_counts = counts
    if kneser_ney:
        shorter_counts = [Counter({gram: len(before) for gram, before in grams.items()}) for grams in left]

    def discount(counts):
        n = [0.5 + sum(c == i for c in counts.values()) for i in range(5)]
        y = n[1] / (n[1] + 2 * n[2])
        if kinds == 1:
            return lambda c: y
        return lambda c: float(np.clip(min(c, 3) - (min(c, 3) + 1) * y * n[min(c, 3) + 1] / n[min(c, 3)], 0.05, c))

    def p(v, context, longest=True):
        if context is None:
            return 1 / symbols
        table = (counts if longest else shorter_counts)[len(context) + 1]
        after = {gram[-1]: c for gram, c in table.items() if gram[:-1] == context}
        shorter = p(v, context[1:] if context else None, False)
        if not after:
            return shorter
        taken = discount(table)
        total, rest = sum(after.values()), sum(taken(c) for c in after.values())
        own = after[v] - taken(after[v]) if v in after else 0.0
        return own / total + rest / total * shorter

    return p


@pytest.mark.parametrize("kneser_ney, kinds", OPTIONS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_it_is_what_counting_by_hand_gives(order, kneser_ney, kinds):
    rows, test = Generator(0).integers(0, 3, (4, 12)), Generator(1).integers(0, 4, (3, 9))  # 3 is never seen in `rows`
    p = by_hand(rows.tolist(), order, 4, kneser_ney, kinds)
    model = NGram(order, 4, kneser_ney=kneser_ney, discounts=kinds).fit(rows)
    truth = [
        [[p(v, tuple(row[max(0, t - order + 1) : t])) for v in range(4)] for t in range(9)] for row in test.tolist()
    ]
    found = model.conditionals(test)
    np.testing.assert_allclose(found, truth, rtol=1e-12)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)
    assert (found > 0).all()
    np.testing.assert_allclose(
        model.symbol_log_prob(test), np.log(np.take_along_axis(found, test[..., None], -1))[..., 0]
    )
    np.testing.assert_allclose(model.log_prob(test), model.symbol_log_prob(test).sum(1))
    assert model.nll(test) == pytest.approx(-model.symbol_log_prob(test).mean())


def test_shapes_tensors_and_empty_contexts():
    x = Generator(0).integers(0, 5, (200,))
    model = NGram(3, 5).fit(x)
    rows = x.reshape(2, 5, 20)
    log_p = model.symbol_log_prob(rows)
    assert log_p.shape == (2, 5, 20) and model.log_prob(rows).shape == (2, 5) and log_p.dtype == np.float64
    np.testing.assert_array_equal(model.symbol_log_prob(minigen.tensor(rows[0])), log_p[0])
    assert model.log_prob(x).shape == () and model.conditionals(rows).shape == (2, 5, 20, 5)
    np.testing.assert_allclose(model.next_symbol(rows[0, :, :-1]), model.conditionals(rows[0])[:, -1])
    np.testing.assert_allclose(model.next_symbol(NOTHING), model.conditionals(x)[0])
    assert model.next_symbol(np.zeros((2, 0), np.int64)).shape == (2, 5)


def test_no_context_reaches_over_the_edge_of_a_row():
    model = NGram(2, 3).fit(np.array([[0, 1], [2, 0]]))  # as one text it would hold the pair 1, 2
    joined = NGram(2, 3).fit(np.array([0, 1, 2, 0]))
    assert model.next_symbol([1])[2] == pytest.approx(model.next_symbol(NOTHING)[2])
    assert joined.next_symbol([1])[2] > joined.next_symbol(NOTHING)[2]


def test_an_unseen_context_leaves_it_to_the_shorter_one():
    model = NGram(4, 6, kneser_ney=False).fit(np.array([0, 1, 2, 3, 0, 1, 2, 4] * 5))
    np.testing.assert_allclose(model.next_symbol([5, 1, 2]), model.next_symbol([1, 2]))
    np.testing.assert_allclose(model.next_symbol([1, 1, 5]), model.next_symbol(NOTHING))
    assert model.next_symbol([0, 1, 2])[5] > 0


def test_a_higher_order_than_the_text_is_long():
    np.testing.assert_allclose(
        NGram(9, 2).fit(np.array([0, 1, 1])).next_symbol([0, 1]),
        NGram(3, 2).fit(np.array([0, 1, 1])).next_symbol([0, 1]),
    )


def test_the_true_order_is_the_best_and_nearly_reaches_the_entropy():
    world = MarkovText.random(symbols=6, order=2, seed=0)
    x, held_out = world.sample(1, Generator(0), length=60_000), world.sample(1, Generator(1), length=40_000)
    nll = {n: NGram(n, 6).fit(x).nll(held_out) for n in (1, 2, 3, 4)}
    assert min(nll, key=nll.get) == 3
    gap = world.divergence(held_out, NGram(3, 6).fit(x).log_prob(held_out)) / 40_000
    assert 0 < gap < 0.003


def test_samples_follow_the_conditionals():
    model = NGram(3, 4).fit(MarkovText.random(symbols=4, order=2, seed=0).sample(1, Generator(0), length=3000))
    x = model.sample(4000, 3, Generator(2), context=[0, 1])
    assert x.shape == (4000, 3) and x.dtype == np.int64
    share = np.bincount(x[:, 0], minlength=4) / 4000
    np.testing.assert_allclose(share, model.next_symbol([0, 1]), atol=0.035)
    for v in np.flatnonzero(np.bincount(x[:, 0]) > 400):  # and the next one, after it
        after = x[x[:, 0] == v, 1]
        np.testing.assert_allclose(np.bincount(after, minlength=4) / len(after), model.next_symbol([1, v]), atol=0.08)
    np.testing.assert_array_equal(model.sample(5, 7, Generator(3)), model.sample(5, 7, Generator(3)))
    assert model.sample(2, 0).shape == (2, 0) and model.sample(0, 3).shape == (0, 3)


def test_discounts():
    counts = np.repeat([1, 2, 3, 4, 9], [400, 100, 50, 30, 7])
    np.testing.assert_allclose(discounts_of(counts), 400.5 / (400.5 + 201))
    assert (np.diff(discounts_of(counts, 3)) > 0).all()
    assert discounts_of(counts, 3)[0] == pytest.approx(discounts_of(counts)[0])
    assert (discounts_of(np.array([50, 60]), 3) > 0).all()


def test_kneser_ney_knows_that_francisco_follows_only_san():
    # 0 1 ("San Francisco") is frequent, but 1 stands after nothing else; 2 is rarer and stands after everything.
    g = Generator(0)
    pieces = [[0, 1] if g.uniform() < 0.5 else [int(g.integers(3, 9)), 2] for _ in range(2000)]
    x = np.concatenate(pieces)
    plain, kn = NGram(2, 10, kneser_ney=False).fit(x), NGram(2, 10).fit(x)
    after_something_new = [9]
    assert plain.next_symbol(after_something_new)[1] > 0.2 and kn.next_symbol(after_something_new)[1] < 0.15
    assert kn.next_symbol(after_something_new)[2] > 0.2


def test_mistakes_are_answered():
    with pytest.raises(ArgumentError, match="at least 1"):
        NGram(0, 4)
    with pytest.raises(ArgumentError, match="discounts is 1 or 3"):
        NGram(2, 4, discounts=2)
    with pytest.raises(ArgumentError, match=r"write fit\(ids\) first"):
        NGram(2, 4).nll(np.zeros(3, np.int64))
    with pytest.raises(DataError, match="from 0 to 3"):
        NGram(2, 4).fit(np.array([0, 4]))
    with pytest.raises(DataError, match="whole numbers"):
        NGram(2, 4).fit(np.array([0.0, 1.0]))
    with pytest.raises(DataError, match="no symbol"):
        NGram(2, 4).fit(NOTHING)
    with pytest.raises(ShapeError, match="a text is"):
        NGram(2, 4).fit(np.int64(3))
