"""GPT-2's tokenizer: what it cuts, that nothing is lost, its files, and files that are broken."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import text as package
from minigen.errors import ArgumentError, CheckpointError, DataError, MinigenError
from minigen.text import ByteBPE, pieces

TEXT = "the quick brown fox, the lazy dog; don't! naïve café 日本語 😀 \tthe end\n" * 8


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train(TEXT, 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world", ["Hello", " world"]),
        ("don't we'll I'VE it'd", ["don", "'t", " we", "'ll", " I", "'", "VE", " it", "'d"]),
        ("a  b", ["a", " ", " b"]),
        ("a   \n b ", ["a", "   \n", " b", " "]),
        ("1,234.5 ½ Ⅷ", ["1", ",", "234", ".", "5", " ½", " Ⅷ"]),
        ("x=[1]; #!", ["x", "=[", "1", "];", " #!"]),
        ("naïve日本 한국어 عربى ไทย", ["naïve日本", " 한국어", " عربى", " ไทย"]),
        ("e\u0301", ["e", "\u0301"]),  # a combining accent is a mark, no letter
        ("一二三", ["一二三"]),  # letters that have a numeric value are letters
        ("a\xa0b\u2003\u3000c", ["a", "\xa0", "b", "\u2003", "\u3000", "c"]),
        ("a\x1cb\x00", ["a", "\x1c", "b", "\x00"]),  # separators of files are no white space to Unicode
        ("😀😀 👍", ["😀😀", " 👍"]),
        ("", []),
    ],
)
def test_pieces(text, expected):
    assert pieces.cut(text) == expected


def test_bytes_have_printable_names():
    assert len(set(pieces.NAMES.values())) == 256 and all(
        len(n) == 1 and n.isprintable() for n in pieces.NAMES.values()
    )
    assert pieces.named(" a\n\u00e9") == "ĠaĊÃ©"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_nothing_is_lost(tokenizer, text):
    ids = tokenizer.encode(text, specials=False)
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.stream(ids)) == text
    assert "".join(pieces.cut(text)) == text


def test_half_a_character(tokenizer):
    ids = tokenizer.encode("日")
    assert tokenizer.decode(ids[:-1]) == "\ufffd"
    assert next(iter(tokenizer.stream(tokenizer.encode("a é")))) == "a"


def test_specials(tokenizer):
    end = tokenizer.end
    assert end == 0 and len(tokenizer) == 300
    assert tokenizer.encode("a<|endoftext|>b") == [*tokenizer.encode("a"), end, *tokenizer.encode("b")]
    assert end not in tokenizer.encode("a<|endoftext|>b", specials=False)
    assert tokenizer.decode([end]) == "<|endoftext|>"


def test_specials_that_take_white_space_with_them(tokenizer, tmp_path):
    specials = {**tokenizer.specials, "<mask>": 300, "<mask>>": 301, "<r>": 302}
    strips = {"<mask>": (True, False), "<r>": (False, True)}
    tokenizer = ByteBPE(tokenizer.vocabulary, tokenizer.merges, specials, strips=strips)
    plain = tokenizer.encode
    assert plain("the \n<mask> fox") == [*plain("the"), 300, *plain(" fox")]
    assert plain("the <mask>> fox") == [*plain("the "), 301, *plain(" fox")]
    tokenizer.save(tmp_path)
    again = ByteBPE.from_file(tmp_path)
    assert plain("the <r>  <mask> \n") == [*plain("the "), 302, 300, *plain(" \n")]
    assert again.strips == strips and again.encode("a <mask>") == plain("a <mask>")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_come_back(tokenizer, data):
    ids = tokenizer.encode_bytes(data)
    assert b"".join(map(tokenizer.bytes_of, ids)) == data
    with contextlib.suppress(UnicodeDecodeError):
        assert ids == tokenizer.encode(data.decode("utf-8"), specials=False)


def test_bytes_that_are_no_text_do_not_open_a_way_for_half_characters(tokenizer):
    assert tokenizer.encode_bytes(b"\xff") and tokenizer.encode_bytes(b"a\xff")
    with pytest.raises(DataError, match="half of a pair"):
        tokenizer.encode("\udcff")


def test_frequent_words_become_one_symbol(tokenizer):
    assert ByteBPE.train(TEXT, 360).tokens("the quick brown") == ["the", "Ġquick", "Ġbrown"]
    assert all(len(tokenizer.tokens(chr(c))) == 1 for c in range(33, 127))


def test_a_prefix_space():
    tokenizer = ByteBPE.train(TEXT, 300)
    with_prefix = ByteBPE(tokenizer.vocabulary, tokenizer.merges, tokenizer.specials, prefix=True)
    assert with_prefix.encode("the") == tokenizer.encode(" the") and with_prefix.encode("") == []
    assert with_prefix.encode("\nthe") == tokenizer.encode(" \nthe")  # only a space counts, as published


def test_both_published_forms_and_ours(tokenizer, tmp_path):
    path = tokenizer.save(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "vocab.json").write_text(json.dumps(tokenizer.vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer.merges), ""]
    (tmp_path / "b" / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    old = json.loads(path.read_text(encoding="utf-8"))
    old["model"]["merges"] = [" ".join(pair) for pair in tokenizer.merges]  # as files of 2023 have them
    (tmp_path / "old.json").write_text(json.dumps(old), encoding="utf-8")
    for place in (tmp_path / "a", path, tmp_path / "b", tmp_path / "b" / "vocab.json", tmp_path / "old.json"):
        again = ByteBPE.from_file(place)
        assert again.encode(TEXT) == tokenizer.encode(TEXT) and again.end == 0
    assert isinstance(package.load(tmp_path / "a"), ByteBPE)
    with pytest.raises(CheckpointError, match=r"holds no tokenizer.*\n.*copy the one"):
        package.load(tmp_path)


def test_the_same_text_gives_the_same_vocabulary():
    a, b = ByteBPE.train(TEXT, 320), ByteBPE.train(TEXT, 320)
    assert a.merges == b.merges and a.vocabulary == b.vocabulary
    assert len(ByteBPE.train("ab", 400)) == 257  # nothing occurs twice, so nothing is merged
    with pytest.raises(ArgumentError, match="at least 257"):
        ByteBPE.train(TEXT, 100)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["model"].update(type="Unigram"), "model.type is 'Unigram'"),
        (lambda t: t["model"].update(dropout=0.1), "model.dropout"),
        (lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda t: t.update(normalizer={"type": "NFC"}), "normalizer"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer.type"),
        (lambda t: t.pop("model"), "a vocabulary is an object"),
        (lambda t: t["model"].update(vocab=[1]), "a vocabulary is an object"),
        (lambda t: t["model"].update(vocab={"a": -1}), "a vocabulary is an object"),
        (lambda t: t["model"].update(vocab={"a": 1, "b": 1}), "two symbols have one number"),
        (lambda t: t["model"].update(merges=[["a"]]), "merges are pairs"),
        (lambda t: t["model"].update(merges=[["a", "qqq"]]), "needs 'qqq', which is no symbol"),
        (lambda t: t.update(added_tokens=[{"id": "0"}]), "added_tokens are objects"),
        (lambda t: t.update(added_tokens=7), "added_tokens are objects"),
        (lambda t: t["added_tokens"][0].update(single_word=True), "single_word is false"),
        (lambda t: t["added_tokens"][0].update(lstrip=1), "lstrip and rstrip are true or false"),
    ],
)
def test_broken_files(tokenizer, tmp_path, change, said):
    path = tokenizer.save(tmp_path)
    whole = json.loads(path.read_text(encoding="utf-8"))
    change(whole)
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        ByteBPE.from_file(path)


def test_garbage_and_cut_files(tokenizer, tmp_path):
    path = tokenizer.save(tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"\x00\xff", whole[: len(whole) // 2], b"[1, 2]", b"null"):
        path.write_bytes(content)
        with pytest.raises(MinigenError):
            ByteBPE.from_file(path)


def test_numbers_and_texts_that_are_none(tokenizer):
    with pytest.raises(DataError, match="300 is no symbol; they go from 0 to 299"):
        tokenizer.decode([300])
    with pytest.raises(ArgumentError, match="takes a string"):
        tokenizer.encode(b"bytes")
    with pytest.raises(DataError, match="half of a pair of surrogates"):
        tokenizer.encode("a\ud800")
    poor = ByteBPE({"a": 0}, [])
    with pytest.raises(DataError, match=r"no symbol for byte 98 \(in 'ab'\)"):
        poor.encode("ab")
