"""Where the CUDA kernels run in these tests: in the emulator, and on a card where there is one."""

import sys

import numpy as np
import pytest

from minigen.device import to_device
from minigen.kernels.cuda import compile


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    import emulator

    if emulator.COMPILER is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux, which stands in for a GPU here")
    return emulator.Emulator(tmp_path_factory.mktemp("emulator"))


@pytest.fixture(params=["emulated", pytest.param("card", marks=pytest.mark.gpu)])
def on_gpu(request):
    """A function that calls a CUDA family's function with NumPy arrays, and gives NumPy arrays back."""
    if request.param == "card":
        yield Calls(lambda x: to_device(x, "cuda"), lambda x: to_device(x, "cpu"))
    else:
        with compile.running_on(request.getfixturevalue("emulator")):
            yield Calls(lambda x: x, lambda x: x)


@pytest.fixture
def on_hopper(on_gpu, monkeypatch):
    """`on_gpu`, of compute capability 9.0."""
    if isinstance(compile.machine, compile.Card):
        if compile.machine.capability != 90:
            pytest.skip("needs a card of compute capability 9.0")
    else:
        monkeypatch.setattr(compile.machine, "capability", 90)
        monkeypatch.setattr(compile.machine, "shared_memory", 227 * 1024)
    return on_gpu


class Calls:
    """there, back: from NumPy to where the kernels run, and back."""

    def __init__(self, there, back):
        self.there, self.back = there, back

    def __call__(self, function, *arguments, **named):
        result = function(*map(self.over, arguments), **{name: self.over(x) for name, x in named.items()})
        return tuple(map(self.back, result)) if isinstance(result, tuple) else self.back(result)

    def over(self, x):
        return self.there(x) if isinstance(x, np.ndarray) else x

    def in_place(self, function, *arguments):
        """Call a function that changes its arrays. Returns the arrays."""
        moved = [self.over(x.copy() if isinstance(x, np.ndarray) else x) for x in arguments]
        function(*moved)
        return [self.back(x) if x is not None and not np.isscalar(x) else x for x in moved]


@pytest.fixture(params=["float32", pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def dtype(request):
    """A type of numbers in memory. float16 takes the same paths as bfloat16, but for its conversions."""
    if request.param == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes").bfloat16)
    return np.dtype(request.param)


@pytest.fixture(params=[pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def half(request):
    """A 16-bit type."""
    return np.dtype(request.param if request.param == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
