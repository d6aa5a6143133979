"""Norms: the formula, kernels equal definitions in every memory order, running statistics, gradients."""

import numpy as np
import pytest
from against_numpy import agrees, draw
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

import minigen
from minigen import Tensor, errors
from minigen.nn import functional as F


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def channels_last(x):
    """The same numbers, lying in memory with the channels together."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def normalised(x, dims, eps=1e-5):
    return (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)


def channels(p, x):
    return p.reshape((-1,) + (1,) * (x.ndim - 2))


# Layer norm, RMS norm


def test_layer_norm_formula():
    agrees(lambda x, w, b: F.layer_norm(x, (4,), w, b), lambda x, w, b: normalised(x, -1) * w + b,
           draw(3, 4), draw(4), draw(4), tolerance=1e-10)  # fmt: skip
    agrees(
        lambda x: F.layer_norm(x, (3, 4), eps=0.1),
        lambda x: normalised(x, (-2, -1), 0.1),
        draw(2, 3, 4),
        tolerance=1e-10,
    )


def test_rms_norm_formula():
    rms = lambda x, eps: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    agrees(lambda x, w: F.rms_norm(x, (4,), w, 0.1), lambda x, w: rms(x, 0.1) * w, draw(3, 4), draw(4), tolerance=1e-10)
    agrees(lambda x: F.rms_norm(x, (4,)), lambda x: rms(x, np.finfo(x.dtype).eps), draw(3, 4), tolerance=1e-10)


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((3, 5), 1), ((2, 3, 4), 2), ((300, 64), 1), ((0, 5), 1), ((3, 0), 1), ((7, 3001), 1), ((4, 5, 6), 3)],
)
def test_layer_and_rms_norm_kernels(shape, dims):
    last = shape[len(shape) - dims :]
    x, w, b = normal(*shape), normal(*last, seed=1), normal(*last, seed=2)
    kernel_equals_definition(lambda x, w, b: F.layer_norm(x, last, w, b), x, w, b)
    kernel_equals_definition(lambda x, b: F.layer_norm(x, last, None, b), x, b)
    kernel_equals_definition(lambda x, w: F.layer_norm(x, last, w), x, w)
    kernel_equals_definition(lambda x: F.layer_norm(x, last), x)
    kernel_equals_definition(lambda x, w: F.rms_norm(x, last, w), x, w)
    kernel_equals_definition(lambda x: F.rms_norm(x, last), x)


def test_layer_norm_of_strided_input():
    x, w, b = normal(60, 80, 4), normal(40), normal(40)
    for view in (x[:, ::2].transpose(0, 2, 1), np.broadcast_to(x[0, ::2].T, (5, 4, 40))):
        kernel_equals_definition(lambda x, w, b: F.layer_norm(x, 40, w, b), view, w, b)


@pytest.mark.kernels
def test_a_large_mean_loses_no_digits():
    """Sums of x and x**2 would: (1e4)**2 has no room for a variance of 1 in float32."""
    x = (normal(50, 64) + 1e4).astype(np.float32)
    y = F.layer_norm(Tensor(x), (64,)).data
    np.testing.assert_allclose(y, normalised(x.astype(np.float64), -1), atol=2e-3)  # x itself is only good to 1e-3
    x = x.reshape(5, 10, 8, 8)
    for memory in (x, channels_last(x)):
        y = F.batch_norm(Tensor(memory), None, None, training=True).data
        np.testing.assert_allclose(y, normalised(x.astype(np.float64), (0, 2, 3)), atol=1e-5)
        y = F.group_norm(Tensor(memory), 5).data
        expected = normalised(x.astype(np.float64).reshape(5, 5, -1), -1).reshape(x.shape)
        np.testing.assert_allclose(y, expected, atol=1e-5)


# Batch, group and instance norm


def test_formulas():
    x, w, b = normal(4, 6, 5), draw(6), draw(6)
    scaled = lambda y, w, b: y * channels(w, y) + channels(b, y)
    grouped = lambda x: normalised(x.reshape(4, 2, -1), 2).reshape(x.shape)
    agrees(lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
           lambda x, w, b: scaled(normalised(x, (0, 2)), w, b), x, w, b, tolerance=1e-10)  # fmt: skip
    agrees(lambda x, w, b: F.group_norm(x, 2, w, b), lambda x, w, b: scaled(grouped(x), w, b), x, w, b, tolerance=1e-10)
    agrees(lambda x: F.instance_norm(x), lambda x: normalised(x, 2), x, tolerance=1e-10)
    mean, var = normal(6, seed=3), np.abs(normal(6, seed=4)) + 0.1

    def evaluation(x, w, b):
        one = x.dtype.type if hasattr(x.dtype, "type") else None
        return F.batch_norm(x, Tensor(mean.astype(one)), Tensor(var.astype(one)), w, b)

    agrees(evaluation,
           lambda x, w, b: (x - channels(mean, x)) / np.sqrt(channels(var, x) + 1e-5) * channels(w, x) + channels(b, x),
           x, w, b, tolerance=1e-10)  # fmt: skip


SHAPES = [(4, 6, 5, 3), (8, 6), (3, 6, 7), (2, 6, 40, 30), (2, 6, 3, 2, 4), (1, 6, 2, 1), (16, 96, 9, 9), (300, 6)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory", [lambda x: x, channels_last], ids=["nchw", "channels last"])
def test_kernels_in_both_memory_orders(shape, memory):
    x, c = memory(normal(*shape) + 1), shape[1]
    w, b = normal(c, seed=1), normal(c, seed=2)
    kernel_equals_definition(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), x, w, b)
    kernel_equals_definition(lambda x: F.batch_norm(x, None, None, training=True), x)
    mean, var = normal(c, seed=3), np.abs(normal(c, seed=4)) + 0.1
    kernel_equals_definition(
        lambda x, w, b: F.batch_norm(x, Tensor(mean.astype(x.dtype)), Tensor(var.astype(x.dtype)), w, b), x, w, b
    )
    if len(shape) > 2:
        for groups in (1, 2, c):
            if np.prod(shape[2:]) * c // groups > 2:
                kernel_equals_definition(lambda x, w, b, g=groups: F.group_norm(x, g, w, b), x, w, b)
        if np.prod(shape[2:]) > 2:
            kernel_equals_definition(lambda x, w, b: F.instance_norm(x, None, None, w, b), x, w, b)


BEHIND = ["relu", "gelu", "gelu_tanh", "silu", "mish"]


@pytest.mark.parametrize("name", BEHIND)
def test_group_norm_and_an_activation_formula(name):
    alone = F.gelu if name == "gelu_tanh" else getattr(F, name)
    settings = {"approximate": "tanh"} if name == "gelu_tanh" else {}
    x, w, b = [Tensor(a) for a in (normal(4, 6, 5), normal(6, seed=1), normal(6, seed=2))]
    expected = alone(F.group_norm(x, 2, w, b, 0.1), **settings)
    np.testing.assert_allclose(F.group_norm_activation(x, 2, w, b, 0.1, name).data, expected.data, atol=1e-12)
    layer = minigen.nn.GroupNorm(2, 6)
    same = F.group_norm_activation(x.float(), 2, layer.weight, layer.bias, layer.eps, name)
    np.testing.assert_array_equal(layer(x.float(), name).data, same.data)


@pytest.mark.parametrize("memory", [lambda x: x, channels_last], ids=["nchw", "channels last"])
@pytest.mark.parametrize(
    ("name", "shape"), [*((name, SHAPES[0]) for name in BEHIND), *(("silu", shape) for shape in SHAPES[1:])]
)
def test_group_norm_and_an_activation_kernels(name, shape, memory):
    """What a norm of very few numbers gives is steep in them; they are left to the float64 tests."""
    x, c = memory(normal(*shape) + 1), shape[1]
    w, b = normal(c, seed=1), normal(c, seed=2)
    for groups in (1, 2, c):
        if np.prod(shape[2:]) * c // groups > 2:
            activated = lambda x, *given, g=groups: F.group_norm_activation(x, g, *given, activation=name)
            kernel_equals_definition(activated, x, w, b)
            kernel_equals_definition(activated, x)


def test_group_norm_and_an_activation_of_strided_and_empty_input():
    x = normal(4, 12, 10, 8)
    for view in (x[:, ::2], x[:, :6, ::2, ::3], np.broadcast_to(x[:1, :6], (4, 6, 10, 8))):
        kernel_equals_definition(lambda x: F.group_norm_activation(x, 3), view)
    for shape in ((0, 6, 3), (4, 6, 0), (0, 6)):
        assert F.group_norm_activation(Tensor(np.zeros(shape, np.float32)), 2).shape == shape


@pytest.mark.kernels
def test_what_the_norm_gives_is_not_kept():
    """The activation's own op would keep it: as many numbers again as x has."""
    x = Tensor(normal(8, 8, 32, 32).astype(np.float32), requires_grad=True)
    kept = [a for saved in F.group_norm_activation(x, 4).node.saved for a in saved if isinstance(a, np.ndarray)]
    assert any(a is x.data for a in kept) and sum(a.nbytes for a in kept if a is not x.data) < x.data.nbytes / 20


