"""Batch norm and its gradient: the loops of pairs.py, and the algebra of channels between them.

For channels-last memory, where samples need not be told apart, it sees but one of them, the longer. Floor: read x
twice, write y: 12 bytes an element; 20 in the gradient.

Measured on one core (Zen 5 with AVX-512; PyTorch 2.13 on one core in brackets): microseconds, forward and gradient, for
16 x 64 x 32 x 32: 169 + 212 (1246 + 477) as NCHW, 164 + 272 (301 + 460) channels-last; for 64 x 64 x 8 x 8: 99 + 104
(316 + 78) and 64 + 92 (83 + 123).

x is (N, C, ...), weight and bias are (C,) or None. (Group norm: group_norm.py. Layer norm: layer_norm.py.)
"""

import numpy as np

from .elementwise import like
from .pairs import Pairs

F = np.float32


def added(parts):
    """(N, parts, C) -> their sums (N, C), in float64 and in order."""
    return np.add.reduce(parts, 1, np.float64)


def over_samples(values):
    """The average of (N, C) values over the samples, (1, C): what the pairs of a batch norm share."""
    return values if len(values) == 1 else np.add.reduce(values, 0, keepdims=True) / len(values)


def batch_norm(x, weight, bias, eps):
    """x (N, C, ...) normalised over samples and positions. Returns y, k, offset, rstd, and (C,) mean and variance.

    k and offset, the mean less k, are (N, C), or (1, C) for channels-last memory; rstd, 1 / sqrt(variance + eps), is
    (1, C).
    """
    pairs = Pairs(x, together=True)
    k, *sums = pairs.moments()
    first, second = map(added, sums)
    off = first / pairs.count
    own = k + off
    mean = over_samples(own)
    spread = second / pairs.count - off * off
    if len(own) > 1:
        spread += (own - mean) ** 2
    variance = np.maximum(over_samples(spread), 0)
    rstd = 1 / np.sqrt(variance + eps)
    slope = rstd if weight is None else rstd * weight
    base = (k - mean) * slope
    y = pairs.affine(k, slope, base if bias is None else base + bias)
    return y, k, mean - k, rstd, mean[0].astype(F), variance[0].astype(F)


def batch_norm_gradient(g, x, weight, k, offset, rstd):
    """dL/dx, dL/dweight, dL/dbias."""
    # h = (x - k - offset) rstd, v = g weight:   dx = rstd (v - average(v) - h average(v h))
    pairs = Pairs(x, together=True)
    g = pairs.view(like(g, pairs.x))
    sum_g, sum_gx = map(added, pairs.gradient_sums(g, k))
    sum_gh = (sum_gx - offset * sum_g) * rstd
    w = 1 if weight is None else weight.astype(np.float64)
    average_v, average_vh = over_samples(w * sum_g) / pairs.count, over_samples(w * sum_gh) / pairs.count
    beta = -rstd * rstd * average_vh
    gamma = -rstd * average_v - beta * offset
    gx = pairs.gradient_affine(g, k, rstd * w, beta, gamma)
    return gx, sum_gh.sum(0).astype(F), sum_g.sum(0).astype(F)


def batch_norm_eval(x, weight, bias, mean, variance, eps):
    """x (N, C, ...) normalised with a given (C,) mean and variance."""
    rstd = 1 / np.sqrt(variance.astype(np.float64) + eps)
    slope = rstd if weight is None else rstd * weight
    return Pairs(x, together=True).affine(mean, slope, 0.0 if bias is None else bias)


def batch_norm_eval_gradient(g, x, weight, mean, variance, eps):
    """dL/dx, dL/dweight, dL/dbias of batch_norm_eval; mean and variance are constants."""
    pairs, rstd = Pairs(x, together=True), 1 / np.sqrt(variance.astype(np.float64) + eps)
    g = pairs.view(like(g, pairs.x))
    sum_g, sum_gx = map(added, pairs.gradient_sums(g, mean))
    gx = pairs.gradient_affine(g, mean, rstd if weight is None else rstd * weight, 0.0, 0.0)
    return gx, (sum_gx.sum(0) * rstd).astype(F), sum_g.sum(0).astype(F)
