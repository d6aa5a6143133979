"""A tape: what a step computed, in order, written so that it can be computed again without the engine.

While a tape is in use (`modes.tape`) the engine writes an Entry for everything that makes an array: the forward of an
op that is called on tensors, a gradient rule, an addition of two gradients, a gradient's arrival at its leaf. What else
a step may do stands in functions marked @action (an optimiser's step, random numbers, a write in place): each is one
entry, whatever happens inside. Nothing else makes an array that an entry may use, except the memory that was there
before the step: an array from nowhere is a fault that whoever compares two tapes can see (capture/replay.py).

An Entry's arguments are written as what they were:

    Slot(i)         what an earlier entry made, or an input of the step
    Outside(array)  memory that was there before: parameters, buffers, data. Read again at each replay
    Constant(x)     a number, a string, None, an object; Python wrote it down in the step
    Group(...)      a tuple, list, dictionary, slice or tensor with one of these inside
"""

import functools
import sys
import threading
import types
import weakref
from collections.abc import Hashable

import numpy as np

from ..device import is_array
from ..tensor import Tensor, value, wrap
from . import modes
from .bfloat16 import kept
from .walk import accumulate, free_memory

RAGGED = "masked_select", "nonzero", "unique"  # ops whose result has another shape for other numbers
BY_INDEX = "getitem", "pick", "put", "put_add"  # those that do so if an index is a mask


class Slot:
    """The value number i of the step."""

    __slots__ = ("index",)

    def __init__(self, index):
        self.index = index

    @property
    def key(self):
        return "slot", self.index


class Outside:
    """An array that the step found. `array` is a view of its own, which keeps the memory alive."""

    __slots__ = ("array", "key")

    def __init__(self, array):
        self.array = array.view()
        memory = getattr(array, "__array_interface__", None) or array.__cuda_array_interface__
        self.key = "outside", memory["data"][0], array.shape, array.strides, array.dtype.str


class Constant:
    """Anything else. Two are the same if they are equal and of one type; tensors, if they are one object."""

    __slots__ = ("key", "value")
    PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic, np.dtype, type)

    def __init__(self, value):
        self.value = value
        if isinstance(value, self.PLAIN):  # by its text: NaN is NaN, and 1.0 is not 1
            same = repr(value)
        else:
            same = id(value) if isinstance(value, Tensor) or not isinstance(value, Hashable) else value
        self.key = "constant", type(value), same


class Group:
    """Several in one: `build(*parts)` gives the tuple, list, dictionary, slice or tensor."""

    __slots__ = ("build", "key", "parts")

    def __init__(self, kind, build, parts):
        self.build, self.parts = build, parts
        self.key = ("group", kind, *[part.key for part in parts])


def group(x, reference):
    """The Group of a tuple, list or dictionary, whose parts become what `reference` gives."""
    if type(x) is dict:
        names = tuple(x)
        return Group(("dict", names), functools.partial(_dict, names), [reference(a) for a in x.values()])
    return Group(type(x).__name__, _tuple if type(x) is tuple else _list, [reference(a) for a in x])


class Entry:
    """function(*arguments) made `count` values: the slots from `first` on. `unpacks`: it returned them as a tuple."""

    __slots__ = ("arguments", "count", "first", "function", "key", "name", "unpacks", "where")

    def __init__(self, name, function, arguments, key):
        self.name, self.function, self.arguments = name, function, arguments
        self.key = name, key, tuple([a.key for a in arguments])
        self.where = calling_line()


