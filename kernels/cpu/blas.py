"""Matrix products in one thread pool: NumPy's own OpenBLAS, called from inside Numba's parallel loops.

Two pools of threads fight: after a product OpenBLAS's threads spin for a while on the cores that Numba's now want,
which costs up to 8 ms on two cores. So OpenBLAS is held at one thread while our kernels run, and its `sgemm` is
called by Numba's threads, each on its own block. Afterwards its number of threads is what it was.

    gemm_nn(A, B, C, beta)      C = A @ B   + beta C     for kernels: float32 matrices with unit column stride
    gemm_nt(A, B, C, beta)      C = A @ B.T + beta C     and any row stride; may be called inside prange
    gemm_tn(A, B, C, beta)      C = A.T @ B + beta C
    with single_threaded_blas:  what a Python function puts around a call of a kernel that uses these

    matmul(a, b)                matrices or stacks of them; transposed views are taken as they are
    linear(x, w, b)             x @ w.T + b, the bias added while the block is in the cache

Where NumPy brings another BLAS (conda with MKL, macOS with Accelerate) there is no symbol to call: then gemm_* are
plain loops (correct, and slower), and `matmul` and `linear` leave the products to `np.matmul`.

Floor of a product (M, K) @ (K, N): 2 M N K operations. The work is cut into blocks by the shape alone, so any number
of threads gives the same bits. Measured on two cores (AMD EPYC, OpenBLAS's AVX-512 kernels): 256 x 256 x 256 in 80 us
where one core takes 141, 512 x 512 x 512 in 572 us (1075): 420 and 470 Gflop/s.
"""

import ctypes
import glob
import math
import os
import threading
from functools import lru_cache

import llvmlite.binding as llvm
import numpy as np
from numba import prange, types

from .addresses import address, shifted
from .compile import inline_sums, kernel

SMALL = 262144  # M*N*K up to which OpenBLAS stays on one thread by itself: there np.matmul is the quickest
SMALL_VECTOR = 9216  # the same where M or N is 1
_NO_BIAS = np.empty(0, np.float32)


