"""NVIDIA's libraries, computed by NumPy: cuBLAS as CuPy calls it and as minigen does, cuSOLVER, and Thrust's sorting.

CuPy's matrices lie columns first here, at addresses, as the libraries' manuals say. minigen's own calls of cuBLAS go to
fake_cublas.py of tests/kernels/cuda. Products may be captured; sorting, as CuPy does it, may not.
"""

import sys
from types import ModuleType, SimpleNamespace

import fake_cublas
import numpy as np

from . import driver, solving
from .memory import F32, F64, matrix, numbers

TYPES = {**fake_cublas.TYPES, 1: F64}  # by cudaDataType
NAMES = {  # of cupy_backends.cuda.libs.cublas
    "CUBLAS_OP_N": 0,
    "CUBLAS_OP_T": 1,
    "CUBLAS_OP_C": 2,
    "CUBLAS_SIDE_LEFT": 0,
    "CUBLAS_FILL_MODE_LOWER": 0,
    "CUBLAS_FILL_MODE_UPPER": 1,
    "CUBLAS_DIAG_NON_UNIT": 0,
    "CUBLAS_POINTER_MODE_HOST": 0,
    "CUBLAS_POINTER_MODE_DEVICE": 1,
    "CUBLAS_DEFAULT_MATH": 0,
    "CUBLAS_TENSOR_OP_MATH": 1,
    "CUBLAS_GEMM_DEFAULT": -1,
    "CUBLAS_GEMM_DEFAULT_TENSOR_OP": 99,
    "CUBLAS_COMPUTE_32F": 68,
    "CUBLAS_COMPUTE_32F_PEDANTIC": 69,
    "CUBLAS_COMPUTE_64F": 70,
    "CUBLAS_COMPUTE_64F_PEDANTIC": 71,
    "CUBLAS_COMPUTE_32F_FAST_TF32": 77,
}


def product(ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc):
    """c = alpha op(a) op(b) + beta c, summed in float32, or in float64 where c has it."""
    wide = F64 if c_type == 1 else F32
    left = matrix(a, *((k, m) if ta else (m, k)), lda, TYPES[a_type]).astype(wide)
    right = matrix(b, *((n, k) if tb else (k, n)), ldb, TYPES[b_type]).astype(wide)
    out = matrix(c, m, n, ldc, TYPES[c_type])
    alpha, beta = numbers(alpha, 1, wide)[0], numbers(beta, 1, wide)[0]
    value = alpha * ((left.T if ta else left) @ (right.T if tb else right))
    out[...] = value if beta == 0 else value + beta * out.astype(wide)


class OfCuPy:
    """The functions of cupy_backends.cuda.libs.cublas that CuPy calls. Their first argument is a handle."""

    def create(self):
        return 11

    def nothing(self, *arguments):
        return 0

    destroy = setStream = setMathMode = setPointerMode = setWorkspace = nothing
    getStream = getMathMode = getPointerMode = nothing

    def gemmEx(self, handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, *how):
        driver.streams.refuse("a product of CuPy's")
        product(ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc)

    def gemmStridedBatchedEx(
        self, handle, ta, tb, m, n, k, alpha, a, a_type, lda, a_by, b, b_type, ldb, b_by, beta, c, c_type, ldc, c_by,
        count, *how,
    ):  # fmt: skip
        driver.streams.refuse("a product of CuPy's")
        steps = [by * TYPES[kind].itemsize for by, kind in ((a_by, a_type), (b_by, b_type), (c_by, c_type))]
        for i in range(count):
            x, y, z = (start + i * step for start, step in zip((a, b, c), steps))
            product(ta, tb, m, n, k, alpha, x, a_type, lda, y, b_type, ldb, beta, z, c_type, ldc)

    def sgemmBatched(self, *arguments):
        self.listed(0, *arguments)

    def dgemmBatched(self, *arguments):
        self.listed(1, *arguments)

    def listed(self, kind, handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count):
        driver.streams.refuse("a product of CuPy's")
        for x, y, z in zip(*(numbers(at, count, np.dtype(np.uint64)).tolist() for at in (a, b, c))):
            product(ta, tb, m, n, k, alpha, x, kind, lda, y, kind, ldb, beta, z, kind, ldc)

    def sgeam(self, *arguments):
        self.turned(F32, *arguments)

    def dgeam(self, *arguments):
        self.turned(F64, *arguments)

    def turned(self, dtype, handle, ta, tb, m, n, alpha, a, lda, beta, b, ldb, c, ldc):
        left = matrix(a, *((n, m) if ta else (m, n)), lda, dtype)
        matrix(c, m, n, ldc, dtype)[...] = left.T if ta else left


class OfMinigen(fake_cublas.CuBLAS):
    """cuBLAS as kernels/cuda/blas.py calls it. Each handle works on the stream that it was given last."""

    def __init__(self):
        super().__init__()
        self.stream = {}

    def set_stream(self, handle, stream):
        self.stream[handle] = stream or 0
        return 0

    def product(self, name, handle, ta, tb, m, n, k, alpha, *others):
        *middle, beta = others[:9]  # alpha and beta lie on the host and may change after the call
        alpha, beta = [alpha[0]], [beta[0]]
        out, held = others[9:], super().product

        def act():
            status = held(name, handle, ta, tb, m, n, k, alpha, *middle, beta, *out)
            self.calls.clear()
            if status:
                raise RuntimeError(f"{name}: status {status}")

        driver.streams.do(self.stream.get(handle, 0), name, act)
        return 0


# ---- Thrust ----


def shaped(address, shape, dtype):
    return numbers(address, int(np.prod(shape)), np.dtype(dtype)).reshape(shape)


def sort(dtype, data, keys, shape):
    driver.streams.refuse("sorting")
    x = shaped(data, tuple(shape), dtype)
    x[...] = np.sort(x, -1, kind="stable")


def argsort(dtype, index, data, keys, shape):
    driver.streams.refuse("sorting")
    x = shaped(data, tuple(shape), dtype)
    order = np.argsort(x, -1, kind="stable")
    shaped(index, tuple(shape), np.int64)[...] = order
    x[...] = np.take_along_axis(x, order, -1)


def lexsort(dtype, index, keys, count, size):
    driver.streams.refuse("sorting")
    shaped(index, (size,), np.int64)[...] = np.lexsort(shaped(keys, (count, size), dtype))


def module(name, *tables):
    """A module of cupy_backends.cuda.libs with these names, where CuPy will look for it."""
    import cupy_backends.cuda.libs as libs

    made = ModuleType(f"{libs.__name__}.{name}")
    for table in tables:
        vars(made).update(table)
    sys.modules[made.__name__] = libs.__dict__[name] = made


def replace():
    """Import CuPy with these in place of NVIDIA's."""
    own = OfCuPy()
    called = {name: getattr(own, name) for name in dir(own) if not name.startswith("_")}
    module("cublas", NAMES, called, solving.of("cublas"))
    module("cusolver", {"create": own.create, "destroy": own.destroy}, solving.of("cusolver"))
    import cupy

    asked = ModuleType("cupyx.cusolver")
    asked.check_availability = lambda name: name == "potrfBatched"
    sys.modules[asked.__name__] = asked
    thrust, ours = cupy.cuda.thrust, SimpleNamespace(available=True, sort=sort, argsort=argsort, lexsort=lexsort)
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith("cupy") and getattr(other, "thrust", None) is thrust:
            other.thrust = ours
    from minigen.kernels.cuda.compile import Card

    Card.cublas = OfMinigen()
