"""The gradient of a weight that many rows passed through: a product turned on its side.

    dw, db = weight_gradient(d, x)                 dw = d.T @ x, db = the sums of d's columns
    weight_gradients(d, panels, others, ...)       the same for two matrices that lie in panels, in one pass over d

d (K, R) is read across its rows, so each task first packs a piece of it, DEPTH rows by the `tall` columns that are its
share, into strips that lie as the tiles of row_tiles.py read them. The sum of d's columns is taken on the way.

Floor: 2 K R N operations. Measured on one core of a Zen 5 at K 2048, R 1024, N 256 + 256: 213 GFLOPS, of 230 that the
tiles reach; OpenBLAS (SkylakeX core) 158.
"""

import numpy as np
from numba import prange

from .addresses import address, shifted
from .compile import inline_sums, kernel
from .panels import NO_PANELS, in_panels
from .row_tiles import ROWS, WIDTH, by_panel, pack_strip

F = np.float32
DEPTH = 256  # rows of d and of the matrix that are multiplied at once: they stay in the L2 cache
TALL = 64  # rows of the result that a task makes, at most


def weight_gradient(d, x, into=(None, None), needs=(True, True)):
    """dw (R, N) and db (R,) from d (K, R) and x (K, N), in the contiguous arrays `into` if they are given; None for
    what is not needed.
    """
    R, N = d.shape[1], x.shape[1]
    dw, db = (
        (np.empty(shape, F) if array is None else array) if need else np.empty((0,) * len(shape), F)
        for array, need, shape in zip(into, needs, ((R, N), (R,)))
    )
    panels = in_panels(x, once=True) if needs[0] else NO_PANELS
    weight_gradients(np.require(d, F, "C"), panels, NO_PANELS, dw, np.empty((0, 0), F), db, rows_a_task(R))
    return dw if needs[0] else None, db if needs[1] else None


@kernel(reads=("d", "panels", "others"), dense=("d", "dw", "dw_other", "db"))
def weight_gradients(d, panels, others, dw, dw_other, db, tall):
    """dw (R, N) = d (K, R).T @ the matrix (K, N) in `panels`; dw_other the same with `others`; db (R,) the sums of d's
    columns. Panels may be none (an empty first dimension), db empty.

    A task makes `tall` rows of dw. It turns a piece of d, (DEPTH, tall), into columns of tiles, for both matrices.
    """
    K, R = d.shape
    zero = np.zeros(1 + max(dw.shape[1], dw_other.shape[1]), F)
    for task in prange((R + tall - 1) // tall):
        first, last = task * tall, min(R, (task + 1) * tall)
        tiles = (last - first + ROWS - 1) // ROWS
        turned = np.empty((tiles, DEPTH, ROWS), np.float32)
        if db.size > 0:
            for r in range(first, last):
                db[r] = F(0)
        for low in range(0, K, DEPTH):
            depth = min(DEPTH, K - low)
            for few in range(0, depth, 8):  # rows a power of two apart fall on the same lines of the cache
                count = min(8, depth - few)
                for tile in range(tiles):
                    begin, end = first + tile * ROWS, min(last, first + (tile + 1) * ROWS)
                    if end - begin == ROWS:
                        place = shifted(address(d), (low + few) * d.strides[0] + 4 * begin)
                        strip = shifted(address(turned), tile * turned.strides[0] + few * turned.strides[1])
                        pack_strip(place, d.strides[0], strip, count)
                    else:
                        for k in range(few, few + count):
                            row, to = d[low + k, begin:end], turned[tile, k]
                            for r in range(end - begin):
                                to[r] = row[r]
            if db.size > 0:
                sums = db[first:last]
                for k in range(low, low + depth):
                    row = d[k, first:last]
                    for r in range(last - first):
                        sums[r] += row[r]
            add_part(turned, panels, dw, zero, first, last, low, depth)
            add_part(turned, others, dw_other, zero, first, last, low, depth)


@inline_sums
def add_part(turned, panels, dw, zero, first, last, low, depth):
    """dw[first:last] += (or = if low is 0) the turned piece of d times rows low to low + depth of the matrix."""
    for j in range(panels.shape[0]):
        panel = shifted(address(panels), j * panels.strides[0] + low * panels.strides[1])
        for tile in range(turned.shape[0]):
            row = first + tile * ROWS
            c = shifted(address(dw), row * dw.strides[0] + 4 * WIDTH * j)
            start, start_down = (address(zero), 0) if low == 0 else (c, dw.strides[0])
            a = shifted(address(turned), tile * turned.strides[0])
            rows, columns = min(ROWS, last - row), dw.shape[1] - WIDTH * j
            by_panel(
                a, 4, 4 * ROWS, depth, panel, panels.strides[1], c, dw.strides[0], start, start_down, rows, columns
            )


def rows_a_task(R):
    """Rows of dw for one task of `weight_gradients`: an even number of tasks, as equal as can be."""
    tasks = 2 * -(-R // (2 * TALL))
    return -(-R // (tasks * ROWS)) * ROWS
