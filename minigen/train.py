"""Training: a loop that hides nothing, and the run around it.

    run = fit(model, loss, loader, optim.Adam(model.parameters()), steps=2000, clip_norm=1.0)

    fit   the ordinary loop: one model, one loss, one optimiser. Its body is what you would write yourself.
    Run   everything around a loop that is not learning: counting, progress, checkpoints, resuming, Ctrl-C. A loop of
          another shape (two optimisers, say) is written by hand over `for step in Run(...)`.

A run that is resumed gives the same bits as one that was never stopped: weights, optimiser, schedule, moving average,
random generators and the order of the data all stand in the checkpoint.
"""

import contextlib
import itertools
import math
import signal
import sys
import threading
import time
from array import array

from . import random
from .autograd import detect_anomaly, no_grad
from .checkpoint import Checkpoints, find_non_finite, load
from .device import xp
from .errors import ArgumentError, CheckpointError, NonFiniteError
from .nn.utils import clip_grad_norm_, clip_grad_value_

__all__ = ["Interrupted", "Run", "fit"]


def fit(
    model,
    loss,
    batches,
    optimizer,
    *,
    steps,
    scheduler=None,
    ema=None,
    clip_norm=None,
    clip_value=None,
    evaluate=None,
    every=None,
    checkpoints=None,
    keep=3,
    resume=False,
    generator=None,
    progress=True,
):
    """Train `model` until `steps` steps are done; returns the `Run`, which holds the losses.

    loss         loss(model, batch) -> one number as a tensor, or {"loss": it, "kl": ..., more to be shown}
    batches      a DataLoader or anything else to loop over, again and again; or a function that makes a batch
    scheduler    stepped once a step;  ema  updated once a step, and evaluated in the place of the model
    clip_norm    the largest norm of the whole gradient;  clip_value  of each of its numbers
    evaluate     evaluate(model) -> a number or a dict of numbers, every `every` steps, in eval mode. It may draw what
                 it likes from the generators: they are put back, so training does not notice.
    every        steps between evaluations and between checkpoints (a tenth of `steps`, if None)
    checkpoints, keep, resume, generator, progress    see `Run`

    Raises NonFiniteError, naming the op, when the loss or a gradient is NaN or Inf; nothing is saved then.
    """
    stream = _Batches(batches)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "ema": ema, "data": stream}
    parts = {name: part for name, part in parts.items() if part is not None}
    run = Run(
        steps,
        every=every,
        checkpoints=checkpoints,
        keep=keep,
        resume=resume,
        generator=generator,
        progress=progress,
        **parts,
    )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    model.train()
    for step in run:
        batch = next(stream)
        before = run.generator_states()
        optimizer.zero_grad()
        logs = loss(model, batch)
        logs = dict(logs) if isinstance(logs, dict) else {"loss": logs}
        logs["loss"].backward()
        if not _all_finite(logs["loss"], parameters):
            run.restore_generators(before)
            raise _explanation(run, step, model, loss, batch, optimizer)
        if clip_value is not None:
            clip_grad_value_(parameters, clip_value)
        if clip_norm is not None:
            clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if ema is not None:
            ema.update()
        run.log(samples=_length(batch), **logs)
        if evaluate is not None and run.due(step):
            run.evaluated(_evaluate(evaluate, model, ema, run))
    return run


def _evaluate(evaluate, model, ema, run):
    before = run.generator_states()
    model.eval()
    try:
        with no_grad(), ema.applied() if ema is not None else contextlib.nullcontext():
            return evaluate(model)
    finally:
        model.train()
        run.restore_generators(before)


