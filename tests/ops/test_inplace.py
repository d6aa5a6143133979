"""Writing in place: what it writes, when it is refused, and what a graph that saved it does."""

import numpy as np
import pytest

import minigen
from minigen import Generator, Tensor, no_grad
from minigen.errors import ArgumentError, DtypeError, GradientError, ShapeError

WRITES = {
    "add_": (lambda x, y: x.add_(y, alpha=2), lambda x, y: x + 2 * y),
    "sub_": (lambda x, y: x.sub_(y), lambda x, y: x - y),
    "mul_": (lambda x, y: x.mul_(y), lambda x, y: x * y),
    "div_": (lambda x, y: x.div_(y), lambda x, y: x / y),
    "pow_": (lambda x, y: x.pow_(2), lambda x, y: x**2),
    "remainder_": (lambda x, y: x.remainder_(y), lambda x, y: x % y),
    "neg_": (lambda x, y: x.neg_(), lambda x, y: -x),
    "abs_": (lambda x, y: x.abs_(), lambda x, y: np.abs(x)),
    "exp_": (lambda x, y: x.exp_(), lambda x, y: np.exp(x)),
    "tanh_": (lambda x, y: x.tanh_(), lambda x, y: np.tanh(x)),
    "floor_": (lambda x, y: x.floor_(), lambda x, y: np.floor(x)),
    "clamp_": (lambda x, y: x.clamp_(0.0, 1.0), lambda x, y: np.clip(x, 0, 1)),
    "lerp_": (lambda x, y: x.lerp_(y, 0.25), lambda x, y: x + 0.25 * (y - x)),
    "addcmul_": (lambda x, y: x.addcmul_(y, y, value=0.5), lambda x, y: x + 0.5 * y * y),
    "addcdiv_": (lambda x, y: x.addcdiv_(y, y), lambda x, y: x + 1),
    "copy_": (lambda x, y: x.copy_(y), lambda x, y: y + 0 * x),
    "copy_ array": (lambda x, y: x.copy_(y.data.astype(np.float64)), lambda x, y: y + 0 * x),
    "fill_": (lambda x, y: x.fill_(3), lambda x, y: 0 * x + 3),
    "zero_": (lambda x, y: x.zero_(), lambda x, y: 0 * x),
    "masked_fill_": (lambda x, y: x.masked_fill_(y > 1, 7.0), lambda x, y: np.where(y > 1, 7, x)),
    "+=": (lambda x, y: x.__iadd__(y), lambda x, y: x + y),
    "-=": (lambda x, y: x.__isub__(y), lambda x, y: x - y),
    "*=": (lambda x, y: x.__imul__(2), lambda x, y: x * 2),
    "/=": (lambda x, y: x.__itruediv__(y), lambda x, y: x / y),
    "**=": (lambda x, y: x.__ipow__(2), lambda x, y: x**2),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes_its_own_memory(name):
    write, reference = WRITES[name]
    start, y = np.float32([[1.5, -2.0, 0.5], [3.0, 0.25, -1.0]]), np.float32([0.5, 2.0, 1.0])
    x = Tensor(start.copy())
    memory = x.data
    view = x[1]
    assert write(x, Tensor(y)) is x and x.data is memory
    np.testing.assert_allclose(x.data, reference(start, y), rtol=1e-6)
    assert x.dtype == minigen.float32 and (view.data == x.data[1]).all()


def test_random():
    x, g = minigen.zeros(10_000), Generator(0)
    assert x.uniform_(2, 4, generator=g).min().item() >= 2 and x.max().item() < 4 and abs(x.mean().item() - 3) < 0.05
    assert abs(x.normal_(5, 2, generator=g).mean().item() - 5) < 0.1 and abs(x.std().item() - 2) < 0.1
    assert abs(x.bernoulli_(0.3, generator=g).mean().item() - 0.3) < 0.03
    assert abs(x.exponential_(2.0, generator=g).mean().item() - 0.5) < 0.03
    assert {*x.random_(3, generator=g).tolist()} == {0, 1, 2}
    assert x.double().normal_(generator=g).dtype == minigen.float64


def test_parameters_are_written_without_gradients():
    w = minigen.ones(3, requires_grad=True)
    (w * w).sum().backward()
    with no_grad():
        for p in [w]:
            p -= 0.5 * p.grad
            p.mul_(2)
    assert w.tolist() == [0, 0, 0] and w.requires_grad and w.is_leaf


def test_a_leaf_that_wants_a_gradient_is_not_written():
    w = minigen.ones(3, requires_grad=True)
    for write in (lambda: w.add_(1), lambda: w.zero_(), lambda: w.normal_(), lambda: w.__iadd__(1)):
        with pytest.raises(GradientError, match="no_grad"):
            write()
    assert w.tolist() == [1, 1, 1]


def test_what_an_op_made_is_not_written_but_renamed():
    w = minigen.ones(3, requires_grad=True)
    y = w * 2
    with pytest.raises(GradientError, match=r"made by mul.*\n  write x = x.add"):
        y.add_(1)
    with pytest.raises(GradientError, match=r"made by mul.*\n  write to a new tensor"):
        y.zero_()
    before = y
    y += w
    y *= 2
    assert y is not before and before.tolist() == [2, 2, 2]
    y.sum().backward()
    assert w.grad.tolist() == [6, 6, 6]


def test_what_wants_a_gradient_is_not_lost():
    w, total = minigen.ones(3, requires_grad=True), minigen.zeros(3)
    with pytest.raises(GradientError, match="would lose it"):
        total.add_(w)
    with pytest.raises(GradientError):
        total.copy_(w)
    for _ in range(2):
        total += w * w  # a new tensor of that name
    total.sum().backward()
    assert w.grad.tolist() == [4, 4, 4]


def test_memory_that_cannot_be_written():
    frozen = np.zeros(3, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ArgumentError, match="read-only"):
        Tensor(frozen).add_(1)
    with pytest.raises(ArgumentError, match="many places"):
        minigen.ones(1).expand(3).zero_()


def test_a_graph_that_saved_it_refuses():
    w, mask = minigen.ones(3, requires_grad=True), minigen.ones(3)
    y = (w * mask).sum()
    mask.mul_(0)
    with pytest.raises(GradientError, match="written in place"):
        y.backward()
    y = (w * mask).sum()  # computed after the write
    y.backward()
    assert w.grad.tolist() == [0, 0, 0]
    y = (w + mask).sum()  # an addition saves nothing
    mask += 1
    y.backward()


def test_a_write_through_a_view_counts():
    w, x = minigen.ones(2, requires_grad=True), minigen.ones(4)
    y = (w * x[:2]).sum()
    x[1:].zero_()
    with pytest.raises(GradientError, match="written in place"):
        y.backward()


@pytest.mark.parametrize(
    "error, write",
    [
        (ShapeError, lambda x: x.add_(minigen.ones(2, 3))),
        (ShapeError, lambda x: x.copy_(minigen.ones(2))),
        (ShapeError, lambda x: x.fill_(minigen.ones(2))),
        (DtypeError, lambda x: x.long().add_(0.5)),
        (DtypeError, lambda x: x.long().div_(2)),
        (DtypeError, lambda x: x.long().__itruediv__(2)),
        (DtypeError, lambda x: x.add_(x.double())),
        (ArgumentError, lambda x: x.sum().expand(3).add_(1)),
        (ArgumentError, lambda x: x.uniform_(1, 0)),
        (ArgumentError, lambda x: x.normal_(0, -1)),
        (ArgumentError, lambda x: x.exponential_(0)),
        (DtypeError, lambda x: x.long().normal_()),
    ],
)
def test_refused(error, write):
    x = minigen.ones(3)
    with pytest.raises(error):
        write(x)
    assert x.tolist() == [1, 1, 1]
