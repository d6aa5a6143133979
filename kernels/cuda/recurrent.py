"""A recurrent layer over a whole sequence, forward and back through time: recurrent.cu.

    rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first)   -> out, h_n, hs
    gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)                 -> out, h_n, hs, gates, us
    lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)            -> out, h_n, c_n, hs, cs, gates
    rnn_gradient(...)  gru_gradient(...)  lstm_gradient(...)                 -> the gradients, in the order of arguments

Inside, time comes first, and shapes are those of kernels/cpu/recurrent.py. The products of x with w_ih, for all steps,
and the gradients of x and the weights are one large product each (blas.py); the walk through time is in recurrent.cu.
All arrays have x's type, but for cs, which is float32 like everything that is added up or carried from step to step.

`plan` chooses between the two ways to walk: all steps in one launch where enough blocks to hold the weights in their
shared memory fit on the card at once, else a launch a step. The bits are the same.
"""

import numpy as np

from . import compile
from .blas import matmul
from .compile import FLOATS, Source, cast, contiguous, library, over
from .precision import tf32
from .reduce import sum_leading

TYPES = FLOATS
KERNELS = Source("recurrent.cu")  # of all cells; what runs is compiled for one
SOURCES = {
    (gates, fast): Source("recurrent.cu", f"-DGATES_OF_CELL={gates}", *("-DTF32",) * fast)
    for gates in (1, 3, 4)
    for fast in (False, True)
}
BLOCK, ROWS = 256, 32  # threads of a block; sequences that it takes at a time
CHUNK = 64  # bytes of a row of the weights that a warp multiplies at once
LEAST_STEPS = 4  # for which it pays to bring the weights to shared memory
F = np.dtype(np.float32)


def plan(columns, depth, hidden, sequences, steps, itemsize):
    """(units a block, blocks of sequences, bytes of shared memory if all steps go together, else 0).

    The product of a step is (sequences, depth) @ (depth, columns * hidden).
    """
    multiprocessors, memory = compile.machine.limits()
    all_rows = over(sequences, ROWS)
    # many small blocks, then few large ones, then blocks that take several groups of sequences one after another
    for units, rows in ((8, all_rows), (16, all_rows), (16, 1), (8, 1)) if steps >= LEAST_STEPS else ():
        tiles = columns * units // 8
        weights = over(depth * itemsize, CHUNK) * tiles * 512
        sums = 4 * ROWS * (8 * tiles + (8 if tiles % 4 == 2 else 0)) * 4
        room = multiprocessors // over(hidden, units)
        if room >= rows and weights + sums <= memory:
            return units, min(room, all_rows), weights
    return 16 if over(hidden, 16) * all_rows >= multiprocessors else 8, all_rows, 0