class Tape:
    """Writes down what this thread computes while it is in use (`modes.use_tape`).

    entries     what was computed
    leaves      {id: tensor} of the leaves that were used
    refused     why the step cannot be run again, with the line; None if it can
    """

    def __init__(self):
        self.thread = threading.get_ident()
        self.entries, self.leaves, self.refused = [], {}, None
        self.count = 0  # of slots
        self.known = {}  # id of a living value -> its slot
        self.kept = []  # what keeps `known` true: values that cannot be watched dying, and the watches of the others
        self.nodes = {}  # order of a node -> the slots or values of [*arguments, y, *saves]

    # What the engine tells

    def forward(self, op, given, values):
        """`op` was called on `given`, tensors among them; values: [*arguments, y, *saves] as it computed with them."""
        arity, function = op.arity, op.forward
        for x in given:
            if isinstance(x, Tensor) and x.node is None and id(x.data) not in self.known:
                self.leaves[id(x)] = x
        given = [value(x) for x in given]
        if not all([a is b for a, b in zip(given, values)]):  # they were brought to one type first
            entry = self.write(f"types for {op.name}", op._agree, [group(given, self.reference)], id(op))
            self.made(entry, values[:arity], True)
        if op.name in RAGGED or (op.name in BY_INDEX and _has_mask(given[1:])):
            self.refuse(f"the shape of what {op.name} gives depends on the numbers")
        y = values[arity]
        if modes.bfloat16:
            function = functools.partial(_kept, op)
        if op.plain and type(y) is np.ndarray and y.ndim == 0:
            function = functools.partial(_as_array, function)
        several = op.outputs > 1 or bool(op.saves)
        outputs = [*y, *values[arity + 1 :]] if op.outputs > 1 else values[arity:]
        entry = self.write(op.name, function, [self.reference(x) for x in values[:arity]], id(op))
        self.made(entry, outputs, several)

    def variadic(self, op, arrays, keywords, y):
        function = functools.partial(_with_keywords, op.forward, tuple(keywords))
        arguments = [*arrays, *keywords.values()]
        entry = self.write(op.name, function, [self.reference(x) for x in arguments], (id(op), tuple(keywords)))
        self.made(entry, [y], False)

    def node(self, node, values):
        """`node` is of the last op: `values` as in `forward`. Rules pick from them by place."""
        entry = self.entries[-1]
        outputs = [Slot(entry.first + i) for i in range(entry.count)]
        if node.op.outputs > 1:
            n = node.op.outputs
            outputs = [Group("tuple", _tuple, outputs[:n]), *outputs[n:]]
        self.nodes[node.order] = [*entry.arguments, *outputs]

    def rule(self, node, index, rule, sources, g, saved, asked):
        """Run a gradient rule and write it down. Returns what it returned."""
        places = self.nodes[node.order]
        arguments = [self.reference(g)]
        for place, x in zip(sources.places, saved):
            arguments.append(self.reference(x) if isinstance(place, tuple) else places[place])
        function = rule
        key = (id(node.op), index)
        if asked:
            needs, into = asked["needs"], asked.get("into")
            room = None if into is None else tuple([w if has_memory(w) else None for w in node.edges])
            function = functools.partial(_with_asked, rule, needs, room)
            key = (*key, needs, None if room is None else tuple(map(id, room)))
        result = self.running(rule, g, *saved, **asked)
        entry = self.write(f"{node.name}'s gradient", function, arguments, key)
        several = type(result) in (tuple, list)
        self.made(entry, list(result) if several else [result], several)
        return result

    def variadic_rule(self, node, rule, g, saved):
        names = tuple(saved)
        function = functools.partial(_with_names, rule, names)
        arguments = [self.reference(x) for x in (g, *saved.values())]
        result = tuple(self.running(rule, g, **saved))
        entry = self.write(f"{node.name}'s gradient", function, arguments, (id(node.op), names))
        self.made(entry, list(result), True)
        return result

    def arrived(self, leaf, g):
        """Let a gradient arrive at a leaf."""
        if isinstance(g, Tensor) and g.requires_grad:
            self.refuse("a gradient that is itself part of a graph is kept in .grad")
        self.perform(_arrival, leaf, value(g))

    def arrives(self, leaf):
        """`arrived` comes next."""

    def is_set(self, tensor, g):
        """The program writes tensor.grad = g."""
        if modes.tape_here() is self and tensor.node is None and id(tensor.data) not in self.known:
            self.perform(_set_gradient, tensor, g)

    def perform(self, function, *arguments, **keywords):
        """Run `function` as one entry. Returns what it returned: an array, a tensor, a tuple, or nothing."""
        arguments = [list(a) if isinstance(a, types.GeneratorType) else a for a in arguments]
        references = [self.reference(a) for a in (*arguments, *keywords.values())]
        names = tuple(keywords)
        result = self.running(function, *arguments, **keywords)
        call = functools.partial(_with_keywords, function, names) if names else function
        name = getattr(function, "__qualname__", function.__name__).rsplit(".<locals>.")[-1]
        entry = self.write(name, call, references, (id(getattr(function, "__func__", function)), names))
        if isinstance(result, Tensor):
            if result.node is not None:
                self.refuse(f"{name} gives a tensor that a gradient flows through")
            entry.function = functools.partial(_data_of, call)
            self.made(entry, [result.data], False)
        elif type(result) is tuple and any(map(is_array, result)):
            self.made(entry, list(result), True)
        else:
            self.made(entry, [result], False)
        return result

    def running(self, function, *arguments, **keywords):
        """function(...), with nothing written of what happens inside."""
        modes.use_tape(None)
        try:
            return function(*arguments, **keywords)
        finally:
            modes.use_tape(self)

    def close(self):
        """The step is over: let go of all that only writing needs."""
        self.known.clear()  # not only let go of: its watches look at it, and it holds them
        self.kept, self.nodes = [], {}

    # Writing

    def write(self, name, function, arguments, key):
        entry = Entry(name, function, arguments, key)
        self.entries.append(entry)
        return entry

    def made(self, entry, values, unpacks):
        """Give slots to what an entry made."""
        entry.first, entry.count, entry.unpacks = self.count, len(values), unpacks
        self.count += len(values)
        for i, x in enumerate(values):
            self.know(x, entry.first + i)

    def add_input(self, array):
        slot = Slot(self.count)
        self.count += 1
        self.know(array, slot.index)
        self.kept.append(array)
        return slot

    def know(self, x, index):
        if isinstance(x, np.generic) or type(x) is tuple:
            self.kept.append(x)
        elif is_array(x):
            known, key = self.known, id(x)
            self.kept.append(weakref.ref(x, lambda dead: known.get(key, (0, 0))[1] is dead and known.pop(key)))
            known[key] = index, self.kept[-1]
            return
        else:
            return
        self.known[id(x)] = index, None

    def reference(self, x):
        """How an entry names the argument x."""
        found = self.known.get(id(x))
        if found is not None:
            return Slot(found[0])
        if isinstance(x, Tensor):
            if id(x.data) in self.known:
                return Group("tensor", wrap, [Slot(self.known[id(x.data)][0])])
            self.leaves[id(x)] = x
            return Constant(x)
        if is_array(x):
            return Outside(x)
        if type(x) in (tuple, list, dict):
            return group(x, self.reference)
        if type(x) is slice:
            return Group("slice", slice, [self.reference(a) for a in (x.start, x.stop, x.step)])
        return Constant(x)

    def refuse(self, why):
        """Note why this step cannot be run again: the first reason stands."""
        if self.refused is None:
            self.refused = f"{why}\n  {calling_line()}"

    # What the step may not do outside of entries

    def read(self, what):
        if modes.tape_here() is self and not _inside_forward():
            self.refuse(f"{what} hands a number to Python, which a replay would not see change")

    def drew(self):
        if modes.tape_here() is self and not _inside_forward():
            self.refuse("random numbers are drawn outside of ops")


