"""What each kernel asks of a card's memory, counted without a card: bytes, sectors, wavefronts of shared memory.

`Counter` is the emulator with its kernels compiled so that each access is seen; traffic.cpp has the rules. It keeps a
`Launch` for every kernel that ran. Speed is not among them: a kernel that moves no byte twice may still be slow. But
one that moves them twice, or in pieces, cannot be fast. traffic_table.py does it for every family.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import emulator
import numpy as np

COUNTER = Path(__file__).with_name("traffic.cpp")
FLAGS = (
    *("-std=c++17", "-O0", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-omit-frame-pointer", "-fPIC", "-w"),
    *("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-fno-threadsafe-statics", "-DCOUNTED"),
)
PATH = 12  # as in traffic.cpp
u64 = ctypes.c_uint64


@dataclass
class Site:
    """A place in the code with the calls that led there; moved and least: sectors, or wavefronts in shared memory."""

    size: int
    written: bool
    shared: bool
    requests: int
    bytes: int
    moved: int
    least: int
    path: tuple


@dataclass
class Launch:
    """arrays: of each the bytes that are read and written, each byte counted once."""

    file: str
    name: str
    library: str
    arrays: list
    sites: list

    @property
    def bytes(self):
        return sum(read + written for read, written in self.arrays)

    def count(self, shared):
        """(moved, least): sectors of global memory, or wavefronts of shared memory."""
        own = [site for site in self.sites if site.shared == shared]
        return sum(site.moved for site in own), sum(site.least for site in own)


class Counter(emulator.Emulator):
    """The emulator, with `launches`: what each launch so far asked of memory. `more`: further flags for g++.

    An array stands at the same offset from a multiple of 512 bytes as in the array that it is a view of, as CuPy's do.
    """

    def __init__(self, folder, *more):
        self.flags, self.launches, self.running = (*FLAGS, *more), [], None
        super().__init__(folder)
        self.path = folder / "libtraffic.so"
        words = "-std=c++17", "-O1", "-fno-omit-frame-pointer", "-fPIC", "-shared"
        emulator.compiler(*words, str(COUNTER), "-o", str(self.path))
        self.counts = ctypes.CDLL(str(self.path))

    def place(self):
        return "counter"  # whose functions are not the emulator's

    def build(self, path, result, *defines):
        code = path.with_suffix(".o")  # linked by itself: else the compiler's own sanitizer would come along
        emulator.compiler(*self.flags, "-c", *defines, str(path), "-o", str(code))
        emulator.compiler("-shared", str(code), str(self.path), "-o", str(result))

    def function(self, source, name, types):
        call = super().function(source, name, types)
        library = self.library(source, types)._name

        def counted(*arguments):
            self.running = source.file, name, library
            return call(*arguments)

        return counted

    def copy(self, array, index):
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        made = emulator.Copy(array, index, root.ctypes.data, 512)
        self.counts.traffic_array(u64(made.memory.ctypes.data + made.begin), u64(made.size))
        return made

    def once(self, run, name, grid, block, arguments, order, shared, together):
        if order:  # the emulator's own tests see to the other order
            return self.last
        self.counts.traffic_begin()
        self.last = super().once(run, name, grid, block, arguments, order, shared, together)
        self.counts.traffic_end()
        self.launches.append(Launch(*self.running, list(map(self.bytes_of, range(len(self.last)))), self.sites()))
        return self.last

    def bytes_of(self, index):
        read, written = u64(), u64()
        self.counts.traffic_bytes(index, ctypes.byref(read), ctypes.byref(written))
        return read.value, written.value

    def sites(self):
        row, sites = (u64 * (8 + PATH))(), []
        for i in range(self.counts.traffic_sites()):
            self.counts.traffic_site(i, row)
            size, written, shared, requests, count, moved, least, depth = row[:8]
            path = tuple(row[8 : 8 + min(depth + 1, PATH)])
            sites.append(Site(size, bool(written), bool(shared), requests, count, moved, least, path))
        return sites
