"""Mixed precision on the CUDA kernels: a network under autocast computes as on the CPU's definitions, in each type."""

import importlib
import importlib.util

import numpy as np
import pytest

import minigen
from minigen import amp, kernels, nn, optim
from minigen.kernels.cuda import compile
from minigen.nn import functional as F

pytestmark = pytest.mark.kernels


def find(array, family):
    """`kernels.find` as it would be if NumPy's arrays lay on a card."""
    name = f"minigen.kernels.cuda.{family}"
    if not hasattr(array, "dtype") or importlib.util.find_spec(name) is None:
        return None
    found = importlib.import_module(name)
    return found if array.dtype.name in found.TYPES else None


def train(dtype, steps=3):
    """Losses, types of what the layers give, and weights."""
    minigen.manual_seed(3)
    first, norm, last = nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 5)
    parameters = [*first.parameters(), *norm.parameters(), *last.parameters()]
    optimizer, scaler, losses = optim.AdamW(parameters, lr=1e-2), amp.GradScaler(init_scale=256.0), []
    x = np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32)
    x, target = minigen.tensor(x), minigen.tensor(np.arange(12) % 5)
    for _ in range(steps):
        optimizer.zero_grad()
        with amp.autocast(dtype):
            h = first(x)
            z = norm(h)
            y = last(F.dropout(F.gelu(z), 0.25, generator=minigen.random.Generator(5)))
            loss = F.cross_entropy(y, target)
        types = [t.dtype.name for t in (h, z, y, loss)]
        scaler.scale(loss).backward()
        assert all(p.grad.dtype == np.float32 for p in parameters)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return np.array(losses), types, [p.detach().numpy().copy() for p in parameters]


def test_a_network_learns_the_same(emulator, dtype, monkeypatch):
    if dtype == np.float32:
        pytest.skip("nothing to narrow")
    losses, types, weights = train(dtype)
    assert types == [dtype.name, dtype.name, dtype.name, "float32"]
    monkeypatch.setattr(kernels, "find", find)
    earlier, emulator.launched = emulator.launched, set()
    with compile.running_on(emulator):
        got = train(dtype)
    ran = {file for file, _ in emulator.launched}
    emulator.launched |= earlier
    assert {"gemm.cu", "layer_norm.cu", "activations.cu", "dropout.cu", "softmax.cu", "optim.cu"} <= ran
    assert got[1] == types
    digits = {"float16": 2e-3, "bfloat16": 1.5e-2}[dtype.name]
    assert np.allclose(got[0], losses, rtol=digits)
    for one, other in zip(got[2], weights):
        assert np.linalg.norm(one - other) < 4 * digits * max(np.linalg.norm(other), 1)
