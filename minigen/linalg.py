"""Linear algebra, as in torch.linalg: `minigen.linalg.solve(a, b)`.

    factors      cholesky, qr, lu, lu_factor, eigh, eigvalsh, svd, svdvals
    systems      solve, solve_triangular, cholesky_solve, lu_solve, lstsq, inv, pinv
    one number   det, slogdet, logdet, norm, vector_norm, matrix_norm, cond, matrix_rank
    products     matmul, multi_dot, matrix_power, matrix_exp, cross, vecdot, diagonal

All take batches (..., n, n), and all but matrix_rank can be differentiated, twice. The rules stand in
ops/factoring.py and ops/solving.py. A matrix that has no answer is an ArgumentError on the GPU as well, for which the
host waits there. None of them can stand in a step that is captured as a CUDA graph, which is refused.
"""

import math

import numpy as np

from .autograd import check_dim
from .device import FLOATS, xp
from .errors import ArgumentError, DtypeError, expect
from .ops.arithmetic import abs
from .ops.extremes import amax, amin
from .ops.factoring import cholesky, eigh, eigvalsh, lu, lu_factor, lu_solve, qr, svd, svdvals
from .ops.lengths import norm as _norm
from .ops.linalg import cross, matmul
from .ops.rearranging import diagonal as _diagonal
from .ops.reduction import sum
from .ops.shape import movedim, unsqueeze
from .ops.solving import (
    check_matrices,
    cholesky_solve,
    det,
    inv,
    logdet,
    lstsq,
    pinv,
    slogdet,
    solve,
    solve_triangular,
)
from .tensor import Tensor, value, wrap

__all__ = [
    "cholesky",
    "cholesky_solve",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "logdet",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_solve",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vecdot",
    "vector_norm",
]


def diagonal(a, *, offset=0, dim1=-2, dim2=-1):
    """The diagonal of each matrix, as a view."""
    return _diagonal(a, offset, dim1, dim2)


def vecdot(a, b, *, dim=-1):
    """The dot product along `dim`; the other dimensions broadcast."""
    return sum(a * b, dim)


# Norms


def vector_norm(x, ord=2, dim=None, keepdim=False):
    """(sum |x|^ord)^(1/ord) over `dim`, all of x without it; ord may be inf or -inf (extremes) or 0 (a count)."""
    expect(x.dtype.kind in FLOATS, "vector_norm: needs floating-point numbers\n  write x.float()", x, error=DtypeError)
    expect(isinstance(ord, (int, float)), f"vector_norm: ord must be a number, not {ord!r}", error=ArgumentError)
    return _norm(x, ord, dim, keepdim)


