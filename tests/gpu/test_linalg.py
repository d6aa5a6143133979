"""Linear algebra on `device="cuda"`: a matrix that has no answer is an error there, too, and batches are stretched."""

import numpy as np
import pytest

import minigen
from minigen import linalg
from minigen.device import to_device
from minigen.errors import ArgumentError

pytestmark = pytest.mark.usefixtures("card")
GOOD = np.random.default_rng(0).standard_normal((2, 3, 3)) + 3 * np.eye(3)
SECOND_IS_SINGULAR = GOOD * np.array([1.0, 0.0])[:, None, None]


def there(x, dtype=np.float32):
    return minigen.Tensor(to_device(x.astype(dtype), "cuda"), requires_grad=True)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda a: linalg.inv(a), r"inv: the matrix is singular \(batch entry \(1,\)\)"),
        (lambda a: linalg.inv(a[1]), "inv: the matrix is singular,"),
        (lambda a: linalg.solve(a, a), r"solve: the matrix is singular \(batch entry \(1,\)\)"),
        (lambda a: linalg.solve(a[1], a[0, 0]), "no unique answer"),
        (lambda a: linalg.solve_triangular(a, a, upper=True), r"diagonal has a 0 \(batch entry \(1,\)\)"),
        (lambda a: linalg.cholesky(a @ a.mT), r"cholesky: .*not positive definite \(batch entry \(1,\)\)"),
        (lambda a: linalg.cholesky((a @ a.mT)[0] * float("nan")), "cholesky: the matrix .*not positive definite|NaN"),
        (lambda a: linalg.slogdet(a).logabsdet.sum().backward(), "singular matrix.*batch entry"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_without_an_answer_is_an_error(wrong, says, dtype):
    with pytest.raises(ArgumentError, match="(?s)" + says):
        wrong(there(SECOND_IS_SINGULAR, dtype))


WORKS = {
    "inv": lambda a: linalg.inv(a),
    "solve": lambda a: linalg.solve(a, a[0]),
    "solve for one vector": lambda a: linalg.solve(a[0], a[1, 0]),
    "solve of one matrix": lambda a: linalg.solve(a[0], a),
    "triangular": lambda a: linalg.solve_triangular(a, a[1], upper=False),
    "cholesky": lambda a: linalg.cholesky(a @ a.mT),
    "cholesky_solve": lambda a: minigen.ops.solving.cholesky_solve(a, linalg.cholesky(a[0] @ a[0].mT)),
}


@pytest.mark.parametrize("name", WORKS)
def test_answers_and_gradients_are_those_of_the_cpu(name):
    found = []
    for x in (there(GOOD, np.float64), minigen.Tensor(GOOD, requires_grad=True)):
        y = WORKS[name](x)
        (g,) = minigen.autograd.grad(y.square().sum(), [x], create_graph=True)
        (second,) = minigen.autograd.grad(g.square().sum(), [x])
        found.append([t.detach().cpu().numpy() for t in (y, g, second)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_what_is_asked_for_one_call_holds_for_no_other(card):
    """CuPy's own functions, called beside ours, look at nothing, as ever."""
    with pytest.raises(ArgumentError):
        linalg.inv(there(SECOND_IS_SINGULAR))
    found = to_device(card.linalg.inv(to_device(np.zeros((2, 2), np.float32), "cuda")), "cpu")
    assert not np.isfinite(found).all()
