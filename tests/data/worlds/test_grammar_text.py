"""The grammar against the enumeration of all its stories."""

import math

import numpy as np
import pytest

from minigen.data.worlds import GrammarText
from minigen.data.worlds.grammar import compile_grammar
from minigen.data.worlds.stories import HE, SHE, THINGS
from minigen.errors import ArgumentError, DataError
from minigen.random import Generator

SMALL = {
    "<story>": [(0.6, "<who> <does> ."), (0.4, "it <rained> .")],
    "<who>": [(0.5, "tom"), (0.3, "the <animal>"), (0.2, "a <animal>")],
    "<animal>": [(0.75, "cat"), (0.25, "catfish")],
    "<does>": [(0.5, "sat"), (0.5, "saw <who>")],
    "<rained>": [(0.9, "rained"), (0.1, "")],
}
ENDLESS = {
    "<story>": [(1.0, "tom <more>")],
    "<more>": [(0.6, "ran <where> <more>"), (0.4, "slept")],
    "<where>": [(0.5, "up"), (0.5, "down")],
}

STORYTELLER, LETTERS = GrammarText(), GrammarText(write="characters")


def every(rules, body, p=1.0):
    """(words, probability, probabilities of the rules used) of all that `body` can become."""
    for i, part in enumerate(body):
        if part in rules:
            for chance, inner in rules[part]:
                for words, q, used in every(rules, (*body[:i], *inner.split(), *body[i + 1 :]), p * chance):
                    yield words, q, [chance, *used]
            return
    yield body, p, []


STORIES = list(every(SMALL, ("<story>",)))
WORLDS = {
    (write, begin): GrammarText(SMALL, write=write, begin=begin, length=6)
    for write in ("words", "characters")
    for begin in ("anywhere", "story")
}


def spelled(world, words):
    text = " ".join(words).replace(" .", ".")
    return list(text) if world.write == "characters" else list(words)


def streams(world, length):
    """{text: probability} of all stretches of `length` symbols: one story after another, from any place or from one."""
    closed = [([*spelled(world, words), "\n"], p) for words, p, _ in STORIES]
    mean = sum(p * len(story) for story, p in closed)
    found = {}

    def go_on(text, p):
        if len(text) >= length:
            key = tuple(text[:length])
            found[key] = found.get(key, 0.0) + p
            return
        for story, q in closed:
            go_on([*text, *story], p * q)

    for story, q in closed:
        for place in range(len(story)) if world.begin == "anywhere" else [0]:
            go_on(story[place:], q / mean if world.begin == "anywhere" else q)
    return found


@pytest.fixture(params=WORLDS.values(), ids=["-".join(key) for key in WORLDS])
def world(request):
    return request.param


@pytest.fixture(scope="module")
def all_texts():
    return {key: streams(world, 6) for key, world in WORLDS.items()}


def test_stories_have_the_probability_of_their_derivation(world):
    assert len(STORIES) == 32 and sum(p for _, p, _ in STORIES) == pytest.approx(1)
    for words, p, _ in STORIES:
        story = " ".join(words).replace(" .", ".")
        assert world.story_log_prob(story) == pytest.approx(math.log(p))
        assert world.decode(world.encode(story)) == story
    for story in ("tom sat", "tom sat. tom sat.", "", "sat.", "tom saw saw."):
        assert world.story_log_prob(story) == -np.inf


def test_story_entropy_is_the_sum_over_stories_and_over_rules(world):
    truth = -sum(p * math.log(p) for _, p, _ in STORIES)
    by_rules = -sum(p * math.log(chance) for _, p, used in STORIES for chance in used)
    length = sum(p * (len(spelled(world, words)) + 1) for words, p, _ in STORIES)
    assert world.story_entropy() == pytest.approx(truth) == pytest.approx(by_rules)
    assert world.story_length() == pytest.approx(length)
    assert world.entropy_rate() == pytest.approx(truth / length) and world.entropy_rate().error == 0


