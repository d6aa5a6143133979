"""Row 3 of the scorecard: whatever a file holds, it is read or refused, by one error, as safetensors would."""

import pytest

from minigen import checkpoint
from minigen.faults import files


def test_every_truncation():
    finding = files.truncations()
    assert finding.passed, finding.text


def test_hostile_files():
    finding = files.hostile()
    assert finding.passed, finding.text


@pytest.mark.parametrize("seed", range(4))
def test_mutations(seed):
    finding = files.mutations(2500, seed)
    assert finding.passed, finding.text


@pytest.mark.parametrize("error", [KeyError("x"), None])
def test_the_check_can_fail(monkeypatch, error):
    """A reader that raises another error, or that takes what safetensors refuses, is found out."""
    real = files.read_safetensors

    def bad(path):
        if error is not None:
            raise error
        return real(path) if checkpoint.is_whole(path) else _Empty()

    class _Empty(dict):
        __enter__ = lambda self: self
        __exit__ = lambda self, *_: None

    monkeypatch.setattr(files, "read_safetensors", bad)
    assert not files.mutations(50).passed
