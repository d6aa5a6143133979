"""Channels-last through element-wise ops on `device="cuda"`, kernels off: CuPy's own results are C-contiguous."""

import numpy as np
import pytest

import minigen
from minigen import Tensor
from minigen.device import to_device
from minigen.nn import functional as F

pytestmark = pytest.mark.usefixtures("card")
METHODS = """square sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh
    asinh atanh sigmoid erf erfc floor ceil trunc round frac neg sign abs nan_to_num relu"""
OPS = {name: lambda x, name=name: getattr(x, name)() for name in METHODS.split()} | {
    "acosh": lambda x: (x + 1.5).acosh(),
    "clamp": lambda x: x.clamp(0.3, 0.6),
    "clamp by arrays": lambda x: x.clamp(Tensor(x.data[:1, :, :1, :1] * 0.5), Tensor(x.data * 0.9)),
    "gelu": F.gelu, "gelu by tanh": lambda x: F.gelu(x, "tanh"), "silu": F.silu, "mish": F.mish, "elu": F.elu,
    "softplus": F.softplus, "leaky_relu": F.leaky_relu, "hardswish": F.hardswish, "power": lambda x: x**3.0,
    "maximum": lambda x: minigen.maximum(x, x.flip(0)),
}  # fmt: skip


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", OPS)
def test_results_and_gradients_lie_as_what_was_given(name):
    x = np.random.default_rng(0).random((2, 3, 4, 5)) * 0.8 + 0.1
    results = []
    for y in (channels_last(x), x):
        place = "cuda" if y is not x else "cpu"
        x_ = Tensor(to_device(y.astype(np.float32), place), requires_grad=True)
        out = OPS[name](x_)
        (g,) = minigen.autograd.grad(out, [x_], Tensor(x_.data))
        if place == "cuda":
            assert out.data.strides == x_.data.strides, f"{name}: {out.data.strides}"
            assert g.data.strides == x_.data.strides, f"the gradient of {name}: {g.data.strides}"
        results.append([t.detach().cpu().numpy() for t in (out, g)])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_other_orders():
    x = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    for order in ((2, 0, 1), (1, 2, 0), (2, 1, 0)):
        y = Tensor(to_device(x, "cuda").transpose(order))
        assert y.sqrt().data.strides == y.data.strides
        np.testing.assert_array_equal(y.sqrt().cpu().numpy(), np.sqrt(x.transpose(order)))
    gaps = Tensor(to_device(x, "cuda")[:, ::2])
    np.testing.assert_array_equal(gaps.sqrt().cpu().numpy(), np.sqrt(x[:, ::2]))
