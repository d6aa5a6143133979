"""Buckets: long pieces of a flat array of gradients, each of which is sent as soon as it is complete."""

import math

from ..errors import DistributedError
from ..optim.flat import ALIGN
from ..tensor import wrap

BUCKET = 1 << 20  # bytes: long enough that the message's start costs nothing, short enough that several overlap


class Bucket:
    """The numbers `start` to `end` of a Flat, and the parameters that have some there."""

    def __init__(self, flat, start, end):
        self.flat, self.start, self.end = flat, start, end
        self.data, self.grad = flat.data[start:end], flat.grad[start:end]
        self.members = [i for i, (a, b) in enumerate(places(flat)) if a < end and b > start]
        self.params = [flat.params[i] for i in self.members]
        self.request, self.waiting = None, set()


def cut(flat, size, ranks=1):
    """A Flat as buckets of about `size` bytes, the last first. Each divides among so many ranks, if the Flat does."""
    unit = ALIGN * ranks
    step = max(size // flat.grad.itemsize // unit, 1) * unit
    ends = range(len(flat.grad), 0, -step)
    return [Bucket(flat, max(end - step, 0), end) for end in ends]


def places(flat):
    """(start, end) of each parameter of a Flat."""
    return [(start, start + math.prod(shape)) for start, shape in zip(flat.starts, flat.shapes)]


def bring_home(p):
    """See that a parameter's gradient stands in the flat array; zeros where there is none."""
    if p.grad is None:
        p.buffer[...] = 0
    elif p.grad.data is not p.buffer:
        p.buffer[...] = p.grad.data
        p.grad = wrap(p.buffer)


def check_type(flat):
    """Raise DistributedError for numbers that neither MPI nor CuPy's NCCL adds up."""
    if flat.dtype.kind != "f" or flat.dtype.itemsize < 4:
        raise DistributedError(
            f"gradients of {flat.dtype} cannot be summed over processes\n"
            "  keep the parameters in float32; under amp.autocast the products are in 16 bits all the same"
        )
