"""Schedules made of schedules: one after the other, or all at once."""

from bisect import bisect_right

from ...autograd import action
from ...device import on_host
from ...errors import ArgumentError, expect
from .base import LRScheduler, set_rate
from .plateau import ReduceLROnPlateau

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    """Holds schedules over one optimiser."""

    _unsaved = ("optimizer", "_schedulers")

    def _hold(self, schedulers, optimizer):
        name = type(self).__name__
        expect(len(schedulers) > 0, f"{name}: at least one schedule is needed", error=ArgumentError)
        for i, scheduler in enumerate(schedulers):
            expect(
                isinstance(scheduler, (LRScheduler)) and not isinstance(scheduler, ReduceLROnPlateau),
                f"{name}: number {i} is a {type(scheduler).__name__}, not a schedule that steps by itself",
                error=ArgumentError,
            )
            expect(
                optimizer is None or scheduler.optimizer is optimizer,
                f"{name}: number {i} belongs to another optimiser",
                error=ArgumentError,
            )
        self._schedulers = list(schedulers)
        self._attach(schedulers[0].optimizer)

    def state_dict(self):
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict):
        mine = self._schedulers
        super().load_state_dict(state_dict)
        self._schedulers = mine
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"]):
            scheduler.load_state_dict(state)


class SequentialLR(_Combined):
    """The first schedule until step milestones[0], the second from its own start until milestones[1], and so on.

    SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=100), CosineAnnealingLR(optimizer, 900)], [100])
    """

    def __init__(self, optimizer, schedulers, milestones, last_epoch=-1):
        self._hold(schedulers, optimizer)
        expect(
            len(milestones) == len(schedulers) - 1,
            f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} milestones, got {len(milestones)}",
            error=ArgumentError,
        )
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        for group in self.optimizer.param_groups:  # each schedule took its first step when it was made
            set_rate(group, "lr", group["initial_lr"])
        _undo(self)
        first = self._schedulers[0]
        first._first_step()
        self._last_lr = first.get_last_lr()

    @action
    @on_host
    def step(self, epoch=None):
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._go_to(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(scheduler):
    for inner in getattr(scheduler, "_schedulers", ()):
        if hasattr(inner, "_schedulers"):
            _undo(inner)
        else:
            inner.last_epoch -= 1


class ChainedScheduler(_Combined):
    """All schedules at every step: their factors multiply."""

    def __init__(self, schedulers, optimizer=None):
        self._hold(schedulers, optimizer)
        self._last_lr = self.rates

    @action
    @on_host
    def step(self, epoch=None):
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self.rates
