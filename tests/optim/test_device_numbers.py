"""Optimisers, averages and clipping in a step that is captured: what changes from step to step is a device array.

The arrays here are NumPy's, but refuse to become Python numbers, as those on a card do while a graph is captured.
"""

from types import SimpleNamespace

import numpy as np
import pytest

import minigen
from minigen import kernels, nn, optim
from minigen.capture.recorder import Warming, capturing
from minigen.optim import counter


class Guarded(np.ndarray):
    """An array that nobody may look at."""

    def _refuse(self, *_):
        raise AssertionError("the host reads a device array")

    __bool__ = __float__ = __int__ = __index__ = item = tolist = _refuse


arrays = SimpleNamespace(full=lambda *args: np.full(*args).view(Guarded))

OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1),
    "SGD plain": lambda p: optim.SGD(p, lr=0.1, maximize=True),
    "Lion": lambda p: optim.Lion(p, lr=0.01, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, amsgrad=True),
    "Adamax": lambda p: optim.Adamax(p, lr=0.1),
    "NAdam": lambda p: optim.NAdam(p, lr=0.1, decoupled_weight_decay=True, weight_decay=0.1),
    "RAdam": lambda p: optim.RAdam(p, lr=0.1, weight_decay=0.1),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    "Adadelta": lambda p: optim.Adadelta(p, lr=1.0),
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.1, weight_decay=0.1),
    "Muon": lambda p: optim.Muon(p, lr=0.1),
}


def train(make, captured, cycle=False):
    generator = np.random.default_rng(0)
    parameters = [nn.Parameter(generator.standard_normal((3, 4)).astype(np.float32)) for _ in range(2)]
    optimizer, ema = make(parameters), optim.EMA(parameters, 0.9, warmup=True, every=2)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=12, cycle_momentum=cycle)
    before = np.concatenate([p.detach().numpy() for p in parameters])
    with capturing(Warming(SimpleNamespace(arrays=arrays)) if captured else None):
        for _ in range(8):  # RAdam changes its rule in the sixth
            for p in parameters:
                p.grad = minigen.tensor(generator.standard_normal(p.shape).astype(np.float32))
            nn.utils.clip_grad_norm_(parameters, 2.0)
            optimizer.step()
            schedule.step()
            ema.update()
    weights = np.concatenate([p.detach().numpy() for p in parameters])
    assert not np.allclose(weights, before)
    return weights, np.concatenate(ema.shadow), optimizer


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch):
    monkeypatch.setattr(counter, "xp", lambda like: arrays)
    with kernels.disabled():
        yield


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_computes_the_same_without_a_look_at_them(name):
    want, average, _ = train(OPTIMISERS[name], False)
    got, other, optimizer = train(OPTIMISERS[name], True)
    assert np.allclose(got, want, rtol=2e-5, atol=1e-6) and np.allclose(other, average, rtol=2e-5, atol=1e-6)
    (flat,) = optimizer.flats()
    assert isinstance(flat.records[0].numbers["step"], counter.Counter)
    assert flat.data.dtype == np.float32


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "RMSprop"])
def test_momentum_that_a_schedule_cycles_is_one_of_them(name):
    want, _, _ = train(OPTIMISERS[name], False, cycle=True)
    still, _, _ = train(OPTIMISERS[name], False)
    got, _, _ = train(OPTIMISERS[name], True, cycle=True)
    assert np.allclose(got, want, rtol=2e-5, atol=1e-6) and not np.allclose(want, still, rtol=1e-3)


def test_the_state_can_be_saved_and_taken_over_by_ordinary_training():
    _, _, optimizer = train(OPTIMISERS["NAdam"], True)
    flat = optimizer.flats()[0]
    flat.records[0].numbers["step"].array = flat.records[0].numbers["step"].array.view(np.ndarray)
    flat.records[0].numbers["mu_product"] = flat.records[0].numbers["mu_product"].view(np.ndarray)
    state = optimizer.state_dict()
    assert state["state"][0]["step"].item() == 8 and 0 < state["state"][0]["mu_product"].item() < 1
    parameters = [nn.Parameter(p.detach().numpy().copy()) for p in optimizer.param_groups[0]["params"]]
    other = optim.NAdam(parameters, lr=0.1)
    other.load_state_dict(state)
    for p in parameters:
        p.grad = minigen.tensor(np.ones(p.shape, np.float32))
    other.step()
    assert other.state_dict()["state"][0]["step"].item() == 9
