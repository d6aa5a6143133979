"""NVRTC without a GPU: is this CUDA C++ right, as far as the compiler can tell?

    ptx = compile(source)                  # raises RuntimeError with the compiler's own words

The library comes with `pip install nvidia-cuda-nvrtc-cu12` (90 MB, no driver needed) or with a CUDA toolkit.
"""

import ctypes
import ctypes.util
import importlib.util
from functools import cache
from pathlib import Path


@cache
def library():
    """The NVRTC library, or None where there is none."""
    found = importlib.util.find_spec("nvidia")
    folders = list(found.submodule_search_locations) if found else []
    names = ["*/lib/libnvrtc.so.*", "*/bin/nvrtc64_*.dll", "*/bin/x86_64/nvrtc64_*.dll"]
    paths = [path for folder in folders for name in names for path in sorted(Path(folder).glob(name), reverse=True)]
    for path in [*map(str, paths), ctypes.util.find_library("nvrtc")]:
        try:
            if path:
                return ctypes.CDLL(path)
        except OSError:
            continue
    return None


def compile(source, architecture="compute_75", options=()):
    """CUDA C++ to PTX, as text. Raises RuntimeError with the log where it does not compile, or NVRTC is missing."""
    nvrtc = library()
    if nvrtc is None:
        raise RuntimeError("NVRTC is not installed; pip install nvidia-cuda-nvrtc-cu12")
    program = ctypes.c_void_p()
    words = [f"--gpu-architecture={architecture}", *options]
    arguments = (ctypes.c_char_p * len(words))(*[word.encode() for word in words])
    check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(words), arguments)
        if status:
            raise RuntimeError(f"it does not compile for {architecture}:\n{text(nvrtc, program, 'ProgramLog')}")
        return text(nvrtc, program, "PTX")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def text(nvrtc, program, what):
    """The compiler's log, or the PTX."""
    size = ctypes.c_size_t()
    check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    found = ctypes.create_string_buffer(size.value)
    check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, found))
    return found.value.decode(errors="replace").strip()


def check(nvrtc, status):
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"NVRTC: {nvrtc.nvrtcGetErrorString(status).decode()}")
