"""Embedding: rows and their gradient, padding, frequencies, shortened rows, refusals."""

import numpy as np
import pytest
from against_numpy import agrees, draw
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

from minigen import Tensor, errors
from minigen.nn import functional as F

INDEX = np.array([[1, 3, 3], [0, 9, 3]])


def pick(index=INDEX, **options):
    return lambda table: F.embedding(Tensor(index), table, **options)


def test_the_formula():
    agrees(pick(), lambda table: table[INDEX], draw(10, 4))


@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"padding_idx": -1}, {"scale_grad_by_freq": True}])
@pytest.mark.parametrize(
    ("rows", "width", "shape"), [(10, 5, (3, 4)), (65, 128, (16, 40)), (7, 300, (0,)), (50, 33, ())]
)
def test_kernel_equals_definition(options, rows, width, shape):
    index = np.random.default_rng(0).integers(0, rows, shape)
    kernel_equals_definition(pick(index, **options), draw(rows, width))


def test_gradients_of_padding_and_frequency():
    table = Tensor(draw(10, 2), requires_grad=True)
    pick(padding_idx=3)(table).sum().backward()
    assert table.grad.data[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    table.grad = None
    pick(scale_grad_by_freq=True)(table).sum().backward()
    np.testing.assert_allclose(table.grad.data[:, 0], [1, 1, 0, 1, 0, 0, 0, 0, 0, 1])


def test_second_gradients():
    gradients_are_right(lambda table: pick()(table) ** 2, draw(10, 3))


def test_max_norm_shortens_the_rows_that_are_used():
    table = Tensor(np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]], np.float32))
    y = F.embedding(Tensor(np.array([0, 1])), table, max_norm=1.0)
    np.testing.assert_allclose(y.data, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-5)
    np.testing.assert_allclose(table.data[2], [6, 8])
    F.embedding(Tensor(np.array([2])), table, max_norm=7.0, norm_type=1.0)
    np.testing.assert_allclose(table.data[2], [3, 4], rtol=1e-5)


def test_the_same_bits_on_any_threads():
    index = np.random.default_rng(0).integers(0, 20, 3000)
    same_bits_on_any_threads(pick(index), draw(20, 70))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda w: F.embedding(Tensor(np.array([10])), w), errors.DimError, "0 to 9.*10"),
        (lambda w: F.embedding(Tensor(np.array([-1])), w), errors.DimError, "-1"),
        (lambda w: F.embedding(w, Tensor(INDEX)), errors.DtypeError, "first argument"),
        (lambda w: F.embedding(Tensor(INDEX), w[0]), errors.ShapeError, r"\(rows, dim\)"),
        (lambda w: F.embedding(Tensor(INDEX), w, padding_idx=10), errors.ArgumentError, "padding_idx"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(10, 4)))
