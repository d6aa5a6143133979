"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803): affine couplings on many scales.

At each scale three couplings on checkerboards, a squeeze that turns 2x2 pixels into four channels, and three couplings
on halves of the channels; then half of the channels leave (multiscale.py) and the rest goes on to the next scale. The
last scale has four couplings on checkerboards. Batch norm stands between them, and each coupling's network is a
residual one with normalised weights.

    RealNVPConfig    sizes
    RealNVP          for pictures (C, H, W) as in the paper; for vectors (D,) couplings with fully connected networks
"""

import math
from dataclasses import dataclass

from ...errors import ArgumentError, expect
from .bijection import Composition
from .coupling import AffineCoupling, alternating, channel_halves, checkerboard
from .density import FlatShaped, FlowConfig, FlowModel
from .multiscale import FactorOut, Squeeze, check_scales
from .networks import ResidualNet, mlp
from .scaling import ActNorm, BatchNorm

NORMS = ("batch", "act", "none")


@dataclass
class RealNVPConfig(FlowConfig):
    """Sizes of a RealNVP; the defaults are the paper's for CIFAR-10 (sec. 4.1).

    scales      of pictures: 1 has no squeeze at all
    couplings   for pictures: on each partition of a scale but the last, which has one more; for vectors: in all
    hidden      channels of the residual networks before the first squeeze, each of which doubles them; or the size of
                the hidden layers for vectors
    blocks      residual blocks of each network; or the number of hidden layers for vectors
    dropout     inside the networks
    norm        between couplings: "batch", "act" or "none"
    """

    shape: tuple = (3, 32, 32)
    scales: int = 2
    couplings: int = 3
    hidden: int = 64
    blocks: int = 8
    dropout: float = 0.0
    norm: str = "batch"

    def __post_init__(self):
        super().__post_init__()
        expect(self.norm in NORMS, f"RealNVPConfig: norm is one of {NORMS}", self.norm, error=ArgumentError)
        expect(len(self.shape) in (1, 3), "RealNVPConfig: shape is (D,) or (C, H, W)", self.shape, error=ArgumentError)
        if len(self.shape) == 3:
            check_scales("RealNVPConfig", self.shape, self.scales - 1)


class RealNVP(FlowModel):
    """A flow of affine couplings on x (N, *config.shape), real numbers or levels. See FlowModel for what it does."""

    config_class = RealNVPConfig

    def __init__(self, config=None, **sizes):
        config = config or RealNVPConfig(**sizes)
        super().__init__(config, _vectors(config) if len(config.shape) == 1 else _scale(config, config.shape, 1))


def _vectors(config):
    """Couplings of which each moves the elements that the one before left alone."""
    (dim,) = config.shape
    layers = []
    for i in range(config.couplings):
        network = mlp([dim, *[config.hidden] * config.blocks, 2 * dim], config.dropout)
        layers.append(AffineCoupling(network, alternating(dim, i % 2 == 1), scale="tanh", channels=dim))
        layers += _norm(config, dim)
    return Composition(*layers)


def _scale(config, shape, number):
    """Everything from scale `number` on, for x of this shape; flat z."""
    channels, height, width = shape
    hidden = config.hidden * 2 ** (number - 1)
    boards = [checkerboard(height, width, flip) for flip in (False, True)]
    if number == config.scales:
        return FlatShaped(shape, *_couplings(config, channels, hidden, boards, config.couplings + 1))
    squeezed = 4 * channels
    sides = [channel_halves(squeezed, flip) for flip in (False, True)]
    deeper = (squeezed // 2, height // 2, width // 2)
    return Composition(
        *_couplings(config, channels, hidden, boards, config.couplings),
        Squeeze(),
        *_couplings(config, squeezed, 2 * hidden, sides, config.couplings),
        FactorOut(_scale(config, deeper, number + 1), (math.prod(deeper),)),
    )


def _couplings(config, channels, hidden, masks, count):
    layers = []
    for i in range(count):
        network = ResidualNet(channels, 2 * channels, hidden, config.blocks, config.dropout)
        layers.append(AffineCoupling(network, masks[i % 2], scale="tanh", channels=channels))
        layers += _norm(config, channels)
    return layers


def _norm(config, channels):
    return {"batch": [BatchNorm(channels, affine=False)], "act": [ActNorm(channels)], "none": []}[config.norm]
