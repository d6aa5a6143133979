"""Clipping, with gradients in one array and with gradients here and there."""

import math

import numpy as np
import pytest

import minigen
from minigen import errors, nn, optim


def parameters(flat, dtype=np.float32):
    random = np.random.default_rng(0)
    params = [nn.Parameter(np.zeros(shape, dtype)) for shape in ((3, 4), (5,), (), (20, 7))]
    if flat:
        optim.SGD(params, lr=0.1)
    for p in params:
        minigen.autograd.accumulate(p, random.standard_normal(p.shape).astype(dtype))
    params.append(nn.Parameter(np.zeros(2, dtype)))  # has no gradient
    return params


def gradients(params):
    return np.concatenate([p.grad.data.reshape(-1) for p in params if p.grad is not None])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_norm(flat, dtype, tolerance, p):
    params = parameters(flat, dtype)
    before = gradients(params).astype(np.float64)
    norm = np.linalg.norm(before, p)
    found = nn.utils.clip_grad_norm_(params, 0.5 * norm, norm_type=p)
    assert found.dtype == dtype and found.item() == pytest.approx(norm, rel=tolerance)
    np.testing.assert_allclose(gradients(params), 0.5 * before, rtol=max(tolerance, 1e-6))
    nn.utils.clip_grad_norm_(params, 10 * norm, norm_type=p)  # small enough: nothing happens
    np.testing.assert_allclose(gradients(params), 0.5 * before, rtol=max(tolerance, 1e-6))


@pytest.mark.parametrize("flat", [False, True])
def test_value(flat):
    params = parameters(flat)
    before = gradients(params)
    nn.utils.clip_grad_value_(params, 0.3)
    np.testing.assert_array_equal(gradients(params), before.clip(-0.3, 0.3))


@pytest.mark.parametrize("flat", [False, True])
def test_not_finite(flat):
    params = parameters(flat)
    params[0].grad.data[0, 0] = np.nan
    with pytest.raises(errors.NonFiniteError, match="detect_anomaly"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert math.isnan(nn.utils.clip_grad_norm_(params, 1.0).item())
    assert np.isnan(gradients(params)).all()
    for p in params[:-1]:  # and the next step is not spoilt by it
        p.grad = None
        minigen.autograd.accumulate(p, np.ones(p.shape, np.float32))
    assert nn.utils.clip_grad_norm_(params, 1.0).item() == pytest.approx(math.sqrt(12 + 5 + 1 + 140))


def test_without_gradients():
    p = nn.Parameter([1.0])
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == 0.0 and nn.utils.clip_grad_norm_([], 1.0).item() == 0.0


@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
def test_mistakes(clip):
    with pytest.raises(errors.ArgumentError):
        clip(parameters(False), -1.0)


def test_vectors():
    params = parameters(True)
    vector = nn.utils.parameters_to_vector(params)
    assert vector.shape == (12 + 5 + 1 + 140 + 2,)
    nn.utils.vector_to_parameters(minigen.arange(160.0), params)
    assert params[1].data[0] == 12.0 and params[-1].data[-1] == 159.0
    with pytest.raises(errors.ShapeError):
        nn.utils.vector_to_parameters(minigen.arange(161.0), params)
