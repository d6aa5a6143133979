"""Schedules with a warm-up: straight up from 0 in `num_warmup_steps`, then down in one way or another.

Each returns a LambdaLR. Names and formulas are those of the transformers library; `noam` is the original
Transformer's own (Vaswani et al. 2017, section 5.3).
"""

import math

from .decay import LambdaLR

__all__ = [
    "constant_with_warmup",
    "cosine_with_hard_restarts_with_warmup",
    "cosine_with_warmup",
    "inverse_sqrt_with_warmup",
    "linear_with_warmup",
    "noam",
    "polynomial_with_warmup",
]


def _warm_up_then(optimizer, warmup, after, last_epoch):
    def factor(t):
        return t / max(1, warmup) if t < warmup else after(t)

    return LambdaLR(optimizer, factor, last_epoch)


def _share(t, warmup, total):
    return (t - warmup) / max(1, total - warmup)


def constant_with_warmup(optimizer, num_warmup_steps, last_epoch=-1):
    """Then base."""
    return _warm_up_then(optimizer, num_warmup_steps, lambda t: 1.0, last_epoch)


def linear_with_warmup(optimizer, num_warmup_steps, num_training_steps, last_epoch=-1):
    """Then straight down to 0 at num_training_steps."""

    def after(t):
        return max(0.0, (num_training_steps - t) / max(1, num_training_steps - num_warmup_steps))

    return _warm_up_then(optimizer, num_warmup_steps, after, last_epoch)


def cosine_with_warmup(optimizer, num_warmup_steps, num_training_steps, num_cycles=0.5, last_epoch=-1):
    """Then down along (1 + cos) / 2; half a wave ends at 0."""

    def after(t):
        share = _share(t, num_warmup_steps, num_training_steps)
        return max(0.0, 0.5 * (1 + math.cos(math.pi * num_cycles * 2 * share)))

    return _warm_up_then(optimizer, num_warmup_steps, after, last_epoch)


def cosine_with_hard_restarts_with_warmup(optimizer, num_warmup_steps, num_training_steps, num_cycles=1, last_epoch=-1):
    """Then down along (1 + cos) / 2, from base again num_cycles times."""

    def after(t):
        share = _share(t, num_warmup_steps, num_training_steps)
        return 0.0 if share >= 1 else max(0.0, 0.5 * (1 + math.cos(math.pi * (num_cycles * share % 1))))

    return _warm_up_then(optimizer, num_warmup_steps, after, last_epoch)


def polynomial_with_warmup(optimizer, num_warmup_steps, num_training_steps, lr_end=1e-7, power=1.0, last_epoch=-1):
    """Then down to the rate lr_end along (1 - share)^power."""
    base = float(optimizer.defaults["lr"])

    def after(t):
        if t > num_training_steps:
            return lr_end / base
        left = 1 - _share(t, num_warmup_steps, num_training_steps)
        return ((base - lr_end) * left**power + lr_end) / base

    return _warm_up_then(optimizer, num_warmup_steps, after, last_epoch)


def inverse_sqrt_with_warmup(optimizer, num_warmup_steps, timescale=None, last_epoch=-1):
    """Then down as 1 / sqrt(t): base * sqrt(timescale / (t - warm-up + timescale)); timescale: the warm-up, usually."""
    timescale = timescale or num_warmup_steps or 10_000
    shift = timescale - num_warmup_steps
    return _warm_up_then(optimizer, num_warmup_steps, lambda t: 1 / math.sqrt((t + shift) / timescale), last_epoch)


def noam(optimizer, d_model, warmup_steps, last_epoch=-1):
    """base * d_model^-0.5 * min(t^-0.5, t * warmup_steps^-1.5), with t from 1. The paper's base is 1."""

    def factor(t):
        t += 1
        return d_model**-0.5 * min(t**-0.5, t * warmup_steps**-1.5)

    return LambdaLR(optimizer, factor, last_epoch)
