"""Linear systems: solve, triangular solve, inverse, determinant, pseudo-inverse. All take batches of matrices.

The gradients are those of Giles 2008, "Collected matrix derivative results": with Y = A^-1 B and Y' the gradient
that arrives, B' = A^-T Y' and A' = -B' Y^T. The rules are made of ops, so they can be differentiated again.

A matrix that has no answer raises ArgumentError on either device. On the GPU that takes a look at what cuSOLVER
reports, for which the host waits, as in PyTorch. A step that is captured cannot hold these functions: CuPy calls
neither cuSOLVER nor cuBLAS while a graph is recorded, and the capture is refused with the line that called them.
"""

from typing import NamedTuple

import numpy as np

from ..autograd import op
from ..device import FLOATS, xp
from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from ..tensor import Tensor, value, wrap
from .linalg import _matmul, matmul
from .rearranging import tril, triu
from .reduction import sum
from .shape import _reshape, unsqueeze


def check_matrices(name, *arrays, square=True):
    """Raise unless all are floating-point (..., n, m), with n == m if `square`."""
    for a in arrays:
        expect(
            getattr(a, "ndim", 0) >= 2,
            f"{name}: takes matrices, (..., n, n)" if square else f"{name}: takes matrices",
            a,
        )
        expect(a.dtype.kind in FLOATS, f"{name}: needs floating-point numbers\n  write x.float()", a, error=DtypeError)
        expect(not square or a.shape[-1] == a.shape[-2], f"{name}: the matrices must be square", a)
    if len({a.dtype for a in arrays}) > 1:
        raise DtypeError(
            f"{name}: {' and '.join(describe(a) for a in arrays)}\n"
            f"  both must be of one type\n  write x.float() or x.double() on one of them"
        )


def mT(x):
    """The transpose of each matrix, of an array or a tensor."""
    return x.swapaxes(-1, -2)


def which(bad):
    """The place in the batch of the first bad matrix, for an error; nothing if there is no batch."""
    return "" if bad.ndim == 0 or not bad.any() else f" (batch entry {tuple(int(i) for i in np.argwhere(bad)[0])})"


def checked(name, *arrays):
    """The function `name` of the arrays' library. Raises LinAlgError, also where CuPy by itself would give NaN."""
    lib = xp(arrays[0])
    if lib is np:
        return getattr(np.linalg, name)(*arrays)
    from cupyx import errstate

    with errstate(linalg="raise"):
        return getattr(lib.linalg, name)(*arrays)


def _solved(a, b):
    """X with A X = B. CuPy does not stretch one batch to the other's."""
    if xp(a) is not np:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = [xp(a).broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b)]
    return checked("solve", a, b)


def singular(name, a):
    """The error for a matrix that has no inverse."""
    return ArgumentError(
        f"{name}: the matrix is singular{which(host(xp(a).linalg.det(a) == 0))}, so the system has no unique answer\n"
        f"  write linalg.pinv or linalg.lstsq, or add a small multiple of the identity"
    )


def host(array):
    """The numbers as an array of NumPy."""
    return np.asarray(array if xp(array) is np else array.get())


# Triangular systems

BLOCK = 64  # below this, LAPACK's general solver on the triangle is as quick as anything in Python


def _substitute(a, b, upper):
    """X with A X = B for triangular A. Halves are solved one after the other, so most of the work is products."""
    n = a.shape[-1]
    if n <= BLOCK:
        return _solved(a, b)
    h = n // 2
    a11, a22 = a[..., :h, :h], a[..., h:, h:]
    if upper:
        x2 = _substitute(a22, b[..., h:, :], upper)
        x1 = _substitute(a11, b[..., :h, :] - a[..., :h, h:] @ x2, upper)
    else:
        x1 = _substitute(a11, b[..., :h, :], upper)
        x2 = _substitute(a22, b[..., h:, :] - a[..., h:, :h] @ x1, upper)
    return xp(a).concatenate((x1, x2), axis=-2)


def _triangle(x, upper, unit):
    """The part of x that a triangular matrix has; without the diagonal if that is known to be 1."""
    return triu(x, int(unit)) if upper else tril(x, -int(unit))


@op
def _solve_triangular(a, b, upper, unit):
    lib = xp(a)
    a = _triangle(a, upper, unit)
    if unit:
        a = a + lib.eye(a.shape[-1], dtype=a.dtype)
    elif (bad := (lib.diagonal(a, 0, -2, -1) == 0).any(-1)).any():
        raise ArgumentError(f"solve_triangular: the diagonal has a 0{which(host(bad))}: the matrix is singular")
    if b.shape[-1] == 0 or a.shape[-1] == 0:
        return lib.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]), b.dtype)
    return _substitute(a, b, upper)