def action(function):
    """Mark a function that a step may call as one entry of a tape, whatever it does inside."""

    @functools.wraps(function)
    def call(*arguments, **keywords):
        tape = None if modes.tape is None else modes.tape_here()
        if tape is None or _inside_forward():
            return function(*arguments, **keywords)
        return tape.perform(function, *arguments, **keywords)

    return call


# ---- how entries are called again ----


def _kept(op, *arguments):
    return kept(op, arguments, op.forward(*arguments))


def _as_array(function, *arguments):
    return np.asarray(function(*arguments))


def _data_of(function, *arguments):
    return function(*arguments).data


def _with_keywords(function, names, *arguments):
    first = len(arguments) - len(names)
    return function(*arguments[:first], **dict(zip(names, arguments[first:])))


def _with_names(rule, names, g, *saved):
    return tuple(rule(g, **dict(zip(names, saved))))


def _with_asked(rule, needs, leaves, g, *saved):
    if leaves is None:
        return rule(g, *saved, needs=needs)
    return rule(g, *saved, needs=needs, into=tuple([None if x is None else free_memory(x) for x in leaves]))


def _arrival(leaf, g):
    accumulate(leaf, g)
    return leaf.grad.data


def _set_gradient(leaf, g):
    leaf.grad = g


def has_memory(edge):
    """Whether an edge leads to a leaf whose optimiser has memory for its gradient."""
    return isinstance(edge, Tensor) and edge.buffer is not None


def _tuple(*parts):
    return parts


def _list(*parts):
    return list(parts)


def _dict(names, *parts):
    return dict(zip(names, parts))


def _has_mask(arguments):
    return any([getattr(getattr(x, "dtype", None), "kind", "") == "b" for a in arguments for x in _flat(a)])


def _flat(x):
    return [b for a in x for b in _flat(a)] if isinstance(x, (tuple, list)) else [x]


# ---- where in the program ----


def calling_line():
    """file:line of the innermost frame outside of this package, with its text."""
    import linecache

    frame = sys._getframe(1)
    passed = __name__.partition(".")[0], "contextlib"
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in passed:
        frame = frame.f_back
    if frame is None:
        return "an unknown place"
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"


def _inside_forward():
    """Whether an op's forward is running now: what it draws is drawn again when the forward is run again."""
    from .op import Binary, Op
    from .walk import Walk

    forwards = {Op.__call__.__code__, Op._call_variadic.__code__, Binary.__call__.__code__}
    plain = {Op._by_definition.__code__, Walk.differentiate.__code__}
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code in plain:
            return False
        if frame.f_code in forwards:
            return True
        frame = frame.f_back
    return False
