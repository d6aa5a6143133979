"""A tokenizer whose symbols are the characters of a text: the simplest, and good enough for small models.

tokenizer = Characters.train(text)
tokenizer.decode(tokenizer.encode("to be")) == "to be"
"""

from pathlib import Path

from ..errors import ArgumentError, CheckpointError, DataError, expect
from ..jsonfile import read_json, write_json

FILE = "characters.json"


class Characters:
    """Characters to numbers and back, in the order of `characters`, a string in which each stands once."""

    end = None  # there is no symbol for the end of a text

    def __init__(self, characters):
        expect(characters and len(set(characters)) == len(characters), "Characters: each one once", characters,
               error=ArgumentError)  # fmt: skip
        self.characters = characters
        self.number = {character: i for i, character in enumerate(characters)}

    @classmethod
    def train(cls, text):
        """All the characters of a text, in the order of their code points."""
        return cls("".join(sorted(set(text))))

    def __len__(self):
        return len(self.characters)

    def encode(self, text):
        """The numbers of a text's characters, a list. Raises DataError for a character that is not known."""
        try:
            return [self.number[character] for character in text]
        except KeyError as unknown:
            place = text.index(unknown.args[0])
            raise DataError(
                f"encode: {unknown.args[0]!r}, character {place} of the text, is none of the {len(self)} known\n"
                f"  they are {self.characters[:100]!r}" + (" and more" if len(self) > 100 else "")
            ) from None

    def decode(self, ids):
        """The text of symbol numbers."""
        return "".join(self.stream(ids))

    def stream(self, ids):
        """The characters of symbols as they come."""
        for number in ids:
            known = f"decode: {number} is no symbol; they go from 0 to {len(self) - 1}"
            expect(0 <= int(number) < len(self), known, error=DataError)
            yield self.characters[int(number)]

    def save(self, folder):
        """Write `folder`/characters.json. Returns the path."""
        path = Path(folder) / FILE
        write_json(path, {"characters": self.characters})
        return path

    @classmethod
    def from_file(cls, path):
        """Read a characters.json, or the folder that holds it. Raises CheckpointError."""
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        found = read_json(path).get("characters")
        good = isinstance(found, str) and found and len(set(found)) == len(found)
        expect(good, f"{path}: it holds no string of different characters", error=CheckpointError)
        return cls(found)