_solve_triangular.gradient(
    a=lambda g, a, y, upper, unit: (
        -_triangle(_matmul(_solve_triangular(mT(a), g, not upper, unit), mT(y)), upper, unit)
    ),
    b=lambda g, a, upper, unit: _solve_triangular(mT(a), g, not upper, unit),
)


def solve_triangular(a, b, *, upper, left=True, unitriangular=False):
    """X with A X = B (or X A = B if not `left`) for triangular A; the other triangle of A is not read.

    a (..., n, n), b (..., n, k) (or (..., k, n)); `unitriangular` takes the diagonal to be 1.
    Raises ArgumentError for a zero on the diagonal.
    """
    check_matrices("solve_triangular", a)
    check_matrices("solve_triangular", a, b, square=False)
    _check_system("solve_triangular", a, b, left)
    if left:
        return _solve_triangular(a, b, upper, unitriangular)
    return mT(_solve_triangular(mT(a), mT(b), not upper, unitriangular))


def _check_system(name, a, b, left=True):
    n = b.shape[-2 if left else -1]
    expect(
        n == a.shape[-1], f"{name}: A is {a.shape[-1]} by {a.shape[-1]}, so B needs {a.shape[-1]} rows, not {n}", a, b
    )
    try:
        np.broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    except ValueError:
        raise ShapeError(f"{name}: the batches of {describe(a)} and {describe(b)} do not broadcast") from None


def cholesky_solve(b, l, upper=False):
    """X with A X = B, from the Cholesky factor L of A = L L^T (U of U^T U if `upper`)."""
    check_matrices("cholesky_solve", l)
    check_matrices("cholesky_solve", b, l, square=False)
    _check_system("cholesky_solve", l, b)
    l = mT(l) if upper else l
    return _solve_triangular(mT(l), _solve_triangular(l, b, False, False), True, False)


# General systems


@op
def _solve(a, b):
    try:
        return _solved(a, b)
    except np.linalg.LinAlgError:
        raise singular("solve", a) from None


_solve.gradient(
    a=lambda g, a, y: -_matmul(_solve(mT(a), g), mT(y)),
    b=lambda g, a: _solve(mT(a), g),
)


def solve(a, b, *, left=True):
    """X with A X = B (or X A = B if not `left`). a (..., n, n); b (..., n, k), or vectors (n,) or (*a.shape[:-1]).

    Raises ArgumentError for a singular matrix.
    """
    check_matrices("solve", a)
    vector = b.ndim == 1 or (a.ndim - 1 == b.ndim and tuple(b.shape) == tuple(a.shape[:-1]))
    if vector:
        expect(left, "solve: left=False takes matrices B, not vectors", b)
        y = solve(a, unsqueeze(b, -1))
        return _reshape(y, tuple(y.shape[:-1]))
    check_matrices("solve", a, b, square=False)
    _check_system("solve", a, b, left)
    return _solve(a, b) if left else mT(_solve(mT(a), mT(b)))


@op
def _inv(a):
    try:
        return checked("inv", a)
    except np.linalg.LinAlgError:
        raise singular("inv", a) from None


_inv.gradient(a=lambda g, y: -_matmul(_matmul(mT(y), g), mT(y)))


def inv(a):
    """The inverse of each matrix. Raises ArgumentError for a singular one.

    To solve a system, `solve` is quicker and more exact.
    """
    check_matrices("inv", a)
    return _inv(a)


@op
def _pinv(a, rtol):
    return xp(a).linalg.pinv(a, rtol) if a.size else xp(a).zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)


@_pinv.gradient
def _(g, a, y):
    """Golub & Pereyra 1973, eq. 4.12; the rank is taken to be constant."""
    gt, yt = mT(g), mT(y)
    ga = -_matmul(_matmul(yt, g), yt)
    left = _matmul(_matmul(gt, y), yt)
    right = _matmul(_matmul(yt, y), gt)
    ga = ga + left - _matmul(a, _matmul(y, left))
    return ga + right - _matmul(_matmul(right, y), a)


def pinv(a, *, rtol=None, hermitian=False):
    """The Moore-Penrose inverse (..., m, n) of (..., n, m), with singular values below rtol * the largest dropped.

    rtol is max(n, m) times the type's precision if it is not given; `hermitian` reads the lower triangle only.
    """
    check_matrices("pinv", a, square=hermitian)
    if hermitian:
        a = tril(a) + mT(tril(a, -1))
    rtol = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps) if rtol is None else rtol
    return _pinv(a, value(rtol))


