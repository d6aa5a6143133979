"""Learning rate schedules. Make one over an optimiser, and call `step()` after each `optimizer.step()`.

base.py      LRScheduler, and what a schedule must answer
decay.py     by one formula: lambda, stairs, straight, exponential, polynomial, cosine
cycles.py    up and down: warm restarts, triangles, one cycle
warmup.py    straight up from 0, then down: linear, cosine, 1 / sqrt(t), noam
plateau.py   by a measure
combined.py  one schedule after another, or several at once
"""

from .base import LRScheduler
from .combined import ChainedScheduler, SequentialLR
from .cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .decay import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau
from .warmup import (
    constant_with_warmup,
    cosine_with_hard_restarts_with_warmup,
    cosine_with_warmup,
    inverse_sqrt_with_warmup,
    linear_with_warmup,
    noam,
    polynomial_with_warmup,
)

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "constant_with_warmup",
    "cosine_with_hard_restarts_with_warmup",
    "cosine_with_warmup",
    "inverse_sqrt_with_warmup",
    "linear_with_warmup",
    "noam",
    "polynomial_with_warmup",
]
