"""Element-wise kernels: the bits of a result depend on the numbers, and not on where the arrays lie."""

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import activations, elementwise

random = np.random.default_rng(0)


def functions(module, arguments):
    """The inline helpers of a module with so many array arguments."""
    found = {}
    for name, function in vars(module).items():
        code = getattr(getattr(function, "py_func", None), "__code__", None)
        if (
            code is not None
            and code.co_varnames[: code.co_argcount][arguments:] in SCALARS
            and module.__name__ in function.py_func.__module__
        ):
            found[name] = function
    return found


SCALARS = [("p", "q"), ("slope", "q"), ("alpha", "q"), ("beta", "threshold"), ("beta", "q")]
UNARY, BINARY = functions(activations, 1), functions(activations, 2)


def same_everywhere(kernel, inputs, size):
    """A loop whose arrays lie close together runs another path of the compiled code than one whose arrays do not."""
    found = set()
    for gap in (0, 1, 4, 8, 500):
        memory, place, views = np.zeros(8000, np.float32), 1000, []
        for x in inputs:
            view = memory[place : place + size]
            view[:] = x[:size]
            views.append(view)
            place += size + 16
        place += gap - 16
        out = memory[place : place + size]
        kernel.serial(*views, out, np.float32(1.0), np.float32(20.0))
        found.add(out.tobytes())
    return len(found) == 1


@pytest.mark.parametrize("name", UNARY)
def test_one_array(name):
    kernel = elementwise.unary(UNARY[name])
    for size in range(1, 36):
        assert same_everywhere(kernel, [2 * random.standard_normal(36, dtype=np.float32)], size), size


@pytest.mark.parametrize("name", BINARY)
def test_two_arrays(name):
    kernel = elementwise.binary(BINARY[name])
    for size in range(1, 36):
        inputs = [2 * random.standard_normal(36, dtype=np.float32) for _ in range(2)]
        assert same_everywhere(kernel, inputs, size), size


def test_all_are_tried():
    assert {"softplus", "gelu", "tanh_value", "leaky_relu", "elu"} <= set(UNARY)
    assert {"softplus_gradient", "gelu_gradient", "mish_gradient"} <= set(BINARY)


def test_rows_with_gaps_give_the_bits_of_a_dense_array(monkeypatch):
    monkeypatch.setattr(elementwise, "SERIAL", 16)
    last = random.standard_normal((3, 5, 7, 64), dtype=np.float32).transpose(0, 3, 1, 2)
    usual = random.standard_normal((6, 8, 40), dtype=np.float32)
    views = [last[:, :32], last[:, 20:], last[:, :16, 2:4], last[:, ::2], usual[:, 2:], usual[..., 5:], usual[::2]]
    for x in [*views, usual[::-1], usual[:, 2:, 3:], usual[:1, :1, 3:30]]:
        y = activations.activation("gelu", x)
        assert elementwise.is_dense(y)
        np.testing.assert_array_equal(y, activations.activation("gelu", np.array(x, order="C")))


def test_what_lies_in_rows():
    last = np.zeros((3, 5, 7, 64), np.float32).transpose(0, 3, 1, 2)
    assert elementwise.in_rows(last[:, 20:52])[1:] == (64, 32, [0, 2, 3, 1])
    assert elementwise.in_rows(last[:1, :32, 1])[1:] == (64, 32, [0, 2, 1])
    for x in (last[:, :32, 1], last[:, ::2], last[:, :8], last[:, :, ::2, 1]):  # two gaps, short or scattered rows
        assert elementwise.in_rows(x) is None


@pytest.mark.parametrize("size", [(5,), (4, 5), (3, 4, 5)])
def test_like_another_memory_order(size, monkeypatch):
    monkeypatch.setattr(elementwise, "SERIAL", 16)
    usual = random.standard_normal((3, 20, *size), dtype=np.float32)
    last = np.moveaxis(np.moveaxis(usual, 1, -1).copy(), -1, 1)
    for x in (usual, last, usual[:, ::-1].copy()[:, ::-1]):
        for model in (usual, last):
            y = elementwise.like(x, model)
            assert y.strides == model.strides
            np.testing.assert_array_equal(y, usual)
