"""`minigen.capture(step)`: a training step that is called often, without Python's part in it.

    @minigen.capture
    def step(x, target):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    for x, target in loader:
        loss = step(x, target)

On the GPU the step becomes one CUDA graph (graph.py); on the CPU a list of calls on arrays (replay.py). Either way the
numbers are those of the step itself.
"""

import functools
import sys
import types

from ..device import CPU, CUDA, device_of
from ..errors import ArgumentError, expect
from .replay import signature

__all__ = ["capture"]


def capture(step=None, *, device=None, strict=False, warmup=2):
    """A function that does what `step(*args, **kwargs)` does, faster from the third call on. Also a decorator.

    device  "cuda" or "cpu": where the step computes; by default where its arguments lie, the CPU if it has none
    strict  on the CPU, raise CaptureError for a step that cannot be captured; otherwise it runs as it is, with a
            warning. On the GPU such a step always raises
    warmup  on the GPU, ordinary steps before the capture, for each set of shapes

    What changes from call to call is given as an argument, as a tensor: its numbers are copied over those of the first
    call. Another shape or type is captured anew, and so is the step after `model.eval()`, a new hook, a layer frozen,
    other memory under a parameter. Gradients may be gathered over calls and dropped between them. Learning rates,
    schedules, random streams and an EMA's decay go on; any other number that the step looks at stays as it was. No
    number may leave a tensor inside the step. On the GPU the tensors that it returns are the same at each call, with
    new numbers: write loss.clone() to keep them. Raises CaptureError with the line that cannot be captured.
    """
    if step is None:
        return functools.partial(capture, device=device, strict=strict, warmup=warmup)
    expect(callable(step), "capture: takes a function", step, error=ArgumentError)
    where = None if device is None else str(device).split(":")[0]
    expect(where in (None, CPU, CUDA), 'capture: device is "cuda" or "cpu"', device, error=ArgumentError)
    expect(isinstance(warmup, int) and warmup > 0, "capture: warmup is at least 1", warmup, error=ArgumentError)
    return _Captured(step, where, strict, warmup)


class _Captured:
    """A step, captured where it first computes."""

    def __init__(self, step, device, strict, warmup):
        functools.update_wrapper(self, step, updated=())
        self._device, self._strict, self._warmup, self._run = device, strict, warmup, None

    def __call__(self, *args, **kwargs):
        if self._run is None:
            arrays, _ = signature((args, kwargs))
            places = {device_of(array) for array in arrays}
            self._run = self._made(CUDA if self._device is None and CUDA in places else self._device or CPU)
        return self._run(*args, **kwargs)

    def _made(self, device):
        if device == CUDA:
            from .graph import GraphStep

            return GraphStep(self.__wrapped__, self._warmup)
        from .replay import Replay

        return Replay(self.__wrapped__, self._strict)


class _Package(types.ModuleType):
    """This package, which is called like the function: minigen.capture(step)."""

    def __call__(self, step=None, **options):
        return capture(step, **options)


sys.modules[__name__].__class__ = _Package
