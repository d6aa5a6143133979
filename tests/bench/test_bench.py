"""`minigen bench`: what is measured, how sides are compared, what is printed and saved. No test asserts a time."""

import functools
import importlib
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

import minigen
from minigen import cli, kernels
from minigen.bench import ceiling, chart, cpu, ops, sides, start, table
from minigen.bench.cases import CASES
from minigen.bench.count import counting
from minigen.errors import ArgumentError


def measurement(workload="vae", side="minigen", ms=2.0, first=600.0, last=500.0):
    """What a process that measured one side prints."""
    return {
        "workload": workload,
        "side": side,
        "ms_median": ms,
        "loss_first": first,
        "loss_last": last,
        "params": 10,
        "peak_mb": 200.0,
        "growth_mb": 50.0,
        "product_gflops": 400.0 if side == "minigen" else 500.0,
        "operations": 10**9,
        "version": "1",
        "core": "some core",
        **({"eager_ms": 1.5 * ms} if side == "minigen" else {}),
    }


def pretend(monkeypatch, installed, **given):
    """Let no process run: every measurement is the one above, PyTorch's twice as slow. Returns the calls made."""
    calls = []

    def measured(suite, arguments, threads, **more):
        side, workload = (arguments[arguments.index(name) + 1] for name in ("--side", "--workload"))
        calls.append((workload, side))
        return measurement(workload, side, **{"ms": 2.0 if side == "minigen" else 4.0, **given.get(side, {})})

    monkeypatch.setattr(sides, "measured", measured)
    monkeypatch.setattr(sides, "installed_sides", lambda: installed)
    return calls


# One side in a process of its own


def test_one_side_through_the_command_line():
    given = ["--workload", "realnvp", "--side", "minigen", "--seconds", "0"]
    found = sides.measured("cpu", given, threads=1, OPENBLAS_NUM_THREADS="1")
    assert found["workload"] == "realnvp" and found["side"] == "minigen" and found["params"] == 35344
    assert found["loss_last"] < found["loss_first"]  # 20 steps of Adam on one batch
    assert found["ms_median"] > 0 and found["peak_mb"] > found["growth_mb"] > 0
    assert found["operations"] == 52_658_176


def test_a_process_that_fails_is_told_with_its_own_words():
    with pytest.raises(sides.BenchFailed, match="there is no workload 'vea'"):
        sides.measured("cpu", ["--workload", "vea", "--side", "minigen"], threads=1)


def test_every_process_gets_the_same_threads_and_no_preset_core(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert not sides.is_clean(2)
    found = sides.environment(2)
    assert "OPENBLAS_CORETYPE" not in found and found["OMP_NUM_THREADS"] == found["NUMBA_NUM_THREADS"] == "2"


def test_without_pytorch_its_side_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sides, "installed_sides", lambda: ("minigen",))
    with pytest.raises(sides.BenchFailed, match="pip install torch"):
        sides.library("torch", 1)


# Both sides


def test_sides_take_turns_in_alternating_order(monkeypatch):
    calls = pretend(monkeypatch, ("minigen", "torch"))
    found = sides.take_turns("cpu", ["--workload", "vae"], SimpleNamespace(side=None, turns=3, seconds=1, threads=1))
    assert [side for _, side in calls] == ["minigen", "torch", "torch", "minigen", "minigen", "torch"]
    assert [len(turns) for turns in found.values()] == [3, 3]


@pytest.mark.parametrize(
    "workload, first, last, fits",
    [
        ("vae", 600.0, 500.0, True),
        ("vae", 600.05, 500.0, True),
        ("vae", 600.07, 500.0, False),  # more than 1e-4 of 600
        ("vae", 600.0, 500.4, True),
        ("vae", 600.0, 500.6, False),  # more than 1e-3 of 500
        ("dcgan", 600.0, 504.0, True),  # two networks against each other: 1e-2
        ("dcgan", 600.0, 506.0, False),
        ("vae", math.nan, 500.0, False),
    ],
)
def test_losses_agree_up_to_a_tolerance(workload, first, last, fits):
    results = {"minigen": [measurement(workload, first=first, last=last)], "torch": [measurement(workload, "torch")]}
    assert cpu.row(workload, results)["agree"] is fits


