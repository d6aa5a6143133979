"""A CUDA card made of g++ and fibers: kernels run on NumPy arrays, as `Source.run` launches them.

    with compile.running_on(Emulator(folder)):
        y = softmax.softmax(x)

The very text that NVRTC would get is compiled by g++ behind emulator.h, and gets the very arguments and the very grid.
Each launch runs twice, with threads and blocks in ascending and in descending order, and must give the same bits: a
barrier that lacks shows. Each array stands in a copy between margins, at the same offset from a multiple of 16 bytes:
a number written outside it is an error, and one read from outside is NaN, another one for each array.
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
DEFINITION = re.compile(r"__global__ (?:__launch_bounds__\(\d+\) )?void (\w+)\(")
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

    def __init__(self, folder):
        self.folder, self.libraries, self.launched = folder, {}, set()
        shim = shutil.copy(SHIM, folder)
        compiler(*FLAGS, "-x", "c++-header", shim)  # once: it is half the time of a small file

    def place(self):
        return "emulator"

    def library(self, source, types):
        key = source.file, types
        if key not in self.libraries:
            self.libraries[key] = ctypes.CDLL(str(self.compile(source, types)))
        return self.libraries[key]

    def compile(self, source, types):
        stem = "-".join([source.file.removesuffix(".cu"), *(t.name for t in types)])
        path, result = self.folder / f"{stem}.cpp", self.folder / f"{stem}.so"
        defines = [word for word in source.options(types) if word.startswith("-D")]
        plain = "".join(line for line in source.text.splitlines(True) if not line.startswith("#line"))
        expanded = compiler("-E", "-P", "-x", "c++", *defines, "-", input=plain)  # macros may make kernels
        kernels = "\n".join(f"EMULATED({name})" for name in DEFINITION.findall(expanded))
        path.write_text(f'#include "{SHIM.name}"\nnamespace {{\n{source.text}\n}}\n{kernels}\n')
        compiler(*FLAGS, "-shared", *defines, str(path), "-o", str(result))
        return result

    def function(self, source, name, types):
        library = self.library(source, types)
        run, kinds = getattr(library, f"emulator_run_{name}"), getattr(library, f"emulator_kinds_{name}")
        run.restype = kinds.restype = ctypes.c_char_p
        run.argtypes = [ctypes.c_void_p] + 6 * [ctypes.c_uint] + [ctypes.c_int]
        wanted = kinds().decode()

        def call(grid, block, arguments):
            self.launched.add((source.file, name))
            given = "".join(LETTERS.get(type(a), "p") for a in arguments)
            assert given == wanted, f"{name} takes {wanted} and is given {given}"
            assert np.prod(block) <= 1024 and max(grid[1:]) < 65536, f"{name}: a card has no {grid} blocks of {block}"
            results = self.once(run, name, grid, block, arguments, 0)
            again = self.once(run, name, grid, block, arguments, 1)
            for index, (one, other) in enumerate(zip(results, again)):
                assert one.content == other.content, f"{name}: array {index} depends on the order of the threads"
            for result in results:
                result.give_back()

        return call

    def once(self, run, name, grid, block, arguments, order):
        """What the arrays hold after the launch, which does not touch them."""
        arrays = {id(array): array for array in arguments if isinstance(array, np.ndarray)}
        copies = {name: Copy(array, index) for index, (name, array) in enumerate(arrays.items())}
        fault = run(pack(arguments, lambda array: copies[id(array)].address), *grid, *block, order)
        assert fault is None, f"{name}: {fault.decode()}"
        for copy in copies.values():
            copy.read(name)
        return list(copies.values())


LETTERS = {int: "q", float: "f"}


class Copy:
    """An array's bytes between margins."""

    def __init__(self, array, index):
        assert is_dense(array) or not array.size, (
            f"a kernel is given an array with gaps: {array.shape}, strides {array.strides}"
        )
        self.array, self.size = array, array.nbytes
        self.memory = np.full(self.size // 2 + MARGIN + 8, 0xFFC0 + index, np.uint16).view(np.uint8)
        self.clean = self.memory[:2].tobytes()
        start = self.memory.ctypes.data
        self.begin = MARGIN + (array.ctypes.data - start) % 16
        self.address = start + self.begin
        ctypes.memmove(self.address, array.ctypes.data, self.size)

    def read(self, name):
        begin, end = self.begin, self.begin + self.size
        margins = self.memory[:begin].tobytes() + self.memory[end:].tobytes()
        clean = margins == self.clean * (len(margins) // 2)
        assert clean, f"{name} writes outside an array of shape {self.array.shape}"
        self.content = self.memory[begin:end].tobytes()

    def give_back(self):
        if self.array.flags.writeable:
            ctypes.memmove(self.array.ctypes.data, self.content, self.size)
