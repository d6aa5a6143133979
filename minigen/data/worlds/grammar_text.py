"""Text written by a grammar: short stories, one after another, of which every next-symbol probability is known.

    world = GrammarText(length=64)                  # words; GrammarText(write="characters") for letters
    x = world.sample(16, generator)                 # (16, 64) int64: a stretch of the stream of stories
    world.conditionals(x)                           # what a perfect language model says at every place
    world.tell(3, generator)                        # three whole stories, as strings
    world.parse("once tom found a egg .")           # not grammatical: what was expected, and where it goes wrong

Names that are introduced are referred to by name and pronoun tens of words later, so a model that sees five words is
far from the truth, and one with memory can reach it. The grammar is compiled into an automaton (grammar.py), whose
state is what is still to be said. So the probability of a text costs one look-up a symbol; only where a text begins
in the middle of a story must its state be inferred, over all of them, and that soon narrows to one.
"""

from typing import NamedTuple

import numpy as np

from ... import random
from ...errors import ArgumentError, DataError, expect
from ..arrays import as_numpy
from .grammar import compile_grammar, spelled
from .stories import story_rules
from .text_world import TextWorld
from .world import Estimate, entropy_of

STOPS = ".,!?"  # written without a space before them


class Parsed(NamedTuple):
    """What `GrammarText.parse` found. `place` and `expected` say where it goes wrong; `tree` how it was derived."""

    grammatical: bool
    place: int | None
    expected: list
    tree: tuple | None


