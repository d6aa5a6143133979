"""Factorisations: cholesky, qr, lu, eigh, svd. All take batches; all can be differentiated twice.

A factorisation is differentiated by writing dA in terms of the factors' differentials and solving for them; each rule
names its source. The vectors of `eigh` and `svd` have no gradient where two values are equal: then they raise.
"""

import math
from typing import NamedTuple

import numpy as np

from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, GradientError, expect
from ..tensor import Tensor, value
from .joining import cat
from .linalg import _matmul
from .rearranging import _diagonal, diag_embed, tril, triu
from .shape import unsqueeze
from .solving import _solve_triangular, check_matrices, checked, host, mT, which


def _halved(x):
    """The lower triangle with half the diagonal: Phi of Murray 2016."""
    return tril(x) - diag_embed(_diagonal(x, 0, -2, -1) * 0.5)


def _symmetric(x):
    return (x + mT(x)) * 0.5


# Cholesky


@op
def _cholesky(a):
    try:
        y = checked("cholesky", a)
    except np.linalg.LinAlgError:
        raise _not_positive(host(a)) from None
    if (bad := xp(y).isnan(y).any((-2, -1))).any():
        found = which(host(bad))
        raise ArgumentError(f"cholesky: the matrix has a NaN{found}, or overflows: it is not positive definite")
    return y


def _not_positive(a):
    values = np.linalg.eigvalsh(np.nan_to_num(a))
    bad = values[..., 0] <= 0
    least = f"{values[bad].min():.3g}" if bad.any() else "within rounding of 0"
    return ArgumentError(
        f"cholesky: the matrix is not positive definite{which(bad) if bad.any() else ''}\n"
        f"  its smallest eigenvalue is {least}\n"
        f"  if it should be, symmetrise it, (a + a.mT) / 2, or add a small multiple of the identity"
    )


@_cholesky.gradient
def _(g, y):
    """Murray 2016 (arXiv:1602.07527), eq. 10: A' = L^-T sym(Phi(L^T L')) L^-1."""
    middle = _symmetric(_halved(_matmul(mT(y), g)))
    half = _solve_triangular(mT(y), middle, True, False)
    return mT(_solve_triangular(mT(y), mT(half), True, False))


def cholesky(a, *, upper=False):
    """The lower triangular L with A = L L^T (or U with A = U^T U), for symmetric positive definite A.

    Only the lower triangle of A is read. Raises ArgumentError if A is not positive definite.
    """
    check_matrices("cholesky", a)
    factor = _cholesky(a)
    return mT(factor) if upper else factor


# QR


class QR(NamedTuple):
    """What `qr` returns."""

    Q: Tensor
    R: Tensor


@op(outputs=2)
def _qr(a, mode):
    return tuple(xp(a).linalg.qr(a, mode))


@_qr.gradient
def _(gs, ys, mode):
    """Walter, Lehmann & Lamour 2012, for at least as many rows as columns: A' = (Q' + Q copyltu(M)) R^-T."""
    (gq, gr), (q, r) = gs, ys
    if q.shape[-1] != r.shape[-1]:
        raise GradientError('qr: mode="complete" of a tall matrix has no gradient\n  write mode="reduced"')
    m = 0
    if gr is not None:
        m = _matmul(r, mT(gr))
    if gq is not None:
        m = m - _matmul(mT(gq), q)
    m = tril(m) + mT(tril(m, -1))
    ga = _matmul(q, m)
    ga = ga if gq is None else gq + ga
    return (mT(_solve_triangular(r, mT(ga), True, False)), None)


def qr(a, mode="reduced"):
    """A = Q R, with orthonormal columns in Q and R upper triangular: (Q, R).

    mode   "reduced", "complete" (Q square), or "r" (Q left empty)
    """
    check_matrices("qr", a, square=False)
    expect(
        mode in ("reduced", "complete", "r"),
        f'qr: mode is "reduced", "complete" or "r", not {mode!r}',
        error=ArgumentError,
    )
    m, n = a.shape[-2:]
    if mode == "r":
        return QR(value(a)[..., :0, :0] if not isinstance(a, Tensor) else Tensor(a.data[..., :0, :0]), qr(a).R)
    if m >= n or not isinstance(a, Tensor):
        return QR(*_qr(a, mode))
    q, left = _qr(a[..., :m], "reduced")  # a wide matrix: the first columns fix Q, the others follow
    return QR(q, cat([left, _matmul(mT(q), a[..., m:])], -1))


# LU


class PLU(NamedTuple):
    """What `lu` returns."""

    P: Tensor
    L: Tensor
    U: Tensor


class LUFactor(NamedTuple):
    """What `lu_factor` returns: L and U in one matrix, and the row swapped with each row, counted from 1 (LAPACK)."""

    LU: Tensor
    pivots: Tensor


