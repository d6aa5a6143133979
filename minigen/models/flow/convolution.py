"""The invertible 1x1 convolution (Kingma & Dhariwal 2018, arXiv:1807.03039, sec. 3.2).

A coupling moves one half of the channels, so the halves have to be mixed in between. RealNVP swaps them, a fixed
permutation. Glow learns the mixing: a matrix W, applied to the channels of each pixel, which starts as a random
rotation.

    z[:, i, j] = W x[:, i, j],        log|det| = height * width * log|det W|                          (eq. 9)

The determinant costs c^3. With W = P L (U + diag(s)), P a fixed permutation, L lower triangular with ones on its
diagonal and U strictly upper triangular, it costs c (eq. 10-11):

    log|det W| = sum(log|s|)

P and the signs of s stay as they were at the start; L, U and log|s| are learned.
"""

import math

import numpy as np

from ... import linalg, nn
from ...errors import ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import exp
from ...ops.linalg import matmul
from ...ops.rearranging import diag, tril, triu
from ...tensor import Tensor
from .bijection import Bijection, no_change


class InvertibleConvolution(Bijection):
    """W, a (C, C) matrix, on the channels of x (N, C) or (N, C, H, W). Learned freely: the determinant costs C^3."""

    def __init__(self, channels, generator=None):
        self.channels = channels
        self._set(rotation(channels, generator))

    def _set(self, w):
        self.w = nn.Parameter(Tensor(w.astype(np.float32)))

    def matrix(self):
        """W as it is now, (C, C)."""
        return self.w

    def log_determinant(self):
        """log|det W|, one number."""
        return linalg.slogdet(self.w)[1]

    def inverse_matrix(self):
        """W^-1, (C, C)."""
        return linalg.inv(self.w)

    def forward(self, x, context=None):
        log_det = self._places(x) * self.log_determinant()
        return mix(self.matrix(), x), no_change(x) + log_det

    def inverse(self, z, context=None):
        log_det = self._places(z) * self.log_determinant()
        return mix(self.inverse_matrix(), z), no_change(z) - log_det

    def _places(self, x):
        fits = x.ndim >= 2 and x.shape[1] == self.channels
        expect(fits, f"{type(self).__name__}: x is (N, {self.channels}, ...)", x, error=ShapeError)
        return math.prod(x.shape[2:])


class LUConvolution(InvertibleConvolution):
    """The same with W = P L (U + diag(s)): the determinant is a sum."""

    def _set(self, w):
        p, lower, upper = (f.numpy() for f in linalg.lu(Tensor(w)))
        s = np.diag(upper)
        self.register_buffer("p", Tensor(p.astype(np.float32)))
        self.register_buffer("sign", Tensor(np.sign(s).astype(np.float32)))
        self.lower = nn.Parameter(Tensor(np.tril(lower, -1).astype(np.float32)))
        self.upper = nn.Parameter(Tensor(np.triu(upper, 1).astype(np.float32)))
        self.log_s = nn.Parameter(Tensor(np.log(np.abs(s)).astype(np.float32)))

    def _factors(self):
        """L and U + diag(s). What the parameters hold beyond their triangles plays no part."""
        one = creation.eye(self.channels, dtype=self.lower.dtype, device=self.lower.device)
        return tril(self.lower, -1) + one, triu(self.upper, 1) + diag(self.sign * exp(self.log_s))

    def matrix(self):
        lower, upper = self._factors()
        return matmul(self.p, matmul(lower, upper))

    def log_determinant(self):
        return self.log_s.sum()

    def inverse_matrix(self):
        lower, upper = self._factors()
        half = linalg.solve_triangular(lower, self.p.mT, upper=False, unitriangular=True)
        return linalg.solve_triangular(upper, half, upper=True)


def mix(w, x):
    """w on the channels of x, (N, C) or (N, C, H, W)."""
    return F.linear(x, w) if x.ndim == 2 else F.conv2d(x, w.reshape(*w.shape, 1, 1))


def rotation(size, generator=None):
    """A random orthogonal matrix, (size, size) float64: the Q of a matrix of Gaussian noise, its signs made even."""
    noise = creation.randn(size, size, generator=generator).numpy().astype(np.float64)
    q, r = np.linalg.qr(noise)
    return q * np.sign(np.diag(r))
