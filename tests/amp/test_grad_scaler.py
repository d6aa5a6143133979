"""GradScaler: the scale goes in and out again, an overflow leaves the step out, and the scale follows."""

import json

import numpy as np
import pytest

import minigen
from minigen import amp, kernels, nn, optim
from minigen.amp import grad_scaler
from minigen.errors import ArgumentError, CheckpointError, DtypeError

BIG = 1e38  # times any scale above 3.4 it is infinite in float32


def weight(*numbers):
    return nn.Parameter(np.array(numbers, np.float32))


def step(scaler, optimizer, p, factor):
    """One step on loss = factor * sum(p)."""
    optimizer.zero_grad()
    scaler.scale((p * factor).sum()).backward()
    result = scaler.step(optimizer)
    scaler.update()
    return result


@pytest.fixture(params=["host", "device"])
def place(request, monkeypatch):
    """Whether the host looks for overflows, or the optimiser's step is left out by an array, as on the GPU."""
    if request.param == "device":
        monkeypatch.setattr(grad_scaler.GradScaler, "_on_device", lambda self: True)
        with kernels.disabled():  # those of the CPU take no such array
            yield
    else:
        yield


def test_the_gradients_are_those_without_a_scale(place):
    p, q = weight(1.0, -2.0), weight(1.0, -2.0)
    one, other = optim.SGD([p], lr=0.1), optim.SGD([q], lr=0.1)
    scaler = amp.GradScaler(init_scale=1024.0)
    loss = scaler.scale((p * p).sum())
    assert loss.item() == 1024.0 * 5.0
    loss.backward()
    (q * q).sum().backward()
    scaler.unscale_(one)
    assert np.array_equal(p.grad.numpy(), q.grad.numpy())
    scaler.step(one)
    other.step()
    assert np.array_equal(p.detach().numpy(), q.detach().numpy())


