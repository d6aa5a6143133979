"""Parity: inputs and outputs of published implementations, checked against minigen without having them installed.

    pytest tests/parity                   the cases in tests/parity/cases
    pytest tests/parity --cases DIR       every case in DIR (its sub-folders that hold a case.npz)

Each test's id is its case's name. What a case holds is in tests/parity/README.md; how it is run, in kinds/.
"""

from pathlib import Path

import pytest
from kinds import NotCovered, run_case
from kinds.case import Case

BUNDLED = Path(__file__).parent / "cases"


def folders(where):
    return sorted(path.parent for path in Path(where).glob("**/case.npz"))


def pytest_generate_tests(metafunc):
    if "folder" in metafunc.fixturenames:
        where = metafunc.config.getoption("--cases") or BUNDLED
        found = folders(where)
        if not found:
            raise pytest.UsageError(f"--cases {where}: no folder there holds a case.npz")
        metafunc.parametrize("folder", found, ids=[path.name for path in found])


def test_case(folder):
    case = Case(folder)
    try:
        run_case(case)
    except NotCovered as reason:
        pytest.skip(f"not covered: {reason}")
