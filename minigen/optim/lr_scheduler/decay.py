"""Schedules that follow one formula: by a function of the step, in stairs, straight, exponential, polynomial, cosine.

Each `get_lr` multiplies the rates of the step before, so that schedules can be chained; `closed_form` says what
comes of it, from the first rates.
"""

import math
from bisect import bisect_right
from collections import Counter

from ...errors import ArgumentError, DtypeError, expect
from .base import LRScheduler, per_group

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]


class LambdaLR(LRScheduler):
    """base * lr_lambda(t). One function, or one for each group. The functions are not saved in the state."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        self._attach(optimizer)
        self.lr_lambdas = per_group("lr_lambda", optimizer, lr_lambda)
        for function in self.lr_lambdas:
            name = type(self).__name__
            expect(callable(function), f"{name}: lr_lambda should be a function", function, error=DtypeError)
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [base * function(self.last_epoch) for base, function in zip(self.base_lrs, self.lr_lambdas)]


class MultiplicativeLR(LambdaLR):
    """The rate of the step before times lr_lambda(t)."""

    def get_lr(self):
        if self.at_start:
            return self.rates
        return [rate * function(self.last_epoch) for rate, function in zip(self.rates, self.lr_lambdas)]


class StepLR(LRScheduler):
    """base * gamma^(t // step_size)."""

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        falls = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [rate * self.gamma if falls else rate for rate in self.rates]

    def closed_form(self):
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """base * gamma^(number of milestones reached)."""

    def __init__(self, optimizer, milestones, gamma=0.1, last_epoch=-1):
        self.milestones, self.gamma = dict(Counter(milestones)), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        here = self.milestones.get(self.last_epoch, 0)
        return [rate * self.gamma**here for rate in self.rates]

    def closed_form(self):
        reached = bisect_right(sorted(Counter(self.milestones).elements()), self.last_epoch)
        return [base * self.gamma**reached for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """base * factor until step total_iters, then base."""

    def __init__(self, optimizer, factor=1.0 / 3, total_iters=5, last_epoch=-1):
        expect(0 <= factor <= 1, f"ConstantLR: factor is between 0 and 1, got {factor}", error=ArgumentError)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch == 0:
            return [rate * self.factor for rate in self.rates]
        return [rate * (1 / self.factor) if self.last_epoch == self.total_iters else rate for rate in self.rates]

    def closed_form(self):
        return [base * (1 if self.last_epoch >= self.total_iters else self.factor) for base in self.base_lrs]


class LinearLR(LRScheduler):
    """base times a factor that goes straight from start_factor to end_factor in total_iters steps: a warm-up."""

    def __init__(self, optimizer, start_factor=1.0 / 3, end_factor=1.0, total_iters=5, last_epoch=-1):
        expect(0 < start_factor <= 1, f"LinearLR: start_factor is in (0, 1], got {start_factor}", error=ArgumentError)
        expect(0 <= end_factor <= 1, f"LinearLR: end_factor is in [0, 1], got {end_factor}", error=ArgumentError)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch == 0:
            return [rate * self.start_factor for rate in self.rates]
        if self.at_start or self.last_epoch > self.total_iters:
            return self.rates
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [rate * (1 + rise / before) for rate in self.rates]

    def closed_form(self):
        t = min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * (self.start_factor + (self.end_factor - self.start_factor) * t) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """base * gamma^t."""

    def __init__(self, optimizer, gamma, last_epoch=-1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return self.rates if self.at_start else [rate * self.gamma for rate in self.rates]

    def closed_form(self):
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """base * (1 - t / total_iters)^power, then 0."""

    def __init__(self, optimizer, total_iters=5, power=1.0, last_epoch=-1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        t, end = self.last_epoch, self.total_iters
        if self.at_start or t > end:
            return self.rates
        return [rate * ((1 - t / end) / (1 - (t - 1) / end)) ** self.power for rate in self.rates]

    def closed_form(self):
        left = 1 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2 (Loshchilov & Hutter 2016, without restarts)."""

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        t, low = self.last_epoch, self.eta_min
        if self.at_start:
            return self.rates
        if self._step_count == 1 and t > 0:
            return self.closed_form()
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:  # the rate was eta_min: nothing to multiply
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [rate + (base - low) * rise for base, rate in zip(self.base_lrs, self.rates)]
        ratio = (1 + math.cos(math.pi * t / self.T_max)) / (1 + math.cos(math.pi * (t - 1) / self.T_max))
        return [ratio * (rate - low) + low for rate in self.rates]

    def closed_form(self):
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]
