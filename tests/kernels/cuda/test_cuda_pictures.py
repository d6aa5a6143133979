"""The engine on the CUDA kernels of pictures: a small network of norms, pools and resampling learns as on the CPU."""

import importlib

import numpy as np
import pytest

import minigen
from minigen import kernels, nn, optim
from minigen.kernels.cuda import compile
from minigen.nn import functional

pytestmark = pytest.mark.kernels
FAMILIES = ("norms", "group_norm", "pool", "mix")


class Network(nn.Module):
    """Every norm that has channels, every kind of pool, and pictures made larger and smaller."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in ((2, 8), (8, 8), (8, 6))])
        self.batch, self.group = nn.BatchNorm2d(8), nn.GroupNorm(4, 8)
        self.instance, self.last = nn.InstanceNorm2d(6, affine=True), nn.BatchNorm1d(6)
        self.outer = nn.Linear(6, 3)

    def forward(self, x):
        one, two, three = self.convolutions
        x = functional.max_pool2d(functional.relu(self.batch(one(x))), 3, 2, 1)
        x = functional.interpolate(functional.silu(self.group(two(x))), scale_factor=2.0, mode="bilinear")
        x = functional.avg_pool2d(x, 2, 2, 1, count_include_pad=False)
        x = self.instance(functional.interpolate(three(x), size=(7, 6)))
        x = functional.adaptive_avg_pool2d(functional.pad(x, (1, 0, 0, 1), "reflect"), 3)
        return self.outer(self.last(functional.adaptive_max_pool2d(x, 1).flatten(1)))


def train(steps=3):
    """The losses, the weights and running statistics after some steps, and what evaluation gives then."""
    minigen.manual_seed(3)
    draw = np.random.default_rng(0)
    network, x = Network(), minigen.tensor(draw.standard_normal((5, 2, 9, 8)).astype(np.float32))
    labels, losses = minigen.tensor(draw.integers(0, 3, 5)), []
    optimiser = optim.SGD(network.parameters(), lr=0.01)
    for _ in range(steps):
        loss = functional.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    state = {name: value.data.copy() for name, value in network.state_dict().items()}
    network.eval()
    probe = x.detach().requires_grad_()
    network(probe).sum().backward()  # the gradient through evaluation
    return losses, state, network(x).data.copy(), probe.grad.data.copy()


def test_a_network_learns_the_same(emulator, monkeypatch):
    want, find = train(), kernels.find

    def found(array, family):
        if family in FAMILIES and array.dtype == np.float32:
            return importlib.import_module(f"minigen.kernels.cuda.{family}")
        return find(array, family)

    earlier, emulator.launched = emulator.launched, set()
    monkeypatch.setattr(kernels, "find", found)
    with compile.running_on(emulator):
        got = train()
    launched, emulator.launched = emulator.launched, emulator.launched | earlier
    assert np.allclose(got[0], want[0], rtol=1e-5)
    for name, value in want[1].items():
        assert np.allclose(got[1][name], value, rtol=1e-3, atol=3e-5), name
    assert np.allclose(got[2], want[2], rtol=1e-3, atol=1e-4)
    assert np.allclose(got[3], want[3], rtol=1e-3, atol=1e-4)
    assert {file for file, _ in launched} == {"norms.cu", "group_norm.cu", "pool.cu", "mix.cu", "reduce.cu"}
