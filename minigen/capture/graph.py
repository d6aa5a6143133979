"""Capture on the GPU: a step becomes one CUDA graph, and a call of it one launch.

A small network's step is ruled by the host: hundreds of launches of 8 to 35 microseconds each, which the card finishes
sooner than they are asked for. A graph holds all of them with their arguments, and is launched at once. What it holds
is fixed: the kernels, their order, and every address. So all that may change from step to step lies in memory, at an
address that does not change:

    inputs            copied over those that were captured
    parameters        and gradients, moments, averages: they are updated in place anyhow
    step counts       counted on by the graph, on the card (optim/counter.py)
    random streams    where they stand; moved on by the graph
    learning rates    and the decay of an average: a table of numbers, which the host fills before the launch

Whoever has such a number asks for its place there (recorder.py), and says by which function the host gets it. Schedules
are called again at each replay, on the host, before the launch. A number that travels from the card to the host cannot
be part of a graph: it is refused, with the line.

The first calls are ordinary steps, which bring the optimisers' state to where it stays, compile the kernels and fill
the memory pool. Nothing of them is undone or lost: captured training is ordinary training from the first step on.
"""

import gc
import linecache
import traceback

from ..autograd import modes
from ..device import is_array
from ..errors import CaptureError, MinigenError
from ..tensor import Tensor, wrap
from .cuda import CudaDriver
from .recorder import Recorder, Warming, capturing, reading
from .replay import signature

WARMUP = 2  # ordinary steps before one is captured
MOST = 4  # graphs of one step for the same shapes
PACKAGE = __name__.partition(".")[0]


class GraphStep:
    """A step that is launched as a CUDA graph, one graph for each signature of the arguments. See `minigen.capture`."""

    def __init__(self, step, warmup=WARMUP, driver=None):
        self.step, self.warmup = step, warmup
        self.driver = CudaDriver() if driver is None else driver
        self.graphs = {}  # signature -> [Graph]: one for each state in which the gradients were found
        self.calls = {}  # signature -> {which gradients were there: steps that were no replays}

    def __call__(self, *args, **kwargs):
        if modes.anomaly:  # who hunts a NaN wants every op looked at
            return detached(self.step(*args, **kwargs))
        inputs, key = signature((args, kwargs))
        graphs, calls = self.standing(key), self.calls.setdefault(key, {})
        for graph in graphs:
            if graph.recorder.gradients.fits():
                return graph.replay(inputs)
        there = graphs[-1].recorder.gradients.there() if graphs else ()
        calls[there] = calls.get(there, 0) + 1
        if calls[there] <= self.warmup:
            return self.warm(args, kwargs)
        graph = self.capture(inputs, args, kwargs)
        self.graphs[key] = [*graphs[-MOST + 1 :], graph]
        return graph.launch()

    def standing(self, key):
        """The graphs that are still good. The others go: a hyperparameter, a seed, a parameter's memory is another."""
        graphs = self.graphs.get(key, [])
        good = [graph for graph in graphs if graph.recorder.stands()]
        if len(good) < len(graphs):
            self.graphs[key], self.calls[key] = good, {}
        return good

    def warm(self, args, kwargs):
        """An ordinary step, in the memory and on the stream of the capture."""
        with self.driver.aside(), capturing(Warming(self.driver)):
            return detached(self.step(*args, **kwargs))

    def capture(self, inputs, args, kwargs):
        """The Graph of the step. What the step has done on the host is undone if it cannot be captured."""
        for i, array in enumerate(inputs):
            if not self.driver.holds(array):
                raise CaptureError(
                    f"capture: tensor {i} of the step's arguments, {array.shape} {array.dtype}, is not on the GPU\n"
                    f'  write step(x.to("cuda")): inside the step the copy could not be captured'
                )
        with self.driver.aside():
            recorder = Recorder(self.driver)
            static = [array.copy() for array in inputs]
            places = iter(static)
            args, kwargs = mapped(
                (args, kwargs), lambda x: Tensor(next(places), x.requires_grad), lambda x: next(places)
            )
            collects = gc.isenabled()
            gc.collect()
            gc.disable()  # a collection would free memory in the middle of the capture
            try:
                with capturing(recorder), reading(recorder.read):
                    handle, result = self.driver.record(
                        lambda: recorder.run(lambda: detached(self.step(*args, **kwargs)))
                    )
            except BaseException as error:
                recorder.undo()
                self.calls.clear()  # the next steps are ordinary ones again
                if isinstance(error, MinigenError) or not of_the_card(error):
                    raise
                raise CaptureError(
                    f"capture: {guilty_line(error)}\n  reads from the card or waits for it, which no graph can hold\n"
                    f"  {type(error).__name__}: {error}"
                ) from error
            finally:
                if collects:
                    gc.enable()
        return Graph(self.driver, handle, static, result, recorder)


class Graph:
    """A captured step: static inputs, static outputs, and what the host does for a replay."""

    def __init__(self, driver, handle, inputs, result, recorder):
        self.driver, self.handle, self.inputs, self.result, self.recorder = driver, handle, inputs, result, recorder

    def replay(self, inputs):
        """Run the step on other inputs of the same shapes. Returns the tensors that were captured, with new numbers."""
        self.recorder.repeat_host()
        for static, array in zip(self.inputs, inputs):
            if static is not array:
                static[...] = array
        return self.launch()

    def launch(self):
        self.recorder.send()
        self.driver.launch(self.handle)
        self.recorder.launched()
        return self.result


# ---- arguments and results ----


def mapped(x, of_tensor, of_array=lambda array: array):
    """x with the tensors and arrays in its tuples, lists and dictionaries replaced."""
    if isinstance(x, Tensor):
        return of_tensor(x)
    if is_array(x):
        return of_array(x)
    if isinstance(x, (tuple, list)):
        return type(x)([mapped(one, of_tensor, of_array) for one in x])
    if isinstance(x, dict):
        return {name: mapped(one, of_tensor, of_array) for name, one in x.items()}
    return x


def detached(result):
    """The step's result, its tensors without their graphs."""
    return mapped(result, lambda x: wrap(x.data))


def of_the_card(error):
    """Whether CuPy or CUDA complains, and not the step."""
    return type(error).__module__.startswith("cupy") or "CUDA" in str(error) or "captur" in str(error)


def guilty_line(error):
    """file:line of the innermost frame of the traceback outside of this package and CuPy, with its text."""
    frames = [f for f, _ in traceback.walk_tb(error.__traceback__)]
    lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    for frame, line in zip(frames[::-1], lines[::-1]):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in (PACKAGE, "cupy", "cupy_backends"):
            file = frame.f_code.co_filename
            return f"{file}:{line}: {linecache.getline(file, line).strip()}"
    return "the step"
