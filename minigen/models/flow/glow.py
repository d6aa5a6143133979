"""Glow (Kingma & Dhariwal 2018, arXiv:1807.03039): generative flow with invertible 1x1 convolutions.

Each scale squeezes 2x2 pixels into four channels and takes `steps` steps of flow (fig. 2a):

    actnorm                      scale and shift each channel, set by the first batch       scaling.py
    invertible 1x1 convolution   mix the channels, by a learned matrix                      convolution.py
    affine coupling              one half of the channels says how the other moves          coupling.py

Then half of the channels leave, Gaussian given those that stay (fig. 2b). The last scale keeps all of its channels.

    GlowConfig    sizes; the defaults are the paper's for CIFAR-10
    Glow          for pictures (C, H, W); for vectors (D,) one scale of the same steps, without the squeeze
"""

import math
from dataclasses import dataclass

from ...errors import ArgumentError, expect
from .base import ClassNormal
from .bijection import Composition, Permutation
from .convolution import InvertibleConvolution, LUConvolution
from .coupling import SCALES, AdditiveCoupling, AffineCoupling
from .density import FlatShaped, FlowConfig, FlowModel
from .multiscale import FactorOut, Squeeze, check_scales
from .networks import GlowNet, ZeroConv2d, mlp
from .scaling import ActNorm

MIXES = ("lu", "plain", "shuffle", "reverse")
COUPLINGS = ("affine", "additive")


@dataclass
class GlowConfig(FlowConfig):
    """Sizes of a Glow.

    scales     L in the paper;  steps  K, of flow at each scale
    hidden     channels (or units) of the networks, which have two hidden layers
    mix        of the channels: "lu", "plain" (W itself), or the fixed "shuffle" or "reverse" of the paper's comparison
    coupling   "affine" or "additive"
    scale      of an affine coupling: "sigmoid" as published, "tanh", or "exp"
    dropout    inside the networks
    """

    shape: tuple = (3, 32, 32)
    scales: int = 3
    steps: int = 32
    hidden: int = 512
    mix: str = "lu"
    coupling: str = "affine"
    scale: str = "sigmoid"
    dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("mix", MIXES), ("coupling", COUPLINGS), ("scale", SCALES)):
            value = getattr(self, name)
            expect(value in known, f"GlowConfig: {name} is one of {known}", value, error=ArgumentError)
        if len(self.shape) == 1:
            expect(self.shape[0] % 2 == 0, "GlowConfig: an even number of dimensions", self.shape, error=ArgumentError)
        else:
            check_scales("GlowConfig", self.shape, self.scales)

    @property
    def top(self):
        """How many of z's dimensions stay to the end: they are the first ones, and know the class."""
        return self.dim >> (self.scales - 1) if len(self.shape) == 3 else self.dim


class Glow(FlowModel):
    """x (N, *config.shape), real numbers or levels. See FlowModel for what it does."""

    config_class = GlowConfig

    def __init__(self, config=None, **sizes):
        config = config or GlowConfig(**sizes)
        base = ClassNormal(config.dim, config.classes, config.top) if config.classes else None
        if len(config.shape) == 1:
            bijection = Composition(*_steps(config, config.shape[0], mlp))
        else:
            bijection = _scale(config, config.shape, 1)
        super().__init__(config, bijection, base)


def _scale(config, shape, number):
    """Everything from scale `number` on, for x of this shape; flat z."""
    channels, height, width = 4 * shape[0], shape[1] // 2, shape[2] // 2
    steps = [Squeeze(), *_steps(config, channels, _picture_network)]
    if number == config.scales:
        return FlatShaped((channels, height, width), *steps)
    deeper = (channels // 2, height, width)
    prior = ZeroConv2d(channels // 2, channels)
    return Composition(*steps, FactorOut(_scale(config, deeper, number + 1), (math.prod(deeper),), prior))


def _steps(config, channels, make_network):
    """config.steps times actnorm, mixing, coupling."""
    layers = []
    for _ in range(config.steps):
        sizes = [channels // 2, config.hidden, config.hidden, channels // 2 * (1 + (config.coupling == "affine"))]
        network = make_network(sizes, config.dropout)
        layers += [ActNorm(channels), _mix(config, channels), _coupling(config, network, channels)]
    return layers


def _picture_network(sizes, dropout):
    return GlowNet(sizes[0], sizes[-1], sizes[1], dropout)


def _mix(config, channels):
    if config.mix == "reverse":
        return Permutation.reverse(channels)
    if config.mix == "shuffle":
        return Permutation.shuffle(channels)
    return (LUConvolution if config.mix == "lu" else InvertibleConvolution)(channels)


def _coupling(config, network, channels):
    if config.coupling == "additive":
        return AdditiveCoupling(network)
    return AffineCoupling(network, scale=config.scale, channels=channels // 2)
