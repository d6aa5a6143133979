"""The linear layer and its gradients, each in one call: products by OpenBLAS, the bias while its rows are in the cache.

    linear(x, w, b)                     y = x @ w.T + b
    linear_gradient(g, x, w, ...)       dx = g @ w,  dw = g.T @ x,  db = the sum of g's rows

Floor: 2 M N K operations forward, 4 M N K in the gradient. Small and middling layers (up to LARGE multiply-adds) are
what the kernels here are for: there the calls cost as much as the products. Each task forward takes some rows; in the
gradient some tasks make rows of dx, others dw and db, from the same g, so one start of the threads serves all three.
A product of depth 1 is no work for BLAS (18 us for 256 x 1 x 64, 2 as a loop). Larger layers go to many_rows.py if
they have many rows, else to few_rows.py forward and to blas.py, which cuts them into blocks of rows, columns and depth.
Up to eight rows are one_row.py's. All work is cut by the shape alone, so any number of threads gives the same bits.
"""

import math

import numpy as np
from numba import prange

from . import blas, few_rows, many_rows, one_row
from .blas import FOUND, SMALL, gemm_nn, gemm_nt, gemm_tn, single_threaded_blas
from .compile import kernel
from .reduce import sum_leading

F = np.float32
LARGE = 1 << 22  # multiply-adds from which the blocks of blas.py pay
TASK = 1 << 19  # multiply-adds a task should have: some 5 us
SERIAL = 1 << 21  # multiply-adds up to which threads, if they have gone to sleep meanwhile, cost more than they save
MOST = 16  # tasks, at most
FEW = 64  # rows that are not worth a task: BLAS packs all of w for them, and each task's dw is added up
NONE = np.empty(0, F)


@kernel(reads=("x", "w", "b"), dense=("x", "w", "b", "y"))
def linear_rows(x, w, b, y, step):
    n, inputs = x.shape
    outputs = y.shape[1]
    for task in prange((n + step - 1) // step):
        start, end = task * step, min(n, (task + 1) * step)
        if inputs == 1:
            for i in range(start, end):
                row, value = y[i], x[i, 0]
                if b.size:
                    for j in range(outputs):
                        row[j] = value * w[j, 0] + b[j]
                else:
                    for j in range(outputs):
                        row[j] = value * w[j, 0]
        elif b.size:
            for i in range(start, end):
                row = y[i]
                for j in range(outputs):
                    row[j] = b[j]
            gemm_nt(x[start:end], w, y[start:end], 1)
        else:
            gemm_nt(x[start:end], w, y[start:end], 0)


@kernel(reads=("g", "x", "w"), dense=("g", "x", "w", "gx", "gw", "gb"))
def gradient_rows(g, x, w, gx, gw, gb, step):
    """gx (n, in), gw (parts, out, in), gb (parts, out); those that nobody wants are empty."""
    n, outputs = g.shape
    inputs = x.shape[1]
    parts = (n + step - 1) // step
    for task in prange(2 * parts):
        start, end = task % parts * step, min(n, (task % parts + 1) * step)
        if task < parts:
            if gw.size:
                gemm_tn(g[start:end], x[start:end], gw[task], 0)
            if gb.size:
                total = gb[task]
                total[:] = 0
                for i in range(start, end):
                    row = g[i]
                    for j in range(outputs):
                        total[j] += row[j]
        elif gx.size:
            if inputs == 1:
                for i in range(start, end):
                    total = F(0)
                    for j in range(outputs):
                        total += g[i, j] * w[j, 0]
                    gx[i, 0] = total
            else:
                gemm_nn(g[start:end], w, gx[start:end], 0)


def linear(x, w, b=None):
    """x (..., in) @ w (out, in).T + b (out,) -> (..., out); b may be None."""
    outputs, inputs = w.shape
    n, work = math.prod(x.shape[:-1]), x.size * outputs
    rows = x if x.ndim == 2 else x.reshape(n, inputs)
    if work == 0:
        y = rows @ w.T if b is None else rows @ w.T + b
    elif n <= one_row.MOST and w.flags.c_contiguous:
        y = one_row.linear(*map(np.ascontiguousarray, (rows, w, NONE if b is None else b)))
    elif is_large(n, work):
        y = (many_rows if has_many_rows(n, w) else few_rows if has_some_rows(n, w) else blas).linear(rows, w, b)
    else:
        y = np.empty((n, outputs), F)
        arguments = *map(np.ascontiguousarray, (rows, w, NONE if b is None else b)), y
        run_by_work(linear_rows, work, *arguments, rows_a_task(n, work))
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], outputs)


