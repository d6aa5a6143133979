"""`minigen bench gpu`: ways and sides compared, time shared out, small sizes run on the CPU. No test asserts a time."""

import importlib
import json
import math
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

import minigen
from minigen import cli
from minigen.bench import card, gpu, sides
from minigen.bench.workloads.setting import Setting, training

CARD = {"name": "a card", "capability": "9.0", "memory": "80 GiB", "driver": 12090, "runtime": 12090, "cupy": "14"}
MS = {
    ("minigen", "eager"): 4.0,
    ("minigen", "captured"): 2.0,
    ("torch", "eager"): 10.0,
    ("torch", "graph"): 5.0,
    ("torch", "compiled"): 6.0,
    ("torch", "compiled graph"): 3.0,
    ("torch", "reduce-overhead"): 3.5,
}


def line(side, way, precision="bfloat16", **more):
    """What a side's process prints of one way."""
    found = {"way": way, "precision": precision, "version": "1", "ms": MS[side, way], "loss_first": 5.0}
    found |= {"loss_last": 4.0, "params": 10, "peak_mb": 100.0, "ready_s": 1.0, "ceiling_gflops": 500_000.0}
    found["operations"] = 10**12 if (side, way) == ("minigen", "eager") else None
    return found | more


def pretend(monkeypatch, installed=("minigen", "torch"), change=lambda name, found: found, fault=None):
    """Let there be a card, and no process: every measurement is made up. Returns the calls made."""
    calls = []

    def measured_lines(suite, arguments, threads, seconds):
        name, side, device = (arguments[arguments.index(key) + 1] for key in ("--workload", "--side", "--device"))
        calls.append(SimpleNamespace(name=name, side=side, seconds=seconds, device=device))
        work = gpu.WORKLOADS[name]
        ways = [way for group in work.ways[side] for way in group]
        found = [line(side, way, precision) for precision in work.precisions for way in ways]
        return [change(name, {"side": side, **one}) for one in found], fault

    monkeypatch.setattr(sides, "measured_lines", measured_lines)
    monkeypatch.setattr(sides, "installed_sides", lambda: installed)
    monkeypatch.setattr(gpu, "cuda_available", lambda: True)
    monkeypatch.setattr(gpu, "card_name", lambda device: CARD if device == "cuda" else {})
    return calls


def failed(found, why):
    return {key: found[key] for key in ("way", "precision", "version")} | {"failed": why}


# Without a card


