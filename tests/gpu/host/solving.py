"""Factors of matrices and what is solved with them, as CuPy asks cuBLAS and cuSOLVER for them, computed by NumPy.

LU with pivots and Cholesky, one matrix or a batch, in float32 and float64: what `solve`, `inv`, `det`, `slogdet` and
`cholesky` of cupy.linalg call. QR, singular values and eigenvalues are not here, and CuPy says that they lack. Matrices
lie columns first; `info` is 0, or the place (from 1) of the pivot that is 0 or not positive.
"""

import numpy as np

from . import driver
from .memory import F32, F64, matrix, numbers

INT, ADDRESS = np.dtype(np.int32), np.dtype(np.uint64)
UPPER = 1  # CUBLAS_FILL_MODE_UPPER


def lu(a, pivots):
    """L and U in place of a, and the rows that were exchanged, from 1. Gives info."""
    info = 0
    for i in range(len(a)):
        best = i + int(np.argmax(np.abs(a[i:, i])))
        pivots[i] = best + 1
        a[[i, best]] = a[[best, i]]
        if a[i, i] == 0:
            info = info or i + 1
            continue
        a[i + 1 :, i] /= a[i, i]
        a[i + 1 :, i + 1 :] -= np.outer(a[i + 1 :, i], a[i, i + 1 :])
    return info


def solve(a, pivots, b, transposed):
    """The answer in place of b, by the factors that `lu` has left."""
    n = len(a)
    exchanges = list(enumerate(pivots - 1))
    lower, upper = np.tril(a, -1) + np.eye(n, dtype=a.dtype), np.triu(a)
    with np.errstate(all="ignore"):
        if transposed:
            b[...] = back(lower.T, forth(upper.T, b))
        for i, j in reversed(exchanges) if transposed else exchanges:
            b[[i, j]] = b[[j, i]]
        if not transposed:
            b[...] = back(upper, forth(lower, b))


def forth(lower, b):
    x = b.copy()
    for i in range(len(x)):
        x[i] = (x[i] - lower[i, :i] @ x[:i]) / lower[i, i]
    return x


def back(upper, b):
    return forth(upper[::-1, ::-1], b[::-1])[::-1]


def cholesky(a, uplo):
    """The factor in place of its triangle of a. Gives info."""
    whole = np.triu(a) + np.triu(a, 1).T if uplo == UPPER else np.tril(a) + np.tril(a, -1).T
    for size in range(1, len(a) + 1):  # the first of the leading matrices that is not positive definite
        try:
            factor = np.linalg.cholesky(whole[:size, :size])
        except np.linalg.LinAlgError:
            return size
        if not np.isfinite(factor).all():
            return size
    triangle = np.triu_indices(len(a)) if uplo == UPPER else np.tril_indices(len(a))
    a[triangle] = (factor.T if uplo == UPPER else factor)[triangle]
    return 0


def functions(dtype):
    """cuBLAS's and cuSOLVER's functions of one type, by their names without its letter."""

    def square(address, n, step):
        driver.streams.refuse("linear algebra")
        return matrix(address, n, n, step, dtype)

    def every(list_, n, step, count):
        return [square(address, n, step) for address in numbers(list_, count, ADDRESS).tolist()]

    def room(*arguments):
        return 1

    def getrf(handle, m, n, a, step, work, pivots, info):
        numbers(info, 1, INT)[0] = lu(square(a, n, step), numbers(pivots, n, INT))

    def getrs(handle, transposed, n, columns, a, step, pivots, b, b_step, info):
        solve(square(a, n, step), numbers(pivots, n, INT), matrix(b, n, columns, b_step, dtype), transposed)
        numbers(info, 1, INT)[0] = 0

    def getrf_batched(handle, n, a, step, pivots, info, count):
        each = numbers(pivots, count * n, INT).reshape(count, n)
        numbers(info, count, INT)[:] = [lu(x, p) for x, p in zip(every(a, n, step, count), each)]

    def getrs_batched(handle, transposed, n, columns, a, step, pivots, b, b_step, info, count):
        each = numbers(pivots, count * n, INT).reshape(count, n)
        for x, p, y in zip(every(a, n, step, count), each, numbers(b, count, ADDRESS).tolist()):
            solve(x, p, matrix(y, n, columns, b_step, dtype), transposed)
        numbers(info, 1, INT)[0] = 0  # on the host

    def getri_batched(handle, n, a, step, pivots, c, c_step, info, count):
        each = numbers(pivots, count * n, INT).reshape(count, n)
        for x, p, y in zip(every(a, n, step, count), each, every(c, n, c_step, count)):
            y[...] = np.eye(n, dtype=dtype)
            solve(x, p, y, False)
        numbers(info, count, INT)[:] = [singular(x) for x in every(a, n, step, count)]

    def potrf(handle, uplo, n, a, step, work, size, info):
        numbers(info, 1, INT)[0] = cholesky(square(a, n, step), uplo)

    def potrf_batched(handle, uplo, n, a, step, info, count):
        numbers(info, count, INT)[:] = [cholesky(x, uplo) for x in every(a, n, step, count)]

    return {
        "cublas": {"getrfBatched": getrf_batched, "getrsBatched": getrs_batched, "getriBatched": getri_batched},
        "cusolver": {
            "getrf_bufferSize": room,
            "getrf": getrf,
            "getrs": getrs,
            "potrf_bufferSize": room,
            "potrf": potrf,
            "potrfBatched": potrf_batched,
        },
    }


def singular(a):
    """The first pivot that is 0, from 1, or 0."""
    zero = np.flatnonzero(np.diagonal(a) == 0)
    return int(zero[0]) + 1 if zero.size else 0


def of(library):
    """The functions of "cublas" or "cusolver" in this file, with the letters of their types before their names."""
    return {
        letter + name: function
        for letter, dtype in (("s", F32), ("d", F64))
        for name, function in functions(dtype)[library].items()
    }
