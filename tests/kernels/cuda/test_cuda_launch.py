"""How a kernel reaches the card: against a CuPy and a driver that only write down what they are asked."""

import ctypes
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minigen import kernels
from minigen.kernels.cuda import compile, optim

F = np.dtype(np.float32)


class Array:
    """What a launch asks of a CuPy array."""

    def __init__(self, address):
        self.data = SimpleNamespace(ptr=address)


@pytest.fixture
def card(monkeypatch):
    """A card that keeps `compiled`, a list of (code, options), and `launches`, a list of (driver arguments, slots).

    together: the launches of blocks that run together; granted: what dynamic shared memory kernels were granted.
    """
    log = SimpleNamespace(compiled=[], launches=[], device=0, stream=7, used=[], fails=None, together=[], granted=[])
    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448, "CooperativeLaunch": 1}

    class RawModule:
        def __init__(self, code=None, options=None, path=None):
            if log.fails == "compile":
                raise ValueError("line 3: no such thing")
            log.compiled.append((code, options) if path is None else Path(path))
            self.module = SimpleNamespace(get_function=lambda name: SimpleNamespace(ptr=1000 + len(name)))

    def launch(*arguments):
        if log.fails == "launch":
            raise ValueError("invalid configuration")
        table = (ctypes.c_uint64 * 4).from_address(arguments[9])
        log.launches.append((arguments, [ctypes.string_at(address, 8) for address in table]))

    cupy = ModuleType("cupy")
    cupy.RawModule = RawModule
    cupy.cuda = SimpleNamespace(
        device=SimpleNamespace(get_device_id=lambda: log.device),
        Device=lambda: SimpleNamespace(
            compute_capability="90", use=lambda: log.used.append(threading.get_ident()), attributes=attributes
        ),
        get_current_stream=lambda: SimpleNamespace(ptr=log.stream),
    )
    driver = ModuleType("cupy_backends.cuda.api.driver")
    driver.launchKernel = launch
    driver.launchCooperativeKernel = lambda *arguments: log.together.append(arguments[:9])
    driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    driver.funcSetAttribute = lambda *arguments: log.granted.append(arguments)
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["cupy_backends.cuda.api"].driver = driver
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.api.driver", driver)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with compile.running_on(compile.Card()):
        yield log


def test_a_launch_goes_to_the_driver_on_the_current_stream(card):
    source = compile.Source("optim.cu")
    source.run("scale", (F,), (3, 2), 256, Array(4096), 12, -0.5, None)
    (arguments, slots) = card.launches[0]
    assert arguments[:9] == (1005, 3, 2, 1, 256, 1, 1, 0, 7) and arguments[10] == 0
    assert slots[0] == struct.pack("<Q", 4096) and slots[1] == struct.pack("<q", 12)
    assert slots[2][:4] == struct.pack("<f", -0.5) and slots[3] == bytes(8)
    card.stream = 9
    source.run("scale", (F,), 1, 256, Array(4096), -1, 1e300, 2**64 - 1)
    (arguments, slots) = card.launches[1]
    assert arguments[8] == 9
    assert slots[1] == struct.pack("<q", -1) and slots[2][:4] == struct.pack("<f", np.inf) and slots[3] == b"\xff" * 8


def test_it_is_compiled_once_for_each_type_and_device(card):
    source = compile.Source("optim.cu", "--fmad=false")
    for _ in range(3):
        source.run("scale", (F,), 1, 256, Array(0), 1, 1.0)
    assert len(card.compiled) == 1
    assert card.compiled[0][1] == ("--std=c++17", "-DTYPE_T=float", "--fmad=false")
    assert "#include" not in card.compiled[0][0]
    source.run("scale", (np.dtype(np.float16),), 1, 256, Array(0), 1, 1.0)
    card.device = 1
    source.run("scale", (F,), 1, 256, Array(0), 1, 1.0)
    assert len(card.compiled) == 3


