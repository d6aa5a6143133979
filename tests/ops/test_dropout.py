"""Dropout: its law, that the gradient uses the same mask, that the generator rules, and refusals."""

import math

import numpy as np
import pytest
from against_numpy import draw
from agreement import kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Generator, Tensor, errors
from minigen.nn import functional as F

N = 100_003


def seeded(function, *args, **kwargs):
    return lambda x: function(x, *args, generator=Generator(5), **kwargs)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_law(p):
    x = Tensor(np.ones(N, np.float32))
    y = F.dropout(x, p).data
    values = np.unique(y)
    np.testing.assert_allclose(values, [0, 1 / (1 - p)], rtol=1e-6)
    assert abs((y == 0).mean() - p) < 5 * math.sqrt(p * (1 - p) / N)
    assert abs(np.corrcoef(y[:-1], y[1:])[0, 1]) < 5 / math.sqrt(N)


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (101, 103), (4, 4096)])
def test_kernel_equals_definition(shape):
    """Bit for bit the same mask, forward and backward."""
    kernel_equals_definition(seeded(F.dropout, 0.3), draw(*shape))
    kernel_equals_definition(seeded(F.dropout, 0.3), draw(*shape).T)


def test_the_gradient_uses_the_mask():
    x = Tensor(draw(50, 60).astype(np.float32), requires_grad=True)
    y = F.dropout(x, 0.4)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.data, (y.data != 0) / np.float32(0.6), rtol=1e-6)


def test_the_generator_rules():
    x = Tensor(np.ones(1000, np.float32))
    minigen.manual_seed(3)
    first, second = F.dropout(x).data, F.dropout(x).data
    assert (first != second).any()
    minigen.manual_seed(3)
    assert (F.dropout(x).data == first).all()
    g = Generator(9)
    before = minigen.random.default_generator.get_state()
    F.dropout(x, generator=g)
    assert minigen.random.default_generator.get_state() == before and g.counter > 0


def test_evaluation_and_the_ends():
    x = Tensor(draw(5, 6).astype(np.float32))
    assert F.dropout(x, 0.5, training=False) is x and F.dropout(x, 0.0) is x
    assert not F.dropout(x, 1.0).data.any() and F.dropout(x, 1.0).dtype == np.float32
    assert F.alpha_dropout(x, 0.5) is x, "off unless training=True, as in PyTorch"


def test_the_same_bits_on_any_threads():
    same_bits_on_any_threads(seeded(F.dropout, 0.5), draw(300, 100))


@pytest.mark.parametrize(
    ("function", "shape"), [(F.dropout1d, (6, 50, 7)), (F.dropout2d, (6, 50, 3, 2)), (F.dropout3d, (6, 50, 2, 3, 2))]
)
def test_whole_channels(function, shape):
    x = Tensor(np.ones(shape, np.float32), requires_grad=True)
    y = function(x, 0.3)
    flat = y.data.reshape(300, -1)
    assert (flat == flat[:, :1]).all()
    assert abs((flat[:, 0] == 0).mean() - 0.3) < 5 * math.sqrt(0.21 / 300)
    np.testing.assert_allclose(np.unique(flat), [0, 1 / 0.7], rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)
    assert function(Tensor(np.ones(shape[1:], np.float32)), 0.3).shape == shape[1:]
    assert not function(x, 1.0).data.any()


def test_alpha_dropout_keeps_mean_and_variance():
    x = Tensor(np.random.default_rng(0).standard_normal(N).astype(np.float32))
    y = F.alpha_dropout(x, 0.3, training=True).data
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03
    _, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / N - 0.3) < 5 * math.sqrt(0.21 / N), "those dropped have one value"
    z = F.feature_alpha_dropout(Tensor(x.data[:60000].reshape(300, 20, 10)), 0.3, training=True).data
    constant = np.isclose(z.std(2), 0)
    assert abs(constant.mean() - 0.3) < 0.05


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.dropout(x, 1.5), errors.ArgumentError, r"\[0, 1\]"),
        (lambda x: F.dropout(x, -0.1), errors.ArgumentError, "p"),
        (lambda x: F.dropout2d(x), errors.ShapeError, "2 dimensions after the channels"),
        (lambda x: F.dropout(Tensor(np.arange(3))), errors.DtypeError, "floats"),
        (lambda x: F.feature_alpha_dropout(x[0]), errors.ShapeError, "N, C"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(3, 4)))
