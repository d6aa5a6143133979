"""Capture on the CPU: a step is written down as a list of calls on arrays, and the list is run instead of the step.

A step of a small network spends much of its time in Python: modules, tensors, nodes of the graph, the walk back. None
of that differs from one step to the next. So the first two calls run as ever and are written on a tape
(autograd/tape.py); where the two tapes agree, later calls run the entries alone: the same functions on the same
kinds of arrays in the same order, so the same numbers to the last bit.

What an entry reads is one of three things, and each is right at every replay: a value that an earlier entry made in
this replay; memory that was there before the step, read anew; a constant of the program. The danger is the fourth: an
array or a number that the step computed by other means (NumPy, `item()`, Python's random), which a replay would
repeat for ever. Arrays of that kind are new at every call, so the two tapes differ and say in which line; numbers are
seen as they leave a tensor. What nobody can see is a Python number that changes later than the second call, such as a
weight that grows from step 1000 on. Therefore every EVERYth call runs as ever again and is compared, and raises
CaptureError where the program has changed: give what changes as an argument, as a tensor.
"""

import operator
import warnings

from .. import kernels, random
from ..autograd import modes, no_grad
from ..autograd.tape import Constant, Group, Outside, Slot, Tape, group
from ..device import is_array
from ..errors import CaptureError
from ..tensor import Tensor, clock, wrap
from .found import Found

EVERY = 1000  # calls between two that are run as ever, and compared
ONCE = 32  # calls that were written down for nothing, their arguments never seen again: more are not worth it


class Replay:
    """A step that is run from its list of calls. See `minigen.capture`."""

    def __init__(self, step, strict=False):
        self.step, self.strict = step, strict
        self.programs = {}  # signature of the arguments -> Program, or a reason why there is none
        self.first = {}  # signature -> the first tape; at most ONCE of them
        self.lost = False  # whether too many signatures came once only
        self.changes = 0  # how often what it had found stood no more

    def __call__(self, *arguments, **keywords):
        if modes.anomaly:  # who hunts a NaN wants every op looked at
            return self.step(*arguments, **keywords)
        inputs, key = signature((arguments, keywords))
        program = self.programs.get(key)
        if type(program) is Program:
            if not program.tape.found.stands():
                del self.programs[key]
                self.changes += 1
            else:
                program.calls += 1
                if program.calls % EVERY:
                    return program.run(inputs)
        elif program is not None or (self.lost and key not in self.first):
            return self.step(*arguments, **keywords)
        return self.written_down(key, inputs, arguments, keywords)

    def written_down(self, key, inputs, arguments, keywords):
        """Run the step as ever and write it down. From the second time on there is a program."""
        tape = Tape()
        result = recorded(tape, self.step, inputs, arguments, keywords)
        before = self.programs.get(key)
        if before is not None:
            why = tape.refused or difference(before.tape, tape)
            if why is not None:
                raise CaptureError(
                    f"capture: the step is no longer the one that was captured\n  {why}\n"
                    f"  what changes from call to call must be an argument of the step, as a tensor"
                )
        elif tape.refused is not None:
            self.refuse(key, tape.refused)
        elif self.changes >= ONCE:
            self.refuse(
                key, "modules change their mode, their hooks or their tensors between its calls, again and again"
            )
        elif key not in self.first or not self.first[key].found.stands():
            self.changes += key in self.first
            self.first[key] = tape
            if len(self.first) == ONCE:
                self.lost = True
                self.refuse(
                    key,
                    f"{ONCE} calls had arguments that came once only: other shapes, or other numbers of Python\n"
                    "  give what changes from call to call as a tensor, of one shape",
                )
        else:
            why = difference(self.first.pop(key), tape)
            if why is None:
                self.programs[key] = Program(tape)
            else:
                self.refuse(key, why)
        return result

    def refuse(self, key, why):
        if self.strict:
            raise CaptureError(f"capture: this step cannot be captured\n  {why}")
        self.programs[key] = why
        warnings.warn(f"capture: this step runs as it is, not captured\n  {why}", stacklevel=4)


def recorded(tape, step, inputs, arguments, keywords):
    """What the step returns, while it is written on `tape`."""
    tape.inputs = [tape.add_input(array) for array in inputs]
    readers = clock.reader, clock.gradients, random.drawn
    before = modes.use_tape(tape)
    clock.reader, clock.gradients, random.drawn = tape.read, tape, tape.drew
    try:
        with Found() as tape.found:
            result = step(*arguments, **keywords)
            tape.found.tensors = list(tape.leaves.values())
    finally:
        modes.use_tape(before)
        clock.reader, clock.gradients, random.drawn = readers
    tape.result = returned(tape, result)
    tape.close()
    return result


def returned(tape, result):
    """How the step's result is made of slots: tensors become tensors without a graph."""
    if type(result) in (tuple, list, dict):
        return group(result, lambda x: returned(tape, x))
    if isinstance(result, Tensor):
        inside = tape.reference(result.data)
        if type(inside) is Outside and id(result) not in tape.leaves:
            tape.refuse("a tensor that the step returns was not made by an op")
        return Group("tensor", wrap, [inside])
    if result is not None:
        tape.refuse(f"the step returns {type(result).__name__}: return tensors, and read numbers from them outside")
    return Constant(result)


