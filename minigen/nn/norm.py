"""Normalisation layers.

BatchNorm1d/2d/3d      each channel over the batch and space; keeps running statistics for evaluation
InstanceNorm1d/2d/3d   each channel of each sample over space
GroupNorm              groups of channels of each sample
LayerNorm, RMSNorm     the last dimensions of each position
LocalResponseNorm      neighbouring channels (AlexNet)
"""

from ..errors import ArgumentError, ShapeError, expect
from ..tensor import Tensor, int64, new_library
from . import functional as F
from . import init
from .module import Module, new_parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _WithRunningStatistics(Module):
    """Weight, bias and running mean and variance of each channel: what batch and instance norm share."""

    shown = ("eps", "momentum", "affine", "track_running_stats")

    def _setup(self, num_features, eps, momentum, affine, track, device, dtype, bias=True):
        expect(eps > 0, f"{type(self).__name__}: eps must be positive, got {eps}", error=ArgumentError)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track
        factory = {"device": device, "dtype": dtype}
        self.weight = new_parameter(num_features, **factory) if affine else None
        self.bias = new_parameter(num_features, **factory) if affine and bias else None
        library = new_library(device)
        buffers = {"running_mean": None, "running_var": None, "num_batches_tracked": None}
        if track:
            buffers["running_mean"] = new_parameter(num_features, **factory).detach()
            buffers["running_var"] = new_parameter(num_features, **factory).detach()
            buffers["num_batches_tracked"] = Tensor(library.zeros((), int64))
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.reset_parameters()

    def reset_running_stats(self):
        """Mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self):
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check(self, x, ndims, layout):
        expect(x.ndim in ndims, f"{type(self).__name__}: x must be {layout}", x)

    def extra_repr(self):
        return f"{self.num_features}, {super().extra_repr()}"


class _BatchNorm(_WithRunningStatistics):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, over all but the channels (Ioffe & Szegedy 2015).

    In training, mean and var are the batch's (var without Bessel's correction), and the running ones move towards
    them: new = (1 - momentum) * old + momentum * batch's (var with the correction). momentum=None: a plain average of
    all batches seen. In evaluation the running ones are used, or the batch's with track_running_stats=False.
    """

    ndims, layout = (), ""

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        self._setup(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        self._check(input, self.ndims, self.layout)
        momentum = self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        use_batch = self.training or self.running_mean is None
        keep = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if keep else None,
            self.running_var if keep else None,
            self.weight,
            self.bias,
            use_batch,
            0.0 if momentum is None else momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """(N, C) or (N, C, L). See `_BatchNorm`."""

    ndims, layout = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """(N, C, H, W). See `_BatchNorm`."""

    ndims, layout = (4,), "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """(N, C, D, H, W). See `_BatchNorm`."""

    ndims, layout = (5,), "(N, C, D, H, W)"


class _InstanceNorm(_WithRunningStatistics):
    """Each channel of each sample normalised over space (Ulyanov et al. 2016). No affine, no statistics by default."""

    spatial, layout = 0, ""

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=False,
        track_running_stats=False,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        self._setup(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        self._check(input, (self.spatial + 1, self.spatial + 2), self.layout)
        channels = input.shape[input.ndim - self.spatial - 1]
        if channels != self.num_features:
            rule = f"{type(self).__name__}: input has {channels} channels, num_features is {self.num_features}"
            expect(not self.affine and not self.track_running_stats, rule, input, error=ShapeError)
        batched = input if input.ndim == self.spatial + 2 else input.unsqueeze(0)
        y = F.instance_norm(
            batched,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return y if batched is input else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """(N, C, L) or (C, L). See `_InstanceNorm`."""

    spatial, layout = 1, "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    """(N, C, H, W) or (C, H, W). See `_InstanceNorm`."""

    spatial, layout = 2, "(N, C, H, W) or (C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """(N, C, D, H, W) or (C, D, H, W). See `_InstanceNorm`."""

    spatial, layout = 3, "(N, C, D, H, W) or (C, D, H, W)"


class GroupNorm(Module):
    """The channels of each sample in groups, each normalised over its channels and space (Wu & He 2018)."""

    shown = ("eps", "affine")

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        expect(
            num_groups > 0 and num_channels % num_groups == 0,
            f"GroupNorm: num_groups={num_groups} must divide num_channels={num_channels}",
            error=ArgumentError,
        )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = new_parameter(num_channels, device=device, dtype=dtype) if affine else None
        self.bias = new_parameter(num_channels, device=device, dtype=dtype) if affine and bias else None
        self.reset_parameters()

    def reset_parameters(self):
        _unit(self)

    def forward(self, input, activation=None):
        """`activation` ("silu", say): of the result, in the same passes, as in functional.group_norm_activation."""
        settings = self.num_groups, self.weight, self.bias, self.eps
        if activation is None:
            return F.group_norm(input, *settings)
        return F.group_norm_activation(input, *settings, activation)

    def extra_repr(self):
        return f"{self.num_groups}, {self.num_channels}, {super().extra_repr()}"


class LayerNorm(Module):
    """The last dimensions, `normalized_shape`, of each position normalised, scaled and shifted (Ba et al. 2016)."""

    shown = ("eps", "elementwise_affine")

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        self.normalized_shape = _shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = new_parameter(*self.normalized_shape, device=device, dtype=dtype)
            self.bias = new_parameter(*self.normalized_shape, device=device, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        _unit(self)

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, {super().extra_repr()}"


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions (Zhang & Sennrich 2019).

    eps=None means the machine epsilon of x's type.
    """

    shown = ("eps", "elementwise_affine")

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        self.normalized_shape = _shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = new_parameter(*self.normalized_shape, device=device, dtype=dtype) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self):
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input):
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, {super().extra_repr()}"


class LocalResponseNorm(Module):
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta (Krizhevsky et al. 2012, section 3.3)."""

    shown = ("alpha", "beta", "k")

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, {super().extra_repr()}"


def _shape(normalized_shape):
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def _unit(module):
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)
