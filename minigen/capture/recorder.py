"""What the engine asks while a step is made a CUDA graph, and what the host does before each replay.

An optimiser, a schedule, an average or a random generator has numbers that change from step to step. While a step is
called for a graph, `device.capturing` is there to be asked where in memory the card finds them: a Warming in the
ordinary steps before, the Recorder in the step that is captured. Both refuse what no graph can hold.
"""

import contextlib
import threading

import numpy as np

from .. import device as devices
from .. import kernels
from ..autograd.tape import calling_line
from ..device import CUDA
from ..errors import CaptureError
from ..tensor import clock, wrote
from .found import Found
from .gradients import Gradients

ROOM = 1024  # numbers of the host that one step may ask for


class Warming:
    """Answers in an ordinary step: numbers come in device arrays already, so that it computes what the graph will."""

    def __init__(self, driver):
        self.driver = driver

    def number(self, owner, function):
        """A float64 device array of no dimensions with function() in it, at this step and at every replay."""
        return self.driver.arrays.full((), function(), np.float64)

    def repeat(self, owner, function):
        """Call a function of the host, now and before every replay."""
        return function()

    def place(self, generator, first):
        """Where a random stream stands: a block number, or (offset, uint64 device array)."""
        return first

    def constant(self, function):
        """The graph holds what function() returns now."""

    def remember(self, owner):
        """The numbers of `owner`, an object of the host, are about to change: keep them, for `undo`."""

    def memory(self, parameters):
        """The graph holds the addresses of these tensors' numbers."""

    def refuse(self, what, instead):
        raise CaptureError(f"capture: {what}\n  {calling_line()}\n  {instead}")

    def refuse_new(self, what):
        """Something that must be there before the capture is made only now."""

    def refuse_copy(self, to):
        """Numbers are copied between host and card."""

    def draws_on(self, device):
        """Random numbers are drawn there."""