def test_a_row_takes_medians_of_turns_and_compares_them(monkeypatch):
    results = {
        "minigen": [measurement(ms=ms) for ms in (1.0, 2.0, 9.0)],
        "torch": [measurement(side="torch", ms=ms) for ms in (3.0, 3.0, 30.0)],
    }
    (row,) = cpu.add_shares([cpu.row("vae", results)])
    assert row["ms"] == {"minigen": 2.0, "torch": 3.0} and row["ratio"] == 1.5 and row["met"] is False
    assert row["ceiling_gflops"] == 500.0
    assert row["share"]["minigen"] == pytest.approx(1e9 / 2e-3 / 500e9)


def test_the_whole_table_is_printed_and_saved(monkeypatch, tmp_path, capsys):
    calls = pretend(monkeypatch, ("minigen", "torch"))
    assert cli.main(["bench", "cpu", "--turns", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert len(calls) == 2 * 2 * len(cpu.WORKLOADS)
    line = next(line for line in printed.splitlines() if line.startswith("geometric mean"))
    assert line.split() == ["geometric", "mean", "2.00", "1.4", "met", "1.33"]
    found = json.loads((tmp_path / "cpu.json").read_text())
    assert found["command"] == "minigen bench cpu --turns 2"
    assert [row["workload"] for row in found["rows"]] == list(cpu.WORKLOADS) and found["mean"] == pytest.approx(2.0)
    assert all(len(row["measurements"]["torch"]) == 2 for row in found["rows"])
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")

    assert cli.main(["bench", "page", "cpu", "--out", str(tmp_path), "--to", str(tmp_path)]) == 0
    page = (tmp_path / "cpu.md").read_text()
    assert page.startswith("# Training steps on the CPU\n") and found["date"][:10] in page
    assert "| vae | 10 | 2.00 | 4.00 | 2.00 | 1.8 | met | 3.00 | 1.33 |" in page


@pytest.mark.parametrize("load, busy", [(0.1, False), (3.0, True), (None, False)])
def test_a_busy_machine_is_told(load, busy, monkeypatch, capsys):
    pretend(monkeypatch, ("minigen", "torch"))
    monkeypatch.setattr(sides, "load", lambda: load)
    assert cli.main(["bench", "cpu", "--workload", "vae", "--turns", "1"]) == 0
    assert ("the machine was busy" in capsys.readouterr().out) is busy


def test_losses_that_differ_end_with_1(monkeypatch, capsys):
    pretend(monkeypatch, ("minigen", "torch"), torch={"last": 400.0})
    assert cli.main(["bench", "cpu", "--workload", "vae", "--turns", "1"]) == 1
    assert capsys.readouterr().out.count("NO") == 1


def test_a_loss_that_is_no_number_can_be_saved(monkeypatch, tmp_path, capsys):
    pretend(monkeypatch, ("minigen", "torch"), minigen={"last": math.nan})
    assert cli.main(["bench", "cpu", "--workload", "vae", "--turns", "1", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count(" nan ") == 1
    assert json.loads((tmp_path / "cpu.json").read_text())["rows"][0]["losses"]["loss_last"]["minigen"] == "NaN"


def test_json_in_place_of_the_table(monkeypatch, capsys):
    pretend(monkeypatch, ("minigen", "torch"))
    assert cli.main(["bench", "cpu", "--workload", "vae", "--turns", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["ratio"] == 2.0


def test_without_pytorch_minigen_stands_alone_and_one_sentence_says_so(monkeypatch, capsys):
    pretend(monkeypatch, ("minigen",))
    assert cli.main(["bench", "cpu", "--workload", "vae", "--turns", "1"]) == 0
    printed = capsys.readouterr().out
    assert " ".join(printed.split()).count(sides.ALONE) == 1
    assert "torch ms" not in printed


def test_one_workload_alone_saves_nothing_unasked(monkeypatch, tmp_path, capsys):
    pretend(monkeypatch, ("minigen", "torch"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "cpu", "--workload", "vae", "--turns", "1"]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv, words",
    [
        (["cpu", "--workload", "vea"], "there are: vae, gpt"),
        (["ops", "--only", "conf*"], "no op is called 'conf*'"),
        (["ops", "--family", "norm"], "there are: products"),
        (["start", "--only", "lessons"], "there are: import numpy"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(argv, words, capsys):
    assert cli.main(["bench", *argv]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--turns", "0"], ["--seconds", "-1"], ["--threads", "many"]])
def test_wrong_numbers_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "cpu", *argv])
    assert ended.value.code == 2 and argv[0] in capsys.readouterr().err


# The arithmetic of a step, and the machine's limits


def step_of(workload, library=minigen):
    return importlib.import_module(f"minigen.bench.workloads.{workload}").build(library)[0]


@pytest.mark.parametrize("workload", ["vae", "realnvp"])
def test_a_captured_step_is_the_step(workload):
    build = importlib.import_module(f"minigen.bench.workloads.{workload}").build
    found = []
    for captured in (lambda step: step, functools.partial(minigen.capture, strict=True)):
        minigen.manual_seed(0)
        step, _ = build(minigen, captured)
        found.append([step(0)] + [step(None) for _ in range(6)])
    assert found[0] == found[1]


def test_operations_of_a_vae_step_are_those_of_its_six_products():
    step = step_of("vae")
    with counting() as operations:
        step(0)
    layers = 784 * 400 + 2 * 400 * 20 + 20 * 400 + 400 * 784
    assert operations.total == 2 * 128 * (3 * layers - 784 * 400)  # no gradient for the pictures


def test_operations_of_products_and_attention():
    x, w = minigen.randn(4, 8, 16), minigen.randn(5, 16, requires_grad=True)
    q, k, v = (minigen.randn(2, 3, 6, 4, requires_grad=True) for _ in range(3))
    F = minigen.nn.functional
    for run, expected in [
        (lambda: F.linear(x, w), 2 * 2 * 4 * 8 * 16 * 5),  # forward, and back to w
        (lambda: x @ w.detach().mT, 2 * 4 * 8 * 16 * 5),
        (lambda: F.scaled_dot_product_attention(q, k, v), 3 * 2 * 6 * 6 * 6 * (4 + 4)),
        (lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 3 * 2 * 6 * 21 * (4 + 4)),
    ]:
        with counting() as operations:
            run()
        assert operations.total == expected


def test_operations_of_a_layer_with_its_activation_in_one_kernel(monkeypatch):
    x, w, b = minigen.randn(4, 8, 16), minigen.randn(5, 16, requires_grad=True), minigen.zeros(5, requires_grad=True)

    def count():
        with counting() as operations:
            minigen.nn.functional.linear_activation(x, w, b, "gelu")
        return operations.total

    expected = 2 * 2 * 4 * 8 * 16 * 5
    assert count() == expected  # on the CPU a layer and an activation
    fused = SimpleNamespace(linear_activation=lambda x, w, b, activation: (x @ w.T, x))  # as on the GPU
    monkeypatch.setattr(kernels, "find", lambda array, family: fused if family == "linear_activation" else None)
    assert count() == expected


def test_nothing_is_counted_after_the_block():
    x = minigen.randn(4, 4)
    with counting() as operations:
        x @ x
    before = operations.total
    x @ x
    assert operations.total == before > 0


@pytest.mark.torch
@pytest.mark.parametrize("workload", ["vae", "realnvp", "dcgan"])  # PyTorch counts neither LSTMs nor fused attention
def test_operations_equal_pytorchs_own_count(workload):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    step, theirs = step_of(workload), step_of(workload, torch)
    with counting() as operations:
        step(0)
    with FlopCounterMode(display=False) as counter:
        theirs(0)
    assert operations.total == counter.get_total_flops()


def test_memory_sees_what_a_process_touches():
    now, most = ceiling.memory()
    if now is None:
        pytest.skip("this system does not tell")
    block = np.ones(2**23)  # 64 MB
    _, most_after = ceiling.memory()
    assert most_after >= most and most_after >= now + 60
    del block


# Single ops


def test_every_op_runs_forward_and_back_at_its_small_size():
    for case in CASES:
        found = ops.timed(case, case.small, minigen, seconds=0)
        assert len(found["us"]) == len(found["bytes"]) == len(found["copy_us"])
        assert found["norms"] is None or all(norm > 0 and math.isfinite(norm) for norm in found["norms"]), case.name


@pytest.mark.torch
@pytest.mark.parametrize("family", dict.fromkeys(case.family for case in CASES))
def test_every_op_gives_pytorchs_numbers(family):
    torch = pytest.importorskip("torch")
    for case in CASES:
        if case.family == family:
            ours, theirs = (ops.timed(case, case.small, library, seconds=0) for library in (minigen, torch))
            assert ours["shape"] == theirs["shape"] and ops.agree(ours["norms"], theirs["norms"]), case.name


def test_norms_agree_up_to_rounding():
    assert ops.agree([1.0, 100.0], [1.0005, 100.0]) and ops.agree(None, None)
    assert not ops.agree([1.0, 100.0], [1.002, 100.0]) and not ops.agree([1.0], [1.0, 1.0])


def test_the_floor_is_the_longer_of_moving_and_multiplying():
    (case,) = (case for case in CASES if case.name == "linear")
    turn = {"name": "linear", "size": "large", "shape": "2", "us": [30.0, 60.0], "norms": [1.0], "bytes": [8, 8]}
    turn |= {"operations": [10**7, 2 * 10**7], "copy_us": [5.0, 50.0]}
    row = ops.row(case, "large", {"minigen": [{"cases": [turn]}]}, most=1000)
    assert row["forward"]["floor_us"] == pytest.approx(10.0) and row["backward"]["floor_us"] == 50.0
    assert row["forward"]["share"]["minigen"] == pytest.approx(1 / 3) and row["forward"]["ratio"] is None


def test_ops_through_the_command_line(tmp_path, capsys):
    given = ["bench", "ops", "--only", "relu", "--side", "minigen", "--turns", "1", "--seconds", "0", "--threads", "1"]
    assert cli.main([*given, "--out", str(tmp_path)]) == 0
    assert "\nrelu" in capsys.readouterr().out
    rows = json.loads((tmp_path / "ops.json").read_text())["rows"]
    assert [row["size"] for row in rows] == ["large", "small"] and rows[0]["backward"]["us"]["minigen"] > 0


# Starting


def test_cold_and_warm_runs_share_a_cache_whose_kernels_are_counted(tmp_path):
    seen = []

    def once(cache):
        folder = start.Path(cache, "kernels", "cpython")
        seen.append(folder.exists())
        folder.mkdir(parents=True, exist_ok=True)
        for name in "ab":
            (folder / f"{name}.bin").touch()
        return {"s": 2.0 if len(seen) == 1 else 0.5, "status": 0}

    assert start.cold_and_warm(once) == {"cold_s": 2.0, "warm_s": 0.5, "status": 0, "kernels": 2}
    assert seen == [False, True]


def test_imports_are_timed_and_judged(capsys):
    assert cli.main(["bench", "start", "--only", "import minigen", "--turns", "1", "--threads", "1"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("import minigen"))
    assert 0 < float(line.split()[2]) < 60 and line.split()[3:5] == ["warm", "0.3"]


# Tables and pictures


def test_columns_line_up():
    lines = table.aligned(["op", "us"], [["relu", "1.00"], ["a longer one", "10.0"]])
    assert lines == ["op              us", "relu          1.00", "a longer one  10.0"]


def test_numbers_keep_three_digits():
    assert [table.decimals(x) for x in (0.1234, 1.234, 12.34, 123.4, 1234.5, None)] == [
        "0.123",
        "1.23",
        "12.3",
        "123",
        "1234",
        "-",
    ]


def test_a_chart_has_a_bar_and_a_note_for_each_name():
    figure = chart.bars("title", ["a", "b"], [2.0, 0.5], ["fast", "slow"], [1.5, 1.0])
    (axes,) = figure.axes
    assert [round(bar.get_width(), 3) for bar in axes.patches] == [2.0, 0.5]
    assert [text.get_text() for text in axes.texts] == ["2.00   fast", "0.50   slow"]
    assert chart.png(figure) == chart.png(figure)


def test_unknown_pages_and_missing_results(tmp_path, capsys):
    assert cli.main(["bench", "page", "cpu", "--out", str(tmp_path)]) == 2
    assert "cpu.json does not exist" in capsys.readouterr().err
    with pytest.raises(ArgumentError):
        ops.chosen(SimpleNamespace(only="nothing", family=None))
