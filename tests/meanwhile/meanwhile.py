"""What a second process does while pytest runs the tests: they keep one core busy, above all with Numba's compiler.

    kernels   are compiled into the cache that the tests load theirs from: those of `minigen bench ops` and of
              `minigen warmup`, which are most
    lessons   are run under --quick (tests/lessons/conftest.py): `test_quick` finds most of them done

One process after another, each on one thread. No result depends on it: a test compiles the kernel that is not there
yet, and waits for the lesson that is not done. Where there are more than three cores, there are more lines.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen  # by name: a test may put something else in the module's place
from tempfile import TemporaryDirectory, mkdtemp

from minigen.bench.sides import THREADS

KERNELS = (sys.executable, __file__)


class Meanwhile:
    """A plugin of pytest: commands, run one after another until the tests are over."""

    def __init__(self):
        self.line, self.begun = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)), []
        self.settings = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONIOENCODING": "utf-8"}
        self.outputs = TemporaryDirectory()

    def start(self, *words, folder=None):
        """Put a command at the end of the line. Returns the future of (exit status, stdout, stderr)."""
        return self.line.submit(self.run, words, folder)

    def run(self, words, folder):
        said, errors = (Path(mkdtemp(dir=self.outputs.name), name) for name in ("stdout", "stderr"))
        with said.open("wb") as out, errors.open("wb") as err:  # not pipes: tests count the files that are open
            process = Popen(words, stdout=out, stderr=err, cwd=folder, env=self.settings)
        self.begun.append(process)
        return process.wait(), said.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8")

    def pytest_unconfigure(self):
        self.line.shutdown(wait=False, cancel_futures=True)
        for process in self.begun:
            process.kill()  # does nothing to those that have ended
        self.line.shutdown()
        self.outputs.cleanup()


def compile_kernels():
    import minigen
    from minigen import warmup
    from minigen.bench import ops
    from minigen.bench.cases import CASES

    for case in CASES:
        ops.timed(case, case.small, minigen, seconds=0)
    warmup.compile_kernels()


if __name__ == "__main__":
    compile_kernels()
