"""A recurrent layer over a whole sequence, forward and back through time, each in one call.

    rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first)   -> out, h_n, hs
    gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)                 -> out, h_n, hs, gates, us
    lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)            -> out, h_n, c_n, hs, cs, gates
    rnn_gradient(...)  gru_gradient(...)  lstm_gradient(...)                 -> the gradients, in the order of arguments

Inside, time comes first: x (T, N, D), hs and cs (T + 1, N, H), gates (T, N, G H). Step t reads hs[t] and writes
hs[t + 1], or in reverse reads hs[t + 1] and writes hs[t], so that `out` is a view of hs in either direction.

What x adds to all gates of all steps is one product, and so are the gradients of the weights. What is left to do step
by step is h @ w_hh.T, (rows, H) @ (H, G H), and the gates. A sequence does not touch its neighbours in the batch, so a
task takes up to ROWS of them through all of time, without waiting for the others.

Floor: 2 T N G H (D + H) operations forward, twice that backward. Reached by the LSTM with T 64, N 32, D = H = 256 on
one core of a Zen 5 (the best product seen there: 257 GFLOPS), in processor time: 10.3 ms forward and 20.4 ms backward,
209 GFLOPS. The gates take 0.7 ms of each way; a step's product in panels (panels.py) runs at 2.6 times sgemm's speed.

A training step of the character model Embedding(65, 256), LSTM(256, 256), Linear(256, 65), Adam: 37 ms on one thread,
PyTorch 2.13 36 ms (processor time, medians of three turns' best). On two threads, measured only beside other programs
that wanted the same two cores: 107 ms, PyTorch 378 ms (medians of ten turns' best; no figure for an idle machine).
"""

from functools import wraps

import numpy as np
from numba import prange

from .blas import single_threaded_blas
from .compile import inline, kernel
from .panels import add_product, in_panels, project, weight_gradient
from .vector_math import select, sigmoid, tanh

F = np.float32
ROWS = 16  # sequences a task takes, at most
NOTHING = np.empty((0, 0, 0), F)


# Elman's cell: h' = tanh(a + u), or relu


@kernel
def rnn_forward(a, panels, hs, relu, rows, back):
    T, N, H = a.shape
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for step in range(T):
            t = T - 1 - step if back else step
            add_product(hs[t + back, first:last], panels, a[t, first:last])
            for n in range(first, last):
                total, h = a[t, n], hs[t + 1 - back, n]
                if relu:
                    for j in range(H):
                        h[j] = select(total[j] < F(0), F(0), total[j])
                else:
                    for j in range(H):
                        h[j] = tanh(total[j])


@kernel
def rnn_backward(g, panels, hs, da, dh, relu, rows, back):
    T, N, H = da.shape
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for step in range(T):
            t = step if back else T - 1 - step
            for n in range(first, last):
                h, d, later = hs[t + 1 - back, n], da[t, n], dh[n]
                if g.size > 0:
                    add(g[t, n], later)
                if relu:
                    for j in range(H):
                        d[j] = select(h[j] > F(0), later[j], F(0))
                        later[j] = F(0)
                else:
                    for j in range(H):
                        d[j] = later[j] * (F(1) - h[j] * h[j])
                        later[j] = F(0)
            add_product(da[t, first:last], panels, dh[first:last])


@inline
def add(x, to):
    for j in range(to.size):
        to[j] += x[j]


# GRU: r, z = sigmoid(a + u), n = tanh(a_n + r u_n), h' = (1 - z) n + z h


@kernel
def gru_forward(gates, panels, bias, hs, us, rows, back):
    """gates: comes with what x adds, leaves as r, z, n. us: what h adds to n, for the way back."""
    T, N, H = us.shape
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        sums = np.empty((last - first, 3 * H), np.float32)
        for step in range(T):
            t = T - 1 - step if back else step
            for n in range(last - first):
                u = sums[n]
                for j in range(3 * H):
                    u[j] = bias[j]
            add_product(hs[t + back, first:last], panels, sums)
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
def gru_backward(g, panels, hs, gates, us, da, du, dh, rows, back):
    """da, du: the gradients of what x and h add to r, z, n. They differ in n, where r stands between."""
    T, N, H = us.shape
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for step in range(T):
            t = step if back else T - 1 - step
            for n in range(first, last):
                gate, by_a, by_u = gates[t, n], da[t, n], du[t, n]
                rs, zs, ns = gate[:H], gate[H : 2 * H], gate[2 * H :]
                a_r, a_z, a_n = by_a[:H], by_a[H : 2 * H], by_a[2 * H :]
                u_r, u_z, u_n = by_u[:H], by_u[H : 2 * H], by_u[2 * H :]
                u, before, later = us[t, n], hs[t + back, n], dh[n]
                if g.size > 0:
                    add(g[t, n], later)
                for j in range(H):
                    r, z, new, d = rs[j], zs[j], ns[j], later[j]
                    to_n = d * (F(1) - z) * (F(1) - new * new)
                    to_r = to_n * u[j] * r * (F(1) - r)
                    to_z = d * (before[j] - new) * z * (F(1) - z)
                    a_r[j], a_z[j], a_n[j] = to_r, to_z, to_n
                    u_r[j], u_z[j], u_n[j] = to_r, to_z, to_n * r
                    later[j] = d * z
            add_product(du[t, first:last], panels, dh[first:last])


