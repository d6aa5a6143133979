"""What the engine promises about memory, and row 7 of the scorecard, with small budgets."""

import pytest

import minigen
from minigen.errors import MinigenError, OutOfMemoryError
from minigen.faults import memory


def test_two_hundred_steps_leave_nothing_behind():
    finding = memory.flat(200)
    assert finding.passed, finding.text


def test_ten_thousand_tiny_steps():
    finding = memory.soak(10_000)
    assert finding.passed is not False, finding.text


def test_a_deep_chain():
    finding = memory.deep(100_000)
    assert finding.passed, finding.text


def test_a_tensor_in_a_circle_would_be_seen():
    """The check can fail: what only the collector would free is counted."""
    with memory.no_collector():
        before = memory.live_tensors()
        x = minigen.ones(2)
        holder = [x]
        holder.append(holder)
        del x, holder
        assert memory.live_tensors() == before + 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: minigen.zeros(1 << 30, 1 << 30),
        lambda: minigen.randn(1 << 30, 1 << 20),
        lambda: minigen.ones(1 << 24, 1) @ minigen.ones(1, 1 << 24),
        lambda: minigen.ones(1 << 24, 1) + minigen.ones(1 << 24),
        lambda: minigen.ones(3).repeat(1 << 40),
    ],
)
def test_what_has_no_room_says_how_large_it_is(call):
    with pytest.raises(OutOfMemoryError, match=r"[TPE]iB") as error:
        call()
    assert isinstance(error.value, MemoryError) and isinstance(error.value, MinigenError)
    assert minigen.ones(3).sum().item() == 3


@pytest.mark.kernels  # without them NumPy multiplies, and OpenBLAS ends the process where it finds no memory
def test_running_out_in_the_middle_of_a_step():
    finding = memory.exhaustion(3)
    assert finding.passed is not False, finding.text
