"""Initial values: their distributions, measured on many numbers; and the first values of every layer."""

import math

import numpy as np
import pytest

import minigen
from minigen import errors, nn
from minigen.nn import init


def spread(array):
    return array.min(), array.max(), array.mean(), array.std()


def assert_uniform(array, bound):
    low, high, mean, std = spread(array)
    assert -bound <= low < -0.98 * bound and 0.98 * bound < high <= bound
    assert abs(mean) < 0.05 * bound and std == pytest.approx(bound / math.sqrt(3), rel=0.05)


def assert_normal(array, std, mean=0.0):
    assert array.mean() == pytest.approx(mean, abs=0.05 * std) and array.std() == pytest.approx(std, rel=0.05)
    assert np.abs(array - mean).max() > 3 * std


W = (64, 100)  # fan-in 100, fan-out 64
K = (32, 16, 3, 3)  # fan-in 144, fan-out 288


@pytest.mark.parametrize(
    "fill, shape, bound",
    [
        (lambda w: init.uniform_(w, -2.0, 2.0), W, 2.0),
        (lambda w: init.xavier_uniform_(w), W, math.sqrt(6 / 164)),
        (lambda w: init.xavier_uniform_(w, gain=2.0), K, 2 * math.sqrt(6 / (144 + 288))),
        (lambda w: init.kaiming_uniform_(w, a=math.sqrt(5)), W, 0.1),
        (lambda w: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"), K, math.sqrt(6 / 288)),
    ],
)
def test_uniform(fill, shape, bound):
    w = minigen.zeros(*shape)
    assert fill(w) is w
    assert_uniform(w.data, bound)


@pytest.mark.parametrize(
    "fill, shape, std",
    [
        (lambda w: init.normal_(w, std=0.02), W, 0.02),
        (lambda w: init.xavier_normal_(w), W, math.sqrt(2 / 164)),
        (lambda w: init.kaiming_normal_(w, nonlinearity="relu"), K, math.sqrt(2 / 144)),
        (lambda w: init.kaiming_normal_(w, a=0.2, mode="fan_out"), W, math.sqrt(2 / 1.04 / 64)),
    ],
)
def test_normal(fill, shape, std):
    assert_normal(fill(minigen.zeros(*shape)).data, std)


def test_generator():
    a = init.normal_(minigen.zeros(5), generator=minigen.Generator(3))
    b = init.normal_(minigen.zeros(5), generator=minigen.Generator(3))
    np.testing.assert_array_equal(a.data, b.data)
    assert init.normal_(minigen.zeros(5, dtype=minigen.float64)).dtype == np.float64


@pytest.mark.parametrize("a, b, mean", [(-2.0, 2.0, 0.0), (0.5, 3.0, 0.0), (2.5, 4.0, 0.0), (-1.0, -0.9, 1.0)])
def test_truncated_normal(a, b, mean):
    """Against the density itself: the shares of ten bins."""
    w = init.trunc_normal_(minigen.zeros(40_000), mean=mean, a=a, b=b).data
    assert w.min() >= a - 1e-6 and w.max() <= b + 1e-6
    edges = np.linspace(a, b, 11)
    mass = np.diff([0.5 * math.erf((e - mean) / math.sqrt(2)) for e in edges])
    found = np.histogram(w, edges)[0] / w.size
    np.testing.assert_allclose(found, mass / mass.sum(), atol=0.012)


def test_constants():
    w = minigen.ones(2, 3)
    assert not init.zeros_(w).data.any() and (init.ones_(w).data == 1).all() and (init.constant_(w, 4).data == 4).all()
    np.testing.assert_array_equal(init.eye_(minigen.ones(2, 3)).data, np.eye(2, 3))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (6, 2, 3, 3), (2, 9)])
