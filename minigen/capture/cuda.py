"""The machine under a captured step: all that is asked of CuPy, and what the tests stand something else in for."""

import contextlib

import numpy as np

from ..device import CUDA, device_of, library


class CudaDriver:
    """CuPy's graphs, on a stream of their own, each with a memory pool of its own.

    What is free in that pool once the graph is recorded is what the graph computes in, at every replay. So nothing that
    is made later may be given it: the next step that is not a replay finds a new pool.
    """

    def __init__(self):
        self.arrays = library(CUDA)
        self.stream, self.pool = self.arrays.cuda.Stream(non_blocking=True), self.arrays.cuda.MemoryPool()

    def holds(self, array):
        """Whether it lies where the graph runs."""
        return device_of(array) == CUDA

    def draws_on(self, device):
        return str(device).split(":")[0] == CUDA

    @contextlib.contextmanager
    def aside(self):
        """Inside the block work goes to the capture's stream, behind what the current one has still to do."""
        cuda = self.arrays.cuda
        current = cuda.get_current_stream()
        self.stream.wait_event(current.record())
        try:
            with self.stream, cuda.using_allocator(self.malloc):
                yield
        finally:
            current.wait_event(self.stream.record())

    def malloc(self, size):
        """Memory of the pool; where the card has no more, then after the usual pool gave back what nobody uses."""
        try:
            return self.pool.malloc(size)
        except self.arrays.cuda.memory.OutOfMemoryError:
            self.arrays.get_default_memory_pool().free_all_blocks()
            return self.pool.malloc(size)

    def record(self, function):
        """((graph, its pool), what function() returned): its launches are recorded, and none is run."""
        self.stream.begin_capture()
        try:
            result = function()
        except BaseException:
            with contextlib.suppress(Exception):  # a capture that failed says so once more
                self.stream.end_capture()
            raise
        graph, pool = self.stream.end_capture(), self.pool
        self.pool = self.arrays.cuda.MemoryPool()
        return (graph, pool), result

    def put(self, array, numbers):
        """Copy a few numbers of the host to the card, in the order of the current stream and without waiting."""
        array.set(np.ascontiguousarray(numbers), stream=self.arrays.cuda.get_current_stream())

    def launch(self, recorded):
        graph, _ = recorded
        graph.launch(stream=self.arrays.cuda.get_current_stream())
