"""Byte-level BPE: GPT-2's tokenizer (Radford et al. 2019, section 2.2), to be used, read, trained and saved.

    tokenizer = ByteBPE.from_file("gpt2")               # tokenizer.json, or vocab.json and merges.txt, or their folder
    ids = tokenizer.encode("Hello, world")
    tokenizer.decode(ids) == "Hello, world"

    tokenizer = ByteBPE.train(text, vocabulary=512)
    tokenizer.save("runs/gpt")                          # writes tokenizer.json

Its symbols are made of bytes, not of letters, so every text can be written and nothing is unknown: at worst a character
costs as many symbols as it has bytes. The text is cut into pieces (pieces.py), and each piece is merged by itself
(bpe.py), so that no symbol joins two words.
"""

import codecs
import functools
import re
from collections import Counter
from pathlib import Path

from ..errors import ArgumentError, CheckpointError, DataError, expect
from ..jsonfile import read_json, read_text, write_json
from . import bpe
from .pieces import BYTES, NAMES, SPACE, cut, named

END = "<|endoftext|>"
KEPT = 100_000  # pieces whose symbols are remembered: words come again and again


class ByteBPE:
    """Text to symbol numbers and back.

    vocabulary   {symbol: number}; symbols are written in byte names (pieces.NAMES), specials as they are
    merges       [(left symbol, right symbol), ...] in the order in which they were learned
    specials     {text: number}: texts that are one symbol whatever is in them, like <|endoftext|>
    prefix       put a space before a text that has none (RoBERTa does where words are given one by one)
    strips       {special: (left, right)}: those that take the white space on that side with them (RoBERTa's <mask>)

    len(tokenizer) is the size of the vocabulary. What a model wants around a text (<s>, </s>) is not added here.
    Raises DataError for a vocabulary that is not whole.
    """

    def __init__(self, vocabulary, merges, specials=None, prefix=False, strips=None):
        self.vocabulary, self.merges = dict(vocabulary), [tuple(pair) for pair in merges]
        self.specials, self.prefix, self.strips = dict(specials or {}), prefix, dict(strips or {})
        self.symbols = {number: symbol for symbol, number in self.vocabulary.items()}
        self.symbols.update({number: text for text, number in self.specials.items()})
        expect(len(self.symbols) == len(self.vocabulary | self.specials), "ByteBPE: two symbols have one number",
               error=DataError)  # fmt: skip
        self._ranks = {}
        for rank, (a, b) in enumerate(self.merges):
            for symbol in (a, b, a + b):
                expect(symbol in self.vocabulary, f"ByteBPE: merge {rank} needs {symbol!r}, which is no symbol",
                       error=DataError)  # fmt: skip
            pair = self.vocabulary[a], self.vocabulary[b]
            self._ranks.setdefault(pair, (rank, self.vocabulary[a + b]))
        longest_first = sorted(self.specials, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first))) if self.specials else None
        self._symbols_of = functools.lru_cache(KEPT)(self._merge)

    def __len__(self):
        return max(self.symbols, default=-1) + 1

    @property
    def end(self):
        """The number of <|endoftext|>; None where there is none."""
        return self.specials.get(END)

    # There and back

    def encode(self, text, specials=True):
        """The numbers of a text's symbols, a list.

        specials  whether <|endoftext|> and its like in the text are taken for what they say; False: for letters
        """
        expect(isinstance(text, str), "encode: takes a string", text, error=ArgumentError)
        found, place = [], 0
        for match in self._special.finditer(text) if self._special and specials else ():
            left, right = self.strips.get(match[0], (False, False))
            before = text[place : match.start()]
            found += self._encode(re.sub(f"[{SPACE}]+$", "", before) if left else before)
            found.append(self.specials[match[0]])
            place = re.compile(f"[{SPACE}]*").match(text, match.end()).end() if right else match.end()
        return found + self._encode(text[place:])

    def encode_bytes(self, data):
        """The numbers of the symbols of any bytes, text or not, a list: their `bytes_of`, joined, are the bytes."""
        text = bytes(data).decode("utf-8", "surrogateescape")
        return [number for piece in cut(text) for number in self._merge(piece, "surrogateescape")]

    def tokens(self, text):
        """The symbols themselves, in byte names."""
        return [self.symbols[number] for number in self.encode(text)]

    def decode(self, ids):
        """The text of symbol numbers. Bytes that make no character, as when a text is cut, become U+FFFD."""
        return b"".join(self.bytes_of(number) for number in ids).decode("utf-8", "replace")

    def stream(self, ids):
        """The text of symbols as they come, in pieces; a character appears when its last byte is there."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for number in ids:
            yield decoder.decode(self.bytes_of(number))
        yield decoder.decode(b"", final=True)

    def bytes_of(self, number):
        """The bytes that a symbol stands for. Raises DataError for a number that is none."""
        number = int(number)
        expect(number in self.symbols, f"decode: {number} is no symbol; they go from 0 to {len(self) - 1}",
               error=DataError)  # fmt: skip
        symbol = self.symbols[number]
        if symbol in self.specials or any(name not in BYTES for name in symbol):
            return symbol.encode()
        return bytes([BYTES[name] for name in symbol])

    def _encode(self, text):
        if self.prefix and text and text[0] != " ":
            text = " " + text
        return [number for piece in cut(text) for number in self._symbols_of(piece)]

    def _merge(self, piece, errors="strict"):
        names = named(piece, errors)
        if missing := next((name for name in names if name not in self.vocabulary), None):
            raise DataError(f"encode: the vocabulary has no symbol for byte {BYTES[missing]} (in {piece[:30]!r})")
        return tuple(bpe.apply([self.vocabulary[name] for name in names], self._ranks))

    # Learning

    @classmethod
    def train(cls, text, vocabulary, specials=(END,), least=2):
        """Learn a vocabulary of so many symbols: the specials, the 256 bytes, and the merges of `text`.

        least   pairs that occur less often are not merged, so there may be fewer symbols in the end
        """
        fewest = len(specials) + 256
        expect(vocabulary >= fewest, f"ByteBPE.train: a vocabulary has at least {fewest} symbols, 256 of them bytes",
               vocabulary, error=ArgumentError)  # fmt: skip
        symbols = [*specials, *sorted(NAMES.values())]
        number = {symbol: i for i, symbol in enumerate(symbols)}
        words = Counter()
        for piece, often in Counter(cut(text)).items():
            words[tuple(number[name] for name in named(piece))] += often
        merges = []
        for a, b in bpe.learn(words, len(symbols), vocabulary - len(symbols), least):
            merges.append((symbols[a], symbols[b]))
            symbols.append(symbols[a] + symbols[b])
        return cls({symbol: i for i, symbol in enumerate(symbols)}, merges, {s: number[s] for s in specials})

    # Files

    @classmethod
    def from_file(cls, path):
        """Read a tokenizer.json, or a vocab.json with the merges.txt beside it, or a folder that holds either.

        Raises CheckpointError for a file that is not whole, or asks for what this class does not do.
        """
        path = Path(path)
        if path.is_dir():
            both = [path / "tokenizer.json", path / "vocab.json"]
            found = next((file for file in both if file.exists()), None)
            expect(found is not None, f"{path} holds no tokenizer.json, and no vocab.json", error=CheckpointError)
            path = found
        try:
            return cls._from_json(path) if path.name != "vocab.json" else cls._from_pair(path)
        except DataError as problem:
            raise CheckpointError(f"{path}: {problem}") from None

    @classmethod
    def _from_json(cls, path):
        whole = read_json(path)
        model = whole.get("model") if isinstance(whole.get("model"), dict) else {}
        before = whole.get("pre_tokenizer") if isinstance(whole.get("pre_tokenizer"), dict) else {}
        wanted = [
            ("model.type", model.get("type", "BPE"), "BPE"),
            ("pre_tokenizer.type", before.get("type"), "ByteLevel"),
            ("pre_tokenizer.use_regex", before.get("use_regex", True), True),
            ("normalizer", whole.get("normalizer"), None),
            ("model.dropout", model.get("dropout"), None),
            ("model.byte_fallback", model.get("byte_fallback", False), False),
            ("model.ignore_merges", model.get("ignore_merges", False), False),
            ("model.continuing_subword_prefix", model.get("continuing_subword_prefix") or None, None),
            ("model.end_of_word_suffix", model.get("end_of_word_suffix") or None, None),
        ]
        for name, value, good in wanted:
            rule = f"{path}: {name} is {value!r}; minigen's byte-level BPE has {good!r}"
            expect(value == good and type(value) is type(good), rule[:400], error=CheckpointError)
        pairs = model.get("merges")
        if isinstance(pairs, list):
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]
        specials, strips, added = {}, {}, whole.get("added_tokens") or []
        for token in added if isinstance(added, list) else [None]:
            good = isinstance(token, dict) and type(token.get("content")) is str and type(token.get("id")) is int
            expect(good and token["content"], f"{path}: added_tokens are objects with content and id",
                   error=CheckpointError)  # fmt: skip
            content, flags = token["content"], [token.get(key, False) for key in ("lstrip", "rstrip", "single_word")]
            expect(all(type(flag) is bool for flag in flags) and not flags[2],
                   f"{path}: {content[:60]!r}: lstrip and rstrip are true or false, and single_word is false",
                   error=CheckpointError)  # fmt: skip
            specials[content] = token["id"]
            if flags[0] or flags[1]:
                strips[content] = flags[0], flags[1]
        prefix = before.get("add_prefix_space", False)
        return cls(_vocabulary(model.get("vocab"), path), _pairs(pairs, path), specials, prefix is True, strips)

    @classmethod
    def _from_pair(cls, path):
        beside = path.with_name("merges.txt")
        lines = read_text(beside).split("\n")
        pairs = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
        vocabulary = _vocabulary(read_json(path), path)
        return cls(vocabulary, _pairs(pairs, beside), {END: vocabulary[END]} if END in vocabulary else {})

    def save(self, folder):
        """Write `folder`/tokenizer.json, in the published form. Returns the path."""
        byte_level = {"type": "ByteLevel", "add_prefix_space": self.prefix, "trim_offsets": True, "use_regex": True}
        plain = {"single_word": False, "normalized": False, "special": True}
        added = []
        for text, i in sorted(self.specials.items(), key=lambda pair: pair[1]):
            left, right = self.strips.get(text, (False, False))
            added.append({"id": i, "content": text, "lstrip": left, "rstrip": right, **plain})
        path = Path(folder) / "tokenizer.json"
        write_json(
            path,
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": added,
                "normalizer": None,
                "pre_tokenizer": byte_level,
                "post_processor": None,
                "decoder": byte_level,
                "model": {"type": "BPE", "vocab": self.vocabulary, "merges": [list(pair) for pair in self.merges]},
            },
        )
        return path


def _vocabulary(found, path):
    good = isinstance(found, dict) and all(type(i) is int and 0 <= i < 2**31 for i in found.values())
    expect(good and found, f"{path}: a vocabulary is an object of symbols and their numbers", error=CheckpointError)
    return found


def _pairs(found, path):
    good = isinstance(found, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) and x for x in pair) for pair in found
    )
    expect(good, f"{path}: merges are pairs of symbols, in order", error=CheckpointError)
    return found
