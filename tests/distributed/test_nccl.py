"""What the NCCL group asks of CuPy, against a stand-in that writes the calls down. It has not run on a GPU."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minigen.errors import DistributedError


class OnGPU(np.ndarray):
    """An array that says it is CuPy's."""

    __cuda_array_interface__ = None


OnGPU.__module__ = "cupy"


class Stream:
    """Writes down what is recorded and waited for."""

    calls, current = [], None

    def __init__(self, non_blocking=False, name="sending"):
        self.name = name

    def record(self):
        event = SimpleNamespace(of=self.name, done=False)
        Stream.calls.append(("record", self.name))
        return event

    def wait_event(self, event):
        Stream.calls.append(("wait", self.name, event.of))


class Backend:
    """Two ranks that hold the same: sums are twice ours, and what the other gathers is ours."""

    def __init__(self, n_devices, rank, use_mpi=False):
        self.size, self.rank = n_devices, rank
        assert use_mpi

    def broadcast(self, array, root=0, stream=None):
        Stream.calls.append(("broadcast", root, stream.name))

    def all_reduce(self, given, out, op="sum", stream=None):
        Stream.calls.append(("all_reduce", op, stream.name))
        out[...] = 2 * given

    def reduce_scatter(self, given, out, count, op="sum", stream=None):
        Stream.calls.append(("reduce_scatter", count, op, stream.name))
        out[...] = 2 * given[self.rank * count : (self.rank + 1) * count]

    def all_gather(self, given, out, count, stream=None):
        Stream.calls.append(("all_gather", count, stream.name))
        for rank in range(self.size):
            out[rank * count : (rank + 1) * count] = given


def communicator(rank=1, size=2, here=2):
    machine = SimpleNamespace(Get_size=lambda: here, Get_rank=lambda: rank)
    return SimpleNamespace(Get_rank=lambda: rank, Get_size=lambda: size, Split_type=lambda kind: machine)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with two GPUs; returns the numbers of those in use."""
    used = []
    cupy, cupyx, distributed, mpi = (ModuleType(n) for n in ("cupy", "cupyx", "cupyx.distributed", "mpi4py"))
    cupy.cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: 2),
        Device=lambda number: SimpleNamespace(use=lambda: used.append(number)),
        Stream=Stream,
        get_current_stream=lambda: Stream(name="computing"),
    )
    cupy.ascontiguousarray = lambda array: np.ascontiguousarray(array).view(OnGPU)
    distributed.NCCLBackend = Backend
    mpi.MPI = SimpleNamespace(COMM_TYPE_SHARED="shared")
    for module in (cupy, cupyx, distributed, mpi):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    Stream.calls = []
    return used


def group():
    from minigen.distributed.nccl import NCCLGroup

    return NCCLGroup(communicator(), patience=0.05)


def test_each_process_takes_the_gpu_of_its_number_on_the_machine(gpus):
    group()
    assert gpus == [1]


def test_more_processes_than_gpus(gpus):
    from minigen.distributed.nccl import NCCLGroup

    with pytest.raises(DistributedError, match=r"3 processes on a machine with 2 GPUs.*\n.*mpirun -n 2"):
        NCCLGroup(communicator(here=3))


def test_what_is_begun_stands_behind_what_is_computed_on_a_stream_of_its_own(gpus):
    array = np.arange(4.0).view(OnGPU)
    request = group().sum_begun(array)
    assert Stream.calls == [("record", "computing"), ("wait", "sending", "computing"), ("all_reduce", "sum", "sending"),
                            ("record", "sending")]  # fmt: skip
    assert array.tolist() == [0, 2, 4, 6] and not request.Test()
    request.event.done = True
    assert request.Test()


def test_parts_of_arrays(gpus):
    us = group()
    array = np.arange(6.0).view(OnGPU)
    us.scatter_begun(array)
    assert array.tolist() == [0, 1, 2, 6, 8, 10] and ("reduce_scatter", 3, "sum", "sending") in Stream.calls
    us.gather_begun(array)
    assert array.tolist() == [6, 8, 10, 6, 8, 10] and ("all_gather", 3, "sending") in Stream.calls


def test_a_broadcast_of_an_array_that_is_not_in_one_piece(gpus):
    us = group()
    us.wait = lambda request, what: None
    us.broadcast(np.arange(6.0).view(OnGPU).reshape(2, 3).T)
    assert ("broadcast", 0, "sending") in Stream.calls


def test_a_gpu_that_waits_for_a_dead_process_says_so(gpus):
    us = group()
    with pytest.raises(DistributedError, match=r"rank 1 of 2 waited 0\.05 s"):
        us.wait(us.sum_begun(np.zeros(2).view(OnGPU)), "a test")


def test_arrays_on_a_gpu_are_not_given_to_mpi(gpus):
    from minigen.distributed import Group

    comm = communicator()
    comm.Ibcast = lambda *arguments, **options: pytest.fail("MPI was given an array on a GPU")
    with pytest.raises(DistributedError, match=r'join\(device="cuda"\)'):
        Group(comm).broadcast(np.zeros(2).view(OnGPU))
