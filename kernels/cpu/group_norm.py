"""Group norm, instance norm among it, and its gradient: the loops of pairs.py, and the algebra of groups between them.

For channels-last memory and several samples, a task is one sample, whose numbers are still in the L2 cache when they
are needed a second time: x is read from memory once. Floor: 8 bytes an element, 12 in the gradient; else 12 and 20.

Measured on one core (Zen 5 with AVX-512; PyTorch 2.13 on one core in brackets): microseconds, forward and gradient, for
16 x 64 x 32 x 32: 151 + 208 (197 + 225) as NCHW, 136 + 250 (216 + 416) channels-last; for 64 x 64 x 8 x 8: 95 + 96
(71 + 77) and 72 + 88 (98 + 70).

An activation behind the norm is computed in the same passes. In the gradient it would be needed twice; its result d
stands in gx meanwhile. On the same core, silu in passes of its own -> in these, forward and gradient:

    16 x 64 x 32 x 32      NCHW 341 -> 287, 491 -> 417      channels-last 327 -> 270, 569 -> 432
    64 x 64 x 8 x 8        NCHW 142 -> 127, 165 -> 167      channels-last 120 -> 106, 155 -> 144

It also takes less memory, since what the norm gives is not kept: 113 MB for 161 between a U-Net's forward and its
gradient (64 x 1 x 16 x 16, 32 and 64 channels), whose training step is 2 % quicker for it.
"""

from functools import cache

import numpy as np
from numba import prange

from .activations import GRADIENTS, VALUES
from .compile import choose, inline_sums, kernel
from .elementwise import like
from .pairs import (
    Pairs,
    itself,
    part_affine,
    part_gradient_affine,
    part_gradient_affine_over,
    part_gradient_sums,
    part_inner_gradient,
    part_sums,
)

F = np.float32
FEW = 65_536  # pairs whose algebra one thread does
SEVERAL = 4  # samples from which on a task is one of them
SMALL = 32_768  # numbers for which one call counts more than how many tasks it has


# ---- the algebra of one sample s: from its pairs' sums (N, parts, C) to their affine maps ----


@inline_sums
def statistics_of(s, k, first, second, count, weight, bias, eps, groups, slope, base, offset, rstd):
    channels = k.shape[1]
    parts, wide = first.shape[1], channels // groups
    for lead in range(0, channels, wide):
        mean, spread = 0.0, 0.0
        for c in range(lead, lead + wide):
            one = 0.0
            for part in range(parts):
                one += first[s, part, c]
            mean += k[s, c] + one / count
        mean /= wide
        for c in range(lead, lead + wide):
            one, two = 0.0, 0.0
            for part in range(parts):
                one += first[s, part, c]
                two += second[s, part, c]
            off = k[s, c] + one / count - mean
            spread += two / count - (one / count) * (one / count) + off * off
        variance = spread / wide
        if variance < 0:  # by rounding; a NaN stays
            variance = 0.0
        r = 1 / np.sqrt(variance + eps)
        for c in range(lead, lead + wide):
            slope[s, c] = r * weight[c]
            base[s, c] = (k[s, c] - mean) * (r * weight[c]) + bias[c]
            offset[s, c] = mean - k[s, c]
            rstd[s, c] = r


@inline_sums
def gradient_of(s, first, second, count, weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh):
    # h = (x - k - offset) rstd, v = g weight:   dx = rstd (v - average(v) - h average(v h))
    channels = offset.shape[1]
    parts, wide = first.shape[1], channels // groups
    for lead in range(0, channels, wide):
        v, vh = 0.0, 0.0
        for c in range(lead, lead + wide):
            one, two = 0.0, 0.0
            for part in range(parts):
                one += first[s, part, c]
                two += second[s, part, c]
            sum_g[s, c] = one
            sum_gh[s, c] = (two - offset[s, c] * one) * rstd[s, c]
            v += weight[c] * one
            vh += weight[c] * sum_gh[s, c]
        v /= wide * count
        vh /= wide * count
        for c in range(lead, lead + wide):
            r = rstd[s, c]
            slope = -r * r * vh
            alpha[s, c] = r * weight[c]
            beta[s, c] = slope
            gamma[s, c] = -r * v - slope * offset[s, c]


@kernel
def group_statistics(k, first, second, count, weight, bias, eps, groups, slope, base, offset, rstd):
    for s in prange(k.shape[0]):
        statistics_of(s, k, first, second, count, weight, bias, eps, groups, slope, base, offset, rstd)


@kernel
def group_gradient(first, second, count, weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh):
    for s in prange(offset.shape[0]):
        gradient_of(s, first, second, count, weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh)


# ---- all of it, sample by sample ----


