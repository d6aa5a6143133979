"""`tok_bytebpe`: a published tokenizer.json gives the published numbers, and its training text the same vocabulary."""

import json

from minigen.text import ByteBPE

from . import kind


@kind("tok_bytebpe")
def run(case):
    tokenizer = ByteBPE.from_file(case.folder / "tokenizer.json")
    for one in json.loads((case.folder / "cases.json").read_text(encoding="utf-8")):
        ids = tokenizer.encode(one["text"])
        assert ids == one["ids"], f"{case.name}: {one['text']!r} is {ids}, expected {one['ids']}"
        if "tokens" in one:
            assert tokenizer.tokens(one["text"]) == one["tokens"], one["text"]
        assert tokenizer.decode(ids) == one["text"]
    if "vocab_size" in case:
        assert len(tokenizer) == int(case["vocab_size"])
    learnt_from = case.folder / "train.txt"
    if learnt_from.exists():
        text = learnt_from.read_text(encoding="utf-8")
        again = ByteBPE.train(text, len(tokenizer), tuple(tokenizer.specials))
        assert again.merges == tokenizer.merges and again.vocabulary == tokenizer.vocabulary
