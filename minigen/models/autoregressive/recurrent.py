"""Recurrent models of sequences: a state that is carried along, and a guess at what comes next.

    h_t = f(h_(t-1), x_t)        p(x_(t+1) | x_1 ... x_t) = g(h_t)

The past is summed up in one vector, so a step costs the same however long the past is. f is a plain RNN (Elman 1990),
an LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000) or a GRU (Cho et al.
2014).

    RecurrentLM    symbols: logits of the next one (Mikolov et al. 2010; Zaremba, Sutskever & Vinyals 2014)
    Forecaster     numbers: a Gaussian for the next one, its mean and its variance (DeepAR: Salinas et al. 2017)
    State          what both carry from step to step

Both learn from windows of a long sequence by truncated backpropagation through time: `loss(..., state)` gives the state
at the window's end, and `state.detach()` starts the next window from it without the way back. Gradients can explode on
the way (Pascanu, Mikolov & Bengio 2013), so train with `clip_grad_norm_(model.parameters(), 1.0)`, or fit(clip_norm=1).
"""

import math
from dataclasses import dataclass

from ... import nn
from ...autograd import no_grad
from ...data.arrays import as_array
from ...errors import ArgumentError, DataError, DtypeError, ShapeError, expect
from ...nn import functional as F
from ...nn import init
from ...ops import creation
from ...ops.elementary import exp
from ...ops.joining import cat, stack
from ...published import Pretrained
from ...tensor import Tensor

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
KEEPS = {"lstm": 1, "gru": 1}  # which of the gates keeps the state: f of i, f, g, o; z of r, z, n


@dataclass(frozen=True)
class State:
    """What a recurrent network carries: h, and the LSTM's c, each (layers, N, hidden)."""

    parts: tuple

    def select(self, rows):
        """The state of these rows, an int64 array: a row may be left out, or stand there more than once."""
        rows = Tensor(rows) if not isinstance(rows, Tensor) else rows
        return State(tuple(part[:, rows] for part in self.parts))

    def detach(self):
        """The same numbers, without the way back to what made them: where backpropagation through time is cut."""
        return State(tuple(part.detach() for part in self.parts))


class Recurrence(nn.Module):
    """Layers of one kind of cell over (N, T, inputs), with a State in and out.

    cell          "rnn", "lstm" or "gru"
    keep_bias     the bias, at first, of the gate that keeps the state (f of the LSTM, z of the GRU): at 1 it keeps 73%
                  a step to begin with, at 0 half (Gers et al. 2000; Jozefowicz, Zaremba & Sutskever 2015). None leaves
                  it as nn.LSTM has it, near 0. A plain RNN has no such gate.
    """

    def __init__(self, cell, inputs, hidden, layers=1, dropout=0.0, keep_bias=1.0):
        expect(cell in CELLS, f"Recurrence: cell is one of {tuple(CELLS)}", cell, error=ArgumentError)
        self.net = CELLS[cell](inputs, hidden, layers, batch_first=True, dropout=dropout)
        if keep_bias is not None and cell in KEEPS:
            gate = slice(KEEPS[cell] * hidden, (KEEPS[cell] + 1) * hidden)
            with no_grad():
                for layer in range(layers):
                    getattr(self.net, f"bias_ih_l{layer}")[gate] = keep_bias
                    getattr(self.net, f"bias_hh_l{layer}")[gate] = 0.0

    def forward(self, x, state=None):
        if isinstance(self.net, nn.LSTM):
            y, parts = self.net(x, None if state is None else state.parts)
            return y, State(parts)
        y, h = self.net(x, None if state is None else state.parts[0])
        return y, State((h,))


@dataclass
class RecurrentConfig:
    """The sizes of a RecurrentLM.

    symbols     how many different symbols there are
    embedding   numbers that stand for a symbol; as many as `hidden` if None
    hidden      numbers in the state of a layer;  layers  how many, one on the other
    cell        "lstm", "gru" or "rnn"
    dropout     of embeddings, between the layers, and before the logits, while training (Zaremba et al. 2014)
    tied        whether the logits use the embedding's table (Press & Wolf 2017): embedding and hidden must be equal
    keep_bias   see Recurrence
    """

    symbols: int = 256
    embedding: int | None = None
    hidden: int = 128
    layers: int = 1
    cell: str = "lstm"
    dropout: float = 0.0
    tied: bool = False
    keep_bias: float | None = 1.0

    def __post_init__(self):
        self.embedding = self.hidden if self.embedding is None else self.embedding
        expect(self.cell in CELLS, f"RecurrentConfig: cell is one of {tuple(CELLS)}", self.cell, error=ArgumentError)
        expect(
            not self.tied or self.embedding == self.hidden,
            "RecurrentConfig: a tied table serves both ends, so embedding and hidden must be equal",
            self.embedding,
            self.hidden,
            error=ArgumentError,
        )


