"""Layers by exact properties: their formula on small numbers, their modes, their shapes."""

import math

import numpy as np
import pytest

import minigen
from minigen import errors, nn
from minigen.nn import functional as F


def draw(*shape):
    return minigen.randn(*shape, dtype=minigen.float64)


def test_linear():
    layer, x = nn.Linear(3, 2).double(), draw(4, 5, 3)
    np.testing.assert_allclose(layer(x).data, x.data @ layer.weight.data.T + layer.bias.data)
    assert nn.Linear(3, 2, bias=False).bias is None and nn.Linear(3, 2, bias=False)(minigen.ones(3)).shape == (2,)


def test_bilinear():
    layer, a, b = nn.Bilinear(3, 2, 4).double(), draw(5, 3), draw(5, 2)
    expected = np.einsum("ni,kij,nj->nk", a.data, layer.weight.data, b.data) + layer.bias.data
    np.testing.assert_allclose(layer(a, b).data, expected)


@pytest.mark.parametrize("mode, pad", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize("padding, sides", [((1, 2), [(1, 1), (2, 2)]), ("same", [(0, 1), (1, 2)])])
def test_padding_modes_of_convolutions(mode, pad, padding, sides):
    layer = nn.Conv2d(2, 3, (2, 4), padding=padding, padding_mode=mode).double()
    x = draw(1, 2, 5, 6)
    padded = np.pad(x.data, [(0, 0), (0, 0), *sides], mode=pad)
    np.testing.assert_allclose(layer(x).data, F.conv2d(minigen.tensor(padded), layer.weight, layer.bias).data)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_transposed_convolution_to_a_size(n):
    down = getattr(nn, f"Conv{n}d")(1, 2, 3, stride=2, padding=1)
    up = getattr(nn, f"ConvTranspose{n}d")(2, 1, 3, stride=2, padding=1)
    for size in (7, 8):
        x = minigen.ones(1, 1, *(size,) * n)
        assert up(down(x), output_size=x.shape).shape == x.shape
    with pytest.raises(errors.ShapeError, match="output_size from"):
        up(down(x), output_size=(20,) * n)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(2, 4, 3, padding="half"),
        lambda: nn.Conv2d(2, 4, 3, padding="same", stride=2),
        lambda: nn.Conv2d(2, 4, (3, 3, 3)),
        lambda: nn.Conv1d(2, 4, 3, padding_mode="mirror"),
        lambda: nn.ConvTranspose2d(2, 4, 3, padding_mode="reflect"),
        lambda: nn.GroupNorm(3, 4),
        lambda: nn.BatchNorm1d(3, eps=0),
        lambda: nn.Embedding(3, 4, padding_idx=3),
        lambda: nn.Embedding(3, 4, sparse=True),
        lambda: nn.Dropout(1.5),
        lambda: nn.MSELoss(reduction="average"),
        lambda: nn.MultiheadAttention(7, 2),
        lambda: nn.ReflectionPad2d((1, 2)),
        lambda: nn.TripletMarginLoss(margin=0),
        lambda: nn.TransformerEncoderLayer(4, 2, activation="swish"),
    ],
)
def test_arguments_that_make_no_sense(make):
    with pytest.raises(errors.ArgumentError):
        make()


def test_embedding():
    table = nn.Embedding(5, 3, padding_idx=2)
    index = minigen.tensor([[0, 2], [4, 4]])
    y = table(index)
    np.testing.assert_array_equal(y.data, table.weight.data[index.data])
    y.sum().backward()
    np.testing.assert_array_equal(table.weight.grad.data[:, 0], [1, 0, 0, 0, 2])
    given = minigen.tensor([[1.0, 2.0], [3.0, 4.0]])
    frozen = nn.Embedding.from_pretrained(given)
    assert not frozen.weight.requires_grad and nn.Embedding.from_pretrained(given, freeze=False).weight.requires_grad
    assert frozen(minigen.tensor(1)).data.tolist() == [3.0, 4.0]
    short = nn.Embedding.from_pretrained(given, max_norm=1.0)
    assert np.linalg.norm(short(minigen.tensor([1])).data) == pytest.approx(1.0, abs=1e-5)


