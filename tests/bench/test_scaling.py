"""`minigen bench scaling`: the model of the cost against what can be worked out by hand, and the measurements' form."""

from types import SimpleNamespace

import pytest

from minigen.bench import scaling, table
from minigen.distributed.launch import MISSING, launcher

MIB = 1 << 20


def test_one_machine_sends_nothing():
    assert scaling.step_seconds(0.5, 100 * MIB, 1, 1e9, 1e-3) == 0.5


def test_a_single_bucket_is_not_hidden_at_all():
    """Two machines: 2 rounds, of half the bytes each, and two latencies."""
    found = scaling.step_seconds(0.5, MIB, 2, rate=MIB, latency=0.25)
    assert found == pytest.approx(0.5 + 2 * (0.25 + 0.5))


def test_a_quick_link_leaves_the_last_bucket_only():
    """100 buckets of 10 ms, under 1.98 s of backward pass: 1 s is hidden, but for the last 10 ms."""
    found = scaling.step_seconds(3.0, 100 * MIB, 2, rate=100 * MIB, latency=0.0)
    assert found == pytest.approx(3.01)


def test_a_slow_link_hides_the_backward_pass():
    """100 buckets of a second each; two thirds of 3 s, less a hundredth, are spent on the way."""
    found = scaling.step_seconds(3.0, 100 * MIB, 2, rate=MIB, latency=0.0)
    assert found == pytest.approx(3.0 + 100 - 1.98)


def test_more_machines_and_slower_links_are_never_quicker():
    times = [scaling.step_seconds(0.1, 50 * MIB, n, 1e9, 1e-5) for n in (1, 2, 8, 64, 512)]
    assert times == sorted(times)
    times = [scaling.best_step_seconds(0.1, 50 * MIB, 8, *link) for link in reversed(scaling.LINKS.values())]
    assert times == sorted(times)
    assert scaling.best_step_seconds(0.1, 500 * MIB, 512, 1e9, 1e-3) < scaling.step_seconds(
        0.1, 500 * MIB, 512, 1e9, 1e-3
    )


def test_the_link_is_found_from_two_sums():
    rate, latency, ranks = 2e9, 3e-6, 4
    times = {str(n): 2 * (ranks - 1) * (latency + n / ranks / rate) for n in (scaling.SMALL, scaling.LARGE)}
    found = scaling.link_of(times, ranks)
    assert found == (pytest.approx(rate), pytest.approx(latency, rel=1e-3))


def test_memory():
    """Adam in float32: 16 bytes a parameter, of which ZeRO-1 spreads 8."""
    assert scaling.memory_bytes(10, 1, True) == 160 and scaling.memory_bytes(10, 8, False) == 160
    assert scaling.memory_bytes(10, 8, True) == 90


def document(measured):
    options = SimpleNamespace(command="minigen bench scaling", seconds=1.0, turns=1, threads=1)
    rows = [scaling.row("gpt", "weak", n, [measured(n)]) for n in (1, 2)]
    found = table.document("scaling", "Data parallel training", options, 0.1, rows)
    found["links"] = {"2": {str(scaling.SMALL): 1e-5, str(scaling.LARGE): 1e-2}}
    found["notes"] = scaling.NOTES
    return found


def test_the_page(tmp_path):
    made = lambda n: {"ms": 100.0 + 25 * (n - 1), "exposed_ms": 1.0, "rows": 16, "params": 800_000, "state_mb": 6.4}
    found = document(made)
    head, rows = scaling.tables(found)[0][1:]
    assert rows[1][head.index("times one process")] == "1.60"  # twice the rows in 1.25 times the time
    assert rows[1][head.index("rows a step")] == "32"
    table.write_page(tmp_path / "scaling.md", found, scaling.tables(found))
    text = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    assert "## On paper: GPT-2 124M" in text and "assumed, not measured" in text


def test_one_process_is_measured():
    found = scaling.measured(1, ["--workload", "mlp", "--way", "weak", "--seconds", "0"], threads=1)
    assert found["params"] == 1_863_690 and found["rows"] == 64 and found["ms"] > found["exposed_ms"] >= 0
    assert found["state_mb"] == pytest.approx(8 * found["params"] / 1e6, rel=1e-3)


@pytest.mark.skipif(launcher(2) is None, reason=MISSING)
def test_two_processes_share_the_state():
    found = scaling.measured(2, ["--workload", "mlp", "--way", "sharded", "--seconds", "0"], threads=1)
    assert found["ranks"] == 2 and found["state_mb"] == pytest.approx(4 * found["params"] / 1e6, rel=0.02)
