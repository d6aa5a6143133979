"""minigen.capture: which capture a step gets, and what it takes."""

import numpy as np
import pytest

import minigen
from minigen import capture as package
from minigen.capture import capture, graph, replay
from minigen.errors import ArgumentError, CaptureError, DeviceError


def step(x):
    """Twice x."""
    return x * 2.0


def test_the_package_is_called_like_the_function():
    x = minigen.ones(3)
    for made in (minigen.capture(step), package(step), capture(step), capture(strict=True)(step)):
        assert made.__name__ == "step" and made.__doc__ == "Twice x."
        for _ in range(4):
            assert np.array_equal(made(x).numpy(), [2, 2, 2])

    @minigen.capture
    def other(x):
        return x + 1.0

    assert other(x).numpy().sum() == 6


def test_on_the_cpu_it_is_a_list_of_calls():
    made = capture(step)
    made(minigen.ones(3))
    assert type(made._run) is replay.Replay
    made = capture(step, device="cpu", strict=True)
    made(minigen.ones(3))
    assert made._run.strict


def test_arguments_on_the_gpu_or_the_device_make_it_a_graph(monkeypatch):
    class Step(graph.GraphStep):
        def __call__(self, *args):
            return "graph"

    monkeypatch.setattr(graph, "GraphStep", Step)
    monkeypatch.setattr(graph, "CudaDriver", lambda: "driver")
    made = capture(step, device="cuda:0", warmup=3)
    assert made() == "graph" and made._run.warmup == 3 and made._run.driver == "driver"
    monkeypatch.setattr(package, "device_of", lambda array: "cuda")
    assert capture(step)(minigen.ones(3)) == "graph"


def test_without_a_gpu_it_says_so():
    if minigen.cuda_available():
        pytest.skip("there is one")
    with pytest.raises(DeviceError, match="cuda"):
        capture(step, device="cuda")(minigen.ones(3))


def test_what_is_on_the_host_is_refused_on_the_gpu():
    class Driver:
        def holds(self, array):
            return False

        def aside(self):
            from contextlib import nullcontext

            return nullcontext()

    made = graph.GraphStep(step, warmup=1, driver=Driver())
    made(minigen.ones(3))
    with pytest.raises(CaptureError, match=r'tensor 0 of the step\'s arguments, \(3,\) float32.*\n.*x\.to\("cuda"\)'):
        made(minigen.ones(3))


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"warmup": 0}, {"warmup": 1.5}])
def test_bad_options_are_refused(wrong):
    with pytest.raises(ArgumentError, match=f"capture: {next(iter(wrong))}"):
        capture(step, **wrong)
    with pytest.raises(ArgumentError, match="takes a function"):
        capture(minigen.ones(3))


class Stream:
    """A CuPy stream that writes down what it is asked."""

    def __init__(self, log, name="current", fails=False):
        self.log, self.name, self.fails = log, name, fails

    def record(self):
        self.log.append(f"{self.name} records")
        return self.name

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")

    def __enter__(self):
        self.log.append(f"to {self.name}")

    def __exit__(self, *_):
        self.log.append(f"from {self.name}")

    def begin_capture(self):
        self.log.append("begin")

    def end_capture(self):
        self.log.append("end")
        if self.fails:
            raise RuntimeError("the capture was invalidated")
        return "graph"


class Pool:
    """A memory pool. full: the card has no more memory, the first time."""

    full = False

    def malloc(self, size):
        if self.full:
            self.full = False
            raise MemoryError
        return self, size


@pytest.fixture
def driver(monkeypatch):
    """A CudaDriver over a CuPy that only writes down."""
    from contextlib import contextmanager
    from types import SimpleNamespace

    from minigen.capture import cuda

    log = []

    @contextmanager
    def using_allocator(malloc):
        log.append(malloc)
        try:
            yield
        finally:
            log.append("usual memory")

    library = SimpleNamespace(
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: log.append("freed")),
        cuda=SimpleNamespace(
            Stream=lambda non_blocking: Stream(log, "aside"),
            MemoryPool=Pool,
            memory=SimpleNamespace(OutOfMemoryError=MemoryError),
            get_current_stream=lambda: Stream(log),
            using_allocator=using_allocator,
        ),
    )
    monkeypatch.setattr(cuda, "library", lambda device: library)
    made = cuda.CudaDriver()
    made.log = log
    return made


def test_a_capture_stands_between_two_waits_in_memory_of_its_own(driver):
    pool = driver.pool
    with driver.aside():
        found = driver.record(lambda: driver.log.append("step") or 7)
    assert found == (("graph", pool), 7)
    into = ["current records", "aside waits for current", "to aside", driver.malloc]
    out = ["usual memory", "from aside", "aside records", "current waits for aside"]
    assert driver.log == [*into, "begin", "step", "end", *out]


def test_what_comes_after_a_graph_gets_none_of_the_memory_it_works_in(driver):
    pools = []
    for _ in range(2):
        with driver.aside():
            (_, pool), _ = driver.record(lambda: None)
        pools.append(pool)
    assert len({*pools, driver.pool}) == 3


def test_memory_that_the_usual_pool_keeps_unused_is_there_for_a_graph(driver):
    assert driver.malloc(3) == (driver.pool, 3) and driver.log == []
    driver.pool.full = True
    assert driver.malloc(4) == (driver.pool, 4) and driver.log == ["freed"]


def test_a_capture_ends_where_the_step_fails(driver):
    driver.stream.fails = True

    def fails():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), driver.aside():
        driver.record(fails)
    assert driver.log[-6:] == ["begin", "end", "usual memory", "from aside", "aside records", "current waits for aside"]