def test_dropout_drops_in_training_only():
    drop, x = nn.Dropout(0.25), minigen.ones(4000)
    y = drop(x).data
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)} and (y == 0).mean() == pytest.approx(
        0.25, abs=0.03
    )
    np.testing.assert_array_equal(drop.eval()(x).data, x.data)
    a = nn.Dropout(0.5, generator=minigen.Generator(1))(x)
    b = nn.Dropout(0.5, generator=minigen.Generator(1))(x)
    np.testing.assert_array_equal(a.data, b.data)
    channels = nn.Dropout2d(0.5)(minigen.ones(8, 8, 3, 3)).data.reshape(64, 9)
    assert ((channels == channels[:, :1]).all(axis=1)).all() and len(np.unique(channels)) == 2


def test_batch_norm_running_statistics():
    norm, total = nn.BatchNorm1d(3).double(), []
    average = nn.BatchNorm1d(3, momentum=None).double()
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(4):
        x = draw(10, 3) * 2 + 5
        y = norm(x)
        average(x)
        np.testing.assert_allclose(y.data.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(y.data.var(0), 1, rtol=1e-4)
        mean, var = 0.9 * mean + 0.1 * x.data.mean(0), 0.9 * var + 0.1 * x.data.var(0, ddof=1)
        total.append(x.data)
    np.testing.assert_allclose(norm.running_mean.data, mean)
    np.testing.assert_allclose(norm.running_var.data, var)
    assert norm.num_batches_tracked.item() == 4
    np.testing.assert_allclose(average.running_mean.data, np.mean([x.mean(0) for x in total], 0))
    x = draw(2, 3)
    np.testing.assert_allclose(norm.eval()(x).data, (x.data - mean) / np.sqrt(var + 1e-5))
    plain = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    assert not plain.state_dict() and abs(plain.eval()(minigen.randn(9, 3)).data.mean()) < 1e-6


@pytest.mark.parametrize(
    "norm, shape, axes",
    [
        (nn.LayerNorm((4, 5)), (3, 4, 5), (1, 2)),
        (nn.GroupNorm(1, 4), (3, 4, 5), (1, 2)),
        (nn.InstanceNorm2d(4), (3, 4, 5, 6), (2, 3)),
        (nn.InstanceNorm1d(4), (4, 6), (1,)),
    ],
)
def test_norms_centre_and_scale(norm, shape, axes):
    y = norm.double()(draw(*shape) * 3 + 2).data
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-3)


