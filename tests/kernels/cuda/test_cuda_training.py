"""The engine on the CUDA kernels: a small network must learn as it does on the CPU's, step by step."""

import importlib
import importlib.util

import numpy as np
import pytest

import minigen
from minigen import kernels, nn, optim
from minigen.kernels.cuda import compile
from minigen.nn import functional

pytestmark = pytest.mark.kernels


class Network(nn.Module):
    """Something of every family: embedding, dropout, layer and RMS norm, activations, softmax, losses."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 12)
        self.norm, self.rms = nn.LayerNorm(12), nn.RMSNorm(12)
        self.inner, self.outer = nn.Linear(12, 40), nn.Linear(40, 11)

    def forward(self, ids, generator):
        x = self.norm(self.table(ids))
        weights = functional.softmax(x @ x.mT, -1)
        x = self.rms(x + weights @ x)
        x = functional.dropout(functional.gelu(self.inner(x)), 0.2, generator=generator)
        return self.outer(functional.silu(x))


def train(steps=4):
    """The losses and the weights after some steps."""
    minigen.manual_seed(3)
    generator = minigen.random.Generator(5)
    network, ids = Network(), np.random.default_rng(0).integers(0, 11, (30, 17))
    optimiser, found = optim.AdamW(network.parameters(), lr=1e-2), []
    for _ in range(steps):
        logits = network(minigen.tensor(ids[:, :-1]), generator)
        loss = functional.cross_entropy(logits.reshape(-1, 11), minigen.tensor(ids[:, 1:].reshape(-1)))
        loss = loss + functional.mse_loss(logits, logits.detach() * 0.5) + functional.softplus(logits).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimiser.step()
        found.append(loss.item())
    return found, [p.data.copy() for p in network.parameters()]


def test_a_network_learns_the_same(emulator, monkeypatch):
    want = train()

    def find(array, family):
        name = f"minigen.kernels.cuda.{family}"
        if array.dtype != np.float32 or importlib.util.find_spec(name) is None:
            return None
        return importlib.import_module(name)

    earlier, emulator.launched = emulator.launched, set()
    monkeypatch.setattr(kernels, "find", find)
    with compile.running_on(emulator):
        got = train()
    assert np.allclose(got[0], want[0], rtol=1e-5)
    for one, other in zip(got[1], want[1]):
        assert np.allclose(one, other, rtol=1e-3, atol=2e-5)
    files = {file for file, _ in emulator.launched}
    emulator.launched |= earlier
    assert files - {"random.cu"} == {  # which serves draws only where the generator has none left over
        *("activations.cu", "dropout.cu", "embedding.cu", "gemm.cu", "layer_norm.cu", "losses.cu", "optim.cu"),
        *("reduce.cu", "softmax.cu"),
    }
