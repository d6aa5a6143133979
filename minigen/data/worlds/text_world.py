"""What worlds of text have in common: symbols, lengths, and the entropy of what comes next.

A text is a row of int64 symbol numbers, (n, length); `decode` writes them as strings. A world of text knows

    conditionals(x)                 p(x_t | x_before t) at every place: what a perfect language model predicts
    masked_conditionals(x, mask)    p(x_t | all symbols that are not masked): what a perfect BERT predicts
    entropy(length)                 -E[log p] of texts so long, in nats a text; divided by the length, the loss to reach
    entropy_rate()                  its limit, in nats a symbol, for ever longer texts
"""

import string

import numpy as np

from ...errors import ArgumentError, DataError, ShapeError, expect
from ..arrays import as_numpy
from .world import World, entropy_of, mean_estimate, truth_generator

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits


class TextWorld(World):
    """The base of worlds of text. A subclass writes `sample_with_latents(n, generator, length)` and `conditionals`."""

    def __init__(self, symbols, length):
        expect(length >= 1, "a text has at least one symbol", length, error=ArgumentError)
        self.symbols = symbols
        self.length = int(length)

    @property
    def shape(self):
        return (self.length,)

    def sample(self, n, generator=None, length=None):
        """n texts of `length` symbols (the world's own length if None), (n, length) int64."""
        return self.sample_with_latents(n, generator, length)[0]

    def conditionals(self, x):
        """p(x_t = v | x_0 ... x_(t-1)), (..., length) -> (..., length, V)."""
        raise NotImplementedError(f"{type(self).__name__} must know what comes next")

    def log_prob(self, x):
        """log p of each text, of any length, in nats: (..., length) -> (...). -inf for an impossible one."""
        x = self._symbols(x, "log_prob")
        chances = np.take_along_axis(self.conditionals(x), x[..., None], -1)[..., 0]
        with np.errstate(divide="ignore"):
            total = np.log(chances).sum(-1)
        return np.where(np.isnan(total), -np.inf, total)  # what follows an impossible symbol has no probability: NaN

    def next_symbol(self, x):
        """p(the symbol after the text x), (..., length) -> (..., V). The text may be empty."""
        x = self._symbols(x, "next_symbol")
        longer = np.concatenate([x, np.zeros((*x.shape[:-1], 1), np.int64)], -1)
        return self.conditionals(longer)[..., -1, :]

    def entropy(self, length=None, samples=2000):
        """-E[log p] of texts of `length`, in nats a text: an Estimate. In place of each sampled symbol's -log p stands
        the entropy of its exact conditional, which has the same mean and less spread."""
        x = self.sample(samples, truth_generator(), length)
        return mean_estimate(entropy_of(self.conditionals(x)).sum(-1))

    def encode(self, text):
        """A string as symbol numbers, (length,) int64. Raises DataError for a letter that the world does not have."""
        number = {letter: i for i, letter in enumerate(self.symbols)}
        strange = sorted(set(text) - set(number))
        if strange:
            raise DataError(f"{type(self).__name__}.encode: {strange[0]!r} is not one of its symbols {self.symbols!r}")
        return np.array([number[letter] for letter in text], dtype=np.int64)

    def decode(self, x):
        """Symbol numbers (length,) as a string, or (n, length) as a list of strings."""
        x = as_numpy(x)
        return "".join(self.symbols[i] for i in x) if x.ndim == 1 else [self.decode(row) for row in x]

    def _symbols(self, x, name):
        """`x` as int64 symbol numbers (..., length)."""
        x = as_numpy(x)
        expect(x.ndim >= 1, f"{type(self).__name__}.{name}: x is (..., length)", x, error=ShapeError)
        known = x.size == 0 or (x.dtype.kind in "iu" and x.min() >= 0 and x.max() < len(self.symbols))
        rule = f"{type(self).__name__}.{name}: symbols are whole numbers from 0 to {len(self.symbols) - 1}"
        expect(known, rule, x, error=DataError)
        return x.astype(np.int64)


def named_symbols(symbols, count):
    """The `count` letters that symbols are written with."""
    symbols = LETTERS[:count] if symbols is None else symbols
    expect(
        len(symbols) == count == len(set(symbols)),
        f"{count} different letters are needed to write the symbols",
        symbols,
        error=ArgumentError,
    )
    return symbols


def random_rows(generator, rows, columns, contrast):
    """A random table of probabilities, each row the softmax of `contrast` times standard normals."""
    logits = contrast * generator.normal((rows, columns)).astype(np.float64)
    table = np.exp(logits - logits.max(1, keepdims=True))
    return table / table.sum(1, keepdims=True)


def probability_rows(table, name):
    """`table` as float64 with rows that add up to 1. Raises ArgumentError where they do not."""
    table = as_numpy(table, np.float64)
    good = table.ndim >= 1 and (table >= 0).all() and np.allclose(table.sum(-1), 1, atol=1e-6)
    expect(good, f"{name}: every row holds probabilities that add up to 1", table, error=ArgumentError)
    return table / table.sum(-1, keepdims=True)
