"""`minigen check --faults`: the table itself, and the seeded mutants of row 18."""

import importlib
import re
import subprocess
import sys

import pytest

from minigen import faults
from minigen.faults import Finding, mutants


def test_every_row_has_its_check():
    for _, _, checks in faults.ROWS:
        for file, function, _, _ in checks:
            assert callable(getattr(importlib.import_module(f"minigen.faults.{file}"), function))
    numbers = [row.strip("*") for row, _, _ in faults.ROWS]
    assert numbers == [str(n) for n in [*range(1, 15), *range(16, 20)]] + ["bits"]


def test_the_table(capsys, monkeypatch):
    monkeypatch.setattr("minigen.faults.ranks.ended", lambda count, seed: Finding(None, "needs an MPI"))
    monkeypatch.setattr("minigen.faults.supply.banned_code", lambda count, seed: Finding(True, "found none"))
    assert faults.main(["--rows", "9,17"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\s+9\s+a dead rank\s+open .* needs an MPI", lines[0])
    assert re.match(r"\s+17\*\s+supply chain\s+pass", lines[1])
    assert lines[-1] == "0 failed, 1 open (not checkable on this machine)"


def test_a_failure_and_a_broken_check_count(capsys, monkeypatch):
    monkeypatch.setattr("minigen.faults.supply.banned_code", lambda count, seed: Finding(False, "found one"))
    monkeypatch.setattr("minigen.faults.ranks.ended", lambda count, seed: 1 / 0)
    assert faults.main(["--rows", "9,17"]) == 1
    shown = capsys.readouterr().out
    assert "FAIL" in shown and "found one" in shown and "the check itself broke: ZeroDivisionError" in shown


def test_an_unknown_row():
    done = subprocess.run(
        [sys.executable, "-c", "from minigen.faults import main; main(['--rows', '77'])"], capture_output=True
    )
    assert done.returncode == 2 and b"no such row: 77" in done.stderr


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("def f(a, b):\n    return a + b", ["(a - b)", "(a)"]),
        ("def f(a, b):\n    return a * b", ["(a + b)"]),
        ("def f(x):\n    return x.sum(axis=1)", ["axis=0"]),
        ("def f(x):\n    return -x", ["(x)"]),
        ("def f(x):\n    return x.shape[1]", ["(x.shape[2])"]),
        ("def f(x):\n    return x < 0", ["(x <= 0)"]),
        ("exp.gradient(x=lambda g, y: g * y)", ["(g + y)"]),
        ("def f(x):\n    if x < 0:\n        raise ValueError(f'{x + 1}')\n    return x", []),
        ("def f(x):\n    expect(x > 0, 'x' + 'y', x)\n    return 'a' + 'b'", []),
    ],
)
def test_what_is_changed_to_make_a_mutant(source, changes):
    found = list(mutants.mutants_of(source))
    assert sorted(text.rpartition("->  ")[2] for _, text, _ in found) == sorted(changes)
    assert len({changed for _, _, changed in found} - {source}) == len(changes)


@pytest.mark.slow
def test_mutants_are_killed():
    finding = mutants.survivors(20)
    assert finding.passed is not False, finding.text
