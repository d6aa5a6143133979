"""A stand-in for CuPy, so that the engine's way over `device="cuda"` is walked without a card.

    with standin.installed():                       # `import cupy` finds the stand-in, and one GPU
        x = minigen.randn(3, 4, device="cuda")
        with standin.no_reads(): y = x @ x.mT       # a step that waits for the card raises HostRead

Its arrays lie in NumPy's memory, and NumPy computes; what they let a program do is what CuPy 14.2.0 lets it do:

* names.json has the functions, methods, signatures and types that CuPy has, read from that version. Another name is an
  AttributeError, another argument a TypeError, another type a TypeError, as there. Python numbers are weak operands,
  NumPy's are not; what knows no bfloat16 answers in float32 or float64, and sorting refuses it.
* Nothing comes to the host but by `get`, `item`, `tolist`, float(), int() and bool(): `np.asarray(x)`, and an operation
  of x with a NumPy array, are TypeErrors. A mask between square brackets, `nonzero` and their like wait for the card.
* Results are arrays, of no dimensions too, and are not an index by themselves. Elementwise results are C-contiguous
  whatever their operands are; views share memory and know their `base`.
* An index out of range wraps, silently, as on a card. A place that is written twice with two values, where a card
  leaves it open which one stays, raises Undefined.

test_beside_cupy.py holds the list of names against CuPy itself where that is installed, GPU or not.
What it cannot show: speed, rounding, streams and their order, memory that runs out, capture in a graph.
"""

import importlib.util
import sys
from contextlib import contextmanager, nullcontext

from minigen import kernels
from minigen.kernels.cuda import compile

from . import modules
from .arrays import HostRead, Undefined, ndarray, no_reads, reads


@contextmanager
def installed(machine=None):
    """Inside the block the stand-in is what `import cupy` finds. Gives it.

    machine: what kernels run on, such as `Emulated`; with None kernels are off, and all is computed by definitions.
    """
    made = modules.build()
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        with kernels.disabled() if machine is None else nullcontext(), compile.running_on(machine or compile.machine):
            yield made["cupy"]
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Emulated:
    """A machine for kernels: the emulator of tests/kernels/cuda, on the memory behind the stand-in's arrays."""

    def __init__(self, emulator):
        self.emulator, self.capability, self.cublas = emulator, emulator.capability, None

    @property
    def arrays(self):
        return sys.modules["cupy"]

    def place(self):
        return "stand-in"  # no number: what a card has compiled is kept beside it, by place

    def limits(self):
        return self.emulator.limits()

    def address(self, array):
        return array.data.ptr

    def function(self, source, name, types):
        call = self.emulator.function(source, name, types)
        opened = lambda x: x._host if isinstance(x, ndarray) else x
        return lambda grid, block, arguments, *options: call(grid, block, tuple(map(opened, arguments)), *options)


def cupy_is_here():
    """Whether CuPy itself is installed."""
    return importlib.util.find_spec("cupy") is not None
