"""Masked autoregressive flows: each dimension moves by what came before it.

MADE (Germain et al. 2015, arXiv:1502.03509) makes a fully connected network autoregressive by masks. Each unit gets a
degree; a weight is kept only where degrees do not fall, so output d depends on x_1 .. x_(d-1) alone, and one pass gives
all conditionals. Let it give a shift and a log scale for each dimension:

    MAF    z_d = (x_d - shift_d(x_<d)) exp(-s_d(x_<d))       (Papamakarios et al. 2017, arXiv:1705.07057, eq. 2-5)
    IAF    x_d = z_d exp(s_d(z_<d)) + shift_d(z_<d)          (Kingma et al. 2016, arXiv:1606.04934, eq. 10)

The Jacobian is triangular, and log|det| the sum of -s or of s. They differ in what is known. MAF has all of x when it
computes a density: one pass; to sample it must find x_1 before x_2, D passes. IAF has all of z when it samples: one
pass; for the density of an x from elsewhere it needs D.

    MADE                            the network
    MaskedAutoregressive            MAF's layer;  InverseAutoregressive  IAF's
    MAFConfig, MAF                  a flow of either kind, with a norm and the reversed order in between
"""

import math
from dataclasses import dataclass

import numpy as np

from ... import nn
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.counting import one_hot
from ...ops.elementary import exp, sigmoid
from ...ops.joining import cat, stack
from ...tensor import Tensor
from .base import StandardNormal
from .bijection import Bijection, Composition, Permutation, Reshape
from .density import FlowConfig, FlowModel
from .scaling import ActNorm, BatchNorm

ACTIVATIONS = {"relu": F.relu, "tanh": F.tanh}
DIRECTIONS = ("maf", "iaf")
NORMS = ("batch", "act", "none")


