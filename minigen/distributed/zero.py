"""ZeRO, stage 1: each process keeps the optimiser's state of its own part of the parameters, and updates that part.

Adam keeps two numbers for each parameter, and N processes of data parallel training keep N copies of both. But the
update of one number needs no other, so it is enough that one process does it (Rajbhandari et al. 2020, "ZeRO",
section 5.1). A step is then

    reduce-scatter   each process receives the mean gradient of its part (in DataParallel, while backward goes on)
    update           of that part, with that part's state
    all-gather       the new parameters of all parts to all

which sends as many bytes as the all-reduce that it replaces: an all-reduce is a reduce-scatter and an all-gather.
"""

import math

from .. import device
from ..autograd import action
from ..device import is_array
from ..errors import ArgumentError, expect
from ..optim.flat import ALIGN, NOTHING, Flat, spread
from ..optim.optimizer import Optimizer
from ..tensor import wrote
from .bucket import BUCKET, check_type, cut, places


class ShardedOptimizer(Optimizer):
    """An optimiser whose state is spread over a group: `ShardedOptimizer(optim.AdamW(...), group)`, for DataParallel.

    Takes the steps of the optimiser that it is given, and takes over its groups (schedules may hold either) and its
    state. `step`, `state` and `state_dict` are called by all processes. The state is that of one process, whole, and
    only rank 0 has it: what it saves may be loaded by any number of processes, or without any of this.

    Raises ArgumentError for an optimiser that looks at whole matrices (Muon, Adafactor).
    """

    def __init__(self, optimizer, group, bucket=BUCKET):
        name = type(optimizer).__name__
        expect(isinstance(optimizer, Optimizer), "ShardedOptimizer: takes an optimiser", optimizer, error=ArgumentError)
        expect(
            not optimizer.alone,
            f"ShardedOptimizer: {name} looks at whole parameters, which parts cut through",
            error=ArgumentError,
            hint=f"leave it whole: DataParallel takes {name} as it is",
        )
        self.optimizer, self.group, self.bucket = optimizer, group, bucket
        self.arrays, self.numbers, self.update = optimizer.arrays, optimizer.numbers, optimizer.update
        self.skips = optimizer.skips
        self.defaults, self.param_groups = optimizer.defaults, optimizer.param_groups
        self._before, self._after, self.stepped = [], [], False
        self._flats = optimizer._flats
        self._flats = [self._regrouped(i) for i in range(len(self._flats))]
        optimizer._flats = []  # its arrays are ours now

    def __repr__(self):
        return f"ShardedOptimizer({self.optimizer!r}, {self.group})"

    def _flat(self, params):
        return ShardedFlat(params, self.group, self.bucket)

    def check(self, **values):
        self.optimizer.check(**values)

    @action
    def step(self, closure=None):
        """Update this process's parts, and bring those of the others. Returns what `closure()` returns, if given."""
        if device.capturing is not None:
            device.capturing.refuse("a ShardedOptimizer waits for other processes", "call it after the captured step")
        loss = super().step(closure)
        self.optimizer.stepped = True  # for a schedule that holds it
        for flat in self.flats():
            flat.share()
        return loss

    def _undo(self, flat):
        for part in flat.parts:
            part.skip = flat.skip
        keeps = [super(ShardedOptimizer, self)._undo(part) for part in flat.parts]
        return lambda: [keep() for keep in keeps]

    @property
    def state(self):
        """{parameter: {name: tensor}} of those that were updated: of all parts, on rank 0; empty on the others."""
        found = {}
        for flat in self.flats():
            for i, p in enumerate(flat.params):
                shown = self._shown(flat.state_of(i))
                if shown and self.group.is_first:
                    found[p] = shown
        return found

    def state_dict(self):
        """As of an optimiser that is not spread. Ranks other than 0 receive the "param_groups" alone."""
        whole = super().state_dict()
        return whole if self.group.is_first else {"param_groups": whole["param_groups"]}


