"""`GradScaler`: gradients of a loss made larger, so that float16 can hold them (Micikevicius et al. 2018, section 3.2).

float16 ends at 6e-8, and many gradients are smaller. The loss times 65536 has gradients times 65536; they are divided
again before the step. Where one of them overflowed, the step is left out and the scale halved; after `growth_interval`
good steps in a row it is doubled: so it finds the largest scale that works, and follows it through the training.

On the GPU the scale, the count of good steps and what overflowed stay in device arrays, and the optimiser's step leaves
itself out by such an array: nobody waits for the card, and a captured step works.
"""

import numpy as np

from .. import device, kernels
from ..autograd import action
from ..device import xp
from ..errors import ArgumentError, CheckpointError, DtypeError, expect
from ..optim.flat import merged, spread_over
from ..tensor import Tensor

__all__ = ["GradScaler"]


class GradScaler:
    """Scales a loss and takes the scale out of its gradients, as torch.amp.GradScaler.

    device           taken as PyTorch takes it; the scale goes where the loss is
    init_scale       the first scale
    growth_factor    of the scale after growth_interval steps in a row without an overflow
    backoff_factor   of the scale after an overflow
    enabled          False: scale() returns its argument, step() steps, and nothing else happens
    """

    def __init__(
        self,
        device=None,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        enabled=True,
    ):
        rules = {
            f"init_scale must be positive, got {init_scale}": init_scale > 0,
            f"growth_factor must be above 1, got {growth_factor}": growth_factor > 1,
            f"backoff_factor must be between 0 and 1, got {backoff_factor}": 0 < backoff_factor < 1,
            f"growth_interval must be at least 1, got {growth_interval}": growth_interval >= 1,
        }
        for rule, holds in rules.items():
            expect(holds, f"GradScaler: {rule}", error=ArgumentError)
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._enabled = growth_interval, enabled
        self._scale, self._good = np.full((), init_scale, np.float32), np.zeros((), np.int64)
        self._found = None  # for each optimiser, whether a gradient overflowed: float32 (OPTIMISERS,)
        self._seen = []  # optimisers; the number of one is its place in `_found`
        self._unscaled, self._stepped = set(), set()  # numbers of optimisers, since the last update()

    OPTIMISERS = 16  # at most

    # Use

    def scale(self, outputs):
        """A loss, or a list of them, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            self._move_to(outputs.data)
            return outputs * Tensor(self._scale)
        expect(isinstance(outputs, (list, tuple)), "GradScaler.scale: takes a tensor", outputs, error=DtypeError)
        return type(outputs)(self.scale(x) for x in outputs)

    @action
    def unscale_(self, optimizer):
        """Divide the optimiser's gradients by the scale, in place: to clip them, say. step() does it otherwise.

        Raises ArgumentError the second time before update(), and for float16 gradients: the parameters must be float32.
        """
        if not self._enabled:
            return
        i = self._number(optimizer)
        again = "unscale_() has already been called on this optimizer since the last update()"
        expect(i not in self._unscaled, f"GradScaler.unscale_: {again}", error=ArgumentError)
        expect(i not in self._stepped, "GradScaler.unscale_: it is called after step()", error=ArgumentError)
        self._remembered()
        self._unscaled = self._unscaled | {i}
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for g in gradients:
            expect(
                g.dtype != np.float16,
                "GradScaler.unscale_: a float16 gradient, of a float16 parameter",
                g,
                error=DtypeError,
                hint="keep the parameters in float32: autocast casts them where that is right",
            )
        if gradients:
            self._move_to(gradients[0].data)
        rows = [row for (row,) in merged([g.data for g in gradients])]
        self._divide(rows, self._found[i : i + 1])
        for group in {spread_over(row) for row in rows} - {None}:  # processes that hold a part each skip together
            group.wait(group.sum_begun(self._found[i : i + 1]), "whether a gradient overflowed")

    @action
    def step(self, optimizer, closure=None):
        """`optimizer.step()`, unless a gradient overflowed. Returns what that returns, None where the host skips it."""
        expect(closure is None, "GradScaler.step: closures are not supported", error=ArgumentError)
        if not self._enabled:
            return optimizer.step()
        i = self._number(optimizer)
        expect(i not in self._stepped, "GradScaler.step: called twice before update()", error=ArgumentError)
        if i not in self._unscaled:
            self.unscale_(optimizer)
        self._stepped = self._stepped | {i}
        found = self._found[i]
        if not self._on_device():
            return None if found else optimizer.step()
        optimizer.skip = self._found[i : i + 1].reshape(())
        try:
            return optimizer.step()
        finally:
            optimizer.skip = None

    @action
    def update(self, new_scale=None):
        """Change the scale by what the steps since the last update() found, or to `new_scale`."""
        if not self._enabled:
            return
        expect(
            new_scale is not None or self._unscaled,
            "GradScaler.update: no optimizer was stepped since the last update(), so nothing is known",
            error=ArgumentError,
        )
        self._unscaled, self._stepped = set(), set()
        if new_scale is not None:
            self._scale[...] = new_scale.data if isinstance(new_scale, Tensor) else new_scale
            self._found[...] = 0
            return
        family = kernels.find(self._found, "numbers")
        factors = self._growth_factor, self._backoff_factor, self._growth_interval
        if device.capturing is not None:
            device.capturing.constant(lambda: (self._growth_factor, self._backoff_factor, self._growth_interval))
        if self._on_device() and family is not None:
            family.rescale(self._scale, self._good, self._found, *factors)
        else:
            self._rescale(xp(self._found), *factors)

    # The mathematics

    def _divide(self, rows, found):
        """rows / scale, in place; found = 1 where a number is not finite."""
        for row in rows:
            family = kernels.find(row, "numbers") if self._on_device() and row.ndim == 1 else None
            if family is not None:
                family.unscale(row, self._scale, found)
            else:
                lib = xp(row)
                found[...] = lib.maximum(found, ~lib.isfinite(row).all())
                row *= np.float32(1) / self._scale

    def _rescale(self, lib, growth, backoff, interval):
        bad = (self._found != 0).any()
        grown = self._scale * np.float32(growth)
        ready = ~bad & (self._good + 1 == interval)
        self._scale[...] = lib.where(bad, self._scale * np.float32(backoff), self._scale)
        self._scale[...] = lib.where(ready & lib.isfinite(grown), grown, self._scale)
        self._good[...] = lib.where(bad | ready, 0, self._good + 1)
        self._found[...] = 0

    # Where the numbers are

    def _on_device(self):
        return device.capturing is not None or xp(self._scale) is not np

    def _move_to(self, like):
        lib = xp(like)
        if xp(self._scale) is not lib:
            self._scale, self._good = lib.asarray(self._scale), lib.asarray(self._good)
            self._found = None if self._found is None else lib.asarray(self._found)

    def _remembered(self):
        """What has been done since the last update() is undone with a step that cannot be captured."""
        if device.capturing is not None:
            device.capturing.remember(self)

    def _number(self, optimizer):
        if self._found is None:
            if device.capturing is not None:
                device.capturing.refuse_new("a GradScaler is used for the first time")
            self._found = xp(self._scale).zeros(self.OPTIMISERS, np.float32)
        for i, seen in enumerate(self._seen):
            if seen is optimizer:
                return i
        expect(len(self._seen) < self.OPTIMISERS, "GradScaler: more than 16 optimizers", error=ArgumentError)
        self._seen.append(optimizer)
        return len(self._seen) - 1

    # Its numbers

    def get_scale(self):
        """The scale, as a Python number."""
        return Tensor(self._scale).item() if self._enabled else 1.0

    def get_growth_factor(self):
        return self._growth_factor

    def get_backoff_factor(self):
        return self._backoff_factor

    def get_growth_interval(self):
        return self._growth_interval

    def is_enabled(self):
        return self._enabled

    def state_dict(self):
        """Five numbers, under PyTorch's names; {} if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": Tensor(self._good).item(),
        }

    def load_state_dict(self, state_dict):
        """Take over what `state_dict()` returned. Raises CheckpointError if it is empty or not one."""
        if not self._enabled:
            return
        names = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
        expect(
            isinstance(state_dict, dict) and names <= set(state_dict),
            f"GradScaler.load_state_dict: a state has {', '.join(sorted(names))}",
            state_dict,
            error=CheckpointError,
            hint="an empty one was saved from a disabled scaler",
        )
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._scale[...], self._good[...] = state_dict["scale"], state_dict["_growth_tracker"]
