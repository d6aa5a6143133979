"""The discretised mixture of logistics (Salimans, Karpathy, Chen & Kingma 2017, arXiv:1701.05517, section 2.1).

A softmax over 256 levels does not know that 127 lies beside 128: it has to learn it, at 256 numbers a pixel. Here a
level has the mass that a smooth density puts on its bin. The density is a mixture of K logistic distributions, whose
distribution function is the sigmoid, so with bins of half width h around levels x that are scaled to [-1, 1]

    P(x | mean, s)  =  sigmoid((x + h - mean) / s)  -  sigmoid((x - h - mean) / s)

and the bins at the two ends reach to infinity, so that nothing is lost. With three channels, one component is chosen
for the whole pixel, and the mean of green moves linearly with red, that of blue with red and green (eq. 3).

The difference of two sigmoids is 0 in float32 as soon as x is far from the mean. The published code then takes the
density at the middle of the bin for its mass. This file needs no such case, since

    sigmoid(a) - sigmoid(b)  =  sigmoid(a) sigmoid(-b) (1 - e^(b - a))

holds exactly, and each factor has a logarithm that is never lost.

Network outputs are in the published order: K logits; then for each channel K means and K log scales; with three
channels K colour coefficients more for each: 3 K numbers a pixel, or 10 K.
"""

from ...autograd import no_grad
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.arithmetic import where
from ...ops.elementary import exp, expm1, log, tanh
from ...ops.joining import stack
from ...ops.reduction import logsumexp

LEAST_LOG_SCALE = -7.0  # as published: a component cannot become a spike
PARTS = {1: 2, 3: 3}  # channels: numbers for each component and channel


def outputs(mixtures, channels=1):
    """How many numbers a network gives for a pixel."""
    expect(channels in PARTS, "logistic mixture: pictures have 1 channel or 3", channels, error=ArgumentError)
    return mixtures * (1 + PARTS[channels] * channels)


def discretized_logistic_mixture(params, x, levels=256):
    """log P(x) of pixels x (..., C) with values in [-1, 1], from params (..., `outputs(K, C)`): (...), in nats."""
    channels = x.shape[-1]
    logits, means, log_scales, coefficients = _split(params, channels)
    half, x = 1 / (levels - 1), x.unsqueeze(-1)
    if channels == 3:
        means = _moved(means, coefficients, [x[..., c, :] for c in range(3)])
    sharpness = exp(-log_scales)
    above, below = (x + half - means) * sharpness, (x - half - means) * sharpness
    log_up_to, log_from = F.logsigmoid(above), F.logsigmoid(-below)  # log P(at most this level), log P(at least it)
    log_p = log_up_to + log_from + log(-expm1(-2 * half * sharpness))
    edge = 1 - half / 2
    log_p = where(x < -edge, log_up_to, where(x > edge, log_from, log_p))
    return logsumexp(log_p.sum(-2) + F.log_softmax(logits, -1), -1)


@no_grad()
def sample_logistic_mixture(params, channels=1, levels=256, generator=None):
    """Draws from params (..., `outputs(K, channels)`): (..., channels), levels scaled to [-1, 1]."""
    logits, means, log_scales, coefficients = _split(params, channels)
    noise = creation.rand_like(logits, generator=generator).clamp(1e-7, 1 - 1e-7)
    chosen = (logits - log(-log(noise))).argmax(-1, keepdim=True)  # one component for the whole pixel (Gumbel 1954)
    of_chosen = lambda part: part.gather(-1, chosen.unsqueeze(-2).expand(*part.shape[:-1], 1)).squeeze(-1)
    means, log_scales = of_chosen(means), of_chosen(log_scales)
    u = creation.rand_like(means, generator=generator).clamp(1e-7, 1 - 1e-7)
    noise = exp(log_scales) * (log(u) - log(1 - u))
    drawn = []
    for c in range(channels):
        x = means[..., c] + noise[..., c]
        for earlier in range(c):  # the level drawn, not the number behind it: so the likelihood has it
            x = x + of_chosen(coefficients)[..., c * (c - 1) // 2 + earlier] * drawn[earlier]
        drawn.append(((x.clamp(-1, 1) + 1) * ((levels - 1) / 2)).round() * (2 / (levels - 1)) - 1)
    return stack(drawn, -1)


def _split(params, channels):
    """Logits (..., K), then means, log scales and coefficients (or None), each (..., C, K)."""
    each, count = outputs(1, channels), params.shape[-1]
    expect(count % each == 0, f"logistic mixture: {channels} channel(s) take {each} numbers for each component",
           params, error=ShapeError)  # fmt: skip
    k, lead = count // each, tuple(params.shape[:-1])
    rest = params[..., k:].reshape(*lead, channels, PARTS[channels] * k)
    log_scales = rest[..., k : 2 * k].clamp(min=LEAST_LOG_SCALE)
    return params[..., :k], rest[..., :k], log_scales, tanh(rest[..., 2 * k :]) if channels == 3 else None


def _moved(means, coefficients, x):
    """The means (..., 3, K) given the pixel's earlier channels (eq. 3)."""
    red, green, blue = (means[..., c, :] for c in range(3))
    by_red, by_red_too, by_green = (coefficients[..., c, :] for c in range(3))
    return stack([red, green + by_red * x[0], blue + by_red_too * x[0] + by_green * x[1]], -2)
