"""PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv:1601.06759) and the gated PixelCNN (van den Oord,
Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016, arXiv:1606.05328).

By the chain rule any distribution of pictures is a product over pixels, in the order of reading:

    p(x)  =  product over i of  p(x_i | x_1, ..., x_(i-1))

A PixelCNN computes all the factors at once, with convolutions that see earlier pixels only (masked_conv.py). So log
p(x) is exact, and training is as for a classifier. Drawing a picture takes as many steps as there are pixels.

The plain network stacks masked convolutions in residual blocks. Its view of what came before is not whole: some pixels
above and to the right are out of its reach, however deep it is. The gated network has two stacks instead. The
vertical one sees all the rows above, the horizontal one the row to the left; the first feeds the second, never the
other way round. Its units are tanh(a) sigmoid(b), and a class moves a and b by a bias of its own.

    PixelCNNConfig    sizes; plain or gated; what a pixel is
    PixelCNN          log_prob (exact), sample, complete
"""

from dataclasses import dataclass

import numpy as np

from ... import nn
from ...autograd import no_grad
from ...device import device_of, to_device, xp
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import sigmoid, tanh
from ...published import Pretrained
from ...tensor import Tensor, value
from .masked_conv import Left, MaskedConv2d, above
from .pixel_likelihood import PixelLikelihood


@dataclass
class PixelCNNConfig:
    """The sizes of a PixelCNN.

    shape         of one picture, (C, H, W)
    classes       0, or labels 0 to classes - 1 are given with the pictures
    gated         two stacks of gated units; otherwise residual blocks
    channels      of each stack; of the residual blocks' trunk. A multiple of C where colours are kept in order
    layers        gated layers, or residual blocks after the first convolution
    first_kernel  of the first layer, which sees the picture
    kernel_size   of the others
    head          channels of the hidden layer before the output; as many as `channels` if None
    dropout       of what the layers add, while training
    likelihood    of a pixel: "bits", "softmax" or "logistic_mixture" (pixel_likelihood.py)
    levels        values 0 to levels - 1, of the last two;  mixtures    components, of the last
    """

    shape: tuple = (1, 28, 28)
    classes: int = 0
    gated: bool = True
    channels: int = 32
    layers: int = 7
    first_kernel: int = 7
    kernel_size: int = 3
    head: int | None = None
    dropout: float = 0.0
    likelihood: str = "bits"
    levels: int = 256
    mixtures: int = 10

    def __post_init__(self):
        self.shape = tuple(self.shape)
        expect(len(self.shape) == 3, "PixelCNNConfig: shape is (C, H, W)", self.shape, error=ArgumentError)
        expect(self.layers > 0, "PixelCNNConfig: at least one layer", self.layers, error=ArgumentError)


class ResidualBlock(nn.Module):
    """relu, 1x1 to half the channels, relu, k x k, relu, 1x1 back; added to its input (2016a, figure 5)."""

    def __init__(self, channels, kernel_size, colours, classes, dropout):
        half = channels // 2
        self.reduce = Left(channels, half, 1, "B", colours)
        self.conv = MaskedConv2d(half, half, kernel_size, "B", colours)
        self.expand = Left(half, channels, 1, "B", colours)
        self.label = nn.Embedding(classes, half) if classes else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, labels):
        y = self.conv(F.relu(self.reduce(F.relu(x))))
        if self.label is not None:
            y = y + self.label(labels)[:, :, None, None]
        return x + self.dropout(self.expand(F.relu(y)))


class PlainStack(nn.Module):
    """The first masked convolution and the residual blocks of the plain network."""

    def __init__(self, config, colours):
        c = config
        self.first = MaskedConv2d(c.shape[0], c.channels, c.first_kernel, "A", colours)
        self.blocks = nn.ModuleList(
            [ResidualBlock(c.channels, c.kernel_size, colours, c.classes, c.dropout) for _ in range(c.layers)]
        )

    def forward(self, x, labels):
        x = self.first(x)
        for block in self.blocks:
            x = block(x, labels)
        return x

    def of_row(self, x, i, labels):
        """A function of j: the features at pixel (i, j), (N, channels, 1, 1), for what x holds when it is called."""
        return lambda j: self.forward(x[:, :, : i + 1], labels)[:, :, i:, j : j + 1]


