"""What a diffusion U-Net is built of (Ho, Jain & Abbeel 2020, arXiv:2006.11239, appendix B).

    time_features, TimeEmbedding    t as a vector: sines and cosines, then two layers
    ResBlock                        norm, activation, convolution, twice, around them x itself; t is added in between
    Attention2d                     every pixel looks at every other
    Downsample, Upsample            half and twice the size
    DownBlock, MidBlock, UpBlock    layers of these at one size; an UpBlock takes up what the DownBlock left for it

The parts bear the names of the published checkpoints (diffusers), so that these load as they are.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from ... import nn
from ...device import CPU, CUDA, home, to_device, xp
from ...errors import ArgumentError, expect
from ...nn import functional as F
from ...nn import init
from ...nn.module import new_parameter
from ...ops.elementary import cos, sin
from ...ops.joining import cat
from ...tensor import Tensor, value

ACTIVATIONS = {"silu": F.silu, "swish": F.silu, "gelu": F.gelu, "relu": F.relu, "mish": F.mish}
BEHIND = {name: "silu" if name == "swish" else name for name in ACTIVATIONS}  # as norms call what they apply themselves


@dataclass(frozen=True)
class Style:
    """What all blocks of a network share.

    groups, eps    of the group norms
    activation     "silu", "gelu", "relu" or "mish"
    dropout        before the second convolution of a block
    scale_shift    t scales and shifts what the second norm gives, (1 + s) h + b (Nichol & Dhariwal 2021, section 3.1);
                   otherwise it is added before that norm
    divisor        what the sum of a block and its input is divided by
    time_activated the block applies the activation to the embedding of t
    zero           the last layer of every branch starts at 0, so that a new network passes x on (Ho et al.'s code)
    """

    groups: int = 32
    eps: float = 1e-6
    activation: str = "silu"
    dropout: float = 0.0
    scale_shift: bool = False
    divisor: float = 1.0
    time_activated: bool = True
    zero: bool = True

    def norm(self, channels):
        rule = f"U-Net: groups={self.groups} must divide the channels of every norm, here {channels}"
        expect(channels % self.groups == 0, rule, error=ArgumentError)
        return nn.GroupNorm(self.groups, channels, self.eps)

    def last(self, layer):
        """The last layer of a branch."""
        if self.zero:
            init.zeros_(layer.weight)
            init.zeros_(layer.bias)
        return layer


# Time


def time_features(t, size, cosine_first=True, shift=0, period=10_000):
    """sin and cos of t at size / 2 frequencies from 1 down to about 1 / period: t (N,) -> (N, size) float32.

    The frequencies are period^(-i / (size / 2 - shift)). In the paper (Vaswani et al. 2017, section 3.5; Ho et al.'s
    code has shift = 1) the sines come first.
    """
    array = value(t)
    frequencies = _frequencies(size // 2, shift, period, *home(array))
    lib = xp(array)
    angles = (array.astype(np.float32)[:, None] * frequencies).astype(np.float64)
    both = [lib.sin(angles), lib.cos(angles)]
    features = lib.concatenate(both[::-1] if cosine_first else both, axis=1).astype(np.float32)
    return Tensor(lib.pad(features, ((0, 0), (0, size % 2))))


@functools.lru_cache(64)
def _frequencies(n, shift, period, lib, place):
    """They are copied to a GPU once."""
    exponent = np.float32(-math.log(period)) * np.arange(n, dtype=np.float32) / np.float32(n - shift)
    return to_device(np.exp(exponent.astype(np.float64)).astype(np.float32), CPU if lib is np else CUDA)


class FourierFeatures(nn.Module):
    """sin and cos of 2 pi w t, the frequencies w drawn once from N(0, scale^2) (Song et al. 2021, arXiv:2011.13456)."""

    def __init__(self, frequencies, scale=1.0, cosine_first=False, generator=None):
        self.weight = init.normal_(new_parameter(frequencies), 0.0, scale, generator=generator)
        self.weight.requires_grad = False
        self.cosine_first = cosine_first

    def forward(self, t):
        angles = t.unsqueeze(1) * self.weight * 2 * math.pi
        both = [sin(angles), cos(angles)]
        return cat(both[::-1] if self.cosine_first else both, 1)


class TimeEmbedding(nn.Module):
    """Two layers: features (N, size) -> (N, out)."""

    def __init__(self, size, out, activation="silu", last_activation=None):
        self.linear_1 = nn.Linear(size, out)
        self.linear_2 = nn.Linear(out, out)
        self.activation = ACTIVATIONS[activation]
        self.last_activation = None if last_activation is None else ACTIVATIONS[last_activation]

    def forward(self, features):
        x = self.linear_2(self.activation(self.linear_1(features)))
        return x if self.last_activation is None else self.last_activation(x)


# Layers


class ResBlock(nn.Module):
    """(N, in, H, W) and the embedding of t (N, time_size) -> (N, out, H, W).

    resample   "up" or "down": the block also doubles or halves H and W, inside both branches
    """

    def __init__(self, in_channels, out_channels, time_size, style, resample=None):
        self.style, self.resample = style, resample
        self.norm1 = style.norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_size, out_channels * (2 if style.scale_shift else 1))
        self.norm2 = style.norm(out_channels)
        self.dropout = nn.Dropout(style.dropout)
        self.conv2 = style.last(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, time, size=None):
        act, behind = ACTIVATIONS[self.style.activation], BEHIND[self.style.activation]
        h = self.norm1(x, behind)
        if self.resample is not None:
            x, h = [_doubled(y, size) if self.resample == "up" else F.avg_pool2d(y, 2) for y in (x, h)]
        h = self.conv1(h)
        time = self.time_emb_proj(act(time) if self.style.time_activated else time)[:, :, None, None]
        if self.style.scale_shift:
            scale, shift = time.chunk(2, 1)
            h = act(self.norm2(h) * (1 + scale) + shift)
        else:
            h = self.norm2(h + time, behind)
        h = self.conv2(self.dropout(h))
        if "conv_shortcut" in vars(self):
            x = self.conv_shortcut(x)
        return x + h if self.style.divisor == 1 else (x + h) / self.style.divisor


class Attention2d(nn.Module):
    """Attention of all pixels to all: (N, C, H, W) -> the same, x plus what was looked up.

    head_size   channels of a head; None: one head
    groups      of the norm before it; None for no norm
    """

    def __init__(self, channels, head_size, style, groups):
        size = channels if head_size is None else head_size
        rule = f"U-Net: head_size={size} must be at most the {channels} channels that the heads share"
        expect(0 < size <= channels, rule, error=ArgumentError)
        self.heads, self.divisor = channels // size, style.divisor
        inner = self.heads * size
        if groups is not None:
            self.group_norm = nn.GroupNorm(groups, channels, style.eps)
        self.to_q, self.to_k, self.to_v = [nn.Linear(channels, inner) for _ in range(3)]
        self.to_out = nn.Sequential(style.last(nn.Linear(inner, channels)))

    def forward(self, x, context=None, mask=None):
        n, c, height, width = x.shape
        h = self.group_norm(x) if "group_norm" in vars(self) else x
        h = h.permute(0, 2, 3, 1).reshape(n, height * width, c)
        h = self.to_out(attend(self.to_q(h), self.to_k(h), self.to_v(h), self.heads))
        y = x + h.reshape(n, height, width, c).permute(0, 3, 1, 2)
        return y if self.divisor == 1 else y / self.divisor


def attend(q, k, v, heads, mask=None):
    """Attention in several heads: q (N, T, D), k and v (N, S, D) -> (N, T, D)."""
    q, k, v = [x.reshape(len(x), x.shape[1], heads, -1).transpose(1, 2) for x in (q, k, v)]
    h = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)
    return h.reshape(*h.shape[:2], -1)


class Downsample(nn.Module):
    """A convolution of stride 2. padding=0: one row and column of zeros, at the end only (as in Ho et al.'s code)."""

    def __init__(self, channels, padding=1):
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.padding = padding

    def forward(self, x, time=None):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.padding == 0 else x)


class Upsample(nn.Module):
    """Every pixel four times (or to `size`), then a convolution."""

    def __init__(self, channels):
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, time=None, size=None):
        return self.conv(_doubled(x, size))


