"""JSON files: read without trust, written without risk. Configurations, tokenizers and indices stand in them.

config = read_json("gpt2/config.json")         # a dictionary, or an error of minigen's own
write_json("gpt2/config.json", config)
"""

import json
import os
import stat
from pathlib import Path

from .atomic import write_atomically
from .errors import CheckpointError

MOST_BYTES = 256 * 2**20  # the largest published tokenizer.json takes about 30 MB


def read_json(path, kind=dict, error=CheckpointError, most=MOST_BYTES):
    """What the JSON file `path` holds, which must be of type `kind`.

    Raises `error` for a file that is missing, no ordinary file, larger than `most` bytes, cut short, not UTF-8, not
    JSON, nested too deep, or that names one key twice.
    """
    return parse_json(read_text(path, error, most), path, kind, error)


def read_text(path, error=CheckpointError, most=MOST_BYTES):
    """The text of an ordinary UTF-8 file of at most `most` bytes. Raises `error` where it is none."""
    path = Path(path)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe would wait for ever, a device never end
            raise OSError("it is a folder" if stat.S_ISDIR(found.st_mode) else "it is not an ordinary file")
        if found.st_size > most:
            raise OSError(f"it has {found.st_size:,} bytes, and {most:,} are the most that is read")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise error(f"{path} does not exist") from None
    except UnicodeDecodeError as cause:
        raise error(f"{path}: byte {cause.start:,} is not UTF-8") from None
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        raise error(f"{path} cannot be read: {getattr(cause, 'strerror', None) or cause}") from None


def parse_json(text, path, kind=dict, error=CheckpointError):
    """`text`, which came from `path`, as JSON of type `kind`. Raises `error` where it is none."""
    try:
        found = json.loads(text, object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise error(f"{path} is nested too deep to be JSON of ours") from None
    except ValueError as cause:
        what = "is empty" if not text.strip() else f"is not whole JSON: {str(cause)[:200]}"
        raise error(f"{path} {what}") from None
    if type(found) is not kind:
        raise error(f"{path} holds a {type(found).__name__}, where a {kind.__name__} is wanted")
    return found


def write_json(path, value):
    """Save `value` as JSON, indented and in UTF-8, entirely or not at all (see `write_atomically`)."""
    content = json_bytes(value)
    write_atomically(path, [content], len(content))


def json_bytes(value):
    """`value` as the bytes of a JSON file."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _no_duplicates(pairs):
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in mapping if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands twice")
    return mapping