def test_orthogonal(shape):
    w = init.orthogonal_(minigen.zeros(*shape, dtype=minigen.float64), gain=2.0).data.reshape(shape[0], -1)
    square = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(square, 4 * np.eye(len(square)), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_copies_its_input(groups):
    x = minigen.randn(2, 4, 7)
    weight = init.dirac_(minigen.ones(4, 4 // groups, 3), groups)
    expected = np.zeros((4, 4 // groups, 3), np.float32)
    for channel in range(4):
        expected[channel, channel % (4 // groups), 1] = 1
    np.testing.assert_array_equal(weight.data, expected)
    assert x.shape == (2, 4, 7)


def test_sparse():
    w = init.sparse_(minigen.ones(50, 40), 0.3, std=0.5).data
    assert ((w == 0).sum(axis=0) == 15).all()
    assert_normal(w[w != 0], 0.5)


def test_gains():
    assert init.calculate_gain("relu") == math.sqrt(2) and init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04) and init.calculate_gain("conv2d") == 1
    assert init.calculate_gain("selu") == 0.75


@pytest.mark.parametrize(
    "call",
    [
        lambda: init.calculate_gain("swish"),
        lambda: init.calculate_gain("leaky_relu", True),
        lambda: init.xavier_uniform_(minigen.zeros(3)),
        lambda: init.kaiming_normal_(minigen.zeros(3, 3), mode="fan"),
        lambda: init.orthogonal_(minigen.zeros(3)),
        lambda: init.eye_(minigen.zeros(3)),
        lambda: init.dirac_(minigen.zeros(3, 3)),
        lambda: init.sparse_(minigen.zeros(3, 3), 1.5),
        lambda: init.trunc_normal_(minigen.zeros(3), a=2, b=1),
    ],
)
def test_mistakes(call):
    with pytest.raises(errors.MinigenError):
        call()


UNIFORM = {  # layer -> {parameter: bound}
    "Linear": (lambda: nn.Linear(100, 300), {"weight": 0.1, "bias": 0.1}),
    "Bilinear": (lambda: nn.Bilinear(25, 20, 30), {"weight": 0.2, "bias": 0.2}),
    "Conv2d": (lambda: nn.Conv2d(8, 200, 5, groups=2), {"weight": 0.1, "bias": 0.1}),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(50, 400, 4), {"weight": 1 / math.sqrt(1600), "bias": 1 / 40}),
    "LSTM": (
        lambda: nn.LSTM(20, 25, 2, bidirectional=True),
        {"weight_ih_l0": 0.2, "weight_hh_l1_reverse": 0.2, "bias_ih_l1": 0.2},
    ),
    "GRUCell": (lambda: nn.GRUCell(30, 100), {"weight_ih": 0.1, "weight_hh": 0.1, "bias_hh": 0.1}),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(96, 4), {"in_proj_weight": math.sqrt(6 / (4 * 96))}),
}


@pytest.mark.parametrize("name", UNIFORM)
def test_first_values(name):
    make, bounds = UNIFORM[name]
    layer = make()
    for parameter, bound in bounds.items():
        array = getattr(layer, parameter).data
        if array.size > 5000:
            assert_uniform(array, bound)
        else:
            assert np.abs(array).max() <= bound and np.abs(array).max() > 0.9 * bound


def test_first_values_of_the_rest():
    assert_normal(nn.Embedding(200, 50).weight.data, 1.0)
    assert not nn.Embedding(20, 5, padding_idx=-1).weight.data[-1].any()
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    assert not attention.in_proj_bias.data.any() and not attention.out_proj.bias.data.any()
    assert attention.bias_k.data.any()
    norm = nn.BatchNorm2d(3)
    assert (norm.weight.data == 1).all() and not norm.bias.data.any()
    assert (norm.running_var.data == 1).all() and norm.num_batches_tracked.item() == 0
    assert nn.PReLU().weight.item() == 0.25
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    np.testing.assert_array_equal(stack.layers[0].linear1.weight.data, stack.layers[1].linear1.weight.data)


@pytest.mark.parametrize("make", [lambda **k: nn.Linear(2, 3, **k), lambda **k: nn.LSTM(2, 3, **k)])
def test_types_asked_for(make):
    assert all(p.dtype == np.float64 for p in make(dtype=minigen.float64, device="cpu").parameters())
    assert all(p.dtype == np.float32 for p in make().parameters())
