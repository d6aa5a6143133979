"""Spectral norm and weight norm in their older form: a hook that computes the weight before each forward pass.

They are here for checkpoints that have their keys (weight_orig, weight_u, weight_v; weight_g, weight_v). New code uses
`nn.utils.parametrizations`, whose weight is right at every reading.
"""

from ...errors import ArgumentError, expect
from ...tensor import Parameter
from ..conv import _TransposedConvolution
from ..hooks import Handle
from .parametrizations import as_matrix, largest_singular_value, norm_except, power_iteration, random_direction

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _SpectralNormHook:
    def __init__(self, name, dim, rounds, eps):
        self.name, self.dim, self.rounds, self.eps = name, dim, rounds, eps

    def weight(self, module, iterate):
        matrix = as_matrix(getattr(module, self.name + "_orig"), self.dim)
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        if iterate:
            power_iteration(matrix, u, v, self.rounds, self.eps)
        return getattr(module, self.name + "_orig") / largest_singular_value(matrix, u, v)

    def __call__(self, module, _):
        setattr(module, self.name, self.weight(module, module.training))


class _WeightNormHook:
    def __init__(self, name, dim):
        self.name, self.dim = name, dim

    def weight(self, module, _=False):
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        return v * (g / norm_except(v, self.dim))

    def __call__(self, module, _):
        setattr(module, self.name, self.weight(module))


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight by its largest singular value. Returns the module. See `parametrizations.spectral_norm`."""
    dim = (1 if isinstance(module, _TransposedConvolution) else 0) if dim is None else dim
    _check(module, name, _SpectralNormHook)
    weight = getattr(module, name)
    matrix = as_matrix(weight.detach(), dim)
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    module.register_buffer(name + "_u", random_direction(matrix, matrix.shape[0], eps))
    module.register_buffer(name + "_v", random_direction(matrix, matrix.shape[1], eps))
    return _install(module, _SpectralNormHook(name, dim, n_power_iterations, eps), weight.detach())


def weight_norm(module, name="weight", dim=0):
    """Train a weight as length times direction. Returns the module. See `parametrizations.weight_norm`."""
    _check(module, name, _WeightNormHook)
    weight = getattr(module, name)
    delattr(module, name)
    module.register_parameter(name + "_g", Parameter(norm_except(weight.detach(), dim).data))
    module.register_parameter(name + "_v", weight)
    hook = _WeightNormHook(name, dim)
    return _install(module, hook, hook.weight(module))


def remove_spectral_norm(module, name="weight"):
    """Make the weight an ordinary parameter again, with its normalised value. Returns the module."""
    return _remove(module, name, _SpectralNormHook, ("_orig", "_u", "_v"))


def remove_weight_norm(module, name="weight"):
    """Make the weight an ordinary parameter again, with its value. Returns the module."""
    return _remove(module, name, _WeightNormHook, ("_g", "_v"))


def _hooks(module, name, kind):
    entries = module._hooks["before"] if module._hooks else []
    return [entry for entry in entries if isinstance(entry[0], kind) and entry[0].name == name]


def _check(module, name, kind):
    expect(
        not _hooks(module, name, kind),
        f"{type(module).__name__}.{name} has this norm already",
        error=ArgumentError,
    )


def _install(module, hook, weight):
    object.__setattr__(module, hook.name, weight)
    module.register_forward_pre_hook(hook)
    return module


def _remove(module, name, kind, suffixes):
    found = _hooks(module, name, kind)
    expect(bool(found), f"{type(module).__name__}.{name} has no such norm", error=ArgumentError)
    weight = found[0][0].weight(module, False).detach()
    Handle(module, "before", found[0]).remove()
    for suffix in suffixes:
        delattr(module, name + suffix)
    delattr(module, name)
    setattr(module, name, Parameter(weight))
    return module