def test_texts_conditionals_and_entropy_by_enumeration(world, all_texts):
    truth = all_texts[world.write, world.begin]
    texts = np.array([[world.symbols.index(s) for s in text] for text in truth])
    p = np.array(list(truth.values()))
    np.testing.assert_allclose(np.exp(world.log_prob(texts)), p, rtol=1e-9)
    exact = -(p * np.log(p)).sum()
    assert abs(world.entropy() - exact) < max(1e-9, 4 * world.entropy().error)
    assert (world.entropy().error == 0) == (world.begin == "story")
    ahead = world.conditionals(texts)
    for row in range(0, len(texts), max(len(texts) // 40, 1)):
        for t in range(6):
            same = (texts[:, :t] == texts[row, :t]).all(1)
            chances = np.bincount(texts[same, t], p[same], len(world.symbols))
            np.testing.assert_allclose(ahead[row, t], chances / chances.sum(), atol=1e-10)


@pytest.mark.parametrize("mask", [[0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0], [1] * 6, [0] * 6], ids=str)
def test_masked_conditionals_by_enumeration(world, all_texts, mask):
    truth = all_texts[world.write, world.begin]
    texts = np.array([[world.symbols.index(s) for s in text] for text in truth])
    p, mask = np.array(list(truth.values())), np.array(mask, bool)
    rows = range(0, len(texts), max(len(texts) // 12, 1))
    found = world.masked_conditionals(np.where(mask, 999, texts)[list(rows)], mask)
    for got, row in zip(found, rows):
        for t in range(6):
            seen = ~mask & (np.arange(6) != t)
            fits = (texts[:, seen] == texts[row, seen]).all(1)
            chances = np.bincount(texts[fits, t], p[fits], len(world.symbols))
            np.testing.assert_allclose(got[t], chances / chances.sum(), atol=1e-10)


def test_samples_follow_the_probabilities(world, all_texts):
    truth = all_texts[world.write, world.begin]
    x, states = world.sample_with_latents(50_000, Generator(3))
    assert x.shape == states.shape == (50_000, 6) and x.dtype == states.dtype == np.int64
    numbers = {tuple(world.symbols.index(s) for s in text): p for text, p in truth.items()}
    counts = dict.fromkeys(numbers, 0)
    for row in x.tolist():
        counts[tuple(row)] += 1
    off = [(counts[text] - 50_000 * p) / math.sqrt(50_000 * p * (1 - p)) for text, p in numbers.items()]
    assert max(map(abs, off)) < 5.5 and abs(np.mean(np.square(off)) - 1) < 5 * math.sqrt(2 / len(off))
    assert (world.chances[states, x] > 0).all() and (world.after[states, x][:, :-1] == states[:, 1:]).all()


def test_posterior_over_where_a_text_begins():
    world = WORLDS["words", "anywhere"]
    x, states = world.sample_with_latents(30_000, Generator(0), length=3)
    found = world.posterior(x[:200])
    for row in range(0, 200, 20):
        same = (x == x[row]).all(1)
        counts = np.bincount(states[same, 0], minlength=found.shape[1]) / same.sum()
        np.testing.assert_allclose(found[row], counts, atol=4.5 / math.sqrt(4 * same.sum()))


def test_a_rule_that_repeats_at_its_end():
    """tom (ran (up|down))* slept: a geometric number of times, of which all sums have a closed form."""
    world = GrammarText(ENDLESS)
    times = 0.6 / 0.4
    assert world.story_length() == pytest.approx(2 + 1 + 2 * times)
    h = -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    assert world.story_entropy() == pytest.approx((times + 1) * h + times * math.log(2))
    long = "tom " + "ran up " * 300 + "slept"
    assert world.story_log_prob(long) == pytest.approx(300 * math.log(0.3) + math.log(0.4))
    assert world.parse(long).grammatical


def test_whole_stories():
    for world in (STORYTELLER, LETTERS):
        told = world.tell(200, Generator(1))
        assert all(world.parse(story).grammatical for story in told)
        mean = -np.mean([world.story_log_prob(story) for story in told])
        assert mean == pytest.approx(world.story_entropy(), rel=0.06)
        assert np.mean([len(world.encode(story)) + 1 for story in told]) == pytest.approx(
            world.story_length(), rel=0.05
        )
        row = world.sample(1, Generator(2), length=400)[0]
        pieces = world.stories(row)
        assert len(pieces) >= 1 and all(world.parse(piece).grammatical for piece in pieces)
    for story in told[:20]:
        assert STORYTELLER.story_log_prob(story) == pytest.approx(LETTERS.story_log_prob(story))
    assert STORYTELLER.story_entropy() == pytest.approx(LETTERS.story_entropy())


def test_what_is_agreed_over_a_distance():
    """Names, pronouns, articles and things of 300 stories, read with no help from the grammar."""
    for story in STORYTELLER.tell(300, Generator(5)):
        words = story.replace(".", " .").split()
        names = [w for w in words if w in HE + SHE]
        things = [w for w in words if w in THINGS]
        finder, subject = names[0], "he" if names[0] in HE else "she"
        assert len(set(names)) == 2 and len(set(things)) == 1 and len(names) >= 3
        assert words[words.index("found") - 1] == finder and words[words.index(".") + 1] == subject
        article = words[words.index("found") + 1]
        following = words[words.index("found") + 2]
        assert (article == "an") == (following[0] in "aeiou")
        asker = next(w for w in names if w != finder)
        if "gave" in words:
            assert words[words.index("gave") + 1] == ("him" if asker in HE else "her")
        if "were" in words:
            assert words[words.index("were") - 3 : words.index("were")] == [finder, "and", asker]


def test_memory_pays():
    """What an observer of four words loses against one who remembers 31: well over 0.1 nats a word."""
    world = STORYTELLER
    near, far = ([world.entropy(k, samples=4000) for k in (n - 1, n)] for n in (5, 32))
    assert near[1] - near[0] > far[1] - far[0] + 0.1
    assert far[1] - far[0] < world.entropy_rate() + 0.1


def test_the_parser_says_where_it_goes_wrong():
    world = STORYTELLER
    wrong = world.parse("once tom found a egg in the garden.")
    assert not wrong.grammatical and wrong.place == 4 and wrong.tree is None
    assert set(wrong.expected) == {"ball", "book", "big", "little", "red"}
    assert world.parse("once tom found").place == 3 and "a" in world.parse("once tom found").expected
    assert world.parse("once zebra found").place == 1
    letters = LETTERS.parse("once tom fuund")
    assert letters.place == 10 and letters.expected == ["o"]
    assert not world.parse(np.array([world.end_mark])).grammatical


def leaves(tree):
    return [tree] if isinstance(tree, str) else [leaf for part in tree[1] for leaf in leaves(part)]


@pytest.mark.parametrize("rules", [SMALL, ENDLESS, None], ids=["small", "endless", "stories"])
def test_derivations_are_trees_of_the_grammar(rules):
    world = GrammarText(rules)
    bodies = {head: [body.split() for _, body in found] for head, found in world.rules.items()}

    def check(tree):
        head, parts = tree
        assert [part if isinstance(part, str) else part[0] for part in parts] in bodies[head]
        for part in parts:
            if not isinstance(part, str):
                check(part)

    for story in world.tell(30, Generator(0)):
        tree = world.parse(story).tree
        check(tree)
        assert tree[0] == "<story>" and world.decode(world.encode(" ".join(leaves(tree)))) == story


def test_impossible_texts():
    world = WORLDS["words", "anywhere"]
    x = world.encode("sat sat. tom")
    assert world.log_prob(x) == -np.inf
    ahead = world.conditionals(np.stack([x, x[[3, 0, 2, 1]]]))
    assert np.isfinite(ahead[0, :2]).all() and np.isnan(ahead[0, 2:]).all() and np.isfinite(ahead[1, :3]).all()


def test_grammars_that_are_refused():
    for rules, says in [
        ({"<a>": [(1.0, "x")]}, "no rule for <story>"),
        ({"<story>": [(0.5, "x"), (0.4, "y")]}, "add up to 1"),
        ({"<story>": [(1.5, "x"), (-0.5, "y")]}, "positive"),
        ({"<story>": [(1.0, "x <y>")]}, "speaks of <y>"),
        ({"<story>": [(0.5, "x y"), (0.5, "x z")]}, "two rules of the grammar begin with 'x'"),
        ({"<story>": [(0.5, "<story> x"), (0.5, "y")]}, "begins with itself"),
        ({"<story>": [(0.5, "x <story> y"), (0.5, "z")]}, "nests without bound"),
    ]:
        with pytest.raises(ArgumentError, match=says):
            GrammarText(rules)
    for options in ({"write": "bytes"}, {"begin": "end"}):
        with pytest.raises(ArgumentError, match="GrammarText: "):
            GrammarText(SMALL, **options)
    with pytest.raises(DataError, match="'dog' is not one of its symbols"):
        GrammarText(SMALL).encode("the dog")
    with pytest.raises(ArgumentError, match="end mark"):
        compile_grammar(SMALL, "<story>", end="tom")


def test_ambiguous_spelling_is_resolved_by_what_follows():
    """ "cat" and "catfish" begin alike; whether a word is over shows in the letter after it."""
    world = WORLDS["characters", "story"]
    ahead = world.next_symbol(world.encode("the cat"))
    chance = dict(zip(world.symbols, ahead))
    assert chance["f"] == pytest.approx(0.25) and chance[" "] == pytest.approx(0.75)


def test_stories_are_the_same_on_every_machine():
    assert STORYTELLER.tell(5, Generator(0))[0] == FIRST
    assert [len(world.chances) for world in (STORYTELLER, LETTERS)] == [2777, 13625]


FIRST = (
    "one morning sam found a book by the river. he took it home. soon mia came and asked sam for the book. "
    "but sam kept the book. mia was sad."
)
