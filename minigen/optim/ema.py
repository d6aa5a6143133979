"""EMA: a running mean of the weights, which samples and evaluates better than the last weights do.

ema = EMA(model, decay=0.999)
for batch in loader:
    ...; optimizer.step(); ema.update()
with ema.applied():
    evaluate(model)
"""

import contextlib

from .. import device, kernels
from ..autograd import action
from ..device import xp
from ..errors import ArgumentError, CheckpointError, expect
from ..tensor import Tensor, wrote
from .flat import layout, merged, views

__all__ = ["EMA"]


class EMA:
    """shadow <- d * shadow + (1 - d) * weight, over the parameters of a model or a list of tensors.

    decay   d in the long run; the mean is over about 1 / (1 - d) steps
    warmup  d is (1 + t) / (10 + t) as long as that is less, so that the first weights are soon forgotten
    every   `update()` does something on every so-many-th call only
    """

    def __init__(self, model_or_params, decay=0.999, warmup=False, every=1):
        expect(0 <= decay <= 1, f"EMA: decay is from 0 to 1, got {decay}", error=ArgumentError)
        expect(
            isinstance(every, int) and every > 0, f"EMA: every is a positive integer, got {every}", error=ArgumentError
        )
        given = model_or_params
        if hasattr(given, "named_parameters"):
            pairs = list(given.named_parameters())
        else:
            pairs = [x if isinstance(x, tuple) else (str(i), x) for i, x in enumerate(given)]
        self.names = [name for name, _ in pairs]
        self.params = [p for _, p in pairs]
        expect(len(self.params) > 0, "EMA: there are no parameters to average", error=ArgumentError)
        self.decay, self.warmup, self.every = decay, warmup, every
        self.calls = 0
        self.shadow = [None] * len(self.params)
        self._known, self._rows = [], []
        self._allocate()

    def _allocate(self):
        """Copies of the parameters, in one array for each type and device, laid out as an optimiser lays them out."""
        if device.capturing is not None:
            device.capturing.refuse_new("an EMA is made")
        kinds = {}
        for i, p in enumerate(self.params):
            kinds.setdefault((p.data.dtype, p.device), []).append(i)
        for (dtype, _), members in kinds.items():
            library = xp(self.params[members[0]].data)
            shapes = [self.params[i].shape for i in members]
            flat = library.zeros(layout(shapes)[1], dtype)
            for i, view in zip(members, views(flat, shapes)):
                view[...] = self.params[i].data
                self.shadow[i] = view

    def rate(self):
        """The decay of the next update."""
        t = self.calls // self.every
        return min(self.decay, (1 + t) / (10 + t)) if self.warmup else self.decay

    @action
    def update(self):
        """Take in the weights as they are now. Call it after each step of the optimiser."""
        graph = device.capturing
        share = self._share() if graph is None else graph.number(self, self._share)
        if graph is None and share == 0:
            return
        for shadow, weight in self._pairs():
            kernel = kernels.find(shadow, "optim") if shadow.ndim == 1 else None
            if kernel is not None:
                kernel.lerp(shadow, weight, share)
            else:
                shadow += share * (weight - shadow)

    def _share(self):
        """Count a call, and give the share of the weights in it: 0 in the calls that `every` leaves out."""
        self.calls += 1
        return 0.0 if self.calls % self.every else 1 - self.rate()

    def _pairs(self):
        """(shadow, weight) in long rows; worked out anew only when a parameter has been given other memory."""
        weights = [p.data for p in self.params]
        if len(self._known) != len(weights) or any(a is not b for a, b in zip(self._known, weights)):
            self._known, self._rows = weights, merged(self.shadow, weights)
        return self._rows

    @contextlib.contextmanager
    def applied(self):
        """Inside the block the parameters have the averaged values; then their own again."""
        own = [p.data.copy() for p in self.params]
        self.copy_to()
        try:
            yield self
        finally:
            self._write(own)

    def copy_to(self):
        """Give the parameters the averaged values for good."""
        self._write(self.shadow)

    def _write(self, values):
        for p, value in zip(self.params, values):
            p.data[...] = value
            wrote(p.data)

    def state_dict(self):
        """{"calls": how often update() was called, "shadow": {name: tensor}}."""
        return {"calls": self.calls, "shadow": {n: Tensor(s) for n, s in zip(self.names, self.shadow)}}

    def load_state_dict(self, state_dict):
        """Take over what `state_dict()` returned. Raises CheckpointError if names or shapes differ."""
        expect(
            isinstance(state_dict, dict) and {"calls", "shadow"} <= set(state_dict),
            'EMA.load_state_dict: a state has "calls" and "shadow"',
            state_dict,
            error=CheckpointError,
        )
        given = {n: s.data if isinstance(s, Tensor) else s for n, s in state_dict["shadow"].items()}
        differ = {n for n, s in zip(self.names, self.shadow) if n not in given or given[n].shape != s.shape}
        differ |= set(given) - set(self.names)
        expect(
            not differ,
            f"EMA.load_state_dict: names or shapes differ: {', '.join(sorted(differ)[:5])}",
            error=CheckpointError,
        )
        self.calls = state_dict["calls"]
        for name, shadow in zip(self.names, self.shadow):
            shadow[...] = device.to_device(given[name], device.device_of(shadow))