class GatedLayer(nn.Module):
    """One layer of both stacks (2016b, figure 2).

    v (N, c, H, W) at a pixel knows the rows above it, h (N, c, H, W) the pixels to its left as well. The first layer
    gets the picture for both, and so must not look at the row (above) or the pixel (left) itself: there the vertical
    kernel ends one row higher, which is the shift that the paper speaks of.
    """

    def __init__(self, inputs, channels, kernel_size, first, colours, classes, dropout):
        mask = "A" if first else "B"
        self.first = first
        self.above = above(inputs, 2 * channels, kernel_size, current=not first)
        self.left = Left(inputs, 2 * channels, kernel_size, mask, colours, halves=2)
        self.down = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = Left(channels, channels, 1, "B", colours)
        self.label = nn.Embedding(classes, 4 * channels) if classes else None
        self.dropout = nn.Dropout(dropout)
        for conv in (self.above, self.left, self.down):  # a gate halves what a convolution's usual start has weakened
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="tanh")
        nn.init.kaiming_uniform_(self.out.weight, nonlinearity="linear")

    def vertical(self, v, labels):
        """The next v before its gate, and what it tells the horizontal stack: both (N, 2 c, H, W)."""
        a = self.above(v if self.first else gate(v))
        down = self.down(a)
        if self.label is not None:
            of_v, of_h = self.label(labels)[:, :, None, None].chunk(2, 1)
            a, down = a + of_v, down + of_h
        return a, down

    def horizontal(self, h, down):
        y = self.out(self.dropout(gate(self.left(h) + down)))
        return y if self.first else h + y


class GatedStack(nn.Module):
    """The layers of the gated network, one stack after the other: the vertical one needs nothing of the horizontal."""

    def __init__(self, config, colours):
        c = config
        sizes = [(c.shape[0], c.first_kernel)] + [(c.channels, c.kernel_size)] * (c.layers - 1)
        self.layers = nn.ModuleList(
            [
                GatedLayer(inputs, c.channels, kernel, i == 0, colours, c.classes, c.dropout)
                for i, (inputs, kernel) in enumerate(sizes)
            ]
        )

    def vertical(self, x, labels):
        """What the vertical stack tells each layer of the horizontal one, a list of (N, 2 c, H, W)."""
        told = []
        for layer in self.layers:
            x, down = layer.vertical(x, labels)
            told.append(down)
        return told

    def horizontal(self, x, told):
        for layer, down in zip(self.layers, told):
            x = layer.horizontal(x, down)
        return x

    def forward(self, x, labels):
        return self.horizontal(x, self.vertical(x, labels))

    def of_row(self, x, i, labels):
        """A function of j: the features at pixel (i, j), (N, channels, 1, 1), for what x holds when it is called.

        What lies above row i is looked at once. Along the row, one row of the horizontal stack is all there is to do.
        """
        told = [down[:, :, i:] for down in self.vertical(x[:, :, : i + 1], labels)]
        row = lambda j: self.horizontal(x[:, :, i : i + 1, : j + 1], [down[:, :, :, : j + 1] for down in told])
        return lambda j: row(j)[:, :, :, j:]


