"""Recurrent cells and layers: against the published equations in plain loops, and gradients of the definitions."""

import gc
import weakref

import numpy as np
import pytest
from agreement import gradients_are_right

import minigen
from minigen import Tensor, kernels, nn
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops.recurrent import gru_cell, gru_layer, lstm_cell, lstm_layer, rnn_cell, rnn_layer

GATES = {"rnn": 1, "relu": 1, "gru": 3, "lstm": 4}
random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape)


def weights(kind, D, H, P=None):
    """w_ih, w_hh, b_ih, b_hh, small enough for the gates to be neither open nor shut."""
    rows = GATES[kind] * H
    return draw(rows, D) * D**-0.5, draw(rows, P or H) * (P or H) ** -0.5, draw(rows), draw(rows)


def states(kind, *shape):
    return [draw(*shape) for _ in range(2 if kind == "lstm" else 1)]


def layer(kind, x, *arguments, **options):
    """(out, h_n) or (out, h_n, c_n) of the layer that `kind` names."""
    if kind == "relu":
        return rnn_layer(x, *arguments, nonlinearity="relu", **options)
    return {"rnn": rnn_layer, "gru": gru_layer, "lstm": lstm_layer}[kind](x, *arguments, **options)


def cell(kind, x, *arguments):
    if kind == "relu":
        return rnn_cell(x, *arguments, nonlinearity="relu")
    return {"rnn": rnn_cell, "gru": gru_cell, "lstm": lstm_cell}[kind](x, *arguments)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def one_step(kind, x, state, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None):
    """The next state of one sequence, a gate at a time, as the papers have it."""
    h, H = state[0], len(w_ih) // GATES[kind]
    b_ih, b_hh = (np.zeros(len(w_ih)) if b is None else b for b in (b_ih, b_hh))
    a = [w_ih[k : k + H] @ x + b_ih[k : k + H] for k in range(0, len(w_ih), H)]
    u = [w_hh[k : k + H] @ h + b_hh[k : k + H] for k in range(0, len(w_hh), H)]
    if kind == "rnn":
        return [np.tanh(a[0] + u[0])]
    if kind == "relu":
        return [np.maximum(a[0] + u[0], 0)]
    if kind == "gru":
        r, z = sigmoid(a[0] + u[0]), sigmoid(a[1] + u[1])
        return [(1 - z) * np.tanh(a[2] + r * u[2]) + z * h]
    c = sigmoid(a[1] + u[1]) * state[1] + sigmoid(a[0] + u[0]) * np.tanh(a[2] + u[2])
    h = sigmoid(a[3] + u[3]) * np.tanh(c)
    return [h if w_hr is None else w_hr @ h, c]


def by_loops(kind, x, state, *arguments, reverse=False, **options):
    """[out, h_n(, c_n)] for x (L, N, D), one sequence after another."""
    L, N = x.shape[:2]
    out, last = np.zeros((L, N, state[0].shape[1])), [s.copy() for s in state]
    for n in range(N):
        now = [s[n] for s in state]
        for t in reversed(range(L)) if reverse else range(L):
            now = one_step(kind, x[t, n], now, *arguments, **options)
            out[t, n] = now[0]
        for s, final in zip(last, now):
            s[n] = final
    return [out, *last]