class Recorder(Warming):
    """Answers while a step is captured, and then does the host's share of each replay."""

    def __init__(self, driver):
        super().__init__(driver)
        self.numbers, self.places = Table(driver, np.float64), Table(driver, np.uint64)
        self.actions = []  # (function of the host, its place in `numbers` or None), in the step's order
        self.streams = {}  # id -> [generator, where it stood, its place in `places`, blocks a step takes]
        self.held = []  # (function, what it returned): see `constant`
        self.parameters = []  # (tensor, its array)
        self.before = {}  # id -> (object of the host, what to put back)
        self.written = []
        self.gradients = Gradients()
        self.thread = threading.get_ident()  # another one, a loader's, draws and copies as ever

    def run(self, step):
        """What step() returns; behind it the random streams are moved on."""
        start = clock.now
        with Found() as self.found, self.gradients:
            result = step()
            self.found.tensors = list(self.gradients.leaves.values())  # those of no module, too
        family = kernels.find(self.driver.arrays.empty(0, np.float32), "numbers")
        for stream in self.streams.values():
            generator, base, place, _ = stream
            stream[3] = (generator.counter - base) % 2**64
            if family is None:
                self.places.at(place)[...] += np.uint64(stream[3])
            else:
                family.advance(self.places.at(place), stream[3])
        self.written = [memory for when, memory in clock.writes.values() if when > start]
        return result

    # Asked by the engine

    def number(self, owner, function):
        self.remember(owner)
        place = self.numbers.take(function())
        self.actions.append((function, place))
        return self.numbers.at(place)

    def repeat(self, owner, function):
        self.remember(owner)
        if getattr(owner, "optimizer", None) is not None:
            self.remember(owner.optimizer)
        self.actions.append((function, None))
        with capturing(None):
            return function()

    def place(self, generator, first):
        if not self.is_here():
            return first
        stream = self.streams.get(id(generator))
        if stream is None:
            stream = self.streams[id(generator)] = [generator, first, self.places.take(first), 0]
            self.constant(lambda: (generator.seed, generator.stream))
        return (first - stream[1]) % 2**64, self.places.at(stream[2])

    def constant(self, function):
        self.held.append((function, function()))

    def memory(self, parameters):
        self.parameters.extend([(p, p.data) for p in parameters])
        for p in parameters:
            self.gradients.arrives(p)

    def read(self, what):
        if not self.is_here():
            return
        self.refuse(
            f"{what} takes a number from the card to Python, which runs once only, while the step is captured",
            "return the tensor from the step, and read it from what the captured step returns; choose by\n"
            "  minigen.where(condition, a, b) instead of `if`",
        )

    def refuse_new(self, what):
        self.refuse(
            f"{what}, which no ordinary step before it did: the graph would do so again at every replay",
            "let the step do the same at each call, or call minigen.capture(step, warmup=...) with more ordinary steps",
        )

    def refuse_copy(self, to):
        if not self.is_here():
            return
        way = "to the card" if str(to).startswith(CUDA) else "to the host"
        self.refuse(
            f"numbers are copied {way} inside the step, and a graph cannot read what the host has then",
            "move the copy out of the step: make constants before it, give data as arguments, read results behind it",
        )

    def draws_on(self, device):
        if self.is_here() and not self.driver.draws_on(device):
            self.refuse("random numbers are drawn on the host", 'draw them on the card: device="cuda"')

    def is_here(self):
        return threading.get_ident() == self.thread

    # The host's share

    def remember(self, owner):
        if id(owner) not in self.before:
            for inner in getattr(owner, "_schedulers", ()):
                self.remember(inner)
            groups = [dict(group) for group in getattr(owner, "param_groups", ())]
            self.before[id(owner)] = owner, dict(vars(owner)), groups

    def undo(self):
        """Put back what the host has changed for a step that was not made."""
        for owner, values, groups in self.before.values():
            vars(owner).update(values)
            for group, old in zip(getattr(owner, "param_groups", ()), groups):
                group.update(old)
        for generator, base, _, _ in self.streams.values():
            generator.counter = base

    def stands(self):
        """Whether the graph still does what the step would."""
        memory = all([p.data is array for p, array in self.parameters])
        return memory and self.found.stands() and all([f() == x for f, x in self.held])

    def repeat_host(self):
        """What the host does in a step, in the same order."""
        for function, place in self.actions:
            x = function()
            if place is not None:
                self.numbers.host[place] = x
        for generator, _, place, blocks in self.streams.values():
            self.places.host[place] = generator.reserve(4 * blocks)[2]

    def send(self):
        self.numbers.send()
        self.places.send()

    def launched(self):
        for _, _, place, blocks in self.streams.values():
            self.places.known[place] = (int(self.places.known[place]) + blocks) % 2**64
        for memory in self.written:
            if memory() is not None:
                wrote(memory())
        self.gradients.leave()


class Table:
    """Numbers of the host that a graph reads: `host` what they should be, `known` what the card has."""

    def __init__(self, driver, dtype):
        self.driver, self.array = driver, driver.arrays.zeros(ROOM, dtype)
        self.host, self.known, self.used = np.zeros(ROOM, dtype), np.zeros(ROOM, dtype), 0

    def take(self, x):
        """A place with x in it."""
        if self.used == ROOM:
            raise CaptureError(f"capture: a step asks for more than {ROOM} numbers of the host")
        self.host[self.used] = x
        self.used += 1
        return self.used - 1

    def at(self, place):
        return self.array[place : place + 1].reshape(())

    def send(self):
        """Bring the card's numbers to the host's, in one small copy if any differs."""
        n = self.used
        if (self.host[:n] != self.known[:n]).any():
            self.driver.put(self.array[:n], self.host[:n])
            self.known[:n] = self.host[:n]


@contextlib.contextmanager
def capturing(recorder):
    before, devices.capturing = devices.capturing, recorder
    try:
        yield
    finally:
        devices.capturing = before


@contextlib.contextmanager
def reading(function):
    before, clock.reader = clock.reader, function
    try:
        yield
    finally:
        clock.reader = before
