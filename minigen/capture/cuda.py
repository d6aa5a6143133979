"""The machine under a captured step: all that is asked of CuPy, and what the tests stand something else in for."""

import contextlib

import numpy as np

from ..device import CUDA, device_of, library


class CudaDriver:
    """CuPy's graphs, on a stream and with a memory pool of their own: no later array is given memory of a graph's."""

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
            with self.stream, cuda.using_allocator(self.pool.malloc):
                yield
        finally:
            current.wait_event(self.stream.record())

    def record(self, function):
        """(graph, what function() returned): its launches are recorded, and none is run."""
        self.stream.begin_capture()
        try:
            result = function()
        except BaseException:
            with contextlib.suppress(Exception):  # a capture that failed says so once more
                self.stream.end_capture()
            raise
        return self.stream.end_capture(), result

    def put(self, array, numbers):
        """Copy a few numbers of the host to the card, in the order of the current stream and without waiting."""
        array.set(np.ascontiguousarray(numbers), stream=self.arrays.cuda.get_current_stream())

    def launch(self, graph):
        graph.launch(stream=self.arrays.cuda.get_current_stream())
