"""The reliability scorecard: what minigen promises under faults and bad input, and whether it keeps it here and now.

    minigen check --faults                 all rows, with the budgets of the default tests or a little more
    minigen check --faults --full          with the real budgets: an hour
    minigen check --faults --rows 1,3,10   these rows

Each row stands in a file of this folder, as a function (count, seed) -> Finding. The tests call the same functions
with small counts.
"""

import argparse
import importlib
import sys
import time
import traceback

from .score import Finding

__all__ = ["Finding", "main"]

# row, what is done, [(file, function, count by default, count with --full)]; * marks what the default tests run too
ROWS = [
    ("1*", "SIGKILL while saving", [("kills", "kills", 300, 1000)]),
    (
        "2",
        "the Nth system call fails",
        [("disk", "failing_calls", None, None), ("disk", "file_size_limit", 6, 6), ("disk", "kernel_errors", 13, 13)],
    ),
    (
        "3*",
        "bad checkpoints",
        [("files", "truncations", None, None), ("files", "hostile", None, None), ("files", "mutations", 10**5, 10**6)],
    ),
    ("4", "other readers", [("readers", "spoilt_files", 3000, 60000)]),
    ("5*", "wrong arguments", [("arguments", "wrong_calls", None, None)]),
    ("6*", "NaN or Inf", [("anomaly", "bad_numbers", None, None)]),
    ("7", "memory runs out", [("memory", "exhaustion", 12, 50)]),
    ("8", "Ctrl-C", [("interrupt", "interrupts", 10, 100), ("interrupt", "lessons", 5, 100)]),
    ("9", "a dead rank", [("ranks", "ended", 1, 10)]),
    ("10*", "resume", [("resume", "every_pair", None, None)]),
    ("11*", "no network", [("network", "no_connection", None, None)]),
    ("12*", "bad downloads", [("suite", "downloads", None, None)]),
    ("13*", "hostile archives", [("suite", "archives", None, None)]),
    ("14*", "kernel cache", [("suite", "kernel_cache", None, None)]),
    (
        "16",
        "soak",
        [("memory", "flat", 200, 200), ("memory", "deep", 100_000, 100_000), ("memory", "soak", 50_000, 10**6)],
    ),
    ("17*", "supply chain", [("supply", "banned_code", None, None)]),
    ("18", "tests that cannot fail", [("mutants", "survivors", 5, 100)]),
    (
        "19*",
        "no Numba; other Pythons",
        [("determinism", "without_numba", None, None), ("determinism", "oldest_and_newest_python", None, None)],
    ),
    (
        "bits",
        "determinism",
        [
            ("determinism", "same_bits", None, None),
            ("determinism", "same_numbers", None, None),
            ("ranks", "same_losses", None, None),
        ],
    ),
]


def main(argv=None):
    """Run the scorecard and print it, a line for each check. Returns 0 if nothing failed, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="minigen check --faults", description="the reliability scorecard")
    parser.add_argument("--full", action="store_true", help="the real budgets: about an hour")
    parser.add_argument("--rows", default="", help="only these rows, for example 1,3,10")
    parser.add_argument("--seed", type=int, default=0, help="another seed finds other mutations")
    options = parser.parse_args(argv)
    wanted = {row.strip("* ") for row in options.rows.split(",") if row.strip()}
    unknown = wanted - {row.strip("*") for row, _, _ in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    failed = open_ = 0
    for row, title, checks in ROWS:
        if wanted and row.strip("*") not in wanted:
            continue
        for file, function, count, full in checks:
            start = time.perf_counter()
            print(f"{row:>4}  {title:24}", end="", flush=True)
            finding = _checked(file, function, full if options.full else count, options.seed)
            word = {True: "pass", False: "FAIL", None: "open"}[finding.passed]
            print(f"  {word}  {time.perf_counter() - start:6.1f} s  {finding.text}", flush=True)
            failed += finding.passed is False
            open_ += finding.passed is None
    print(f"\n{failed} failed, {open_} open (not checkable on this machine)")
    return 1 if failed else 0


def _checked(file, function, count, seed):
    try:
        return getattr(importlib.import_module(f".{file}", __name__), function)(count, seed)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Finding(False, f"the check itself broke: {type(error).__name__}: {error}  ({where.name}:{where.lineno})")
