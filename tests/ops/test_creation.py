"""New tensors: shapes, types, what is random and from which generator."""

import math

import numpy as np
import pytest

import minigen
from minigen import Generator, Tensor
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops import creation as C

FILLED = {C.zeros: 0, C.ones: 1}


@pytest.mark.parametrize("function", FILLED)
def test_filled(function):
    for x in (function(2, 3), function((2, 3)), function([2, 3]), function(size=(2, 3))):
        assert x.shape == (2, 3) and x.dtype == minigen.float32 and (x.data == FILLED[function]).all()
    assert function(()).shape == () and function(0, 3).shape == (0, 3) and function(4).shape == (4,)
    assert function(2, dtype=minigen.int64).dtype == minigen.int64
    assert function(2, requires_grad=True).requires_grad
    assert C.empty(2, 3).shape == (2, 3)


@pytest.mark.parametrize(
    "number, dtype", [(2, "int64"), (2.5, "float32"), (True, "bool"), (np.float64(2.5), "float32")]
)
def test_full(number, dtype):
    x = C.full((2, 3), number)
    assert x.shape == (2, 3) and x.dtype == dtype and (x.data == number).all()
    assert C.full((), 3.0, dtype=minigen.float64).dtype == minigen.float64


def test_like():
    x = Tensor(np.zeros((2, 3), np.float64))
    for y, expected in ((C.zeros_like(x), 0), (C.ones_like(x), 1), (C.full_like(x, 2.5), 2.5)):
        assert y.shape == (2, 3) and y.dtype == minigen.float64 and (y.data == expected).all()
    for y in (C.rand_like(x), C.randn_like(x), C.empty_like(x), C.randint_like(x, 5)):
        assert y.shape == (2, 3) and y.dtype == minigen.float64
    assert C.zeros_like(x, dtype=minigen.int64, requires_grad=False).dtype == minigen.int64
    assert not np.shares_memory(C.zeros_like(x).data, x.data)
    turned = x.T
    assert C.zeros_like(turned).stride() == C.full_like(turned, 2).stride() == turned.stride()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((5,), [0, 1, 2, 3, 4]),
        ((2, 5), [2, 3, 4]),
        ((5, 0, -2), [5, 3, 1]),
        ((0, 1, 0.25), [0, 0.25, 0.5, 0.75]),
        ((1.0, 2.05, 0.35), [1.0, 1.35, 1.7]),
        ((3, 3), []),
    ],
)
def test_arange(arguments, expected):
    x = C.arange(*arguments)
    np.testing.assert_allclose(x.data, expected, rtol=1e-6)
    assert x.dtype == (minigen.int64 if all(isinstance(n, int) for n in arguments) else minigen.float32)


def test_arange_is_rounded_once():
    x = C.arange(0, 1, 0.001)
    assert x.shape == (1000,) and (x.data == (np.arange(1000) * 0.001).astype(np.float32)).all()
    assert C.arange(3, dtype=minigen.float64).dtype == minigen.float64


def test_spaced():
    assert C.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert C.linspace(0, 1, 1).tolist() == [0] and C.linspace(0, 1, 0).shape == (0,)
    assert C.linspace(-1, 1, 3, dtype=minigen.float64).dtype == minigen.float64
    np.testing.assert_allclose(C.logspace(0, 3, 4).data, [1, 10, 100, 1000], rtol=1e-6)
    np.testing.assert_allclose(C.logspace(0, 3, 4, base=2).data, [1, 2, 4, 8])


def test_eye():
    assert C.eye(2).tolist() == [[1, 0], [0, 1]] and C.eye(2, 3).shape == (2, 3) and C.eye(0).shape == (0, 0)


RANDOM = {
    "rand": lambda g: C.rand(3, 4, generator=g),
    "randn": lambda g: C.randn(3, 4, generator=g),
    "randint": lambda g: C.randint(0, 1000, (3, 4), generator=g),
    "randperm": lambda g: C.randperm(20, generator=g),
    "bernoulli": lambda g: C.bernoulli(C.full((40,), 0.5), generator=g),
    "normal": lambda g: C.normal(1.0, 2.0, (3, 4), generator=g),
    "normal of tensors": lambda g: C.normal(C.zeros(3, 1), C.ones(4), generator=g),
    "multinomial": lambda g: C.multinomial(C.ones(40), 20, generator=g),
    "multinomial again": lambda g: C.multinomial(C.ones(2, 40), 20, replacement=True, generator=g),
}


