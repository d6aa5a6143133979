"""minigen and PyTorch take turns, each measurement in a process of its own.

Two libraries in one process would share threads, memory and caches, and the second would find them as the first left
them. So every measurement is `python -m minigen bench SUITE ... --side SIDE --json`: a process that measures one side
and prints one line of JSON. The sides alternate, and the order within a pair is reversed every turn, so that a machine
that slows down slows down both.

Every such process gets the same threads for every library, and none of OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE: some
machines preset an older core there, which halves the products.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np

from ..errors import MinigenError

SIDES = ("minigen", "torch")
CLEARED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ALONE = "PyTorch is not installed, so minigen stands alone here; `pip install torch` puts PyTorch's side beside it."


class BenchFailed(MinigenError):
    """A process that was to measure one side did not come to its end."""


def add_arguments(parser, seconds, turns=3):
    """The options that suites of two sides have in common."""
    parser.add_argument("--side", choices=SIDES, help="only this side")
    parser.add_argument("--seconds", type=positive, default=seconds, help=f"how long to time, each turn ({seconds})")
    parser.add_argument("--turns", type=count, default=turns, help=f"how often the sides take turns ({turns})")
    parser.add_argument("--threads", type=count, default=min(2, os.cpu_count() or 1), help="of every library (2)")
    add_output_arguments(parser)


def add_output_arguments(parser):
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--out", metavar="DIR", help="where the JSON and the figure go (out/bench, if all is measured)")


def positive(text):
    """A number of seconds, for argparse."""
    seconds = float(text)
    if not 0 <= seconds < 3600:
        raise ValueError
    return seconds


def count(text):
    """A number of things, at least one, for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def environment(threads, **more):
    """The environment of every process that measures."""
    clean = {key: value for key, value in os.environ.items() if key not in CLEARED}
    return {**clean, **dict.fromkeys(THREADS, str(threads)), **more}


def is_clean(threads):
    """Whether this process has that environment. If not it is too late: BLAS chose its core as NumPy was imported."""
    return not any(name in os.environ for name in CLEARED) and all(os.environ.get(n) == str(threads) for n in THREADS)


def installed_sides():
    """Both sides, or minigen alone where PyTorch is not installed."""
    return SIDES if importlib.util.find_spec("torch") is not None else SIDES[:1]


def library(side, threads):
    """The library of a side, with its own way of limiting threads. Raises BenchFailed where PyTorch is missing."""
    if side == "minigen":
        found = importlib.import_module("minigen")
        found.kernels.find(np.zeros(1, np.float32), "blas")  # Numba with it: the library, not the model's memory
        return found
    if "torch" not in installed_sides():
        raise BenchFailed("--side torch: PyTorch is not installed\n  pip install torch (it is never needed otherwise)")
    found = importlib.import_module("torch")
    found.set_num_threads(threads)
    return found


def circumstances(side, found):
    """What this side runs on: {"version": ..., "core": the processor type its products are written for}."""
    if side == "torch":
        return {"version": found.__version__, "core": found.backends.cpu.get_cpu_capability()}
    blas = found.kernels.find(np.zeros(1, np.float32), "blas")
    core = "no kernels: definitions on NumPy's BLAS" if blas is None else blas.describe()
    return {"version": found.__version__, "core": core}


def load():
    """How many processes wanted a processor in the minute before now; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def measured(suite, arguments, threads, **more):
    """Run `minigen bench SUITE ARGUMENTS --json` in a process of its own. Returns what it printed, as a dictionary."""
    command = [sys.executable, "-m", "minigen", "bench", suite, *arguments, "--threads", str(threads), "--json"]
    done = subprocess.run(command, env=environment(threads, **more), capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        what = (done.stderr.strip() or done.stdout.strip() or "it printed nothing")[-2000:]
        raise BenchFailed(f"`minigen bench {' '.join([suite, *arguments])}` ended with {done.returncode}\n{what}")
    return json.loads(lines[-1])


def measured_lines(suite, arguments, threads, seconds):
    """Run such a process for at most so many seconds. Returns its lines, as dictionaries, and a fault or None."""
    command = [sys.executable, "-m", "minigen", "bench", suite, *arguments, "--threads", str(threads), "--json"]
    try:
        done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if late.stdout else ""
        output, fault = output[: output.rfind("\n") + 1], "time ran out"  # its last line may be cut
    else:
        last = (done.stderr.strip() or "it printed nothing").splitlines()[-1]
        output, fault = done.stdout, f"ended with {done.returncode}: {last}" if done.returncode else None
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")], fault


def take_turns(suite, arguments, options):
    """{side: [what each turn measured]}, the sides alternating."""
    sides = (options.side,) if options.side else installed_sides()
    results = {side: [] for side in sides}
    for turn in range(options.turns):
        for side in sides[:: 1 if turn % 2 == 0 else -1]:
            given = [*arguments, "--side", side, "--seconds", str(options.seconds)]
            results[side].append(measured(suite, given, options.threads))
    return results


def one_side(suite, arguments, options, measure):
    """Print what `measure()` finds for one side, in the environment that every measurement has."""
    if is_clean(options.threads):
        found = measure()
    else:
        given = [*arguments, "--side", options.side, "--seconds", str(options.seconds)]
        found = measured(suite, given, options.threads)
    print(json.dumps(found) if options.json else "\n".join(f"{key:14s} {value}" for key, value in found.items()))
    return 0
