"""Products with a matrix that many products share: laid out once in panels, then read straight through.

    panels = in_panels(matrix)              (K, N) -> (N / WIDTH, K, WIDTH)
    add_product(A, panels, C)               C += A @ matrix      for kernels, inside prange
    add_turned_product(A, panels, C)        C += A.T @ matrix
    project(A, panels, bias, C)             C = A @ matrix + bias, in parallel over the rows of A
    weight_gradient(d, panels, dw, db)      dw = d.T @ matrix, db = the sums of d's columns

For a large product a BLAS copies both operands into an order that suits its inner loop, every time. A recurrent layer
multiplies by one matrix at every step, so that matrix is copied once: pieces of (FEW, DEPTH) by (DEPTH, WIDTH), up to a
million multiply-adds, OpenBLAS multiplies where they stand.

GFLOPS on one core (Zen 5, 512-bit, a busy machine; OpenBLAS's SkylakeX core), the copying included in the last three:

                                                    one sgemm     panels
    (16, 256) @ (256, 1024), the same every time        83          215     w_hh transposed beforehand; else 65
    (2048, 256) @ (1024, 256).T                        174          194
    (2048, 1024) @ (1024, 256)                         177          199
    (2048, 1024).T @ (2048, 256)                       158          183
"""

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_tn
from .compile import inline_sums, kernel

F = np.float32
FEW, DEPTH, WIDTH = 32, 256, 64
DEEPEST, UNPACKED = 576, 1_000_000  # the depth of a piece, and its multiply-adds, at most


def in_panels(matrix):
    """A matrix (K, N) as products want it: (N / WIDTH, K, WIDTH)."""
    panels = np.empty((-(-matrix.shape[1] // WIDTH), len(matrix), WIDTH), F)
    if matrix.flags.f_contiguous and not matrix.flags.c_contiguous:
        fill_panels_turned(np.require(matrix.T, F, "CW"), panels)
    else:
        fill_panels(np.require(matrix, F, "CW"), panels)
    return panels


@kernel
def fill_panels(matrix, panels):
    """panels[j] = matrix[:, WIDTH j : WIDTH (j + 1)]: contiguous, so that a product reads it straight through."""
    K, N = matrix.shape
    for j in prange(panels.shape[0]):
        first, last = j * WIDTH, min(N, (j + 1) * WIDTH)
        for k in range(K):
            row, to = matrix[k, first:last], panels[j, k]
            for n in range(last - first):
                to[n] = row[n]


@kernel
def fill_panels_turned(matrix, panels):
    """The same of matrix.T, by tiles that stay in the cache."""
    N, K = matrix.shape
    for j in prange(panels.shape[0]):
        first, last = j * WIDTH, min(N, (j + 1) * WIDTH)
        for low in range(0, K, 16):
            for n in range(first, last):
                row = matrix[n]
                for k in range(low, min(K, low + 16)):
                    panels[j, k, n - first] = row[k]


@inline_sums
def add_product(A, panels, C):
    """C (M, N) += A (M, K) @ the matrix (K, N) that lies in `panels`."""
    (M, K), N = A.shape, C.shape[1]
    pieces = (K + DEEPEST - 1) // DEEPEST
    depth = (K + pieces - 1) // pieces
    for j in range(panels.shape[0]):
        first, last = j * WIDTH, min(N, (j + 1) * WIDTH)
        rows = max(16, UNPACKED // (depth * (last - first)) // 8 * 8)
        for k in range(0, K, depth):
            part = panels[j, k : min(K, k + depth), : last - first]
            for i in range(0, M, rows):
                low = min(M, i + rows)
                gemm_nn(A[i:low, k : k + depth], part, C[i:low, first:last], F(1))


@inline_sums
def add_turned_product(A, panels, C):
    """C (M, N) += A (K, M).T @ the matrix (K, N) that lies in `panels`."""
    (K, M), N = A.shape, C.shape[1]
    for j in range(panels.shape[0]):
        first, last = j * WIDTH, min(N, (j + 1) * WIDTH)
        for k in range(0, K, DEPTH):
            part = panels[j, k : min(K, k + DEPTH), : last - first]
            for i in range(0, M, FEW):
                low = min(M, i + FEW)
                gemm_tn(A[k : k + DEPTH, i:low], part, C[i:low, first:last], F(1))


@kernel
def project(A, panels, bias, C):
    """C (M, N) = A (M, K) @ the matrix (K, N) that lies in `panels` + bias (N,)."""
    M, N = C.shape
    for task in prange((M + FEW - 1) // FEW):
        first, last = task * FEW, min(M, (task + 1) * FEW)
        for i in range(first, last):
            c = C[i]
            for j in range(N):
                c[j] = bias[j]
        add_product(A[first:last], panels, C[first:last])


@kernel
def weight_gradient(d, panels, dw, db):
    """dw (R, N) = d (K, R).T @ the matrix (K, N) in `panels`; db (R,), unless empty, the sums of d's columns."""
    (K, R), N = d.shape, dw.shape[1]
    for task in prange((R + WIDTH - 1) // WIDTH):
        first, last = task * WIDTH, min(R, (task + 1) * WIDTH)
        for r in range(first, last):
            row = dw[r]
            for n in range(N):
                row[n] = F(0)
        if db.size > 0:
            sums = db[first:last]
            for r in range(last - first):
                sums[r] = F(0)
            for k in range(K):
                row = d[k, first:last]
                for r in range(last - first):
                    sums[r] += row[r]
        add_turned_product(d[:, first:last], panels, dw[first:last])
