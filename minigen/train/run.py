"""A training run: all that surrounds a loop and is not learning."""

import contextlib
import os
import signal
import sys
import threading
from array import array

import numpy as np

from .. import random
from ..checkpoint import Checkpoints, find_non_finite, load
from ..errors import ArgumentError, CheckpointError, DistributedError, NonFiniteError
from .screen import Screen, in_notebook


class Interrupted(SystemExit):
    """A run was stopped by Ctrl-C (`code` is 130) or SIGTERM (143), after it saved. A script simply ends with it."""


class Run:
    """The steps of a training run: `for step in Run(...)`, where `step` counts from 1 to `steps`.

    steps        where to stop
    checkpoints  the folder to save in, every `every` steps and at the end; None saves nothing. `keep` are kept.
    resume       True goes on from the newest whole checkpoint there, or starts where there is none; a path goes on
                 from that one. False starts anew: what an earlier run left there moves to `<folder>/previous`.
    generator    a Generator, or a dict of them, that the loop draws from. The default one is always saved too.
    progress     a bar with the loss, samples a second and the time left, and a line for each evaluation
    group        a distributed.Group: rank 0 saves and shows, all resume, a signal to one stops all after one step
    parts        what the run is made of, by name: all that has `state_dict()` and `load_state_dict()`

        run = Run(2000, checkpoints="runs/gan", g=g, d=d, g_optimizer=g_optimizer, d_optimizer=d_optimizer)
        for step in run:
            ...
            run.log(loss=g_loss, critic=d_loss)

    Ctrl-C (or SIGTERM) lets the step finish, saves, says how to go on and raises `Interrupted`: a script exits with
    130. In a notebook the cell ends with KeyboardInterrupt. A second Ctrl-C stops at once.

    step, history, evaluations   the last step done; {"loss": a number for every step, ...}; [(step, {...}), ...]
    path                         the last checkpoint, written or read
    """

    def __init__(
        self,
        steps,
        *,
        every=None,
        checkpoints=None,
        keep=3,
        resume=False,
        generator=None,
        progress=True,
        group=None,
        **parts,
    ):
        if type(steps) is not int or steps < 0:
            raise ArgumentError(f"steps={steps!r}: the number of steps is an integer, 0 or more")
        if every is not None and (type(every) is not int or every < 1):
            raise ArgumentError(f"every={every!r}: the steps between evaluations are an integer, 1 or more")
        if resume is True and checkpoints is None:
            raise ArgumentError('resume=True: from where?\n  write checkpoints="runs/name", or resume="path"')
        for name, part in parts.items():
            if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
                raise ArgumentError(f"{name}: a {type(part).__name__} has no state_dict, so it cannot be resumed")
        self.steps, self.every = steps, every or max(steps // 10, 1)
        self.parts = parts
        given = generator if isinstance(generator, dict) else {} if generator is None else {"generator": generator}
        self.generators = {"default": random.default_generator, **given}
        self.folder = None if checkpoints is None else Checkpoints(checkpoints, keep=keep)
        self.group = group
        self.writes = group is None or group.is_first
        self.progress = progress and self.writes
        self.step, self.path = 0, None
        self.history, self.evaluations = {}, []
        self._signal = self._screen = None
        self._samples = self._saved = None
        if resume:
            self._resume(resume)
            self._same_step()
        elif self.folder is not None and self.writes and self.folder.set_aside() and progress:
            print(f"what an earlier run left in {checkpoints} is now in its folder `previous`", file=sys.stderr)

    @property
    def losses(self):
        """The loss of every step."""
        return self.history.get("loss", array("d"))

    def __iter__(self):
        self._screen = Screen(self.steps, self.step, self.progress)
        with contextlib.closing(self._screen), self._signals():
            while self.step < self.steps and not self._stopping():
                yield self.step + 1
                self.step += 1
                self._screen.step({name: numbers[-1] for name, numbers in self.history.items()}, self._samples)
                if self.due(self.step):
                    self.save()
            if self._signal is not None and self._saved != self.step:
                self.save()
        if self._signal is not None:
            raise self._left()

    def due(self, step):
        """Whether `step` ends with an evaluation and a checkpoint."""
        return step % self.every == 0 or step == self.steps

    def log(self, samples=None, **numbers):
        """Note this step's numbers (or tensors of one number) in `history`, and how many samples it saw."""
        for name, number in numbers.items():
            number = number.item() if hasattr(number, "item") else number
            self.history.setdefault(name, array("d")).append(number)
        self._samples = samples

    def evaluated(self, numbers):
        """Note what an evaluation at the end of this step gave, a number or a dict of them, and show it."""
        numbers = numbers if isinstance(numbers, dict) else {"evaluation": numbers}
        numbers = {name: float(x.item() if hasattr(x, "item") else x) for name, x in numbers.items()}
        step = self.step + 1
        self.evaluations.append((step, numbers))
        if self._screen is not None:
            found = "   ".join(f"{name} {x:.5g}" for name, x in numbers.items())
            self._screen.line(f"step {step:>{len(str(self.steps))}}   {found}")

    # Saving and resuming

    def state(self):
        """Everything that the rest of the run depends on, as `checkpoint.save` takes it. Called by all of a group."""
        alone = self.group is None or self.group.size == 1
        states = self.generator_states()
        return {
            "step": self.step,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "generators": states,
            **({} if alone else {"generators of ranks": self.group.gathered(states)}),
            "history": {name: np.array(numbers) for name, numbers in self.history.items()},
            "evaluations": self.evaluations,
        }

    def save(self):
        """Save a checkpoint of the last step. Raises NonFiniteError, and saves nothing, if a weight is NaN or Inf."""
        if self.folder is None:
            return
        self._saved = self.step
        for name, part in self.parts.items():
            bad = find_non_finite(part) if hasattr(part, "named_parameters") else None
            if bad is not None:
                raise NonFiniteError(
                    f"step {self.step}: {name}.{bad} is NaN or Inf, so nothing is saved\n  {self.last_good()}"
                )
        state = self.state()
        self.path = self.folder.save(self.step, state) if self.writes else self.folder.path(self.step)

    def last_good(self):
        """A few words that name the last checkpoint."""
        return f"the last checkpoint is {self.path}" if self.path else "there is no checkpoint yet"

    def _resume(self, resume):
        folder = self.folder if resume is True else Checkpoints(resume) if os.path.isdir(resume) else None
        path = resume if folder is None else folder.latest(required=resume is not True)
        if path is None:
            return
        state = load(path)
        if not {"step", "parts", "generators", "history", "evaluations"} <= set(state):
            raise CheckpointError(f"{path} is not the checkpoint of a run: it holds {', '.join(map(str, state))}")
        for what, ours in [("parts", self.parts), ("generators", self.generators)]:
            if set(state[what]) != set(ours):
                raise CheckpointError(
                    f"{path} is of a run with the {what} {', '.join(state[what])}; this one has {', '.join(ours)}"
                )
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self._restore_mine(state)
        self.step, self.path = state["step"], path
        self.history = {name: array("d", numbers) for name, numbers in state["history"].items()}
        self.evaluations = state["evaluations"]
        if self.folder is not None and self.writes:
            self.folder.set_aside(after=self.step)
        if self.progress:
            print(f"going on from {path}, after step {self.step:,} of {self.steps:,}", file=sys.stderr)

    def _restore_mine(self, state):
        """Put the generators where this rank's were. A rank that there was not draws from streams of its own."""
        states = state.get("generators of ranks", [state["generators"]])
        rank = 0 if self.group is None else self.group.rank
        shared = all(other == states[0] for other in states)
        self.restore_generators(states[rank] if rank < len(states) else states[0])
        if rank >= len(states) and not (shared and len(states) > 1):
            for generator in self.generators.values():
                generator.set_state(generator.fork(f"rank {rank} from step {state['step']}").get_state())

    def _same_step(self):
        """Raise DistributedError where ranks found other checkpoints."""
        steps = [self.step] if self.group is None else self.group.gathered(self.step)
        if len(set(steps)) > 1:
            raise DistributedError(
                f"resume: the ranks found checkpoints of steps {', '.join(map(str, steps))}\n"
                "  the folder of checkpoints must be the same for all: on several machines, one that they share"
            )

    def generator_states(self):
        """Where every generator stands."""
        return {name: generator.get_state() for name, generator in self.generators.items()}

    def restore_generators(self, states):
        """Put every generator back to where `generator_states` found it."""
        for name, generator in self.generators.items():
            generator.set_state(states[name])

    # Stopping

    @contextlib.contextmanager
    def _signals(self):
        """Inside, Ctrl-C and SIGTERM are noted instead of breaking off in the middle of a step."""
        before = {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup stays nohup
                    before[number] = signal.signal(number, self._noted)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stopping(self):
        """Whether a signal came, to this process or, in a group, to any."""
        if self.group is not None and self.group.size > 1:
            self._signal = int(self.group.maximum(self._signal or 0)) or None
        return self._signal is not None

    def _noted(self, number, frame):
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        with contextlib.suppress(OSError):  # straight to the terminal: a handler may interrupt another print
            os.write(2, b"\nstopping after this step; once more to stop at once\n")

    def _left(self):
        number, self._signal = self._signal, None
        text = f"stopped after step {self.step:,} of {self.steps:,}"
        if self.folder is None:
            text += "; nothing is saved, as no folder for checkpoints was given"
        else:
            text += f", saved as {self.path}\n  go on with  --resume {self.path}  or, in code, resume=True"
        if self.writes:
            print(text, file=sys.stderr)
        return KeyboardInterrupt() if in_notebook() else Interrupted(128 + number)