class ShardedFlat(Flat):
    """A Flat in whole on every process, of which each updates a part of every bucket, and has the state of that only.

    parts    this process's parts, each a Flat of pieces of parameters
    """

    def __init__(self, params, group, bucket):
        super().__init__(params, multiple=ALIGN * group.size)
        check_type(self)
        self.group, self.buckets = group, cut(self, bucket, group.size)
        self.parts, self.pieces = [], [[] for _ in params]  # pieces: of each parameter, (part, its number there)
        for b in self.buckets:
            length = (b.end - b.start) // group.size
            start = b.start + group.rank * length
            part = _Part(self, b.members, start, start + length)
            self.parts.append(part)
            for j, piece in enumerate(part.params):
                self.pieces[piece.number].append((part, j))
        if group.size > 1:
            spread(self.grad, group)

    def stretches(self, alone=False):
        for i, p in enumerate(self.params):
            if p.grad is not None:
                self.bring_home(i)
        return [s for part in self.parts for s in part.stretches()]

    def share(self):
        """Everyone's part of the parameters to all."""
        if self.group.size > 1:
            requests = [self.group.gather_begun(b.data) for b in self.buckets]
            for request in requests:
                self.group.wait(request, "the new parameters")
            wrote(self.data)

    def state_of(self, i):
        """All of a parameter's state, from all processes; called by all, and given to all."""
        mine = None
        if self.pieces[i]:
            part, j = self.pieces[i][0]
            names = part.records[j].names
            numbers = {name: x for name, x in part.state_of(j).items() if name not in names}
            mine = [{name: x.item() if is_array(x) else x for name, x in numbers.items()}, list(names)]
        numbers, names = next((found for found in self.group.gathered(mine) if found), ({}, ()))
        state = dict(numbers)
        for name in names:
            whole = self.xp.zeros(math.prod(self.shapes[i]), self.dtype)
            for part, j in self.pieces[i]:
                piece = part.params[j]
                whole[piece.start : piece.end] = part.state_of(j)[name]
            if self.group.size > 1:
                self.group.wait(self.group.sum_begun(whole), "the optimiser's state")
            state[name] = whole.reshape(self.shapes[i])
        return state

    def put_state(self, i, numbers, arrays, own):
        """Keep this process's part of a parameter's state."""
        for name, array in arrays.items():
            fits = array.shape == self.shapes[i]
            expect(fits, f"optimizer: the state {name!r} of a parameter {self.shapes[i]} has another shape", array)
        for part, j in self.pieces[i]:
            piece = part.params[j]
            cut_out = {name: array.reshape(-1)[piece.start : piece.end] for name, array in arrays.items()}
            part.put_state(j, numbers, cut_out, own)


class _Part(Flat):
    """The numbers `start` to `end` of a Flat, which one process updates: pieces of parameters, and their state."""

    def __init__(self, flat, members, start, end):
        self.dtype, self.xp = flat.dtype, flat.xp
        self.data, self.grad = flat.data[start:end], flat.grad[start:end]
        self.params, self.starts = [], []
        where = places(flat)
        for i in members:
            a, b = max(where[i][0], start), min(where[i][1], end)
            if a < b:
                self.params.append(_Piece(flat.params[i], i, a - where[i][0], b - where[i][0]))
                self.starts.append(a - start)
        self.shapes = [p.shape for p in self.params]
        self.arrays, self.fills, self.own = {}, {}, [{} for _ in self.params]
        self.records = [NOTHING] * len(self.params)

    def bring_home(self, i):
        """The whole Flat has seen to it."""


class _Piece:
    """The numbers `start` to `end` of parameter number `number`, laid out in a row."""

    def __init__(self, parameter, number, start, end):
        self.parameter, self.number, self.start, self.end = parameter, number, start, end
        self.shape = (end - start,)

    @property
    def grad(self):
        return self.parameter.grad
