"""What every lesson stands on: flags, proofs that stop a script, exercises, recording, the index."""

import argparse
import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import minigen
from minigen.errors import ArgumentError
from minigen.lessons import Lesson, Wrong, catalogue, close, exercise, record, workbook
from minigen.lessons.lesson import seeds
from minigen.lessons.proof import ProofFailed, band_of
from minigen.random import Generator


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    def make(*arguments, **options):
        monkeypatch.setattr(sys, "argv", ["99_test.py", "--out", str(tmp_path), *arguments])
        return Lesson("99_test", **options)

    return make


def script(tmp_path, body, *arguments, code=None):
    """Run a lesson made of `body` in a folder of lessons of its own."""
    folder = tmp_path / "lessons"
    for name in ("expected", "exercises", "solutions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / "99_test.py"
    path.write_text(textwrap.dedent(body), encoding="utf-8")
    words = [sys.executable, str(path), "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=None)
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done


SMALL = """
# %% [markdown]
# # 99. A test
#
# Does it work? Yes.

# %%
from minigen.lessons import Lesson

lesson = Lesson("99_test")
print("hello")

# %%
with lesson.figure("line", "A line.") as axes:
    axes.plot([1, 2])

# %%
x = 10 + 0.1 * float(lesson.generator.normal(())) + (5 if lesson.quick else 0)
lesson.proof("x", x, "units", floor=(20, "a guess"), optimum=(0, "exact"))
lesson.end()
"""


# Flags


def test_seeds_and_sizes(lesson):
    one, two, other = lesson("--seed", "3"), lesson("--seed", "3"), lesson("--quick")
    assert one.generator.normal(()) == two.generator.normal(())
    assert one.pick(100, quick=5) == 100 and other.pick(100, quick=5) == 5
    assert lesson("--full").pick(100, quick=5, full=1000) == 1000
    assert lesson("--full").pick(100, quick=5) == 100


def test_an_unknown_flag_is_answered(lesson, capsys):
    with pytest.raises(SystemExit) as exit:
        lesson("--quik")
    assert exit.value.code == 2 and "did you mean --quick" in capsys.readouterr().err


def test_a_notebook_kernels_arguments_are_ignored(monkeypatch, tmp_path):
    import builtins

    monkeypatch.setitem(sys.modules, "ipykernel", minigen)
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    assert Lesson("99_test").seed == 0


def test_data_that_are_not_there(lesson):
    with pytest.raises(ArgumentError, match="no such file or folder"):
        lesson("--data", "nowhere", uses=("data",))


def test_what_a_lesson_does_not_use_is_said(lesson, capsys, tmp_path):
    lesson("--data", str(tmp_path), "--full", uses=("full",))
    said = capsys.readouterr().out
    assert "no use of --data" in said and "no use of --full" not in said


@pytest.mark.skipif(minigen.cuda_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there(lesson):
    with pytest.raises(ArgumentError, match="no GPU here"):
        lesson("--device", "cuda", uses=("device",))


# Proofs and figures


def test_a_failed_proof_raises_and_two_of_one_name_are_refused(lesson):
    made = lesson()
    made.proof("good", 1.0, at_most=2)
    with pytest.raises(ArgumentError, match="there already"):
        made.proof("good", 1.0, at_most=2)
    with pytest.raises(ProofFailed, match="seed 0"):
        made.proof("bad", 3.0, at_most=2)


def test_a_failed_proof_ends_a_script_with_1(tmp_path):
    done = script(tmp_path, SMALL.replace("floor=(20", "floor=(5"), code=1)
    assert "FAIL: does not beat the floor" in done.stdout


def test_figures_pictures_tables_and_costs(lesson, capsys, tmp_path):
    made = lesson()
    with made.figure("curve", "A curve.") as axes:
        axes.plot([1, 2, 3])
    made.images("pictures", "Noise.", made.generator.uniform((12, 8, 8)), columns=4)
    made.table(["name", "value"], [["one", 1.0], ["two", 0.123456]])
    made.report("mean of", [1.0, 2.0, 3.0], truth=2.0)
    made.spend(2e9)
    made.end()
    said = capsys.readouterr().out
    for words in ("curve.png", "0.1235", "mean 2 +- 0.6", "truth 2", "2.0e+09", "time"):
        assert words in said
    assert {path.name for path in (tmp_path / "99_test").iterdir()} == {"curve.png", "pictures.png"}


# Exercises


def checked(answer, hint="try again"):
    def square(x):
        raise NotImplementedError

    @exercise(1, square, hint=hint)
    def check(answer):
        "Squares"
        close(answer(3.0), 9.0, "3 squared")

    return check(answer or square)


def no_answer(x):
    return None


def a_crash(x):
    return x / 0


@pytest.mark.parametrize(
    "answer, words",
    [
        (None, "not solved yet"),
        (no_answer, "is there a `return`?"),
        (lambda x: x + 1, "got 4, it should be 9"),
        (a_crash, "ZeroDivisionError"),
        (lambda x: float("nan"), "got nan"),
        (lambda x: [9.0], "the shape is (1,)"),
    ],
)
def test_a_wrong_answer_fails_with_a_hint(answer, words, capsys):
    assert not checked(answer)
    said = capsys.readouterr().out
    assert words in said and "hint: try again" in said


def test_a_right_answer_passes(capsys):
    assert checked(lambda x: minigen.tensor(x * x))
    assert "right." in capsys.readouterr().out


def test_close_says_where():
    with pytest.raises(Wrong, match=r"at \(1,\), it should be 2"):
        close(np.array([1.0, 2.5]), np.array([1.0, 2.0]), "two numbers")


def test_exercises_from_the_command_line(tmp_path):
    script(tmp_path, SMALL)
    folder = tmp_path / "lessons"
    (folder / "exercises" / "99_test.py").write_text(
        textwrap.dedent("""
        from minigen.lessons import close, exercise
        def double(x):
            raise NotImplementedError
        @exercise(1, double, hint="add it to itself")
        def check(answer):
            "Twice as much"
            close(answer(2.0), 4.0, "twice 2")
        """)
    )
    (folder / "solutions" / "99_test.py").write_text("def double(x):\n    return x + x\n")
    unsolved = script(tmp_path, SMALL, "--exercise", "1", code=1)
    assert "add it to itself" in unsolved.stdout and "hello" not in unsolved.stdout
    assert "99_test.py" in unsolved.stdout
    script(tmp_path, SMALL, "--exercise", "1", "--solution", code=0)
    assert "Twice as much" in script(tmp_path, SMALL, "--exercise", "0", code=2).stdout


# Recording


def recorded(tmp_path):
    return json.loads((tmp_path / "lessons" / "expected" / "99_test.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def five_seeds(tmp_path_factory):
    """SMALL, recorded over seeds 0 to 4: a folder to copy."""
    folder = tmp_path_factory.mktemp("recorded")
    script(folder, SMALL, "--record", "--seeds", "5", code=0)
    return folder


def test_recording_keeps_bands_text_figures_and_circumstances(five_seeds, tmp_path):
    shutil.copytree(five_seeds, tmp_path, dirs_exist_ok=True)
    folder, kept = tmp_path / "lessons" / "expected", recorded(tmp_path)
    for mode, centre in (("standard", 10), ("quick", 15)):
        low, high = kept[mode]["proofs"]["x"]["band"]
        assert low < centre < high and len(kept[mode]["proofs"]["x"]["values"]) == 5
        assert len(set(kept[mode]["proofs"]["x"]["values"])) == 5
    assert {"commit", "time", "machine", "versions"} <= set(kept["recorded"]) and "99.9%" in kept["how"]
    assert kept["cells"][0]["text"].strip().endswith("hello")
    assert kept["cells"][1]["figures"] == [{"file": "line.png", "caption": "A line."}]
    assert (folder / "99_test" / "line.png").exists()
    assert "pass" in kept["cells"][-1]["text"]
    # From now on a number outside the band fails.
    script(tmp_path, SMALL, "--seed", "77", code=0)
    script(tmp_path, SMALL.replace("x = 10", "x = 13"), code=1)


def test_further_seeds_are_added_to_those_recorded(five_seeds, tmp_path):
    shutil.copytree(five_seeds, tmp_path, dirs_exist_ok=True)
    first = recorded(tmp_path)
    script(tmp_path, SMALL, "--record", "--seeds", "7-8", code=0)
    both = recorded(tmp_path)
    assert both["recorded"] == first["recorded"] and both["recorded"]["seeds"] == "0-4"
    (added,) = both["added"]
    assert added["seeds"] == "7-8" and {"commit", "time", "machine", "versions"} <= set(added)
    assert record.recorded_seeds(both) == [0, 1, 2, 3, 4, 7, 8]
    for mode in ("standard", "quick"):
        before, after = first[mode]["proofs"]["x"], both[mode]["proofs"]["x"]
        assert both[mode]["seeds"] == 7 and after["values"][:5] == before["values"]
        assert after["band"] == pytest.approx(band_of(after["values"]), rel=1e-6) != before["band"]
        assert {len(costs) for costs in both[mode]["costs"].values()} == {7}
        dice = [Generator(seed).normal(()) for seed in (7, 8)]
        assert after["values"][5:] == pytest.approx([10 + 5 * (mode == "quick") + 0.1 * float(x) for x in dice])
    assert [cell["figures"] for cell in both["cells"]] == [cell["figures"] for cell in first["cells"]]
    # What cannot be added is refused, and leaves the file as it is.
    assert "recorded already: 4" in script(tmp_path, SMALL, "--record", "--seeds", "4-6", code=1).stderr
    renamed = SMALL.replace('proof("x"', 'proof("y"')
    assert "record it anew" in script(tmp_path, renamed, "--record", "--seeds", "9-9", code=1).stderr
    assert recorded(tmp_path) == both


def test_seeds_that_cannot_be_recorded(tmp_path):
    assert "nothing is" in script(tmp_path, SMALL, "--record", "--seeds", "6-11", code=1).stderr
    assert "5 seeds, not 4" in script(tmp_path, SMALL, "--record", "--seeds", "4", code=1).stderr


def test_seeds_are_a_number_or_a_range():
    assert seeds("12") == 12 and seeds("12-17") == range(12, 18) and seeds("0-0") == range(1)
    for text in ("0", "-3", "3-", "17-12", "1-2-3", "six", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="neither a number of seeds"):
            seeds(text)


def test_a_skewed_spread_is_said():
    claims = {"kl": {"values": [0.10, 0.11, 0.09, 0.10, 0.16], "band": [0, 1]}, "error": {"values": [0, 0, 0, 0, 9]}}
    even = {"kl": {"values": [1.0, 1.1, 0.9, 1.0, 1.05], "band": [0, 2]}}
    kept = {"recorded": {"seeds": "0-3"}, "added": [{"seeds": "7-7"}], "standard": {"proofs": claims}}
    said = record.remarks(kept | {"quick": {"proofs": even}})
    assert said == ["skewed: kl (standard): seed 7 lies 0.06 above the median, and none more than 0.01 below it"]


def test_cells_are_split_at_their_marks():
    found = record.cells(SMALL)
    assert [kind for _, kind, _ in found] == ["markdown", "code", "code", "code"]
    assert SMALL.splitlines()[found[1][0] - 1] == "# %%"


# The index


@pytest.mark.parametrize("name", ["10", "vae", "10_vae", "10_vae.py", "lessons/10_vae.py", "VAE"])
def test_a_lesson_is_found_by_number_or_name(name):
    assert catalogue.find(name).stem == "10_vae"


def test_a_lesson_that_is_not_there_is_answered():
    with pytest.raises(ArgumentError, match="did you mean 10_vae"):
        catalogue.find("vea")
    with pytest.raises(ArgumentError, match="there are: 01_generative"):
        catalogue.find("qqqqq")


def test_no_exercise_of_that_number(capsys):
    assert workbook.run("10_vae", 99) == 2
    assert "The tighter bound" in capsys.readouterr().out
