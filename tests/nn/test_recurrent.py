"""Recurrent networks by exact properties: steps of cells, layers, directions, and what is left out."""

import numpy as np
import pytest

import minigen
from minigen import errors, nn


def draw(*shape):
    return minigen.randn(*shape, dtype=minigen.float64)


def cell_of(layer, suffix):
    """The cell with the weights of one layer and direction."""
    kind = {"RNN": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}[type(layer).__name__]
    values = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    width = getattr(layer, f"weight_ih_{suffix}").shape[1]
    cell = kind(width, layer.hidden_size, **values).double()
    cell.load_state_dict({name: getattr(layer, f"{name}_{suffix}") for name in cell.state_dict()})
    return cell


def walk(layer, x, states, suffix, steps):
    """The cell step by step: outputs, and the last state."""
    cell, outputs = cell_of(layer, suffix), {}
    for t in steps:
        states = cell(x[t], states)
        outputs[t] = states[0] if isinstance(states, tuple) else states
    return [outputs[t] for t in range(len(x))], states


LAYERS = {
    "RNN": lambda **values: nn.RNN(3, 4, **values),
    "relu": lambda **values: nn.RNN(3, 4, nonlinearity="relu", **values),
    "GRU": lambda **values: nn.GRU(3, 4, **values),
    "LSTM": lambda **values: nn.LSTM(3, 4, **values),
}


@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_two_directions_are_four_walks(name):
    layer, x = LAYERS[name](num_layers=2, bidirectional=True).double(), draw(5, 2, 3)
    y, last = layer(x)
    below, finals = x, []
    for k in range(2):
        forward, f = walk(layer, below, None, f"l{k}", range(5))
        back, b = walk(layer, below, None, f"l{k}_reverse", reversed(range(5)))
        below = minigen.stack([minigen.cat([a, c], dim=-1) for a, c in zip(forward, back)])
        finals += [f, b]
    np.testing.assert_allclose(y.data, below.data, rtol=1e-10)
    for i, final in enumerate(finals):
        for whole, part in zip(last, final) if name == "LSTM" else [(last, final)]:
            np.testing.assert_allclose(whole[i].data, part.data, rtol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_a_sequence_in_two_parts(name):
    """The state handed over carries all there is of the past."""
    layer, x = LAYERS[name](num_layers=2).double(), draw(7, 2, 3)
    whole, last = layer(x)
    first, state = layer(x[:3])
    second, final = layer(x[3:], state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data]), whole.data, rtol=1e-10)
    for a, b in zip(final, last) if name == "LSTM" else [(final, last)]:
        np.testing.assert_allclose(a.data, b.data, rtol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_layouts(name):
    layer = LAYERS[name](bidirectional=True).double()
    other = LAYERS[name](bidirectional=True, batch_first=True).double()
    other.load_state_dict(layer.state_dict())
    x = draw(5, 2, 3)
    y, _ = layer(x)
    np.testing.assert_allclose(other(x.transpose(0, 1))[0].transpose(0, 1).data, y.data, rtol=1e-10)
    single, _ = layer(x[:, 0])
    np.testing.assert_allclose(single.data, y.data[:, 0], rtol=1e-10)
    np.testing.assert_allclose(other(x[:, 0])[0].data, y.data[:, 0], rtol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_float32_is_float64_in_short(name):
    layer, x = LAYERS[name](num_layers=2), minigen.randn(6, 3, 3)
    y, _ = layer(x)
    y.sum().backward()
    short = [layer.weight_hh_l0.grad.data.copy(), y.data]
    layer.zero_grad()
    z, _ = layer.double()(x.double())
    z.sum().backward()
    assert short[1].dtype == np.float32
    np.testing.assert_allclose(short[1], z.data, atol=2e-6)
    np.testing.assert_allclose(short[0], layer.weight_hh_l0.grad.data, rtol=1e-3, atol=1e-5)


def test_projections():
    layer, x = nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True).double(), draw(4, 2, 3)
    y, (h, c) = layer(x)
    assert y.shape == (4, 2, 4) and h.shape == (4, 2, 2) and c.shape == (4, 2, 5)
    assert layer.weight_hr_l0.shape == (2, 5) and layer.weight_ih_l1.shape == (20, 4)
    whole, _ = layer(x, (h, c))
    assert whole.shape == y.shape
    cell = nn.LSTM(3, 5, proj_size=2).double()
    y, (h, c) = cell(x[:1])
    plain = nn.LSTM(3, 5).double()
    state = cell.state_dict()
    state["weight_hh_l0"] = minigen.zeros(20, 5, dtype=minigen.float64)  # the first step's h is zero
    plain.load_state_dict({k: v for k, v in state.items() if k != "weight_hr_l0"})
    np.testing.assert_allclose(y.data, plain(x[:1])[0].data @ cell.weight_hr_l0.data.T, rtol=1e-10)


def test_dropout_stands_between_the_layers():
    layer, x = nn.GRU(3, 4, 2, dropout=0.5), minigen.randn(5, 2, 3)
    assert (layer(x)[0].data != layer(x)[0].data).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].data, layer(x)[0].data)
    one = nn.GRU(3, 4, 1, dropout=0.5)
    np.testing.assert_array_equal(one(x)[0].data, one(x)[0].data)


def test_names_of_weights():
    layer = nn.LSTM(2, 3, 2, bidirectional=True, proj_size=1)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    assert list(layer.state_dict()) == [f"{kind}_l{k}{d}" for k in (0, 1) for d in ("", "_reverse") for kind in kinds]
    assert not any("bias" in name for name in nn.GRU(2, 3, bias=False).state_dict())


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.LSTM(3, 0),
        lambda: nn.LSTM(3, 4, 0),
        lambda: nn.LSTM(3, 4.0),
        lambda: nn.LSTM(3, 4, bias=1),
        lambda: nn.LSTM(3, 4, dropout=2.0),
        lambda: nn.LSTM(3, 4, proj_size=4),
        lambda: nn.GRU(3, 4, proj_size=2),
        lambda: nn.RNN(3, 4, nonlinearity="sin"),
        lambda: nn.RNNCell(3, 4, nonlinearity="sin"),
        lambda: nn.LSTM(3, 4)(minigen.ones(5, 2, 4)),
        lambda: nn.LSTM(3, 4)(minigen.ones(5, 2, 3, 3)),
        lambda: nn.LSTM(3, 4)(draw(5, 2, 3)),
        lambda: nn.LSTM(3, 4)(minigen.ones(5, 2, 3), minigen.ones(1, 2, 4)),
        lambda: nn.GRU(3, 4)(minigen.ones(5, 2, 3), minigen.ones(1, 3, 4)),
        lambda: nn.GRUCell(3, 4)(minigen.ones(2, 3), minigen.ones(2, 5)),
        lambda: nn.LSTMCell(3, 4)(minigen.ones(2, 3), minigen.ones(2, 4)),
        lambda: nn.RNNCell(3, 4)(minigen.ones(2, 4)),
    ],
)
def test_mistakes(call):
    with pytest.raises((errors.ShapeError, errors.ArgumentError, errors.DtypeError)):
        call()
