"""A linear layer of a few rows in one launch, with the norm before it and the sum behind it, against float64."""

import numpy as np
import pytest

from minigen.kernels.cuda import linear_few

pytestmark = pytest.mark.kernels
ACTIVATIONS = {None: lambda x: x, "relu": lambda x: np.maximum(x, 0), "silu": lambda x: x / (1 + np.exp(-x))}


def drawn(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def expected(x, w, b, activation, norm_weight, norm_bias, eps, residual):
    wide = lambda a: None if a is None else a.astype(np.float64)
    x, w, b, norm_weight, norm_bias, residual = map(wide, (x, w, b, norm_weight, norm_bias, residual))
    h = x if eps is None else layer_norm(x, norm_weight, norm_bias, eps)
    y = ACTIVATIONS[activation](h @ w.T + (0 if b is None else b))
    return y if residual is None else residual + y


@pytest.mark.parametrize(
    "lead, inputs, outputs, activation, parts",
    [
        ((1,), 40, 9, "silu", "bnr"),  # rows that fill no whole packs beside those that do
        ((1, 1), 256, 33, None, "b"),
        ((2, 1), 19, 6, "relu", "nr"),
        ((3, 1), 24, 5, None, "bn"),
        ((8,), 64, 7, None, "br"),
        ((5, 1), 1, 3, None, ""),
    ],
)
def test_all_in_one_launch(on_gpu, dtype, lead, inputs, outputs, activation, parts):
    x, w = drawn((*lead, inputs), dtype, 0), drawn((outputs, inputs), np.float32, 1) / np.sqrt(inputs)
    b = drawn(outputs, dtype, 2) if "b" in parts else None
    norm = (drawn(inputs, dtype, 3), drawn(inputs, dtype, 4), 1e-5) if "n" in parts else (None, None, None)
    residual = drawn((*lead, outputs), dtype, 5) if "r" in parts else None
    given = x, w.astype(dtype), b, activation, *norm, residual
    got, want = on_gpu(linear_few.linear_few, *given), expected(*given)
    assert got.shape == want.shape and got.dtype == dtype
    within = 2e-6 if dtype == np.float32 else 3e-3 if dtype == np.float16 else 2e-2
    np.testing.assert_allclose(got.astype(np.float64), want, within, within * 4)


def test_a_norm_without_weights_and_a_large_mean(on_gpu):
    x, w = drawn((2, 48), np.float32, 0) + 1000, drawn((4, 48), np.float32, 1)
    got = on_gpu(linear_few.linear_few, x, w, None, None, None, None, 1e-5, None)
    np.testing.assert_allclose(got, expected(x, w, None, None, None, None, 1e-5, None), 1e-3, 1e-3)


def test_more_outputs_than_warps_and_rows_than_a_block(on_gpu, monkeypatch):
    monkeypatch.setattr(linear_few, "OUTPUTS", 4)  # so that a warp makes several
    monkeypatch.setattr(linear_few, "SHARED", 2 * 48 * 4)  # and a block has room for two rows
    x, w, b = drawn((5, 48), np.float32, 0), drawn((11, 48), np.float32, 1), drawn(11, np.float32, 2)
    got = on_gpu(linear_few.linear_few, x, w, b)
    np.testing.assert_allclose(got, x @ w.T + b, 1e-5, 1e-5)


def test_rows_that_begin_anywhere(on_gpu):
    x = drawn(2 * 40 + 1, np.float32, 0)[1:].reshape(2, 40)
    w = drawn(9 * 40 + 1, np.float32, 1)[1:].reshape(9, 40)
    np.testing.assert_allclose(on_gpu(linear_few.linear_few, x, w), x @ w.T, 1e-5, 1e-5)
