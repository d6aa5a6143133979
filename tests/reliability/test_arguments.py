"""Row 5 of the scorecard: wrong arguments are answered by minigen, not by Python or NumPy."""

import pytest

import minigen
from minigen.errors import DtypeError
from minigen.faults import arguments
from minigen.faults.examples import Call, calls


def test_every_public_function_has_a_good_call():
    good, missing = calls()
    assert not missing, f"add a line to faults/examples.py for {missing}"
    assert len(good) > 200


def test_wrong_calls():
    finding = arguments.wrong_calls()
    assert finding.passed, finding.text
    assert int(finding.text.split()[0]) >= 750


def add(a, b):
    """What an unguarded function does: Python's own errors come through."""
    return minigen.Tensor(a.data + b.data)


def refuses_without_a_reason(a, b):
    raise DtypeError("no")


def takes_anything(a, b):
    return 3


@pytest.mark.parametrize(
    ("function", "fault"), [(add, "a bare"), (refuses_without_a_reason, "not named"), (takes_anything, "accepted")]
)
def test_the_check_can_fail(function, fault):
    call = Call(function.__name__, function, (minigen.ones(2), minigen.ones(2)))
    faults = [arguments.judge(*case)[1] for case in arguments.spoil(call)]
    assert any(fault in (found or "") for found in faults)
