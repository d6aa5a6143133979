"""minigen.linalg: factorisations give their matrix back, solvers solve, gradients equal differences twice over."""

import numpy as np
import pytest
from agreement import gradients_are_right

from minigen import Tensor, autograd, linalg
from minigen.errors import ArgumentError, DtypeError, GradientError, ShapeError


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def spd(x):
    """A symmetric positive definite matrix from any."""
    return x @ x.mT + Tensor(np.eye(x.shape[-1]) * 0.5) if isinstance(x, Tensor) else x @ x.swapaxes(-1, -2)


def sym(x):
    return x + x.mT


A, MANY = array(4, 4), array(2, 3, 3)
TALL, WIDE = array(2, 5, 3), array(3, 5)
B = array(4, 2)


def solve_by_numpy(a, b):
    return np.linalg.solve(a, b)


# name: (ours, NumPy's or None, arrays)
TABLE = {
    "inv": (linalg.inv, np.linalg.inv, [MANY]),
    "solve": (linalg.solve, solve_by_numpy, [A, B]),
    "solve many": (linalg.solve, solve_by_numpy, [array(2, 1, 3, 3), array(4, 3, 2)]),
    "solve a vector": (linalg.solve, solve_by_numpy, [A, array(4)]),
    "solve from the right": (lambda a, b: linalg.solve(a, b, left=False), lambda a, b: b @ np.linalg.inv(a), [A, B.T]),
    "solve_triangular": (
        lambda a, b: linalg.solve_triangular(a, b, upper=False),
        lambda a, b: solve_by_numpy(np.tril(a), b),
        [A + 4 * np.eye(4), B],
    ),
    "solve_triangular upper, from the right": (
        lambda a, b: linalg.solve_triangular(a, b, upper=True, left=False),
        lambda a, b: b @ np.linalg.inv(np.triu(a)),
        [A + 4 * np.eye(4), B.T],
    ),
    "solve_triangular with ones": (
        lambda a, b: linalg.solve_triangular(a, b, upper=False, unitriangular=True),
        lambda a, b: solve_by_numpy(np.tril(a, -1) + np.eye(4), b),
        [A, B],
    ),
    "cholesky_solve": (
        lambda a, b: linalg.cholesky_solve(b, linalg.cholesky(spd(a))),
        lambda a, b: solve_by_numpy(a @ a.T + 0.5 * np.eye(4), b),
        [A, B],
    ),
    "det": (linalg.det, np.linalg.det, [MANY]),
    "logdet": (lambda a: linalg.logdet(spd(a)), lambda a: np.linalg.slogdet(a @ a.T + 0.5 * np.eye(4))[1], [A]),
    "slogdet": (lambda a: linalg.slogdet(a).logabsdet, lambda a: np.linalg.slogdet(a)[1], [MANY]),
    "pinv tall": (linalg.pinv, np.linalg.pinv, [TALL]),
    "pinv wide": (linalg.pinv, np.linalg.pinv, [WIDE]),
    "lstsq": (
        lambda a, b: linalg.lstsq(a, b).solution,
        lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0],
        [TALL[0], array(5, 2)],
    ),
    "cholesky": (lambda a: linalg.cholesky(spd(a)), None, [MANY]),
    "cholesky upper": (lambda a: linalg.cholesky(spd(a), upper=True), None, [MANY]),
    "qr Q": (lambda a: linalg.qr(a).Q, lambda a: np.linalg.qr(a).Q, [TALL]),
    "qr R": (lambda a: linalg.qr(a).R, lambda a: np.linalg.qr(a).R, [TALL]),
    "qr of a wide one": (lambda a: linalg.qr(a).Q @ linalg.qr(a).R * linalg.qr(a).R, None, [WIDE]),
    "qr mode r": (lambda a: linalg.qr(a, "r").R, lambda a: np.linalg.qr(a, "r"), [A]),
    "lu L": (lambda a: linalg.lu(a).L, None, [MANY]),
    "lu U": (lambda a: linalg.lu(a).U, None, [MANY]),
    "lu of a tall one": (lambda a: linalg.lu(a).L @ (linalg.lu(a).U * 2), None, [TALL]),
    "lu of a wide one": (lambda a: linalg.lu(a).L @ linalg.lu(a).U ** 2, None, [WIDE]),
    "lu_factor and lu_solve": (
        lambda a, b: linalg.lu_solve(*linalg.lu_factor(a), b),
        solve_by_numpy,
        [A, B],
    ),
    "lu_solve transposed": (
        lambda a, b: linalg.lu_solve(*linalg.lu_factor(a), b, adjoint=True),
        lambda a, b: solve_by_numpy(a.T, b),
        [A, B],
    ),
    "eigvalsh": (lambda a: linalg.eigvalsh(sym(a)), lambda a: np.linalg.eigvalsh(a + a.swapaxes(1, 2)), [MANY]),
    "eigh, whatever the signs": (lambda a: linalg.eigh(sym(a)).eigenvectors ** 2, None, [MANY]),
    "svdvals": (linalg.svdvals, lambda a: np.linalg.svd(a, compute_uv=False), [TALL]),
    "svd, whatever the signs": (lambda a: linalg.svd(a, False).U ** 2 @ linalg.svd(a, False).Vh ** 2, None, [TALL]),
    "svd of a wide one": (lambda a: linalg.svd(a, False).Vh ** 2, None, [WIDE]),
    "matrix_norm fro": (linalg.matrix_norm, np.linalg.norm, [A]),
    "matrix_norm nuc": (lambda a: linalg.matrix_norm(a, "nuc"), lambda a: np.linalg.norm(a, "nuc"), [A]),
    "matrix_norm 2": (lambda a: linalg.matrix_norm(a, 2), lambda a: np.linalg.norm(a, 2), [A]),
    "matrix_norm -inf": (lambda a: linalg.matrix_norm(a, -np.inf), lambda a: np.linalg.norm(a, -np.inf), [A]),
    "matrix_norm elsewhere": (
        lambda a: linalg.matrix_norm(a, 1, (0, 2), keepdim=True),
        lambda a: np.linalg.norm(a, 1, (0, 2), keepdims=True),
        [TALL],
    ),
    "vector_norm 3": (lambda a: linalg.vector_norm(a, 3, -1), lambda a: np.linalg.norm(a, 3, -1), [TALL]),
    "norm": (linalg.norm, np.linalg.norm, [TALL]),
    "cond": (linalg.cond, np.linalg.cond, [A]),
    "matrix_power": (lambda a: linalg.matrix_power(a, 5), lambda a: np.linalg.matrix_power(a, 5), [MANY]),
    "matrix_power -2": (lambda a: linalg.matrix_power(a, -2), lambda a: np.linalg.matrix_power(a, -2), [MANY]),
    "multi_dot": (
        lambda *xs: linalg.multi_dot(xs),
        lambda *xs: np.linalg.multi_dot(xs),
        [array(3), array(3, 5), array(5, 2), array(2, 4)],
    ),
    "matrix_exp": (linalg.matrix_exp, lambda a: exp_by_series(a), [MANY]),
    "vecdot": (linalg.vecdot, lambda a, b: (a * b).sum(-1), [TALL, TALL[0]]),
}