def close(ours, theirs, dtype):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.dtype == dtype and a.shape == b.shape
        np.testing.assert_allclose(a.detach().numpy(), b, atol=2e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", GATES)
def test_layers_equal_the_equations(kind, dtype):
    x, state, given = draw(6, 3, 5), states(kind, 3, 4), weights(kind, 5, 4)
    cast = lambda arrays: [None if a is None else Tensor(a.astype(dtype)) for a in arrays]
    for bias in ((None, None), (given[2], None), (None, given[3]), given[2:]):
        chosen = (*given[:2], *bias)
        for reverse in (False, True):
            expected = by_loops(kind, x, state, *chosen, reverse=reverse)
            close(layer(kind, *cast([x, *state, *chosen]), reverse=reverse), expected, dtype)
            expected[0] = expected[0].swapaxes(0, 1)
            turned = cast([x.swapaxes(0, 1), *state, *chosen])
            close(layer(kind, *turned, reverse=reverse, batch_first=True), expected, dtype)
            with kernels.disabled():
                close(layer(kind, *turned, reverse=reverse, batch_first=True), expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_projections_equal_the_equations(dtype):
    x, state, w_hr = draw(6, 3, 5), [draw(3, 2), draw(3, 4)], draw(2, 4)
    given = weights("lstm", 5, 4, 2)
    for reverse in (False, True):
        ours = lstm_layer(*[Tensor(a.astype(dtype)) for a in (x, *state, *given, w_hr)], reverse=reverse)
        close(ours, by_loops("lstm", x, state, *given, w_hr=w_hr, reverse=reverse), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", GATES)
def test_cells_equal_the_equations(kind, dtype):
    x, state, given = draw(3, 5), states(kind, 3, 4), weights(kind, 5, 4)
    for chosen in (given, given[:2]):
        ours = cell(kind, *[Tensor(a.astype(dtype)) for a in (x, *state, *chosen)])
        _, *expected = by_loops(kind, x[None], state, *chosen)
        close(ours if kind == "lstm" else [ours], expected, dtype)
    alone = cell(kind, *[Tensor(a.astype(dtype)) for a in (x[0], *[s[0] for s in state], *given)])
    close(alone if kind == "lstm" else [alone], one_step(kind, x[0], [s[0] for s in state], *given), dtype)


@pytest.mark.parametrize("kind", GATES)
def test_gradients(kind):
    given, (x, state) = weights(kind, 3, 2), (draw(4, 2, 3), states(kind, 2, 2))
    gradients_are_right(lambda *a: layer(kind, *a), x, *state, *given)
    gradients_are_right(lambda *a: layer(kind, *a, reverse=True), x, *state, *given[:2])
    gradients_are_right(lambda *a: layer(kind, *a, batch_first=True), x.swapaxes(0, 1), *state, *given)
    gradients_are_right(lambda *a: cell(kind, *a), x[0], *state, *given)


def test_gradients_with_projections():
    given = weights("lstm", 3, 4, 2)
    gradients_are_right(lstm_layer, draw(3, 2, 3), draw(2, 2), draw(2, 4), *given, draw(2, 4))


def test_second_derivatives_in_float32_go_through_the_definition():
    arrays = draw(3, 2, 3), *states("lstm", 2, 4), *weights("lstm", 3, 4)
    found = []
    for dtype in (np.float32, np.float64):
        tensors = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        (g,) = minigen.autograd.grad(lstm_layer(*tensors)[0].sum(), [tensors[0]], create_graph=True)
        (g * g).sum().backward()
        found.append([t.grad.numpy() for t in tensors])
    for a, b in zip(*found):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", GATES)
def test_an_empty_batch_gives_empty_results(kind, dtype):
    arrays = draw(5, 0, 3), *states(kind, 0, 4), *weights(kind, 3, 4)
    tensors = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    out, *last = layer(kind, *tensors)
    assert out.shape == (5, 0, 4) and all(s.shape == (0, 4) for s in last)
    out.sum().backward()
    assert tensors[0].grad.shape == (5, 0, 3) and (tensors[-1].grad.numpy() == 0).all()


@pytest.mark.parametrize("kind", GATES)
def test_the_last_state_is_memory_of_its_own(kind):
    arrays = draw(5, 2, 3), *states(kind, 2, 4), *weights(kind, 3, 4)
    for reverse in (False, True):
        out, *last = layer(kind, *[Tensor(a.astype(np.float32)) for a in arrays], reverse=reverse)
        np.testing.assert_array_equal(out.numpy()[0 if reverse else -1], last[0].numpy())
        assert not any(np.shares_memory(out.data, s.data) for s in last)
        assert all(step > 0 for step in out.data.strides)


def test_memory_is_freed():
    gc.disable()
    try:
        arrays = draw(5, 2, 3), *states("lstm", 2, 4), *weights("lstm", 3, 4)
        tensors = [Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
        out, h, c = lstm_layer(*tensors)
        node = weakref.ref(out.node)
        (out.sum() + (h * c).sum()).backward()
        del out, h, c
        assert node() is None
    finally:
        gc.enable()


def test_bad_input():
    x, h, c = Tensor(draw(6, 3, 5)), Tensor(draw(3, 4)), Tensor(draw(3, 4))
    w_ih, w_hh, b, _ = (Tensor(a) for a in weights("lstm", 5, 4))
    with pytest.raises(ShapeError, match=r"lstm_layer: x must be \(L, N, D\)(.|\n)*did you mean x.unsqueeze\(1\)"):
        lstm_layer(x[:, 0], h, c, w_ih, w_hh, b, b)
    with pytest.raises(ShapeError, match="at least one step"):
        lstm_layer(x[:0], h, c, w_ih, w_hh, b, b)
    with pytest.raises(ShapeError, match=r"h0 must be \(6, 4\) beside this x(.|\n)*batch_first=True"):
        lstm_layer(x, h, c, w_ih, w_hh, b, b, batch_first=True)
    with pytest.raises(ShapeError, match=r"c0 must be \(3, 4\)"):
        lstm_layer(x, h, c[:, :2], w_ih, w_hh, b, b)
    with pytest.raises(ShapeError, match=r"takes 4(.|\n)*did you mean w_ih.T"):
        rnn_layer(Tensor(draw(6, 3, 5)), h, Tensor(draw(5, 4)), Tensor(draw(4, 4)))
    with pytest.raises(ShapeError, match=r"w_hh must be \(16, 4\)"):
        lstm_layer(x, h, c, w_ih, w_hh.T, b, b)
    with pytest.raises(ShapeError, match=r"w_ih must be \(3 H, D\)"):
        gru_layer(x, h, w_ih, w_hh, b, b)
    with pytest.raises(ShapeError, match=r"b_hh must be \(16,\) or None"):
        lstm_layer(x, h, c, w_ih, w_hh, b, b[:4])
    with pytest.raises(ShapeError, match=r"w_hr must be \(P, H\), here \(P, 4\)"):
        lstm_layer(x, h, c, w_ih, w_hh, b, b, Tensor(draw(4, 2)))
    with pytest.raises(DtypeError, match="several types"):
        lstm_layer(x, h.float(), c, w_ih, w_hh, b, b)
    with pytest.raises(DtypeError, match="must be tensors"):
        lstm_layer(x, 0.0, c, w_ih, w_hh, b, b)
    with pytest.raises(ArgumentError, match='"tanh" or "relu"'):
        rnn_layer(x, h, w_ih[:4], w_hh[:4], nonlinearity="sigmoid")
    with pytest.raises(ShapeError, match=r"gru_cell: h must be \(3, 4\) beside this x"):
        gru_cell(x[0], h[:1], w_ih[:12], w_hh[:12])
    with pytest.raises(ShapeError, match=r"lstm_cell: x has 5 numbers a step"):
        lstm_cell(x[0], h, c, w_hh, w_hh)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, options", [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "bias": False}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
    ("GRU", {"bias": False, "batch_first": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"bias": False}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 3}),
])  # fmt: skip
def test_the_same_weights_give_what_torch_gives(name, options, dtype):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(5, 7, **options).to(getattr(torch, dtype))
    ours = getattr(nn, name)(5, 7, **options).to(dtype)
    ours.load_state_dict({n: Tensor(p.detach().numpy()) for n, p in theirs.state_dict().items()})
    x = draw(3, 6, 5).astype(dtype) if options.get("batch_first") else draw(6, 3, 5).astype(dtype)
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    flat = lambda result: [result[0], *(result[1] if isinstance(result[1], tuple) else [result[1]])]
    pairs = list(zip(flat(ours(a)), flat(theirs(b)), strict=True))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for y, z in pairs:
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=tolerance)
    for outputs in zip(*pairs):
        sum([(y * y).sum() * (i + 1) for i, y in enumerate(outputs)]).backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=10 * tolerance)
    for (n, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=20 * tolerance, err_msg=n)
