"""Which lessons there are, what each is called, and which one a name means."""

import re
import sys
from pathlib import Path

from minigen.errors import ArgumentError

FILE = re.compile(r"(\d\d)_(\w+)\.py")


def home():
    """The folder of the lessons: where the script that runs lies if that is one, else where this package lies.

    So a lesson run from a checkout finds the exercises beside it, also where minigen is installed elsewhere.
    """
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    if script and FILE.fullmatch(script.name) and (script.parent / "expected").is_dir():
        return script.parent
    return Path(__file__).parent


def lessons(folder=None):
    """{"01_generative": path, ...}, in the order in which they are read."""
    folder = Path(folder or home())
    return {path.stem: path for path in sorted(folder.glob("*.py")) if FILE.fullmatch(path.name)}


def find(name, folder=None):
    """The path of the lesson meant by "10", "vae", "10_vae" or "10_vae.py". Raises ArgumentError with what is near."""
    known = lessons(folder)
    wanted = Path(str(name)).name.removesuffix(".py").lower()
    for stem, path in known.items():
        number, word = stem.split("_", 1)
        if wanted in (stem, word) or wanted.isdigit() and int(wanted) == int(number):
            return path
    import difflib

    words = {word: stem for stem in known for word in (stem, stem.split("_", 1)[1])}
    near = difflib.get_close_matches(wanted, words, n=1, cutoff=0.5)
    hint = f"did you mean {words[near[0]]}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise ArgumentError(f"there is no lesson {name!r}\n  {hint}")


def opening(path):
    """(title, question): the heading of a lesson, and the first sentence under it."""
    lines = ("\n" + Path(path).read_text(encoding="utf-8")).split("\n# %%")[1].splitlines()[1:]
    text = [line.removeprefix("#").strip() for line in lines]
    title = next(line for line in text if line.startswith("#")).lstrip("# ")
    prose = " ".join(text[text.index(next(line for line in text if line.startswith("#"))) + 1 :]).strip()
    sentence = re.match(r".*?[.?!](?=\s|$)", prose)
    return re.sub(r"^\d+\.\s*", "", title), sentence.group(0) if sentence else prose
