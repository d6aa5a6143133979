"""Every lesson: runs, is recorded, has exercises with right solutions, and opens as a notebook."""

import json
from pathlib import Path

import numpy as np
import pytest

from minigen.lessons import catalogue, proof, workbook
from minigen.tensor import Tensor

FOLDER = Path(__file__).resolve().parents[2] / "lessons"
LESSONS = list(catalogue.lessons(FOLDER))
EXERCISES = [
    (path.stem, k)
    for path in sorted((FOLDER / "exercises").glob("*.py"))
    for k in workbook.exercises(path.stem, FOLDER)[0]
]


@pytest.mark.parametrize("name", LESSONS)
def test_quick(name, quick_run):
    """The script ends well, states proofs that pass, and draws."""
    status, said, errors, figures = quick_run(name)
    assert status == 0, said[-3000:] + errors[-3000:]
    proofs = [line for line in said.splitlines() if line.startswith("PROOF")]
    assert len(proofs) >= 2 and all("   pass" in line for line in proofs)
    assert len(list(figures.glob("*.png"))) >= 3
    assert "time " in said.splitlines()[-2]


@pytest.mark.parametrize("name", LESSONS)
def test_its_bands_come_from_recorded_seeds(name):
    kept = json.loads((FOLDER / "expected" / f"{name}.json").read_text(encoding="utf-8"))
    assert kept["how"] == proof.HOW and {"commit", "time", "machine", "versions"} <= set(kept["recorded"])
    for mode in ("standard", "quick"):
        assert kept[mode]["seeds"] >= proof.LEAST_SEEDS
        for found in kept[mode]["proofs"].values():
            assert len(found["values"]) == kept[mode]["seeds"]
            if "band" in found:
                assert found["band"] == pytest.approx(proof.band_of(found["values"]), rel=1e-6)
    figures = [figure["file"] for cell in kept["cells"] for figure in cell["figures"]]
    assert figures and all((FOLDER / "expected" / name / file).exists() for file in figures)


@pytest.mark.parametrize("name, k", EXERCISES)
def test_the_solution_is_right(name, k, capsys):
    assert workbook.run(name, k, solution=True, folder=FOLDER) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name, k", EXERCISES)
def test_the_stub_is_not(name, k, capsys):
    assert workbook.run(name, k, folder=FOLDER) == 1
    said = capsys.readouterr().out
    assert "not solved yet" in said and "hint: " in said


def spoilt(answer):
    """The right answer, a little off."""

    def off(x):
        if isinstance(x, tuple):
            return tuple(off(part) for part in x)
        if isinstance(x, list):
            return x[::-1]
        if isinstance(x, (int, float, np.ndarray, np.generic, Tensor)) and not isinstance(x, bool):
            return x * 1.05 + 0.01
        return x

    return lambda *args, **kwargs: off(answer(*args, **kwargs))


@pytest.mark.parametrize("name, k", EXERCISES)
def test_a_spoilt_solution_is_not_either(name, k, capsys):
    import runpy

    exercises, path = workbook.exercises(name, FOLDER)
    answers = runpy.run_path(str(FOLDER / "solutions" / path.name))
    wrong = spoilt(answers[exercises[k].answer.__name__])
    wrong.__name__ = exercises[k].answer.__name__
    assert not exercises[k](wrong)
    assert "hint: " in capsys.readouterr().out


@pytest.mark.parametrize("name", LESSONS)
def test_three_to_five_exercises_one_of_which_breaks_something(name):
    titles = [one.title for one in workbook.exercises(name, FOLDER)[0].values()]
    assert 3 <= len(titles) <= 5 and any(title.startswith("Break it and see") for title in titles)


@pytest.mark.parametrize("name", LESSONS)
def test_the_index_has_it(name):
    title, question = catalogue.opening(FOLDER / f"{name}.py")
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"[{title}]({name}.py)" in index and question.endswith(("?", "."))


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*/*.py")) + [FOLDER / f"{n}.py" for n in LESSONS], ids=lambda p: p.name
)
def test_it_needs_no_file_of_its_own(path):
    """A notebook has no `__file__`."""
    assert "__file__" not in path.read_text(encoding="utf-8")


NOTEBOOKS = [FOLDER / f"{name}.py" for name in LESSONS] + sorted((FOLDER / "exercises").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_round_trip_through_a_notebook_changes_nothing(path):
    jupytext = pytest.importorskip("jupytext")
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    kept = jupytext.reads(jupytext.writes(notebook, fmt="ipynb"), fmt="ipynb")
    assert (
        jupytext.writes(kept, fmt={"extension": ".py", "format_name": "percent", "notebook_metadata_filter": "-all"})
        == text
    )
