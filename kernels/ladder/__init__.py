"""One operation, climbed rung by rung: from a loop in Python to a kernel on the GPU.

    from minigen.kernels import ladder

    sums = ladder.load("sum")                 # also "softmax" (over rows) and "matmul"
    sums["vector"](x)                         # one rung: a function of NumPy float32 arrays
    for rung in sums.on("cpu"): ...           # those that run on one thread of this machine, the slowest first
    print(sums["vector"].why)                 # what it changes, and why that is faster

The engine uses none of this but its own kernels, which stand as the last rungs on the CPU. Each file has one
operation, its floor in bytes and operations, and its rungs; a rung's docstring says what it changes and why that is
faster. Lesson 3 climbs them. Importing this package loads neither Numba nor CuPy; `load` loads Numba; numba.cuda and
CuPy come with the first call of a rung that needs them.
"""

import importlib
import inspect
from dataclasses import dataclass
from functools import wraps

KERNELS = ("sum", "softmax", "matmul")
PLACES = ("cpu", "threads", "numba.cuda", "cuda")


@dataclass(frozen=True)
class Rung:
    """One way to compute it.

    where    "cpu": one thread; "threads": all of them; "numba.cuda": a GPU, or Numba's simulator of one;
             "cuda": CUDA C++, which needs a GPU and CuPy
    over     the name of the rung that it improves on, or None
    promise  how many times faster it is than that one at the very least, or None where it promises nothing
    """

    ladder: object
    name: str
    run: object
    where: str
    over: str | None
    promise: float | None

    def __call__(self, *arrays):
        return self.run(*arrays)

    @property
    def why(self):
        return inspect.getdoc(self.run)


class Ladder:
    """The rungs of one operation, from the slowest up.

    check(*arrays)       raises TypeError or ValueError for arrays that the rungs do not take
    bytes(*arrays)       what must be moved between memory and processor, at the least
    operations(*arrays)  what must be computed, at the least
    """

    def __init__(self, name, check, bytes, operations):
        self.name, self.check, self.bytes, self.operations = name, check, bytes, operations
        self.rungs = {}

    def rung(self, where="cpu", over=None, promise=None):
        """Decorator: the function below is the next rung."""

        def made(function):
            @wraps(function)
            def run(*arrays):
                self.check(*arrays)
                return function(*arrays)

            self.rungs[function.__name__] = Rung(self, function.__name__, run, where, over, promise)
            return function

        return made

    def __getitem__(self, name):
        if name not in self.rungs:
            raise KeyError(f"the ladder {self.name} has no rung {name!r}; it has {', '.join(self.rungs)}")
        return self.rungs[name]

    def __iter__(self):
        return iter(self.rungs.values())

    def on(self, *places):
        """The rungs that run in one of `places`, in order."""
        return [rung for rung in self if rung.where in places]


def load(name):
    """The ladder called `name`: "sum", "softmax" or "matmul"."""
    if name not in KERNELS:
        raise KeyError(f"there is no ladder {name!r}; there are {', '.join(KERNELS)}")
    return importlib.import_module(f"{__name__}.{name}").LADDER


def expect_float32(name, dimensions, *arrays):
    """What every ladder checks: its loops have no bounds checks and are compiled for contiguous float32."""
    for x in arrays:
        if x.dtype != "float32":
            raise TypeError(f"{name}: takes float32, got {x.dtype}; write x.astype(np.float32)")
        if x.ndim != dimensions or not x.flags.c_contiguous:
            raise ValueError(
                f"{name}: takes a contiguous array of {dimensions} dimension{'s' * (dimensions > 1)}, got shape "
                f"{x.shape}; write np.ascontiguousarray(x)"
            )
