"""Convolutions over one, two and three dimensions, and their transposes.

weight (out, in / groups, *kernel); of a transposed one (in, out / groups, *kernel). Weights and biases start uniform
on +-1/sqrt(fan_in). Shapes and arguments: see `nn.functional.conv2d` and `conv_transpose2d`.
"""

import math

from ..errors import ArgumentError, ShapeError, expect
from . import functional as F
from . import init
from .module import Module, new_parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What all six share. `spatial` is the number of dimensions they slide over."""

    spatial = 0
    transposed = False

    def _setup(self, sizes, kernel_size, stride, padding, output_padding, dilation, groups, bias, mode, factory):
        name, (in_channels, out_channels) = type(self).__name__, sizes
        expect(
            in_channels % groups == 0 and out_channels % groups == 0 and groups > 0,
            f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}",
            error=ArgumentError,
        )
        expect(
            mode in PADDING_MODES, f"{name}: padding_mode is one of {PADDING_MODES}, got {mode!r}", error=ArgumentError
        )
        if isinstance(padding, str):
            expect(
                padding in ("same", "valid"),
                f'{name}: padding is a number, a tuple, "same" or "valid", got {padding!r}',
                error=ArgumentError,
            )
        else:
            padding = self._per_dimension(padding, "padding")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, mode
        self.kernel_size = self._per_dimension(kernel_size, "kernel_size")
        self.stride = self._per_dimension(stride, "stride")
        self.dilation = self._per_dimension(dilation, "dilation")
        self.output_padding = self._per_dimension(output_padding, "output_padding")
        self.padding = padding
        expect(
            padding != "same" or all(s == 1 for s in self.stride),
            f'{name}: padding="same" needs stride 1, got {self.stride}',
            error=ArgumentError,
        )
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = new_parameter(first, second // groups, *self.kernel_size, **factory)
        self.bias = new_parameter(out_channels, **factory) if bias else None
        self.reset_parameters()

    def _per_dimension(self, value, name):
        sizes = (value,) * self.spatial if isinstance(value, int) else tuple(value)
        sizes = sizes * self.spatial if len(sizes) == 1 else sizes
        expect(
            len(sizes) == self.spatial,
            f"{type(self).__name__}: {name} is one number or {self.spatial}, got {value!r}",
            error=ArgumentError,
        )
        return sizes

    def reset_parameters(self):
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # the same as uniform on +-1/sqrt(fan_in)
        if self.bias is not None:
            fan_in, _ = init.fans(self.weight)
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        usual = {"padding": 0, "dilation": 1, "output_padding": 0}
        for name, value in usual.items():
            if getattr(self, name) != (value,) * self.spatial:
                text += f", {name}={getattr(self, name)}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Convolution(_Conv):
    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        factory = {"device": device, "dtype": dtype}
        sizes = in_channels, out_channels
        self._setup(sizes, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode, factory)

    def forward(self, input):
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._sides(), mode=self.padding_mode)
            padding = 0
        return self.convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _sides(self):
        """The padding for `F.pad`: (before, after) from the last dimension to the first."""
        if self.padding == "valid":
            return [0, 0] * self.spatial
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
            pairs = [(total // 2, total - total // 2) for total in totals]
        else:
            pairs = [(p, p) for p in self.padding]
        return [side for pair in reversed(pairs) for side in pair]


class Conv1d(_Convolution):
    """(N, C, L) -> (N, out, L'). See the top of this file."""

    spatial = 1
    convolve = staticmethod(F.conv1d)


class Conv2d(_Convolution):
    """(N, C, H, W) -> (N, out, H', W'). See the top of this file."""

    spatial = 2
    convolve = staticmethod(F.conv2d)


class Conv3d(_Convolution):
    """(N, C, D, H, W) -> (N, out, D', H', W'). See the top of this file."""

    spatial = 3
    convolve = staticmethod(F.conv3d)


class _TransposedConvolution(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        name = type(self).__name__
        expect(padding_mode == "zeros", f'{name}: padding_mode must be "zeros"', padding_mode, error=ArgumentError)
        expect(not isinstance(padding, str), f"{name}: padding must be a number or a tuple", error=ArgumentError)
        factory = {"device": device, "dtype": dtype}
        sizes = in_channels, out_channels
        self._setup(sizes, kernel_size, stride, padding, output_padding, dilation, groups, bias, "zeros", factory)

    def forward(self, input, output_size=None):
        output_padding = self.output_padding if output_size is None else self._padding_for(input, output_size)
        return self.convolve(
            input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups, self.dilation
        )

    def _padding_for(self, x, output_size):
        """The output_padding that gives `output_size`: a stride above 1 leaves several sizes possible."""
        wanted = tuple(output_size)[-self.spatial :]
        smallest = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                x.shape[-self.spatial :], self.stride, self.padding, self.dilation, self.kernel_size
            )
        ]
        largest = [n + s - 1 for n, s in zip(smallest, self.stride)]
        expect(
            len(wanted) == self.spatial and all(a <= n <= b for a, n, b in zip(smallest, wanted, largest)),
            f"{type(self).__name__}: output_size from {tuple(smallest)} to {tuple(largest)} is possible for this input",
            x,
            wanted,
            error=ShapeError,
        )
        return tuple(n - a for n, a in zip(wanted, smallest))


class ConvTranspose1d(_TransposedConvolution):
    """(N, C, L) -> (N, out, L'). See the top of this file."""

    spatial = 1
    convolve = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_TransposedConvolution):
    """(N, C, H, W) -> (N, out, H', W'). See the top of this file."""

    spatial = 2
    convolve = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_TransposedConvolution):
    """(N, C, D, H, W) -> (N, out, D', H', W'). See the top of this file."""

    spatial = 3
    convolve = staticmethod(F.conv_transpose3d)