def test_rms_norm():
    x = draw(3, 4)
    expected = x.data / np.sqrt((x.data**2).mean(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(nn.RMSNorm(4, eps=1e-3).double()(x).data, expected)


def test_norms_refuse_other_shapes():
    for layer, shape in ((nn.BatchNorm2d(3), (2, 3, 4)), (nn.InstanceNorm2d(3, affine=True), (2, 4, 5, 5))):
        with pytest.raises(errors.ShapeError):
            layer(minigen.ones(*shape))


ACTIVATIONS = {
    "ReLU": (nn.ReLU(), lambda x: max(x, 0)),
    "ReLU6": (nn.ReLU6(), lambda x: min(max(x, 0), 6)),
    "LeakyReLU": (nn.LeakyReLU(0.2), lambda x: x if x > 0 else 0.2 * x),
    "PReLU": (nn.PReLU(init=0.125), lambda x: x if x > 0 else 0.125 * x),
    "RReLU": (nn.RReLU(0.1, 0.3).eval(), lambda x: x if x > 0 else 0.2 * x),
    "ELU": (nn.ELU(2.0), lambda x: x if x > 0 else 2 * (math.exp(x) - 1)),
    "CELU": (nn.CELU(2.0), lambda x: x if x > 0 else 2 * (math.exp(x / 2) - 1)),
    "SELU": (nn.SELU(), lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1))),
    "GELU": (nn.GELU(), lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
    "GELU tanh": (
        nn.GELU("tanh"),
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "SiLU": (nn.SiLU(), lambda x: x / (1 + math.exp(-x))),
    "Mish": (nn.Mish(), lambda x: x * math.tanh(math.log1p(math.exp(x)))),
    "Softplus": (nn.Softplus(2.0), lambda x: math.log1p(math.exp(2 * x)) / 2),
    "Softsign": (nn.Softsign(), lambda x: x / (1 + abs(x))),
    "Sigmoid": (nn.Sigmoid(), lambda x: 1 / (1 + math.exp(-x))),
    "LogSigmoid": (nn.LogSigmoid(), lambda x: -math.log1p(math.exp(-x))),
    "Tanh": (nn.Tanh(), math.tanh),
    "Tanhshrink": (nn.Tanhshrink(), lambda x: x - math.tanh(x)),
    "Hardtanh": (nn.Hardtanh(-0.5, 2.0), lambda x: min(max(x, -0.5), 2.0)),
    "Hardsigmoid": (nn.Hardsigmoid(), lambda x: min(max(x + 3, 0), 6) / 6),
    "Hardswish": (nn.Hardswish(), lambda x: x * min(max(x + 3, 0), 6) / 6),
    "Hardshrink": (nn.Hardshrink(), lambda x: x if abs(x) > 0.5 else 0),
    "Softshrink": (nn.Softshrink(), lambda x: x - 0.5 if x > 0.5 else x + 0.5 if x < -0.5 else 0),
    "Threshold": (nn.Threshold(0.1, 20.0), lambda x: x if x > 0.1 else 20.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    layer, formula = ACTIVATIONS[name]
    x = np.linspace(-7.0, 7.0, 57)
    expected = [formula(v) for v in x]
    np.testing.assert_allclose(layer.double()(minigen.tensor(x)).data, expected, rtol=1e-9, atol=1e-12)
    y = layer.float()(minigen.tensor(x.astype(np.float32)))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, expected, rtol=2e-5, atol=2e-5)


def test_softmaxes():
    x = draw(2, 3, 4, 5)
    np.testing.assert_allclose(nn.Softmax(1)(x).data.sum(1), 1)
    np.testing.assert_allclose(nn.Softmax2d()(x).data, nn.Softmax(1)(x).data)
    np.testing.assert_allclose(nn.Softmin(-1)(x).data, nn.Softmax(-1)(-x).data)
    np.testing.assert_allclose(np.exp(nn.LogSoftmax(2)(x).data), nn.Softmax(2)(x).data)
    np.testing.assert_allclose(nn.GLU(1)(x[:, :2]).data, x.data[:, :1] / (1 + np.exp(-x.data[:, 1:2])))


X, Y = [0.5, -1.0, 2.0], [1.0, -1.0, -1.0]
LOSSES = {
    "L1Loss": (nn.L1Loss(), (X, Y), (0.5 + 0 + 3) / 3),
    "MSELoss": (nn.MSELoss(reduction="sum"), (X, Y), 0.25 + 9),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=2.0), (X, Y), (0.0625 + 2) / 3),
    "HuberLoss": (nn.HuberLoss(delta=2.0), (X, Y), (0.125 + 4) / 3),
    "HingeEmbeddingLoss": (nn.HingeEmbeddingLoss(margin=1.5), (X, Y), (0.5 + 2.5 + 0) / 3),
    "SoftMarginLoss": (nn.SoftMarginLoss(), (X, Y), np.log1p(np.exp([-0.5, -1.0, 2.0])).mean()),
    "GaussianNLLLoss": (
        nn.GaussianNLLLoss(full=True),
        (X, Y, [1.0, 2.0, 4.0]),
        (np.log([1, 2, 4]).sum() / 2 + (0.25 + 0 + 9 / 4) / 2) / 3 + 0.5 * math.log(2 * math.pi),
    ),
    "PoissonNLLLoss": (
        nn.PoissonNLLLoss(),
        (X, [1.0, 0.0, 2.0]),
        (math.exp(0.5) - 0.5 + math.exp(-1) + math.e**2 - 4) / 3,
    ),
    "BCEWithLogitsLoss": (
        nn.BCEWithLogitsLoss(),
        (X, [1.0, 0.0, 0.5]),
        (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-1)) + math.log1p(math.exp(2)) - 1) / 3,
    ),
    "BCELoss": (nn.BCELoss(), ([0.5, 0.25], [1.0, 0.0]), (math.log(2) - math.log(0.75)) / 2),
    "KLDivLoss": (
        nn.KLDivLoss(reduction="batchmean"),
        ([[math.log(0.5), math.log(0.5)]], [[0.25, 0.75]]),
        0.25 * math.log(0.5) + 0.75 * math.log(1.5),
    ),
    "CosineEmbeddingLoss": (nn.CosineEmbeddingLoss(0.5), ([[1.0, 0.0]] * 2, [[0.0, 1.0], [1.0, 0.0]], [1, -1]), 0.75),
    "MarginRankingLoss": (nn.MarginRankingLoss(0.5), ([1.0, 2.0], [2.0, 1.0], [1.0, 1.0]), 0.75),
    "TripletMarginLoss": (nn.TripletMarginLoss(eps=0.0), ([[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 5.0]]), 1.0),
    "MultiMarginLoss": (nn.MultiMarginLoss(), ([[0.1, 0.2, 0.4]], [2]), (0.7 + 0.8) / 3),
    "MultiLabelMarginLoss": (
        nn.MultiLabelMarginLoss(),
        ([[0.1, 0.2, 0.4, 0.8]], [[3, 0, -1, 1]]),
        (1 - (0.1 - 0.2) + 1 - (0.1 - 0.4) + 1 - (0.8 - 0.2) + 1 - (0.8 - 0.4)) / 4,
    ),
    "MultiLabelSoftMarginLoss": (
        nn.MultiLabelSoftMarginLoss(),
        ([[1.0, -1.0]], [[1.0, 0.0]]),
        math.log1p(math.exp(-1.0)),
    ),
    "CrossEntropyLoss": (
        nn.CrossEntropyLoss(),
        ([[0.0, 0.0], [0.0, math.log(3)]], [0, 1]),
        math.log(2) / 2 - math.log(0.75) / 2,
    ),
    "NLLLoss": (nn.NLLLoss(ignore_index=1), ([[-1.0, -2.0], [-3.0, -4.0]], [0, 1]), 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    loss, arguments, expected = LOSSES[name]
    arguments = [minigen.tensor(np.asarray(x)) for x in arguments]
    assert loss(*arguments).item() == pytest.approx(float(expected), rel=1e-9)


def test_a_weight_moves_and_is_saved_with_the_loss():
    loss = nn.CrossEntropyLoss(minigen.tensor([1.0, 3.0]))
    assert loss.double().weight.dtype == np.float64 and list(loss.state_dict()) == ["weight"]


def test_distances():
    a, b = minigen.tensor([[3.0, 4.0]]), minigen.tensor([[0.0, 0.0]])
    assert nn.PairwiseDistance(eps=0.0)(a, b).item() == 5.0 and nn.PairwiseDistance(1.0, 0.0, True)(a, b).shape == (
        1,
        1,
    )
    assert nn.CosineSimilarity()(a, a * 2).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (nn.MaxPool2d(2), (1, 2, 6, 4), (1, 2, 3, 2)),
        (nn.AvgPool1d(3, stride=2, padding=1), (1, 2, 7), (1, 2, 4)),
        (nn.AdaptiveAvgPool2d((1, 3)), (1, 2, 6, 5), (1, 2, 1, 3)),
        (nn.AdaptiveMaxPool3d(2), (1, 2, 4, 4, 4), (1, 2, 2, 2, 2)),
        (nn.LPPool2d(2, 2), (1, 2, 4, 4), (1, 2, 2, 2)),
        (nn.ZeroPad2d((1, 2, 0, 3)), (1, 2, 4, 4), (1, 2, 7, 7)),
        (nn.ConstantPad1d(2, 1.0), (2, 4), (2, 8)),
        (nn.ReflectionPad1d(2), (1, 2, 4), (1, 2, 8)),
        (nn.ReplicationPad3d(1), (1, 2, 3, 3, 3), (1, 2, 5, 5, 5)),
        (nn.CircularPad2d(1), (2, 3, 3), (2, 5, 5)),
        (nn.Upsample(scale_factor=2), (1, 2, 3, 3), (1, 2, 6, 6)),
        (nn.Upsample(size=(5, 4), mode="bilinear"), (1, 2, 3, 3), (1, 2, 5, 4)),
        (nn.UpsamplingBilinear2d(scale_factor=2), (1, 2, 3, 3), (1, 2, 6, 6)),
        (nn.PixelShuffle(2), (1, 8, 3, 3), (1, 2, 6, 6)),
        (nn.PixelUnshuffle(2), (1, 2, 6, 6), (1, 8, 3, 3)),
        (nn.ChannelShuffle(2), (1, 4, 3, 3), (1, 4, 3, 3)),
        (nn.Unfold(2), (1, 2, 4, 4), (1, 8, 9)),
        (nn.Fold((4, 4), 2), (1, 8, 9), (1, 2, 4, 4)),
    ],
)
def test_shapes(layer, shape, expected):
    assert layer(minigen.ones(*shape)).shape == expected


def test_unpooling_puts_things_back():
    x = draw(1, 2, 4, 4)
    y, places = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(y, places).data
    assert back.shape == x.shape and ((back == 0) | (back == x.data)).all() and (back != 0).sum() == y.numel()


def test_everything_prints():
    for layer in (nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.Embedding(3, 4, padding_idx=0), nn.LSTM(2, 3, 2)):
        assert repr(layer).startswith(type(layer).__name__ + "(")
    assert repr(nn.Conv2d(1, 2, 3)) == "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))"
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.Embedding(3, 4, padding_idx=0)) == "Embedding(3, 4, padding_idx=0)"