def walk(name, w_hh, forward, steps, like, *arrays):
    """Walk through `steps` steps; arrays and sizes as the kernel takes them, `like` being an array of a state."""
    n, hidden = like.shape
    gates, dtype = len(w_hh) // hidden, w_hh.dtype
    columns, depth = (gates, hidden) if forward else (1, gates * hidden)
    units, rows, shared = plan(columns, depth, hidden, n, steps, dtype.itemsize)
    source = SOURCES[gates, dtype == F and tf32()]
    blocks, new = over(hidden, units), library(like).empty
    packed = new((blocks * over(depth * dtype.itemsize, CHUNK) * columns * units // 8 * 32, 16), np.uint8)
    order = (hidden, 1) if forward else (1, hidden)
    sizes = len(packed), columns, hidden, depth, units
    source.run("pack_weights", (dtype,), over(len(packed), BLOCK), BLOCK, contiguous(w_hh), packed, *sizes, *order)
    if shared:
        arrived, options = library(like).zeros((rows, 32), np.uint32), {"shared": shared, "together": True}
        name, grid = f"{name}_together_{units}", (blocks, rows)
        source.run(name, (dtype,), grid, BLOCK, packed, *arrays, 0, steps, arrived, **options)
    else:
        for step in range(steps):
            args = packed, *arrays, step, step + 1, None
            source.run(f"{name}_{units}", (dtype,), (blocks, rows), BLOCK, *args)


def forward(cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, relu, reverse, batch_first):
    """hs, cs, gates, us: the states and what the gradient needs, None for what the cell does not have."""
    xs, empty = time_first(x, batch_first), library(x).empty
    steps, (n, hidden) = len(xs), h0.shape
    gates = times(xs, w_ih.T)
    hs = history(h0, steps, reverse, x.dtype)
    cs = history(c0, steps, reverse, F) if cell == "lstm" else None
    us = empty((steps, n, hidden), x.dtype) if cell == "gru" else None
    biases = (None if b is None else contiguous(b) for b in (b_ih, b_hh))
    sizes = int(relu), steps, n, hidden, int(reverse)
    walk(f"{cell}_forward", w_hh, True, steps, h0, gates, *biases, hs, cs, us, *sizes)
    return hs, cs, gates, us


def backward(cell, g, gh, gc, x, w_ih, w_hh, hs, cs, gates, us, relu, reverse, batch_first, needs):
    """dh, dc, float32, and the gradients of x, w_ih, w_hh, b_ih, b_hh (needs: which of these)."""
    xs, empty = time_first(x, batch_first), library(x).empty
    steps, n, hidden = len(xs), *hs.shape[1:]
    da = empty((steps, n, len(w_hh)), x.dtype)
    du = empty(da.shape, x.dtype) if cell == "gru" else da
    dh, dc = carried(gh, hs[0]), carried(gc, hs[0]) if cell == "lstm" else None
    g = None if g is None else time_first(cast(g, x.dtype), batch_first)
    sizes = int(relu), steps, n, hidden, int(reverse)
    # the last step brings the gradient to the first state
    walk(f"{cell}_backward", w_hh, False, steps + 1, dh, gates, hs, cs, us, g, da, du, dh, dc, *sizes)
    before = hs[1:] if reverse else hs[:-1]
    dx = times(da, w_ih) if needs[0] else None
    dw_ih = matmul(flat(da).T, flat(xs)) if needs[1] else None
    dw_hh = matmul(flat(du).T, flat(before)) if needs[2] else None
    db_ih = sum_leading(da) if needs[3] else None
    db_hh = None if not needs[4] else db_ih.copy() if du is da and needs[3] else sum_leading(du)
    return dh, dc, (dx.swapaxes(0, 1) if batch_first and needs[0] else dx, dw_ih, dw_hh, db_ih, db_hh)


# ---- what the ops call; nothing may be empty ----


def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first):
    """out, h_n and the states."""
    relu = nonlinearity == "relu"
    hs, *_ = forward("rnn", x, h0, None, w_ih, w_hh, b_ih, b_hh, relu, reverse, batch_first)
    return *results(hs, reverse, batch_first), hs


def rnn_gradient(g, gh, x, w_ih, w_hh, hs, nonlinearity, reverse, batch_first, needs):
    """The gradients of x, h0, w_ih, w_hh, b_ih, b_hh, given those of out and h_n (None: zero)."""
    saved, wanted = (hs, None, None, None, nonlinearity == "relu"), (needs[0], *needs[2:])
    dh, _, (dx, *rest) = backward("rnn", g, gh, None, x, w_ih, w_hh, *saved, reverse, batch_first, wanted)
    return dx, cast(dh, x.dtype), *rest


def gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """out, h_n and what the gradient needs."""
    hs, _, gates, us = forward("gru", x, h0, None, w_ih, w_hh, b_ih, b_hh, False, reverse, batch_first)
    return *results(hs, reverse, batch_first), hs, gates, us


def gru_gradient(g, gh, x, w_ih, w_hh, hs, gates, us, reverse, batch_first, needs):
    """The gradients of x, h0, w_ih, w_hh, b_ih, b_hh, given those of out and h_n (None: zero)."""
    saved, wanted = (hs, None, gates, us, False), (needs[0], *needs[2:])
    dh, _, (dx, *rest) = backward("gru", g, gh, None, x, w_ih, w_hh, *saved, reverse, batch_first, wanted)
    return dx, cast(dh, x.dtype), *rest


def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """out, h_n, c_n and what the gradient needs."""
    hs, cs, gates, _ = forward("lstm", x, h0, c0, w_ih, w_hh, b_ih, b_hh, False, reverse, batch_first)
    c_n = cs[0 if reverse else -1].astype(x.dtype)
    return *results(hs, reverse, batch_first), c_n, hs, cs, gates


def lstm_gradient(g, gh, gc, x, w_ih, w_hh, hs, cs, gates, reverse, batch_first, needs):
    """The gradients of x, h0, c0, w_ih, w_hh, b_ih, b_hh, given those of out, h_n and c_n (None: zero)."""
    saved, wanted = (hs, cs, gates, None, False), (needs[0], *needs[3:])
    dh, dc, (dx, *rest) = backward("lstm", g, gh, gc, x, w_ih, w_hh, *saved, reverse, batch_first, wanted)
    return dx, cast(dh, x.dtype), cast(dc, x.dtype), *rest


# ---- what they share ----


def time_first(x, batch_first):
    """x (T, N, D), contiguous."""
    return contiguous(x.swapaxes(0, 1) if batch_first else x)


def flat(x):
    return x.reshape(-1, x.shape[-1])


def times(x, w):
    """x (T, N, K) @ w (K, M), one product."""
    return matmul(flat(x), w).reshape(*x.shape[:-1], w.shape[-1])


def history(first, steps, reverse, dtype):
    """Room for the state before and after every step, the first filled in."""
    states = library(first).empty((steps + 1, *first.shape), dtype)
    states[-1 if reverse else 0] = first
    return states


def results(hs, reverse, batch_first):
    """out, a view of hs, and h_n, a copy: whoever keeps only h_n does not keep all of them."""
    out = hs[:-1] if reverse else hs[1:]
    return out.swapaxes(0, 1) if batch_first else out, hs[0 if reverse else -1].copy()


def carried(g, state):
    """The gradient of the last state in float32, which the walk carries back to the first."""
    zeros, empty = library(state).zeros, library(state).empty
    if g is None:
        return zeros(state.shape, F)
    carry = empty(state.shape, F)
    carry[...] = g
    return carry
