"""The tiles of tiles.cuh as a launch needs them, and which way to multiply them suits an array and the card.

Form                    rows and columns of a tile, threads of a block, bytes of shared memory
at_once, by_groups      the form of Fragments and Registers, and that of Warpgroups
sources(file)           a file's kernels by way: None, "TF32", "WARPGROUPS"
way(x)                  the way for x on the current card
"""

from typing import NamedTuple

from . import compile
from .precision import tf32


class Form(NamedTuple):
    rows: int
    columns: int
    threads: int
    shared: int


def at_once(rows, columns, threads, stages=3):
    """Stages of 64 bytes of each row and column."""
    return Form(rows, columns, threads, stages * 64 * (rows + columns))


def by_groups(rows, columns, stages):
    """Stages of 128 bytes of each row and column, at a multiple of 1024; a warpgroup for 64 rows."""
    return Form(rows, columns, 2 * rows, stages * 128 * (rows + columns) + 1024)


def sources(file):
    return {
        None: compile.Source(file),
        "TF32": compile.Source(file, "-DTF32"),
        "WARPGROUPS": compile.Source(file, "-DWARPGROUPS", architecture="90a"),
    }


def way(x):
    """Compute capability 9.0 has products by warpgroups, of 16-bit numbers; neither older cards have them nor newer."""
    if x.itemsize == 2:
        return "WARPGROUPS" if compile.machine.capability == 90 else None
    return "TF32" if tf32() else None
