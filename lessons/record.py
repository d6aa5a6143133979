"""Record a lesson: run it over several seeds, and keep the bands of its proofs, its text and its figures.

    python lessons/10_vae.py --record                 # seeds 0 to 5, as usual and --quick: some minutes
    python lessons/10_vae.py --record --seeds 12      # seeds 0 to 11
    python lessons/10_vae.py --record --seeds 12-17   # these six as well; what is recorded stays

writes expected/10_vae.json (values by seed, bands, costs, commit, time, machine, versions, and what each cell printed)
and the figures of seed 0 in expected/10_vae/. Every run is a process of its own, so times and memory are its own too.
Values stand in the order of the seeds in "recorded", then of those in "added", each with its own commit and machine.
Add seeds only to a lesson that has not changed since.

Where the values of a proof do not lie evenly about their median, as the rule of the bands supposes, a line says so.
"""

import contextlib
import io
import itertools
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from minigen.errors import ArgumentError, expect

from . import catalogue, proof

MODES = {"standard": [], "quick": ["--quick"]}


def cells(source):
    """The cells of a percent-format script: [(first line, "code" or "markdown", text), ...]."""
    found, lines = [], source.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.startswith("# %%")] + [len(lines)]
    for start, end in itertools.pairwise(starts):
        kind = "markdown" if "[markdown]" in lines[start] else "code"
        found.append((start + 1, kind, "".join(lines[start + 1 : end])))
    return found


def run_cells(path, arguments):
    """Run a lesson cell by cell with these command-line arguments; return its proofs, costs and what was printed."""
    from .lesson import Lesson

    source = Path(path).read_text(encoding="utf-8")
    sys.argv = [str(path), *arguments]
    names, printed, lesson = {"__name__": "__main__"}, [], None
    for first, kind, text in cells(source):
        if kind == "markdown":
            continue
        before = len(lesson.figures) if lesson else 0
        screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)  # as a terminal that has blocks
        with contextlib.redirect_stdout(screen):
            exec(compile("\n" * first + text, str(path), "exec"), names)
        said = screen.buffer.getvalue().decode()
        lesson = next(value for value in names.values() if isinstance(value, Lesson))
        figures = [{"file": shown.name, "caption": caption} for _, caption, shown in lesson.figures[before:]]
        if said or figures:
            said = re.sub(r"(?m)^  figure  .*\n|   figures in .*", "", said)
            printed.append({"line": first, "text": said, "figures": figures})
    proofs = {
        p.name: {"unit": p.unit, "value": p.ours, "line": p.line(), "own": judged_alone(p)} for p in lesson.proofs
    }
    return {"proofs": proofs, "costs": lesson.costs(), "cells": printed}


def judged_alone(proof):
    """Whether a proof needs no recorded band: theory gives one, or a bound is all there is to say."""
    return bool(proof.band) or proof.at_most is not None


