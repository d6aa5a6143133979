"""Attention of heads too wide for attention.cu, against float64, with cuBLAS and without."""

import fake_cublas
import numpy as np
import pytest

from minigen.kernels.cuda import attention, compile

pytestmark = pytest.mark.kernels


def weights_of(q, k, scale):
    scores = scale * q @ k.swapaxes(2, 3)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def expected(g, q, k, v, scale):
    """y, and the gradients of q, k and v, in float64."""
    g, q, k, v = (x.astype(np.float64) for x in (g, q, k, v))
    p = weights_of(q, k, scale)
    dp = g @ v.swapaxes(2, 3)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
    return p @ v, ds @ k, ds.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ g


def calls(g, q, k, v, scale):
    y, weights = attention.attention(q, k, v, None, None, scale, False)
    return y, *attention.attention_gradient(g, q, k, v, None, None, y, weights, scale, False)[:3]


def channels_last(draw, B, H, T, D, dtype):
    """Heads as a U-Net has them: views of one array (B, T, H, D)."""
    return draw.standard_normal((B, T, H, D)).astype(dtype).transpose(0, 2, 1, 3)


def compare(got, want, dtype):
    within = 1e-5 if dtype == np.float32 else 4e-3 if dtype == np.float16 else 3e-2
    for one, other in zip(got, want):
        assert one.dtype == dtype and one.shape == other.shape
        np.testing.assert_allclose(one.astype(np.float64), other, within, within * np.abs(other).max())


@pytest.mark.parametrize("B, H, T, S, D, E", [(2, 1, 9, 9, 136, 136), (1, 2, 5, 7, 130, 150)])
def test_wide_heads(on_gpu, dtype, B, H, T, S, D, E):
    draw = np.random.default_rng(0)
    sizes = (T, E), (T, D), (S, D), (S, E)
    g, q, k, v = (channels_last(draw, B, H, *size, dtype) for size in sizes)
    compare(on_gpu(calls, g, q, k, v, 0.07), expected(g, q, k, v, 0.07), dtype)


def test_wide_heads_by_cublas(emulator):
    draw = np.random.default_rng(1)
    g, q, k, v = (channels_last(draw, 3, 1, 8, 136, np.float32) for _ in range(4))
    host = fake_cublas.Host(emulator)
    with compile.running_on(host):
        got = calls(g, q, k, v, 0.3)
    compare(got, expected(g, q, k, v, 0.3), np.float32)
    assert [name for name, _ in host.cublas.calls] == 6 * ["cublasGemmStridedBatchedEx"]
