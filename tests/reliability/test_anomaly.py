"""Row 6 of the scorecard: whatever goes bad, the op that did it is named."""

import re
import sys

import numpy as np
import pytest

import minigen
from minigen import detect_anomaly
from minigen.errors import NonFiniteError
from minigen.faults import anomaly
from minigen.faults.examples import Call


def test_bad_numbers_in_every_op():
    finding = anomaly.bad_numbers()
    assert finding.passed, finding.text
    assert int(re.search(r"(\d+) named", finding.text)[1]) >= 300


# What goes bad by itself: (the tensor's numbers, the chain, the op that is to blame)
BY_THEMSELVES = {
    "log of a negative number": ([1.0, -1.0], lambda x: ((x * 2).log() + 1).sum(), "log: its result"),
    "0 times Inf": ([0.0, 1.0], lambda x: (x * x.reciprocal()).sum(), "mul: its result"),
    "0 over 0": ([0.0, 1.0], lambda x: (x / (x * 3)).sum(), "div: its result"),
    "Inf less Inf": ([100.0], lambda x: (x.exp() * 2 - x.exp()).sum(), "sub: its result"),
    "the slope of sqrt at 0": ([0.0, 1.0], lambda x: (x * 1.0).sqrt().sum(), "sqrt: the gradient of its argument 'x'"),
    "the slope of log at 0": ([0.0, 1.0], lambda x: x.log().exp().sum(), "log: the gradient of its argument 'x'"),
    "the masked branch of where": (
        [0.0, 1.0],
        lambda x: minigen.where(x > 0, x.sqrt(), x * 0.0).sum(),
        "sqrt: the gradient of its argument 'x' has a NaN",
    ),
}


@pytest.mark.parametrize("name", BY_THEMSELVES)
def test_what_goes_bad_by_itself(name):
    numbers, chain, blamed = BY_THEMSELVES[name]
    x = minigen.tensor(np.array(numbers, np.float32), requires_grad=True)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError) as error, detect_anomaly():
        chain(x).backward()
    assert str(error.value).startswith(blamed)


def test_a_gradient_names_the_line_that_called_the_op():
    x = minigen.tensor([0.0], requires_grad=True)
    with (
        np.errstate(all="ignore"),
        pytest.raises(NonFiniteError, match=r"test_anomaly.py:\d+: y = x.sqrt\(\)"),
        detect_anomaly(),
    ):
        y = x.sqrt()
        y.sum().backward()


def test_outside_the_block_nothing_is_watched():
    x = minigen.tensor([-1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        with pytest.raises(NonFiniteError), detect_anomaly():
            x.log()
        assert np.isnan(x.log().data).all()


def test_the_check_can_fail(monkeypatch):
    """An op that detect_anomaly does not see would be found out."""
    monkeypatch.setattr(sys.modules["minigen.autograd.op"], "check_forward", lambda *_: None)
    x = minigen.tensor([np.nan], requires_grad=True)
    outcome = anomaly.watched(Call("floor", minigen.floor, (x,)), 1.0)
    assert outcome.startswith("not found")