@pytest.mark.parametrize("name", RANDOM)
def test_the_generator_decides(name):
    draw = RANDOM[name]
    first = draw(Generator(1))
    assert (draw(Generator(1)).data == first.data).all() and not (draw(Generator(2)).data == first.data).all()
    minigen.manual_seed(5)
    default = draw(None)
    assert not (draw(None).data == default.data).all()
    minigen.manual_seed(5)
    assert (draw(None).data == default.data).all()


def test_distributions():
    n, g = 100_000, Generator(0)
    u = C.rand(n, generator=g).data
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.005
    z = C.randn(n, generator=g).data
    assert abs(z.mean()) < 0.015 and abs(z.std() - 1) < 0.015 and u.dtype == z.dtype == np.float32
    i = C.randint(-2, 3, (n,), generator=g)
    assert i.dtype == minigen.int64 and np.allclose(np.bincount(i.data + 2) / n, 0.2, atol=0.01)
    assert set(C.randint(3, size=(50,), generator=g).tolist()) == {0, 1, 2}
    assert sorted(C.randperm(50, generator=g).tolist()) == list(range(50))
    p = minigen.tensor([0.0, 0.3, 1.0]).expand(n, 3)
    assert np.allclose(C.bernoulli(p, generator=g).data.mean(0), [0, 0.3, 1], atol=0.01)
    y = C.normal(minigen.tensor([0.0, 5.0]), minigen.tensor([1.0, 0.1]).expand(n, 2), generator=g).data
    assert np.allclose(y.mean(0), [0, 5], atol=0.02) and np.allclose(y.std(0), [1, 0.1], rtol=0.02)


def test_multinomial():
    n, g = 50_000, Generator(0)
    weights = minigen.tensor([0.0, 1.0, 3.0, 4.0])
    drawn = C.multinomial(weights, n, replacement=True, generator=g).data
    assert drawn.dtype == np.int64 and np.allclose(
        np.bincount(drawn, minlength=4) / n, [0, 1 / 8, 3 / 8, 1 / 2], atol=0.01
    )
    without = C.multinomial(weights.expand(n, 4), 2, generator=g).data
    assert without.shape == (n, 2) and (without[:, 0] != without[:, 1]).all() and (without > 0).all()
    assert np.allclose(np.bincount(without[:, 0], minlength=4) / n, [0, 1 / 8, 3 / 8, 1 / 2], atol=0.01)
    second = 1 / 8 * (4 / 7) + 3 / 8 * (4 / 5)  # 3 comes second after 1 or 2
    assert abs((without[:, 1] == 3).mean() - second) < 0.01


@pytest.mark.parametrize(
    "error, call",
    [
        (ShapeError, lambda: C.zeros(2, -3)),
        (DtypeError, lambda: C.zeros(2.5)),
        (ArgumentError, lambda: C.zeros(2, size=(3,))),
        (ArgumentError, lambda: C.arange(0, 5, 0)),
        (ArgumentError, lambda: C.arange(0, 5, -1)),
        (ArgumentError, lambda: C.linspace(0, 1, -1)),
        (DtypeError, lambda: C.rand(2, dtype=minigen.int64)),
        (ArgumentError, lambda: C.randint(3, 3, (2,))),
        (ArgumentError, lambda: C.randint(3)),
        (ArgumentError, lambda: C.randperm(-1)),
        (ArgumentError, lambda: C.bernoulli(minigen.tensor([1.5]))),
        (DtypeError, lambda: C.bernoulli(minigen.tensor([1]))),
        (ArgumentError, lambda: C.normal(0.0, -1.0, (2,))),
        (ArgumentError, lambda: C.normal(0.0, 1.0)),
        (ShapeError, lambda: C.normal(minigen.zeros(2), minigen.ones(3))),
        (ArgumentError, lambda: C.multinomial(minigen.tensor([1.0, -1.0]), 1)),
        (ArgumentError, lambda: C.multinomial(minigen.zeros(3), 1)),
        (ArgumentError, lambda: C.multinomial(minigen.tensor([1.0, 0.0]), 2)),
        (ArgumentError, lambda: C.multinomial(minigen.tensor([1.0, math.nan]), 1)),
        (DtypeError, lambda: minigen.zeros(2, requires_grad=True, dtype=minigen.int64)),
    ],
)
def test_refused(error, call):
    with pytest.raises(error):
        call()


@pytest.mark.gpu
def test_on_the_gpu():
    assert C.zeros(2, device="cuda").device == C.arange(3, device="cuda").device == "cuda"
    assert (C.rand(5, generator=Generator(3), device="cuda").cpu().data == C.rand(5, generator=Generator(3)).data).all()