# LSTM: i, f, o = sigmoid(a + u), g = tanh(a + u), c' = f c + i g, h' = o tanh(c')


@kernel
def lstm_forward(gates, panels, hs, cs, rows, back):
    """gates: comes with what x adds, leaves as i, f, g, o."""
    T, N = gates.shape[:2]
    H = hs.shape[2]
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for step in range(T):
            t = T - 1 - step if back else step
            add_product(hs[t + back, first:last], panels, gates[t, first:last])
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
def lstm_backward(g, panels, cs, gates, da, dh, dc, rows, back):
    T, N, H = cs.shape[0] - 1, cs.shape[1], cs.shape[2]
    for task in prange((N + rows - 1) // rows):
        first, last = task * rows, min(N, (task + 1) * rows)
        for step in range(T):
            t = step if back else T - 1 - step
            for n in range(first, last):
                gate, by_a = gates[t, n], da[t, n]
                inputs, forgets, candidates, outputs = gate[:H], gate[H : 2 * H], gate[2 * H : 3 * H], gate[3 * H :]
                di, df, dg, do = by_a[:H], by_a[H : 2 * H], by_a[2 * H : 3 * H], by_a[3 * H :]
                before, c, later, later_c = cs[t + back, n], cs[t + 1 - back, n], dh[n], dc[n]
                if g.size > 0:
                    add(g[t, n], later)
                for j in range(H):
                    i, f, new, o, d = inputs[j], forgets[j], candidates[j], outputs[j], later[j]
                    squashed = tanh(c[j])
                    cell = later_c[j] + d * o * (F(1) - squashed * squashed)
                    di[j] = cell * new * i * (F(1) - i)
                    df[j] = cell * before[j] * f * (F(1) - f)
                    dg[j] = cell * i * (F(1) - new * new)
                    do[j] = d * squashed * o * (F(1) - o)
                    later_c[j] = cell * f
                    later[j] = F(0)
            add_product(da[t, first:last], panels, dh[first:last])


# What the ops call


def single_threaded(function):
    """`function` with OpenBLAS on one thread: the kernels bring the threads."""

    @wraps(function)
    def call(*arguments):
        with single_threaded_blas:
            return function(*arguments)

    return call


@single_threaded
def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first):
    """out, h_n and the states. Nothing may be empty."""
    a = projected(x, w_ih, total(b_ih, b_hh), batch_first)
    hs = history(h0, len(a), reverse)
    rnn_forward(a, in_panels(w_hh.T), hs, nonlinearity == "relu", rows_of(hs), int(reverse))
    return *results(hs, reverse, batch_first), hs


@single_threaded
def rnn_gradient(g, gh, x, w_ih, w_hh, hs, nonlinearity, reverse, batch_first, needs):
    """The gradients of x, h0, w_ih, w_hh, b_ih, b_hh, given those of out and h_n (None: zero)."""
    da, dh = np.empty((len(hs) - 1, *hs.shape[1:]), F), carried(gh, hs)
    g, relu = arriving(g, batch_first), nonlinearity == "relu"
    rnn_backward(g, in_panels(w_hh), hs, da, dh, relu, rows_of(hs), int(reverse))
    dx = input_gradient(da, w_ih, batch_first) if needs[0] else None
    return dx, dh, *weight_gradients(da, da, x, hs, reverse, batch_first, needs[2:])


