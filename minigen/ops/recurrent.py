"""Recurrence: one step of a plain, gated or long short-term memory cell, and whole sequences of steps.

    rnn_cell   gru_cell   lstm_cell      one step: x (..., D) and a state (..., H) -> the next state
    rnn_layer  gru_layer  lstm_layer     one layer in one direction, x (L, N, D) -> the states after every step

Weights are PyTorch's: w_ih (gates * H, D), w_hh (gates * H, H), biases (gates * H,), with the gates one below the other
in the order r, z, n (GRU) and i, f, g, o (LSTM). `minigen.nn` stacks layers and directions.

A layer is a fused op. Its definition is the loop over the steps; its kernel (recurrent.py in kernels/cpu and
kernels/cuda) walks through time in one call, forward and back.
"""

from .. import kernels
from ..autograd import op
from ..errors import ArgumentError, DtypeError, expect
from .activations import floating, relu
from .elementary import sigmoid, tanh
from .joining import chunk, stack, unbind
from .linear import linear

__all__ = ["gru_cell", "gru_layer", "lstm_cell", "lstm_layer", "rnn_cell", "rnn_layer"]

# One step, given what x and h contribute: a = W x + b, u = U h + c.


def _rnn_step(a, u, h, nonlinearity):
    return ((tanh if nonlinearity == "tanh" else relu)(a + u),)


def _gru_step(a, u, h):
    (a_r, a_z, a_n), (u_r, u_z, u_n) = chunk(a, 3, -1), chunk(u, 3, -1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = tanh(a_n + r * u_n)
    return (n + z * (h - n),)


def _lstm_step(a, u, h, c, w_hr):
    i, f, g, o = chunk(a + u, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h if w_hr is None else linear(h, w_hr), c


def _steps(step, x, states, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    """The output of every step, stacked, and the last states. `states` begins with h."""
    time = 1 if batch_first else 0
    outputs = []
    inputs = unbind(linear(x, w_ih, b_ih), time)
    for a in reversed(inputs) if reverse else inputs:
        states = step(a, linear(states[0], w_hh, b_hh), *states)
        outputs.append(states[0])
    return stack(outputs[::-1] if reverse else outputs, dim=time), *states


# Whole sequences


@op(outputs=2, saves=("hs",))
def _rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first):
    family = _family(x, h0)
    if family is None:
        return NotImplemented
    return family.rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first)


@_rnn.gradient
def _(g, x, w_ih, w_hh, hs, nonlinearity, reverse, batch_first, needs):
    family = kernels.find(x, "recurrent")
    return family.rnn_gradient(*g, x, w_ih, w_hh, hs, nonlinearity, reverse, batch_first, needs)


@_rnn.definition
def _(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, reverse, batch_first):
    step = lambda a, u, h: _rnn_step(a, u, h, nonlinearity)
    return _steps(step, x, (h0,), w_ih, w_hh, b_ih, b_hh, reverse, batch_first)


@op(outputs=2, saves=("hs", "gates", "us"))
def _gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    family = _family(x, h0)
    if family is None:
        return NotImplemented
    return family.gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)


@_gru.gradient
def _(g, x, w_ih, w_hh, hs, gates, us, reverse, batch_first, needs):
    family = kernels.find(x, "recurrent")
    return family.gru_gradient(*g, x, w_ih, w_hh, hs, gates, us, reverse, batch_first, needs)


@_gru.definition
def _(x, h0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first):
    return _steps(_gru_step, x, (h0,), w_ih, w_hh, b_ih, b_hh, reverse, batch_first)


@op(outputs=3, saves=("hs", "cs", "gates"))
def _lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, reverse, batch_first):
    family = _family(x, c0) if w_hr is None else None  # projections are rare: the definition serves them
    if family is None:
        return NotImplemented
    return family.lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse, batch_first)


@_lstm.gradient
def _(g, x, w_ih, w_hh, hs, cs, gates, reverse, batch_first, needs):
    family = kernels.find(x, "recurrent")
    return family.lstm_gradient(*g, x, w_ih, w_hh, hs, cs, gates, reverse, batch_first, needs)


