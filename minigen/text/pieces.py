"""What happens to a text before byte-pair encoding, as in GPT-2 (Radford et al. 2019, section 2.2).

It is cut into pieces that merges never cross: words with the space before them, numbers, punctuation, white space. And
its bytes get printable names, so that a vocabulary can be written down: `Ġ` is the space, `Ċ` the end of a line.

    cut(text)       ["Hello", " world", "'s", "  ", " end"]
    NAMES, BYTES    the 256 names of bytes, and back
"""

import functools
import re
import sys
import unicodedata

from ..errors import DataError

# Unicode's White_Space. (Python's own idea of it adds four separators, \x1c to \x1f.)
SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def _names():
    """Printable bytes stand for themselves; the 68 others take the characters from U+0100 on, in order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    names, further = {byte: chr(byte) for byte in plain}, 256
    for byte in range(256):
        if byte not in names:
            names[byte] = chr(further)
            further += 1
    return names


NAMES = _names()
BYTES = {name: byte for byte, name in NAMES.items()}


def named(text, errors="strict"):
    """The UTF-8 bytes of a text by their names: "hé" -> "hÃ©". `errors` as in str.encode."""
    try:
        return "".join([NAMES[byte] for byte in text.encode("utf-8", errors)])
    except UnicodeEncodeError as fault:
        half = ascii(text[fault.start])
        raise DataError(f"encode: {half} is half of a pair of surrogates, and by itself no character") from None


def cut(text):
    """The pieces of a text; joined they are the text."""
    return pattern().findall(text)


@functools.cache
def pattern():
    """GPT-2's pattern, with Unicode's letters and numbers written out, as Python's `re` knows no \\p{L} and \\p{N}.

    's 't 're 've 'm 'll 'd | letters | numbers | anything else but white space (each with one space before it) | white
    space, less the last of it if a piece follows.
    """
    letter, number = _ranges("L"), _ranges("N")
    return re.compile(
        rf"'(?:[sdmt]|ll|ve|re)| ?[{letter}]+| ?[{number}]+| ?[^{SPACE}{letter}{number}]+"
        rf"|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+"
    )


def _ranges(kind):
    """All characters whose category starts with `kind`, as the inside of a regular expression's brackets."""
    ranges, start = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code))[0] == kind
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            ranges.append((start, code - 1))
            start = None
    return "".join(rf"\U{a:08x}-\U{b:08x}" for a, b in ranges)