class MaskedLinear(nn.Linear):
    """A linear layer, some of whose weights are 0 for good: `mask` (out, in) of 0 and 1."""

    def __init__(self, mask):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", Tensor(mask.astype(np.float32)))

    def forward(self, input):
        return F.linear(input, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """x (N, dim) -> `outputs` numbers for each dimension, each a tensor (N, dim); the d-th depends on x_1 .. x_(d-1).

    context       the size K of a second input (N, K), on which everything may depend; 0 for none
    activation    "relu", or "tanh", with which the outputs stay bounded however far out x lies
    Hidden units have the degrees 1 .. dim - 1 in turn. The outputs start at 0.
    """

    def __init__(self, dim, hidden=(100,), outputs=2, context=0, activation="relu"):
        expect(activation in ACTIVATIONS, f"MADE: activation is one of {tuple(ACTIVATIONS)}", activation,
               error=ArgumentError)  # fmt: skip
        self.dim, self.outputs, self.activation = dim, outputs, ACTIVATIONS[activation]
        before = np.arange(1, dim + 1)
        layers = []
        for size in hidden:
            degrees = np.arange(size) % max(1, dim - 1) + min(1, dim - 1)
            layers.append(MaskedLinear(degrees[:, None] >= before[None, :]))
            before = degrees
        self.hidden = nn.ModuleList(layers)
        last = np.tile(np.arange(1, dim + 1), outputs)
        self.last = MaskedLinear(last[:, None] > before[None, :])
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.context = nn.Linear(context, hidden[0], bias=False) if context else None

    def forward(self, x, context=None):
        expect(x.ndim == 2 and x.shape[1] == self.dim, f"MADE: x is (N, {self.dim})", x, error=ShapeError)
        h = x
        for i, layer in enumerate(self.hidden):
            h = layer(h)
            if i == 0 and self.context is not None:
                expect(context is not None, "MADE: it was made with a context, and is given none", error=ArgumentError)
                h = h + self.context(context)
            h = self.activation(h)
        return self.last(h).chunk(self.outputs, 1)


class MaskedAutoregressive(Bijection):
    """MAF's layer: z = (x - shift(x)) exp(-s(x)). Density in one pass, sampling in `dim` passes."""

    def __init__(self, made):
        self.made = made

    def forward(self, x, context=None):
        shift, s = self.made(x, context)
        return (x - shift) * exp(-s), -s.sum(1)

    def inverse(self, z, context=None):
        return _one_by_one(z, lambda x: self.made(x, context), lambda z, shift, s: (z * exp(s) + shift, s))


class InverseAutoregressive(Bijection):
    """IAF's layer, as a map x -> z: its inverse x = z exp(s(z)) + shift(z) is the one that takes one pass.

    gate    x = g z + (1 - g) shift with g = sigmoid(s + 2), the stable form of Kingma et al. (2016), eq. 13-14
    """

    def __init__(self, made, gate=False):
        self.made, self.gate = made, gate

    def inverse(self, z, context=None):
        shift, s = self.made(z, context)
        if self.gate:
            log_g = F.logsigmoid(s + 2.0)
            g = exp(log_g)
            return g * z + (1 - g) * shift, log_g.sum(1)
        return z * exp(s) + shift, s.sum(1)

    def forward(self, x, context=None):
        def undo(x, shift, s):
            if self.gate:
                log_g = F.logsigmoid(s + 2.0)
                return (x - sigmoid(-s - 2.0) * shift) * exp(-log_g), -log_g
            return (x - shift) * exp(-s), -s

        return _one_by_one(x, lambda z: self.made(z, context), undo)


def _one_by_one(known, network, undo):
    """Find the input of an autoregressive map from its output, the first dimension first: D passes.

    undo(output, *the network's numbers) -> (input, log scale), elementwise. Returns the input, and the sum of the log
    scales, (N,).
    """
    n, dim = known.shape
    columns, logs = [], []
    for d in range(dim):
        rest = creation.zeros(n, dim - d, dtype=known.dtype, device=known.device)
        numbers = network(cat([stack(columns, 1), rest], 1) if columns else rest)
        x, log = undo(known[:, d], *(number[:, d] for number in numbers))
        columns.append(x)
        logs.append(log)
    return stack(columns, 1), stack(logs, 1).sum(1)


@dataclass
class MAFConfig(FlowConfig):
    """Sizes of a MAF.

    layers       how many
    hidden       sizes of the hidden layers of each MADE;  activation  "relu" or "tanh"
    norm         after each layer: "batch" as in the paper, "act" or "none"
    direction    "maf": densities are cheap; "iaf": samples are
    gate         of IAF: the stable form (InverseAutoregressive)
    """

    shape: tuple = (2,)
    layers: int = 5
    hidden: tuple = (100,)
    activation: str = "relu"
    norm: str = "batch"
    direction: str = "maf"
    gate: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.hidden = (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)
        expect(len(self.hidden) > 0, "MAFConfig: a MADE has a hidden layer", error=ArgumentError)
        for name, known in (("norm", NORMS), ("direction", DIRECTIONS)):
            value = getattr(self, name)
            expect(value in known, f"MAFConfig: {name} is one of {known}", value, error=ArgumentError)


class MAF(FlowModel):
    """x (N, *config.shape), real numbers or levels, taken flat. With classes, every MADE is told the class (sec. 3.4).

    See FlowModel for what it does.
    """

    config_class = MAFConfig

    def __init__(self, config=None, **sizes):
        config = config or MAFConfig(**sizes)
        dim = math.prod(config.shape)
        layers = []
        for i in range(config.layers):
            made = MADE(dim, config.hidden, context=config.classes, activation=config.activation)
            last = i == config.layers - 1
            maf = config.direction == "maf"
            layers.append(MaskedAutoregressive(made) if maf else InverseAutoregressive(made, config.gate))
            layers += {"batch": [BatchNorm(dim)], "act": [ActNorm(dim)], "none": []}[config.norm]
            layers += [] if last else [Permutation.reverse(dim)]
        super().__init__(config, Composition(Reshape(config.shape, (dim,)), *layers), StandardNormal(dim))

    def _context(self, labels, n):
        """The class of each sample as a row of 0 and a 1."""
        classes = self.config.classes
        if not classes:
            return None
        hint = f"write labels=, {n} integers from 0 to {classes - 1}"
        expect(labels is not None, "MAF: this flow is conditional: it needs the labels", error=ArgumentError, hint=hint)
        labels = labels if isinstance(labels, Tensor) else Tensor(labels)
        return one_hot(labels.long().to(self.base.like.device), classes).to(self.base.like.dtype)
