"""Random words and standard normal numbers, the very bits of `minigen/random.py`: random.cu.

They are made on CuPy's current device, and stay there. `first`, the first block, is a number, or in a captured step a
pair: so many blocks after the number in a uint64 array.
"""

import numpy as np

from . import compile
from .compile import Source, over

TYPES = ("float32",)
KERNELS = Source("random.cu", "--fmad=false", "--prec-sqrt=true")
FLOAT32 = np.dtype(np.float32)
BLOCK = 256


def bits(seed, stream, first, n):
    """n words from block `first` on: (n,) uint32."""
    return draw("bits", np.uint32, seed, stream, first, n)


def normal(seed, stream, first, n):
    """n standard normal numbers from block `first` on: (n,) float32."""
    return draw("normal", np.float32, seed, stream, first, n)


def draw(name, dtype, seed, stream, first, n):
    blocks = over(n, 4)
    out = compile.machine.arrays.empty(4 * blocks, dtype)
    KERNELS.run(name, (FLOAT32,), over(blocks, BLOCK), BLOCK, seed, stream, *place(first), out, blocks)
    return out[:n]


def place(first):
    """(blocks, array or None) of a first block."""
    return first if type(first) is tuple else (first, None)
