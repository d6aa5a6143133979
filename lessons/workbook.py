"""Exercises: a stub that the reader fills in, and a check that only a right answer passes.

In lessons/exercises/10_vae.py:

    def log_mean_exp(log_weights): ...
        raise NotImplementedError

    @exercise(1, log_mean_exp, hint="subtract the largest first")
    def check(answer):
        "The average of what is given as logarithms"
        close(answer(tensor([-1000.0, -1000.0])), -1000.0, "two equal weights")

`python lessons/10_vae.py --exercise 1` runs the check on the reader's function, `--solution` on the one of the same
name in lessons/solutions/10_vae.py. In a notebook, call `check()`.
"""

import runpy
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minigen.errors import MinigenError
from minigen.tensor import Tensor

from . import catalogue


class Wrong(MinigenError, AssertionError):
    """An answer that is not right, and what it gave."""


@dataclass
class Exercise:
    number: int
    answer: Callable
    hint: str
    check: Callable

    @property
    def title(self):
        return self.check.__doc__.strip().splitlines()[0]

    def __call__(self, answer=None, place="the function above"):
        """Check `answer` (the reader's own if None) and say what was found. Returns whether it is right."""
        answer = answer or self.answer
        print(f"exercise {self.number}  {self.title}\n")
        try:
            self.check(answer)
        except NotImplementedError:
            print(f"  not solved yet: write `{answer.__name__}` in {place}")
        except Wrong as wrong:
            print(f"  not right: {wrong}")
        except Exception:
            print("  the answer raised an error:\n")
            print("    " + traceback.format_exc(limit=-3).rstrip().replace("\n", "\n    "))
        else:
            print("  right.")
            return True
        print(f"  hint: {self.hint}")
        return False


_loaded = []


def exercise(number, answer, *, hint):
    """Decorator: the function below checks `answer`, a function that the reader writes."""

    def made(check):
        found = Exercise(number, answer, hint, check)
        _loaded.append(found)
        return found

    return made


def close(got, want, what, tolerance=1e-5):
    """Raise Wrong unless `got` is `want`, to a `tolerance` relative to the largest value. (Tensors or arrays.)"""
    if got is None:
        raise Wrong(f"{what}: the answer is None\n  is there a `return`?")
    got, want = (np.asarray(x.detach().cpu().numpy() if isinstance(x, Tensor) else x) for x in (got, want))
    if got.shape != want.shape:
        raise Wrong(f"{what}: the shape is {got.shape}, it should be {want.shape}")
    if got.size == 0:
        return
    got, want = got.astype(np.float64), want.astype(np.float64)
    scale = max(float(np.abs(want).max()), 1e-300 if tolerance == 0 else 1e-12)
    off = np.abs(got - want)
    if not np.isfinite(got).all() or float(off.max()) > tolerance * scale:
        worst = np.unravel_index(int(np.argmax(np.where(np.isfinite(got), off, np.inf))), got.shape)
        at = f" at {tuple(int(i) for i in worst)}" if got.ndim else ""
        raise Wrong(f"{what}: got {got[worst]:.6g}{at}, it should be {want[worst]:.6g}")


def exercises(lesson, folder=None):
    """The exercises of a lesson, and the path of their file."""
    path = (folder or catalogue.home()) / "exercises" / f"{lesson}.py"
    _loaded.clear()
    runpy.run_path(str(path))
    return {found.number: found for found in _loaded}, path


def run(lesson, number, solution=False, folder=None):
    """Check one exercise of a lesson, the reader's answer or the given one. Returns an exit status."""
    folder = folder or catalogue.home()
    found, path = exercises(lesson, folder)
    if number not in found:
        print(f"lesson {lesson} has these exercises:")
        for one in found.values():
            print(f"  {one.number}  {one.title}")
        return 2
    one = found[number]
    if not solution:
        return 0 if one(place=path) else 1
    path = folder / "solutions" / path.name
    answers = runpy.run_path(str(path))
    return 0 if one(answers[one.answer.__name__], place=path) else 1
