"""One check for ops that NumPy has too: values, types, gradients and memory, on the CPU and the GPU.

@on_devices
def test_exp(device):
    agrees(minigen.exp, np.exp, draw(3, 4), device=device)
"""

import gc
import weakref

import numpy as np
import pytest

import minigen
from minigen import Tensor
from minigen.device import to_device
from minigen.gradcheck import gradcheck, gradgradcheck

on_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def draw(*shape, low=-2.0, high=2.0, seed=0):
    """Uniform numbers, none of them closer than 0.01 to an integer or a half: away from kinks and steps."""
    x = np.random.default_rng(seed).uniform(low, high, shape)
    near = np.round(2 * x) / 2
    return np.where(np.abs(x - near) < 0.01, near + 0.02, x)


DEVICE = "cpu"  # where a test runs that does not say: "cuda" under --standin


def agrees(function, reference, *arrays, gradients=True, tolerance=1e-12, device=None):
    """`function` on tensors gives what `reference` gives on NumPy arrays, in float64 and in float32, which it keeps;
    its first and second gradients are right; and it leaves nothing behind.
    """
    device = device or DEVICE
    there = [to_device(a, device) for a in arrays]
    single = [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]
    single_there = [to_device(a, device) for a in single]
    expected = np.asarray(reference(*arrays))
    same(function(*[Tensor(a) for a in there]), expected, tolerance, device)
    same(Tensor(function(*there)), expected, tolerance, device)  # an op on arrays computes
    y = function(*[Tensor(a) for a in single_there])
    wanted = np.dtype(np.float32) if expected.dtype == np.float64 else expected.dtype
    assert y.dtype == wanted, f"float32 gave {y.dtype}"
    with np.errstate(all="ignore"):
        same(y, np.asarray(reference(*single)).astype(wanted), 2e-5, device)
    if gradients:
        tensors = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in there]
        assert gradcheck(function, tensors, atol=1e-6, rtol=1e-5, fast_mode=True)
        assert gradgradcheck(function, tensors, atol=1e-6, rtol=1e-5, fast_mode=True)
        leaves_nothing(function, *single_there)


def same(y, expected, tolerance, device):
    assert y.device == device
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.detach().cpu().numpy(), expected, rtol=tolerance, atol=tolerance)


def leaves_nothing(function, *arrays):
    """Without the garbage collector's help, the graph is gone once nobody looks at it."""
    gc.disable()
    try:
        tensors = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        y = function(*tensors)
        node = weakref.ref(y.node)
        minigen.autograd.grad(y.sum(), [x for x in tensors if x.requires_grad], create_graph=True, allow_unused=True)
        del y
        assert node() is None
    finally:
        gc.enable()