def exp_by_series(a):
    y = term = np.broadcast_to(np.eye(a.shape[-1]), a.shape)
    for n in range(1, 60):
        term = term @ a / n
        y = y + term
    return y


@pytest.mark.parametrize("name", TABLE)
def test_forward_and_gradients(name):
    ours, numpys, arrays = TABLE[name]
    y = ours(*[Tensor(a) for a in arrays])
    if numpys is not None:
        expected = numpys(*arrays)
        assert y.shape == expected.shape and np.allclose(y.data, expected, rtol=1e-10, atol=1e-11)
    gradients_are_right(ours, *arrays)


@pytest.mark.parametrize("name", [n for n in TABLE if not n.startswith(("cholesky", "logdet", "eigh, what"))])
def test_float32_stays(name):
    ours, _, arrays = TABLE[name]
    if name == "eigvalsh":
        ours = linalg.eigvalsh
    assert ours(*[Tensor(a.astype(np.float32)) for a in arrays]).dtype == np.float32


def test_factors_give_the_matrix_back():
    for shape in ((4, 4), (2, 5, 3), (2, 3, 5), (1, 1), (0, 0), (3, 0)):
        a = Tensor(array(*shape))
        p, l, u = linalg.lu(a)
        assert np.allclose((p @ l @ u).data, a.data)
        assert (
            (np.triu(l.data, 1) == 0).all() and (np.tril(u.data, -1) == 0).all() and np.abs(l.data).max(initial=0) <= 1
        )
        q, r = linalg.qr(a)
        assert np.allclose((q @ r).data, a.data)
        u, s, vh = linalg.svd(a, full_matrices=False)
        assert np.allclose((u * s.unsqueeze(-2) @ vh).data, a.data)
        assert [f.shape[-2:] for f in linalg.svd(a)][::2] == [(a.shape[-2],) * 2, (a.shape[-1],) * 2]
    a = spd(Tensor(MANY))
    l = linalg.cholesky(a)
    assert np.allclose((l @ l.mT).data, a.data) and (np.triu(l.data, 1) == 0).all()
    w, v = linalg.eigh(a)
    assert np.allclose((v * w.unsqueeze(-2) @ v.mT).data, a.data)