@_lstm.definition
def _(x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, reverse, batch_first):
    step = lambda a, u, h, c: _lstm_step(a, u, h, c, w_hr)
    return _steps(step, x, (h0, c0), w_ih, w_hh, b_ih, b_hh, reverse, batch_first)


def _family(x, state):
    """The kernels for x, unless something is empty."""
    return kernels.find(x, "recurrent") if x.size and state.size else None


# What users call


def rnn_cell(x, h, w_ih, w_hh, b_ih=None, b_hh=None, nonlinearity="tanh"):
    """One step of a plain recurrence: tanh(w_ih x + b_ih + w_hh h + b_hh), or relu of it (Elman 1990).

    x (..., D), h (..., H) -> (..., H). Raises ShapeError, DtypeError or ArgumentError.
    """
    _check_cell("rnn_cell", 1, x, {"h": h}, w_ih, w_hh, b_ih, b_hh)
    _check_nonlinearity("rnn_cell", nonlinearity)
    return _rnn_step(linear(x, w_ih, b_ih), linear(h, w_hh, b_hh), h, nonlinearity)[0]


def gru_cell(x, h, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078, eq. 5-8). With a = w_ih x + b_ih and
    u = w_hh h + b_hh, each in three parts:

        r = sigmoid(a_r + u_r)    z = sigmoid(a_z + u_z)    n = tanh(a_n + r u_n)    h' = (1 - z) n + z h

    The reset gate r multiplies u_n, as in PyTorch and cuDNN; in the paper it multiplies h before the product, and z
    stands for 1 - z in many other texts. x (..., D), h (..., H) -> (..., H). Raises ShapeError or DtypeError.
    """
    _check_cell("gru_cell", 3, x, {"h": h}, w_ih, w_hh, b_ih, b_hh)
    return _gru_step(linear(x, w_ih, b_ih), linear(h, w_hh, b_hh), h)[0]


def lstm_cell(x, h, c, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of long short-term memory (Hochreiter & Schmidhuber 1997), with the forget gate of Gers et al. (2000).

        i, f, o = sigmoid(...)    g = tanh(...)    of the four parts i, f, g, o of  w_ih x + b_ih + w_hh h + b_hh
        c' = f c + i g            h' = o tanh(c')

    x (..., D), h and c (..., H) -> h', c'. Raises ShapeError or DtypeError.
    """
    _check_cell("lstm_cell", 4, x, {"h": h, "c": c}, w_ih, w_hh, b_ih, b_hh)
    return _lstm_step(linear(x, w_ih, b_ih), linear(h, w_hh, b_hh), h, c, None)


def rnn_layer(
    x, h0, w_ih, w_hh, b_ih=None, b_hh=None, nonlinearity="tanh", reverse=False, batch_first=False
):  # fmt: skip
    """`rnn_cell` over a sequence: x (L, N, D), h0 (N, H) -> the states after every step (L, N, H), the last (N, H).

    reverse      from the last step to the first; out[t] is still the state beside x[t], and the last is out[0]
    batch_first  x is (N, L, D) and out (N, L, H); the states are (N, H) as before

    Raises ShapeError, DtypeError or ArgumentError; a sequence must have at least one step.
    """
    _check_layer("rnn_layer", 1, x, {"h0": h0}, w_ih, w_hh, b_ih, b_hh, None, batch_first)
    _check_nonlinearity("rnn_layer", nonlinearity)
    return _rnn(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity, bool(reverse), bool(batch_first))


def gru_layer(x, h0, w_ih, w_hh, b_ih=None, b_hh=None, reverse=False, batch_first=False):
    """`gru_cell` over a sequence: x (L, N, D), h0 (N, H) -> out (L, N, H), h_n (N, H). See `rnn_layer`."""
    _check_layer("gru_layer", 3, x, {"h0": h0}, w_ih, w_hh, b_ih, b_hh, None, batch_first)
    return _gru(x, h0, w_ih, w_hh, b_ih, b_hh, bool(reverse), bool(batch_first))