@pytest.mark.kernels
@pytest.mark.parametrize("memory", [lambda x: x, channels_last], ids=["nchw", "channels last"])
def test_the_memory_order_stays(memory):
    x = Tensor(memory(normal(4, 8, 6, 5).astype(np.float32)), requires_grad=True)
    for y in (
        F.group_norm(x, 4),
        F.group_norm_activation(x, 4),
        F.batch_norm(x, None, None, training=True),
        F.instance_norm(x),
    ):
        assert y.data.strides == x.data.strides
        (g,) = minigen.autograd.grad(y.sum(), [x])
        assert g.data.strides == x.data.strides


def test_strided_and_empty_input():
    x = normal(4, 12, 10, 8)
    for view in (x[:, ::2], x[:, :6, ::2, ::3], np.broadcast_to(x[:1, :6], (4, 6, 10, 8))):
        kernel_equals_definition(lambda x: F.group_norm(x, 3), view)
        kernel_equals_definition(lambda x: F.batch_norm(x, None, None, training=True), view)
    for shape in ((0, 6, 3), (4, 6, 0), (0, 6)):
        assert F.batch_norm(Tensor(np.zeros(shape, np.float32)), None, None, training=True).shape == shape
        assert F.group_norm(Tensor(np.zeros(shape, np.float32)), 2).shape == shape


