"""How the CUDA kernels are compiled and launched: `Source` is one .cu file, and `run` launches a kernel of it.

    KERNELS = Source("softmax.cu")
    KERNELS.run("softmax_wide", (x.dtype,), grid, block, x, y, n, width)

`grid` is the number of blocks, or a tuple of up to three, `block` that of threads in one; a grid of 0 is no launch.
After them come the kernel's arguments, by three rules: an array is a pointer to its first element (None a null
pointer), an int is a `long long`, a float is a `float`. A kernel has no other parameters, but the last may be a struct
of `long long`s, which is given as so many ints. Two options may follow:
`shared=`, the bytes of dynamic shared memory of a block (DYNAMIC_SHARED in common.cuh) beside its static ones, and
`together=True`, by which all blocks run at the same time and may wait for one another (grid_barrier.cuh).

In the .cu file `T` is the type of numbers in memory, `W` that of a second kind of array (weights, say), and `Y` that of
results where it is not T; arithmetic is in float32. A module is compiled for each file, set of types and device, by
NVRTC through CuPy, and kept on disk. So that the text alone says what is compiled, `text` puts the headers in place of
their #include lines; the tests give the same text to NVRTC without a GPU, and to a C++ compiler that emulates one.

Rules for whoever writes one:

* It must compile for compute capability 7.5. A path for newer cards is an extra, chosen by `__CUDA_ARCH__` or here.
* The split of the work follows from the shapes (and the compute capability, where tensor cores differ), never from the
  size of the card, and sums are added in a fixed order, without float atomics: the same seed gives the same bits.
* Every launch goes to CuPy's current stream, and nothing here waits for the card or reads from it, so a step of these
  kernels can be captured in a CUDA graph.
"""

import hashlib
import os
import re
import struct
import sys
import tempfile
import threading
from contextlib import contextmanager
from ctypes import addressof, c_char, c_uint64
from functools import cached_property
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
C_TYPES = {"float32": "float", "float16": "float16", "bfloat16": "bfloat16"}  # as common.cuh calls them
FLOATS = tuple(C_TYPES)  # what a family takes, unless it says otherwise
AS_CUPY = "-ftz=true", "--device-as-default-execution-space"  # what CuPy tells NVRTC by itself
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


class Source:
    """The kernels of one .cu file, compiled when they are first run.

    options         more options for the compiler
    architecture    what it compiles for, such as "90a", where that is not the card's plain compute capability
    """

    def __init__(self, file, *options, architecture=None):
        self.file, self.extra, self.architecture, self.functions = file, options, architecture, {}

    @cached_property
    def text(self):
        """The file with its headers in place of the #include lines, each once."""
        seen = set()

        def insert(match):
            name = match[1]
            if name in seen:
                return ""
            seen.add(name)
            return f'#line 1 "{name}"\n{expand(name)}\n#line 1 "{self.file}"'

        def expand(name):
            return INCLUDE.sub(insert, (HERE / name).read_text(encoding="utf-8"))

        return expand(self.file)

    def options(self, types):
        """What the compiler is told: the language, the types, and the file's own wishes."""
        return ("--std=c++17", *(f"-DTYPE_{name}={C_TYPES[t.name]}" for name, t in zip("TWY", types)), *self.extra)

    def run(self, name, types, grid, block, *arguments, shared=0, together=False):
        """Launch the kernel `name`, compiled for these types, on the current stream."""
        key = name, types, machine.place()
        function = self.functions.get(key)
        if function is None:
            function = self.functions[key] = machine.function(self, name, types)
        grid = (grid, 1, 1) if type(grid) is int else (*grid, 1, 1)[:3]
        if 0 not in grid:
            function(grid, (block, 1, 1), arguments, shared, together)


# ---- arguments: eight bytes each, and a table of where they stand, as the driver wants them ----


class Slots(threading.local):
    """A thread's memory for the arguments of a launch, used again for each: the driver copies them at once."""

    MOST = 64

    def __init__(self):
        self.memory = (c_char * (8 * self.MOST))()
        first = addressof(self.memory)
        self.table = (c_uint64 * self.MOST)(*range(first, first + 8 * self.MOST, 8))
        self.address = addressof(self.table)


slots = Slots()
_formats = {}
NUMBERS = (int, float, bool, type(None))
LARGEST = float(np.finfo(np.float32).max)


def pack(arguments, pointer):
    """Write the arguments into this thread's slots; `pointer` gives an array's address. Returns the table's address."""
    kinds = tuple(map(type, arguments))
    form = _formats.get(kinds)
    if form is None:
        form = _formats[kinds] = struct.Struct("<" + "".join("f4x" if kind is float else "Q" for kind in kinds))
    values = [number(a) if kind in NUMBERS else pointer(a) for kind, a in zip(kinds, arguments)]
    form.pack_into(slots.memory, 0, *values)
    return slots.address


def number(value):
    """A Python number as `struct` takes it: a negative int in two's complement, a float too large as infinite."""
    if type(value) is not float:
        return (value or 0) & 0xFFFFFFFFFFFFFFFF
    return value if -LARGEST <= value <= LARGEST or value != value else float("inf") * value


# ---- the machine ----


