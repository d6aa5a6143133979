"""Products: matmul and its kin, einsum, tensordot, against NumPy and differences; errors that say what to write."""

import numpy as np
import pytest
from agreement import gradients_are_right

import minigen
from minigen import Tensor
from minigen.errors import ArgumentError, DtypeError, ShapeError


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)),
        ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)), ((0, 2, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 5, 0), (0, 4)), ((0,), (0,)),
    ],
)  # fmt: skip
def test_matmul(a, b):
    x, y = array(*a), array(*b, seed=1)
    z = Tensor(x) @ Tensor(y)
    expected = np.matmul(x, y)
    assert z.shape == expected.shape and np.allclose(z.data, expected, rtol=1e-13)
    assert (Tensor(x.astype(np.float32)) @ Tensor(y.astype(np.float32))).dtype == np.float32
    assert np.allclose((x @ Tensor(y)).data, expected)
    gradients_are_right(minigen.matmul, x, y)


def test_matmul_of_what_is_transposed_or_strided():
    x, y = array(4, 6)[:, ::2], array(5, 3)
    assert np.allclose((Tensor(x) @ Tensor(y).mT).data, x @ y.T)
    gradients_are_right(lambda x, y: x[:, ::2] @ y.mT, array(4, 6), y)
    many = array(2, 4, 6).transpose(1, 0, 2)  # folding it to a matrix needs a copy
    assert np.allclose((Tensor(many) @ Tensor(array(6, 3))).data, many @ array(6, 3))


V, W, M, N, B, C = array(4), array(3), array(3, 4), array(4, 5), array(2, 3, 4), array(2, 4, 5)
TABLE = {
    "mm": (minigen.mm, np.matmul, [M, N]),
    "bmm": (minigen.bmm, np.matmul, [B, C]),
    "mv": (minigen.mv, np.matmul, [M, V]),
    "dot": (minigen.dot, np.dot, [V, V * 2]),
    "inner": (minigen.inner, np.inner, [B, M]),
    "outer": (minigen.outer, np.outer, [V, W]),
    "tensordot": (minigen.tensordot, lambda a, b: np.tensordot(a, b, 1), [B, N]),
    "tensordot lists": (
        lambda a, b: minigen.tensordot(a, b, ([0, 2], [0, 1])),
        lambda a, b: np.tensordot(a, b, ([0, 2], [0, 1])),
        [B, C],
    ),
    "addmm": (
        lambda x, a, b: minigen.addmm(x, a, b, beta=0.5, alpha=2),
        lambda x, a, b: 0.5 * x + 2 * a @ b,
        [array(5), M, N],
    ),
    "addmv": (minigen.addmv, lambda x, a, v: x + a @ v, [W, M, V]),
    "addr": (minigen.addr, lambda x, a, b: x + np.outer(a, b), [M, W, V]),
    "baddbmm": (minigen.baddbmm, lambda x, a, b: x + a @ b, [array(2, 1, 5), B, C]),
    "addbmm": (minigen.addbmm, lambda x, a, b: x + (a @ b).sum(0), [array(3, 5), B, C]),
    "kron": (minigen.kron, np.kron, [M, array(2, 2)]),
    "trace": (minigen.trace, np.trace, [M]),
    "cross": (minigen.cross, lambda a, b: np.cross(a, b), [array(2, 3), array(2, 3, seed=1)]),
    "cross elsewhere": (lambda a, b: minigen.cross(a, b, 0), lambda a, b: np.cross(a, b, axis=0), [M, M * M]),
}
TABLE["tensordot"] = (lambda a, b: minigen.tensordot(a, b, 1), lambda a, b: np.tensordot(a, b, 1), [B, N])


@pytest.mark.parametrize("name", TABLE)
def test_forward_and_gradients(name):
    ours, numpys, arrays = TABLE[name]
    y, expected = ours(*[Tensor(a) for a in arrays]), numpys(*arrays)
    assert y.shape == expected.shape and np.allclose(y.data, expected, rtol=1e-12, atol=1e-14)
    assert ours(*[Tensor(a.astype(np.float32)) for a in arrays]).dtype == np.float32
    gradients_are_right(ours, *arrays)


EQUATIONS = [
    ("ij->ji", [M]), ("ij->", [M]), ("ii->i", [array(3, 3)]), ("iij->j", [array(3, 3, 2)]), ("ii", [array(3, 3)]),
    ("ij,jk->ik", [M, N]), ("ij,jk", [M, N]), ("ij,kj->ik", [M, array(2, 4)]), ("bij,bjk->bik", [B, C]),
    ("bij,bkj->bik", [B, array(2, 6, 4)]), ("ij,ij->i", [M, M * 2]), ("ij,ij->", [M, M * 2]), ("i,j->ij", [W, V]),
    ("i,j->", [W, V]), ("b...j,...jk->b...k", [array(2, 3, 4), array(3, 4, 5)]), ("...ij->...ji", [B]),
    ("bhqd,bhkd->bhqk", [array(2, 2, 3, 4), array(2, 2, 5, 4)]), ("ij,jk,kl->il", [M, N, array(5, 2)]),
    ("ij,j,jk,k->i", [M, V, N, array(5)]), ("abc,acd,adb->a", [B, array(2, 4, 5), array(2, 5, 3)]),
    ("ba,b->ab", [M, W]), ("a b c , c -> b a", [B, V]), ("ijk,ilm,njm,nlk,abc->", [array(2, 2, 2)] * 5),
    ("...,->...", [M, array()]), ("ij,ij,ij->ij", [M, M, M]),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "arrays"), EQUATIONS, ids=[e for e, _ in EQUATIONS])
