"""Data parallel: after each backward pass every process holds the mean of all their gradients.

An optimiser's gradients lie in one flat array (optim/flat.py), which is cut here into buckets. The backward pass
reaches the last layers first; as soon as every gradient of a bucket is there, its sum over all processes begins, and
goes on while the pass works on the earlier layers (Li et al. 2020, "PyTorch Distributed", section 3.2.3).
"""

import numpy as np

from ..autograd import modes
from ..autograd.graph import Node, edge
from ..errors import ArgumentError, DistributedError, expect
from ..tensor import wrap

BUCKET = 1 << 20  # bytes: long enough that the message's start costs nothing, short enough that several overlap


class DataParallel:
    """Averages gradients over a group: `with DataParallel(model, optimizer, group): loss.backward()`.

    At the end of the block every `p.grad` is the mean over the processes, so `clip_grad_norm_` and `optimizer.step()`
    do the same everywhere, and the copies of the model stay equal to the bit. If the loss is a mean over the rows, it
    is the gradient of the whole batch. A parameter that some processes did not use has gradient zero there; one that
    nobody used keeps None. Batch norm takes its statistics from each process's own rows.

    Raises DistributedError if the models differ in shape between processes.
    """

    def __init__(self, model, optimizer, group, bucket=BUCKET):
        expect(bucket > 0, "DataParallel: bucket is a number of bytes above 0", bucket, error=ArgumentError)
        self.group = group
        if group.size == 1:
            return
        self._same_everywhere(model)
        group.broadcast(model)
        self.buckets = [b for flats in optimizer._flats for flat in flats for b in _cut(flat, bucket)]
        self.of = {id(p): b for b in self.buckets for p in b.params}
        self.numbers = {id(p): i for i, p in enumerate(p for b in self.buckets for p in b.params)}

    def __enter__(self):
        if self.group.size > 1:
            for b in self.buckets:
                b.request, b.waiting = None, set(map(id, b.params))
            self.sent, self.uses, self.passes = 0, {}, 0
            self.before, modes.watcher = modes.watcher, self
        return self

    def __exit__(self, kind, *_):
        if self.group.size > 1:
            modes.watcher = self.before
            if kind is None:
                self._finish()

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

    def arrived(self, leaf):
        """A part of a parameter's gradient has been added to `leaf.grad`."""
        bucket = self.of.get(id(leaf))
        left = self.uses.get(id(leaf), 0) - 1
        self.uses[id(leaf)] = left
        if bucket is None or left:
            return
        bucket.waiting.discard(id(leaf))
        # Everyone must send the same buckets in the same order: the last layers' first, and none before its turn.
        while self.sent < len(self.buckets) and not self.buckets[self.sent].waiting:
            self._send(self.buckets[self.sent])
        for b in self.buckets[: self.sent]:
            b.request.Test()  # MPI only moves data inside its own calls

    # Pieces

    def _send(self, bucket):
        bucket.gather()
        bucket.request = self.group.sum_begun(bucket.grad)
        self.sent += 1

    def _finish(self):
        """Send what is left, wait for all, and divide by the number of processes."""
        given = np.zeros(len(self.numbers), np.uint8)
        for b in self.buckets:
            for p in b.params:
                given[self.numbers[id(p)]] = p.grad is not None
        for b in self.buckets[self.sent :]:
            self._send(b)
        for b in self.buckets:
            self.group.wait(b.request, "the sum of the gradients")
            b.grad *= b.grad.dtype.type(1 / self.group.size)
        somewhere = self.group.maximum(given)
        for b in self.buckets:
            for p in b.params:
                if somewhere[self.numbers[id(p)]] and p.grad is None:
                    p.grad = wrap(p.buffer)

    def _same_everywhere(self, model):
        shapes = repr([(name, p.shape, str(p.dtype)) for name, p in model.named_parameters()])
        others = self.group.comm.allgather(shapes)
        odd = [rank for rank, other in enumerate(others) if other != others[0]]
        if odd:
            raise DistributedError(
                f"DataParallel: rank {', '.join(map(str, odd))} has another model than rank 0\n"
                "  build the same model in every process, with the same configuration"
            )


class _Bucket:
    """Neighbouring parameters of one flat array, whose gradients travel together."""

    def __init__(self, flat, numbers, end):
        self.params = [flat.params[i] for i in numbers]
        self.grad = flat.grad[flat.starts[numbers[0]] : end]
        self.request, self.waiting = None, set()

    def gather(self):
        """Bring every gradient to its place in the flat array; zeros where there is none."""
        for p in self.params:
            if p.grad is None:
                p.buffer[...] = 0
            elif p.grad.data is not p.buffer:
                p.buffer[...] = p.grad.data
                p.grad = wrap(p.buffer)


def _cut(flat, size):
    """A Flat's parameters as buckets of about `size` bytes, the last parameters first."""
    if flat.xp is not np:
        raise DistributedError("DataParallel: arrays on a GPU are not sent yet: it works on CPUs")
    buckets, numbers, end = [], [], len(flat.grad)
    for i in reversed(range(len(flat.params))):
        numbers.insert(0, i)
        if (end - flat.starts[i]) * flat.grad.itemsize >= size or i == 0:
            buckets.append(_Bucket(flat, numbers, end))
            numbers, end = [], flat.starts[i]
    return buckets


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
