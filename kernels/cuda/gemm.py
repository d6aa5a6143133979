"""Products of matrices by a kernel of our own, with the bias added in the same pass: gemm.cu.

    product(a, b, c)                 c = a @ b, or a stack of such, in float32, float16 or bfloat16
    product(a, b, c, bias)           c = a @ b + bias (N,), rounded once, or an activation of that
    product(a, b, c, add=True)       c += a @ b

It serves linear.py's small layers, and blas.py where there is no cuBLAS. Transposed arrays, stacks that share a matrix,
and rows with gaps are read as they lie (matrices.py); c is contiguous, of a's type or float32.
"""

from functools import lru_cache

from .activations import sources
from .compile import FLOATS, cast, contiguous, library, over
from .matrices import operands, sizes
from .precision import tf32

TYPES = FLOATS
BY_ACTIVATION, IN_TF32 = sources("gemm.cu"), sources("gemm.cu", "-DTF32")
KERNELS, TF32_KERNELS = BY_ACTIVATION[None], IN_TF32[None]
TILE, THREADS = 64, 128


@lru_cache(None)
def name(a_transposed, b_transposed):
    return f"gemm_{'nt'[a_transposed]}{'nt'[b_transposed]}"


def product(a, b, c, bias=None, add=False, activation=None, before=None):
    """c (..., M, N) = a (..., M, K) @ b (..., K, N) + bias (N,), which may be None; or the product added to c.

    activation    what c is of that sum, by its name
    before        (M, N), contiguous, to keep the product alone in, if there is an activation
    """
    batch, M, K, N = sizes(a, b)
    A, B, (count, strides, starts) = operands(a, b, batch)
    source = (IN_TF32 if a.itemsize == 4 and tf32() else BY_ACTIVATION)[activation]
    bias = None if bias is None else contiguous(cast(bias, a.dtype))
    for start_a, start_b, start_c in starts:
        source.run(
            *(name(A.transposed, B.transposed), (a.dtype, c.dtype)),
            *(over(M, TILE) * over(N, TILE) * count, THREADS),
            *(memory(A.array, start_a), memory(B.array, start_b), bias, memory(c, start_c), before),
            *(M, N, K, A.step, B.step, *strides, int(add)),
        )


def memory(x, start):
    """x's memory, gaps and all, as one row from the number `start` on: what a pointer to it reaches."""
    if start == 0 and (x.flags.c_contiguous or x.flags.f_contiguous):
        return x
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.strides)) // x.itemsize
    return library(x).lib.stride_tricks.as_strided(x, (last + 1,), (x.itemsize,))[start:]
