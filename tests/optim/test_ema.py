"""The running mean of weights: its formula, its use, its state."""

import numpy as np
import pytest

import minigen
from minigen import errors, optim


def walk(ema_of, steps=5, **values):
    """A parameter that counts 0, 1, 2, ..., and what its average becomes."""
    p, q = minigen.Parameter(np.zeros(3, np.float32)), minigen.Parameter(np.zeros((2, 2), np.float32))
    if ema_of == "flat":
        optim.SGD([p, q], lr=0.1)
    ema = optim.EMA([p, q], **values)
    for t in range(1, steps + 1):
        p.data[...], q.data[...] = t, 10 * t
        ema.update()
    return ema, p, q


@pytest.mark.parametrize("ema_of", ["flat", "loose"])
@pytest.mark.parametrize("warmup", [False, True])
def test_formula(ema_of, warmup):
    ema, p, q = walk(ema_of, decay=0.5, warmup=warmup)
    mean = 0.0
    for t in range(1, 6):
        d = min(0.5, (1 + t) / (10 + t)) if warmup else 0.5
        mean = d * mean + (1 - d) * t
    with ema.applied():
        np.testing.assert_allclose(p.data, mean, rtol=1e-6)
        np.testing.assert_allclose(q.data, 10 * mean, rtol=1e-6)
    np.testing.assert_array_equal(p.data, 5.0)


def test_own_values_come_back_after_an_error():
    ema, p, _ = walk("flat", decay=0.5)
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    np.testing.assert_array_equal(p.data, 5.0)


def test_every():
    ema, p, _ = walk("flat", steps=5, decay=0.5, every=2)  # takes in 2 and 4
    with ema.applied():
        np.testing.assert_allclose(p.data, 0.5 * (0.5 * 2) + 0.5 * 4)


def test_state():
    ema, p, q = walk("flat", decay=0.9)
    other = optim.EMA([p, q], decay=0.9)
    other.load_state_dict(ema.state_dict())
    ema.update()
    other.update()
    for a, b in zip(ema.shadow, other.shadow):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(errors.CheckpointError):
        optim.EMA([p], decay=0.9).load_state_dict(ema.state_dict())


def test_wrong_arguments():
    p = minigen.Parameter([1.0])
    for make in (lambda: optim.EMA([p], decay=1.5), lambda: optim.EMA([]), lambda: optim.EMA([p], every=0)):
        with pytest.raises(errors.ArgumentError):
            make()
