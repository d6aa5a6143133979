"""The networks inside coupling layers. A flow is exact whatever they are, so they may be as deep as you like.

    mlp            for vectors
    ResidualNet    RealNVP's: residual blocks with batch norm, all weights normalised (Dinh et al. 2017, sec. 4.1)
    GlowNet        Glow's: 3x3, 1x1, 3x3, the last one zero at the start (Kingma & Dhariwal 2018, sec. 3.3)

Each starts with an output of 0 (an mlp only if told so), so that every coupling starts as the identity and a deep flow
trains from the first step on.
"""

import itertools

from ... import nn
from ...autograd import no_grad
from ...nn.utils.parametrizations import weight_norm
from ...ops import creation
from ...ops.elementary import exp
from .scaling import ActNorm

LOG_SCALE_FACTOR = 3.0  # of ZeroConv2d, as in Glow's published code


def mlp(sizes, dropout=0.0, activation=nn.ReLU, zero=True):
    """Linear layers of these sizes, (N, sizes[0]) -> (N, sizes[-1]), with `activation` in between.

    zero    whether the last layer starts at 0
    """
    layers = []
    for a, b in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(a, b), activation(), *([nn.Dropout(dropout)] if dropout else [])]
    last = nn.Linear(sizes[-2], sizes[-1])
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class ResidualNet(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W), through `blocks` residual blocks of `hidden` channels."""

    def __init__(self, inputs, outputs, hidden=32, blocks=2, dropout=0.0):
        self.first = weight_norm(nn.Conv2d(inputs, hidden, 3, padding=1))
        self.blocks = nn.Sequential(*[_Residual(hidden, dropout) for _ in range(blocks)])
        self.norm, self.act = nn.BatchNorm2d(hidden), nn.ReLU()
        self.last = weight_norm(nn.Conv2d(hidden, outputs, 1))
        with no_grad():
            nn.init.zeros_(self.last.bias)
            nn.init.zeros_(self.last.parametrizations.weight.original0)  # the length of every row

    def forward(self, x):
        return self.last(self.act(self.norm(self.blocks(self.first(x)))))


class _Residual(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x))))))  (He et al. 2016, the order with the norm first)."""

    def __init__(self, channels, dropout):
        conv = lambda bias: weight_norm(nn.Conv2d(channels, channels, 3, padding=1, bias=bias))
        self.inside = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            *([nn.Dropout(dropout)] if dropout else []),
            conv(True),
        )

    def forward(self, x):
        return x + self.inside(x)


class GlowNet(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W): two hidden layers of `hidden` channels, each with an ActNorm."""

    def __init__(self, inputs, outputs, hidden=512, dropout=0.0):
        layers = []
        for a, size, padding in ((inputs, 3, 1), (hidden, 1, 0)):
            conv = nn.Conv2d(a, hidden, size, padding=padding, bias=False)
            nn.init.normal_(conv.weight, std=0.05)
            layers += [conv, _Normed(hidden), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        self.hidden = nn.Sequential(*layers)
        self.last = ZeroConv2d(hidden, outputs)

    def forward(self, x):
        return self.last(self.hidden(x))


class _Normed(ActNorm):
    """An ActNorm as a layer of a network, where its log-determinant is of no interest."""

    def forward(self, x):
        return super().forward(x)[0]


class ZeroConv2d(nn.Module):
    """A 3x3 convolution that starts at 0, times exp(3 logs) with one learned `logs` a channel."""

    def __init__(self, inputs, outputs):
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)
        self.logs = nn.Parameter(creation.zeros(outputs, 1, 1))

    def forward(self, x):
        return self.conv(x) * exp(LOG_SCALE_FACTOR * self.logs)
