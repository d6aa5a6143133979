import pytest

from minigen.errors import ArgumentError, CheckpointError, DataError
from minigen.text import Characters, load


def test_there_and_back(tmp_path):
    tokenizer = Characters.train("to be, or not")
    assert tokenizer.characters == " ,benort" and len(tokenizer) == 8
    assert tokenizer.decode(tokenizer.encode("not to be")) == "not to be"
    tokenizer.save(tmp_path)
    assert load(tmp_path).characters == tokenizer.characters


def test_what_it_does_not_know(tmp_path):
    tokenizer = Characters("ab")
    with pytest.raises(DataError, match=r"'ü', character 1 of the text.*\n.*they are 'ab'"):
        tokenizer.encode("aü")
    with pytest.raises(DataError, match="2 is no symbol"):
        tokenizer.decode([2])
    for characters in ("", "aa"):
        with pytest.raises(ArgumentError):
            Characters(characters)
    (tmp_path / "characters.json").write_text('{"characters": "aa"}')
    with pytest.raises(CheckpointError, match="no string of different characters"):
        load(tmp_path)