def _doubled(x, size):
    if size is None or tuple(size) == (2 * x.shape[2], 2 * x.shape[3]):
        return F.interpolate(x, scale_factor=2.0)
    return F.interpolate(x, size=tuple(size))


# One size of the picture


class DownBlock(nn.Module):
    """`layers` ResBlocks, each followed by attention(channels) if there is one, then half the size.

    attention    a function: channels -> a module called with (x, context, mask); or None
    downsample   "conv", "resnet" or None
    Returns x and the list of what came out of each layer, for the way up.
    """

    def __init__(self, in_channels, channels, time_size, style, layers, attention=None, downsample="conv", padding=1):
        ins = [in_channels] + [channels] * (layers - 1)
        self.resnets = nn.ModuleList(ResBlock(c, channels, time_size, style) for c in ins)
        self.attentions = nn.ModuleList(attention(channels) for _ in ins) if attention else None
        self.downsamplers = None
        if downsample is not None:
            conv = downsample == "conv"
            down = Downsample(channels, padding) if conv else ResBlock(channels, channels, time_size, style, "down")
            self.downsamplers = nn.ModuleList([down])

    def forward(self, x, time, context=None, mask=None):
        outputs = []
        for resnet, attention in zip(self.resnets, self.attentions or [None] * len(self.resnets)):
            x = resnet(x, time)
            if attention is not None:
                x = attention(x, context, mask)
            outputs.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x, time)
            outputs.append(x)
        return x, outputs


