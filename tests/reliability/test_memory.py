"""What the engine promises about memory, and row 7 of the scorecard, with small budgets."""

import ast
import gc
from pathlib import Path

import pytest

import minigen
from minigen import kernels, nn, optim
from minigen.errors import MinigenError, OutOfMemoryError
from minigen.faults import memory

SOURCE = Path(minigen.__file__).parent


def test_two_hundred_steps_leave_nothing_behind():
    finding = memory.flat(200)
    assert finding.passed, finding.text


def test_ten_thousand_tiny_steps():
    finding = memory.soak(10_000)
    assert finding.passed is not False, finding.text


def test_no_function_inside_another_names_itself():
    """Such a function is in a circle with its own name: each call would leave it, and all it sees, to the collector."""
    found = []
    for file in [*SOURCE.rglob("*.py"), *Path(kernels.__file__).parent.rglob("*.py")]:
        for outer in ast.walk(ast.parse(file.read_text())):
            if isinstance(outer, ast.FunctionDef):
                inside = [f for f in ast.walk(outer) if isinstance(f, ast.FunctionDef) and f is not outer]
                found += [f"{file.name}: {f.name} in {outer.name}" for f in inside if names_itself(f)]
    assert not found, found


def names_itself(function):
    return any(isinstance(node, ast.Name) and node.id == function.name for node in ast.walk(function))


def test_a_thousand_captured_steps_leave_nothing_to_the_collector():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 2))
    optimizer = optim.AdamW(model.parameters())

    @minigen.capture
    def step(x, more):
        optimizer.zero_grad()
        loss = (model(x) * more["by"]).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    x, more = minigen.ones(5, 3), {"by": [minigen.ones(2)][0]}
    for _ in range(5):
        step(x, more)
    with memory.no_collector():
        before = len(gc.get_objects())
        for _ in range(1000):
            step(x, more)
        assert len(gc.get_objects()) - before < 20


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
