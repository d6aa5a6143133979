"""What every bijection is held to: it can be turned round, and its log-determinant is that of the dense Jacobian."""

import numpy as np

import minigen
from minigen import autograd
from minigen.random import Generator


def shaken(module, size=0.3, seed=1):
    """The module in float64 and eval mode, every parameter moved by noise, so that no layer is the identity."""
    g = Generator(seed)
    module = module.double().eval()
    with minigen.no_grad():
        for p in module.parameters():
            p.add_(minigen.tensor(size * g.normal(p.shape).astype(np.float64)))
    return module


def noise(*shape, seed=0):
    return minigen.tensor(Generator(seed).normal(shape).astype(np.float64))


def dense_jacobian(function, x):
    """d function(x) / dx for one sample x (1, ...), (D, D)."""
    x = minigen.tensor(x.numpy().copy(), requires_grad=True)
    y = function(x).reshape(-1)
    rows = [autograd.grad(y[i], [x], retain_graph=True)[0].numpy().reshape(-1) for i in range(len(y))]
    return np.stack(rows)


def check(bijection, x, context=None, tolerance=1e-10):
    """Inverse o forward and forward o inverse are the identity, and both log-determinants are the Jacobian's."""
    with minigen.no_grad():
        z, log_det = bijection(x, context)
        back, log_det_back = bijection.inverse(z, context)
        again, _ = bijection(bijection.inverse(x.reshape(*z.shape), context)[0], context)
    assert z.dtype == np.float64 and log_det.shape == (len(x),)
    assert abs(z.numpy().reshape(-1) - x.numpy().reshape(-1)).max() > 1e-3, (
        "the layer is the identity: nothing is tested"
    )
    np.testing.assert_allclose(back.numpy(), x.numpy(), atol=tolerance)
    np.testing.assert_allclose(again.numpy(), x.numpy().reshape(z.shape), atol=tolerance)
    np.testing.assert_allclose(log_det_back.numpy(), -log_det.numpy(), atol=tolerance)
    for i in range(min(2, len(x))):
        one = None if context is None else context[i : i + 1]
        jacobian = dense_jacobian(lambda v, one=one: bijection(v, one)[0], x[i : i + 1])
        assert abs(np.linalg.slogdet(jacobian)[1] - log_det.numpy()[i]) < 1e-9