OPTIMISERS = {
    "SGD": lambda p: optim.SGD([p], lr=0.1, momentum=0.9, dampening=0.5),
    "Adam": lambda p: optim.Adam([p], lr=0.1),
    "NAdam": lambda p: optim.NAdam([p], lr=0.1),
    "RAdam": lambda p: optim.RAdam([p], lr=0.1),
    "Adagrad": lambda p: optim.Adagrad([p], lr=0.1, initial_accumulator_value=0.3),
    "Adafactor": lambda p: optim.Adafactor([p], lr=0.1),
    "Muon": lambda p: optim.Muon([p], lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_overflow_leaves_the_step_out_and_halves_the_scale(name, place):
    values = [[1.0, 2.0], [0.5, -1.0]]
    p, q = weight(*values), weight(*values)
    one, other = OPTIMISERS[name](p), OPTIMISERS[name](q)
    scaler = amp.GradScaler(init_scale=64.0)
    for factor in (BIG, 1.0, 2.0, BIG, -1.0, 0.5, 0.5, 0.5):
        before = p.detach().numpy().copy()
        step(scaler, one, p, factor)
        if factor == BIG:
            assert np.array_equal(p.detach().numpy(), before)
        else:
            other.zero_grad()
            (q * factor).sum().backward()
            other.step()
            assert not np.array_equal(p.detach().numpy(), before)
            assert np.allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6)
    assert scaler.get_scale() == 16.0
    state = one.state_dict()["state"][0]
    if "step" in state:
        assert int(state["step"].item()) == 6  # those that were left out are not counted


def test_the_scale_grows_after_good_steps(place):
    p = weight(1.0)
    scaler = amp.GradScaler(init_scale=4.0, growth_interval=3, growth_factor=4.0)
    optimizer = optim.SGD([p], lr=0.0)
    scales = [(step(scaler, optimizer, p, f), scaler.get_scale())[1] for f in (1, 1, 1, 1, 1, BIG, 1, 1, 1)]
    assert scales == [4, 4, 16, 16, 16, 8, 8, 8, 32]


def test_it_grows_no_further_than_float32(place):
    p = weight(1.0)
    scaler = amp.GradScaler(init_scale=2.0**127, growth_interval=1)
    step(scaler, optim.SGD([p], lr=0.0), p, 1e-30)
    assert scaler.get_scale() == 2.0**127


def test_one_overflow_of_two_optimisers_leaves_out_one_step(place):
    p, q = weight(1.0), weight(1.0)
    one, other = optim.SGD([p], lr=0.1), optim.SGD([q], lr=0.1)
    scaler = amp.GradScaler(init_scale=64.0)
    for loss in scaler.scale([(p * BIG).sum(), q.sum()]):
        loss.backward()
    scaler.step(one)
    scaler.step(other)
    scaler.update()
    assert p.item() == 1.0 and abs(q.item() - 0.9) < 1e-6 and scaler.get_scale() == 32.0


def test_clipping_sees_the_true_gradients(place):
    p = weight(3.0, 4.0)
    optimizer, scaler = optim.SGD([p], lr=1.0), amp.GradScaler(init_scale=2.0**10)
    scaler.scale((p * minigen.tensor([3.0, 4.0])).sum()).backward()
    scaler.unscale_(optimizer)
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == 5.0
    scaler.step(optimizer)
    assert np.allclose(p.detach().numpy(), [2.4, 3.2])


def test_the_state_goes_through_json_and_back():
    p = weight(1.0)
    scaler = amp.GradScaler(init_scale=8.0, growth_interval=5)
    for factor in (1.0, BIG, 1.0, 1.0):
        step(scaler, optim.SGD([p], lr=0.0), p, factor)
    state = json.loads(json.dumps(scaler.state_dict()))
    names = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
    assert set(state) == names and state["scale"] == 4.0 and state["_growth_tracker"] == 2
    other = amp.GradScaler()
    other.load_state_dict(state)
    assert other.state_dict() == scaler.state_dict()
    for s in (scaler, other):
        for _ in range(3):
            step(s, optim.SGD([p], lr=0.0), p, 1.0)
        assert s.get_scale() == 8.0
    with pytest.raises(CheckpointError, match="disabled"):
        other.load_state_dict({})


def test_disabled_it_does_nothing():
    p = weight(1.0)
    scaler, loss = amp.GradScaler(enabled=False), (p * 2.0).sum()
    assert scaler.scale(loss) is loss and scaler.get_scale() == 1.0 and scaler.state_dict() == {}
    step(scaler, optim.SGD([p], lr=0.5), p, 1.0)
    assert p.item() == 0.5


def test_misuse_is_refused():
    p = weight(1.0)
    optimizer, scaler = optim.SGD([p], lr=0.1), amp.GradScaler()
    with pytest.raises(ArgumentError, match="no optimizer was stepped"):
        scaler.update()
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(ArgumentError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(ArgumentError, match="twice"):
        scaler.step(optimizer)
    with pytest.raises(ArgumentError, match="closures"):
        scaler.step(optimizer, lambda: None)
    half = nn.Parameter(np.ones(2, np.float16))
    (half * 1.0).sum().backward()
    with pytest.raises(DtypeError, match="keep the parameters in float32"):
        scaler.unscale_(optim.SGD([half], lr=0.1))
    for wrong in ({"growth_factor": 1.0}, {"backoff_factor": 1.5}, {"growth_interval": 0}, {"init_scale": 0.0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            amp.GradScaler(**wrong)


@pytest.mark.torch
def test_it_does_what_pytorch_does():
    torch = pytest.importorskip("torch")
    factors = np.random.default_rng(0).choice([1.0, -2.0, 0.5, BIG], 60, p=[0.4, 0.3, 0.2, 0.1])
    options = {"init_scale": 2.0**10, "growth_interval": 4, "growth_factor": 3.0, "backoff_factor": 0.25}
    p, q = weight(1.0, 2.0), torch.tensor([1.0, 2.0], requires_grad=True)
    ours, theirs = amp.GradScaler(**options), torch.amp.GradScaler("cpu", **options)
    one, other = optim.Adam([p], lr=0.05), torch.optim.Adam([q], lr=0.05)
    for factor in factors:
        step(ours, one, p, float(factor))
        other.zero_grad()
        theirs.scale((q * float(factor)).sum()).backward()
        theirs.step(other)
        theirs.update()
        assert ours.get_scale() == theirs.get_scale()
        assert np.allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-5)
    assert ours.state_dict() == theirs.state_dict()