@single_threaded
def gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """out, h_n and what the gradient needs. Nothing may be empty."""
    gates = projected(x, w_ih, b_ih, batch_first)
    hs, us = history(h0, len(gates), reverse), np.empty((*gates.shape[:2], h0.shape[1]), F)
    gru_forward(gates, in_panels(w_hh.T), bias_of(b_hh, w_hh), hs, us, rows_of(hs), int(reverse))
    return *results(hs, reverse, batch_first), hs, gates, us


@single_threaded
def gru_gradient(g, gh, x, w_ih, w_hh, hs, gates, us, reverse, batch_first, needs):
    """The gradients of x, h0, w_ih, w_hh, b_ih, b_hh, given those of out and h_n (None: zero)."""
    da, du, dh = np.empty_like(gates), np.empty_like(gates), carried(gh, hs)
    g = arriving(g, batch_first)
    gru_backward(g, in_panels(w_hh), hs, gates, us, da, du, dh, rows_of(hs), int(reverse))
    dx = input_gradient(da, w_ih, batch_first) if needs[0] else None
    return dx, dh, *weight_gradients(da, du, x, hs, reverse, batch_first, needs[2:])


@single_threaded
def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """out, h_n, c_n and what the gradient needs. Nothing may be empty."""
    gates = projected(x, w_ih, total(b_ih, b_hh), batch_first)
    hs, cs = history(h0, len(gates), reverse), history(c0, len(gates), reverse)
    lstm_forward(gates, in_panels(w_hh.T), hs, cs, rows_of(hs), int(reverse))
    return *results(hs, reverse, batch_first), cs[0 if reverse else -1].copy(), hs, cs, gates


@single_threaded
def lstm_gradient(g, gh, gc, x, w_ih, w_hh, hs, cs, gates, reverse, batch_first, needs):
    """The gradients of x, h0, c0, w_ih, w_hh, b_ih, b_hh, given those of out, h_n and c_n (None: zero)."""
    da, dh, dc = np.empty_like(gates), carried(gh, hs), carried(gc, cs)
    lstm_backward(arriving(g, batch_first), in_panels(w_hh), cs, gates, da, dh, dc, rows_of(hs), int(reverse))
    dx = input_gradient(da, w_ih, batch_first) if needs[0] else None
    return dx, dh, dc, *weight_gradients(da, da, x, hs, reverse, batch_first, needs[3:])


# What they share


def time_first(x, batch_first):
    """x (T, N, ...), contiguous and writable: then every kernel is compiled once."""
    return np.require(x.swapaxes(0, 1) if batch_first else x, F, "CW")


def projected(x, w_ih, bias, batch_first):
    """What x adds to the gates of all steps: (T, N, G H)."""
    x = time_first(x, batch_first)
    a = np.empty((*x.shape[:2], len(w_ih)), F)
    project(flat(x), in_panels(w_ih.T), bias_of(bias, w_ih), flat(a))
    return a


def input_gradient(da, w_ih, batch_first):
    dx = np.empty((*da.shape[:2], w_ih.shape[1]), F)
    project(flat(da), in_panels(w_ih), np.zeros(w_ih.shape[1], F), flat(dx))
    return dx.swapaxes(0, 1) if batch_first else dx


def weight_gradients(da, du, x, hs, reverse, batch_first, needs):
    """Of w_ih, w_hh, b_ih, b_hh (needs: which), from those of what x and h add at every step, da and du (T, N, G H)."""
    dw_ih = dw_hh = db_ih = db_hh = None
    if needs[0] or needs[2]:
        dw_ih, db_ih = weight_and_bias(da, time_first(x, batch_first), needs[2])
    if needs[1] or needs[3]:
        known = needs[2] and du is da
        dw_hh, db_hh = weight_and_bias(du, hs[1:] if reverse else hs[:-1], needs[3] and not known)
        db_hh = db_ih.copy() if known else db_hh
    return dw_ih, dw_hh, db_ih, db_hh


def weight_and_bias(d, inputs, bias_too):
    R = d.shape[2]
    dw, db = np.empty((R, inputs.shape[2]), F), np.empty(R if bias_too else 0, F)
    weight_gradient(flat(d), in_panels(flat(inputs)), dw, db)
    return dw, db


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


def arriving(g, batch_first):
    return NOTHING if g is None else time_first(g, batch_first)


def carried(g, states):
    """The gradient of the last state, which the kernel carries back to the first."""
    return np.zeros(states.shape[1:], F) if g is None else np.array(g, F, order="C")


def rows_of(hs):
    """How many sequences a task takes: an even number of tasks, as equal as can be."""
    N = hs.shape[1]
    return -(-N // (2 * -(-N // (2 * ROWS))))
