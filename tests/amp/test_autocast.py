"""autocast: which op computes in which type, gradients in float32, weights cast once; on the CPU, in NumPy."""

import numpy as np
import pytest

import minigen
from minigen import amp, autograd, kernels, nn, optim
from minigen.amp.policy import POLICY
from minigen.autograd import modes
from minigen.errors import ArgumentError, DtypeError
from minigen.nn import functional as F
from minigen.ops.casting import _cast

HALF, SINGLE, DOUBLE = minigen.float16, minigen.float32, minigen.float64


def draw(*shape, dtype=SINGLE, seed=0):
    numbers = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return minigen.tensor(numbers, requires_grad=True)


def types():
    names = ["float16"]
    try:
        minigen.bfloat16  # noqa: B018
        names.append("bfloat16")
    except DtypeError:
        pass
    return names


LOW = {
    "matmul": lambda x: x @ x.mT,
    "bmm": lambda x: minigen.bmm(x.reshape(1, 4, 4), x.reshape(1, 4, 4)),
    "dot": lambda x: minigen.dot(x[0], x[1]),
    "einsum": lambda x: minigen.einsum("ij,kj->ik", x, x),
    "linear": lambda x: F.linear(x, draw(3, 4), draw(3)),
    "linear_activation": lambda x: F.linear_activation(x, draw(3, 4), draw(3)),
    "conv2d": lambda x: F.conv2d(x.reshape(1, 1, 4, 4), draw(2, 1, 3, 3), draw(2)),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x.reshape(1, 4, 4), draw(4, 2, 3)),
    "attention": lambda x: F.scaled_dot_product_attention(*3 * [x.reshape(1, 1, 4, 4)], is_causal=True),
    "lstm": lambda x: nn.LSTM(4, 3)(x)[0],
    "gru": lambda x: nn.GRU(4, 3)(x)[0],
}
SINGLES = {
    "exp": lambda x: x.exp(),
    "log": lambda x: x.abs().log(),
    "pow": lambda x: x**2.0,
    "rsqrt": lambda x: x.abs().rsqrt(),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x.mean(),
    "var": lambda x: x.var(0),
    "cumsum": lambda x: x.cumsum(0),
    "prod": lambda x: x.prod(0),
    "cross_entropy": lambda x: F.cross_entropy(x, minigen.tensor([0, 1, 2, 3])),
    "mse_loss": lambda x: F.mse_loss(x, draw(4, 4, seed=1)),
    "bce_with_logits": lambda x: F.binary_cross_entropy_with_logits(x, minigen.ones(4, 4)),
    "kl_div": lambda x: F.kl_div(x.log_softmax(-1), minigen.full((4, 4), 0.25)),
}
INSIDE = {
    "layer_norm": lambda x: F.layer_norm(x, (4,), draw(4), draw(4)),
    "group_norm": lambda x: F.group_norm(x, 2, draw(4), draw(4)),
    "group_norm_activation": lambda x: F.group_norm_activation(x, 2, draw(4), draw(4)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, draw(4), draw(4), training=True),
    "rms_norm": lambda x: F.rms_norm(x, (4,), draw(4)),
    "batch_norm eval": lambda x: F.batch_norm(x, minigen.zeros(4), minigen.ones(4), draw(4), draw(4)),
    "instance_norm": lambda x: F.instance_norm(x.reshape(1, 4, 4)),
}
AS_GIVEN = {
    "relu": lambda x: F.relu(x),
    "gelu": lambda x: F.gelu(x),
    "tanh": lambda x: x.tanh(),
    "reshape": lambda x: x.reshape(16),
    "getitem": lambda x: x[1:, 2],
    "dropout": lambda x: F.dropout(x, 0.5),
    "neg": lambda x: -x,
    "amax": lambda x: x.amax(0),
    "max_pool1d": lambda x: F.max_pool1d(x.reshape(1, 4, 4), 2),
}
WIDEST = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "where": lambda x, y: minigen.where(x > 0, x, y),
    "maximum": lambda x, y: minigen.maximum(x, y),
    "cat": lambda x, y: minigen.cat([x, y]),
    "stack": lambda x, y: minigen.stack([x, y]),
}


