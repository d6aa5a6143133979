"""Products of matrices by cuBLAS, the library CuPy has loaded, called through ctypes.

    matmul(a, b)                a (..., M, K) @ b (..., K, N), in float32, float16 or bfloat16
    matmul(a, b, into, True)    the product added to what stands in `into`

CuPy's own calls of cuBLAS are refused while a CUDA graph is captured, and know bfloat16 only in part. Called directly,
with a handle, a workspace and a stream that we choose, cuBLAS may be captured and takes all three types. Sums are in
float32 in each, partial ones too. The same shapes give the same bits on one card.

cuBLAS counts columns first where arrays here count rows first. To it, a matrix of ours is its own transpose, and since
(A B)' = B' A', what it is asked for is B times A: this file is the only place where that turn is made. A matrix that
lies in memory as its transpose is named as such and not copied; a stack is one batched call; a matrix that many share
has a stride of 0.

Where cuBLAS is not found, gemm.py makes the products.

Floor: 2 M N K operations, or the bytes of the three matrices. Not yet measured.
"""

import contextlib
import ctypes
import glob
import os
import sys
import threading
import warnings
from ctypes import POINTER, byref, c_float, c_int, c_longlong, c_size_t, c_void_p
from functools import lru_cache
from typing import ClassVar

import numpy as np

from . import compile, gemm, optim
from .compile import FLOATS, library
from .matrices import operands, sizes
from .precision import tf32

TYPES = FLOATS
CUDA_TYPE = {"float32": 0, "float16": 2, "bfloat16": 14}  # library_types.h: CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF
SUM_IN_FLOAT32, SUM_OF_TF32 = 68, 77  # cublas_api.h: CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
AS_IS, TRANSPOSED = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
NO_SHORT_SUMS = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
ANY_ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT
LARGEST = 2**31 - 1  # sizes and steps are C ints
ZERO, ONE = c_float(0), c_float(1)
STATUS = {
    1: "NOT_INITIALIZED",
    3: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}
_matrix = (c_void_p, c_int, c_int)  # address, type, step; in a batched call the stride follows
_stack = (*_matrix, c_longlong)
_start = (c_void_p, c_int, c_int, c_int, c_int, c_int, POINTER(c_float))  # handle, two forms, three sizes, alpha
SIGNATURES = {
    "cublasCreate_v2": (POINTER(c_void_p),),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasSetMathMode": (c_void_p, c_int),
    "cublasGemmEx": (*_start, *_matrix, *_matrix, POINTER(c_float), *_matrix, c_int, c_int),
    "cublasGemmStridedBatchedEx": (*_start, *_stack, *_stack, POINTER(c_float), *_stack, c_int, c_int, c_int),
}


# ---- the library ----


@lru_cache(1)
def find():
    """cuBLAS as CuPy has loaded it, with its functions' signatures; None, and a warning, where it is not found."""
    with contextlib.suppress(ImportError):
        from cupy_backends.cuda.libs import cublas  # noqa: F401  CuPy finds it and loads it where its name is asked for
    for path in candidates():
        try:
            found = ctypes.CDLL(path)
            for name, kinds in SIGNATURES.items():
                function = getattr(found, name)
                function.argtypes, function.restype = kinds, c_int
        except (OSError, AttributeError):
            continue
        return found
    warnings.warn(
        "cuBLAS, which comes with CuPy's CUDA libraries, is not found: products run on minigen's own kernel, slower",
        stacklevel=2,
    )
    return None


def candidates():
    """Where cuBLAS may be: as it is loaded, by its name, and in NVIDIA's wheels; CuPy's version of CUDA first."""
    try:
        with open("/proc/self/maps") as maps:
            words = {line.split()[-1] for line in maps if "/libcublas.so" in line}
    except OSError:  # not Linux
        words = set()
    major = compile.machine.arrays.cuda.runtime.runtimeGetVersion() // 1000
    yield from sorted(words, key=lambda path: f"libcublas.so.{major}" not in path)
    name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
    yield name
    for folder in sys.path:
        yield from glob.glob(os.path.join(folder, "nvidia", "*", "*", name))


def describe():
    """What products run on, for `minigen info`."""
    return "minigen's own kernel (cuBLAS is not found)" if compile.machine.cublas is None else "cuBLAS"


# ---- handles: one for each device and thread ----


class Handle:
    """A cuBLAS handle. It has a workspace for each stream it has worked on, since two streams may work at one time."""

    def __init__(self, cublas, machine):
        self.cublas, self.machine, self.stream, self.workspaces = cublas, machine, None, {}
        self.value = c_void_p()
        refuse("cublasCreate", cublas.cublasCreate_v2(byref(self.value)))
        refuse("cublasSetMathMode", cublas.cublasSetMathMode(self.value, NO_SHORT_SUMS))
        self.room = (32 if machine.capability >= 90 else 4) << 20  # bytes, as NVIDIA recommends

    def on(self, stream):
        """The handle's value, set to work on this stream."""
        if stream != self.stream:
            space = self.workspaces.get(stream)
            if space is None:
                space = self.workspaces[stream] = self.machine.arrays.empty(self.room, np.uint8)
            self.stream = None
            refuse("cublasSetStream", self.cublas.cublasSetStream_v2(self.value, stream))  # takes the workspace away
            address = self.machine.address(space)
            refuse("cublasSetWorkspace", self.cublas.cublasSetWorkspace_v2(self.value, address, self.room))
            self.stream = stream
        return self.value