class RecurrentLM(Pretrained, nn.Module):
    """A language model: `model(ids, targets)` is the mean of -log p(target), in nats a symbol.

    ids and targets are (N, T) int64; targets[:, t] is what follows ids[:, t] (-100: it does not count).
    """

    config_class = RecurrentConfig

    def __init__(self, config=None, **sizes):
        self.config = config = config or RecurrentConfig(**sizes)
        self.embedding = nn.Embedding(config.symbols, config.embedding)
        self.recurrence = Recurrence(
            config.cell, config.embedding, config.hidden, config.layers, config.dropout, config.keep_bias
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, config.symbols)
        if config.tied:
            self.head.weight = self.embedding.weight
            init.normal_(self.embedding.weight, 0.0, config.hidden**-0.5)

    def step(self, ids, state=None):
        """Logits of what follows each symbol, (N, T) -> (N, T, symbols), and the State after the last.

        A text in pieces, each with the state of the one before, gives the same logits as the whole text at once.
        """
        ids = self._checked(ids, "step")
        y, state = self.recurrence(self.dropout(self.embedding(ids)), state)
        return self.head(self.dropout(y)), state

    def loss(self, ids, targets, state=None):
        """(the mean of -log p(target) in nats a symbol, the State after the last symbol)."""
        logits, state = self.step(ids, state)
        targets = as_tensor(targets)
        expect(targets.shape == logits.shape[:2], "RecurrentLM: ids and targets are (N, T)", logits, targets)
        return F.cross_entropy(logits.reshape(-1, self.config.symbols), targets.reshape(-1)), state

    def forward(self, ids, targets):
        return self.loss(ids, targets)[0]

    @no_grad()
    def log_prob(self, x, state=None):
        """log p of every symbol but the first, given those before it, in nats: (N, T) -> (N, T - 1)."""
        x = self._checked(x, "log_prob")
        expect(x.shape[1] > 1, "RecurrentLM.log_prob: a text has at least two symbols", x, error=ShapeError)
        logits, _ = self.step(x[:, :-1], state)
        return F.log_softmax(logits, -1).gather(-1, x[:, 1:].unsqueeze(-1)).squeeze(-1)

    @no_grad()
    def sample(self, n, length, prompt, generator=None, temperature=1.0):
        """n texts of `length` symbols, (n, length) int64, that go on from `prompt`: (T,) for all, or (n, T).

        Each symbol is drawn from softmax(logits / temperature). Other ways to choose are in minigen.sampling.
        """
        expect(temperature > 0, "RecurrentLM.sample: the temperature is positive", temperature, error=ArgumentError)
        prompt = as_tensor(prompt).to(self.embedding.weight.device)
        logits, state = self.step(prompt if prompt.ndim == 2 else prompt.unsqueeze(0).expand(n, len(prompt)))
        expect(len(logits) == n, f"RecurrentLM.sample: the prompt is (T,) or ({n}, T)", prompt, error=ShapeError)
        drawn = []
        for _ in range(length):
            u = creation.rand_like(logits[:, -1], generator=generator).clamp(1e-7, 1 - 1e-7)
            drawn.append((logits[:, -1] / temperature - (-u.log()).log()).argmax(-1))  # a draw (Gumbel 1954)
            logits, state = self.step(drawn[-1].unsqueeze(1), state)
        return stack(drawn, 1) if drawn else prompt[:0].reshape(n, 0)

    def _checked(self, ids, name):
        ids = as_tensor(ids).to(self.embedding.weight.device)
        fits = ids.ndim == 2 and ids.shape[1] > 0
        expect(fits, f"RecurrentLM.{name}: ids are (N, T), at least one symbol", ids, error=ShapeError)
        expect(ids.dtype.kind in "iu", f"RecurrentLM.{name}: ids are whole numbers", ids, error=DtypeError)
        return ids


@dataclass
class ForecasterConfig:
    """The sizes of a Forecaster.

    features    numbers at each time
    hidden, layers, cell, dropout, keep_bias    as in RecurrentConfig
    """

    features: int = 1
    hidden: int = 32
    layers: int = 1
    cell: str = "lstm"
    dropout: float = 0.0
    keep_bias: float | None = 1.0

    def __post_init__(self):
        expect(self.cell in CELLS, f"ForecasterConfig: cell is one of {tuple(CELLS)}", self.cell, error=ArgumentError)


