"""The lessons, and the machinery that they share.

Each lesson is a script that is read top to bottom, beside its output: `python lessons/10_vae.py`, or `minigen run vae`.
It opens as a notebook too (the cells are marked `# %%`). README.md is the index.

    lesson.py      Lesson: flags, seed, figures, tables, progress, and what the lesson cost
    proof.py       the PROOF lines: floor, ours, optimum, and the band that decides
    workbook.py    exercises and their checks
    record.py      runs a lesson over several seeds and keeps bands, text and figures in expected/
    catalogue.py   which lessons there are
    exercises/     stubs for the reader to fill in;  solutions/  one answer to each
"""

from .lesson import Lesson
from .workbook import Wrong, close, exercise

__all__ = ["Lesson", "Wrong", "close", "exercise"]
