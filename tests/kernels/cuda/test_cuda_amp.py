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


@pytest.fixture
def emulated(emulator, monkeypatch):
    monkeypatch.setattr(kernels, "find", find)
    with compile.running_on(emulator):
        yield emulator


def test_a_residual_stream_in_float32_makes_no_copies(emulated, dtype):
    """Norms give 16 bits, sums take both types, logits are read as they are: nothing of it is cast by itself."""
    if dtype == np.float32:
        pytest.skip("nothing to narrow")
    from minigen.ops import casting

    minigen.manual_seed(0)
    embedding, norm = nn.Embedding(11, 16), nn.LayerNorm(16)
    up, down, head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 11)
    parameters = [p for m in (embedding, norm, up, down, head) for p in m.parameters()]
    ids = minigen.tensor(np.arange(21).reshape(3, 7) % 11)

    def loss():
        h = embedding(ids)
        h = h + down(F.gelu(up(norm(h))))
        h = h + down(F.gelu(up(norm(h))))
        return F.cross_entropy(head(norm(h)).reshape(-1, 11), ids.reshape(-1))

    want = loss()
    want.backward()
    gradients = [p.grad.numpy().copy() for p in parameters]
    for p in parameters:
        p.grad = None
    cast, shapes = casting._cast.forward, []
    casting._cast.forward = lambda x, *types: shapes.append(x.shape) or cast(x, *types)
    try:
        with amp.autocast(dtype):
            got = loss()
        assert sorted(shapes) == sorted(p.shape for m in (up, down, head) for p in m.parameters())
        got.backward()
    finally:
        casting._cast.forward = cast
    assert got.dtype == np.float32
    digits = {"float16": 3e-3, "bfloat16": 2.5e-2}[dtype.name]
    assert abs(got.item() - want.item()) < digits * want.item()
    for p, g in zip(parameters, gradients):
        assert p.grad.dtype == np.float32
        assert np.linalg.norm(p.grad.numpy() - g) < 2 * digits * np.linalg.norm(g)


def in_float32_between(w, x, table):
    one = F.linear(x, w)
    with amp.autocast(enabled=False):
        two = F.linear(one.float(), w)
    return F.linear(F.gelu(two), w)


USES = {
    "in float32 between": in_float32_between,
    "once": lambda w, x, table: F.linear(x, w),
    "twice": lambda w, x, table: F.linear(F.gelu(F.linear(x, w)), w),
    "as a table, then as a weight": lambda w, x, table: F.linear(x + F.embedding(table, w), w),
    "in float32 beside": lambda w, x, table: F.linear(x, w) + (w * w).sum(),
    "in float32 before": lambda w, x, table: F.linear(x + (w * w).sum(0), w),
}


@pytest.mark.parametrize("use", USES)
def test_a_weight_s_gradient_is_summed_in_float32_in_its_optimiser_s_memory(emulated, dtype, use):
    """Through the cast: without an array of 16 bits, a copy in float32 and another into its place."""
    if dtype == np.float32:
        pytest.skip("nothing to narrow")
    w = nn.Parameter(0.3 * np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32))
    optimizer = optim.SGD([w], lr=0.01)
    x = minigen.tensor(np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32))
    table = minigen.tensor(np.array([0, 3, 3, 5, 1]))

    def gradient(y):
        w.grad = None
        y.float().square().mean().backward()
        return w.grad.numpy().copy()

    for _ in range(3):
        with amp.autocast(dtype):
            y = USES[use](w, x, table)
        got = gradient(y)
        assert w.grad.dtype == np.float32
        if use == "once":
            assert w.grad.data is w.buffer
            g = (y.detach().float() / 15).to(dtype).float().numpy()
            assert np.allclose(got, g.T @ x.to(dtype).float().numpy(), rtol=1e-5, atol=1e-6)
        want = gradient(USES[use](w, x, table))
        assert np.linalg.norm(got - want) < {"float16": 6e-3, "bfloat16": 5e-2}[dtype.name] * np.linalg.norm(want)
        optimizer.step()