def find_blas():
    """(library, prefix, suffix, integer type) of the OpenBLAS that NumPy has loaded, or None."""
    names = [
        ("scipy_", "64_", types.int64),  # NumPy's wheels
        ("scipy_", "", types.int32),
        ("", "64_", types.int64),  # Linux distributions with 64-bit indices
        ("", "", types.int32),  # conda-forge and distributions with OpenBLAS
    ]
    core = np._core._multiarray_umath.__file__
    beside = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "numpy.libs", "*openblas*")
    for path in [
        core,
        *glob.glob(beside),
    ]:  # a symbol of a library's own dependencies is found through it (not on Windows)
        try:
            library = ctypes.PyDLL(path)  # keeps the GIL: these calls are too short to let go of it
        except OSError:
            continue
        for prefix, suffix, integer in names:
            wanted = (f"{prefix}cblas_sgemm{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
            if all(hasattr(library, name) for name in wanted):
                return library, prefix, suffix, integer
    return None


FOUND = find_blas()

if FOUND is not None:
    _library, _prefix, _suffix, _integer = FOUND
    _address = ctypes.cast(getattr(_library, f"{_prefix}cblas_sgemm{_suffix}"), ctypes.c_void_p).value
    _symbol = f"minigen_sgemm_{_integer}"  # compiled kernels hold this name, so that a cached one fits the BLAS
    llvm.add_symbol(_symbol, _address)
    _get_threads = getattr(_library, f"{_prefix}openblas_get_num_threads{_suffix}")
    _set_threads = getattr(_library, f"{_prefix}openblas_set_num_threads{_suffix}")
    _get_threads.argtypes, _get_threads.restype = [], ctypes.c_int
    _set_threads.argtypes, _set_threads.restype = [ctypes.c_int], None


def describe():
    """What products run on, for `minigen info`: the library and the core type that it chose."""
    if FOUND is None:
        return "np.matmul (NumPy's BLAS is not OpenBLAS: attention uses plain loops, slower)"
    core = getattr(_library, f"{_prefix}openblas_get_corename{_suffix}")
    core.argtypes, core.restype = [], ctypes.c_char_p
    return f"OpenBLAS ({core().decode()} core) inside Numba's loops"


class _SingleThreadedBlas:
    """`with single_threaded_blas:` OpenBLAS on one thread. The outermost block of all threads restores the number."""

    def __init__(self):
        self.lock, self.depth, self.before = threading.Lock(), 0, 1

    def __enter__(self):
        if FOUND is None:
            return
        with self.lock:
            if self.depth == 0:
                self.before = _get_threads()
                if self.before != 1:
                    _set_threads(1)
            self.depth += 1

    def __exit__(self, *error):
        if FOUND is None:
            return
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.before != 1:
                _set_threads(self.before)


single_threaded_blas = _SingleThreadedBlas()

# ----------------------------------------------------------------------------------------------------------
# The product of one block, for use inside kernels.

if FOUND is not None:
    _ROWS, _AS_IS, _TRANSPOSED = 101, 111, 112  # cblas.h: CblasRowMajor, CblasNoTrans, CblasTrans
    _int = types.int32  # the enumerations are C ints, the sizes are `_integer`
    _sgemm = types.ExternalFunction(
        _symbol,
        types.void(
            *(_int, _int, _int, _integer, _integer, _integer, types.float32),
            *(types.voidptr, _integer, types.voidptr, _integer, types.float32, types.voidptr, _integer),
        ),
    )

    @inline_sums
    def step(A):
        """Elements from row to row. A lone row's stride means nothing, and BLAS insists on at least its length."""
        return A.strides[0] // 4 if A.shape[0] > 1 else max(A.shape[1], 1)

    @inline_sums
    def gemm(a_flag, b_flag, M, N, K, A, B, C, beta):
        a, b, c, one = address(A), address(B), address(C), np.float32(1)
        _sgemm(_ROWS, a_flag, b_flag, M, N, K, one, a, step(A), b, step(B), np.float32(beta), c, step(C))

    @inline_sums
    def gemm_nn(A, B, C, beta):
        """C (M, N) = A (M, K) @ B (K, N) + beta C."""
        gemm(_AS_IS, _AS_IS, A.shape[0], B.shape[1], A.shape[1], A, B, C, beta)

    @inline_sums
    def gemm_nt(A, B, C, beta):
        """C (M, N) = A (M, K) @ B (N, K).T + beta C."""
        gemm(_AS_IS, _TRANSPOSED, A.shape[0], B.shape[0], A.shape[1], A, B, C, beta)

    @inline_sums
    def gemm_tn(A, B, C, beta):
        """C (M, N) = A (K, M).T @ B (K, N) + beta C."""
        gemm(_TRANSPOSED, _AS_IS, A.shape[1], B.shape[1], A.shape[0], A, B, C, beta)

    @inline_sums
    def gemm_tt(A, B, C, beta):
        """C (M, N) = A (K, M).T @ B (N, K).T + beta C."""
        gemm(_TRANSPOSED, _TRANSPOSED, A.shape[1], B.shape[0], A.shape[0], A, B, C, beta)

else:

    @inline_sums
    def scale(C, beta):
        for i in range(C.shape[0]):
            c = C[i]
            for j in range(C.shape[1]):  # beta 0 writes zeros, whatever stood there: 0 * NaN would be NaN
                c[j] = np.float32(beta) * c[j] if beta != 0 else np.float32(0)

    @inline_sums
    def gemm_nn(A, B, C, beta):
        """C (M, N) = A (M, K) @ B (K, N) + beta C, the inner loop along B's rows."""
        scale(C, beta)
        for i in range(A.shape[0]):
            c = C[i]
            for k in range(A.shape[1]):
                a, b = A[i, k], B[k]
                for j in range(B.shape[1]):
                    c[j] += a * b[j]

    @inline_sums
    def gemm_nt(A, B, C, beta):
        """C (M, N) = A (M, K) @ B (N, K).T + beta C, each element a dot product of two rows."""
        scale(C, beta)
        for i in range(A.shape[0]):
            a, c = A[i], C[i]
            for j in range(B.shape[0]):
                b, total = B[j], np.float32(0)
                for k in range(A.shape[1]):
                    total += a[k] * b[k]
                c[j] += total

    @inline_sums
    def gemm_tn(A, B, C, beta):
        """C (M, N) = A (K, M).T @ B (K, N) + beta C, one outer product after another."""
        scale(C, beta)
        for k in range(A.shape[0]):
            b = B[k]
            for i in range(A.shape[1]):
                a, c = A[k, i], C[i]
                for j in range(B.shape[1]):
                    c[j] += a * b[j]

    @inline_sums
    def gemm_tt(A, B, C, beta):
        """C (M, N) = A (K, M).T @ B (N, K).T + beta C."""
        scale(C, beta)
        for i in range(A.shape[1]):
            c = C[i]
            for j in range(B.shape[0]):
                b, total = B[j], np.float32(0)
                for k in range(A.shape[0]):
                    total += A[k, i] * b[k]
                c[j] += total


# ----------------------------------------------------------------------------------------------------------
# Whole products. `blocks` cuts the work by its shape; the kernels run the blocks.

BLOCK = 5 << 22  # multiply-adds a block should have: some 100 us of one core, so that starting it costs nothing
MOST = 32  # blocks, at most
NARROW, SHALLOW = (
    64,
    256,
)  # blocks with fewer rows or columns, or of less depth, do not repay the packing of their operands
ADDED = 4  # what adding up an element of a partial result costs, in elements packed


@lru_cache(4096)
def blocks(M, N, K, a_transposed=False):
    """(rows, columns, depth) of the blocks that an (M, K) @ (K, N) product is cut into: enough of them, at least cost.

    Each block packs its rows of A and its columns of B once, so there is least to pack if blocks are like squares.
    (Packing a transposed A, a weight's gradient, takes twice as long.) K may be cut, too; then the parts' results are
    added up at the end.
    """
    wanted = min(2 * -(-M * N * K // (2 * BLOCK)), MOST)
    choices = []
    for parts in range(1, min(wanted, max(K // SHALLOW, 1)) + 1):
        for across in range(1, min(-(-wanted // parts), -(-N // NARROW)) + 1):
            down = min(-(-wanted // (parts * across)), -(-M // NARROW))
            rows, columns = -(-M // (16 * down)) * 16, -(-N // (16 * across)) * 16
            down, across = -(-M // rows), -(-N // columns)
            packed = K * ((2 if a_transposed else 1) * M * across + N * down)
            cost = packed + (ADDED * parts * M * N if parts > 1 else 0)
            choices.append((down * across * parts < wanted, cost, rows, columns, parts))
    if not choices:  # an empty product
        return 1, 1, 1
    *_, rows, columns, parts = min(choices)
    return rows, columns, max(-(-K // parts), 1)


if FOUND is not None:

    @kernel(reads=("A", "B", "bias"), dense=("bias", "C"))
    def products(A, B, bias, C, a_transposed, b_transposed, rows, columns, depth):
        """C[p, s, t] = A[s, t] @ B[s, t] (+ bias) over the p-th part of K; A and B as stored, perhaps transposed.

        Blocks are named by their address: slicing so many dimensions, for each of four forms, takes seconds to compile.
        """
        parts, first, second, M, N = C.shape
        a_stored, b_stored = A.shape[3], B.shape[3]
        K = A.shape[2] if a_transposed else a_stored
        a_flag, b_flag = _TRANSPOSED if a_transposed else _AS_IS, _TRANSPOSED if b_transposed else _AS_IS
        a_step, b_step = max(A.strides[2] // 4, a_stored, 1), max(B.strides[2] // 4, b_stored, 1)
        a_by_row, a_by_depth = (A.strides[3], A.strides[2]) if a_transposed else (A.strides[2], A.strides[3])
        b_by_depth, b_by_column = (B.strides[3], B.strides[2]) if b_transposed else (B.strides[2], B.strides[3])
        down, across = (M + rows - 1) // rows, (N + columns - 1) // columns
        for task in prange(parts * first * second * down * across):
            block, matrix = task % (down * across), task // (down * across)
            t, s, p = matrix % second, matrix // second % first, matrix // second // first
            i, j, k = block // across * rows, block % across * columns, p * depth
            m, n = min(rows, M - i), min(columns, N - j)
            beta = np.float32(0)
            if bias.size > 0 and p == 0:  # BLAS would fill C with zeros; fill it with the bias, and add to that
                beta = np.float32(1)
                for row in range(i, i + m):
                    line = C[p, s, t, row, j : j + n]
                    for column in range(n):
                        line[column] = bias[j + column]
            a = shifted(address(A), s * A.strides[0] + t * A.strides[1] + i * a_by_row + k * a_by_depth)
            b = shifted(address(B), s * B.strides[0] + t * B.strides[1] + k * b_by_depth + j * b_by_column)
            c = shifted(address(C), 4 * ((((p * first + s) * second + t) * M + i) * N + j))
            one = np.float32(1)
            _sgemm(_ROWS, a_flag, b_flag, m, n, min(depth, K - k), one, a, a_step, b, b_step, beta, c, max(N, 1))


def as_stored(x):
    """(x or its transpose, whether transposed): a view that BLAS can read, with unit column stride; else a copy."""
    (rows, columns), (down, along) = x.shape[-2:], x.strides[-2:]
    if (along == 4 or columns == 1) and (rows == 1 or (down >= 4 * columns and down % 4 == 0)):
        return x, False
    if (down == 4 or rows == 1) and (columns == 1 or (along >= 4 * rows and along % 4 == 0)):
        return x.swapaxes(-1, -2), True
    return np.array(x, order="C"), False


def product(a, b, bias=_NO_BIAS, into=None):
    """a (..., M, K) @ b (..., K, N) + bias (N,), the leading dimensions as in NumPy's matmul.

    into    a contiguous float32 array to write the result to and return, for matrices
    """
    M, K, N = a.shape[-2], a.shape[-1], b.shape[-1]
    if a.ndim > 2 or b.ndim > 2:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = np.broadcast_to(a, batch + (M, K)), np.broadcast_to(b, batch + (K, N))
    else:
        batch = ()
    pair = (1,) * (2 - len(batch)) + batch if len(batch) <= 2 else (math.prod(batch[:-1]), batch[-1])
    A, a_transposed = as_stored(a.reshape(pair + (M, K)))
    B, b_transposed = as_stored(b.reshape(pair + (K, N)))
    rows, columns, depth = blocks(M, N, K, a_transposed)
    if batch:
        depth = max(K, 1)
    parts = max(-(-K // depth), 1)
    C = np.empty((parts, *pair, M, N), np.float32) if into is None or parts > 1 else into.reshape(1, *pair, M, N)
    with single_threaded_blas:
        products(A, B, bias, C, a_transposed, b_transposed, rows, columns, depth)
    if parts > 1:
        C = np.add.reduce(C, out=None if into is None else into.reshape(C.shape[1:]))
    return C.reshape(batch + (M, N)) if into is None else into


def is_small(a, b):
    """Whether np.matmul is the quickest, because OpenBLAS stays on one thread by itself."""
    M, K, N = a.shape[-2], a.shape[-1], b.shape[-1]
    if (SMALL if M > 1 < N else SMALL_VECTOR) < M * N * K:
        return False
    return a.ndim == b.ndim == 2 or max(a.size * N, b.size * M) <= 16 * SMALL


def matmul(a, b, into=None):
    """a (..., M, K) @ b (..., K, N) -> (..., M, N). into: as for `product`."""
    if FOUND is None or is_small(a, b):
        return np.matmul(a, b, out=into)
    return product(a, b, into=into)


def linear(x, w, b=None):
    """x (..., in) @ w (out, in).T + b (out,) -> (..., out); b may be None."""
    rows = x.reshape(-1, x.shape[-1])
    if FOUND is None or is_small(rows, w.T):
        y = np.matmul(rows, w.T)
        if b is not None:
            y += b
    else:
        y = product(rows, w.T, _NO_BIAS if b is None else np.ascontiguousarray(b))
    return y.reshape(x.shape[:-1] + (w.shape[0],))