class LeastSquares(NamedTuple):
    """What `lstsq` returns."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def lstsq(a, b, rcond=None, *, driver=None):
    """The X of least norm that minimises |A X - B|: (solution, residuals, rank, singular_values).

    The residuals are the squared distances, one for each column, empty where the rank is less than the columns of A.
    By singular values, whatever LAPACK `driver` is named.
    """
    check_matrices("lstsq", a, square=False)
    vector = b.ndim == 1 or (a.ndim - 1 == b.ndim and tuple(b.shape) == tuple(a.shape[:-1]))
    if vector:
        b = unsqueeze(b, -1)
    check_matrices("lstsq", a, b, square=False)
    expect(a.shape[-2] == b.shape[-2], "lstsq: A and B need as many rows", a, b)
    lib, like = xp(value(a)), wrap if isinstance(a, Tensor) else (lambda x: x)
    x = matmul(pinv(a, rtol=rcond), b)
    values = lib.linalg.svd(value(a), compute_uv=False)
    bound = (max(a.shape[-2:]) * np.finfo(a.dtype).eps if rcond is None else rcond) * values.max(-1, keepdims=True)
    rank = (values > bound).sum(-1)
    error = matmul(a, x) - b
    full = a.shape[-2] > a.shape[-1] and bool((rank == a.shape[-1]).all())
    residuals = sum(error * error, -2) if full else like(lib.zeros(0, a.dtype))
    if vector:
        x = _reshape(x, tuple(x.shape[:-1]))
    return LeastSquares(x, residuals, like(lib.asarray(rank)), like(values))


# Determinants


@op
def _det(a):
    return xp(a).linalg.det(a)


@_det.gradient
def _(g, y, a):
    """Jacobi's formula: the gradient of det A is the matrix of cofactors, det(A) A^-T where A has an inverse."""
    return unsqueeze(unsqueeze(g, -1), -1) * _cofactors(a, y)


def _cofactors(a, y):
    lib = xp(value(a))
    if not isinstance(a, Tensor):
        return _cofactors_by_svd(a)
    s = lib.linalg.svd(a.data, compute_uv=False)
    if s.size == 0 or bool((s[..., -1] > s[..., 0] * 1e-3 * np.sqrt(np.finfo(a.dtype).eps)).all()):
        return unsqueeze(unsqueeze(y, -1), -1) * mT(_inv(a))
    return _cofactors_by_minors(a)


def _cofactors_by_svd(a):
    """det(U) det(V) U C V^T, where C holds at each place the product of the other singular values: no division."""
    lib = xp(a)
    if a.size == 0:
        return lib.zeros_like(a)
    u, s, vh = lib.linalg.svd(a)
    n = s.shape[-1]
    others = lib.where(lib.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1).astype(a.dtype)
    sign = lib.linalg.det(u) * lib.linalg.det(vh)
    return sign[..., None, None] * (u * others[..., None, :]) @ vh


def _cofactors_by_minors(a):
    """Each cofactor as the determinant of a minor: right for singular matrices too, and for every derivative."""
    from .joining import stack

    n = a.shape[-1]
    rows = [[j for j in range(n) if j != i] for i in range(n)]
    if n == 1:
        return a * 0 + 1
    cofactors = [[_det(a[..., rows[i], :][..., rows[j]]) * (-1.0) ** (i + j) for j in range(n)] for i in range(n)]
    return stack([stack(row, -1) for row in cofactors], -2)


def det(a):
    """The determinant of each matrix. `slogdet` neither overflows nor underflows."""
    check_matrices("det", a)
    return _det(a)


class SignLogDet(NamedTuple):
    """What `slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


@op(outputs=2)
def _slogdet(a):
    sign, y = xp(a).linalg.slogdet(a)
    return xp(a).asarray(sign), xp(a).asarray(y)


@_slogdet.gradient
def _(gs, ys, a):
    singular_ones = value(ys[0]) == 0
    if singular_ones.any():
        raise ArgumentError(
            f"slogdet: a singular matrix{which(host(singular_ones))} has no log determinant to differentiate"
        )
    return (unsqueeze(unsqueeze(gs[1], -1), -1) * mT(_inv(a)),)


def slogdet(a):
    """The sign of the determinant, and the logarithm of its size: (sign, logabsdet). The sign has no gradient."""
    check_matrices("slogdet", a)
    sign, y = _slogdet(a)
    return SignLogDet(sign.detach() if isinstance(a, Tensor) else sign, y)


def logdet(a):
    """The logarithm of the determinant: -inf where it is 0, NaN where it is negative."""
    sign, logabsdet = slogdet(a)
    lib = xp(value(a))
    with np.errstate(invalid="ignore", divide="ignore"):
        return logabsdet + lib.where(value(sign) < 0, lib.nan, 0).astype(a.dtype)
