"""Texts to learn from: a file of the reader's, or the source of Python's standard library, as symbol numbers."""

import math

import numpy as np

from ..data import standard_library_text, text_file
from ..errors import DataError, expect
from ..models.autoregressive.ngram import NGram
from ..text import ByteBPE, Characters

LIMIT = 2_000_000  # characters of the standard library: enough for a laptop
ORDER, FLOOR_SYMBOLS = 5, 1_000_000  # of the n-gram that a model must beat, and how much it learns from at most


class Texts:
    """A text in two parts, `train` and `held_out` (its last tenth), each an int64 array of symbol numbers.

    path        a text file; None: the standard library's source
    tokenizer   "characters", or "bpe" with `vocabulary` symbols, learned from the first part
    context     how many symbols a model will see at once

    tokenizer         the text.Characters or text.ByteBPE
    characters        how many characters the held-out part has
    floor             nats a character of an interpolated 5-gram: what an honest simple method reaches
    notes, about, scored   what the reader should hear, and words for the model card
    """

    def __init__(self, path=None, tokenizer="characters", vocabulary=512, context=128):
        self.notes, self.context = [], context
        if path is None:
            parts = [standard_library_text("train", limit=LIMIT), standard_library_text("valid", limit=LIMIT // 10)]
            name = "the source of Python's standard library"
        else:
            parts = [text_file(path, split=split) for split in ("train", "valid")]
            name = "a text"
        self.tokenizer = Characters.train("".join(parts)) if tokenizer == "characters" else None
        self.tokenizer = self.tokenizer or ByteBPE.train(parts[0], vocabulary)
        self.train, self.held_out = [np.array(self.tokenizer.encode(part), np.int64) for part in parts]
        expect(
            len(self.train) > context and len(self.held_out) > 1,
            f"{path or name}: its {len(self.train):,} symbols to learn from are too few for a context of {context}",
            error=DataError,
            hint=f"give a longer text, or write --context {max(1, min(context, len(self.train) - 1) // 2)}",
        )
        self.characters = len(parts[1])
        ngram = NGram(ORDER, len(self.tokenizer)).fit(self.train[:FLOOR_SYMBOLS])
        self.floor = float(ngram.nll(self.held_out)) * self.symbols_a_character
        kind = "characters" if tokenizer == "characters" else "byte-level BPE"
        self.about = (
            f"{name}: {len(parts[0]):,} characters, {len(parts[1]):,} more held out; {len(self.tokenizer):,} symbols "
            f"({kind})\nto beat: {self.floor:.4g} nats a character, an interpolated {ORDER}-gram"
        )
        self.scored = f"the text held out, where an interpolated {ORDER}-gram has {self.floor:.4g} nats a character"

    @property
    def symbols_a_character(self):
        return len(self.held_out) / self.characters

    def windows(self, n, generator):
        """n pieces of the text from anywhere, (n, context + 1)."""
        starts = generator.integers(0, len(self.train) - self.context, (n,))
        return self.train[starts[:, None] + np.arange(self.context + 1)]

    def held_out_windows(self, most):
        """The held-out part in pieces (N, T + 1) that overlap in one symbol, at most `most` symbols of it."""
        ids = self.held_out[: most + 1]
        length = min(self.context, len(ids) - 1)
        count = (len(ids) - 1) // length
        return np.stack([ids[i * length : (i + 1) * length + 1] for i in range(count)])

    def nats(self, per_symbol):
        """Nats a symbol, as the numbers that are shown."""
        shown = {"nats/character": per_symbol * self.symbols_a_character, "perplexity": math.exp(min(per_symbol, 700))}
        return shown
