"""Real text: any file the user names, and the source of Python's own standard library, which everyone has.

train = standard_library_text("train")           # some ten million characters, no network
valid = text_file("notes.txt", split="valid")    # the last tenth
"""

import os
import zlib
from pathlib import Path

from ..errors import ArgumentError, DataError, expect

SPLITS = ("train", "valid", "all")


def text_file(path, split="all", encoding="utf-8", at_least=16):
    """The text of a file, with line ends as "\\n".

    split      "all", or "train" for the first nine tenths of the characters, or "valid" for the rest
    encoding   how the bytes are to be read; a byte-order mark in front of UTF-8 is dropped
    at_least   characters that the whole file must have (a model needs more than its context length)

    Raises DataError for a file that is missing, empty, too short, not text, or in another encoding.
    """
    expect(split in SPLITS, f"text_file: split is one of {', '.join(SPLITS)}", split, error=ArgumentError)
    try:
        raw = Path(path).read_bytes()
    except OSError as problem:
        raise DataError(f"{path}: the text cannot be read ({problem.strerror})") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) and encoding.lower().replace("_", "-") == "utf-8":
        raise DataError(f'{path}: it begins with the mark of UTF-16, not UTF-8\n  write encoding="utf-16"')
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ArgumentError(f"text_file: there is no encoding {encoding!r}") from None
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise DataError(
            f"{path}: byte {problem.start:,}, on line {line:,}, is not {encoding} ({problem.reason})\n"
            f'  name the encoding it was written in, for instance encoding="latin-1", or save it as UTF-8'
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: it holds zero bytes, so it is not a text file")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) < max(at_least, 1):
        found = "it is empty" if not text else f"it has {len(text)} characters"
        raise DataError(f"{path}: {found}, and at least {max(at_least, 1)} are needed to learn from")
    return cut(text, split)


def cut(text, split):
    """The first nine tenths of `text` for "train", the rest for "valid", everything for "all"."""
    border = len(text) * 9 // 10
    return {"train": text[:border], "valid": text[border:], "all": text}[split]


def standard_library_text(split="train", limit=None):
    """The source text of this Python's standard library: its .py files in the order of their names, one after another.

    split   "train", "valid" (about a tenth of the files, chosen by a hash of the name, so that a file stays on its side
            in every version of Python) or "all"
    limit   stop after so many characters

    The text is the same on every call and machine with the same version of Python; other versions have other text.
    Raises DataError where the sources were stripped.
    """
    pieces, length = [], 0
    for _, text in standard_library_files(split):
        pieces.append(text)
        length += len(text)
        if limit is not None and length >= limit:
            break
    return "".join(pieces)[:limit]


def standard_library_files(split="train"):
    """(name, text) for each file that `standard_library_text` joins. Tests and installed packages are left out."""
    expect(split in SPLITS, f"standard_library_text: split is one of {', '.join(SPLITS)}", split, error=ArgumentError)
    import sysconfig

    root = Path(sysconfig.get_path("stdlib"))
    names = sorted(_sources(root))
    if len(names) < 100:
        raise DataError(
            f"standard_library_text: {root} holds {len(names)} source files: this Python came without its sources\n"
            f"  give any text file instead, with text_file(path) or --data PATH"
        )
    for name in names:
        if split != "all" and (zlib.crc32(name.encode()) % 10 == 0) != (split == "valid"):
            continue
        try:
            yield name, text_file(root / name, at_least=1)
        except DataError:  # an empty __init__.py, or one of the few files in another encoding
            continue


def _sources(root):
    """Names of the .py files under `root`, relative, with forward slashes."""
    left_out = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "turtledemo"}
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in left_out]
        here = Path(folder).relative_to(root)
        yield from ((here / name).as_posix() for name in files if name.endswith(".py"))
