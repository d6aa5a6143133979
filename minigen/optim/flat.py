"""Parameters in one array, their gradients in another.

An optimiser updates every number by the same formula, so a few passes over one long array do the work of thousands of
small calls; clipping, averaging and sending gradients to another process are one pass each, too. A `Flat` takes over
parameters of one type and device: each `p.data` becomes a view of its `data`, and each `p.buffer` a view of its
`grad`, where the backward pass leaves gradients (see `accumulate` in autograd/walk.py).

A user may still give a parameter new memory or a gradient of his own, or none: `stretches` looks at each parameter,
brings its numbers home if they have moved, and leaves out those without a gradient.
"""

import math
import weakref

import numpy as np

from .. import device
from ..device import xp
from ..errors import expect
from ..tensor import owner
from .counter import Counter, counted

ALIGN = 16  # elements: every parameter starts at a multiple of 64 bytes, as vector loads on both devices like it


def layout(shapes):
    """(starts, total): where arrays of these shapes stand in one long array. The gaps between them hold zeros."""
    starts, end = [], 0
    for shape in shapes:
        starts.append(end)
        end += -(-math.prod(shape) // ALIGN) * ALIGN
    return starts, end


def views(flat, shapes):
    """One view of `flat` for each shape."""
    starts, _ = layout(shapes)
    return [flat[a : a + math.prod(shape)].reshape(shape) for a, shape in zip(starts, shapes)]


class Record:
    """What is known of a parameter beside its arrays: numbers (`step`), and which arrays of state it has."""

    __slots__ = ("names", "numbers")

    def __init__(self, numbers=(), names=()):
        self.numbers = dict(numbers)
        self.names = tuple(names)

    def __eq__(self, other):
        return self.numbers == other.numbers and self.names == other.names

    __hash__ = None


NOTHING = Record()


class Flat:
    """Parameters of one type and device, moved into one array. Its length is a multiple of `multiple`.

    data, grad    (n,) the parameters and their gradients
    arrays        {name: (n,) array} the optimiser's state that has the parameters' shapes
    own           for each parameter {name: array} the state that has another shape
    records       for each parameter a Record; those with the same past share one
    skip          a device number; where it is not 0 the step that is being made is left out (see amp.GradScaler)
    """

    skip = None

    def __init__(self, params, multiple=1):
        self.params = params
        self.shapes = [p.shape for p in params]
        self.starts, size = layout(self.shapes)
        size = -(-size // multiple) * multiple
        first = params[0].data
        self.dtype, self.xp = first.dtype, xp(first)
        self.data = self.xp.zeros(size, self.dtype)
        self.grad = self.xp.zeros(size, self.dtype)
        self.views = views(self.data, self.shapes)
        self.arrays, self.fills = {}, {}
        self.own = [{} for _ in params]
        self.records = [NOTHING] * len(params)
        for i, buffer in enumerate(views(self.grad, self.shapes)):
            self.take_over(i)
            had = params[i].grad
            params[i].buffer = buffer
            if had is not None and had.node is None:
                buffer[...] = had.data
                had.data = buffer

    def take_over(self, i):
        """Make parameter i's data a view of ours, with the numbers it has."""
        p = self.params[i]
        expect(p.shape == self.shapes[i], f"optimizer: a parameter of shape {self.shapes[i]} has become {p.shape}")
        self.views[i][...] = p.data
        p.data = self.views[i]

    def has_moved(self):
        """Whether a parameter was moved to another type or device since."""
        return any(
            p.data is not view and (p.data.dtype != self.dtype or xp(p.data) is not self.xp)
            for p, view in zip(self.params, self.views)
        )

    def array(self, name, fill=0.0):
        """The state called `name` in the parameters' layout, made at first use."""
        if name not in self.arrays:
            if device.capturing is not None:
                device.capturing.refuse_new(f"an optimiser makes its state {name!r}")
            self.arrays[name], self.fills[name] = self.xp.full(len(self.data), fill, self.dtype), fill
        return self.arrays[name]

    def bring_home(self, i):
        """See that parameter i's numbers and gradient stand in our arrays."""
        p = self.params[i]
        if p.data is not self.views[i]:
            self.take_over(i)
        if p.buffer is None or p.buffer.base is not self.grad:
            a = self.starts[i]
            p.buffer = self.grad[a : a + math.prod(p.shape)].reshape(p.shape)
        if p.grad.data is not p.buffer:
            p.buffer[...] = p.grad.data

    def stretches(self, alone=False):
        """The parameters that have a gradient, as Stretches: neighbours with the same past together, unless `alone`."""
        found = []
        for i, p in enumerate(self.params):
            if p.grad is None:
                continue
            self.bring_home(i)
            last = found[-1] if found else None
            if (
                last is not None
                and not alone
                and last[1] == i
                and (self.records[i] is self.records[i - 1] or self.records[i] == self.records[i - 1])
            ):
                last[1] = i + 1
            else:
                found.append([i, i + 1])
        return [Stretch(self, i, j, alone) for i, j in found]

    # State by parameter, as PyTorch keeps it

    def state_of(self, i):
        """{name: number or array} of parameter i; empty before its first update."""
        record, p = self.records[i], self.params[i]
        a = self.starts[i]
        state = {k: v.array if isinstance(v, Counter) else v for k, v in record.numbers.items()}
        for name in record.names:
            if name in self.own[i]:
                state[name] = self.own[i][name]
            else:
                state[name] = self.arrays[name][a : a + math.prod(p.shape)].reshape(self.shapes[i])
        return state

    def put_state(self, i, numbers, arrays, own):
        """Give parameter i this state: {name: number}, {name: array of its shape}, {name: array of another}."""
        a, shape = self.starts[i], self.shapes[i]
        for name, array in arrays.items():
            expect(
                array.shape == shape, f"optimizer: the state {name!r} of a parameter {shape} has another shape", array
            )
            self.array(name)[a : a + math.prod(shape)] = self.xp.asarray(array).reshape(-1)
        self.own[i] = {name: self.xp.array(array, self.dtype) for name, array in own.items()}
        self.records[i] = Record(numbers, [*arrays, *own])


class Stretch:
    """Neighbouring parameters that are updated in one go.

    p, g       their numbers and gradients: flat, or of the parameter's shape if it is `alone`
    s[name]    their state of that name, in the same form: zeros at first. `name in s` says whether it is new
    step       how many updates they have had, with this one: an int, or a device array (see Counter)
    skip       that of the Flat
    """

    def __init__(self, flat, first, end, alone=False):
        self.flat, self.first, self.end = flat, first, end
        a = flat.starts[first]
        b = flat.starts[end - 1] + math.prod(flat.shapes[end - 1])
        self.span = slice(a, b)
        self.shape = flat.shapes[first] if alone else (b - a,)
        self.p = flat.data[a:b].reshape(self.shape)
        self.g = flat.grad[a:b].reshape(self.shape)
        record = flat.records[first]
        self.record = Record(record.numbers, record.names)
        steps = self.record.numbers["step"] = counted(record.numbers.get("step", 0), flat)
        self.step = steps.array if isinstance(steps, Counter) else steps
        self.skip = flat.skip
        for i in range(first, end):
            flat.records[i] = self.record

    def __contains__(self, name):
        return name in self.record.names

    def __getitem__(self, name):
        return self.state(name)

    def state(self, name, fill=0.0):
        """The state `name`, filled with `fill` at first."""
        whole = self.flat.array(name, fill)[self.span].reshape(self.shape)
        if name not in self.record.names:
            whole[...] = fill
            self.record.names += (name,)
        return whole

    def own(self, name, shape):
        """State of one parameter alone in a shape of its own, zeros at first."""
        mine = self.flat.own[self.first]
        if name not in mine:
            mine[name] = self.flat.xp.zeros(shape, self.flat.dtype)
            self.record.names += (name,)
        return mine[name]

    @property
    def on_device(self):
        """Whether numbers that change from step to step are device arrays."""
        return not isinstance(self.step, int)

    def device_only(self, *values):
        """`values` where numbers are device arrays; nothing elsewhere: arguments that only CUDA kernels take."""
        return values if self.on_device else ()

    def number(self, x):
        """x, computed from arrays, as a Python number, or as it is where the host must not read it."""
        return x if self.on_device or type(x).__module__.startswith("cupy") else float(x)

    def product(self, name, factor):
        """The number `name`, 1 at first, times `factor`: in float32, as PyTorch keeps it."""
        before = self.record.numbers.get(name, 1.0)
        if self.skip is not None:
            factor = self.flat.xp.where(self.skip != 0, 1.0, factor)
        if not self.on_device:
            self.record.numbers[name] = float(np.float32(before) * np.float32(factor))
        elif isinstance(before, float):
            self.record.numbers[name] = self.flat.xp.full((), before, np.float32) * factor
        else:
            before *= factor
        return self.record.numbers[name]


_spread = {}  # id of an array of gradients -> (a reference that keeps the id true, the processes that share it)


def spread(array, group):
    """Note that each process of a distributed.Group has a part of these gradients, and zeros in place of the rest."""
    key = id(array)
    _spread[key] = weakref.ref(array, lambda _: _spread.pop(key, None)), group


def spread_over(row):
    """The group over whose processes these gradients are spread; None where they are whole here."""
    return _spread.get(id(owner(row)), (None, None))[1]


def merged(*columns):
    """Lists of arrays, side by side, as few long rows: neighbours in flat arrays stand in one.

    for g, s in merged(gradients, shadows): ...      g and s have one shape; writing to them writes to the arrays

    The gaps between neighbours in a Flat belong to the rows: they hold zeros, and must do so after the work.
    """
    rows, origins = [], {}
    for arrays in zip(*columns):
        places = [_place(array, origins) for array in arrays]
        if rows and _follows(rows[-1][1], places):
            rows[-1][1] = [(base, start, end) for (base, start, _), (_, _, end) in zip(rows[-1][1], places)]
        else:
            rows.append([arrays, places])
    return [
        arrays if None in places else tuple([base[start:end] for base, start, end in places]) for arrays, places in rows
    ]


def _place(array, origins):
    """(flat array, start, end) of a view of a flat array; None for any other array. origins: {id: address}, a cache."""
    base = array.base
    if base is None or getattr(base, "ndim", 0) != 1 or base.dtype != array.dtype or not array.flags.c_contiguous:
        return None
    origin = origins.get(id(base)) or origins.setdefault(id(base), address(base))
    start = (address(array) - origin) // array.itemsize
    return base, start, start + array.size


def address(array):
    return array.__array_interface__["data"][0] if type(array) is np.ndarray else array.data.ptr


def _follows(before, places):
    """Whether each place comes right after the one before it, but for the same gap everywhere."""
    if None in before or None in places:
        return False
    gap = places[0][1] - before[0][2]
    same = all(b[0] is a[0] and b[1] - a[2] == gap for a, b in zip(before, places))
    return same and 0 <= gap < ALIGN
