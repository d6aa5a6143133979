"""Kernels by g++: what CuPy gives to its compiler is built as C++ and run in the emulator of tests/kernels/cuda.

A kernel of CuPy's that is a loop over all elements (CUPY_FOR), and has no barrier and no shuffle, is run as one thread;
any other by the emulator's fibers. A launch in a captured stream keeps a copy of its arguments, as the driver does.
"""

import ctypes
import hashlib
import os
import re
import subprocess
import sys
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cached_property
from pathlib import Path

from minigen.kernels.cuda.compile import Card

from . import driver

HERE = Path(__file__).parent
EMULATOR = HERE.parents[1] / "kernels" / "cuda"
MEETINGS = "__syncthreads", "__shfl", "__syncwarp"
OF_CUPY = re.compile(r"#include <(cupy/[\w/]+\.(cuh|h)|cuda_fp16\.h)>")  # which before.h has included
DYNAMIC = re.compile(r"extern __shared__\s+(?:__align__\(\d+\)\s*)?([\w:<> ]+?)\s+(\w+)\s*\[\s*\]\s*;")
BOUNDS = r"(?:__launch_bounds__\([^)]*\)\s*)?"
KERNEL = re.compile(rf"__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)\s*\(")
COMMON = "-std=c++17", "-O1", "-w", "-fPIC"


class Module:
    """One source, as CuPy compiles it. expressions: the names of its kernels where they are templates."""

    def __init__(self, source, options, expressions):
        self.source, self.expressions = source, tuple(expressions or ())
        self.defines = [word for word in options if word.startswith("-D")]
        self.fused = "--fmad=false" not in options
        self.own = "#define KERNEL " in source  # of minigen: it has common.cuh in it
        self.names = {name: f"expression_{i}" for i, name in enumerate(self.expressions)}
        self.alone = not self.own and "CUPY_FOR" in source and not any(word in source for word in MEETINGS)
        self.library = None

    def text(self):
        """The C++ of it, and the functions by which its kernels are run."""
        if self.own:
            plain = "".join(line for line in self.source.splitlines(True) if not line.startswith("#line"))
            expanded = gplusplus("-E", "-P", "-x", "c++", *self.defines, "-", input=plain)  # macros may make kernels
            names = sorted(set(KERNEL.findall(expanded)))
            lines = ['#include "emulator.h"', '#include "harsh.h"', "namespace {", self.source, "}"]
        else:
            text = DYNAMIC.sub(r"\1* \2 = (\1*)emulator::dynamic_shared();", OF_CUPY.sub("", self.source))
            names = [] if self.expressions else sorted(set(KERNEL.findall(text)))
            lines = [text]
        lines.append('#include "run.h"')
        for name, kernel in self.names.items():
            names.append(kernel)
            lines.append(f"static constexpr auto {kernel} = {name};")
        return "\n".join([*lines, *(f"RUNNABLE({name})" for name in names), ""])


