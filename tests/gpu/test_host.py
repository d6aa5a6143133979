"""What runs CuPy on host memory (tests/gpu/host), as far as it needs no CuPy."""

import ctypes
import importlib.util
from ctypes import c_float, c_int, c_size_t, c_ssize_t, c_void_p, py_object

import host
import numpy as np
import pytest
from host import driver, solving
from host.compiled import Arguments, Compiler, Module
from host.driver import kinds_of

import minigen.kernels.cuda.compile as compile

KERNEL = """
#define KERNEL extern "C" __global__ void
KERNEL change(float* x, float by) {
    __shared__ float last[2];
    if (threadIdx.x % 32 == 31) last[threadIdx.x / 32] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = threadIdx.x ? x[threadIdx.x] * by + last[1 - threadIdx.x / 32] : expf(x[0]);
}
"""


def test_what_lacks_is_said():
    said = host.missing()
    assert said is None or said.startswith("CuPy on host memory")
    if importlib.util.find_spec("cupy") is None:
        assert said is not None


def test_signatures_of_capsules():
    assert kinds_of("int (void)") == (c_int, [], 0)
    assert kinds_of("intptr_t (size_t, int __pyx_skip_dispatch)") == (c_ssize_t, [c_size_t, c_int], 1)
    words = "PyObject *(intptr_t, float, int __pyx_skip_dispatch, struct __pyx_opt_args_begin *__pyx_optional_args)"
    assert kinds_of(words) == (py_object, [c_ssize_t, c_float, c_int, c_void_p], 2)


@pytest.fixture
def streams(monkeypatch):
    monkeypatch.setattr(driver, "streams", driver.Streams())
    monkeypatch.setattr(driver, "faults", [])
    return driver.streams


def test_a_captured_stream_does_all_again_at_each_launch(streams):
    runtime, x, y = driver.Runtime(), np.arange(4.0), np.zeros(4)
    stream = runtime.streamCreate()
    runtime.streamBeginCapture(stream)
    runtime.memcpyAsync(y.ctypes.data, x.ctypes.data, x.nbytes, 3, stream)
    graph = runtime.streamEndCapture(stream)
    assert not y.any() and not driver.faults
    for value in (5, 6):
        x[:] = value
        runtime.graphLaunch(graph, stream)
        assert (y == value).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda runtime, at, stream: runtime.memcpy(at, at, 8, 2), "a copy that is waited for"),
        (lambda runtime, at, stream: runtime.memcpyAsync(at, at, 8, 1, stream), "from or to the host is captured"),
        (lambda runtime, at, stream: runtime.memsetAsync(at, 0, 8, 0), "while another is captured"),
        (lambda runtime, at, stream: runtime.streamSynchronize(stream), "a wait for a stream"),
    ],
)
def test_what_a_capture_refuses_is_a_fault(wrong, says, streams):
    runtime, x = driver.Runtime(), np.zeros(1)
    stream = runtime.streamCreate()
    runtime.streamBeginCapture(stream)
    wrong(runtime, x.ctypes.data, stream)
    assert len(driver.faults) == 1 and says in driver.faults[0]


@pytest.mark.kernels
@pytest.mark.skipif(not host.compiles(), reason="needs g++ on Linux, on an x86-64")
@pytest.mark.parametrize("harsh", [False, True])
def test_a_kernel_is_launched_and_captured(harsh, tmp_path, streams):
    compiler = Compiler(tmp_path, None, harsh)
    change = compiler.function(compiler.module(KERNEL, ()), "change")
    x, by = np.full(64, 1e-40, np.float32), np.float32(3)
    x[0], x[31], x[63] = 2, 0, 0
    pointer = c_void_p(x.ctypes.data)
    kept = c_float(by)
    table = (c_void_p * 2)(ctypes.addressof(pointer), ctypes.addressof(kept))
    launch = lambda stream: compiler.launch(change, (1, 1, 1), (64, 1, 1), 0, stream, ctypes.addressof(table))
    launch(0)
    assert x[1] == (0 if harsh else np.float32(1e-40) * by)
    e = np.float32(np.exp(2.0))
    assert abs(x[0] - e) <= 2 * np.spacing(e) and (harsh or abs(x[0] - e) <= np.spacing(e))
    stream = streams.new()
    streams.begin(stream)
    launch(stream)
    kept.value = 100  # the driver has taken its copy
    graph = streams.end(stream)
    x[:] = 1
    streams.launch(graph, stream)
    assert (x[1:] == 4).all() and not driver.faults


def test_arguments_are_copied():
    numbers = [c_size_t(7), c_int(-3)]
    table = (c_void_p * 2)(*map(ctypes.addressof, numbers))
    held = Arguments(ctypes.addressof(table), [2, 8, 4])
    numbers[1].value = 0
    assert [ctypes.string_at(held.table[1], 4), ctypes.string_at(held.table[0], 8)] == [
        (-3).to_bytes(4, "little", signed=True), (7).to_bytes(8, "little")
    ]  # fmt: skip


def test_every_file_of_kernels_is_known_as_our_own():
    for path in compile.HERE.glob("*.cu"):
        assert Module(compile.Source(path.name).text, (), None).own, path.name


def test_factors_of_matrices():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 4)), rng.standard_normal((4, 2))
    for transposed in (False, True):
        left, pivots, x = a.copy(), np.zeros(4, np.int32), b.copy()
        assert solving.lu(left, pivots) == 0
        solving.solve(left, pivots, x, transposed)
        np.testing.assert_allclose((a.T if transposed else a) @ x, b, atol=1e-12)
    assert solving.lu(np.outer(b[:, 0], b[:, 0])[:3, :3] * 0, np.zeros(3, np.int32)) == 1
    whole = a @ a.T
    for uplo in (0, 1):
        x = whole.copy()
        assert solving.cholesky(x, uplo) == 0
        factor = np.triu(x).T if uplo else np.tril(x)
        np.testing.assert_allclose(factor @ factor.T, whole, atol=1e-12)
    whole[2, 2] = -1
    assert solving.cholesky(whole, 0) == 3
