"""Byte-pair encoding on plain symbols: learning and applying, against the words of the definition."""

import itertools
from collections import Counter

import numpy as np
import pytest

from minigen.text import bpe


def learned_plainly(words, symbols, count, least=2):
    """The definition, with everything counted anew for each merge."""
    words, merges = {tuple(word): often for word, often in words.items()}, []
    for made in range(symbols, symbols + count):
        pairs = Counter()
        for word, often in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += often
        if not pairs:
            break
        often, pair = min((-often, pair) for pair, often in pairs.items())
        if -often < least:
            break
        merges.append(pair)
        after = Counter()
        for word, often in words.items():
            after[tuple(bpe.merged(word, pair, made))] += often
        words = after
    return merges


def applied_plainly(word, ranks):
    word = list(word)
    while True:
        known = [(ranks[pair][0], pair) for pair in itertools.pairwise(word) if pair in ranks]
        if not known:
            return word
        _, pair = min(known)
        word = bpe.merged(word, pair, ranks[pair][1])


def random_words(seed, symbols=4, words=60):
    random = np.random.default_rng(seed)
    return Counter(tuple(random.integers(0, symbols, random.integers(1, 9)).tolist()) for _ in range(words))


@pytest.mark.parametrize("seed", range(8))
def test_learning_is_the_definition(seed):
    words = random_words(seed)
    assert bpe.learn(words, 4, 25) == learned_plainly(words, 4, 25)


@pytest.mark.parametrize("seed", range(8))
def test_applying_is_the_definition(seed):
    words = random_words(seed)
    merges = bpe.learn(words, 4, 25)
    ranks = {pair: (rank, 4 + rank) for rank, pair in enumerate(merges)}
    for word in [*words, *random_words(seed + 100)]:
        assert bpe.apply(word, ranks) == applied_plainly(word, ranks)


def test_the_example_of_the_paper():
    """Sennrich et al. 2016, figure 1: r . and l o, then lo w, are the first merges of low, lowest, newer, wider."""
    letters = "delnorstwi."
    number = {letter: i for i, letter in enumerate(letters)}
    words = {
        tuple(number[c] for c in word): often
        for word, often in {"low.": 5, "lowest.": 2, "newer.": 6, "wider.": 3}.items()
    }
    names = list(letters)
    found = []
    for a, b in bpe.learn(words, len(letters), 4):
        names.append(names[a] + names[b])
        found.append(names[-1])
    assert found == ["er", "er.", "lo", "low"]


def test_neighbours_that_overlap():
    assert bpe.merged([0, 0, 0, 0, 0], (0, 0), 1) == [1, 1, 0]
    assert bpe.apply([0] * 5, {(0, 0): (0, 1)}) == [1, 1, 0]
    assert bpe.apply([], {}) == [] and bpe.learn({}, 4, 3) == []


def test_a_long_word_takes_no_longer_a_symbol_than_a_short_one():
    ranks = {(0, 0): (0, 1), (1, 1): (1, 2), (2, 2): (2, 3)}
    assert bpe.apply([0] * 400_000, ranks) == [3] * 50_000
