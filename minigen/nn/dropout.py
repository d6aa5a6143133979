"""Dropout (Srivastava et al. 2014): in training, zero numbers or whole channels at random and scale up the rest.

Each draws from `generator`, or from the default one (`minigen.manual_seed`). In evaluation all are the identity.
"""

from ..errors import ArgumentError, expect
from . import functional as F
from .module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    shown = ("p",)

    def __init__(self, p=0.5, inplace=False, generator=None):
        expect(0 <= p <= 1, f"{type(self).__name__}: p is a probability, got {p}", error=ArgumentError)
        self.p, self.inplace, self.generator = p, inplace, generator

    def forward(self, input):
        return self.drop(input, self.p, self.training, generator=self.generator)


class Dropout(_Dropout):
    """Each number is zero with probability p; the others are divided by 1 - p."""

    drop = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Whole channels of (N, C, L) at once (Tompson et al. 2015)."""

    drop = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Whole channels of (N, C, H, W) at once (Tompson et al. 2015)."""

    drop = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Whole channels of (N, C, D, H, W) at once."""

    drop = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """For SELU networks: keeps mean 0 and variance 1 (Klambauer et al. 2017)."""

    drop = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels."""

    drop = staticmethod(F.feature_alpha_dropout)