@op(outputs=3)
def _lu(a, pivot):
    """L, U and the pivots, counted from 1, of Gaussian elimination that brings the largest element to the diagonal."""
    lib, (m, n) = xp(a), a.shape[-2:]
    batch, k = a.shape[:-2], min(m, n)
    work = a.reshape(math.prod(batch), m, n).copy()
    every = lib.arange(len(work))
    pivots = lib.zeros((len(work), k), np.int32)
    for i in range(k):
        swap = i + lib.abs(work[:, i:, i]).argmax(1) if pivot else lib.full(len(work), i)
        pivots[:, i] = swap + 1
        row = work[every, swap].copy()
        work[every, swap] = work[:, i]
        work[:, i] = row
        work[:, i + 1 :, i] /= lib.where(row[:, i] == 0, 1, row[:, i])[:, None]  # a column of zeros stays as it is
        work[:, i + 1 :, i + 1 :] -= work[:, i + 1 :, i, None] * row[:, None, i + 1 :]
    work = work.reshape(*batch, m, n)
    lower = lib.tril(work[..., :k], -1) + lib.eye(m, k, dtype=a.dtype)
    return lower, lib.triu(work[..., :k, :]), pivots.reshape(*batch, k)


def _permutation(pivots, m):
    """The matrix P with A = P L U, from LAPACK's row swaps."""
    lib = xp(pivots)
    flat = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1])
    order = lib.tile(lib.arange(m), (len(flat), 1))
    every = lib.arange(len(flat))
    for i in range(flat.shape[-1]):
        swap = flat[:, i] - 1
        there = order[every, swap].copy()
        order[every, swap] = order[:, i]
        order[:, i] = there
    rows = order.reshape(*pivots.shape[:-1], m)
    return rows[..., None, :] == lib.arange(m)[:, None]


@_lu.gradient
def _(gs, ys, a_shape):
    """Seeger et al. 2017's method for P^T A = L U: A' = P L^-T (tril(L^T L', -1) + triu(U' U^T)) U^-T.

    What is beyond the square is a triangular system in it: L2 = A2 U^-1 below, U2 = L^-1 A2 to the right.
    """
    (gl, gu, _), (lower, upper, pivots) = gs, ys
    m, n = a_shape[-2:]
    k = min(m, n)
    l, u = lower[..., :k, :], upper[..., :k]
    middle, beside, below = 0, None, None
    if gl is not None:
        middle = tril(_matmul(mT(l), gl[..., :k, :]), -1)
        if m > k:
            below = mT(_solve_triangular(u, mT(gl[..., k:, :]), True, False))
            middle = middle - triu(_matmul(_matmul(mT(lower[..., k:, :]), below), mT(u)))
    if gu is not None:
        middle = middle + triu(_matmul(gu[..., :k], mT(u)))
        if n > k:
            beside = _solve_triangular(mT(l), gu[..., k:], True, True)
            middle = middle - tril(_matmul(_matmul(mT(l), beside), mT(upper[..., k:])), -1)
    ga = _solve_triangular(mT(l), mT(_solve_triangular(u, mT(middle), True, False)), True, True)
    lib = xp(value(ga))
    if m > k:
        ga = cat([ga, lib.zeros((*ga.shape[:-2], m - k, k), ga.dtype) if below is None else below], -2)
    if n > k:
        ga = cat([ga, lib.zeros((*ga.shape[:-2], k, n - k), ga.dtype) if beside is None else beside], -1)
    return (_matmul(_permutation(value(pivots), m).astype(ga.dtype), ga),)


def lu(a, *, pivot=True):
    """A = P L U: a permutation, L lower triangular with 1 on its diagonal, U upper triangular: (P, L, U).

    pivot=False leaves the rows where they are and P empty; elimination is then neither stable nor always possible.
    """
    check_matrices("lu", a, square=False)
    lower, upper, pivots = _lu(a, pivot)
    if not pivot:
        empty = value(a)[..., :0, :0].reshape(0)
        return PLU(Tensor(empty) if isinstance(a, Tensor) else empty, lower, upper)
    p = _permutation(value(pivots), a.shape[-2]).astype(a.dtype)
    return PLU(Tensor(p) if isinstance(a, Tensor) else p, lower, upper)


def lu_factor(a, *, pivot=True):
    """L (without its diagonal of ones) and U in one matrix, and LAPACK's pivots: (LU, pivots), for `lu_solve`."""
    check_matrices("lu_factor", a, square=False)
    lower, upper, pivots = _lu(a, pivot)
    m, n = a.shape[-2:]
    k, lib = min(m, n), xp(value(a))
    both = lower[..., :k, :] - lib.eye(k, dtype=a.dtype)
    if n > k:
        both = cat([both, lib.zeros((*a.shape[:-2], k, n - k), a.dtype)], -1)
    both = both + upper
    return LUFactor(cat([both, lower[..., k:, :]], -2) if m > k else both, pivots)