class Kept(dict):
    """A thread's handles by device. When it ends they are left to the next thread: graphs may use their workspaces."""

    left: ClassVar = {}

    def __del__(self):
        for place, handle in self.items():
            self.left.setdefault(place, []).append(handle)


class Thread(threading.local):
    def __init__(self):
        self.handles = Kept()


thread = Thread()


def handle_of(cublas, machine):
    """This thread's handle for the current device, set to work on the current stream."""
    place = cublas, machine.place()
    handle = thread.handles.get(place)
    if handle is None:
        left = Kept.left.get(place)
        handle = thread.handles[place] = left.pop() if left else Handle(cublas, machine)
    return handle.on(machine.current_stream().ptr)


def refuse(call, status, what=""):
    """Raise RuntimeError unless the status is that of success."""
    if status:
        name = STATUS.get(status, "of another kind")
        raise RuntimeError(f"{call}{what} fails with status {status}, CUBLAS_STATUS_{name}")


# ---- products ----


def matmul(a, b, into=None, add=False, scale=1.0):
    """a (..., M, K) @ b (..., K, N) -> (..., M, N), the leading dimensions as in NumPy's matmul.

    into    an array of the result's shape to write it to and return; it may be float32 where a and b have 16 bits
    add     add the product to what stands in `into`
    scale   a number that the product is multiplied by, unless it is added
    """
    batch, M, K, N = sizes(a, b)
    shape = *batch, M, N
    if into is not None and into.shape != shape:
        raise ValueError(f"a product of shape {shape} into an array of {into.shape}")
    c = into if fits(into, a.dtype) else library(a).empty(shape, a.dtype)
    if add and c is not into:
        c[...] = into
    if K == 0 and not add:
        c.fill(0)
    elif K and c.size:
        cublas = compile.machine.cublas
        if cublas is None:
            gemm.product(a, b, c, add=add)
            if scale != 1:
                optim.scale(c, scale)
        else:
            by_cublas(cublas, a, b, c, batch, add, scale)
    if into is None or c is into:
        return c
    into[...] = c
    return into


def fits(into, dtype):
    """Whether a product of this type can be written there at once."""
    return into is not None and into.flags.c_contiguous and (into.dtype == dtype or into.dtype == np.float32)


@lru_cache(None)
def cuda_type(dtype):
    return CUDA_TYPE[dtype.name]  # a name costs NumPy more than a microsecond


def by_cublas(cublas, a, b, c, batch, add, scale=1.0):
    """c = scale a @ b, or c += a @ b; c is contiguous."""
    machine = compile.machine
    (M, K), N = a.shape[-2:], b.shape[-1]
    handle = handle_of(cublas, machine)
    A, B, (count, strides, starts) = operands(a, b, batch)
    kind, kind_c = cuda_type(a.dtype), cuda_type(c.dtype)
    compute = SUM_OF_TF32 if kind == 0 and tf32() else SUM_IN_FLOAT32
    if max(M, N, K, A.step, B.step, count) > LARGEST:
        raise RuntimeError(f"{a.shape} @ {b.shape}: cuBLAS takes no size above {LARGEST}\n  cut the product into parts")
    at_a, at_b, at_c = machine.address(A.array), machine.address(B.array), machine.address(c)
    alpha, beta = ONE if scale == 1 else c_float(scale), ONE if add else ZERO
    forms = TRANSPOSED if B.transposed else AS_IS, TRANSPOSED if A.transposed else AS_IS
    if count == len(starts) == 1:
        name = "cublasGemmEx"
        status = cublas.cublasGemmEx(
            *(handle, *forms, N, M, K, alpha, at_b, kind, B.step, at_a, kind, A.step),
            *(beta, at_c, kind_c, N, compute, ANY_ALGORITHM),
        )
    else:
        name, status = "cublasGemmStridedBatchedEx", 0
        for start_a, start_b, start_c in starts:
            status = status or cublas.cublasGemmStridedBatchedEx(
                *(handle, *forms, N, M, K, alpha),
                *(at_b + start_b * b.itemsize, kind, B.step, strides[1]),
                *(at_a + start_a * a.itemsize, kind, A.step, strides[0], beta),
                *(at_c + start_c * c.itemsize, kind_c, N, strides[2], count, compute, ANY_ALGORITHM),
            )
    if status:
        card = f"compute capability {machine.capability / 10}"
        refuse(name, status, f" of {a.shape} @ {b.shape}, {a.dtype.name} into {c.dtype.name}, {card},")