@cache
def normalise_samples(f):
    @kernel
    def samples_normalised(x, k, first, second, weight, bias, eps, groups, slope, base, offset, rstd, y, step):
        for s in prange(x.shape[0]):
            for part in range(first.shape[1]):
                part_sums(x[s, part * step : (part + 1) * step], k[s], first[s, part], second[s, part])
            statistics_of(s, k, first, second, x.shape[1], weight, bias, eps, groups, slope, base, offset, rstd)
            part_affine(x[s], k[s], slope[s], base[s], y[s], f)

    return samples_normalised


@kernel
def differentiate_samples(
    g, x, k, first, second, weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh, gx, step
):
    for s in prange(x.shape[0]):
        for part in range(first.shape[1]):
            begin, end = part * step, (part + 1) * step
            part_gradient_sums(g[s, begin:end], x[s, begin:end], k[s], first[s, part], second[s, part])
        gradient_of(s, first, second, x.shape[1], weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh)
        part_gradient_affine(g[s], x[s], k[s], alpha[s], beta[s], gamma[s], gx[s])


@cache
def differentiate_samples_and(f):
    """The same behind the gradient f of an activation, whose result d stands in gx first."""

    @kernel
    def samples_differentiated(
        g, x, k, a, b, first, second, weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh, gx, step
    ):
        for s in prange(x.shape[0]):
            d = gx[s]
            for part in range(first.shape[1]):
                begin, end = part * step, (part + 1) * step
                rows = g[s, begin:end], x[s, begin:end], k[s], a[s], b[s], d[begin:end]
                part_inner_gradient(*rows, first[s, part], second[s, part], f)
            gradient_of(s, first, second, x.shape[1], weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh)
            part_gradient_affine_over(d, x[s], k[s], alpha[s], beta[s], gamma[s])

    return samples_differentiated


# ---- what the ops call: x (N, C, ...), weight and bias (C,) or None ----


def group_norm(x, groups, weight, bias, eps, activation=None):
    """x (N, C, ...) normalised over each group of channels and all positions, and an activation of that, by its name.

    Returns y, k, offset, rstd, slope, base, (N, C) each but for y: y = activation((x - k) slope + base).
    """
    pairs, f = Pairs(x), itself if activation is None else VALUES[activation]
    weight, bias = _per_channel(weight, 1, pairs), _per_channel(bias, 0, pairs)
    slope, base = np.empty(pairs.pairs, F), np.empty(pairs.pairs, F)
    offset, rstd = np.empty(pairs.pairs), np.empty(pairs.pairs)
    if by_samples(pairs):
        k, y = pairs.flat[:, 0].copy(), np.empty_like(pairs.x)
        sums = pairs.room_for_sums(), pairs.room_for_sums()
        settings = weight, bias, eps, groups, slope, base, offset, rstd
        run = choose(normalise_samples(f), x.size)
        run(pairs.flat, k, *sums, *settings, pairs.view(y), pairs.step)
        return y, k, offset, rstd, slope, base
    k, first, second = pairs.moments()
    algebra = choose(group_statistics, slope.size, FEW)
    algebra(k, first, second, pairs.count, weight, bias, eps, groups, slope, base, offset, rstd)
    return pairs.affine(k, slope, base, f), k, offset, rstd, slope, base


def group_norm_gradient(g, x, groups, weight, k, offset, rstd, slope=None, base=None, activation=None):
    """dL/dx, dL/dweight, dL/dbias. slope and base are asked for where there is an activation."""
    pairs = Pairs(x)
    g = pairs.view(like(g, pairs.x))
    weight = _per_channel(weight, 1, pairs)
    alpha, beta, gamma = [np.empty(pairs.pairs, F) for _ in range(3)]
    sum_g, sum_gh = np.empty(pairs.pairs), np.empty(pairs.pairs)
    settings = weight, groups, offset, rstd, alpha, beta, gamma, sum_g, sum_gh
    f = None if activation is None else GRADIENTS[activation]
    if by_samples(pairs):
        sums, gx = (pairs.room_for_sums(), pairs.room_for_sums()), np.empty_like(pairs.x)
        run, inner = (differentiate_samples, ()) if f is None else (differentiate_samples_and(f), (slope, base))
        choose(run, x.size)(g, pairs.flat, k, *inner, *sums, *settings, pairs.view(gx), pairs.step)
    else:
        if f is None:
            first, second = pairs.gradient_sums(g, k)
        else:
            g, first, second = pairs.inner_gradient(g, k, slope, base, f)
        algebra = choose(group_gradient, alpha.size, FEW)
        algebra(first, second, pairs.count, *settings)
        gx = pairs.gradient_affine(g, k, alpha, beta, gamma)
    return gx, sum_gh.sum(0).astype(F), sum_g.sum(0).astype(F)


def by_samples(pairs):
    return pairs.columns and (pairs.samples >= SEVERAL or pairs.x.size <= SMALL)


def _per_channel(given, default, pairs):
    return np.full(pairs.channels, default, F) if given is None else np.ascontiguousarray(given, F)
