"""A cuBLAS that runs on NumPy arrays: it reads memory by address, columns first, as the library's manual says.

    with compile.running_on(Host(emulator)) as host:
        blas.matmul(a, b)
        host.cublas.calls               # (function, arguments by name) of each call

Its functions are C functions, made by ctypes with the signatures that blas.py declares, so that arguments are passed as
to the true library. Kernels run in the emulator.
"""

import ctypes
from types import SimpleNamespace

import numpy as np

from minigen.kernels.cuda import blas

TYPES = {0: np.dtype(np.float32), 2: np.dtype(np.float16)}
try:
    import ml_dtypes

    TYPES[14] = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    pass
INVALID = 7


class CuBLAS:
    """handles: how many were created; set: what was set, in order; fails: the status of every product."""

    def __init__(self):
        self.calls, self.set, self.handles, self.fails = [], [], 0, 0
        functions = self.create, self.set_stream, self.set_workspace, self.set_math_mode, self.gemm, self.gemm_batched
        for (name, kinds), function in zip(blas.SIGNATURES.items(), functions, strict=True):
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(function))

    def create(self, place):
        self.handles += 1
        place[0] = 1000 + self.handles
        return 0

    def set_stream(self, handle, stream):
        self.set.append(("stream", handle, stream))
        return 0

    def set_workspace(self, handle, address, size):
        self.set.append(("workspace", handle, address, size))
        return 0

    def set_math_mode(self, handle, mode):
        self.set.append(("math mode", handle, mode))
        return 0

    def gemm(self, handle, ta, tb, m, n, k, alpha, a, kind_a, lda, b, kind_b, ldb, beta, c, kind_c, ldc, compute, algo):
        alone = a, kind_a, lda, 0, b, kind_b, ldb, 0, beta, c, kind_c, ldc, 0, 1, compute, algo
        return self.product("cublasGemmEx", handle, ta, tb, m, n, k, alpha, *alone)

    def gemm_batched(self, *arguments):
        return self.product("cublasGemmStridedBatchedEx", *arguments)

    def product(self, name, handle, ta, tb, m, n, k, alpha, a, kind_a, lda, stride_a, b, kind_b, ldb, stride_b, beta, c,
                kind_c, ldc, stride_c, count, compute, algorithm):  # fmt: skip
        asked = SimpleNamespace(**locals())
        self.calls.append((name, asked))
        if self.fails:
            return self.fails
        steps = lda >= max(1, k if ta else m) and ldb >= max(1, n if tb else k) and ldc >= max(1, m)
        if min(m, n, k, count, stride_a, stride_b, stride_c) < 0 or not steps:
            return INVALID
        for i in range(count):
            left = columns_first(a, kind_a, lda, i * stride_a, k if ta else m, m if ta else k)
            right = columns_first(b, kind_b, ldb, i * stride_b, n if tb else k, k if tb else n)
            out = columns_first(c, kind_c, ldc, i * stride_c, m, n)
            left, right = (left.T if ta else left), (right.T if tb else right)
            value = alpha[0] * (left.astype(np.float32) @ right.astype(np.float32))
            out[...] = value if beta[0] == 0 else value + beta[0] * out.astype(np.float32)
        return 0


def columns_first(address, kind, step, start, rows, columns):
    """The matrix (rows, columns) that lies there, each column `step` numbers behind the one before."""
    dtype = TYPES[kind]
    size = dtype.itemsize
    numbers = max((columns - 1) * step + rows, 0) if rows and columns else 0
    memory = (ctypes.c_char * (numbers * size)).from_address(address + start * size)
    return np.ndarray((rows, columns), dtype, memory, strides=(size, step * size))


class Host:
    """A card whose kernels run in the emulator, with this cuBLAS beside them."""

    arrays = np

    def __init__(self, emulator):
        self.emulator, self.cublas, self.stream, self.capability = emulator, CuBLAS(), 7, 80

    def place(self):
        return "host"

    def function(self, source, name, types):
        return self.emulator.function(source, name, types)

    def limits(self):
        return self.emulator.limits()

    def current_stream(self):
        return SimpleNamespace(ptr=self.stream)

    def address(self, array):
        return array.ctypes.data