def signature(arguments):
    """The arrays in the arguments, in order, and a key of their shapes and types, of everything else, and of the blocks
    that the call stands in: no_grad, autocast, kernels.disabled.
    """
    region = modes.mode.autocast
    arrays, key = [], [modes.mode.recording, kernels.enabled(), None if region is None else str(region.dtype)]
    _look(arguments, arrays, key)
    return arrays, tuple(key)


def _look(x, arrays, key):
    if isinstance(x, Tensor):
        key.append(("tensor", x.requires_grad))
        x = x.data
    if is_array(x):
        arrays.append(x)
        key.append((x.shape, x.dtype.str))
    elif isinstance(x, (tuple, list)):
        key.append((type(x).__name__, len(x)))
        for one in x:
            _look(one, arrays, key)
    elif isinstance(x, dict):
        key.append(tuple(x))
        for one in x.values():
            _look(one, arrays, key)
    else:
        key.append(Constant(x).key)


def difference(one, other):
    """Why the second tape cannot stand for the first; None if they are the same."""
    for a, b in zip(one.entries, other.entries):
        if a.key == b.key:
            continue
        if a.name != b.name:
            return f"one call of it does {a.name} where another does {b.name}\n  {b.where or ''}".rstrip()
        for x, y in zip(a.arguments, b.arguments):
            if x.key != y.key:
                return f"{b.name}: {what_differs(x, y)}\n  {b.where or ''}".rstrip()
        return f"{b.name}: it is called otherwise each time"
    if len(one.entries) != len(other.entries):
        return f"one call of it makes {len(one.entries)} arrays, another {len(other.entries)}"
    return None if one.result.key == other.result.key else "it returns something else each time"


def what_differs(x, y):
    if type(x) is Group and type(y) is Group and len(x.parts) == len(y.parts):
        return next((what_differs(a, b) for a, b in zip(x.parts, y.parts) if a.key != b.key), "it is built otherwise")
    if type(x) is Outside and type(y) is Outside:
        return (
            f"an array of shape {y.array.shape} is another one at each call, and no op made it: compute it by ops on "
            "tensors, or give it as an argument of the step"
        )
    if type(x) is Constant and type(y) is Constant:
        return f"an argument is {x.value!r} in one call and {y.value!r} in another: give it as a tensor"
    return "an argument comes from another place in each call"


class Program:
    """The entries of a tape, as calls on a list of values.

    Values live in one list: constants and outside memory from the start, inputs and what entries make at each run. A
    call is (function, what it takes from the list, where its result goes, what nobody needs after it).
    """

    def __init__(self, tape):
        self.tape, self.calls = tape, 0
        self.values = [None] * tape.count
        self.constants = {}
        self.code, self.names = [], []
        for entry in tape.entries:
            places = [self.place(a) for a in entry.arguments]
            where = slice(entry.first, entry.first + entry.count) if entry.unpacks else entry.first
            self.add(entry.name, entry.function, places, where)
        self.result, self.fixed = self.place(tape.result), fixed(tape.result)
        self.inputs = [slot.index for slot in tape.inputs]
        self.release()
        self.code = [(f, taking(places), where, dead) for f, places, where, dead in self.code]

    def place(self, reference):
        """Where in the list the value of a reference stands; a Group becomes a call that builds it."""
        if type(reference) is Slot:
            return reference.index
        if type(reference) is Group and not all([fixed(part) for part in reference.parts]):
            places = [self.place(part) for part in reference.parts]
            self.values.append(None)
            return self.add("group", reference.build, places, len(self.values) - 1)
        if reference.key not in self.constants:
            self.constants[reference.key] = len(self.values)
            self.values.append(value_of(reference))
        return self.constants[reference.key]

    def add(self, name, function, places, where):
        self.names.append(name)
        self.code.append([function, places, where, ()])
        return where

    def release(self):
        """For each call, the places that no later call reads: they are emptied, so that memory is freed as ever."""
        needed = {self.result, *self.constants.values()}
        for call in reversed(self.code):
            _, places, where, _ = call
            made = range(where.start, where.stop) if type(where) is slice else [where]
            call[3] = tuple([p for p in dict.fromkeys([*places, *made]) if p not in needed])
            needed.update(places)

    def run(self, inputs):
        """What the step returns."""
        values = self.values
        for place, array in zip(self.inputs, inputs):
            values[place] = array
        with no_grad():
            for function, take, where, dead in self.code:
                values[where] = function(*take(values))
                for place in dead:
                    values[place] = None
        result = values[self.result]
        if not self.fixed:
            values[self.result] = None
        return result


def taking(places):
    """A function of the list of values that gives those at `places`, as something to be starred."""
    if not places:
        return operator.itemgetter(slice(0, 0))
    return operator.itemgetter(*places) if len(places) > 1 else operator.itemgetter(slice(places[0], places[0] + 1))


def fixed(reference):
    return type(reference) in (Constant, Outside) or (type(reference) is Group and all(map(fixed, reference.parts)))


def value_of(reference):
    if type(reference) is Constant:
        return reference.value
    if type(reference) is Outside:
        return reference.array
    return reference.build(*map(value_of, reference.parts))
