"""Text written by a Markov chain: the next symbol depends on the last k, and on nothing else.

    world = MarkovText.random(symbols=8, order=2, seed=0)
    x = world.sample(64, generator)                 # (64, length) int64
    world.entropy_rate()                            # exact

It is a hidden Markov chain whose states show: the state is the last k symbols, and emits its last one. So everything
that `HiddenMarkovText` knows, it knows, and the entropies have closed forms besides.
"""

import numpy as np

from ... import random
from ...errors import ArgumentError, expect
from ..arrays import as_numpy
from .hidden_markov_text import HiddenMarkovText
from .text_world import probability_rows, random_rows
from .world import Estimate, entropy_of

MOST_STATES = 4096


class MarkovText(HiddenMarkovText):
    """A stationary Markov chain of order k over V symbols.

    table    (V, ..., V) with k + 1 dimensions: table[a, ..., b] is p(b | the k symbols before are a, ...)
    length   symbols in a text, where none is asked for
    symbols  V letters to write them with

    The hidden causes are the contexts as numbers in base V, (n, length) int64: nothing that the text does not show,
    but for its first k - 1 places.
    """

    def __init__(self, table, length=64, symbols=None):
        table = as_numpy(table, np.float64)
        count, self.order = table.shape[-1], table.ndim - 1
        square = self.order >= 1 and set(table.shape) == {count}
        expect(square, "MarkovText: table (V, ..., V) with one dimension more than the order, at least 2", table)
        states = count**self.order
        expect(
            states <= MOST_STATES,
            f"MarkovText: V^k contexts, at most {MOST_STATES}",
            states,
            error=ArgumentError,
        )
        self.table = probability_rows(table, "MarkovText")
        rows = self.table.reshape(states, count)
        # Context c followed by v becomes context (c V + v) without its oldest symbol.
        context, new = np.repeat(np.arange(states), count), np.tile(np.arange(count), states)
        transition = np.zeros((states, states))
        transition[context, (context * count + new) % states] = rows.ravel()
        emission = np.eye(count)[np.arange(states) % count]
        super().__init__(transition, emission, length=length, symbols=symbols)

    @classmethod
    def random(cls, symbols=8, order=1, contrast=2.0, seed=0, length=64):
        """A random table; the larger `contrast`, the fewer symbols really follow, and the lower the entropy."""
        rows = random_rows(random.Generator(seed), symbols**order, symbols, contrast)
        return cls(rows.reshape((symbols,) * (order + 1)), length=length)

    def entropy_rate(self):
        """sum over contexts of p(context) H(next | context), in nats a symbol: exact."""
        return Estimate(self.start @ entropy_of(self.table.reshape(len(self.start), -1)))

    def entropy(self, length=None):
        """-E[log p] of texts of `length`, in nats a text, exact: H(first k symbols), then the rate for each more."""
        length = self.length if length is None else length
        first = min(length, self.order)
        law = self.start.reshape((len(self.symbols),) * self.order)
        law = law.sum(axis=tuple(range(self.order - first)))
        return Estimate(entropy_of(law.ravel()) + (length - first) * self.entropy_rate())