class Thread(threading.local):
    ready = False


class Card:
    """CuPy's current GPU. A launch goes straight to the driver, half the cost of calling CuPy's RawKernel."""

    def __init__(self):
        self.thread, self.of_device = Thread(), {}

    @cached_property
    def arrays(self):
        """The library whose arrays lie there."""
        return sys.modules["cupy"]

    @cached_property
    def place(self):
        """A function that gives the number of the current device."""
        return self.arrays.cuda.device.get_device_id

    @cached_property
    def current_stream(self):
        return self.arrays.cuda.get_current_stream

    @property
    def capability(self):
        """The current device's compute capability: 75, 80, 90, ..."""
        return int(self.arrays.cuda.Device().compute_capability)

    @cached_property
    def cublas(self):
        """cuBLAS as blas.py found it, or None."""
        from . import blas

        return blas.find()

    def address(self, array):
        """Where the array's first element lies."""
        return array.data.ptr

    def limits(self):
        """The most blocks that may run together, one a multiprocessor, and the bytes of shared memory a block may have.

        They are those of the current device.
        """
        place = self.place()
        if place not in self.of_device:
            known = self.arrays.cuda.Device().attributes
            together = known["MultiProcessorCount"] if known["CooperativeLaunch"] else 0
            self.of_device[place] = together, known["MaxSharedMemoryPerBlockOptin"]
        return self.of_device[place]

    def function(self, source, name, types):
        """The kernel `name` of `source` as a function of (grid, block, arguments, shared, together).

        Raises RuntimeError.
        """
        from cupy_backends.cuda.api import driver

        what = f"{source.file}: {name} of {', '.join(t.name for t in types)}"
        card = f"compute capability {self.arrays.cuda.Device().compute_capability}"
        try:
            module = self.module(source, types)
            function = module.get_function(name)
        except Exception as error:
            raise RuntimeError(f"the CUDA kernel {what} does not compile for {card}:\n{error}") from error
        launch, address, thread, granted = driver.launchKernel, function.ptr, self.thread, 0

        def call(grid, block, arguments, shared=0, together=False):
            nonlocal granted  # bytes of dynamic shared memory, which the driver wants to be asked for first
            if not thread.ready:  # the driver, unlike CuPy's own calls, wants the device chosen by each thread
                self.arrays.cuda.Device().use()
                thread.ready = True
            stream = self.current_stream().ptr
            try:
                if shared > granted:
                    driver.funcSetAttribute(address, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
                    granted = shared
                packed = pack(arguments, self.address)
                if together:
                    driver.launchCooperativeKernel(address, *grid, *block, shared, stream, packed)
                else:
                    launch(address, *grid, *block, shared, stream, packed, 0)
            except Exception as error:
                raise RuntimeError(f"the CUDA kernel {what} cannot be launched on {grid} x {block}: {error}") from error

        call.module = module  # which must live as long as its function
        return call

    def module(self, source, types):
        """CuPy's module of a source. CuPy names the card's compute capability to the compiler, and keeps what it makes
        on disk; for another architecture both are done here.
        """
        if source.architecture is None:
            return self.arrays.RawModule(code=source.text, options=source.options(types)).module
        nvrtc = self.arrays.cuda.nvrtc
        options = (*source.options(types), *AS_CUPY, f"-arch=sm_{source.architecture}")
        made_from = repr((nvrtc.getVersion(), options, source.text)).encode()
        folder = Path(os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache").expanduser()
        path = folder / f"minigen-{hashlib.sha256(made_from).hexdigest()}.cubin"
        if not path.exists():
            cubin = assemble(nvrtc, source.text, options)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(cubin)
            os.replace(file.name, path)
        return self.arrays.RawModule(path=str(path)).module


def assemble(nvrtc, text, options):
    """CUDA C++ to machine code, by CuPy's NVRTC. Raises RuntimeError with the compiler's words."""
    program = nvrtc.createProgram(text, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        return nvrtc.getCUBIN(program) + b"\0"  # CuPy takes the last byte, which is 0, for the end of a text
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


machine = Card()  # what kernels run on


@contextmanager
def running_on(other):
    """Inside the block kernels run on `other`, which has Card's `arrays`, `place`, `function`: the tests' emulator."""
    global machine
    before, machine = machine, other
    try:
        yield
    finally:
        machine = before


# ---- arrays, of CuPy or (in the emulator) of NumPy ----


def library(x):
    """The array library of x."""
    return np if type(x) is np.ndarray else sys.modules["cupy"]


def contiguous(x):
    """x itself if it is C-contiguous, else a copy that is."""
    return x if x.flags.c_contiguous else library(x).ascontiguousarray(x)


def cast(x, dtype):
    """x itself if it has the type, else a copy that does; None stays None."""
    return x if x is None or x.dtype == dtype else x.astype(dtype)


def rows_of(x, dims=1):
    """x as (rows, width), contiguous: its last `dims` dimensions together."""
    width = 1
    for size in x.shape[x.ndim - dims :]:
        width *= size
    return contiguous(x).reshape(x.size // max(width, 1), width)


def over(n, size):
    """How many pieces of `size` cover n."""
    return -(-n // size)