class GrammarText(TextWorld):
    """A stream of stories, each drawn from a probabilistic grammar and closed by an end mark.

    rules    {head: [(probability, "body of heads and words"), ...]}, heads in angle brackets; stories.py if None
    start    the head of a story
    write    "words" or "characters": what a symbol is
    begin    "anywhere": a text is any stretch of the stream (it is stationary); "story": it begins with a story
    length   symbols in a text, where none is asked for

    The hidden causes are the states, (n, length) int64: what the grammar has still to say before each symbol. Raises
    ArgumentError for rules that grammar.py does not take.
    """

    def __init__(self, rules=None, start="<story>", write="words", begin="anywhere", length=64):
        expect(write in ("words", "characters"), 'GrammarText: write is "words" or "characters"', write,
               error=ArgumentError)  # fmt: skip
        expect(begin in ("anywhere", "story"), 'GrammarText: begin is "anywhere" or "story"', begin,
               error=ArgumentError)  # fmt: skip
        self.rules = story_rules() if rules is None else rules
        self.words = compile_grammar(self.rules, start)
        self.automaton = self.words if write == "words" else spelled(self.words, _spell)
        self.write, self.begin, self.head = write, begin, start
        self.chances, self.after = self.automaton.chances, self.automaton.after
        super().__init__(self.automaton.symbols, length)
        self.end_mark = len(self.symbols) - 1
        self._number = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._surprise = entropy_of(self.chances)  # of the next symbol, in each state
        self._cumulative = self.chances.cumsum(1)
        self.visits = self._expected_visits()
        self.stationary = self.visits / self.visits.sum()

    # Sampling

    def sample_with_latents(self, n, generator=None, length=None):
        """(n, length) symbols and (n, length) states, int64."""
        length = self.length if length is None else length
        generator = generator or random.default_generator
        x, states = np.zeros((2, n, length), np.int64)
        state = generator.categorical(self._start(), (n,))
        u = generator.uniform((length, n), dtype=np.float64)
        for t in range(length):
            states[:, t] = state
            x[:, t] = self._draw(state, u[t])
            state = self.after[state, x[:, t]]
        return x, states

    def tell(self, n, generator=None):
        """n whole stories, as strings without the end mark."""
        generator = generator or random.default_generator
        told, state, open_ = [[] for _ in range(n)], np.zeros(n, np.int64), np.arange(n)
        while len(open_):
            symbol = self._draw(state, generator.uniform((len(open_),), dtype=np.float64))
            state = self.after[state, symbol]
            for i, s in zip(open_, symbol):
                told[i].append(s)
            open_, state = open_[symbol != self.end_mark], state[symbol != self.end_mark]
        return [self.decode(np.array(story[:-1], np.int64)) for story in told]

    def _draw(self, state, u):
        rows = self._cumulative[state]
        return np.minimum((u[:, None] * rows[:, -1:] >= rows).sum(1), self.end_mark)

    # Probabilities

    def conditionals(self, x):
        """p(x_t = v | x_0 ... x_(t-1)), (..., length) -> (..., length, V). NaN after an impossible symbol."""
        x = self._symbols(x, "conditionals")
        flat = x.reshape(-1, x.shape[-1])
        out = np.empty((*flat.shape, len(self.symbols)))
        for i in range(0, len(flat) if x.shape[-1] else 0, 256):
            self._filter(flat[i : i + 256], out[i : i + 256])
        return out.reshape(*x.shape, len(self.symbols))

    def _filter(self, x, out):
        """The conditionals of x (N, T), T at least 1, written into out (N, T, V).

        Beliefs about the state are lists of (text, state, weight), sorted by text: long at first, and soon one each.
        """
        n, law = len(x), self._start()
        out[:, 0] = law @ self.chances
        first = [np.flatnonzero(law * self.chances[:, v]) for v in range(len(self.symbols))]  # where v may be said
        first = [states if len(states) else np.zeros(1, np.int64) for states in first]
        text = np.repeat(np.arange(n), [len(first[v]) for v in x[:, 0]])
        state = np.concatenate([first[v] for v in x[:, 0]])
        weight = law[state]
        for t in range(x.shape[1] - 1):
            symbol = x[text, t]
            weight = weight * self.chances[state, symbol]
            text, state, weight = _merged(text, self.after[state, symbol], weight, n)
            starts = np.searchsorted(text, np.arange(n))
            out[:, t + 1] = np.add.reduceat(weight[:, None] * self.chances[state], starts)

    def masked_conditionals(self, x, mask):
        """p(x_t = v | every symbol that is not masked, x_t itself left out), (..., length) -> (..., length, V).

        `mask` (..., length) is true where the symbol is hidden; what x holds there is not looked at. By
        forward-backward over the states, as in `HiddenMarkovText`.
        """
        mask = np.broadcast_to(as_numpy(mask).astype(bool), np.shape(as_numpy(x)))
        x = self._symbols(np.where(mask, 0, as_numpy(x)), "masked_conditionals")
        rows = zip(x.reshape(-1, x.shape[-1]), mask.reshape(-1, x.shape[-1]))
        return np.stack([self._between(*row) for row in rows]).reshape(*x.shape, -1)

    def _between(self, x, mask):
        source, symbol = np.nonzero(self.chances)
        target, chance = self.after[source, symbol], self.chances[source, symbol]
        S, T = len(self.chances), len(x)
        fits = [chance if mask[t] else chance * (symbol == x[t]) for t in range(T)]
        before, after = np.empty((T, S)), np.empty((T, S))
        before[0], after[-1] = self._start(), 1.0
        with np.errstate(invalid="ignore"):
            for t in range(T - 1):
                step = np.bincount(target, before[t][source] * fits[t], S)
                before[t + 1] = step / step.sum()
            for t in range(T - 1, 0, -1):
                step = np.bincount(source, fits[t] * after[t][target], S)
                after[t - 1] = step / step.max()
            joint = [np.bincount(symbol, before[t][source] * chance * after[t][target], len(self.symbols))
                     for t in range(T)]  # fmt: skip
            return np.stack([row / row.sum() for row in joint])

    def posterior(self, x):
        """p(state before x_0 | x): (..., length) -> (..., S). From there on the text itself gives every state."""
        x = self._symbols(x, "posterior")
        flat = x.reshape(-1, x.shape[-1])
        found = np.tile(self._start(), (len(flat), 1))
        for weight, row in zip(found, flat):
            first = np.flatnonzero(weight)
            state, alive = first, weight[first]
            for symbol in row:
                alive = alive * self.chances[state, symbol]
                state, first, alive = self.after[state, symbol][alive > 0], first[alive > 0], alive[alive > 0]
                alive = alive / alive.sum()
            weight[:] = 0
            weight[first] = alive
        return found.reshape(*x.shape[:-1], -1)

    def story_log_prob(self, story):
        """log p of one whole story (a string or symbols, without the end mark), in nats; -inf if it is none."""
        x = self._story(story)
        state, total = 0, 0.0
        with np.errstate(divide="ignore"):
            for symbol in (*x, self.end_mark):
                total += np.log(self.chances[state, symbol])
                state = self.after[state, symbol]
        return float(total)

    # Entropies

    def story_length(self):
        """The expected symbols in a story with its end mark: exact."""
        return float(self.visits.sum())

    def story_entropy(self):
        """-E[log p] of a whole story, in nats: exact, the sum over states of visits times the entropy of what comes."""
        return Estimate(self.visits @ self._surprise)

    def entropy_rate(self):
        """Nats a symbol of the endless stream: the entropy of a story over its expected length. Exact."""
        return Estimate(self.story_entropy() / self.story_length())

    def entropy(self, length=None, samples=2000):
        """-E[log p] of texts of `length`, in nats a text: exact where texts begin with a story, else an Estimate."""
        if self.begin == "anywhere":
            return super().entropy(length, samples)
        law, total = self._start(), 0.0
        for _ in range(self.length if length is None else length):
            total += law @ self._surprise
            law = self._step(law)
        return Estimate(total)

    def _start(self):
        return self.stationary if self.begin == "anywhere" else np.eye(1, len(self.chances))[0]

    def _step(self, law):
        moved = law[:, None] * self.chances
        return np.bincount(self.after.ravel(), moved.ravel(), len(law))

    def _expected_visits(self):
        """How often a story is in each state, (S,): the sum over t of p(state after t symbols, the story not over)."""
        law, visits = np.eye(1, len(self.chances))[0], 0.0
        while law.sum() > 1e-18:
            visits = visits + law
            moved = law[:, None] * self.chances
            moved[:, self.end_mark] = 0  # the story is over
            law = np.bincount(self.after.ravel(), moved.ravel(), len(law))
        return visits

    # Text

    def encode(self, text):
        """A string as symbol numbers. Raises DataError for a word or letter that the grammar does not have."""
        parts = list(text) if self.write == "characters" else _words(text)
        strange = [part for part in parts if part not in self._number]
        if strange:
            raise DataError(f"GrammarText.encode: {strange[0]!r} is not one of its symbols")
        return np.array([self._number[part] for part in parts], dtype=np.int64)

    def decode(self, x):
        """Symbol numbers (length,) as a string, or (n, length) as a list of strings."""
        x = as_numpy(x)
        if x.ndim > 1:
            return [self.decode(row) for row in x]
        parts = [self.symbols[i] for i in x]
        return "".join(parts) if self.write == "characters" else _written(parts)

    def stories(self, x):
        """The whole stories in a text (length,), between its first and its last end mark, as arrays of symbols.

        Where texts begin with a story, what stands before the first end mark is one too.
        """
        x = self._symbols(x, "stories")
        pieces = np.split(x, np.flatnonzero(x == self.end_mark) + 1)
        return [piece[:-1] for piece in pieces[1 if self.begin == "anywhere" else 0 : -1]]

    def parse(self, story):
        """Whether a story (a string or symbols, without the end mark) is grammatical, as a Parsed.

        place     the first symbol that cannot stand there; the length, if the story breaks off; None if all is well
        expected  the symbols that could
        tree      (head, [parts]) of heads and words, if all is well
        """
        try:
            x = self._story(story)
        except DataError:  # a word that is not even in the grammar
            parts = list(story) if self.write == "characters" else _words(story)
            x = np.array([self._number.get(part, -1) for part in parts])
        state = 0
        for place, symbol in enumerate((*x, self.end_mark)):
            if symbol < 0 or self.chances[state, symbol] == 0 or (symbol == self.end_mark and place < len(x)):
                expected = [self.symbols[v] for v in np.flatnonzero(self.chances[state])]
                return Parsed(False, place, expected, None)
            state = self.after[state, symbol]
        return Parsed(True, None, [], self._derivation(_words(self.decode(x))))

    def _derivation(self, words):
        """The tree of a grammatical story, from the rules that the word automaton used."""
        number = {word: i for i, word in enumerate(self.words.symbols)}
        root = (self.head, [])
        todo, state = [root], 0  # what is still to be said, next one last, as in the automaton's stack
        for word in (*words, self.words.symbols[-1]):
            for _, body in self.words.said[state, number[word]]:
                _, parts = todo.pop()
                parts += [(part, []) if part in self.rules else part for part in body]
                todo += reversed(parts)
            if todo:
                todo.pop()
            state = self.words.after[state, number[word]]
        return root

    def _story(self, story):
        return self.encode(story) if isinstance(story, str) else self._symbols(story, "parse")


def _merged(text, state, weight, n):
    """The same beliefs with each state once, without impossible ones, and adding up to 1 for each of n texts.

    A text that is impossible keeps a state, of weight NaN.
    """
    with np.errstate(invalid="ignore"):
        if len(text) == n:
            return text, state, weight / weight
        total = np.bincount(text, weight, n)
        span = int(state.max()) + 1
        key, place = np.unique(text * span + state, return_inverse=True)
        text, state = np.divmod(key, span)
        weight = np.bincount(place, weight, len(key)) / total[text]
    keep = ~(weight == 0)  # not a NaN
    return text[keep], state[keep], weight[keep]


def _spell(word, first):
    """A word's letters in running text: with the space before it, but for stops and at the beginning."""
    return word if first or word in STOPS or word == "\n" else " " + word


def _written(parts):
    first = [True, *(part == "\n" for part in parts[:-1])]
    return "".join(map(_spell, parts, first))


def _words(text):
    """The words, stops and line ends of a text."""
    for stop in (*STOPS, "\n"):
        text = text.replace(stop, f" {stop} ")
    return [part for part in text.split(" ") if part]
