"""Causal convolutions over pictures (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv:1601.06759, section 3.4).

Pixels come in the order of reading: rows from the top, and in a row from the left. A layer is causal if its result at
a pixel depends on no later one. The paper takes a k x k kernel and multiplies it by a mask, which is 0 from the pixel
itself on (mask A, for the first layer, which must not see the pixel that it predicts) or behind it (mask B, for the
others: there the pixel's own place holds only what came before it).

    1 1 1 1 1
    1 1 1 1 1        above    2 x 5, ends in the row before
    1 1 a 0 0        left     1 x 2 under mask A, 1 x 3 under mask B (where a = 1)
    0 0 0 0 0
    0 0 0 0 0

What the mask leaves is two rectangles. So nothing here is masked: there are two small kernels, which the padding moves
to their place, and half the work of k x k. The plain PixelCNN adds their results. The gated one never does: `above`
and `left` are its two stacks, and that is why it has no blind spot.

With several colours a pixel is predicted colour by colour (red, then green given red, then blue), so the channels of
every layer are shared out among the colours, and at the pixel itself a channel sees those of earlier colours (A), or
of its own as well (B). This needs a mask after all, of the kernel of `left` only (section 3.3).

    above           a convolution that sees the rows above
    Left            one that sees the row to the left, and the pixel itself as far as the mask lets it
    MaskedConv2d    both together: the masked convolution of the paper
"""

import numpy as np

from ... import nn
from ...errors import ArgumentError, expect
from ...tensor import Tensor


def above(inputs, outputs, kernel_size, current=False):
    """A convolution over the k // 2 rows above a pixel, k wide; over its own row too, if `current`: a Conv2d."""
    half = _half(kernel_size)
    expect(half > 0 or current, "above: a kernel of 1 sees no row above", kernel_size, error=ArgumentError)
    rows = half + current
    return nn.Conv2d(inputs, outputs, (rows, kernel_size), padding=((half, current - 1), (half, half)))


class Left(nn.Conv2d):
    """A convolution over the k // 2 pixels to the left in the same row, and over the pixel itself as `mask` says.

    mask      "A": the pixel itself is not seen, "B": it is
    colours   groups into which the channels are split, in order. With more than one of them, output channels see at the
              pixel itself the input channels of earlier colours, and under mask B of their own
    halves    parts of the output that each hold all the colours: 2 where half of it gates the other

    kernel_size 1 is a 1x1 convolution that keeps the colours in order.
    """

    def __init__(self, inputs, outputs, kernel_size, mask, colours=1, halves=1):
        expect(mask in ("A", "B"), 'masked convolution: mask is "A" or "B"', mask, error=ArgumentError)
        half = _half(kernel_size)
        centre = int(mask == "B" or colours > 1)
        expect(half + centre > 0, "Left: mask A with a kernel of 1 sees nothing", error=ArgumentError)
        super().__init__(inputs, outputs, (1, half + centre), padding=(0, (half, centre - 1)))
        self.register_buffer("mask", None, persistent=False)
        if colours > 1:
            seen, seeing = colour_of(inputs, colours), colour_of(outputs, colours, halves)[:, None]
            kept = np.ones(self.weight.shape, np.float32)
            kept[:, :, 0, -1] = seen < seeing if mask == "A" else seen <= seeing
            self.register_buffer("mask", Tensor(kept), persistent=False)

    def forward(self, x):
        if self.mask is None:
            return super().forward(x)
        return nn.functional.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class MaskedConv2d(nn.Module):
    """The k x k convolution under mask A or B, as the sum of `above` and `left`. Arguments as of `Left`."""

    def __init__(self, inputs, outputs, kernel_size, mask, colours=1):
        self.above = above(inputs, outputs, kernel_size)
        self.left = Left(inputs, outputs, kernel_size, mask, colours)

    def forward(self, x):
        return self.above(x) + self.left(x)


def colour_of(channels, colours, halves=1):
    """Which colour each channel belongs to, (channels,) int64: equal shares, in order, in each of the halves."""
    share = channels // (colours * halves)
    expect(share * colours * halves == channels, f"masked convolution: {channels} channels do not split into "
           f"{colours} colours" + f" in each of {halves} halves" * (halves > 1), error=ArgumentError)  # fmt: skip
    return np.arange(channels) // share % colours


def _half(kernel_size):
    odd = isinstance(kernel_size, int) and kernel_size % 2 == 1
    expect(odd, "masked convolution: kernel_size is an odd number", kernel_size, error=ArgumentError)
    return kernel_size // 2