def test_einsum(equation, arrays):
    y = minigen.einsum(equation, *[Tensor(a) for a in arrays])
    expected = np.einsum(equation, *arrays)
    assert y.shape == expected.shape and np.allclose(y.data, expected, rtol=1e-12, atol=1e-13)
    assert minigen.einsum(equation, *[Tensor(a.astype(np.float32)) for a in arrays]).dtype == np.float32
    gradients_are_right(lambda *xs: minigen.einsum(equation, *xs), *arrays)


def test_einsum_stretches_ones_and_takes_lists():
    x, y = array(3, 1), array(3, 4)
    stretched = np.einsum("ij,ij->i", np.broadcast_to(x, (3, 4)), y)
    assert np.allclose(minigen.einsum("ij,ij->i", Tensor(x), Tensor(y)).data, stretched)
    gradients_are_right(lambda x, y: minigen.einsum("ij,ij->i", x, y), x, y)
    by_lists = minigen.einsum(Tensor(M), [0, 1], Tensor(N), [1, 2], [2, 0])
    assert np.allclose(by_lists.data, (M @ N).T)
    assert np.allclose(minigen.einsum("ij,jk->ik", [Tensor(M), Tensor(N)]).data, M @ N)


def test_einsum_contracts_in_a_cheap_order():
    """A (500, 2) times (2, 500) times (500, 2): from the right it never holds 500 by 500 numbers."""
    a, b, c = (Tensor(array(*s)) for s in ((500, 2), (2, 500), (500, 2)))
    import tracemalloc

    tracemalloc.start()
    minigen.einsum("ij,jk,kl->il", a, b, c)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500 * 500 * 8 / 2


def test_a_term_times_zero_is_not_read():
    x = Tensor(np.full((3, 5), np.nan))
    assert np.isfinite(minigen.addmm(x, Tensor(M), Tensor(N), beta=0).data).all()


def test_matmul_says_what_to_write():
    x, w = Tensor(np.ones((32, 784), np.float32)), Tensor(np.ones((400, 784), np.float32))
    with pytest.raises(ShapeError) as caught:
        x @ w
    assert str(caught.value) == (
        "matmul: (32, 784) @ (400, 784)\n"
        "  the last dimension of the first (784) must equal the second-to-last of the second (400)\n"
        "  did you mean  x @ w.mT  ? that is (32, 784) @ (784, 400) -> (32, 400)"
    )


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: Tensor(M) @ Tensor(M), ShapeError, "x @ w.mT"),
        (lambda: Tensor(N) @ Tensor(array(4, 2)), ShapeError, "x.mT @ w"),
        (lambda: Tensor(B) @ Tensor(array(3, 4, 5)), ShapeError, "leading dimensions"),
        (lambda: Tensor(M) @ Tensor(N.astype(np.float32)), DtypeError, "one type"),
        (lambda: Tensor(M) @ Tensor(2.0), ShapeError, r"multiplied with \*"),
        (lambda: Tensor(M) @ 2.0, DtypeError, "takes two tensors"),
        (lambda: minigen.mm(Tensor(B), Tensor(C)), ShapeError, "matmul"),
        (lambda: minigen.bmm(Tensor(B), Tensor(array(1, 4, 5))), ShapeError, "leading"),
        (lambda: minigen.dot(Tensor(V), Tensor(W)), ShapeError, "must equal"),
        (lambda: minigen.outer(Tensor(M), Tensor(W)), ShapeError, "two vectors"),
        (lambda: minigen.tensordot(Tensor(M), Tensor(N), 2), ShapeError, "must be equal"),
        (lambda: minigen.cross(Tensor(V), Tensor(V)), ShapeError, "size 3"),
        (lambda: minigen.trace(Tensor(B)), ShapeError, "matrix"),
        (lambda: minigen.addmm(Tensor(V), Tensor(M), Tensor(N)), ShapeError, "stretch"),
        (lambda: minigen.einsum("ij,jk->ik", Tensor(M), Tensor(M)), ShapeError, "j is both"),
        (lambda: minigen.einsum("ij,jk->ik", Tensor(M)), ArgumentError, "2 terms for 1"),
        (lambda: minigen.einsum("ijk->ik", Tensor(M)), ArgumentError, "does not name the 2 dimensions"),
        (lambda: minigen.einsum("ij->ijj", Tensor(M)), ArgumentError, "twice"),
        (lambda: minigen.einsum("ij->ik", Tensor(M)), ArgumentError, "no operand"),
        (lambda: minigen.einsum("i1->i", Tensor(M)), ArgumentError, "not a letter"),
    ],
)
def test_errors(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()
