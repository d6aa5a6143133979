"""Data parallel: after each backward pass every process holds the mean of all their gradients.

An optimiser's gradients lie in flat arrays (optim/flat.py), which are cut here into buckets (bucket.py). The backward
pass reaches the last layers first; as soon as every gradient of a bucket is there, its sum over all processes begins,
and goes on while the pass works on the earlier layers (Li et al. 2020, "PyTorch Distributed", section 3.2.3).
"""

import numpy as np

from .. import device
from ..autograd import action, modes
from ..autograd.graph import Node, edge
from ..errors import ArgumentError, DistributedError, expect
from ..tensor import wrap
from .bucket import BUCKET, bring_home, check_type, cut
from .zero import ShardedFlat


class DataParallel:
    """Averages gradients over a group: `with DataParallel(model, optimizer, group): loss.backward()`.

    At the end of the block every `p.grad` is the mean over the processes, so `clip_grad_norm_` and `optimizer.step()`
    do the same everywhere, and the copies of the model stay equal to the bit. If the loss is a mean over the rows, it
    is the gradient of the whole batch. A parameter that some processes did not use has gradient zero there; one that
    nobody used keeps None. With a ShardedOptimizer each process receives only its part of the mean, and `p.grad` is
    zero elsewhere.

    Outside the block nothing is sent. So gradients of several batches are added up by calling backward() on all but
    the last before it (`no_sync` in PyTorch). Batch norm takes its statistics from each process's own rows: see
    `SyncBatchNorm`. Behind a checkpointed block (autograd.checkpoint) nothing is known of what will arrive, and all is
    sent at the end.

    Raises DistributedError if the models differ in shape between processes.
    """

    def __init__(self, model, optimizer, group, bucket=BUCKET):
        expect(bucket > 0, "DataParallel: bucket is a number of bytes above 0", bucket, error=ArgumentError)
        self.group, self.optimizer, self.size = group, optimizer, bucket
        if group.size == 1:
            return
        self.order = {id(p): i for i, p in enumerate(model.parameters())}
        self.flats = []
        self._same_everywhere(model)
        group.broadcast(model)

    def __enter__(self):
        if self.group.size > 1:
            self._start()
            self.before = modes.watcher
            modes.watcher = self if modes.tape is None else None
        return self

    def __exit__(self, kind, *_):
        if self.group.size > 1:
            modes.watcher = self.before
            if kind is None:
                self._finish() if modes.tape is None else self._all_at_once()

    # What the walk tells us

    def begin(self, roots):
        """A walk starts: count the places from which each parameter will receive a part of its gradient."""
        self.passes += 1
        expect(
            self.passes == 1,
            "DataParallel: a second backward() in one block, when gradients of the first are on their way",
            error=DistributedError,
            hint="to add up several, call all but the last before `with parallel:`",
        )
        self.uses = _uses([edge(y) for y, _ in roots])
        if self.uses:
            for unused in [p for p in self.params if id(p) not in self.uses]:
                self._complete(unused)

    def arrived(self, leaf):
        """A part of a parameter's gradient has been added to `leaf.grad`."""
        left = self.uses.get(id(leaf), 0) - 1
        self.uses[id(leaf)] = left
        if left == 0:
            self._complete(leaf)

    @action
    def _all_at_once(self):
        """The whole of the averaging, where a step is written down to be run again (minigen.capture)."""
        self._start()
        self._finish()

    # Pieces

    def _start(self):
        if device.capturing is not None:
            device.capturing.refuse(
                "DataParallel waits for other processes",
                "capture as far as backward(); after it write `with parallel: pass`, and optimizer.step()",
            )
        self._take_stock()
        for b in self.buckets:
            b.request, b.waiting = None, set(map(id, b.params))
        self.sent = self.done = 0  # buckets
        self.home, self.uses, self.passes = set(), {}, 0

    def _take_stock(self):
        """The buckets, made anew where the optimiser has new arrays (a state was loaded, a parameter moved)."""
        flats = self.optimizer.flats()
        if len(flats) == len(self.flats) and all(a is b for a, b in zip(flats, self.flats)):
            return
        buckets = []
        for flat in flats:
            check_type(flat)
            buckets += flat.buckets if isinstance(flat, ShardedFlat) else cut(flat, self.size)
        # The first layers' gradients come last. A bucket is complete with the earliest of its parameters.
        first = lambda b: min((self.order.get(id(p), 0) for p in b.params), default=0)
        self.flats, self.buckets = flats, sorted(buckets, key=first, reverse=True)
        self.params = [p for flat in flats for p in flat.params]
        self.of = {id(p): [] for p in self.params}
        for b in self.buckets:
            for p in b.params:
                self.of[id(p)].append(b)

    def _complete(self, p):
        """A parameter's gradient is whole here."""
        for b in self.of.get(id(p), ()):
            b.waiting.discard(id(p))
        # Everyone must send the same buckets in the same order: the last layers' first, and none before its turn.
        while self.sent < len(self.buckets) and not self.buckets[self.sent].waiting:
            self._send()
        while self.done < self.sent and self.group.done(self.buckets[self.done].request, "the sum of the gradients"):
            self.done += 1

    def _send(self):
        b = self.buckets[self.sent]
        for p in b.params:
            if id(p) not in self.home:  # once: a neighbouring bucket with the rest of it may be on its way
                self.home.add(id(p))
                bring_home(p)
        begin = self.group.scatter_begun if isinstance(b.flat, ShardedFlat) else self.group.sum_begun
        b.request = begin(b.grad)
        self.sent += 1

    def _finish(self):
        """Send what is left, wait for all, and divide by the number of processes."""
        given = np.array([p.grad is not None for p in self.params], np.uint8)
        while self.sent < len(self.buckets):
            self._send()
        for b in self.buckets:
            self.group.wait(b.request, "the sum of the gradients")
            mine = b.grad
            if isinstance(b.flat, ShardedFlat):
                mine = self.group.part(b.grad)
                start = self.group.rank * len(mine)
                b.grad[:start] = 0
                b.grad[start + len(mine) :] = 0
            mine *= mine.dtype.type(1 / self.group.size)
        for p, somewhere in zip(self.params, self.group.maximum(given)):
            if somewhere and p.grad is None:
                p.grad = wrap(p.buffer)

    def _same_everywhere(self, model):
        shapes = self.group.gathered([[name, *p.shape, str(p.dtype)] for name, p in model.named_parameters()])
        odd = [rank for rank, other in enumerate(shapes) if other != shapes[0]]
        if odd:
            raise DistributedError(
                f"DataParallel: rank {', '.join(map(str, odd))} has another model than rank 0\n"
                "  build the same model in every process, with the same configuration"
            )


def _uses(stack):
    """{id of a leaf: the number of edges that lead to it} in the graph below; nothing where some of it is hidden."""
    uses, seen = {}, set()
    while stack:
        where = stack.pop()
        where = where[0] if type(where) is tuple else where
        if where is None:
            continue
        if type(where) is not Node:
            uses[id(where)] = 1 if where.hooks else uses.get(id(where), 0) + 1  # with hooks it arrives once, whole
        elif id(where) not in seen:
            seen.add(id(where))
            if where.op.hides:  # a checkpointed block: its parameters arrive uncounted, so all is sent at the end
                return {}
            stack.extend(where.edges or ())
    return uses
