"""What a pixel's value may be, and its probability: the last step of every autoregressive model of pictures.

    "bits"               0 or 1, one logit a channel
    "softmax"            one of `levels`, a logit for each (van den Oord et al. 2016, section 3.3)
    "logistic_mixture"   one of `levels`, by a smooth density over them (logistic_mixture.py)

The first two predict a channel given the earlier ones, so the network must keep the colours in order; a logistic
mixture gives all the channels of a pixel together.
"""

from ...autograd import no_grad
from ...errors import ArgumentError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import log, sigmoid
from .logistic_mixture import discretized_logistic_mixture, outputs, sample_logistic_mixture

LIKELIHOODS = ("bits", "softmax", "logistic_mixture")


class PixelLikelihood:
    """The distribution of a pixel of `channels` values, each from 0 to levels - 1, given a network's outputs.

    outputs   numbers that the network gives for a pixel
    colours   groups of channels that the network must keep in order
    """

    def __init__(self, kind, channels, levels=256, mixtures=10):
        expect(kind in LIKELIHOODS, f"likelihood is one of {LIKELIHOODS}", kind, error=ArgumentError)
        self.kind, self.channels, self.levels = kind, channels, 2 if kind == "bits" else levels
        self.colours = 1 if kind == "logistic_mixture" else channels
        per_channel = {"bits": 1, "softmax": levels}
        self.outputs = channels * per_channel[kind] if kind in per_channel else outputs(mixtures, channels)

    def scaled(self, x):
        """Values 0 to levels - 1 as numbers from -1 to 1: then the zeros outside a picture are not ink, nor ground."""
        return x * (2 / (self.levels - 1)) - 1

    def log_prob(self, out, x):
        """log p of pictures x (N, C, H, W), in nats, from what a network gave, (N, outputs, H, W): (N,)."""
        out, x = out.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)  # in memory they lie so already
        if self.kind == "logistic_mixture":
            log_p = discretized_logistic_mixture(out, self.scaled(x), self.levels)
        elif self.kind == "bits":
            log_p = -F.binary_cross_entropy_with_logits(out, x, reduction="none")
        else:
            log_p = -F.cross_entropy(out.reshape(-1, self.levels), x.reshape(-1).long(), reduction="none")
        return log_p.reshape(len(x), -1).sum(1)

    @no_grad()
    def draw(self, out, generator=None):
        """Pixels from a network's outputs (N, outputs): (N, channels), each channel as if the earlier ones were given.

        With several colours only the first channel that the network had not seen yet is a draw to be used.
        """
        if self.kind == "logistic_mixture":
            x = sample_logistic_mixture(out, self.channels, self.levels, generator)
            return ((x + 1) * ((self.levels - 1) / 2)).round()
        if self.kind == "bits":
            return (creation.rand_like(out, generator=generator) < sigmoid(out)).float()
        out = out.reshape(len(out), self.channels, self.levels)
        u = creation.rand_like(out, generator=generator).clamp(1e-7, 1 - 1e-7)
        return (out - log(-log(u))).argmax(-1).float()  # the largest of logits + Gumbel noise is a draw (Gumbel 1954)
