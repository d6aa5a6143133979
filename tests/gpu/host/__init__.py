"""CuPy itself on host memory: its own code and minigen's, from `import cupy` down to the launch, without a card.

    python -m pytest tests/kernels/cuda tests/ops tests/gpu tests/capture -m gpu --host

CuPy 14.2 is as its wheel has it. What is replaced lies below it:

* driver.py: the C functions of CUDA's runtime and driver. Memory is this machine's, a stream does all at once, and one
  that is captured writes down what it is given; a graph does that again at each launch.
* compiled.py: the compiler. CuPy's kernels and minigen's are built by g++ behind the emulator of tests/kernels/cuda,
  when they are first launched, and kept from run to run; so the first run takes minutes.
* libraries.py, solving.py: cuBLAS, Thrust, and of cuSOLVER what solves equations, computed by NumPy.

A launch that goes wrong, memory that is asked for its numbers while a graph is captured, work beside a capture: each
is a fault, and the test in which it happens fails (plugin.py). `harsh` makes arithmetic as unlike the host's as that of
a card may be: denormals are flushed, products and sums fused, and in minigen's kernels exp, log, tanh and erf are off
by up to two units in the last place.

What it cannot show: speed, the order of threads, blocks and streams (one runs after another), memory that runs out,
tensor cores, what NVRTC refuses, NVIDIA's libraries. The card is said to be of compute capability 8.0, or 9.0 with
`hopper`, where products by warpgroups are those of the emulator.

It needs Linux on an x86-64, g++, and CUDA's headers, which CuPy's extra `ctk` brings. Nothing of it is imported where
--host is not given.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

VERSION = "14.2"


def missing():
    """What lacks, as a sentence; None where CuPy can run here."""
    if not compiles():
        return "CuPy on host memory needs Linux on an x86-64, and g++"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy on host memory needs CuPy: pip install cupy-cuda12x[ctk]"
    found = [d.version for d in importlib.metadata.distributions() if (d.metadata["Name"] or "").startswith("cupy")]
    if not any(version.startswith(VERSION) for version in found):
        return f"CuPy on host memory is made for CuPy {VERSION}, installed is {', '.join(found) or 'no wheel of it'}"
    if headers() is None:
        return "CuPy on host memory needs CUDA's headers: pip install cupy-cuda12x[ctk], or set CUDA_PATH"
    return None


def compiles():
    """Whether kernels can be built here."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and shutil.which("g++") is not None


def headers():
    """The folder of CUDA's headers, or None."""
    places = [Path(os.environ.get("CUDA_PATH", "/usr/local/cuda")) / "include"]
    for folder in sys.path:
        places += [*Path(folder).glob("nvidia/*/include")]
    return next((place for place in places if (place / "cuda_fp16.h").exists()), None)


def start(folder, way="plain"):
    """Import CuPy onto host memory. `folder` keeps what is compiled; way: "plain", "harsh" or "hopper".

    Gives the plugin for pytest.
    """
    if "cupy" in sys.modules:
        raise RuntimeError("CuPy is imported already: what lies below it cannot be replaced any more")
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB's kernels are NVIDIA's, not CuPy's
    from . import driver

    if way == "hopper":
        driver.become_hopper()
    driver.replace_all()
    from . import compiled, libraries, plugin

    libraries.replace()
    compiled.replace(compiled.Compiler(Path(folder), headers(), way == "harsh"))
    return plugin
