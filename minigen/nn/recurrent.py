"""Recurrent networks: RNN, LSTM, GRU over whole sequences, and their cells for one step.

x (L, N, input), or (N, L, input) with batch_first, or (L, input) for one sequence. The output holds the top layer's
state at every step, both directions side by side; h_n the last state of every layer and direction, (D * layers, N, H).
Weights of layer k are called weight_ih_l{k}, weight_hh_l{k}, bias_ih_l{k}, bias_hh_l{k} (and weight_hr_l{k} with
projections), with _reverse for the second direction. All start uniform on +-1/sqrt(hidden_size).
"""

import math

from ..autograd.modes import mode
from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from ..ops.creation import zeros
from ..ops.joining import cat, stack
from ..ops.recurrent import gru_cell, gru_layer, lstm_cell, lstm_layer, rnn_cell, rnn_layer
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, new_parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Recurrent(Module):
    """Layers and directions around one recurrence. `gates`: how many times hidden_size its weights have rows."""

    gates = 1

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        proj_size=0,
        device=None,
        dtype=None,
    ):
        name = type(self).__name__
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for what, value in sizes.items():
            expect(isinstance(value, int), f"{name}: {what} should be an integer", value, error=DtypeError)
            expect(value > 0, f"{name}: {what} must be greater than zero", value, error=ArgumentError)
        expect(isinstance(bias, bool), f"{name}: bias should be True or False", bias, error=DtypeError)
        expect(
            isinstance(batch_first, bool), f"{name}: batch_first should be True or False", batch_first, error=DtypeError
        )
        expect(
            0 <= dropout <= 1 and not isinstance(dropout, bool),
            f"{name}: dropout should be a probability, from 0 to 1",
            dropout,
            error=ArgumentError,
        )
        expect(
            0 <= proj_size < hidden_size,
            f"{name}: proj_size={proj_size} must be smaller than hidden_size={hidden_size}",
            error=ArgumentError,
        )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self.out_size = proj_size or hidden_size
        factory = {"device": device, "dtype": dtype}
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.out_size * self.directions
            for reverse in range(self.directions):
                shapes = {"weight_ih": (rows, width), "weight_hh": (rows, self.out_size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for kind, shape in shapes.items():
                    setattr(self, _called(kind, layer, reverse), new_parameter(*shape, **factory))
        self.reset_parameters()

    @property
    def directions(self):
        return 2 if self.bidirectional else 1

    def reset_parameters(self):
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _weights(self, layer, reverse):
        """(w_ih, w_hh, b_ih, b_hh, w_hr) of one layer and direction, None for those it does not have."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [getattr(self, _called(kind, layer, reverse), None) for kind in kinds]

    def _run(self, x, states):
        """x and the states of all layers, batched -> (output, the last states)."""
        last = []
        for layer in range(self.num_layers):
            outputs = []
            for reverse in range(self.directions):
                i = layer * self.directions + reverse
                out, *final = self._recur(x, [s[i] for s in states], self._weights(layer, reverse), bool(reverse))
                outputs.append(out)
                last.append(final)
            x = cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, [stack(list(finals)) for finals in zip(*last)]

    def _forward(self, x, states, sizes):
        """Check, add what was left out (batch, states), run, and take it away again."""
        name = type(self).__name__
        expect(isinstance(x, Tensor), f"{name}: x must be a tensor", x, error=DtypeError)
        expect(x.ndim in (2, 3), f"{name}: x must have 2 (one sequence) or 3 dimensions", x)
        expect(x.shape[-1] == self.input_size, f"{name}: the last dimension of x must be {self.input_size}", x)
        weight = self.weight_ih_l0
        if x.dtype != weight.dtype and mode.autocast is None:
            raise DtypeError(
                f"{name} input dtype {x.dtype} does not match weight dtype {weight.dtype}\n"
                f"  Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        batched = x.ndim == 3
        batch = 0 if self.batch_first else 1
        x = x if batched else x.unsqueeze(batch)
        n, count = x.shape[batch], self.num_layers * self.directions
        if states is None:
            states = [zeros(count, n, size, dtype=x.dtype, device=x.device) for size in sizes]
        else:
            for state, size in zip(states, sizes):
                wanted = (count, n, size) if batched else (count, size)
                expect(state.shape == wanted, f"{name}: a hidden state must be {wanted}", state, error=ShapeError)
            states = states if batched else [state.unsqueeze(1) for state in states]
        y, last = self._run(x, states)
        return (y, last) if batched else (y.squeeze(batch), [state.squeeze(1) for state in last])

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        for name, value in {**usual, "proj_size": 0}.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)}"
        return text


def _called(kind, layer, reverse):
    return f"{kind}_l{layer}" + ("_reverse" if reverse else "")


class RNN(_Recurrent):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu (Elman 1990). Returns (output, h_n)."""

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", *args, **kwargs):
        _check_nonlinearity("RNN", nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, *args, **kwargs)
        expect(not self.proj_size, "RNN: only LSTM has projections", error=ArgumentError)

    def _recur(self, x, states, weights, reverse):
        layer = {"reverse": reverse, "batch_first": self.batch_first}
        return rnn_layer(x, *states, *weights[:4], nonlinearity=self.nonlinearity, **layer)

    def forward(self, input, hx=None):
        y, (h,) = self._forward(input, None if hx is None else [hx], [self.hidden_size])
        return y, h


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al. 2014), with gates r, z and candidate n in this order. Returns (output, h_n).

    r, z = sigmoid(W x + b + U h + c); n = tanh(W x + b + r * (U h + c)); h = (1 - z) * n + z * h
    """

    gates = 3

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        expect(not self.proj_size, "GRU: only LSTM has projections", error=ArgumentError)

    def _recur(self, x, states, weights, reverse):
        return gru_layer(x, *states, *weights[:4], reverse=reverse, batch_first=self.batch_first)

    def forward(self, input, hx=None):
        y, (h,) = self._forward(input, None if hx is None else [hx], [self.hidden_size])
        return y, h


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), with gates i, f, g, o in this order.

    c = f * c + i * g; h = o * tanh(c), or W_hr (o * tanh(c)) with proj_size (Sak et al. 2014).
    Takes (h_0, c_0) or nothing. Returns (output, (h_n, c_n)).
    """

    gates = 4

    def _recur(self, x, states, weights, reverse):
        w_hr = weights.pop()
        return lstm_layer(x, *states, *weights, w_hr=w_hr, reverse=reverse, batch_first=self.batch_first)

    def forward(self, input, hx=None):
        if hx is not None:
            pair = isinstance(hx, (tuple, list)) and len(hx) == 2
            expect(pair, "LSTM: the state is a pair (h_0, c_0)", hx, error=DtypeError)
        y, last = self._forward(input, hx, [self.out_size, self.hidden_size])
        return y, tuple(last)


class _Cell(Module):
    """One step of a recurrence."""

    gates = 1

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        factory = {"device": device, "dtype": dtype}
        rows = self.gates * hidden_size
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bool(bias)
        self.weight_ih = new_parameter(rows, input_size, **factory)
        self.weight_hh = new_parameter(rows, hidden_size, **factory)
        self.bias_ih = new_parameter(rows, **factory) if bias else None
        self.bias_hh = new_parameter(rows, **factory) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _prepare(self, x, states, count):
        """x (N, input) and states (N, hidden), zeros if there are none; and whether there was a batch."""
        name = type(self).__name__
        expect(x.ndim in (1, 2), f"{name}: x must be (N, {self.input_size}) or ({self.input_size},)", x)
        expect(x.shape[-1] == self.input_size, f"{name}: the last dimension of x must be {self.input_size}", x)
        wanted = (*x.shape[:-1], self.hidden_size)
        if states is None:
            states = [zeros(wanted, dtype=x.dtype, device=x.device)] * count
        for state in states:
            expect(isinstance(state, Tensor), f"{name}: a hidden state is a tensor", state, error=DtypeError)
            expect(state.shape == wanted, f"{name}: a hidden state must be {wanted} beside this x", x, state)
        if x.ndim == 2:
            return x, states, True
        return x.unsqueeze(0), [state.unsqueeze(0) for state in states], False

    def _parameters_of_step(self):
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def extra_repr(self):
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """x (N, input), h (N, hidden) -> h (N, hidden). See RNN."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        _check_nonlinearity("RNNCell", nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input, hx=None):
        input, (h,), batched = self._prepare(input, None if hx is None else [hx], 1)
        h = rnn_cell(input, h, *self._parameters_of_step(), nonlinearity=self.nonlinearity)
        return h if batched else h.squeeze(0)


class GRUCell(_Cell):
    """x (N, input), h (N, hidden) -> h (N, hidden). See GRU."""

    gates = 3

    def forward(self, input, hx=None):
        input, (h,), batched = self._prepare(input, None if hx is None else [hx], 1)
        h = gru_cell(input, h, *self._parameters_of_step())
        return h if batched else h.squeeze(0)


class LSTMCell(_Cell):
    """x (N, input), (h, c) each (N, hidden) -> (h, c). See LSTM."""

    gates = 4

    def forward(self, input, hx=None):
        if hx is not None:
            pair = isinstance(hx, (tuple, list)) and len(hx) == 2
            expect(pair, "LSTMCell: the state is a pair (h, c)", hx, error=DtypeError)
        input, (h, c), batched = self._prepare(input, hx, 2)
        h, c = lstm_cell(input, h, c, *self._parameters_of_step())
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))


def _check_nonlinearity(name, nonlinearity):
    expect(
        nonlinearity in ("tanh", "relu"),
        f'{name}: nonlinearity is "tanh" or "relu", got {describe(nonlinearity)}',
        error=ArgumentError,
    )
