"""Lesson: what every lesson needs around its own subject.

    lesson = Lesson("10_vae")                        # reads the flags, sets the seed
    g = lesson.generator

    lesson.section("1. What a density is worth")     # a heading in the terminal
    steps = lesson.pick(2000, quick=50)              # fewer under --quick
    for step in lesson.progress(steps, "training"):
        ...
    with lesson.figure("loss", "Nats fall.") as axes:
        axes.plot(losses)
    lesson.images("samples", "What it dreams up.", images)
    lesson.proof("nll/image", ours, "nats", floor=(106.3, "independent pixels"), optimum=(88.0, "exact"))
    lesson.end()                                     # what it cost

Everything works in a script, under `minigen run`, and in a notebook.
"""

import argparse
import contextlib
import gc
import re
import sys
import time
from pathlib import Path

import numpy as np

import minigen
from minigen import plot, random
from minigen.errors import ArgumentError, expect

from .proof import Proof, ProofFailed, recorded_band


def in_notebook():
    return "ipykernel" in sys.modules and "get_ipython" in dir(__import__("builtins"))


def seeds(text):
    """A number of seeds, "6" -> 6, or a range of them to add, "12-17" -> range(12, 18)."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
    if last < first or (last == 0 and not found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seeds (6) nor a range of them (12-17)")
    return range(first, last + 1) if found[2] else first


def flags(name="lesson"):
    """The command line that every lesson has."""
    parser = argparse.ArgumentParser(
        prog=name, allow_abbrev=False, description=f"Lesson {name}. Read the file alongside."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="everything in a few seconds, with worse results")
    add("--full", action="store_true", help="the classic data set, downloaded, or a larger run (minutes; a GPU helps)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--seed", type=int, default=0, help="another seed, other dice")
    add("--data", metavar="PATH", help="your own data in place of the lesson's")
    add("--out", default="out", metavar="DIR", help="where figures go (out)")
    add("--exercise", type=int, metavar="K", help="check your answer to exercise K (0 lists them)")
    add("--solution", action="store_true", help="with --exercise: check the given answer instead")
    add("--record", action="store_true", help="run over several seeds and keep bands, text and figures in expected/")
    add("--seeds", type=seeds, default=6, metavar="N", help="with --record: over seeds 0 to N - 1 (6), or A-B to add "
        "seeds A to B to those recorded")  # fmt: skip
    add("--no-progress", dest="progress", action="store_false", help="no progress bars")
    return parser


def stopped_quietly(kind, error, trace):
    """Ctrl-C ends a lesson with a line in place of a traceback. (Python then exits with 130, as for any Ctrl-C.)"""
    if issubclass(kind, KeyboardInterrupt):
        print("\nstopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


class Lesson:
    """One run of a lesson.

    name   the lesson's file name without its ending
    uses   which of "data", "device" and "full" change something in this lesson

    options     the flags;   seed, quick, full, device, data    those that lessons ask for
    generator   a minigen.random.Generator from the seed: draw everything from it
    folder      where the figures go
    proofs      the proofs so far
    """

    recording = False  # record.py sets it: proofs are noted, not judged

    def __init__(self, name, uses=()):
        self.name, self.options = name, self._options(name)
        self.seed, self.quick, self.full = self.options.seed, self.options.quick, self.options.full
        self.device, self.data = self.options.device, self.options.data
        if self.options.exercise is not None:
            from . import workbook

            raise SystemExit(workbook.run(name, self.options.exercise, self.options.solution))
        if self.options.record:
            from . import record

            raise SystemExit(record.record(name, self.options.seeds))
        if not in_notebook():
            sys.excepthook = stopped_quietly
            gc.set_threshold(20_000, 20, 20)  # looking for cycles, of which few are made, takes a tenth of a short run
        self.generator = random.Generator(self.seed)
        minigen.manual_seed(self.seed)
        self.folder = Path(self.options.out) / name
        self.proofs, self.figures, self.operations = [], [], 0
        self.started = time.perf_counter()
        self._announce(uses)

    @staticmethod
    def _options(name):
        parser = flags(name)
        if in_notebook():  # the kernel's own arguments are not ours
            return parser.parse_args([])
        options, unknown = parser.parse_known_args()
        if unknown:
            import difflib

            known = [flag for action in parser._actions for flag in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            parser.error(f"unknown argument {unknown[0]}" + (f" (did you mean {near[0]}?)" if near else ""))
        return options

    def _announce(self, uses):
        expect(
            self.device == "cpu" or minigen.cuda_available(),
            f"--device {self.device}: CuPy finds no GPU here",
            error=ArgumentError,
            hint="leave it out: every lesson runs on the CPU",
        )
        expect(
            self.data is None or Path(self.data).exists(),
            f"--data {self.data}: there is no such file or folder",
            error=ArgumentError,
        )
        mode = "quick: the numbers are those of a short run" if self.quick else "full" if self.full else "standard"
        print(f"lesson {self.name}   seed {self.seed}   {self.device}   {mode}   figures in {self.folder}/")
        given = {"data": self.data, "device": self.device != "cpu", "full": self.full}
        for flag in [flag for flag, value in given.items() if value and flag not in uses]:
            print(f"note: this lesson makes no use of --{flag}")

    def pick(self, standard, quick, full=None):
        """The value for this run's size: as usual, under --quick, under --full."""
        return quick if self.quick else full if self.full and full is not None else standard

    # Words and numbers

    def section(self, title):
        """A heading in the terminal. (A notebook has it in the cell above.)"""
        if not in_notebook():
            print(f"\n{title}\n{'-' * len(title)}")

    def table(self, head, rows):
        """Rows under a heading, in columns: words to the left, numbers to the right."""
        rows = [[x if isinstance(x, str) else f"{x:.4g}" for x in row] for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(head, *rows)]
        for row in [head, *rows]:
            cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
            print("  " + "   ".join(cells).rstrip())

    def report(self, name, values, truth=None):
        """The mean of repeated measurements with its standard error, their spread, and the truth beside it."""
        values = np.asarray(values, float)
        mean, spread = values.mean(), values.std(ddof=1) if values.size > 1 else 0.0
        beside = "" if truth is None else f"   truth {truth:.4g}"
        print(f"  {name}   mean {mean:.4g} +- {spread / np.sqrt(values.size):.1g}   spread {spread:.3g}{beside}")

    def progress(self, steps, what=""):
        """A range, or anything else to loop over, with a progress bar. `bar.set_postfix_str(...)` adds to it."""
        from tqdm import tqdm

        steps = range(steps) if isinstance(steps, int) else steps
        disable = None if self.options.progress else True  # None: only where there is no terminal
        return tqdm(steps, desc=what, disable=disable, leave=False, dynamic_ncols=True)

    # Pictures

    @contextlib.contextmanager
    def figure(self, name, caption="", rows=1, columns=1, size=None, **options):
        """`with lesson.figure("loss", "What it shows.") as axes:` draws, and saves the figure at its end."""
        figure, axes = plot.subplots(rows, columns, size, **options)
        with plot.style():
            yield axes
        self.show(figure, name, caption)

    def images(self, name, caption, images, columns, rows=4, **options):
        """Pictures in a grid: saved as a figure; its first `rows` rows, as far as they fit, shown in the terminal."""
        if rows and not in_notebook():
            print(plot.preview(images[: rows * columns], columns))
        self.show(plot.image_grid(images, columns, **options), name, caption)

    def show(self, figure, name, caption=""):
        """Save a matplotlib figure under the lesson's folder, and say where it is."""
        path = plot.save(figure, self.folder / f"{name}.png")
        self.figures.append((name, caption, path))
        if in_notebook():
            from IPython.display import Image, display

            display(Image(filename=str(path)))
        else:
            print(f"  figure  {path}   {caption}")

    # Proofs and costs

    def proof(self, name, ours, unit="", *, floor=None, optimum=None, band=None, at_least=None, at_most=None):
        """State a result beside its floor and its optimum, and judge it.

        floor, optimum       (value, what it is)
        band                 (low, high, why), where theory gives it; otherwise the recorded one is used
        at_least             a bound that must hold as well
        at_most              a bound in the band's place: for errors that should be rounding alone

        Prints the PROOF line. Raises ProofFailed if the number is not what it should be.
        """
        expect(all(p.name != name for p in self.proofs), f"proof: {name!r} is there already", error=ArgumentError)
        recorded = None
        if band is None and at_most is None and not self.recording and not (self.full or self.data):
            recorded = recorded_band(self.name, "quick" if self.quick else "standard", name)
        low_high, why = (band[:2], band[2]) if band else (recorded, "")
        proof = Proof(name, float(ours), unit, floor, optimum, low_high, why, at_least, at_most)
        self.proofs.append(proof)
        passed, verdict = proof.judge()
        line = proof.line()
        if sys.stdout.isatty() and not in_notebook():
            line = line.removesuffix(verdict) + f"\x1b[{32 if passed else 31}m{verdict}\x1b[0m"
        print(line)
        if not passed and not self.recording:
            raise ProofFailed(f"lesson {self.name}, seed {self.seed}: {proof.line()}")

    def spend(self, operations):
        """Count floating-point operations: a training step is about three forward passes."""
        self.operations += operations

    def costs(self):
        """{"seconds", "processor_seconds", "peak_mb", "flops"}; peak_mb is None where the system does not say."""
        return {
            "seconds": round(time.perf_counter() - self.started, 1),
            "processor_seconds": round(time.process_time(), 1),
            "peak_mb": peak_memory(),
            "flops": float(self.operations),
        }

    def end(self):
        """Print what the lesson cost."""
        cost = self.costs()
        memory = f"   peak memory {cost['peak_mb']} MB" if cost["peak_mb"] else ""
        work = f"   training took {cost['flops']:.1e} floating-point operations" if cost["flops"] else ""
        print(f"\ntime {cost['seconds']} s{memory}{work}")
        if not self.recording:
            print(f"exercises: lessons/exercises/{self.name}.py, checked by  --exercise 1")


def peak_memory():
    """The most memory this process has held, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1024))