class Compiler:
    """Modules and their functions, by the numbers that CuPy has for them. folder: keeps what g++ makes."""

    def __init__(self, folder, cuda, harsh):
        self.folder, self.harsh = folder, harsh
        self.modules, self.functions, self.numbers = {}, {}, {}
        self.built = self.launches = 0
        ours = "emulator.h", "emulator_wgmma.h"
        files = [*(EMULATOR / name for name in ours), *sorted(HERE.glob("*.h"))]
        self.state = "".join(path.read_text() for path in files) + str(cuda)  # what all are compiled behind
        arithmetic = ("-mfma", "-DHARSH") if harsh else ()
        self.flags, self.cuda = (*COMMON, *arithmetic, f"-I{HERE}", f"-I{EMULATOR}"), cuda
        self.before = None

    @cached_property
    def cupys(self):
        """What g++ is told for CuPy's own kernels."""
        import cupy

        include = Path(cupy.__file__).parent / "_core" / "include"
        parts = "", "/cupy/_cccl/thrust", "/cupy/_cccl/cub", "/cupy/_cccl/libcudacxx"
        return "-fpermissive", f"-I{self.cuda}", *(f"-I{include}{part}" for part in parts)

    def contraction(self, fused):
        return f"-ffp-contract={'fast' if self.harsh and fused else 'off'}"

    def header(self):
        """before.h, compiled once: it is most of the time of a small file."""
        if self.before is None:
            flags = *self.flags, self.contraction(True), *self.cupys
            name = hashlib.sha256(repr((self.state, flags)).encode()).hexdigest()[:20]
            self.before = self.folder / f"before-{name}.h"
            made = Path(f"{self.before}.gch")
            if not made.exists():
                self.before.write_text(f'#include "{HERE / "before.h"}"\n')
                self.write(made, *flags, "-x", "c++-header", str(self.before))
        return self.before

    def write(self, path, *words):
        """Let g++ write `path`, beside it first: others may be at it."""
        beside = f"{path}.{os.getpid()}"
        gplusplus(*words, "-o", beside)
        os.replace(beside, path)

    def module(self, source, options, expressions=None):
        """Keep a source. Gives its number."""
        number = len(self.modules) + 1
        self.modules[number] = Module(source, tuple(options), expressions)
        return number

    def compile_module(self, source, options=(), *others, name_expressions=None, **named):
        """In place of CuPy's function of this name, with a leading _ and `_with_cache` behind it."""
        from cupy.cuda.function import Module as Loaded

        loaded = Loaded()
        loaded.load(str(self.module(source, options, name_expressions)).encode())  # an image, to CuPy
        if name_expressions:
            loaded._set_mapping({name: name for name in name_expressions})
        return loaded

    def library(self, module):
        if module.library is None:
            text = module.text()
            flags = [*self.flags, self.contraction(module.fused)]
            flags += ["-fno-strict-aliasing"] if module.own else self.cupys
            made_from = repr((self.state, text, flags, module.defines)).encode()
            path = self.folder / f"{hashlib.sha256(made_from).hexdigest()[:32]}.so"
            if not path.exists():
                source = path.with_suffix(f".{os.getpid()}.cpp")
                source.write_text(text)
                behind = () if module.own else ("-include", str(self.header()))
                self.write(path, *flags, *behind, *module.defines, "-shared", str(source))
                source.unlink(missing_ok=True)
                self.built += 1
            module.library = ctypes.CDLL(str(path))
        return module.library

    def function(self, module, name):
        key = module, name
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers) + 1
            self.functions[self.numbers[key]] = key
        return self.numbers[key]

    def launch(self, function, grid, block, shared, stream, arguments, together=False):
        number, name = self.functions[function]
        module, self.launches = self.modules[number], self.launches + 1
        library, symbol = self.library(module), module.names.get(name, name)
        run, sizes = getattr(library, f"run_{symbol}"), getattr(library, f"sizes_{symbol}")
        run.restype, run.argtypes = c_char_p, [c_void_p, *6 * [c_uint], c_int, c_int, c_int]
        held = None
        if stream in driver.streams.captured:
            sizes.restype = POINTER(c_size_t)
            held = Arguments(arguments, sizes())
            arguments = held.address

        def act():
            fault = run(arguments, *grid, *block, shared, module.alone, together)
            if fault is not None:
                raise RuntimeError(f"{name}: {fault.decode()}")
            return held  # which lives as long as this function

        driver.streams.do(stream, name, act)


class Arguments:
    """A copy of a launch's arguments. sizes: their number, then the bytes of each."""

    def __init__(self, address, sizes):
        count = sizes[0]
        table = (c_void_p * count).from_address(address) if count else ()
        self.copies = [ctypes.create_string_buffer(ctypes.string_at(table[i], sizes[i + 1])) for i in range(count)]
        self.table = (c_void_p * max(count, 1))(*map(ctypes.addressof, self.copies))
        self.address = ctypes.addressof(self.table)


def gplusplus(*words, input=None):
    """What g++ prints. Raises RuntimeError with its complaints."""
    done = subprocess.run(["g++", *words], input=input, capture_output=True, text=True)
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise RuntimeError("\n".join(complaints)[:2000])
    return done.stdout


def replace(compiler):
    """Let CuPy compile and launch by `compiler`."""
    driver.own.compiler = compiler
    name = "_compile_module_with_cache"
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("cupy") and hasattr(module, name):
            setattr(module, name, compiler.compile_module)
    Card.module = plain_module


def plain_module(card, source, types):
    """In place of Card's `module`: g++ knows no architectures, so a source that names one is like any other."""
    return card.arrays.RawModule(code=source.text, options=source.options(types)).module
