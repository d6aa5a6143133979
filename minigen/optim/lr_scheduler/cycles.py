"""Schedules that go up and down: cosine with warm restarts, triangles, and the one cycle of "super-convergence"."""

import math

from ...errors import ArgumentError, expect
from .base import LRScheduler, per_group

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine from base to eta_min in T_0 steps, then again, T_mult times as long (Loshchilov & Hutter 2016)."""

    def __init__(self, optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1):
        for name, value in {"T_0": T_0, "T_mult": T_mult}.items():
            expect(
                isinstance(value, int) and value >= 1,
                f"CosineAnnealingWarmRestarts: {name} is a positive integer, got {value!r}",
                error=ArgumentError,
            )
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def _go_to(self, epoch=None):
        """`epoch` may be a fraction: epoch + batch / batches."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            expect(
                epoch >= 0, f"CosineAnnealingWarmRestarts: epoch must be at least 0, got {epoch}", error=ArgumentError
            )
            self._place(epoch)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _place(self, epoch):
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))  # restarts so far
            self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**n


class _CyclesMomentum(LRScheduler):
    """Momentum (or Adam's first beta) that goes down while the rate goes up."""

    def _setup_momentum(self, cycle_momentum, base_momentum, max_momentum, last_epoch):
        optimizer, name = self.optimizer, type(self).__name__
        self.cycle_momentum = cycle_momentum
        if not cycle_momentum:
            return
        self.use_beta1 = "betas" in optimizer.defaults
        expect(
            self.use_beta1 or "momentum" in optimizer.defaults,
            f"{name}: the optimiser has neither momentum nor betas\n  write cycle_momentum=False",
            error=ArgumentError,
        )
        self.base_momentums = per_group("base_momentum", optimizer, base_momentum)
        self.max_momentums = per_group("max_momentum", optimizer, max_momentum)
        if last_epoch == -1:
            for group, low, high in zip(optimizer.param_groups, self.base_momentums, self.max_momentums):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _set_momentum(self, group, momentum):
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


class CyclicLR(_CyclesMomentum):
    """Straight up from base_lr to max_lr and down again, for ever (Smith 2015).

    mode  "triangular"; "triangular2": half as high each cycle; "exp_range": gamma^t as high. Or `scale_fn`, of the
          number of the cycle (scale_mode="cycle", from 1) or of the step (scale_mode="iterations").
    """

    _unsaved = ("optimizer", "_custom")

    def __init__(
        self,
        optimizer,
        base_lr,
        max_lr,
        step_size_up=2000,
        step_size_down=None,
        mode="triangular",
        gamma=1.0,
        scale_fn=None,
        scale_mode="cycle",
        cycle_momentum=True,
        base_momentum=0.8,
        max_momentum=0.9,
        last_epoch=-1,
    ):
        self._attach(optimizer)
        lows = per_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, lows):
                group["lr"] = low
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        step_size_down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + step_size_down)
        self.step_ratio = step_size_up / self.total_size
        expect(
            mode in ("triangular", "triangular2", "exp_range") or scale_fn is not None,
            f'CyclicLR: mode is "triangular", "triangular2" or "exp_range", got {mode!r}',
            error=ArgumentError,
        )
        self.mode, self.gamma, self._custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn else "iterations" if mode == "exp_range" else "cycle"
        self._setup_momentum(cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows

    def scale_fn(self, x):
        """How high the cycle is: of the cycle's number or the step."""
        if self._custom is not None:
            return self._custom(x)
        return {"triangular": 1.0, "triangular2": 0.5 ** (x - 1), "exp_range": self.gamma**x}[self.mode]

    def get_lr(self):
        t = self.last_epoch
        cycle = math.floor(1 + t / self.total_size)
        x = 1 + t / self.total_size - cycle  # from 0 to 1 within the cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else t)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self._set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs)]


class OneCycleLR(_CyclesMomentum):
    """Up from max_lr / div_factor to max_lr, then down to the start / final_div_factor (Smith & Topin 2017).

    pct_start    the share of the steps that goes up
    three_phase  down to the start as long as it went up, then on to the end
    anneal_strategy  "cos" or "linear"
    """

    def __init__(
        self,
        optimizer,
        max_lr,
        total_steps=None,
        epochs=None,
        steps_per_epoch=None,
        pct_start=0.3,
        anneal_strategy="cos",
        cycle_momentum=True,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
        last_epoch=-1,
    ):
        self._attach(optimizer)
        if total_steps is None:
            expect(
                epochs is not None and steps_per_epoch is not None,
                "OneCycleLR: give total_steps, or epochs and steps_per_epoch",
                error=ArgumentError,
            )
            total_steps = epochs * steps_per_epoch
        rules = {
            f"total_steps is a positive integer, got {total_steps}": isinstance(total_steps, int) and total_steps > 0,
            f"pct_start is a share from 0 to 1, got {pct_start}": isinstance(pct_start, float) and 0 <= pct_start <= 1,
            f'anneal_strategy is "cos" or "linear", got {anneal_strategy!r}': anneal_strategy in ("cos", "linear"),
        }
        for rule, holds in rules.items():
            expect(holds, f"OneCycleLR: {rule}", error=ArgumentError)
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        up, end = float(pct_start * total_steps) - 1, total_steps - 1
        if three_phase:
            self.phases = [
                (up, "initial_lr", "max_lr", "max_momentum", "base_momentum"),
                (2 * up, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
                (end, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
            ]
        else:
            self.phases = [
                (up, "initial_lr", "max_lr", "max_momentum", "base_momentum"),
                (end, "max_lr", "min_lr", "base_momentum", "max_momentum"),
            ]
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, per_group("max_lr", optimizer, max_lr)):
                group["initial_lr"], group["max_lr"] = high / div_factor, high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._setup_momentum(cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _between(self, start, end, share):
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    def get_lr(self):
        t = self.last_epoch
        expect(
            t <= self.total_steps,
            f"OneCycleLR: step {t} of a schedule of {self.total_steps}\n  give total_steps as many as you take",
            error=ArgumentError,
        )
        phase = next((i for i, (end, *_) in enumerate(self.phases) if t <= end), len(self.phases) - 1)
        begin = self.phases[phase - 1][0] if phase else 0.0
        end, a, b, m, n = self.phases[phase]
        share = (t - begin) / (end - begin)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[a], group[b], share))
            if self.cycle_momentum:
                self._set_momentum(group, self._between(group[m], group[n], share))
        return rates