class Forecaster(Pretrained, nn.Module):
    """A model of series: `model(x)` is the mean of -log p(x_t | x before t), t >= 1, in nats a number.

    x is (N, T, features), or (N, T) where there is one. Call `fit_scale(x)` with the training series first: inside, all
    are measured from their mean in standard deviations; what goes in and comes out stays in the units of x.
    """

    config_class = ForecasterConfig

    def __init__(self, config=None, **sizes):
        self.config = config = config or ForecasterConfig(**sizes)
        self.recurrence = Recurrence(
            config.cell, config.features, config.hidden, config.layers, config.dropout, config.keep_bias
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, 2 * config.features)
        self.register_buffer("centre", creation.zeros(config.features))
        self.register_buffer("scale", creation.ones(config.features))

    @no_grad()
    def fit_scale(self, x):
        """Take the centre and the scale of each feature from the series x. Returns the model."""
        x = self._checked(x, "fit_scale").reshape(-1, self.config.features)
        std = x.std(0)
        rule = "Forecaster.fit_scale: a feature that never changes has no scale"
        expect(bool((std.data > 0).all()), rule, std, error=DataError)
        self.centre.copy_(x.mean(0))
        self.scale.copy_(std)
        return self

    def step(self, x, state=None):
        """((mean, log variance) of what follows each x_t, each (N, T, features), and the State after the last)."""
        x = (self._checked(x, "step") - self.centre) / self.scale
        y, state = self.recurrence(x, state)
        change, log_var = self.head(self.dropout(y)).chunk(2, -1)
        # The network says how the next value differs from this one: a network that knows nothing says "as now".
        return ((x + change) * self.scale + self.centre, log_var + 2 * self.scale.log()), state

    def loss(self, x, state=None):
        """(the mean of -log p(x_t), t >= 1, in nats a number, the State before the last x)."""
        x = self._checked(x, "loss")
        expect(x.shape[1] > 1, "Forecaster: a series has at least two values", x, error=ShapeError)
        (mean, log_var), state = self.step(x[:, :-1], state)
        return gaussian_nll(x[:, 1:], mean, log_var).mean(), state

    def forward(self, x):
        return self.loss(x)[0]

    @no_grad()
    def sample(self, x, steps, draws=100, generator=None):
        """What may come after each series x: (draws, N, steps, features), or (draws, N, steps) where x is (N, T).

        Each value is drawn from the Gaussian after the values drawn before it: futures, not only their means.
        """
        flat, x = as_array(x).ndim == 2, self._checked(x, "sample")
        n, features = len(x), self.config.features
        (mean, log_var), state = self.step(x)
        rows = creation.arange(n, device=x.device).repeat(draws)
        state, mean, log_var = state.select(rows), mean[:, -1:][rows], log_var[:, -1:][rows]
        drawn = []
        for i in range(steps):
            drawn.append(mean + exp(0.5 * log_var) * creation.randn_like(mean, generator=generator))
            if i + 1 < steps:
                (mean, log_var), state = self.step(drawn[-1], state)
        futures = cat(drawn, 1).reshape(draws, n, steps, features)
        return futures.squeeze(-1) if flat else futures

    def forecast(self, x, steps, draws=1000, generator=None):
        """The means and variances of the next `steps` values, each (N, steps, features) or (N, steps), from samples."""
        futures = self.sample(x, steps, draws, generator)
        return futures.mean(0), futures.var(0)

    def _checked(self, x, name):
        x = as_tensor(x).to(self.centre.device).to(self.centre.dtype)
        x = x.unsqueeze(-1) if x.ndim == 2 and self.config.features == 1 else x
        fits = x.ndim == 3 and x.shape[2] == self.config.features and x.shape[1] > 0
        rule = f"Forecaster.{name}: x is (N, T, {self.config.features})"
        expect(fits, rule + (" or (N, T)" if self.config.features == 1 else ""), x, error=ShapeError)
        return x


def gaussian_nll(x, mean, log_var):
    """-log N(x; mean, exp(log_var)) of each element, in nats."""
    return 0.5 * ((x - mean) ** 2 * exp(-log_var) + log_var + math.log(2 * math.pi))


def as_tensor(x):
    return x if isinstance(x, Tensor) else Tensor(as_array(x))
