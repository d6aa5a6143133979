"""The base of schedules: count steps, ask `get_lr`, write into the optimiser's groups."""

import warnings

from ...autograd import action
from ...device import on_host
from ...errors import ArgumentError, CheckpointError, DtypeError, describe, expect
from ...tensor import Tensor
from ..optimizer import Optimizer

__all__ = ["LRScheduler"]


def set_rate(group, name, rate):
    """Write a learning rate into a group: the one place that does."""
    if isinstance(group[name], Tensor):
        group[name].data[...] = rate
    else:
        group[name] = rate


class LRScheduler:
    """A learning rate for every step. Call `step()` after each `optimizer.step()`.

    A schedule answers `get_lr()`: the rates for step `last_epoch`, one for each group. Most compute them from the
    rates as they are now (`self.rates`), so that several schedules over one optimiser multiply. Those that can also
    give the rate of any step directly from the first ones (`base_lrs`) do so in `closed_form()`.

    last_epoch  the step that was done last; -1 at the start. When a run is resumed, load its state instead.
    """

    _unsaved = ("optimizer",)

    def __init__(self, optimizer, last_epoch=-1):
        self._attach(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            expect(
                "initial_lr" in group,
                f"{type(self).__name__}: last_epoch={last_epoch}, but param_groups[{i}] has no 'initial_lr'",
                error=ArgumentError,
                hint="load the optimiser's state first, or start with last_epoch=-1",
            )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._first_step()

    def _attach(self, optimizer):
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(f"{type(self).__name__}: {describe(optimizer)} is not an Optimizer")
        self.optimizer = optimizer

    def _first_step(self):
        self._step_count = 0
        self.at_start = True
        self.step()
        self.at_start = False

    @property
    def rates(self):
        """The learning rates of the groups now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self):
        """The learning rates for step `last_epoch`, one for each group."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr")

    def get_last_lr(self):
        """The learning rates that were set last, one for each group."""
        return self._last_lr

    @action
    @on_host
    def step(self, epoch=None):
        """Go one step on and set its learning rates; or go to step `epoch`."""
        if self._step_count == 1 and not self.optimizer.stepped:
            warnings.warn(
                "lr_scheduler.step() was called before optimizer.step(): the first learning rate is never used\n"
                "  call optimizer.step() first",
                stacklevel=2,
            )
        self._step_count += 1
        self._go_to(epoch)

    def _go_to(self, epoch=None):
        if epoch is None:
            self.last_epoch += 1
            self._set(self.get_lr())
        else:
            self.last_epoch = epoch
            self._set(self.closed_form() if hasattr(self, "closed_form") else self.get_lr())

    def _set(self, rates):
        for group, rate in zip(self.optimizer.param_groups, rates):
            set_rate(group, "lr", rate)
        self._last_lr = self.rates

    def state_dict(self):
        """Numbers and lists: all there is but the optimiser, and functions that were given."""
        state = {name: value for name, value in vars(self).items() if name not in self._unsaved}
        state.pop("at_start", None)
        return state

    def load_state_dict(self, state_dict):
        """Take over what `state_dict()` returned."""
        expect(
            isinstance(state_dict, dict) and "_last_lr" in state_dict,
            f"{type(self).__name__}.load_state_dict: a state is what state_dict() returned",
            state_dict,
            error=CheckpointError,
        )
        vars(self).update(state_dict)


def per_group(name, optimizer, value):
    """A list with one value for each group."""
    if isinstance(value, (list, tuple)):
        n = len(optimizer.param_groups)
        expect(len(value) == n, f"{name}: {len(value)} values for {n} param groups", error=ArgumentError)
        return list(value)
    return [value] * len(optimizer.param_groups)
