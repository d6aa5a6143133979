"""Every optimiser beside PyTorch's: trajectories in float64 and float32, state, and through saved states both ways."""

import numpy as np
import pytest

import minigen
from minigen import optim

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

CASES = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"weight_decay": 0.5, "maximize": True},
    ],
    "Adam": [{}, {"weight_decay": 0.1, "amsgrad": True}, {"maximize": True}, {"decoupled_weight_decay": True}],
    "AdamW": [{}, {"weight_decay": 0.1, "amsgrad": True, "betas": (0.5, 0.9), "eps": 1e-4}],
    "RMSprop": [{}, {"centered": True, "momentum": 0.1, "weight_decay": 0.1}, {"momentum": 0.9, "maximize": True}],
    "Adagrad": [{}, {"lr_decay": 0.5, "weight_decay": 0.1, "initial_accumulator_value": 0.1}],
    "Adadelta": [{}, {"rho": 0.95, "weight_decay": 0.9}],
    "Adamax": [{}, {"weight_decay": 0.1, "maximize": True}],
    "NAdam": [{}, {"weight_decay": 0.1, "momentum_decay": 6e-3}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "Adafactor": [{}, {"weight_decay": 0.1, "d": 1.5}, {"beta2_decay": -1.0, "maximize": True}],
    "Muon": [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 6}],
}
PAIRS = [(name, values) for name, cases in CASES.items() for values in cases]
SHAPES = [(4, 3), (5,), (2, 3, 4), (), (17, 2), (0, 3)]


class Twins:
    """One optimiser of each library over the same parameters, fed the same gradients."""

    def __init__(self, name, values, dtype=np.float64, seed=0):
        self.random = np.random.default_rng(seed)
        shapes = {"Muon": [(4, 3), (3, 4), (17, 5)], "Adafactor": SHAPES[:-1]}.get(name, SHAPES)
        start = [self.random.standard_normal(shape).astype(dtype) for shape in shapes]
        self.mine = [minigen.Parameter(x.copy()) for x in start]
        self.theirs = [torch.nn.Parameter(torch.tensor(x)) for x in start]
        self.ours = getattr(optim, name)(self.groups(self.mine), lr=0.01, **values)
        self.torch = getattr(torch.optim, name)(self.groups(self.theirs), lr=0.01, **values)

    @staticmethod
    def groups(params):
        return [{"params": params[:2]}, {"params": params[2:], "lr": 0.02, "weight_decay": 0.05}]

    def step(self, t):
        """Some parameters have no gradient now and then; some get it from a backward pass, some are given a new one."""
        for i, (a, b) in enumerate(zip(self.mine, self.theirs)):
            a.grad = b.grad = None
            if (t + i) % 7 == 3:
                continue
            g = self.random.standard_normal(a.shape).astype(a.dtype)
            b.grad = torch.tensor(g)
            if i == 0:
                a.grad = minigen.tensor(g)
            else:
                (a * minigen.tensor(g)).sum().backward()
        self.ours.step()
        self.torch.step()

    def distance(self):
        return max(np.abs(a.data - b.detach().numpy()).max(initial=0) for a, b in zip(self.mine, self.theirs))


@pytest.mark.parametrize("name, values", PAIRS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 5e-6)])
def test_trajectory(name, values, dtype, tolerance):
    twins = Twins(name, values, dtype)
    if name == "Muon" and dtype == np.float32:
        tolerance = 2e-3  # a last place of difference may round to another bfloat16
    for t in range(25):
        twins.step(t)
        assert twins.distance() < tolerance
    mine, theirs = twins.ours.state_dict(), twins.torch.state_dict()
    assert mine["state"].keys() == theirs["state"].keys()
    for i, state in theirs["state"].items():
        assert mine["state"][i].keys() == state.keys()
        for key, value in state.items():
            assert mine["state"][i][key].shape == tuple(value.shape), key
            np.testing.assert_allclose(mine["state"][i][key].data, value.numpy(), rtol=tolerance, atol=tolerance)
    for a, b in zip(mine["param_groups"], theirs["param_groups"]):
        assert a.keys() == b.keys() and a["params"] == b["params"]


@pytest.mark.parametrize("name, values", PAIRS)
def test_state_from_torch_and_back(name, values):
    """A state saved by PyTorch goes on here as it does there, and ours goes on in PyTorch."""
    twins = Twins(name, values)
    for t in range(6):
        twins.step(t)
    state = twins.torch.state_dict()
    plain = {i: {k: v.numpy().copy() for k, v in s.items() if v is not None} for i, s in state["state"].items()}
    fresh = getattr(optim, name)(Twins.groups(twins.mine), lr=0.5, **values)
    fresh.load_state_dict({"state": plain, "param_groups": state["param_groups"]})
    twins.ours = fresh
    for t in range(6, 12):
        twins.step(t)
    assert twins.distance() < 1e-12
    state = twins.ours.state_dict()
    as_torch = {i: {k: torch.tensor(v.data) for k, v in s.items()} for i, s in state["state"].items()}
    twins.torch = getattr(torch.optim, name)(Twins.groups(twins.theirs), lr=0.5, **values)
    twins.torch.load_state_dict({"state": as_torch, "param_groups": state["param_groups"]})
    for t in range(12, 18):
        twins.step(t)
    assert twins.distance() < 1e-12
