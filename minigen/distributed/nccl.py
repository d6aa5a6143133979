"""The group whose arrays are on GPUs: they travel by NCCL (cupyx.distributed), words and numbers by MPI as before.

Each process has one GPU. What is begun goes to a stream of its own, behind what the GPU has been given to do so far;
so gradients travel while the backward pass computes. `wait` looks at an event until the GPU has come to it: a process
that has died leaves the others waiting for `patience` seconds and no longer.

This file has never run on a GPU. What it asks of CuPy is tested against a stand-in that writes down the calls.
"""

import numpy as np

from ..device import xp
from ..errors import DistributedError, expect
from .group import Group


class NCCLGroup(Group):
    """A Group for arrays on GPUs. Raises DistributedError where a machine has fewer GPUs than processes."""

    def __init__(self, comm, patience=60.0):
        super().__init__(comm, patience)
        import cupy
        from cupyx.distributed import NCCLBackend
        from mpi4py import MPI

        here = comm.Split_type(MPI.COMM_TYPE_SHARED)  # the processes of this machine
        gpus = cupy.cuda.runtime.getDeviceCount()
        expect(
            here.Get_size() <= gpus,
            f"join: {here.Get_size()} processes on a machine with {gpus} GPUs: NCCL wants one for each",
            error=DistributedError,
            hint=f"write mpirun -n {gpus}",
        )
        cupy.cuda.Device(here.Get_rank()).use()
        self.cuda = cupy.cuda
        self.nccl = NCCLBackend(self.size, self.rank, use_mpi=True)
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def broadcast_begun(self, array):
        if xp(array) is np:
            return super().broadcast_begun(array)
        return self._begun(self.nccl.broadcast, array, root=0)

    def sum_begun(self, array):
        if xp(array) is np:
            return super().sum_begun(array)
        return self._begun(self.nccl.all_reduce, array, array, op="sum")

    def scatter_begun(self, array):
        if xp(array) is np:
            return super().scatter_begun(array)
        part = self.part(array)
        return self._begun(self.nccl.reduce_scatter, array, part, len(part), op="sum")

    def gather_begun(self, array):
        if xp(array) is np:
            return super().gather_begun(array)
        part = self.part(array)
        return self._begun(self.nccl.all_gather, part, array, len(part))

    def _begun(self, call, *arguments, **options):
        """Give NCCL something to do after all that the current stream has been given so far."""
        self.stream.wait_event(self.cuda.get_current_stream().record())
        call(*arguments, **options, stream=self.stream)
        return _Event(self.stream.record())


class _Event:
    """A place in a stream, as something to wait for."""

    def __init__(self, event):
        self.event = event

    def Test(self):
        return self.event.done