def linear_gradient(g, x, w, needs=(True, True, True), into=(None, None, None)):
    """dL/dx, dL/dw, dL/db from g = dL/dy (..., out), x (..., in) and w (out, in); None for what is not needed.

    into    contiguous arrays to write dL/dw and dL/db to and return, or None for new ones
    """
    outputs, inputs = w.shape
    n, work = math.prod(x.shape[:-1]), x.size * outputs
    rows_g = g if g.ndim == 2 else g.reshape(n, outputs)
    rows_x = x if x.ndim == 2 else x.reshape(n, inputs)
    if is_large(n, work) and has_many_rows(n, w):
        gx, gw, gb = many_rows.linear_gradient(rows_g, rows_x, w, needs, into)
    elif work == 0 or is_large(n, work):
        gx = blas.matmul(rows_g, w) if needs[0] else None
        gw = blas.matmul(rows_g.T, rows_x, into[1]) if needs[1] else None
        gb = sum_leading(rows_g, into[2]) if needs[2] else None
    else:
        step = rows_a_task(n, work)
        parts = -(-n // step)
        gx = np.empty((n, inputs), F) if needs[0] else NONE.reshape(0, 1)
        gw = room(into[1], parts, w.shape) if needs[1] else NONE.reshape(0, 1, 1)
        gb = room(into[2], parts, (outputs,)) if needs[2] else NONE.reshape(0, 1)
        arguments = *map(np.ascontiguousarray, (rows_g, rows_x, w)), gx, gw, gb
        run_by_work(gradient_rows, 2 * work, *arguments, step)
        gx = gx if needs[0] else None
        gw = added(gw, into[1]) if needs[1] else None
        gb = added(gb, into[2]) if needs[2] else None
    return gx if gx is None or x.ndim == 2 else gx.reshape(x.shape), gw, gb


def has_many_rows(n, w):
    """Whether tiles are quicker than BLAS: w is put into panels, which many rows must share, and none too ragged."""
    return n >= many_rows.FEWEST and min(w.shape) >= many_rows.NARROWEST


def has_some_rows(n, w):
    """Whether tiles are quicker forward: it is the rows that are put into panels then."""
    return n >= few_rows.FEWEST and min(w.shape) >= many_rows.NARROWEST


def room(into, parts, shape):
    """Memory for the partial sums: `into` itself if there is but one."""
    return into[None] if into is not None and parts == 1 else np.empty((parts, *shape), F)


def added(parts, into):
    """The sum of the parts, in order, in `into` if that is given."""
    if len(parts) > 1:
        return np.add.reduce(parts, out=into)
    return parts[0] if into is None else into


def is_large(n, work):
    """Whether to leave a product to blas.py: much work, or few rows to share among the threads."""
    return FOUND is None or work > LARGE or (work > SERIAL and n < 2 * FEW)


def rows_a_task(n, work):
    return max(-(-n // min(-(-work // TASK), MOST)), min(n, FEW))


def run_by_work(run, work, *arguments):
    """Serial up to SERIAL; OpenBLAS is told to keep to one thread unless it does so by itself."""
    if work <= SERIAL:
        run = run.serial
    if work <= SMALL:
        run(*arguments)
    else:
        with single_threaded_blas:
            run(*arguments)
