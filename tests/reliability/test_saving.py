"""Rows 1 and 2 of the scorecard: killed while saving, and a disk that refuses."""

import builtins

import pytest

from minigen import atomic, checkpoint
from minigen.faults import disk, kills


def test_sigkill_while_saving():
    finding = kills.kills(150)
    assert finding.passed is not False, finding.text


def test_a_plain_writer_would_be_caught(monkeypatch, tmp_path):
    """The check itself can fail: a save that writes in place is found out by the failing calls."""

    def in_place(path, pieces, size):
        with builtins.open(path, "wb", buffering=0) as file:
            for piece in pieces:
                atomic.os.write(file.fileno(), piece)

    monkeypatch.setattr("minigen.tensorfile.write_atomically", in_place)
    path = tmp_path / "x"
    checkpoint.save(path, disk._state(1))
    with monkeypatch.context() as broken:
        broken.setattr(atomic, "os", disk._FailingSystem("write", 3, 28))
        with pytest.raises(OSError):
            disk._one_save(path)
    assert not checkpoint.is_whole(path)


def test_every_system_call_failing_in_turn():
    finding = disk.failing_calls()
    assert finding.passed, finding.text


def test_files_limited_in_size():
    finding = disk.file_size_limit(2)
    assert finding.passed is not False, finding.text
