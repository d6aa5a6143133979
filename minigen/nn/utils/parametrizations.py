"""Weights kept in check: spectral norm and weight norm, as parametrizations.

    critic = nn.Sequential(spectral_norm(nn.Conv2d(3, 64, 4)), nn.LeakyReLU(0.2), ...)

The older hook forms of both (state dict keys weight_orig, weight_u; weight_g, weight_v) are `nn.utils.spectral_norm`
and `nn.utils.weight_norm`, in weight_hooks.py.
"""

from ...errors import ArgumentError, DimError, expect
from ...ops.normalization import normalize
from ...ops.reduction import sum
from ...tensor import Tensor, wrote
from .. import init
from ..conv import _TransposedConvolution
from ..module import Module
from .parametrize import register_parametrization

__all__ = ["spectral_norm", "weight_norm"]


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight by its largest singular value, so that the layer is 1-Lipschitz (Miyato et al. 2018).

    The value is found by power iteration, `n_power_iterations` rounds a training step from where the last ones ended.
    dim: the dimension of the outputs; 1 for transposed convolutions, else 0. Returns the module.
    """
    dim = (1 if isinstance(module, _TransposedConvolution) else 0) if dim is None else dim
    return register_parametrization(module, name, _SpectralNorm(getattr(module, name), n_power_iterations, dim, eps))


class _SpectralNorm(Module):
    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        expect(
            n_power_iterations > 0,
            f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}",
            error=ArgumentError,
        )
        expect(-weight.ndim <= dim < weight.ndim, f"spectral_norm: dim={dim} of a weight", weight, error=DimError)
        self.dim, self.eps, self.n_power_iterations = dim % weight.ndim, eps, n_power_iterations
        if weight.ndim > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            for name, size in (("_u", matrix.shape[0]), ("_v", matrix.shape[1])):
                self.register_buffer(name, random_direction(matrix, size, eps))
            power_iteration(matrix, self._u, self._v, 15, eps)

    def forward(self, weight):
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_iteration(matrix, self._u, self._v, self.n_power_iterations, self.eps)
        return weight / largest_singular_value(matrix, self._u, self._v)

    def right_inverse(self, value):
        return value


def as_matrix(weight, dim):
    """The weight with the dimension `dim` first and the others as one: (outputs, the rest)."""
    return weight.movedim(dim, 0).flatten(1) if dim else weight.flatten(1)


def random_direction(like, size, eps):
    """A random vector of length 1."""
    x = Tensor(like.data[:0].reshape(-1).copy())
    x.data = init._draw("normal", like, None, (size,))
    return normalize(x, dim=0, eps=eps)


def power_iteration(matrix, u, v, rounds, eps):
    """Turn u and v, in place, towards the first singular vectors of a matrix: u = W v / |W v|, v = W^T u / |W^T u|."""
    w = matrix.detach()
    for _ in range(rounds):
        for x, image in ((u, lambda: w @ v), (v, lambda: w.T @ u)):
            x.data[...] = normalize(image(), dim=0, eps=eps).data
    wrote(u.data)
    wrote(v.data)


def largest_singular_value(matrix, u, v):
    """u^T W v. u and v are taken as they are now, and as constants: a later forward pass may turn them."""
    return Tensor(u.data.copy()) @ (matrix @ Tensor(v.data.copy()))


def weight_norm(module, name="weight", dim=0):
    """Train a weight as length times direction, w = g v / |v| (Salimans & Kingma 2016). Returns the module.

    original0 is g, original1 is v. dim: one length for each index of this dimension; None for one length in all.
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _WeightNorm(Module):
    def __init__(self, dim=0):
        self.dim = dim

    def forward(self, g, v):
        return v * (g / norm_except(v, self.dim))

    def right_inverse(self, weight):
        return norm_except(weight, self.dim), weight


def norm_except(v, dim):
    """The 2-norm over all dimensions but `dim`, as (1, ..., n, ..., 1); over all, as (), if it is None or -1."""
    if dim is None or dim == -1:
        return (v * v).sum().sqrt()
    dims = tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    return sum(v * v, dims, keepdim=True).sqrt() if dims else v.abs()
