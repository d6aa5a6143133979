"""Training steps on the CPU: minigen beside PyTorch eager with its fused Adam.

A workload is one file in `workloads/`, written once against names that both libraries have, so that both sides run
the same lines: the same model, initial weights, batch, noise and optimiser. Each side first takes 20 checked steps
with given noise, whose first and last losses are reported and must agree; then it is timed, drawing its own noise.

What is timed is a whole step as a user writes it: zero_grad, loss, backward, step, loss.item(). OPENBLAS_CORETYPE
and OPENBLAS_L2_SIZE are cleared for both sides: some machines preset an older core, which halves the products.
"""

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time

WORKLOADS = ("vae", "gpt", "lstm", "ddpm", "pixelcnn", "realnvp", "dcgan")
SIDES = ("minigen", "torch")
CLEARED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
CHECKED_STEPS = 20
AGREE = 1e-4


def arguments(parser):
    parser.add_argument("--workload", choices=WORKLOADS, help="only this one")
    parser.add_argument("--side", choices=SIDES, help="only this side, in this process")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to time each side, each turn")
    parser.add_argument("--turns", type=int, default=3, help="how often the sides take turns")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true", help="print JSON, one line a measurement")
    parser.set_defaults(run=run)


def run(options):
    if options.side:
        if not options.workload:
            print("bench cpu: --side needs --workload: one side of which training step?", file=sys.stderr)
            return 2
        return _one_side(options)
    return _table(options)


def measure(workload, side, seconds, threads=2):
    """Time one side of one workload in this process: a dictionary with ms_median, loss_first, loss_last, params."""
    library = _library(side, threads)
    step, params = importlib.import_module(f"{__package__}.workloads.{workload}").build(library)
    losses = [step(i) for i in range(CHECKED_STEPS)]
    times = []
    finish = time.perf_counter() + seconds
    while time.perf_counter() < finish or len(times) < 8:
        start = time.perf_counter()
        step(None)
        times.append(time.perf_counter() - start)
    return {
        "workload": workload,
        "side": side,
        "ms_median": round(1e3 * statistics.median(times), 4),
        "ms_min": round(1e3 * min(times), 4),
        "steps": len(times),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "params": params,
        "threads": threads,
        "version": library.__version__,
    }


def _library(side, threads):
    if side == "minigen":
        os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
        return importlib.import_module("minigen")
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise SystemExit(
            "bench: PyTorch is not installed\n  pip install torch (it is never needed otherwise)"
        ) from None
    torch.set_num_threads(threads)
    return torch


def _one_side(options):
    if any(name in os.environ for name in CLEARED):  # too late for this process: BLAS has chosen its core already
        return subprocess.run(_command(options, options.workload, options.side), env=_environment(options)).returncode
    result = measure(options.workload, options.side, options.seconds, options.threads)
    if options.json:
        print(json.dumps(result))
    else:
        print("  ".join(f"{key} {value}" for key, value in result.items()))
    return 0


def _command(options, workload, side):
    command = [sys.executable, "-m", "minigen", "bench", "cpu", "--workload", workload, "--side", side]
    command += ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    return command + ["--json"] * options.json


def _environment(options):
    environment = {key: value for key, value in os.environ.items() if key not in CLEARED}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment[name] = str(options.threads)
    return environment


def _table(options):
    workloads = [options.workload] if options.workload else WORKLOADS
    options.json = True
    rows, failed = [], 0
    for workload in workloads:
        results = {side: [] for side in SIDES}
        for turn in range(options.turns):
            for side in SIDES[:: 1 if turn % 2 == 0 else -1]:
                done = subprocess.run(
                    _command(options, workload, side),
                    env=_environment(options), capture_output=True, text=True,
                )  # fmt: skip
                if done.returncode:
                    print(f"{workload}, {side}: failed\n{done.stderr.strip()}", file=sys.stderr)
                    return 1
                results[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
        rows.append(_row(workload, results))
        failed += not rows[-1]["agree"]
    _print(rows, options)
    return 1 if failed else 0


def _row(workload, results):
    ms = {side: statistics.median(r["ms_median"] for r in found) for side, found in results.items()}
    pairs = [(results["minigen"][0][key], results["torch"][0][key]) for key in ("loss_first", "loss_last")]
    return {
        "workload": workload,
        "ms": ms,
        "ratio": ms["torch"] / ms["minigen"],
        "losses": pairs,
        "agree": all(abs(a - b) <= AGREE * max(1, abs(b)) for a, b in pairs),
        "params": results["minigen"][0]["params"],
    }


def _print(rows, options):
    print(f"{'workload':10s} {'params':>9s} {'minigen ms':>11s} {'torch ms':>9s} {'ratio':>6s}   losses (first, last)")
    for row in rows:
        losses = "  ".join(f"{a:.5f}/{b:.5f}" for a, b in row["losses"])
        note = "" if row["agree"] else "   DIFFER"
        print(
            f"{row['workload']:10s} {row['params']:9d} {row['ms']['minigen']:11.2f} {row['ms']['torch']:9.2f} "
            f"{row['ratio']:6.2f}   {losses}{note}"
        )
    with contextlib.suppress(OSError):
        print(f"ratio > 1: minigen is faster. Medians of {options.turns} turns, {options.threads} threads.")
