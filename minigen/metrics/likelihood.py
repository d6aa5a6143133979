"""Units of likelihood: nats, bits a dimension, perplexity, and what dequantisation adds.

A model's loss is -log p(x), in nats for one x. Papers give it in other units:

    bits a dimension    nats / (D log 2)         pictures: D = channels x height x width
    perplexity          e^(nats a symbol)        text: among how many equally likely symbols the model wavers

A density of whole numbers has no upper limit, so pixels are dequantised before a density is fitted: y = k + u with u
from U(0, 1), and then E[-log p(y)] >= -log P(k) (Theis, van den Oord & Bethge 2016, arXiv:1511.01844, sec. 3.1). On
another scale a constant joins in, `dequantisation_constant`: pixels divided by 256 gain log 256 nats each for nothing.
"""

import math

from ..errors import ArgumentError, expect


def bits_per_dim(nats, dims):
    """Nats for one x of `dims` numbers, in bits a dimension. A number or an array."""
    return nats / (_positive("bits_per_dim", dims=dims) * math.log(2))


def nats_of_bits(bits, dims):
    """Bits a dimension, in nats for one x of `dims` numbers: the inverse of `bits_per_dim`."""
    return bits * _positive("nats_of_bits", dims=dims) * math.log(2)


def perplexity(nats):
    """e^nats, for nats a symbol. Averages are taken before: the perplexity of a mean loss, not the mean of these."""
    return math.exp(nats)


def dequantisation_constant(dims, step=1.0, noise=1.0):
    """What to add to the nats of a density so that they bound those of the whole numbers: -dims log(step noise).

    step   how far apart two neighbouring levels are on the density's scale: 1 for y = k + u, 1/256 for (k + u) / 256,
           2/256 where the 256 levels span -1 to 1
    noise  the width of u, in levels. Below 1 it must be paid for: with half the width a density can reach log 2 nats
           a dimension more than any distribution of the whole numbers

    For u from U(0, w) Jensen's inequality gives -log P(k) <= E[-log p(y)] - D log(step w), since P(k) is at least the
    integral of p over [k, k + w). Raises ArgumentError unless 0 < noise <= 1.
    """
    _positive("dequantisation_constant", dims=dims, step=step, noise=noise)
    expect(noise <= 1, "dequantisation_constant: noise wider than one level mixes levels up", noise,
           error=ArgumentError)  # fmt: skip
    return -dims * math.log(step * noise)


def _positive(name, **numbers):
    for what, number in numbers.items():
        expect(number > 0, f"{name}: {what} is positive", number, error=ArgumentError)
    return next(iter(numbers.values()))