def test_without_a_card_one_sentence_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "cuda_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "gpu"]) == gpu.NOTHING_MEASURED == 3
    printed = capsys.readouterr()
    assert not printed.out and "no GPU is found here" in printed.err and len(printed.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--only", "vea"], "there is no workload 'vea'"),
        (["--only", "vae,gpt3*"], "there is no workload 'gpt3*'"),
        (["--workload", "vea", "--side", "minigen"], "there are: vae, mlp"),
        (["--workload", "vae"], "write --side minigen or --side torch"),
        (["--ways", "egaer"], "there is no way 'egaer'"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(argv, words, capsys):
    assert cli.main(["bench", "gpu", "--device", "cpu", *argv]) == 2
    assert words in capsys.readouterr().err


def test_names_are_chosen_by_patterns():
    assert gpu.chosen("gpt2*,vae") == ["vae", "gpt2_8", "gpt2_16"]
    assert gpu.chosen(None) == list(gpu.WORKLOADS)


# Small sizes on the CPU


def small(name, library, precision="float32"):
    work = gpu.WORKLOADS[name]
    file = importlib.import_module(f"minigen.bench.workloads.{work.file}")
    return card.Model(file, library, "cpu", precision, work)


def checked(name, library, way="eager", precision="float32"):
    return small(name, library, precision).measured(way, card.Card(library, "cpu"), seconds=0)


@pytest.mark.parametrize("name", [name for name in gpu.WORKLOADS if name not in ("vae", "gpt2_8", "dcgan")])
def test_every_workload_runs_on_minigen(name):
    found = checked(name, minigen, "captured" if name.startswith("decode") else "eager")
    assert math.isfinite(found["loss_first"]) and math.isfinite(found["loss_last"]) and found["ms"] > 0
    if gpu.WORKLOADS[name].file not in ("attention", "decoding"):
        assert found["loss_last"] < found["loss_first"]  # some steps of Adam on one batch
        assert found["params"] > 0 and found["operations"] > 0


@pytest.mark.torch
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", gpu.WORKLOADS)
def test_both_sides_compute_the_same(name, precision):
    torch = pytest.importorskip("torch")
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
        if precision not in gpu.WORKLOADS[name].precisions:
            pytest.skip("runs in float32 only")
    ours = checked(name, minigen, "captured" if name.startswith("decode") else "eager", precision)
    theirs = checked(name, torch, precision=precision)
    assert ours["params"] == theirs["params"]
    ways = {"minigen": {(precision, "eager"): ours}, "torch": {(precision, "eager"): theirs}}
    (found,) = gpu.compared(ways, "cpu", gpu.WORKLOADS[name].loosely)
    assert found["agree"], found


@pytest.mark.torch
def test_weights_are_set_back_in_place():
    torch = pytest.importorskip("torch")
    model = small("dcgan", torch)
    before = [p.data_ptr() for network in model.setting.networks for p in network.parameters()]
    first = [model.made().item() for _ in range(3)]
    assert first != [model.made().item() for _ in range(3)]
    model.setting.reset()
    assert [model.made().item() for _ in range(3)] == first
    assert before == [p.data_ptr() for network in model.setting.networks for p in network.parameters()]


@pytest.mark.torch
@pytest.mark.slow
def test_compiled_ways_compute_the_same():
    torch = pytest.importorskip("torch")
    for name in ("mlp", "decode_8"):
        model, own = small(name, torch), card.Card(torch, "cpu")
        eager, compiled = (model.measured(way, own, seconds=0) for way in ("eager", "compiled"))
        assert model.compiled
        assert compiled["loss_last"] == pytest.approx(eager["loss_last"], rel=1e-4)


def test_a_captured_step_computes_the_same():
    for name in ("vae", "mlp"):
        eager, captured = (checked(name, minigen, way) for way in ("eager", "captured"))
        assert captured["loss_last"] == eager["loss_last"]


def test_a_step_is_captured_where_it_runs(monkeypatch):
    monkeypatch.setattr(minigen, "capture", lambda step, device: (step, device))
    model = small("mlp", minigen)
    assert model.ready("captured", SimpleNamespace(device="cuda")) == (model.made, "cuda")


def test_noise_is_given_while_losses_are_checked_and_drawn_otherwise():
    setting = Setting(minigen)
    assert setting.normal(3, 4) is setting.normal(3, 4) and setting.integers(10, 5) is setting.integers(10, 5)
    setting.checking = False
    assert (setting.normal(3, 4).numpy() != setting.normal(3, 4).numpy()).any()
    drawn = setting.integers(10, 500).numpy()
    assert drawn.min() == 0 and drawn.max() == 9


def test_a_step_returns_its_loss_as_a_tensor_and_leaves_no_gradient():
    setting = Setting(minigen)
    network = setting.network(minigen.nn.Linear(3, 1))
    x = setting.put(np.ones((4, 3), np.float32))
    step = training(setting, setting.adam(network, 0.1), lambda: (network(x) ** 2).mean())
    losses = [step() for _ in range(5)]
    assert losses[-1].item() < losses[0].item() and not losses[0].requires_grad
    assert all(p.grad is None for p in network.parameters()) and setting.params == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, params", [("gpt2_8", 124_475_904), ("ddpm", 35_746_307), ("tiny_gpt", 818_048), ("lstm", 37_283_600)]
)
def test_full_sizes(name, params):
    work, setting = gpu.WORKLOADS[name], Setting(minigen)
    importlib.import_module(f"minigen.bench.workloads.{work.file}").on_gpu(setting, **work.sizes | {"batch": 1})
    assert setting.params == params


def test_one_side_in_a_process_of_its_own():
    given = ["--workload", "mlp", "--side", "minigen", "--device", "cpu", "--seconds", "0", "--ways", "eager"]
    (found,), fault = sides.measured_lines("gpu", given, threads=1, seconds=120)
    assert fault is None and found["way"] == "eager" and found["precision"] == "float32"
    assert found["loss_last"] < found["loss_first"] and found["ceiling_gflops"] > 0 and found["peak_mb"] >= 0


def test_a_way_that_fails_leaves_the_others_alone(monkeypatch):
    original = card.Model.ready

    def ready(self, way, own):
        if way == "eager":
            raise RuntimeError("out of something\nand more")
        return original(self, way, own)

    monkeypatch.setattr(card.Model, "ready", ready)
    options = SimpleNamespace(side="minigen", threads=1, device="cpu", ways="eager,captured", seconds=0, minutes=1)
    eager, captured = card.measure(gpu.WORKLOADS["mlp"], options)
    assert eager["failed"] == "RuntimeError: out of something" and captured["loss_first"] > 0
    options.minutes = 0
    assert [found["failed"] for found in card.measure(gpu.WORKLOADS["mlp"], options)] == ["time ran out"] * 2


def test_small_sizes_are_no_measurement(monkeypatch, tmp_path, capsys):
    calls = pretend(monkeypatch, change=lambda name, found: found | {"precision": "float32"})
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "gpu", "--device", "cpu", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "No measurement" in printed and "met" not in printed and "missed" not in printed
    assert not list(tmp_path.iterdir()) and {call.device for call in calls} == {"cpu"}


# Both sides


def test_the_quickest_ways_are_compared(monkeypatch, tmp_path, capsys):
    calls = pretend(monkeypatch)
    assert cli.main(["bench", "gpu", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert [call.name for call in calls[::2]] == list(gpu.WORKLOADS) and len(calls) == 2 * len(gpu.WORKLOADS)
    last = printed[printed.index("Milliseconds") :].splitlines()
    (row,) = [text.split() for text in last if text.startswith("gpt2_8")]
    assert row[:9] == ["gpt2_8", "bfloat16", "4.00", "2.00", "10.0", "5.00", "6.00", "3.00", "3.50"]
    assert row[9:] == ["5.00", "1.50", "1.0", "met"]
    (row,) = [text.split() for text in last if text.startswith("attention")]
    assert row[-4:] == ["5.00", "2.50", "1.0", "met"] and row[6:9] == ["-", "-", "-"]
    rows = [text.split() for text in last if text.startswith("tiny_gpt")]
    assert [row[1] for row in rows] == ["bfloat16", "float32"] and rows[1][-1] == "missed"  # 1.5 of 2.0
    (row,) = [text.split() for text in printed.splitlines() if text.startswith("gpt2_8") and "%" in text]
    assert row == ["gpt2_8", "1000", "100%", "67%", "100", "100"]  # 1 Tflop in 2 ms, of 500 Tflop/s

    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["card"] == CARD and found["versions"] == {"minigen": "1", "torch": "1"}
    assert found["rows"][0]["best"] == {"minigen": ["float32", "captured"], "torch": ["float32", "compiled graph"]}
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "gpu_table.md").read_text()
    assert found["date"][:10] in page and "a card, compute capability 9.0" in page and "CuPy 14" in page
    assert "| decode_1 | bfloat16 | - | 2.00 | 10.0 |" in page

    other = tmp_path / "pages"
    other.mkdir()
    assert cli.main(["bench", "page", "gpu", "--out", str(tmp_path), "--to", str(other)]) == 0
    assert [path.name for path in other.iterdir()] == ["gpu_table.md"]
    assert (other / "gpu_table.md").read_text() == page


def test_a_part_of_it_is_not_saved_unasked(monkeypatch, tmp_path, capsys):
    pretend(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "gpu", "--only", "vae", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["ratio"] == 1.5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key, times, fits", [("loss_first", 1.004, True), ("loss_first", 1.006, False),
                                              ("loss_last", 1.019, True), ("loss_last", 1.03, False),
                                              ("loss_last", math.nan, False)])  # fmt: skip
def test_losses_of_every_way_must_agree(monkeypatch, capsys, key, times, fits):
    def change(name, found):
        off = found["side"] == "minigen" and found["way"] == "captured"
        return found | ({key: found[key] * times} if off else {})

    pretend(monkeypatch, change=change)
    assert cli.main(["bench", "gpu", "--only", "gpt2_8"]) == (0 if fits else 1)
    printed = capsys.readouterr().out
    assert ("NO: minigen captured" in printed) is not fits
    shown = (5.0 if key == "loss_first" else 4.0) * times
    assert f"{shown:.6g}" in printed  # the loss that is farthest off is the one that is shown


def test_what_was_not_measured_is_told(monkeypatch, capsys):
    def change(name, found):
        return failed(found, "time ran out") if "compiled" in found["way"] else found

    pretend(monkeypatch, change=change)
    assert cli.main(["bench", "gpu", "--only", "gpt2_8"]) == 0
    printed = capsys.readouterr().out
    assert "Not measured: gpt2_8, torch compiled: time ran out." in printed
    assert "1.75" in printed  # the best of what is there: reduce-overhead, 3.5 ms


def test_a_side_that_measures_nothing_has_no_ratio(monkeypatch, capsys):
    def change(name, found):
        return failed(found, "RuntimeError: no") if found["side"] == "minigen" else found

    pretend(monkeypatch, change=change)
    assert cli.main(["bench", "gpu", "--only", "vae"]) == 1
    assert "Not measured: vae, minigen eager: RuntimeError: no." in capsys.readouterr().out


def test_without_pytorch_minigen_stands_alone(monkeypatch, capsys):
    pretend(monkeypatch, installed=("minigen",))
    assert cli.main(["bench", "gpu", "--only", "vae"]) == 0
    assert sides.ALONE in " ".join(capsys.readouterr().out.split())


def test_time_is_shared_out_and_what_is_left_goes_on(monkeypatch, capsys):
    calls, clock = pretend(monkeypatch), [0.0]
    original = sides.measured_lines

    def measured_lines(suite, arguments, threads, seconds):
        clock[0] += seconds if seconds > 5 else 1  # every process takes all that it may
        return original(suite, arguments, threads, seconds)

    monkeypatch.setattr(sides, "measured_lines", measured_lines)
    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    cli.main(["bench", "gpu", "--minutes", "9"])
    assert clock[0] <= 9 * 60 + 5 * len(calls)
    first = [call.seconds for call in calls if call.side == "minigen"]
    weights = [work.seconds for work in gpu.WORKLOADS.values()]
    assert first[0] == pytest.approx(540 * weights[0] / sum(weights))
    assert max(first) == first[list(gpu.WORKLOADS).index("ddpm")]


def test_a_process_that_takes_too_long_is_ended_and_its_whole_lines_count(monkeypatch):
    def run(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("minigen", timeout, output=b'{"way": "eager"}\nnoise\n{"way": "gra')

    monkeypatch.setattr(subprocess, "run", run)
    assert sides.measured_lines("gpu", [], 1, 3) == ([{"way": "eager"}], "time ran out")


def test_a_process_that_fails_is_told_with_its_last_words():
    lines, fault = sides.measured_lines("gpu", ["--device", "cpu", "--workload", "vea", "--side", "minigen"], 1, 60)
    assert lines == [] and fault.startswith("ended with 2") and "there are: vae" in fault
