"""A recurrent layer over a whole sequence, forward and back through time, each in one call.

    rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first)   -> out, h_n, hs
    gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)                 -> out, h_n, hs, gates, us
    lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)            -> out, h_n, c_n, hs, cs, gates
    rnn_gradient(...)  gru_gradient(...)  lstm_gradient(...)                 -> the gradients, in the order of arguments

Inside, time comes first: x (T, N, D), hs and cs (T + 1, N, H), gates (T, N, G H). Step t reads hs[t] and writes
hs[t + 1], or in reverse reads hs[t + 1] and writes hs[t], so that `out` is a view of hs in either direction.

A sequence does not touch its neighbours in the batch, so a task takes up to ROWS of them through all of time, without
waiting for the others: one start of the threads each way, and one more for the gradients of the weights. Within a task
there is (rows, H) @ (H, G H) at every step, and the gates; what x adds to the gates, and dx on the way back, are made
for as many steps at once as AT_ONCE rows are, so that they are still in the cache when they are used. x, its gradient
and that of `out` are read and written as they lie, batch first or not. Both weights are copied once into panels
(panels.py), and all products are tiles held in registers (row_tiles.py).

Floor: 2 T N G H (D + H) operations forward, twice that backward. The LSTM with T 64, N 32, D = H = 256 on two cores of
a Zen 5, where tiles do 450 GFLOPS: 4.8 + 9.5 ms. Reached: 4.9 forward and 9.9 back, the gates taking 0.4 of each.
(With OpenBLAS's sgemm for all products, the same in panels of its size, it was 6.2 and 11.7.) A small one, T 64, N 32,
D = H = 32, takes 0.24 ms forward and 0.60 forward and back through `nn.LSTM`, where it took 0.47 and 1.42.

A training step of the character model Embedding(65, 256), LSTM(256, 256), Linear(256, 65), Adam, batch 32 of 64 steps:
see `minigen bench cpu --workload lstm`; PyTorch (oneDNN) takes 1.05 to 1.1 times as long.
"""

import numpy as np
from numba import prange

from .addresses import address, shifted
from .compile import inline, inline_sums, kernel
from .panels import NO_PANELS, in_panels, multiply, project, sequence_in_panels
from .vector_math import select, sigmoid, tanh
from .weight_gradient import rows_a_task
from .weight_gradient import weight_gradients as weights_backward

F = np.float32
ROWS = 16  # sequences a task takes, at most
AT_ONCE = 64  # rows, over several steps, of a product with w_ih: what it makes is still in the cache when it is used
NOTHING = np.empty((0, 0, 0), F)


@inline_sums
def through(h, panels, y, start, start_down, first, last):
    """y[n] = start + h[n] @ the matrix in `panels`, for n from first to last. `start` and start_down as in multiply."""
    multiply(
        *(shifted(address(h), first * h.strides[0]), 0, h.strides[0], panels),
        *(shifted(address(y), first * y.strides[0]), 0, y.strides[0]),
        *(start, 0, start_down, 1, last - first, y.shape[1]),
    )


@inline_sums
def add_through(h, panels, y, first, last):
    """y[n] += h[n] @ the matrix in `panels`, for n from first to last."""
    through(h, panels, y, shifted(address(y), first * y.strides[0]), y.strides[0], first, last)


@inline
def add(x, to):
    for j in range(to.size):
        to[j] += x[j]


# Elman's cell: h' = tanh(a + u), or relu