def lstm_layer(x, h0, c0, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, reverse=False, batch_first=False):
    """`lstm_cell` over a sequence: x (L, N, D), h0 and c0 (N, H) -> out (L, N, H), h_n (N, H), c_n (N, H).

    w_hr (P, H) projects every h to P numbers (Sak et al. 2014, arXiv:1402.1128): w_hh is then (4 H, P), and h0, out and
    h_n are P wide. See `rnn_layer` for reverse and batch_first.
    """
    _check_layer("lstm_layer", 4, x, {"h0": h0, "c0": c0}, w_ih, w_hh, b_ih, b_hh, w_hr, batch_first)
    return _lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, bool(reverse), bool(batch_first))


def _check_layer(name, gates, x, states, w_ih, w_hh, b_ih, b_hh, w_hr, batch_first):
    _check_types(name, x, *states.values(), w_ih, w_hh, b_ih, b_hh, w_hr)
    layout = "(N, L, D)" if batch_first else "(L, N, D)"
    expect(
        x.ndim == 3,
        f"{name}: x must be {layout}",
        x,
        hint=f"did you mean x.unsqueeze({0 if batch_first else 1}), a batch of one?" if x.ndim == 2 else None,
    )
    n, steps = x.shape[:2] if batch_first else x.shape[1::-1]
    expect(steps > 0, f"{name}: a sequence must have at least one step, x {layout} has none", x)
    _check_shapes(name, gates, x, (n,), states, w_ih, w_hh, b_ih, b_hh, w_hr)


def _check_cell(name, gates, x, states, w_ih, w_hh, b_ih, b_hh):
    _check_types(name, x, *states.values(), w_ih, w_hh, b_ih, b_hh)
    expect(x.ndim > 0, f"{name}: x must be (N, D)", x)
    _check_shapes(name, gates, x, tuple(x.shape[:-1]), states, w_ih, w_hh, b_ih, b_hh, None)


def _check_types(name, *arguments):
    given = [x for x in arguments if x is not None]
    for x in given:
        expect(hasattr(x, "shape"), f"{name}: x, the states and the weights must be tensors", x, error=DtypeError)
    floating(name, *given)


def _check_shapes(name, gates, x, lead, states, w_ih, w_hh, b_ih, b_hh, w_hr):
    """Every shape against those that x and the weights ask for; `lead` is what stands before H in a state."""
    rows = f"{gates} H" if gates > 1 else "H"
    expect(
        w_ih.ndim == 2 and w_ih.shape[0] % gates == 0, f"{name}: w_ih must be ({rows}, D), D the last size of x", w_ih
    )
    H = w_ih.shape[0] // gates
    expect(
        w_ih.shape[1] == x.shape[-1],
        f"{name}: x has {x.shape[-1]} numbers a step, w_ih ({rows}, D) takes {w_ih.shape[1]}",
        *(x, w_ih),
        hint="did you mean w_ih.T?" if w_ih.shape[0] == x.shape[-1] else None,
    )
    expect(w_hr is None or (w_hr.ndim == 2 and w_hr.shape[1] == H), f"{name}: w_hr must be (P, H), here (P, {H})", w_hr)
    wide = H if w_hr is None else w_hr.shape[0]
    expect(
        w_hh.shape == (gates * H, wide), f"{name}: beside this w_ih, w_hh must be {(gates * H, wide)}", *(w_hh, w_ih)
    )
    for what, bias in (("b_ih", b_ih), ("b_hh", b_hh)):
        expect(bias is None or bias.shape == (gates * H,), f"{name}: {what} must be {(gates * H,)} or None", bias)
    for what, state in states.items():
        wanted = (*lead, wide if what[0] == "h" else H)
        swapped = len(lead) == 1 and state.ndim == 2 and state.shape[0] in x.shape[:2]
        expect(
            state.shape == wanted,
            f"{name}: {what} must be {wanted} beside this x",
            *(state, x),
            hint="x is (L, N, D), or (N, L, D) with batch_first=True" if swapped else None,
        )


def _check_nonlinearity(name, nonlinearity):
    expect(
        nonlinearity in ("tanh", "relu"), f'{name}: nonlinearity is "tanh" or "relu"', nonlinearity, error=ArgumentError
    )
