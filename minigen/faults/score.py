"""What a check hands back, and a folder for it to work in."""

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Finding:
    """passed: True, False, or None where this machine or this version cannot tell; text: what was found, in a line."""

    passed: bool | None
    text: str

    def __bool__(self):
        return self.passed is not False


@contextlib.contextmanager
def scratch():
    """A temporary folder, as a path, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="minigen-faults-") as folder:
        yield Path(folder)
