"""A CUDA card made of g++ and fibers: kernels run on NumPy arrays, as `Source.run` launches them.

    with compile.running_on(Emulator(folder)):
        y = softmax.softmax(x)

The very text that NVRTC would get is compiled by g++ behind emulator.h, and gets the very arguments and the very grid.
Each launch runs twice, with threads and blocks in ascending and in descending order, and must give the same bits: a
barrier that lacks shows. Each array stands in a copy between margins, at the same offset from a multiple of 16 bytes:
a number written outside it is an error, and one read from outside is NaN, another one for each array. So are
the gaps of an array that has some, which a kernel may read, and not write.

The blocks of a launch run one after another, but `together=True` lets them take turns, at their grid barriers.
"""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from minigen.kernels.cuda.compile import pack
from minigen.kernels.cuda.elementwise import is_dense

COMPILER = shutil.which("g++")
SHIM = Path(__file__).with_name("emulator.h")
MARGIN = 256  # bytes before and after each array
DEFINITION = re.compile(r"__global__ (?:__launch_bounds__\([\w, ]+\) )?void (\w+)\(")
FLAGS = (
    *("-std=c++17", "-O0", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC", "-w"),
    *("-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error"),
)


def compiler(*words, input=None):
    """What g++ prints. Raises RuntimeError with its complaints."""
    done = subprocess.run([COMPILER, *words], input=input, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"g++ {' '.join(words)}\n{done.stderr[:4000]}")
    return done.stdout


class Emulator:
    """Stands for `compile.Card`. `folder`: where the compiled libraries go, for this process."""

    arrays = np
    multiprocessors, shared_memory = 8, 64 * 1024  # what kernels are told that there is
    capability, cublas = 80, None
    flags = FLAGS

    def __init__(self, folder):
        self.folder, self.libraries, self.launched = folder, {}, set()
        shutil.copy(SHIM.with_name("emulator_wgmma.h"), folder)
        shim = shutil.copy(SHIM, folder)
        compiler(*self.flags, "-x", "c++-header", shim)  # once: it is half the time of a small file

    def place(self):
        return "emulator"

    def address(self, array):
        return array.ctypes.data

    def limits(self):
        return self.multiprocessors, self.shared_memory

    def library(self, source, types):
        key = source.file, source.extra, types
        if key not in self.libraries:
            self.libraries[key] = ctypes.CDLL(str(self.compile(source, types)))
        return self.libraries[key]

    def compile(self, source, types):
        defined = [word for word in source.extra if word.startswith("-D")]
        stem = "".join([source.file.removesuffix(".cu"), *(f"-{t.name}" for t in types), *defined])
        path, result = self.folder / f"{stem}.cpp", self.folder / f"{stem}.so"
        defines = [word for word in source.options(types) if word.startswith("-D")]
        plain = "".join(line for line in source.text.splitlines(True) if not line.startswith("#line"))
        expanded = compiler("-E", "-P", "-x", "c++", *defines, "-", input=plain)  # macros may make kernels
        kernels = "\n".join(f"EMULATED({name})" for name in DEFINITION.findall(expanded))
        path.write_text(f'#include "{SHIM.name}"\nnamespace {{\n{source.text}\n}}\n{kernels}\n')
        self.build(path, result, *defines)
        return result

    def build(self, path, result, *defines):
        compiler(*self.flags, "-shared", *defines, str(path), "-o", str(result))

    def function(self, source, name, types):
        library = self.library(source, types)
        run, kinds = getattr(library, f"emulator_run_{name}"), getattr(library, f"emulator_kinds_{name}")
        run.restype = kinds.restype = ctypes.c_char_p
        run.argtypes = [ctypes.c_void_p] + 6 * [ctypes.c_uint] + 3 * [ctypes.c_int]
        wanted = kinds().decode()

        def call(grid, block, arguments, shared=0, together=False):
            self.launched.add((source.file, name))
            given = "".join(LETTERS.get(type(a), "p") for a in arguments)
            assert given == wanted, f"{name} takes {wanted} and is given {given}"
            assert np.prod(block) <= 1024 and max(grid[1:]) < 65536, f"{name}: a card has no {grid} blocks of {block}"
            fits = shared <= self.shared_memory and (not together or np.prod(grid) <= self.multiprocessors)
            assert fits, f"{name}: {grid} blocks with {shared} bytes each do not fit the card"
            results = self.once(run, name, grid, block, arguments, 0, shared, together)
            again = self.once(run, name, grid, block, arguments, 1, shared, together)
            for index, (one, other) in enumerate(zip(results, again)):
                assert one.content == other.content, f"{name}: array {index} depends on the order of the threads"
            for result in results:
                result.give_back()

        return call

    def once(self, run, name, grid, block, arguments, order, shared, together):
        """What the arrays hold after the launch, which does not touch them."""
        arrays = {id(array): array for array in arguments if isinstance(array, np.ndarray)}
        copies = {name: self.copy(array, index) for index, (name, array) in enumerate(arrays.items())}
        fault = run(pack(arguments, lambda array: copies[id(array)].address), *grid, *block, order, shared, together)
        assert fault is None, f"{name}: {fault.decode()}"
        for copy in copies.values():
            copy.read(name)
        return list(copies.values())

    def copy(self, array, index):
        return Copy(array, index)


LETTERS = {int: "q", float: "f"}


class Copy:
    """An array's bytes between margins, at the array's address less `start`, but for a multiple of `align`."""

    def __init__(self, array, index, start=0, align=16):
        self.array, self.dense = array, is_dense(array) or not array.size
        first, last = array.ctypes.data, array.ctypes.data + array.nbytes
        if not self.dense:
            first, last = np.lib.array_utils.byte_bounds(array)
        self.size = last - first
        self.memory = np.full(self.size // 2 + MARGIN + align // 2, 0xFFC0 + index, np.uint16).view(np.uint8)
        self.clean = self.memory[:2].tobytes()
        own = self.memory.ctypes.data
        self.begin = MARGIN + (first - start - own) % align
        self.address = own + self.begin + array.ctypes.data - first
        if self.dense:
            ctypes.memmove(own + self.begin, first, self.size)
        else:
            copy = np.ndarray(array.shape, array.dtype, self.memory, self.address - own, array.strides)
            copy[...] = array
            self.content = self.memory[self.begin : self.begin + self.size].tobytes()

    def read(self, name):
        begin, end = self.begin, self.begin + self.size
        margins = self.memory[:begin].tobytes() + self.memory[end:].tobytes()
        clean = margins == self.clean * (len(margins) // 2)
        assert clean, f"{name} writes outside an array of shape {self.array.shape}"
        if self.dense:
            self.content = self.memory[begin:end].tobytes()
        else:
            same = self.memory[begin:end].tobytes() == self.content
            assert same, f"{name} writes to an array with gaps, of shape {self.array.shape}"

    def give_back(self):
        if self.dense and self.array.flags.writeable:
            ctypes.memmove(self.array.ctypes.data, self.content, self.size)