def lu_solve(lu, pivots, b, *, left=True, adjoint=False):
    """X with A X = B (or X A = B if not `left`), from `lu_factor(A)`; for the transpose of A if `adjoint`."""
    if adjoint:
        return mT(lu_solve(lu, pivots, mT(b), left=not left))
    check_matrices("lu_solve", lu)
    check_matrices("lu_solve", lu, b, square=False)
    p = _permutation(value(pivots), lu.shape[-1]).astype(lu.dtype)
    if left:
        return _solve_triangular(lu, _solve_triangular(lu, _matmul(mT(p), b), False, True), True, False)
    half = _solve_triangular(mT(lu), mT(b), False, False)
    return mT(_matmul(p, _solve_triangular(mT(lu), half, True, True)))


# Eigenvalues and singular values


def _apart(name, values, f, x):
    """x / f off the diagonal, 0 on it; f has the differences of the `values`. Raises GradientError if two are equal."""
    lib, n = xp(value(f)), f.shape[-1]
    diagonal = lib.eye(n, dtype=f.dtype)
    if bool(((value(f) == 0) & (diagonal == 0)).any()):
        raise GradientError(
            f"{name}: two {values} are equal, so their vectors are not unique and have no gradient\n"
            f"  the {values} themselves have one: use only these, or move the matrix by a little noise"
        )
    return x * ((1 - diagonal) / (f + diagonal))


class Eigen(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


@op(outputs=2)
def _eigh(a, uplo):
    return tuple(xp(a).linalg.eigh(a, uplo))


@_eigh.gradient
def _(gs, ys):
    """Giles 2008, section 3.1: A' = V (diag(w') + F * (V^T V')) V^T with F_ij = 1 / (w_j - w_i)."""
    (gw, gv), (w, v) = gs, ys
    if gv is None:
        return (_matmul(v * unsqueeze(gw, -2), mT(v)), None)
    middle = _apart("eigh", "eigenvalues", unsqueeze(w, -2) - unsqueeze(w, -1), _matmul(mT(v), gv))
    if gw is not None:
        middle = middle + diag_embed(gw)
    return (_symmetric(_matmul(_matmul(v, middle), mT(v))), None)


def eigh(a, UPLO="L"):
    """Eigenvalues, ascending, and eigenvectors (the columns) of a symmetric matrix: (eigenvalues, eigenvectors).

    Only the triangle UPLO, "L" or "U", is read. The gradient is that of symmetric changes of A.
    """
    check_matrices("eigh", a)
    expect(str(UPLO).upper() in ("L", "U"), f'eigh: UPLO is "L" or "U", not {UPLO!r}', error=ArgumentError)
    return Eigen(*_eigh(a, UPLO.upper()))


def eigvalsh(a, UPLO="L"):
    """The eigenvalues of a symmetric matrix, ascending."""
    return eigh(a, UPLO).eigenvalues


class SVD(NamedTuple):
    """What `svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


@op(outputs=3)
def _svd(a, full_matrices):
    return tuple(xp(a).linalg.svd(a, full_matrices))


@_svd.gradient
def _(gs, ys, full_matrices):
    """Townsend 2016, "Differentiating the singular value decomposition", with V = Vh^T."""
    (gu, gs_, gvh), (u, s, vh) = gs, ys
    m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
    if full_matrices and m != n:
        extra = [value(g)[..., k:] if g is gu else value(g)[..., k:, :] for g in (gu, gvh) if g is not None]
        if any([e.any() for e in extra]):
            raise GradientError(
                "svd: with full_matrices=True the extra columns of U or V are not unique, and have no gradient\n"
                "  write full_matrices=False"
            )
        u, vh = u[..., :k], vh[..., :k, :]
        gu, gvh = None if gu is None else gu[..., :k], None if gvh is None else gvh[..., :k, :]
    v = mT(vh)
    if gu is None and gvh is None:
        return (_matmul(u * unsqueeze(gs_, -2), vh), None)
    row, column = unsqueeze(s, -2), unsqueeze(s, -1)
    f = (row - column) * (row + column)
    middle = 0 if gs_ is None else diag_embed(gs_)
    if gu is not None:
        x = _matmul(mT(u), gu)
        middle = middle + _apart("svd", "singular values", f, x - mT(x)) * row
    if gvh is not None:
        x = _matmul(vh, mT(gvh))
        middle = middle + column * _apart("svd", "singular values", f, x - mT(x))
    ga = _matmul(_matmul(u, middle), vh)
    if gu is not None and m > k:
        rest = gu - _matmul(u, _matmul(mT(u), gu))
        ga = ga + _matmul(rest / row, vh)
    if gvh is not None and n > k:
        rest = gvh - _matmul(_matmul(gvh, v), vh)
        ga = ga + _matmul(u, rest / column)
    return (ga, None)


def svd(a, full_matrices=True):
    """A = U diag(S) Vh, with S >= 0, descending: (U, S, Vh).

    full_matrices   U and Vh square; only the singular values then have a gradient, unless A is square
    """
    check_matrices("svd", a, square=False)
    return SVD(*_svd(a, bool(full_matrices)))


def svdvals(a):
    """The singular values, descending."""
    return svd(a, full_matrices=False).S
