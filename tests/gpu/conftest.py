"""The engine's way over `device="cuda"`: on a card where there is one, else on the stand-in for CuPy."""

import sys

import pytest
import standin

import minigen


@pytest.fixture
def in_place():
    """The stand-in for CuPy, kernels off, whether there is a GPU or not."""
    with standin.installed() as cupy:
        yield cupy


@pytest.fixture
def card(request):
    """CuPy where there is a GPU, else the stand-in for it, kernels off; a test marked kernels brings its own."""
    if request.node.get_closest_marker("kernels"):
        yield
    elif minigen.cuda_available():
        import cupy

        yield cupy
    else:
        with standin.installed() as cupy:
            yield cupy


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    """What runs CUDA kernels without a card: see tests/kernels/cuda."""
    import emulator

    if emulator.COMPILER is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux, which stands in for a GPU here")
    return emulator.Emulator(tmp_path_factory.mktemp("emulator"))
