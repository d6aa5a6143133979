"""ReduceLROnPlateau: when a measure has stopped improving, divide the rate."""

import math

from ... import device
from ...errors import ArgumentError, expect
from .base import LRScheduler, per_group, set_rate

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """`step(loss)` multiplies the rate by `factor` when the loss has not improved for `patience` steps.

    mode        "min" or "max": which way is better
    threshold   by how much it must be better: a share ("rel") or an amount ("abs")
    cooldown    steps to wait after a reduction
    min_lr      never below this; changes smaller than `eps` are not made
    """

    def __init__(
        self,
        optimizer,
        mode="min",
        factor=0.1,
        patience=10,
        threshold=1e-4,
        threshold_mode="rel",
        cooldown=0,
        min_lr=0,
        eps=1e-8,
    ):
        self._attach(optimizer)
        rules = {
            f"factor should be < 1.0, got {factor}": factor < 1.0,
            f'mode is "min" or "max", got {mode!r}': mode in ("min", "max"),
            f'threshold_mode is "rel" or "abs", got {threshold_mode!r}': threshold_mode in ("rel", "abs"),
        }
        for rule, holds in rules.items():
            expect(holds, f"ReduceLROnPlateau: {rule}", error=ArgumentError)
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.min_lrs = per_group("min_lr", optimizer, min_lr)
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0
        self._last_lr = self.rates

    def step(self, metrics, epoch=None):
        """Look at this step's measure, and reduce the rates if it is time."""
        if device.capturing is not None:
            device.capturing.refuse(
                "ReduceLROnPlateau.step(loss) looks at the loss on the host", "call it after the captured step"
            )
        measure = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(measure):
            self.best, self.num_bad_epochs = measure, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self.rates

    def _is_better(self, measure):
        if self.threshold_mode == "abs":
            return measure < self.best - self.threshold if self.mode == "min" else measure > self.best + self.threshold
        if self.mode == "min":
            return measure < self.best * (1 - self.threshold)
        return measure > self.best * (1 + self.threshold)

    def _reduce(self):
        for group, rate, least in zip(self.optimizer.param_groups, self.rates, self.min_lrs):
            lower = max(rate * self.factor, least)
            if rate - lower > self.eps:
                set_rate(group, "lr", lower)