class Run:
    """The steps of one training run: `for step in Run(...)`, where step counts from 1 to `steps`.

    steps        where to stop
    checkpoints  the folder to save in, every `every` steps and at the end; None saves nothing. `keep` are kept.
    resume       True goes on from the newest whole checkpoint there (from the start, where there is none); a path goes on
                 from that one. False starts anew: the checkpoints of an earlier run are moved to `<folder>/previous`.
    generator    a Generator, or a dict of them, that the loop draws from; the default one is always saved with them
    progress     a bar with the loss, samples a second and the time left, and a line for every evaluation
    parts        what makes up the run, by name: everything with `state_dict()` and `load_state_dict()`

    Ctrl-C (or SIGTERM) finishes the step, saves, says how to go on, and raises `Interrupted`, with which a script exits
    with 130. A second Ctrl-C stops at once. A checkpoint is never written over a good one by a model with a NaN in it.

    step, history, evaluations    the last step done; {"loss": array of one number a step, ...}; [(step, {...}), ...]
    """

    def __init__(
        self, steps, *, every=None, checkpoints=None, keep=3, resume=False, generator=None, progress=True, **parts
    ):
        if not isinstance(steps, int) or steps < 0:
            raise ArgumentError(f"steps={steps!r}: the number of steps is an integer, 0 or more")
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ArgumentError(f"every={every!r}: the steps between evaluations are an integer, 1 or more")
        if resume and checkpoints is None and resume is True:
            raise ArgumentError('resume=True: from where?\n  write checkpoints="runs/name", or resume="path"')
        for name, part in parts.items():
            if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
                raise ArgumentError(f"{name}: a {type(part).__name__} has no state_dict(): it could not be resumed")
        self.steps = steps
        self.every = every or max(steps // 10, 1)
        self.parts = parts
        self.generators = generator if isinstance(generator, dict) else {} if generator is None else {"own": generator}
        self.generators = {"default": random.default_generator, **self.generators}
        self.folder = None if checkpoints is None else Checkpoints(checkpoints, keep=keep)
        self.progress = progress
        self.step = 0
        self.history = {}
        self.evaluations = []
        self.path = None  # the last checkpoint, written or read
        self._stop = None
        self._bar = None
        if resume:
            self._resume(resume)
        elif self.folder is not None:
            self.folder.set_aside()

    @property
    def losses(self):
        """The loss of every step, oldest first."""
        return self.history.get("loss", array("d"))

    def __iter__(self):
        with _signals(self._interrupted), _progress_bar(self) as self._bar:
            while self.step < self.steps:
                yield self.step + 1
                self.step += 1
                self._bar.update()
                if self.due(self.step) or self._stop:
                    self.save()
                if self._stop and self.step < self.steps:
                    raise self._leave()

    def due(self, step):
        """Whether evaluation and a checkpoint are due at the end of `step`."""
        return step % self.every == 0 or step == self.steps

    def log(self, samples=None, **numbers):
        """Note this step's numbers (tensors or numbers): they go into `history`, and the first is shown."""
        for name, number in numbers.items():
            number = float(number.item() if hasattr(number, "item") else number)
            self.history.setdefault(name, array("d")).append(number)
        self._bar.show({name: self.history[name][-1] for name in numbers}, samples)

    def evaluated(self, numbers):
        """Note what an evaluation found: a number, or a dict of them."""
        numbers = numbers if isinstance(numbers, dict) else {"evaluation": numbers}
        numbers = {name: float(x.item() if hasattr(x, "item") else x) for name, x in numbers.items()}
        self.evaluations.append((self.step + 1, numbers))
        if self.progress:
            shown = "   ".join(f"{name} {x:.5g}" for name, x in numbers.items())
            self._bar.write(f"step {self.step + 1:>{len(str(self.steps))}}   {shown}")

    # Saving and resuming

    def state(self):
        """Everything that the rest of the run depends on, as `checkpoint.save` takes it."""
        return {
            "step": self.step,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "generators": self.generator_states(),
            "history": self.history,
            "evaluations": self.evaluations,
        }

    def save(self):
        """Save a checkpoint of the step just done. Raises NonFiniteError, and saves nothing, if a weight is NaN or Inf."""
        if self.folder is None:
            return
        for name, part in self.parts.items():
            bad = find_non_finite(part) if hasattr(part, "named_parameters") else None
            if bad:
                raise NonFiniteError(f"step {self.step}: {name}.{bad} is NaN or Inf: not saved\n  {self._last_good()}")
        self.path = self.folder.save(self.step, self.state())

    def _resume(self, resume):
        path = self.folder.latest() if resume is True else resume
        if path is None:
            return
        state = load(path)
        if not {"step", "parts", "generators"} <= set(state):
            raise CheckpointError(
                f"{path} is a checkpoint, but not of a training run: it has {sorted(map(str, state))}"
            )
        for what, have, want in [
            ("parts", state["parts"], self.parts),
            ("generators", state["generators"], self.generators),
        ]:
            if set(have) != set(want):
                raise CheckpointError(
                    f"{path} has the {what} {sorted(have)}, this run {sorted(want)}: they must be the same"
                )
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.restore_generators(state["generators"])
        self.step, self.path = state["step"], path
        self.history = {name: array("d", numbers) for name, numbers in state["history"].items()}
        self.evaluations = state["evaluations"]
        if self.folder is not None:
            self.folder.set_aside(after=self.step)
        if self.progress:
            print(f"resumed from {path}, after step {self.step:,} of {self.steps:,}", file=sys.stderr)

    def generator_states(self):
        """Where every generator stands."""
        return {name: generator.get_state() for name, generator in self.generators.items()}

    def restore_generators(self, states):
        """Put the generators back to where `generator_states` found them."""
        for name, generator in self.generators.items():
            generator.set_state(states[name])

    # Stopping

    def _interrupted(self, number):
        self._stop = number
        self._bar.write("finishing this step; once more to stop at once")

    def _leave(self):
        where = f"saved as {self.path}" if self.folder else "not saved (no checkpoints folder was given)"
        how = f"\n  continue with  --resume {self.path}  (in code: resume=True)" if self.folder else ""
        self._bar.close()
        print(f"stopped after step {self.step:,} of {self.steps:,}, {where}{how}", file=sys.stderr)
        number, self._stop = self._stop, None
        return KeyboardInterrupt() if hasattr(__builtins__, "__IPYTHON__") else Interrupted(128 + number)

    def _last_good(self):
        return f"the last good checkpoint is {self.path}" if self.path else "there is no checkpoint before it"


class Interrupted(SystemExit):
    """A run that was stopped by Ctrl-C (`code` is 130) or SIGTERM (143), after it saved. Scripts just exit with it."""