def test_a_large_triangle_is_solved_by_halves():
    a, b = np.tril(array(150, 150)) + 20 * np.eye(150), array(150, 3)
    for upper in (False, True):
        t = a.T if upper else a
        x = linalg.solve_triangular(Tensor(t), Tensor(b), upper=upper)
        assert np.abs(t @ x.data - b).max() < 1e-12


def test_the_determinant_of_a_singular_matrix_has_a_gradient():
    a = array(3, 3)
    a[2] = a[0] + a[1]
    gradients_are_right(linalg.det, a)
    rank_1 = np.outer(array(3), array(3, seed=1))
    x = Tensor(rank_1, requires_grad=True)
    assert np.abs(autograd.grad(linalg.det(x), x)[0].data).max() < 1e-12


def test_equal_values_have_a_gradient_and_their_vectors_have_none():
    x = Tensor(np.eye(3), requires_grad=True)
    assert np.allclose(autograd.grad(linalg.eigvalsh(x).sum(), x)[0].data, np.eye(3))
    assert np.allclose(autograd.grad(linalg.svdvals(x).sum(), x)[0].data, np.eye(3))
    with pytest.raises(GradientError, match="two eigenvalues are equal"):
        linalg.eigh(x).eigenvectors.sum().backward()
    with pytest.raises(GradientError, match="two singular values are equal"):
        linalg.svd(x).U.sum().backward()


def test_rank_and_residuals():
    a = Tensor(array(5, 3))
    assert linalg.matrix_rank(a).item() == 3
    assert linalg.matrix_rank(Tensor(np.outer(array(5), array(3)))).item() == 1
    found = linalg.lstsq(a, Tensor(array(5, 2)))
    error = a.data @ found.solution.data - array(5, 2)
    assert np.allclose(found.residuals.data, (error**2).sum(0)) and found.rank.item() == 3


def test_logdet_of_others():
    diagonal = Tensor(np.stack([np.diag([1.0, 2.0]), np.diag([1.0, -2.0]), np.diag([0.0, 1.0])]))
    values = linalg.logdet(diagonal).data
    assert values[0] == np.log(2) and np.isnan(values[1]) and values[2] == -np.inf
    assert linalg.slogdet(diagonal).sign.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda a: linalg.cholesky(-(a @ a.mT)), ArgumentError, "not positive definite.*batch entry"),
        (lambda a: linalg.cholesky((a @ a.mT)[0] * float("nan")), ArgumentError, "has a NaN"),
        (lambda a: linalg.inv(a * 0.0), ArgumentError, r"inv: the matrix is singular \(batch entry \(0,\)\)"),
        (lambda a: linalg.solve(a[0] * 0.0, a[0]), ArgumentError, "no unique answer"),
        (lambda a: linalg.solve_triangular(a * 0.0, a, upper=True), ArgumentError, "diagonal has a 0"),
        (lambda a: linalg.solve(a, a[:, :2]), ShapeError, "needs 3 rows"),
        (lambda a: linalg.inv(a[:, :2]), ShapeError, "square"),
        (lambda a: linalg.inv(a[0, 0]), ShapeError, "matrices"),
        (lambda a: linalg.inv(a.long()), DtypeError, r"x.float\(\)"),
        (lambda a: linalg.solve(a, a.float()), DtypeError, "one type"),
        (lambda a: linalg.qr(a, "full"), ArgumentError, "mode"),
        (lambda a: linalg.matrix_norm(a, 3), ArgumentError, "ord"),
        (lambda a: linalg.matrix_power(a, 0.5), DtypeError, "integer"),
        (lambda a: linalg.multi_dot([a[0]]), ArgumentError, "at least 2"),
        (lambda a: linalg.norm(a, 2), ShapeError, "needs dim"),
        (lambda a: linalg.eigh(a, "X"), ArgumentError, "UPLO"),
    ],
)
def test_errors(wrong, error, says):
    with pytest.raises(error, match="(?s)" + says):
        wrong(Tensor(MANY))


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (lambda a: linalg.svd(a).U.sum(), "full_matrices=False"),
        (lambda a: linalg.qr(a, "complete").Q.sum(), 'mode="reduced"'),
    ],
)
def test_what_has_no_gradient_says_so(lost, says):
    with pytest.raises(GradientError, match=says):
        lost(Tensor(TALL, requires_grad=True)).backward()


def test_slogdet_of_a_singular_matrix_has_no_gradient():
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    with pytest.raises(ArgumentError, match="singular"):
        linalg.slogdet(x).logabsdet.backward()
