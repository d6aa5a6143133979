"""Text files, and the standard library's source as text."""

import sysconfig

import pytest

from minigen.data import standard_library_files, standard_library_text, text_file
from minigen.errors import ArgumentError, DataError


@pytest.fixture
def write(tmp_path):
    def write(raw):
        (tmp_path / "a.txt").write_bytes(raw)
        return tmp_path / "a.txt"

    return write


def test_text_file(write):
    path = write("\ufeffA line\r\nand é another\rend, and some more\n".encode())
    text = text_file(path)
    assert text == "A line\nand é another\nend, and some more\n"
    assert text_file(str(path), split="train") + text_file(path, split="valid") == text
    assert len(text_file(path, split="valid")) == len(text) - len(text) * 9 // 10


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252"])
def test_other_encodings(write, encoding):
    words = "café crème, s'il vous plaît " * 3
    path = write(words.encode(encoding))
    assert text_file(path, encoding=encoding) == words
    with pytest.raises(DataError, match=f"{path.name}.*encoding="):
        try:
            text_file(path)
        except DataError as problem:
            raise DataError(str(problem).replace("\n", " ")) from None


@pytest.mark.parametrize(
    "raw, because",
    [
        (b"", "it is empty"),
        (b"abc", "it has 3 characters, and at least 16 are needed"),
        (b"some words\nand a bad byte \xff here\n", r"byte 26, on line 2, is not utf-8"),
        (bytes(100), "zero bytes"),
    ],
)
def test_bad_text(write, raw, because):
    path = write(raw)
    with pytest.raises(DataError, match=because) as caught:
        text_file(path)
    assert str(path) in str(caught.value)


def test_bad_arguments(write, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        text_file(tmp_path / "none.txt")
    with pytest.raises(DataError, match="directory"):
        text_file(tmp_path)
    path = write(b"a" * 100)
    with pytest.raises(DataError, match="at least 200"):
        text_file(path, at_least=200)
    with pytest.raises(ArgumentError, match="train, valid, all"):
        text_file(path, split="test")
    with pytest.raises(ArgumentError, match="no encoding 'klingon'"):
        text_file(path, encoding="klingon")


def test_standard_library():
    train, valid = standard_library_text("train"), standard_library_text("valid")
    assert len(train) > 3_000_000 and 0.03 < len(valid) / len(train) < 0.3
    assert "def " in train and "def " in valid
    assert standard_library_text("train", limit=50_000) == train[:50_000]
    names = {split: [name for name, _ in standard_library_files(split)] for split in ("train", "valid", "all")}
    assert not set(names["train"]) & set(names["valid"])
    assert sorted(names["train"] + names["valid"]) == names["all"] == sorted(names["all"])
    assert not {"test", "tests", "site-packages"} & {part for name in names["all"] for part in name.split("/")}
    assert "argparse.py" in names["all"] and "json/decoder.py" in names["all"]


def test_stripped_sources(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError, match="came without its sources"):
        standard_library_text()
    with pytest.raises(ArgumentError):
        standard_library_text("test")
