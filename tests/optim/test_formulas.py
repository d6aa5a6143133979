"""Every optimiser beside its formula, written out for one number in plain Python."""

import math

import numpy as np
import pytest

import minigen
from minigen import optim


def sgd(p, g, s, t, lr=0.1, mu=0.9, damp=0.2, decay=0.1):
    g = g + decay * p
    s["b"] = g if t == 1 else mu * s["b"] + (1 - damp) * g
    return p - lr * s["b"]


def nesterov(p, g, s, t, lr=0.1, mu=0.9):
    s["b"] = g if t == 1 else mu * s["b"] + g
    return p - lr * (g + mu * s["b"])


def moments(g, s, t, b1, b2):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    return s["m"] / (1 - b1**t), s["v"] / (1 - b2**t)


def adam(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, eps=1e-3):
    m, v = moments(-g, s, t, b1, b2)  # maximize
    return p - lr * m / (math.sqrt(v) + eps)


def amsgrad(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, eps=1e-3, decay=0.1):
    m, _ = moments(g + decay * p, s, t, b1, b2)
    s["most"] = max(s.get("most", 0), s["v"])
    return p - lr * m / (math.sqrt(s["most"] / (1 - b2**t)) + eps)


def adamw(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, eps=1e-3, decay=0.1):
    m, v = moments(g, s, t, b1, b2)
    return p * (1 - lr * decay) - lr * m / (math.sqrt(v) + eps)


def adamax(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, eps=1e-3):
    m, _ = moments(g, s, t, b1, b2)
    s["u"] = max(b2 * s.get("u", 0), abs(g) + eps)
    return p - lr * m / s["u"]


def nadam(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, eps=1e-3, psi=4e-3):
    _, v = moments(g, s, t, b1, b2)
    mu = [b1 * (1 - 0.5 * 0.96 ** (k * psi)) for k in (t, t + 1)]
    s["prod"] = s.get("prod", 1) * mu[0]
    step = (1 - mu[0]) * g / (1 - s["prod"]) + mu[1] * s["m"] / (1 - s["prod"] * mu[1])
    return p - lr * step / (math.sqrt(v) + eps)


def radam(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, eps=1e-3):
    m, _ = moments(g, s, t, b1, b2)
    most = 2 / (1 - b2) - 1
    rho = most - 2 * t * b2**t / (1 - b2**t)
    if rho <= 5:
        return p - lr * m
    r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
    return p - lr * m * r * math.sqrt(1 - b2**t) / (math.sqrt(s["v"]) + eps)


def rmsprop(p, g, s, t, lr=0.1, a=0.9, eps=1e-3, mu=0.5):
    s["v"] = a * s.get("v", 0) + (1 - a) * g * g
    s["mean"] = a * s.get("mean", 0) + (1 - a) * g
    s["b"] = mu * s.get("b", 0) + g / (math.sqrt(s["v"] - s["mean"] ** 2) + eps)
    return p - lr * s["b"]


def adagrad(p, g, s, t, lr=0.1, fall=0.5, start=0.3, eps=1e-3):
    s["sum"] = s.get("sum", start) + g * g
    return p - lr / (1 + (t - 1) * fall) * g / (math.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, t, lr=0.5, rho=0.8, eps=1e-3):
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g * g
    step = math.sqrt(s.get("d", 0) + eps) / math.sqrt(s["v"] + eps) * g
    s["d"] = rho * s.get("d", 0) + (1 - rho) * step * step
    return p - lr * step


def lion(p, g, s, t, lr=0.1, b1=0.8, b2=0.95, decay=0.1):
    m = s.get("m", 0)
    s["m"] = b2 * m + (1 - b2) * g
    return p - lr * (math.copysign(1, b1 * m + (1 - b1) * g) + decay * p)


BETAS = {"betas": (0.8, 0.95), "eps": 1e-3}
FORMULAS = {
    "sgd": (sgd, optim.SGD, {"momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    "nesterov": (nesterov, optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (adam, optim.Adam, {**BETAS, "maximize": True}),
    "amsgrad": (amsgrad, optim.Adam, {**BETAS, "amsgrad": True, "weight_decay": 0.1}),
    "adamw": (adamw, optim.AdamW, {**BETAS, "weight_decay": 0.1}),
    "adamax": (adamax, optim.Adamax, BETAS),
    "nadam": (nadam, optim.NAdam, BETAS),
    "radam": (radam, optim.RAdam, BETAS),
    "rmsprop": (rmsprop, optim.RMSprop, {"alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "centered": True}),
    "adagrad": (adagrad, optim.Adagrad, {"lr_decay": 0.5, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    "adadelta": (adadelta, optim.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3}),
    "lion": (lion, optim.Lion, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
}


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-7), (np.float32, 2e-4)])
@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name, dtype, tolerance):
    """Three numbers in two parameters, the second of which has a gradient only now and then."""
    formula, cls, values = FORMULAS[name]
    random = np.random.default_rng(0)
    a, b = minigen.Parameter(np.array([1.0, -2.0], dtype)), minigen.Parameter(np.array(0.5, dtype))
    optimizer = cls([a, b], **{"lr": 0.1, **values})
    expected, states, counts = [1.0, -2.0, 0.5], [{}, {}, {}], [0, 0, 0]
    for step in range(12):
        gradients = random.standard_normal(3).astype(dtype)
        a.grad = minigen.tensor(gradients[:2])
        b.grad = minigen.tensor(gradients[2]) if step % 3 else None
        optimizer.step()
        for i in range(3 if step % 3 else 2):
            counts[i] += 1
            expected[i] = formula(expected[i], float(gradients[i]), states[i], counts[i])
        np.testing.assert_allclose([*a.data, b.data], expected, rtol=tolerance, atol=tolerance)


def test_adafactor_keeps_row_and_column_means():
    """The first step divides by the rank-one estimate of g^2, which for a rank-one g^2 is g^2 itself."""
    r, c = np.array([1.0, 2.0, 3.0]), np.array([0.5, 4.0])
    p = minigen.Parameter(np.ones((3, 2)))
    p.grad = minigen.tensor(np.outer(r, c) * np.array([[1, -1], [-1, 1], [1, 1]]))
    optim.Adafactor([p], lr=0.01).step()
    np.testing.assert_allclose(p.data, 1 - 0.01 * np.sign(p.grad.data), rtol=1e-10)


def test_muon_steps_along_an_orthogonal_matrix():
    random = np.random.default_rng(0)
    for shape in ((6, 3), (3, 6), (4, 4)):
        p = minigen.Parameter(np.zeros(shape))
        p.grad = minigen.tensor(random.standard_normal(shape))
        optim.Muon([p], lr=1.0, weight_decay=0.0).step()
        sizes = np.linalg.svd(p.data, compute_uv=False) / math.sqrt(max(1, shape[0] / shape[1]))
        assert (sizes > 0.6).all() and (sizes < 1.3).all()
        left, _, right = np.linalg.svd(p.grad.data, full_matrices=False)
        cosine = (-p.data * (left @ right)).sum() / np.linalg.norm(p.data) / math.sqrt(min(shape))
        assert cosine > 0.97