class Compiler:
    """CuPy's binding of NVRTC: its machine code is what it was asked for."""

    class NVRTCError(RuntimeError):
        pass

    def __init__(self):
        self.programs, self.failing, self.version = {}, False, (12, 9)

    def getVersion(self):
        return self.version

    def createProgram(self, text, name, headers, include_names):
        self.programs[len(self.programs) + 1] = [text]
        return len(self.programs)

    def compileProgram(self, program, options):
        self.programs[program].append(options)
        if self.failing:
            raise self.NVRTCError("NVRTC_ERROR_COMPILATION (6)")

    def getProgramLog(self, program):
        return "line 3: no such thing"

    def getCUBIN(self, program):
        return repr(self.programs[program]).encode()

    def destroyProgram(self, program):
        self.programs[program].append("destroyed")


def test_another_architecture_is_compiled_here_and_kept_on_disk(card, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    compiler = sys.modules["cupy"].cuda.nvrtc = Compiler()
    source = lambda: compile.Source("optim.cu", "-DWHATEVER", architecture="90a")
    run = lambda source: source.run("scale", (F,), 1, 256, Array(0), 1, 1.0)
    run(source())
    (path,) = card.compiled
    options = "--std=c++17", "-DTYPE_T=float", "-DWHATEVER", *compile.AS_CUPY, "-arch=sm_90a"
    assert path.parent == tmp_path / "cache" and path.read_text() == repr([source().text, options]) + "\0"
    assert list(path.parent.iterdir()) == [path] and compiler.programs[1][2] == "destroyed" and len(card.launches) == 1
    run(source())
    assert card.compiled == [path, path] and len(compiler.programs) == 1  # found again
    compiler.version = 13, 0
    run(source())
    assert card.compiled[2] != path and len(compiler.programs) == 2
    compiler.failing, compiler.version = True, (13, 1)
    with pytest.raises(RuntimeError, match=r"optim\.cu: scale .* compute capability 90:\nline 3: no such thing"):
        run(source())
    assert len(list(path.parent.iterdir())) == 2


def test_shared_memory_and_blocks_that_run_together(card):
    source = compile.Source("optim.cu")
    for size in (0, 1000, 500, 2000):
        source.run("scale", (F,), 1, 256, Array(0), 1, 1.0, shared=size)
    assert [arguments[7] for arguments, _ in card.launches] == [0, 1000, 500, 2000]
    assert card.granted == [(1005, 8, 1000), (1005, 8, 2000)]  # asked for when it is more than before
    source.run("scale", (F,), (4, 2), 256, Array(0), 1, 1.0, shared=100, together=True)
    assert card.together == [(1005, 4, 2, 1, 256, 1, 1, 100, 7)] and len(card.launches) == 4
    assert compile.machine.limits() == (132, 232448)


def test_nothing_is_launched_for_nothing(card):
    compile.Source("optim.cu").run("scale", (F,), (0, 4), 256, Array(0), 0, 1.0)
    assert card.launches == []


def test_each_thread_chooses_the_device_before_its_first_launch(card):
    source = compile.Source("optim.cu")
    run = lambda: [source.run("scale", (F,), 1, 256, Array(0), 1, 1.0) for _ in range(2)]
    run()
    other = threading.Thread(target=run)
    other.start()
    other.join()
    assert len(card.used) == 2 and len(set(card.used)) == 2 and len(card.launches) == 4
    assert card.launches[0][0][9] != card.launches[2][0][9]  # each has slots of its own


@pytest.mark.parametrize(
    "fails, what", [("compile", "does not compile for compute capability 90"), ("launch", "cannot be")]
)
def test_an_error_names_the_kernel(card, fails, what):
    card.fails = fails
    with pytest.raises(RuntimeError, match=rf"optim\.cu: scale of float32 {what}"):
        compile.Source("optim.cu").run("scale", (F,), 1, 256, Array(0), 1, 1.0)


def test_find_gives_a_family_the_types_it_takes():
    def on_card(dtype):
        made = type("ndarray", (), {"__module__": "cupy"})()
        made.dtype = np.dtype(dtype)
        return made

    if not kernels.enabled():
        pytest.skip("kernels are off")
    assert kernels.find(on_card("float32"), "optim") is optim
    assert kernels.find(on_card("float16"), "optim") is None
    assert kernels.find(on_card("float16"), "softmax").__name__ == "minigen.kernels.cuda.softmax"
    assert kernels.find(on_card("float64"), "softmax") is None
    assert kernels.find(on_card("float32"), "no such family") is None
    assert kernels.find(np.float32(1), "softmax") is None
    assert kernels.find(np.zeros(1, np.float16), "softmax") is None
