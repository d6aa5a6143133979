"""NICE (Dinh, Krueger & Bengio 2014, arXiv:1410.8516): the first flow of couplings.

Additive couplings, of which each moves the elements that the one before left alone, and one scale for each element at
the end. All the couplings keep volumes, so the log-determinant is the sum of the last layer's logarithms.

    NICEConfig    sizes; the defaults are the paper's for MNIST
    NICE          logistic or normal noise at the far end

Pictures are taken flat. Levels are dequantised and go through the logit, as in RealNVP; the paper leaves it out.
"""

import math
from dataclasses import dataclass

from ...errors import ArgumentError, expect
from .base import StandardLogistic
from .bijection import Composition, Reshape
from .coupling import AdditiveCoupling, alternating
from .density import FlowConfig, FlowModel
from .networks import mlp
from .scaling import DiagonalScaling

BASES = ("logistic", "normal")


@dataclass
class NICEConfig(FlowConfig):
    """couplings: how many. hidden: sizes of each coupling's network. base: "logistic" or "normal"."""

    shape: tuple = (1, 28, 28)
    couplings: int = 4
    hidden: tuple = (1000, 1000, 1000, 1000, 1000)
    dropout: float = 0.0
    base: str = "logistic"

    def __post_init__(self):
        super().__post_init__()
        self.hidden = tuple(self.hidden)
        expect(self.base in BASES, f"NICEConfig: base is one of {BASES}", self.base, error=ArgumentError)
        expect(not self.classes or self.base == "normal", 'NICEConfig: classes need base="normal"', error=ArgumentError)


class NICE(FlowModel):
    """A flow of additive couplings on x (N, *config.shape), real numbers or levels. See FlowModel for what it does."""

    config_class = NICEConfig

    def __init__(self, config=None, **sizes):
        config = config or NICEConfig(**sizes)
        dim = math.prod(config.shape)
        # Not zero at the start: where x_b is 0 on average whatever x_a, a shift of 0 is a place without a slope.
        networks = [mlp([dim, *config.hidden, dim], config.dropout, zero=False) for _ in range(config.couplings)]
        layers = [AdditiveCoupling(net, alternating(dim, flip=i % 2 == 1)) for i, net in enumerate(networks)]
        bijection = Composition(Reshape(config.shape, (dim,)), *layers, DiagonalScaling(dim))
        super().__init__(config, bijection, StandardLogistic(dim) if config.base == "logistic" else None)
