"""One check for ops that NumPy has too: values, types, gradients and memory."""

import gc
import weakref

import numpy as np
from agreement import gradients_are_right

import minigen
from minigen import Tensor


def draw(*shape, low=-2.0, high=2.0, seed=0):
    """Uniform numbers, none of them closer than 0.01 to an integer or a half: away from kinks and steps."""
    x = np.random.default_rng(seed).uniform(low, high, shape)
    near = np.round(2 * x) / 2
    return np.where(np.abs(x - near) < 0.01, near + 0.02, x)


def agrees(function, reference, *arrays, gradients=True, tolerance=1e-12):
    """`function` on tensors gives what `reference` gives on arrays, in float64 and in float32, which it keeps;
    its first and second gradients are right; and it leaves nothing behind.
    """
    expected = reference(*arrays)
    y = function(*[Tensor(a) for a in arrays])
    same(y, expected, tolerance)
    same(function(*arrays), expected, tolerance)  # an op on arrays computes
    single = [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]
    y = function(*[Tensor(a) for a in single])
    wanted = np.dtype(np.float32) if np.asarray(expected).dtype == np.float64 else np.asarray(expected).dtype
    assert y.dtype == wanted, f"float32 gave {y.dtype}"
    with np.errstate(all="ignore"):
        same(y, np.asarray(reference(*single)).astype(wanted), 2e-5)
    if gradients:
        gradients_are_right(function, *arrays)
        leaves_nothing(function, *single)


def same(y, expected, tolerance):
    found, expected = np.asarray(y.data if isinstance(y, Tensor) else y), np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


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
