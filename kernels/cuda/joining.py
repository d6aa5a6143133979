"""Arrays end to end, and an array cut into copies of its parts: joining.cu.

    concatenate(xs, axis)       as NumPy's
    cut(x, sizes, axis)         its inverse: contiguous arrays, of these sizes along the axis

CuPy's own copies move a number a thread, at half of what the memory could give. Here each array is rows of one run.
"""

import math

from .compile import FLOATS, Source, contiguous, library, over

TYPES = FLOATS
KERNELS = Source("joining.cu")
BLOCK = 256
PARTS = 4  # arrays of one launch, as in joining.cu


def concatenate(xs, axis):
    """The arrays, of one type, end to end along the axis; contiguous."""
    first, xs = xs[0], [contiguous(x) for x in xs]
    sizes = [x.shape[axis] for x in xs]
    y = library(first).empty((*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :]), first.dtype)
    for some, *numbers in launches(xs, sizes, y, axis):
        run("join_rows", y, (*some, y), *numbers)
    return y


def cut(x, sizes, axis):
    """The parts of x of these sizes along the axis, each an array of its own."""
    x = contiguous(x)
    parts = [library(x).empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype) for size in sizes]
    for some, *numbers in launches(parts, sizes, x, axis):
        run("cut_rows", x, (x, *some), *numbers)
    return parts


def launches(parts, sizes, whole, axis):
    """For each launch: its parts, rows, the widths of the parts, where they begin in a row of the whole, its width."""
    rows, run_of = math.prod(whole.shape[:axis]), math.prod(whole.shape[axis + 1 :])
    for i in range(0, len(parts), PARTS):
        widths = [size * run_of for size in sizes[i : i + PARTS]]
        none = PARTS - len(widths)
        start = sum(sizes[:i]) * run_of
        yield [*parts[i : i + PARTS], *none * [None]], rows, [*widths, *none * [0]], start, whole.shape[axis] * run_of


def run(name, whole, arrays, rows, widths, start, step):
    packs = sum(over(width, 16 // whole.itemsize) for width in widths)
    KERNELS.run(name, (whole.dtype,), over(rows * packs, BLOCK), BLOCK, *arrays, rows, *widths, start, step)
