"""Starting: what an import costs, and what the first run costs on a machine that has compiled no kernels yet.

    import NAME     seconds of `import`, in a process of its own; for "minigen, kernels" with Numba, which comes in
                    with the first kernel
    step NAME       from `import minigen` to the end of the first training step of a workload of `minigen bench cpu`
    lesson NAME     a whole run of a lesson with --quick

Steps and lessons run twice with a kernel cache of their own: `cold` with the cache empty, `warm` right after. What the
cold run takes longer is compiling, and the files in the cache are the kernels compiled: those that the run used.
"""

import fnmatch
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .. import jsonfile
from ..errors import ArgumentError
from . import cpu, sides, table

IMPORTS = {
    "numpy": "import numpy",
    "minigen": "import minigen",
    "minigen, kernels": "import minigen; minigen.kernels.find(minigen.zeros(1).data, 'blas')",
    "torch": "import torch",
}
TARGETS = {"import minigen": ("warm", 0.3), "step vae": ("cold", 5.0), "lesson 02_autograd": ("warm", 3.0)}  # seconds
CLOCK = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def arguments(parser):
    parser.add_argument("--only", metavar="PATTERN", default="*", help='names that fit, for example "lesson 0*"')
    parser.add_argument("--turns", type=sides.count, default=7, help="how often each import is timed (7)")
    parser.add_argument("--threads", type=sides.count, default=min(2, os.cpu_count() or 1), help="of every process")
    sides.add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(options):
    wanted = [name for name in names() if fnmatch.fnmatch(name, options.only)]
    if not wanted:
        raise ArgumentError(f"start: nothing is called {options.only!r}\n  there are: {', '.join(names())}")
    rows, load = [], sides.load()
    for name in wanted:
        kind, _, what = name.partition(" ")
        rows.append({"name": name, "target": TARGETS.get(name), **KINDS[kind](what, options)})
        print(f"{name:24s} {rows[-1]['warm_s']:.2f} s", file=sys.stderr, flush=True)
    found = table.document("start", "Starting", options, load, rows)
    found["notes"] = NOTES
    if options.json:
        print(jsonfile.json_bytes(found).decode(), end="")
    else:
        table.show(found, tables(found))
    if options.only == "*" or options.out:
        for path in table.save(found, options.out or table.FOLDER):
            print(f"saved {path}", file=sys.stderr)
    return 0 if all(each.get("status", 0) == 0 for each in rows) else 1


def names():
    """What there is to measure."""
    from ..lessons import catalogue

    found = [f"import {name}" for name in IMPORTS if importlib.util.find_spec(name.partition(",")[0])]
    return found + [f"step {name}" for name in cpu.WORKLOADS] + [f"lesson {name}" for name in catalogue.lessons()]


def time_import(what, options):
    """{"warm_s": the median}, of processes that each import once; one before them warms the system's file cache."""
    command = [sys.executable, "-c", CLOCK.format(IMPORTS[what])]
    times = []
    for _ in range(options.turns + 1):
        done = subprocess.run(
            command, env=sides.environment(options.threads), capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout))
    return {"warm_s": statistics.median(times[1:]), "measurements": times[1:]}


def time_step(workload, options):
    """A first training step with an empty kernel cache, and with a full one."""

    def once(cache):
        given = ["--workload", workload, "--side", "minigen", "--seconds", "0"]
        found = sides.measured("cpu", given, options.threads, MINIGEN_CACHE=cache)
        return {"s": found["import_s"] + found["first_step_s"]}

    return cold_and_warm(once)


def time_lesson(lesson, options):
    """A lesson with an empty kernel cache, and with a full one."""

    def once(cache):
        command = [sys.executable, "-m", "minigen", "run", lesson, "--quick", "--no-progress", "--out", cache]
        busy, start = processor_seconds(), time.perf_counter()
        done = subprocess.run(
            command, env=sides.environment(options.threads, MINIGEN_CACHE=cache), capture_output=True, text=True
        )
        found = {"s": time.perf_counter() - start, "processor_s": processor_seconds() - busy}
        if done.returncode:
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            print(f"{lesson}: ended with {done.returncode}: {last}", file=sys.stderr)
        return {**found, "status": done.returncode}

    return cold_and_warm(once)


KINDS = {"import": time_import, "step": time_step, "lesson": time_lesson}


def cold_and_warm(once):
    """What `once(cache)` measures with an empty kernel cache and again with what that left, and how many kernels."""
    with tempfile.TemporaryDirectory(prefix="minigen-bench-") as cache:
        cold = once(cache)
        kernels = len(list(Path(cache, "kernels").rglob("*.bin")))
        warm = once(cache)
    found = {f"{when}_{key}": value for when, its in (("cold", cold), ("warm", warm)) for key, value in its.items()}
    found["status"] = found.pop("cold_status", 0) or found.pop("warm_status", 0)
    return {**found, "kernels": kernels}


def processor_seconds():
    """Processor time of all child processes that have ended."""
    its = os.times()
    return its.children_user + its.children_system


def tables(found):
    """The tables of a document of this suite."""
    imports, runs = [], []
    for each in found["rows"]:
        warm, verdict = each["warm_s"], ["-", "-"]
        if each["target"] is not None:
            when, most = each["target"]
            verdict = [f"{when} {most:.1f}", "met" if each[f"{when}_s"] <= most else "missed"]
        if "cold_s" not in each:
            imports.append([each["name"], f"{warm:.3f}", *verdict])
            continue
        cells = [f"{each['cold_s']:.1f}", f"{warm:.2f}", f"{each['cold_s'] - warm:.1f}", str(each["kernels"])]
        if "warm_processor_s" in each:
            busy = each["cold_processor_s"] - each["warm_processor_s"], each["warm_processor_s"]
            cells += [f"{busy[0]:.1f}", f"{busy[1]:.2f}"]
        else:
            cells += ["-", "-"]
        runs.append([each["name"] + ("  FAILED" if each["status"] else ""), *cells, *verdict])
    head = ["", "cold s", "warm s", "compiling s", "kernels", "processor s compiling", "warm", "target", "target is"]
    made = [("Imports", ["", "seconds", "target", "target is"], imports), ("The first run", head, runs)]
    return [each for each in made if each[2]]


NOTES = [
    "cold: with an empty kernel cache; warm: once more, with the kernels that the cold run compiled and kept. A step "
    "is from `import minigen` to the end of the first training step; a lesson is its whole run with --quick, Python's "
    "own start included.",
    "Processor seconds are those of all threads: they tell compiling from waiting on a machine that is busy.",
]