@kernel
def rnn_forward(x, swapped, w_ih, bias, w_hh, a, hs, relu, rows, back):
    """a: room for what x adds."""
    T, N, H = a.shape
    chunk = max(AT_ONCE // rows, 1)
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for begin in range(0, T, chunk):
            end = min(T, begin + chunk)
            project(x, swapped, w_ih, bias, a, False, T - end if back else begin, end - begin, first, last)
            for step in range(begin, end):
                t = T - 1 - step if back else step
                add_through(hs[t + back], w_hh, a[t], first, last)
                for n in range(first, last):
                    total, h = a[t, n], hs[t + 1 - back, n]
                    if relu:
                        for j in range(H):
                            h[j] = select(total[j] < F(0), F(0), total[j])
                    else:
                        for j in range(H):
                            h[j] = tanh(total[j])


@kernel
def rnn_backward(g, swapped, w_ih, w_hh, hs, da, dx, dh, zero, relu, rows, back):
    T, N, H = da.shape
    chunk = max(AT_ONCE // rows, 1)
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for begin in range(0, T, chunk):
            end = min(T, begin + chunk)
            for step in range(begin, end):
                t = step if back else T - 1 - step
                for n in range(first, last):
                    h, d, later = hs[t + 1 - back, n], da[t, n], dh[n]
                    if g.size > 0:
                        add(g[n, t] if swapped else g[t, n], later)
                    if relu:
                        for j in range(H):
                            d[j] = select(h[j] > F(0), later[j], F(0))
                    else:
                        for j in range(H):
                            d[j] = later[j] * (F(1) - h[j] * h[j])
                through(da[t], w_hh, dh, address(zero), 0, first, last)
            if dx.size > 0:
                project(da, False, w_ih, zero, dx, swapped, begin if back else T - end, end - begin, first, last)


# GRU: r, z = sigmoid(a + u), n = tanh(a_n + r u_n), h' = (1 - z) n + z h


@kernel
def gru_forward(x, swapped, w_ih, b_ih, w_hh, b_hh, gates, hs, us, rows, back):
    """gates: room for r, z, n. us: what h adds to n, for the way back."""
    T, N, H = us.shape
    chunk = max(AT_ONCE // rows, 1)
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        sums = np.empty((last - first, 3 * H), np.float32)
        for begin in range(0, T, chunk):
            end = min(T, begin + chunk)
            project(x, swapped, w_ih, b_ih, gates, False, T - end if back else begin, end - begin, first, last)
            for step in range(begin, end):
                t = T - 1 - step if back else step
                through(hs[t + back, first:last], w_hh, sums, address(b_hh), 0, 0, last - first)
                for n in range(first, last):
                    gate, u = gates[t, n], sums[n - first]
                    rs, zs, ns = gate[:H], gate[H : 2 * H], gate[2 * H :]
                    u_r, u_z, u_n = u[:H], u[H : 2 * H], u[2 * H :]
                    kept, before, h = us[t, n], hs[t + back, n], hs[t + 1 - back, n]
                    for j in range(H):
                        r, z = sigmoid(rs[j] + u_r[j]), sigmoid(zs[j] + u_z[j])
                        new = tanh(ns[j] + r * u_n[j])
                        rs[j], zs[j], ns[j], kept[j] = r, z, new, u_n[j]
                        h[j] = new + z * (before[j] - new)


@kernel
def gru_backward(g, swapped, w_ih, w_hh, hs, gates, us, da, du, dx, dh, zero, rows, back):
    """da, du: the gradients of what x and h add to r, z, n. They differ in n, where r stands between."""
    T, N, H = us.shape
    chunk = max(AT_ONCE // rows, 1)
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for begin in range(0, T, chunk):
            end = min(T, begin + chunk)
            for step in range(begin, end):
                t = step if back else T - 1 - step
                for n in range(first, last):
                    gate, by_a, by_u = gates[t, n], da[t, n], du[t, n]
                    rs, zs, ns = gate[:H], gate[H : 2 * H], gate[2 * H :]
                    a_r, a_z, a_n = by_a[:H], by_a[H : 2 * H], by_a[2 * H :]
                    u_r, u_z, u_n = by_u[:H], by_u[H : 2 * H], by_u[2 * H :]
                    u, before, later = us[t, n], hs[t + back, n], dh[n]
                    if g.size > 0:
                        add(g[n, t] if swapped else g[t, n], later)
                    for j in range(H):
                        r, z, new, d = rs[j], zs[j], ns[j], later[j]
                        to_n = d * (F(1) - z) * (F(1) - new * new)
                        to_r = to_n * u[j] * r * (F(1) - r)
                        to_z = d * (before[j] - new) * z * (F(1) - z)
                        a_r[j], a_z[j], a_n[j] = to_r, to_z, to_n
                        u_r[j], u_z[j], u_n[j] = to_r, to_z, to_n * r
                        later[j] = d * z
                add_through(du[t], w_hh, dh, first, last)
            if dx.size > 0:
                project(da, False, w_ih, zero, dx, swapped, begin if back else T - end, end - begin, first, last)


# LSTM: i, f, o = sigmoid(a + u), g = tanh(a + u), c' = f c + i g, h' = o tanh(c')


@kernel
def lstm_forward(x, swapped, w_ih, bias, w_hh, gates, hs, cs, rows, back):
    """gates: room for i, f, g, o."""
    T, N = gates.shape[:2]
    H = hs.shape[2]
    chunk = max(AT_ONCE // rows, 1)
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for begin in range(0, T, chunk):
            end = min(T, begin + chunk)
            project(x, swapped, w_ih, bias, gates, False, T - end if back else begin, end - begin, first, last)
            for step in range(begin, end):
                t = T - 1 - step if back else step
                add_through(hs[t + back], w_hh, gates[t], first, last)
                for n in range(first, last):
                    gate = gates[t, n]
                    inputs, forgets, candidates, outputs = gate[:H], gate[H : 2 * H], gate[2 * H : 3 * H], gate[3 * H :]
                    before, c, h = cs[t + back, n], cs[t + 1 - back, n], hs[t + 1 - back, n]
                    for j in range(H):
                        i, f, o = sigmoid(inputs[j]), sigmoid(forgets[j]), sigmoid(outputs[j])
                        new = tanh(candidates[j])
                        cell = f * before[j] + i * new
                        inputs[j], forgets[j], candidates[j], outputs[j] = i, f, new, o
                        c[j] = cell
                        h[j] = o * tanh(cell)


@kernel
def lstm_backward(g, swapped, w_ih, w_hh, cs, gates, da, dx, dh, dc, zero, rows, back):
    T, N, H = cs.shape[0] - 1, cs.shape[1], cs.shape[2]
    chunk = max(AT_ONCE // rows, 1)
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for begin in range(0, T, chunk):
            end = min(T, begin + chunk)
            for step in range(begin, end):
                t = step if back else T - 1 - step
                for n in range(first, last):
                    gate, by_a = gates[t, n], da[t, n]
                    inputs, forgets, candidates, outputs = gate[:H], gate[H : 2 * H], gate[2 * H : 3 * H], gate[3 * H :]
                    di, df, dg, do = by_a[:H], by_a[H : 2 * H], by_a[2 * H : 3 * H], by_a[3 * H :]
                    before, c, later, later_c = cs[t + back, n], cs[t + 1 - back, n], dh[n], dc[n]
                    if g.size > 0:
                        add(g[n, t] if swapped else g[t, n], later)
                    for j in range(H):
                        i, f, new, o, d = inputs[j], forgets[j], candidates[j], outputs[j], later[j]
                        squashed = tanh(c[j])
                        cell = later_c[j] + d * o * (F(1) - squashed * squashed)
                        di[j] = cell * new * i * (F(1) - i)
                        df[j] = cell * before[j] * f * (F(1) - f)
                        dg[j] = cell * i * (F(1) - new * new)
                        do[j] = d * squashed * o * (F(1) - o)
                        later_c[j] = cell * f
                through(da[t], w_hh, dh, address(zero), 0, first, last)
            if dx.size > 0:
                project(da, False, w_ih, zero, dx, swapped, begin if back else T - end, end - begin, first, last)


# What the ops call


def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first):
    """out, h_n and the states. Nothing may be empty."""
    x, steps = in_memory(x), x.shape[1 if batch_first else 0]
    a, hs = np.empty((steps, *h0.shape), F), history(h0, steps, reverse)
    weights = in_panels(w_ih.T), bias_of(total(b_ih, b_hh), w_ih), in_panels(w_hh.T)
    rnn_forward(x, batch_first, *weights, a, hs, nonlinearity == "relu", rows_of(hs), int(reverse))
    return *results(hs, reverse, batch_first), hs


def rnn_gradient(g, gh, x, w_ih, w_hh, hs, nonlinearity, reverse, batch_first, needs):
    """The gradients of x, h0, w_ih, w_hh, b_ih, b_hh, given those of out and h_n (None: zero)."""
    da, dh, x = np.empty((len(hs) - 1, *hs.shape[1:]), F), carried(gh, hs), in_memory(x)
    w_ih, dx, zero = for_input(w_ih, x, hs, needs[0])
    relu = nonlinearity == "relu"
    rnn_backward(arriving(g), batch_first, w_ih, in_panels(w_hh), hs, da, dx, dh, zero, relu, rows_of(hs), int(reverse))
    return dx if needs[0] else None, dh, *weight_gradients(da, da, x, hs, reverse, batch_first, needs[2:])


def gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """out, h_n and what the gradient needs. Nothing may be empty."""
    x, steps = in_memory(x), x.shape[1 if batch_first else 0]
    gates, us = np.empty((steps, len(h0), len(w_ih)), F), np.empty((steps, *h0.shape), F)
    hs = history(h0, steps, reverse)
    weights = in_panels(w_ih.T), bias_of(b_ih, w_ih), in_panels(w_hh.T), bias_of(b_hh, w_hh)
    gru_forward(x, batch_first, *weights, gates, hs, us, rows_of(hs), int(reverse))
    return *results(hs, reverse, batch_first), hs, gates, us


def gru_gradient(g, gh, x, w_ih, w_hh, hs, gates, us, reverse, batch_first, needs):
    """The gradients of x, h0, w_ih, w_hh, b_ih, b_hh, given those of out and h_n (None: zero)."""
    da, du, dh, x = np.empty_like(gates), np.empty_like(gates), carried(gh, hs), in_memory(x)
    w_ih, dx, zero = for_input(w_ih, x, hs, needs[0])
    room = da, du, dx, dh, zero
    gru_backward(arriving(g), batch_first, w_ih, in_panels(w_hh), hs, gates, us, *room, rows_of(hs), int(reverse))
    return dx if needs[0] else None, dh, *weight_gradients(da, du, x, hs, reverse, batch_first, needs[2:])


def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """out, h_n, c_n and what the gradient needs. Nothing may be empty."""
    x, steps = in_memory(x), x.shape[1 if batch_first else 0]
    gates = np.empty((steps, len(h0), len(w_ih)), F)
    hs, cs = history(h0, steps, reverse), history(c0, steps, reverse)
    weights = in_panels(w_ih.T), bias_of(total(b_ih, b_hh), w_ih), in_panels(w_hh.T)
    lstm_forward(x, batch_first, *weights, gates, hs, cs, rows_of(hs), int(reverse))
    return *results(hs, reverse, batch_first), cs[0 if reverse else -1].copy(), hs, cs, gates


def lstm_gradient(g, gh, gc, x, w_ih, w_hh, hs, cs, gates, reverse, batch_first, needs):
    """The gradients of x, h0, c0, w_ih, w_hh, b_ih, b_hh, given those of out, h_n and c_n (None: zero)."""
    da, dh, dc, x = np.empty_like(gates), carried(gh, hs), carried(gc, cs), in_memory(x)
    w_ih, dx, zero = for_input(w_ih, x, hs, needs[0])
    room = da, dx, dh, dc, zero
    lstm_backward(arriving(g), batch_first, w_ih, in_panels(w_hh), cs, gates, *room, rows_of(hs), int(reverse))
    return dx if needs[0] else None, dh, dc, *weight_gradients(da, da, x, hs, reverse, batch_first, needs[3:])


# What they share


def in_memory(x):
    """x contiguous and writable, its dimensions as they are: then every kernel is compiled once."""
    return np.require(x, F, "CW")


def for_input(w_ih, x, hs, wanted):
    """w_ih in panels, room for dx, both empty if it is not wanted; and zeros, as many as the widest row needs."""
    zero = np.zeros(max(x.shape[2], hs.shape[2]), F)
    return (in_panels(w_ih), np.empty_like(x), zero) if wanted else (NO_PANELS, NOTHING, zero)


def weight_gradients(da, du, x, hs, reverse, batch_first, needs):
    """Of w_ih, w_hh, b_ih, b_hh (needs: which), from those of what x and h add at every step, da and du (T, N, G H)."""
    R, H, D = da.shape[2], hs.shape[2], x.shape[2]
    dw_ih, dw_hh = (np.empty((R if wanted else 0, n), F) for wanted, n in zip(needs, (D, H)))
    xs = before = NO_PANELS
    if needs[0]:
        xs = sequence_in_panels(x, True) if batch_first else in_panels(flat(x), once=True)
    if needs[1]:
        before = in_panels(flat(hs[1:] if reverse else hs[:-1]), once=True)
    if du is da:  # both weights in one pass
        db = np.empty(R if needs[2] or needs[3] else 0, F)
        weights_backward(flat(da), xs, before, dw_ih, dw_hh, db, rows_a_task(R))
        db_ih, db_hh = db, db.copy() if needs[2] else db
    else:
        db_ih, db_hh = (np.empty(R if wanted else 0, F) for wanted in needs[2:4])
        weights_backward(flat(da), xs, NO_PANELS, dw_ih, dw_hh, db_ih, rows_a_task(R))
        weights_backward(flat(du), before, NO_PANELS, dw_hh, dw_ih, db_hh, rows_a_task(R))
    return [a if wanted else None for a, wanted in zip((dw_ih, dw_hh, db_ih, db_hh), needs)]


def flat(x):
    return x.reshape(-1, x.shape[-1])


def total(a, b):
    return b if a is None else a if b is None else a + b


def bias_of(bias, weight):
    return np.zeros(len(weight), F) if bias is None else np.require(bias, F, "CW")


def history(first, steps, reverse):
    """Room for the state before and after every step, the first filled in."""
    states = np.empty((steps + 1, *first.shape), F)
    states[-1 if reverse else 0] = first
    return states


def results(hs, reverse, batch_first):
    """out, a view of hs, and h_n, a copy: whoever keeps only h_n does not keep all of them."""
    out = hs[:-1] if reverse else hs[1:]
    return out.swapaxes(0, 1) if batch_first else out, hs[0 if reverse else -1].copy()


def arriving(g):
    return NOTHING if g is None else in_memory(g)


def carried(g, states):
    """The gradient of the last state, which the kernel carries back to the first."""
    return np.zeros(states.shape[1:], F) if g is None else np.array(g, F, order="C")


def rows_of(hs):
    """How many sequences a task takes: an even number of tasks, as equal as can be."""
    N = hs.shape[1]
    return -(-N // (2 * -(-N // (2 * ROWS))))
