"""The table of what keeps the bits, what keeps the numbers, and row 19: without Numba the definitions give the same.

Each line trains `small` in a new process with one thing changed, and compares the fingerprint of all its state, or,
where only tolerance is promised, the losses.
"""

import functools
import os
import shutil
import subprocess
import sys

import numpy as np

from .score import Finding
from .small import train

STEPS = 6
WITHOUT_NUMBA = "sys.modules['numba'] = None"  # whoever imports it now gets an ImportError


def elsewhere(environment=None, before="pass", steps=STEPS):
    """(losses, fingerprint) of a run in a new process, with environment variables and a line of code put before it."""
    code = (
        f"import runpy, sys; {before}; sys.argv = ['small', '{steps}']; "
        "runpy.run_module('minigen.faults.small', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-800:])
    losses, fingerprint = done.stdout.strip().splitlines()[-2:]
    return np.array([float(x) for x in losses.split()]), fingerprint


CHANGES = {
    "a new process": {},
    "another hash seed": {"PYTHONHASHSEED": "7"},
    "one thread": {"NUMBA_NUM_THREADS": "1"},
    "two threads": {"NUMBA_NUM_THREADS": "2"},
}


def same_bits(count=None, seed=0):
    """The same seed gives the same bits: again, in a new process, with another hash seed, with 1 and 2 threads."""
    _, first = train(STEPS)
    _, again = train(STEPS)
    _, other = train(STEPS, seed=1)
    if other == first:
        return Finding(False, "another seed gives the same bits: the comparison sees nothing")
    wrong = ["the same process"] * (again != first)
    for name, environment in CHANGES.items():
        if elsewhere(environment)[1] != first:
            wrong.append(name)
    if wrong:
        return Finding(False, f"other bits in {', '.join(wrong)}")
    return Finding(True, f"{STEPS} steps, equal to the bit in the same process, {', '.join(CHANGES)}")


@functools.cache
def _with_kernels():
    return elsewhere(steps=20)[0]


def same_numbers(count=None, seed=0):
    """With the kernels off the losses agree to 2e-5 at the first step, where nothing has been amplified yet."""
    without, _ = elsewhere({"MINIGEN_KERNELS": "off"}, steps=20)
    return _compare("MINIGEN_KERNELS=off", _with_kernels(), without)


def without_numba(count=None, seed=0):
    """Row 19: Numba cannot be imported. Training runs on the definitions and gives the same numbers."""
    without, _ = elsewhere(before=WITHOUT_NUMBA, steps=20)
    return _compare("no Numba", _with_kernels(), without)


def _compare(name, a, b):
    first, later = abs(a[0] - b[0]) / abs(a[0]), np.max(np.abs(a - b) / np.abs(a))
    text = f"{name}: loss {a[0]:.6f}, {first:.1e} apart at the first step, {later:.1e} after {len(a)}"
    return Finding(bool(first <= 2e-5 and later <= 2e-3), text)


def oldest_and_newest_python(count=None, seed=0):
    """The other Pythons on this machine that have minigen installed, from 3.11 on, run the same training."""
    here, ran = f"3.{sys.version_info.minor}", []
    for name in [f"3.{minor}" for minor in range(11, 20)]:
        python = shutil.which(f"python{name}")
        if name == here or python is None or _fails([python, "-c", "import minigen"]):
            continue
        if said := _fails([python, "-m", "minigen.faults.small", "2"]):
            return Finding(False, f"Python {name}: {said}")
        ran.append(name)
    if not ran:
        return Finding(None, f"only Python {here} has minigen here")
    return Finding(True, f"Python {here} and {', '.join(ran)}")


def _fails(command):
    """What a command said, if it failed."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr.strip()[-300:] or f"exit {done.returncode}" if done.returncode else None