class PixelCNN(Pretrained, nn.Module):
    """An exact autoregressive model of pictures. Call it for the training loss: the mean of -log p(x), in nats.

    x is (N, C, H, W): bits 0 and 1, or levels 0 to levels - 1. labels (N,) int64, where the model has classes.
    Raises ShapeError for pictures of another shape, ArgumentError for labels that are missing, or not asked for.
    """

    config_class = PixelCNNConfig

    def __init__(self, config=None, **sizes):
        self.config = config = config or PixelCNNConfig(**sizes)
        self.pixel = PixelLikelihood(config.likelihood, config.shape[0], config.levels, config.mixtures)
        colours, head = self.pixel.colours, config.head or config.channels
        self.stack = (GatedStack if config.gated else PlainStack)(config, colours)
        self.hidden = Left(config.channels, head, 1, "B", colours)
        self.out = Left(head, self.pixel.outputs, 1, "B", colours)

    def logits(self, x, labels=None):
        """What the network says of every pixel, from the earlier ones: (N, pixel.outputs, H, W)."""
        self._check(x, labels)
        return self._head(self.stack(self.pixel.scaled(x), labels))

    def log_prob(self, x, labels=None):
        """log p(x), exactly, (N,) in nats."""
        return self.pixel.log_prob(self.logits(x, labels), x)

    def forward(self, x, labels=None, generator=None):
        return -self.log_prob(x, labels).mean()

    def sample(self, n, labels=None, generator=None, watch=None):
        """n pictures (n, *shape) from the model, pixel by pixel. `watch(i, j, x)` is called after each pixel."""
        device = next(iter(self.parameters())).device
        unknown = creation.zeros(n, *self.config.shape, device=device)
        return self.complete(unknown, np.zeros((1, 1, 1, 1), bool), labels, generator, watch)

    @no_grad()
    def complete(self, x, mask, labels=None, generator=None, watch=None):
        """x (N, *shape) with every pixel drawn where `mask` is false, given all the pixels before it.

        mask   booleans that broadcast to (N, 1, H, W): the pixels that are known. A pixel is drawn without a look at
               known ones *after* it: with an upper part known, this is a draw from p(rest | part); otherwise it is not
        """
        _, H, W = self.config.shape
        self._check(x, labels)
        array, mask = value(x), to_device(value(mask), "cpu").astype(bool)
        fits = mask.ndim == 4 and all(m in (1, n) for m, n in zip(mask.shape, (len(array), 1, H, W)))
        expect(fits, f"complete: mask broadcasts to (N, 1, {H}, {W})", mask, error=ShapeError)
        known = np.broadcast_to(mask, (len(array), 1, H, W))
        kept = to_device(known, device_of(array))
        array = xp(array).where(kept, array, 0)  # what is not known cannot leak
        training, x, seen = self.training, Tensor(array), Tensor(self.pixel.scaled(array))
        self.eval()
        for i in range(H):
            if known[:, :, i].all():
                continue
            features = self.stack.of_row(seen, i, labels)
            for j in range(W):
                for c in range(self.pixel.colours if not known[:, :, i, j].all() else 0):
                    drawn = value(self.pixel.draw(self._head(features(j))[:, :, 0, 0], generator))
                    one = slice(c, c + 1) if self.pixel.colours > 1 else slice(None)
                    array[:, one, i, j] = xp(array).where(kept[:, :, i, j], array[:, one, i, j], drawn[:, one])
                    seen.data[:, one, i, j] = self.pixel.scaled(array[:, one, i, j])
                if watch is not None:
                    watch(i, j, x)
        self.train(training)
        return x

    def _head(self, features):
        return self.out(F.relu(self.hidden(F.relu(features))))

    def _check(self, x, labels):
        fits = tuple(x.shape[1:]) == self.config.shape
        expect(fits, f"PixelCNN: x is (N, {', '.join(map(str, self.config.shape))})", x, error=ShapeError)
        if self.config.classes:
            given = labels is not None and tuple(labels.shape) == tuple(x.shape[:1])
            expect(given, "PixelCNN: this model has classes: give labels (N,)", x, labels, error=ArgumentError)
        else:
            expect(labels is None, "PixelCNN: this model has no classes: leave out labels", error=ArgumentError)


def gate(x):
    """tanh(a) sigmoid(b) for the two halves of the channels, (N, 2 c, H, W) -> (N, c, H, W) (2016b, eq. 1)."""
    a, b = x.chunk(2, 1)
    return tanh(a) * sigmoid(b)