@pytest.mark.parametrize("dtype", types())
@pytest.mark.parametrize("given", [HALF, SINGLE])
@pytest.mark.parametrize("name", LOW)
def test_products_compute_in_16_bits(name, given, dtype):
    with amp.autocast(dtype):
        y = LOW[name](draw(4, 4, dtype=given))
    assert y.dtype == getattr(minigen, dtype)
    assert y.requires_grad


@pytest.mark.parametrize("dtype", types())
@pytest.mark.parametrize("name", SINGLES)
def test_what_needs_its_digits_computes_in_float32(name, dtype):
    x = draw(4, 4).to(getattr(minigen, dtype))
    with amp.autocast(dtype):
        y = SINGLES[name](x)
    assert y.dtype == SINGLE
    want = SINGLES[name](x.float())
    assert np.allclose(y.detach().numpy(), want.detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", types())
@pytest.mark.parametrize("name", INSIDE)
def test_norms_compute_inside_in_float32(name, dtype):
    x = draw(4, 4).to(getattr(minigen, dtype)).detach()
    x.requires_grad_()
    with amp.autocast(dtype):
        y = INSIDE[name](x * 1.0)
        assert INSIDE[name](x.float()).dtype == (x.dtype if name in ("layer_norm", "rms_norm") else SINGLE)
    wide = x.detach().float().requires_grad_()
    with kernels.disabled():  # which those of the CPU are for 16 bits
        want = INSIDE[name](wide)
    assert y.dtype == x.dtype
    assert np.array_equal(y.detach().numpy(), want.detach().numpy().astype(x.dtype))  # rounded once
    y.float().square().sum().backward()
    want.square().sum().backward()
    assert np.allclose(x.grad.numpy().astype(np.float32), wide.grad.numpy(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", types())
@pytest.mark.parametrize(
    "norm", [lambda x, w: F.layer_norm(x, (40,), w, w * 0.5), lambda x, w: F.rms_norm(x, (40,), w)]
)
def test_a_norm_of_float32_gives_16_bits_to_the_product_behind_it(norm, dtype):
    """As a residual stream in float32 does: no array of float32 that is narrowed again."""
    low = getattr(minigen, dtype)
    x, w = draw(7, 40), draw(40, seed=1)
    twin_x, twin_w = draw(7, 40), draw(40, seed=1)
    with amp.autocast(dtype):
        y = norm(x, w)
    want = norm(twin_x, twin_w)
    assert y.dtype == low and np.array_equal(y.detach().numpy(), want.detach().numpy().astype(low))
    g = draw(7, 40, seed=2).detach().to(low)
    y.backward(g), want.backward(g.float())
    for one, other in ((x, twin_x), (w, twin_w)):
        assert one.grad.dtype == SINGLE
        assert np.allclose(one.grad.numpy(), other.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [*types(), "float32"])
@pytest.mark.parametrize("name", AS_GIVEN)
def test_the_others_compute_in_the_type_they_are_given(name, dtype):
    x = draw(4, 4).to(getattr(minigen, dtype))
    with amp.autocast("float16" if dtype == "float32" else dtype):
        assert AS_GIVEN[name](x).dtype == x.dtype


@pytest.mark.parametrize("dtype", types())
@pytest.mark.parametrize("name", WIDEST)
def test_operands_take_the_widest_type(name, dtype):
    x, y = draw(4, 4).to(getattr(minigen, dtype)), draw(4, 4, seed=1)
    with amp.autocast(dtype):
        assert WIDEST[name](x, y).dtype == SINGLE
        assert WIDEST[name](x, x * 1.0).dtype == x.dtype  # a number widens nothing
    with pytest.raises(DtypeError, match="float32"):
        WIDEST[name](x, y)


def test_every_name_in_the_policy_is_an_op():
    from importlib import import_module
    from pathlib import Path

    folder = Path(minigen.__file__).parent / "ops"
    modules = [import_module(f"minigen.ops.{path.stem}") for path in folder.glob("*.py") if path.stem != "__init__"]
    known = {x.name for module in modules for x in vars(module).values() if isinstance(x, autograd.Op)}
    assert set(POLICY) <= known, sorted(set(POLICY) - known)


def test_float64_is_left_alone():
    with amp.autocast("float16"):
        x = draw(4, 4, dtype=DOUBLE)
        assert (x @ x).dtype == x.softmax(-1).dtype == DOUBLE


def test_blocks_nest_and_can_be_switched_off():
    x = draw(4, 4)
    with amp.autocast("float16"):
        assert amp.is_autocast_enabled() and (x @ x).dtype == HALF
        with amp.autocast(enabled=False):
            assert not amp.is_autocast_enabled() and (x @ x).dtype == SINGLE
            with amp.autocast(device_type="cpu", dtype=minigen.float16):
                assert (x @ x).dtype == HALF
        with amp.autocast("cuda", "float16"):
            assert (x @ x).dtype == SINGLE  # these tensors are not there
        assert (x @ x).dtype == HALF
    assert (x @ x).dtype == SINGLE and not modes.autocasting


def test_it_decorates_and_leaves_after_an_error():
    @amp.autocast("float16")
    def product(x):
        return x @ x

    assert product(draw(4, 4)).dtype == product(draw(4, 4)).dtype == HALF
    with pytest.raises(ValueError), amp.autocast("float16"):
        raise ValueError
    assert not modes.autocasting and modes.mode.autocast is None


def test_another_thread_is_not_concerned():
    import threading

    found = []
    with amp.autocast("float16"):
        thread = threading.Thread(target=lambda: found.append((draw(2, 2) @ draw(2, 2)).dtype))
        thread.start()
        thread.join()
    assert found == [SINGLE]


def test_other_types_are_refused():
    with pytest.raises(ArgumentError, match=r"float16 or bfloat16, not in .*float32"):
        amp.autocast("float32")
    with pytest.raises(ArgumentError, match="autocast"):
        amp.autocast(dtype=minigen.int64)


def test_bfloat16_needs_ml_dtypes(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DtypeError, match="pip install ml_dtypes"):
        amp.autocast("bfloat16")
    with amp.autocast("float16"):  # which does without, definitions and blocks that are switched off included
        assert F.gelu(draw(4, 4) @ draw(4, 4)).dtype == HALF


# ---- gradients and weights ----


@pytest.mark.parametrize("dtype", types())
def test_gradients_arrive_in_float32_and_are_those_of_float32_nearly(dtype):
    minigen.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
    x, target = draw(32, 8), minigen.tensor(np.arange(32) % 4)

    def gradients():
        network.zero_grad()
        F.cross_entropy(network(x), target).backward()
        return [p.grad.numpy().copy() for p in network.parameters()]

    want = gradients()
    with amp.autocast(dtype):
        loss = F.cross_entropy(network(x), target)
    network.zero_grad()
    loss.backward()
    digits = {"float16": 5e-3, "bfloat16": 4e-2}[dtype]
    for p, g in zip(network.parameters(), want):
        assert p.grad.dtype == p.dtype == SINGLE
        off = np.linalg.norm(p.grad.numpy() - g) / np.linalg.norm(g)
        assert 0 < off < digits


@pytest.fixture
def casts(monkeypatch):
    """The shapes of what was cast to 16 bits."""
    seen, forward = [], _cast.forward

    def cast(x, dtype, before, done):
        if dtype == HALF:
            seen.append(x.shape)
        return forward(x, dtype, before, done)

    monkeypatch.setattr(_cast, "forward", cast)
    return seen


def test_a_weight_is_cast_once_a_block(casts):
    weight, x = draw(3, 4), draw(5, 4).detach()
    with amp.autocast("float16"):
        y = F.linear(x, weight) + F.linear(2.0 * x, weight)
        with amp.autocast("float16"):
            y = y + F.linear(x, weight)
    assert casts.count((3, 4)) == 1
    y.sum().backward()
    want = 4 * x.numpy().sum(0)
    assert np.allclose(weight.grad.numpy(), np.broadcast_to(want, (3, 4)), rtol=2e-3, atol=1e-2)
    with amp.autocast("float16"):
        F.linear(x, weight)
    assert casts.count((3, 4)) == 2
    with amp.autocast("float16", cache_enabled=False):
        F.linear(x, weight)
        F.linear(x, weight)
    assert casts.count((3, 4)) == 4


def test_a_weight_is_cast_again_where_it_changed(casts):
    weight, x = draw(3, 4), minigen.ones(1, 4)
    optimizer = optim.SGD([weight], lr=1.0)
    with amp.autocast("float16"):
        before = F.linear(x, weight)
        before.sum().backward()
        optimizer.step()  # inside the block
        after = F.linear(x, weight)
        assert np.allclose(after.detach().numpy(), before.detach().numpy() - 4.0, atol=1e-2)
        with minigen.no_grad():
            weight.zero_()
        assert not F.linear(x, weight).detach().numpy().any()


def test_a_cast_without_a_graph_is_not_kept_for_training():
    weight, x = draw(3, 4), minigen.ones(1, 4)
    with amp.autocast("float16"):
        with minigen.no_grad():
            F.linear(x, weight)
        loss = F.linear(x, weight).sum()
        loss.backward()
        assert weight.grad is not None
        F.linear(x, weight).sum().backward()  # a second graph over the same weight
    assert np.allclose(weight.grad.numpy(), 2.0)


def test_second_derivatives_go_through():
    x = draw(4, 4)
    with amp.autocast("float16"):
        y = (x @ x).softmax(-1).square().sum()
        (g,) = autograd.grad(y, [x], create_graph=True)
    (gg,) = autograd.grad((g * g).sum(), [x])
    assert g.dtype == gg.dtype == SINGLE and np.isfinite(gg.numpy()).all()


def train(dtype=None, steps=60):
    minigen.manual_seed(1)
    generator = np.random.default_rng(2)
    network = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = optim.Adam(network.parameters(), lr=1e-2)
    scaler = amp.GradScaler(enabled=dtype == "float16")
    losses = []
    for _ in range(steps):
        angle, kind = generator.uniform(0, np.pi, 64), generator.integers(0, 2, 64)
        x = np.stack([np.cos(angle + np.pi * kind) + kind, np.sin(angle + np.pi * kind) + 0.5 * kind], 1)
        x, kind = minigen.tensor(x.astype(np.float32)), minigen.tensor(kind)
        optimizer.zero_grad()
        with amp.autocast(dtype or "float16", enabled=dtype is not None):
            loss = F.cross_entropy(network(x), kind)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert all(p.dtype == SINGLE for p in network.parameters())
    return np.array(losses)


@pytest.mark.parametrize("dtype", types())
def test_a_network_learns_two_moons_as_in_float32(dtype):
    want, got = train(), train(dtype)
    assert want[:5].mean() > 0.5 and want[-10:].mean() < 0.3
    band = {"float16": 0.005, "bfloat16": 0.02}[dtype]  # nats, of the mean of the last ten losses
    assert abs(got[-10:].mean() - want[-10:].mean()) < band
    assert not np.array_equal(got, want)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["matmul", "linear", "conv2d", "mse_loss", "relu"])
def test_types_are_those_of_pytorch(name):
    """Of the ops that PyTorch's list for the CPU names as its list for CUDA does."""
    torch = pytest.importorskip("torch")
    theirs = {
        "matmul": lambda x: x @ x.mT,
        "linear": lambda x: torch.nn.functional.linear(x, torch.randn(3, 4)),
        "conv2d": lambda x: torch.nn.functional.conv2d(x.reshape(1, 1, 4, 4), torch.randn(2, 1, 3, 3)),
        "mse_loss": lambda x: torch.nn.functional.mse_loss(x, torch.randn(4, 4)),
        "relu": lambda x: torch.nn.functional.relu(x @ x),
    }
    ours = {**LOW, **SINGLES, "relu": lambda x: F.relu(x @ x)}
    with torch.autocast("cpu", torch.bfloat16):
        want = theirs[name](torch.randn(4, 4)).dtype
    with amp.autocast("cpu", "bfloat16"):
        got = ours[name](draw(4, 4)).dtype
    assert str(want) == f"torch.{got.name}"