def matrix_norm(a, ord="fro", dim=(-2, -1), keepdim=False):
    """The norm of each matrix: "fro", "nuc" (sum of singular values), 2, -2 (largest, smallest singular value),
    1, -1 (largest, smallest column sum), inf, -inf (row sum)."""
    expect(a.ndim >= 2, "matrix_norm: takes matrices", a)
    expect(a.dtype.kind in FLOATS, "matrix_norm: needs floating-point numbers\n  write x.float()", a, error=DtypeError)
    expect(
        isinstance(dim, (tuple, list)) and len(dim) == 2,
        f"matrix_norm: dim must be two, not {dim!r}",
        error=ArgumentError,
    )
    rows, columns = (check_dim("matrix_norm", d, a.ndim) for d in dim)
    expect(rows != columns, f"matrix_norm: dim={dim} names a dimension twice", error=ArgumentError)
    if ord == "fro":
        return _norm(a, 2, (rows, columns), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        over, left = (rows, columns) if math.isfinite(ord) else (columns, rows)
        y = (amax if ord > 0 else amin)(sum(abs(a), over, True), left, True)
    elif ord in ("nuc", 2, -2):
        s = svdvals(movedim(a, (rows, columns), (-2, -1)))
        y = sum(s, -1) if ord == "nuc" else (amax if ord > 0 else amin)(s, -1)
        for d in sorted((rows, columns)):
            y = unsqueeze(y, d)
    else:
        raise ArgumentError(f'matrix_norm: ord is "fro", "nuc", 1, -1, 2, -2, inf or -inf, not {ord!r}')
    return y if keepdim else y.squeeze((rows, columns))


def norm(x, ord=None, dim=None, keepdim=False):
    """`matrix_norm` where `dim` is two dimensions, or `ord` is given and x is a matrix; else `vector_norm`."""
    two = isinstance(dim, (tuple, list)) and len(dim) == 2
    if isinstance(ord, str) and not two:
        expect(dim is None and x.ndim == 2, f"norm: ord={ord!r} needs a matrix, or two dimensions in dim", x)
    if ord is not None and (two or (dim is None and x.ndim == 2)):
        return matrix_norm(x, ord, dim if two else (0, 1), keepdim)
    if ord is not None and dim is None:
        expect(x.ndim == 1, f"norm: ord={ord!r} of {x.ndim} dimensions needs dim", x)
    return vector_norm(x, 2 if ord is None else ord, dim, keepdim)


def cond(a, p=None):
    """The condition number: the norm of A times that of its inverse. p as `matrix_norm`'s ord; None for 2."""
    check_matrices("cond", a, square=p not in (None, 2, -2))
    if p in (None, 2, -2):
        s = svdvals(a)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return matrix_norm(a, p) * matrix_norm(inv(a), p)


def matrix_rank(a, *, atol=None, rtol=None, hermitian=False):
    """How many singular values are above atol and above rtol times the largest.

    rtol defaults to the precision times the larger size, or 0 if atol is given. `hermitian` reads the lower triangle.
    """
    check_matrices("matrix_rank", a, square=hermitian)
    array, lib = value(a), xp(value(a))
    s = lib.abs(lib.linalg.eigvalsh(array)) if hermitian else lib.linalg.svd(array, compute_uv=False)
    if s.shape[-1] == 0:
        rank = lib.zeros(s.shape[:-1], np.int64)
    else:
        default = max(a.shape[-2:]) * float(np.finfo(s.dtype).eps) if atol is None else 0.0
        atol, rtol = (lib.asarray(value(t)) for t in (0.0 if atol is None else atol, default if rtol is None else rtol))
        bound = lib.maximum(atol[..., None], rtol[..., None] * s.max(-1, keepdims=True))
        rank = lib.asarray((s > bound).sum(-1))
    return wrap(rank) if isinstance(a, Tensor) else rank


# Products and functions of matrices


def matrix_power(a, n):
    """A multiplied by itself n times, by repeated squaring; negative n take the inverse, 0 gives the identity."""
    check_matrices("matrix_power", a)
    expect(isinstance(n, (int, np.integer)), f"matrix_power: n must be an integer, not {n!r}", error=DtypeError)
    if n < 0:
        return matrix_power(inv(a), -n)
    if n == 0:
        return a * 0 + xp(value(a)).eye(a.shape[-1], dtype=a.dtype)
    power, result = a, None
    while n:
        if n & 1:
            result = power if result is None else matmul(result, power)
        n >>= 1
        if n:
            power = matmul(power, power)
    return result


def multi_dot(matrices):
    """The product of a list of matrices, in the order of parentheses that needs the fewest multiplications.

    The first and the last may be vectors. The order is found by dynamic programming (Cormen et al., section 15.2).
    """
    matrices = list(matrices)
    expect(len(matrices) >= 2, f"multi_dot: takes at least 2 matrices, got {len(matrices)}", error=ArgumentError)
    inside = matrices[1:-1]
    expect(all([a.ndim == 2 for a in inside]), "multi_dot: only the first and the last may be vectors", *inside)
    expect(all([1 <= matrices[i].ndim <= 2 for i in (0, -1)]), "multi_dot: takes matrices and vectors", *matrices)
    sizes = [1 if matrices[0].ndim == 1 else matrices[0].shape[0]]
    sizes += [a.shape[0] for a in matrices[1:]]
    sizes.append(1 if matrices[-1].ndim == 1 else matrices[-1].shape[1])
    n = len(matrices)
    cost = [[0] * n for _ in range(n)]
    cut = [[0] * n for _ in range(n)]
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            tries = [(cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
            cost[i][j], cut[i][j] = min(tries)
    return _multiplied(matrices, cut, 0, n - 1)


def _multiplied(matrices, cut, i, j):
    """The product of matrices i to j, cut in two behind matrix cut[i][j]."""
    if i == j:
        return matrices[i]
    k = cut[i][j]
    return matmul(_multiplied(matrices, cut, i, k), _multiplied(matrices, cut, k + 1, j))


PADE_13 = [64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600]
PADE_13 += [670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1]


def matrix_exp(a):
    """e^A for each matrix, by scaling, a Pade approximant of order 13, and squaring (Higham 2005, algorithm 2.3)."""
    check_matrices("matrix_exp", a)
    if value(a).size == 0:
        return a * 1
    size = float(value(a).__abs__().sum(-2).max())
    squarings = max(0, math.ceil(math.log2(size / 5.371920351148152))) if math.isfinite(size) and size > 0 else 0
    a = a * 2.0**-squarings
    one = xp(value(a)).eye(a.shape[-1], dtype=a.dtype)
    b = PADE_13
    a2 = matmul(a, a)
    a4 = matmul(a2, a2)
    a6 = matmul(a4, a2)
    odd = matmul(a6, a6 * b[13] + a4 * b[11] + a2 * b[9]) + a6 * b[7] + a4 * b[5] + a2 * b[3] + one * float(b[1])
    odd = matmul(a, odd)
    even = matmul(a6, a6 * b[12] + a4 * b[10] + a2 * b[8]) + a6 * b[6] + a4 * b[4] + a2 * b[2] + one * float(b[0])
    y = solve(even - odd, even + odd)
    for _ in range(squarings):
        y = matmul(y, y)
    return y