def run_apart(path, arguments, judged=False):
    """`run_cells` in a process of its own. Its progress goes to the terminal, its figures to `--out`."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = [str(path), str(result), "judged" if judged else "noted", *arguments]
        subprocess.run([sys.executable, "-m", "minigen.lessons.record", *words], check=True)
        return json.loads(result.read_text(encoding="utf-8"))


def record(name, seeds):
    """Record a lesson in both modes, over seeds 0 to `seeds` - 1, or with a range of further seeds. Returns 0.

    Raises ArgumentError for too few seeds, and for further ones where nothing is recorded, or these are already.
    """
    path = catalogue.find(name)
    folder = path.parent / "expected"
    target = folder / f"{name}.json"
    adding = isinstance(seeds, range)
    seeds = seeds if adding else range(seeds)
    now = {"seeds": spelled(seeds), **circumstances(path.parent)}
    if adding:
        kept = opened(target, seeds)
        kept["added"] = [*kept.get("added", []), now]
    else:
        enough = len(seeds) >= proof.LEAST_SEEDS
        expect(enough, f"--seeds: a band needs {proof.LEAST_SEEDS} seeds, not {len(seeds)}", error=ArgumentError)
        kept = {"lesson": name, "how": proof.HOW, "recorded": now}
    with tempfile.TemporaryDirectory() as out:
        for mode, flags in MODES.items():
            earlier, runs = kept.get(mode, {}), []
            for seed in seeds:
                runs.append(run_apart(path, [*flags, "--seed", str(seed), "--out", out]))
                same = not earlier or set(earlier["proofs"]) == set(runs[-1]["proofs"])
                expect(same, f"{name} has other proofs than those recorded", error=ArgumentError, hint="record it anew")
                print(f"{name} {mode} seed {seed}: {runs[-1]['costs']['seconds']} s", flush=True)
            kept[mode] = summary(runs, earlier)
        write(target, kept)
        # Once more with the bands in place: the text and the figures that the book shows.
        kept["cells"] = run_apart(path, ["--seed", "0", "--out", out], judged=True)["cells"]
        write(target, kept)
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(Path(out) / name, folder / name)
    print("\n".join([f"wrote {target} and {folder / name}/", *remarks(kept)]))
    return 0


def opened(target, seeds):
    """What is recorded in `target`, to which `seeds` may be added."""
    there = target.exists()
    expect(there, f"--seeds {spelled(seeds)} adds to what is recorded, and nothing is", error=ArgumentError,
           hint="record the first ones: --record --seeds 6")  # fmt: skip
    kept = json.loads(target.read_text(encoding="utf-8"))
    kept["recorded"].setdefault("seeds", spelled(range(kept["standard"]["seeds"])))  # older files do not say
    twice = sorted(set(seeds) & set(recorded_seeds(kept)))
    expect(not twice, f"--seeds {spelled(seeds)}: recorded already: {', '.join(map(str, twice))}", error=ArgumentError)
    return kept


def recorded_seeds(kept):
    """The seeds behind the values that are kept, in their order."""
    spans = [batch["seeds"].split("-") for batch in [kept["recorded"], *kept.get("added", [])]]
    return [seed for span in spans for seed in range(int(span[0]), int(span[1]) + 1)]


def spelled(seeds):
    return f"{seeds[0]}-{seeds[-1]}"


def summary(runs, earlier=None):
    """Values by seed, their bands, and the costs of one mode: those of an `earlier` summary, then those of the runs."""
    earlier = earlier or {"seeds": 0, "proofs": {}, "costs": {}}
    proofs = {}
    for name, first in runs[0]["proofs"].items():
        before = earlier["proofs"][name]["values"] if earlier["proofs"] else []
        values = before + [run["proofs"][name]["value"] for run in runs]
        proofs[name] = {"unit": first["unit"], "values": values}
        if not first["own"]:  # a band from theory needs no recording
            proofs[name]["band"] = [rounded(x) for x in proof.band_of(values)]
    costs = {key: earlier["costs"].get(key, []) + [run["costs"][key] for run in runs] for key in runs[0]["costs"]}
    return {"seeds": earlier["seeds"] + len(runs), "proofs": proofs, "costs": costs}


def remarks(kept):
    """A line for each proof whose values lie unevenly about their median."""
    seeds = recorded_seeds(kept)
    proofs = [(mode, *item) for mode in MODES for item in kept[mode]["proofs"].items() if "band" in item[1]]
    found = [(mode, claim, proof.skew_of(made["values"], seeds)) for mode, claim, made in proofs]
    return [f"skewed: {claim} ({mode}): {skew}" for mode, claim, skew in found if skew]


def rounded(x):
    """`x` to eight significant digits, so that the file can be read."""
    return float(f"{x:.8g}")


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def circumstances(folder):
    """When, from which commit, on which machine and with which versions."""

    def git(*words):
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    versions = {"python": platform.python_version()}
    for package in ("minigen", "numpy", "numba", "matplotlib"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.platform(), "processor": processor(), "cores": cores()},
        "versions": versions,
    }


def processor():
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return found.group(1)
    return platform.processor() or platform.machine()


def cores():
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    from minigen.lessons.lesson import Lesson as _Lesson

    _path, _result, _how, *_arguments = sys.argv[1:]
    _Lesson.recording = _how == "noted"
    write(Path(_result), run_cells(_path, _arguments))