class MidBlock(nn.Module):
    """A ResBlock; then attention and another ResBlock, `pairs` times."""

    def __init__(self, channels, time_size, style, attention=None, pairs=1):
        self.attentions = nn.ModuleList(attention(channels) for _ in range(pairs)) if attention else None
        self.resnets = nn.ModuleList(ResBlock(channels, channels, time_size, style) for _ in range(1 + pairs))

    def forward(self, x, time, context=None, mask=None):
        x = self.resnets[0](x, time)
        for i, resnet in enumerate(list(self.resnets)[1:]):
            if self.attentions is not None:
                x = self.attentions[i](x, context, mask)
            x = resnet(x, time)
        return x


class UpBlock(nn.Module):
    """For each of `skips` (channels that the way down left, last first) a ResBlock on x beside it; then twice the size.

    upsample   "conv", "resnet" or None
    Called with the list of what the way down left: it takes its own off the end.
    """

    def __init__(self, in_channels, channels, time_size, style, skips, attention=None, upsample="conv"):
        ins = [in_channels] + [channels] * (len(skips) - 1)
        self.resnets = nn.ModuleList(ResBlock(c + s, channels, time_size, style) for c, s in zip(ins, skips))
        self.attentions = nn.ModuleList(attention(channels) for _ in skips) if attention else None
        self.upsamplers = None
        if upsample is not None:
            conv = upsample == "conv"
            up = Upsample(channels) if conv else ResBlock(channels, channels, time_size, style, "up")
            self.upsamplers = nn.ModuleList([up])

    def forward(self, x, left, time, context=None, mask=None):
        for resnet, attention in zip(self.resnets, self.attentions or [None] * len(self.resnets)):
            x = resnet(cat([x, left.pop()], 1), time)
            if attention is not None:
                x = attention(x, context, mask)
        if self.upsamplers is not None:
            x = self.upsamplers[0](x, time, left[-1].shape[2:])
        return x
