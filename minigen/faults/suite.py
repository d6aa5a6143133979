"""Rows whose checks are tests of their own part: they run from a checkout of the repository."""

import subprocess
import sys
from pathlib import Path

from .score import Finding


def tests(*paths):
    """A check that runs test files with pytest."""

    def run(count=None, seed=0):
        root = Path(__file__).resolve().parent.parent.parent
        there = [path for path in paths if (root / path).exists()]
        if not there:
            return Finding(None, "the tests are not at hand: run in a checkout of the repository")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *there],
            cwd=root,
            capture_output=True,
            text=True,
        )
        last = (done.stdout.strip().splitlines() or ["pytest could not start"])[-1].strip("= ")
        return Finding(done.returncode == 0, f"{', '.join(there)}: {last}")

    return run


downloads = tests("tests/data/test_download.py")
archives = tests("tests/data/test_archive.py")
kernel_cache = tests("tests/kernels/test_compile.py")