def test_the_same_bits_on_any_threads():
    w, b = normal(8), normal(8)
    for memory in (lambda x: x, channels_last):
        x = memory(normal(4, 8, 30, 20))
        same_bits_on_any_threads(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), x, w, b)
        same_bits_on_any_threads(lambda x, w, b: F.group_norm(x, 2, w, b), x, w, b)
        same_bits_on_any_threads(lambda x, w, b: F.group_norm_activation(x, 2, w, b), x, w, b)
    same_bits_on_any_threads(lambda x, w, b: F.layer_norm(x, 8, w, b), normal(4000, 8), w, b)
    same_bits_on_any_threads(lambda x, w: F.rms_norm(x, 8, w), normal(4000, 8), w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics(dtype):
    x = normal(4, 3, 5).astype(dtype)
    mean, var = Tensor(np.zeros(3, dtype)), Tensor(np.ones(3, dtype))
    F.batch_norm(Tensor(x), mean, var, training=True, momentum=0.3)
    np.testing.assert_allclose(mean.data, 0.3 * x.mean((0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var.data, 0.7 + 0.3 * x.var((0, 2), ddof=1), rtol=1e-5)
    assert mean.dtype == dtype
    mean, var = Tensor(np.zeros(3, dtype)), Tensor(np.ones(3, dtype))
    F.instance_norm(Tensor(x), mean, var, momentum=0.3)
    np.testing.assert_allclose(mean.data, 0.3 * x.mean((0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var.data, 0.7 + 0.3 * x.var(2, ddof=1).mean(0), rtol=1e-5)
    y = F.instance_norm(Tensor(x), mean, var, use_input_stats=False).data
    expected = (x - channels(mean.data, x)) / np.sqrt(channels(var.data, x) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_the_batch_are_a_constant_to_the_running_ones():
    x = Tensor(normal(4, 3).astype(np.float32), requires_grad=True)
    mean = Tensor(np.zeros(3, np.float32))
    F.batch_norm(x, mean, Tensor(np.ones(3, np.float32)), training=True)
    assert mean.node is None and not mean.requires_grad


# Lengths and angles


def test_lengths_and_angles():
    x, y = draw(3, 4), draw(3, 4, seed=1)
    length = lambda x, p, d: (np.abs(x) ** p).sum(d, keepdims=True) ** (1 / p)
    agrees(F.normalize, lambda x: x / length(x, 2, 1), x, tolerance=1e-10)
    agrees(lambda x: F.normalize(x, 3.0, 0), lambda x: x / length(x, 3, 0), x, tolerance=1e-10)
    agrees(F.cosine_similarity,
           lambda x, y: (x * y).sum(1) / (length(x, 2, 1) * length(y, 2, 1))[:, 0], x, y, tolerance=1e-10)  # fmt: skip
    agrees(F.pairwise_distance, lambda x, y: np.linalg.norm(x - y + 1e-6, axis=-1), x, y, tolerance=1e-10)
    assert F.normalize(Tensor(np.zeros((2, 3)))).data.tolist() == [[0] * 3] * 2
    assert F.cosine_similarity(Tensor(x[:, None]), Tensor(y), dim=-1).shape == (3, 3)


def test_local_response_norm():
    def reference(x):
        padded = np.pad(x * x, ((0, 0), (1, 1), (0, 0)))
        total = sum(padded[:, i : i + x.shape[1]] for i in range(3))
        return x / (1 + 0.2 / 3 * total) ** 0.75

    agrees(lambda x: F.local_response_norm(x, 3, 0.2), reference, draw(2, 5, 3), tolerance=1e-10)


def test_second_gradients():
    gradients_are_right(lambda x, w: F.layer_norm(x, (4,), w) ** 2, draw(3, 4), draw(4))
    gradients_are_right(lambda x: F.batch_norm(x, None, None, training=True) ** 2, draw(4, 3))
    for name in BEHIND:
        activated = lambda x, *given, name=name: F.group_norm_activation(x, 2, *given, activation=name)
        gradients_are_right(activated, draw(2, 4, 3), draw(4), draw(4))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.layer_norm(x, (5,)), errors.ShapeError, "normalized_shape"),
        (lambda x: F.layer_norm(x, (3,), Tensor(draw(4))), errors.ShapeError, "weight and bias"),
        (lambda x: F.layer_norm(x, (3,), Tensor(draw(3).astype(np.float32))), errors.DtypeError, "several types"),
        (lambda x: F.layer_norm(x, ()), errors.ArgumentError, "dimension"),
        (lambda x: F.rms_norm(x, (4, 3)), errors.ShapeError, "normalized_shape"),
        (lambda x: F.batch_norm(x, None, None), errors.ArgumentError, "training=True"),
        (lambda x: F.batch_norm(x[:1], None, None, training=True), errors.ShapeError, "eval"),
        (lambda x: F.batch_norm(x, None, None, Tensor(draw(2)), training=True), errors.ShapeError, "3 channels"),
        (lambda x: F.batch_norm(x[0], None, None, training=True), errors.ShapeError, "N, C"),
        (lambda x: F.group_norm(x, 2), errors.ArgumentError, "equal groups"),
        (lambda x: F.group_norm_activation(x, 2), errors.ArgumentError, "group_norm_activation: .*equal groups"),
        (
            lambda x: F.group_norm_activation(x, 1, activation="selu"),
            errors.ArgumentError,
            "is one of relu, gelu",
        ),
        (lambda x: F.instance_norm(x[:, :, None]), errors.ShapeError, "more than one"),
        (lambda x: F.cosine_similarity(x, x[:, :2]), errors.ShapeError, "broadcast"),
        (lambda x: F.local_response_norm(x, 2), errors.ShapeError, "N, C"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(2, 3)))
