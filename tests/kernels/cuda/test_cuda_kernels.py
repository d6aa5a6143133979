"""Every CUDA kernel beside its CPU twin, in each type, on odd, tiny, empty and large shapes.

They run in the emulator (emulator.py), and on a card where there is one. The twin gets the same numbers in float32;
what a kernel gives in a 16-bit type must be the twin's result rounded to it.
"""

import numpy as np
import pytest

from minigen.kernels.cpu import activations as cpu_activations
from minigen.kernels.cpu import dropout as cpu_dropout
from minigen.kernels.cpu import embedding as cpu_embedding
from minigen.kernels.cpu import layer_norm as cpu_layer_norm
from minigen.kernels.cpu import losses as cpu_losses
from minigen.kernels.cpu import optim as cpu_optim
from minigen.kernels.cpu import random as cpu_random
from minigen.kernels.cpu import softmax as cpu_softmax
from minigen.kernels.cuda import activations, dropout, embedding, layer_norm, losses, optim, random, reduce, softmax

pytestmark = pytest.mark.kernels
F = np.float32
ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # relative, of one rounding to the nearest
LEAST = {"float32": 0.0, "float16": 2.0**-25, "bfloat16": 0.0}  # absolute: float16 has numbers of one bit
SHAPES = [(0,), (1,), (7,), (3, 8), (5, 3, 67), (33, 257)]
# rows of nothing much; every width at which a row's form changes, and one beside it; rows of odd bytes
ROWS = [(1, 1), (3, 5), (9, 128), (2, 129), (17, 256), (4, 511), (3, 1000), (8, 1024), (2, 1025), (3, 4099), (1, 9000)]


def draw(shape, dtype=F, scale=1.0, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def wide(x):
    return x.astype(F) if isinstance(x, np.ndarray) and x.dtype.itemsize == 2 else x


def check(got, want, relative=2e-6, absolute=2e-6):
    """got is `want`, or `want` rounded to got's type; `absolute` is in units of the largest number."""
    assert got.shape == want.shape
    if not got.size:
        return
    name, want = got.dtype.name, want.astype(np.float64)
    finite = np.isfinite(want)
    largest = abs(want[finite]).max() if finite.any() else 0
    room = (ROUNDING.get(name, 0) + relative) * abs(want) + absolute * largest + LEAST.get(name, 0)
    got = got.astype(np.float64)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    both = finite & np.isfinite(got)
    assert (got[~both & ~np.isnan(want)] == want[~both & ~np.isnan(want)]).all()
    off, room = abs(got[both] - want[both]), room[both]
    assert (off <= room).all(), f"off by {off[off > room].max():.3g}, where {room[off > room].max():.3g} is allowed"


def layouts(x):
    """x as it is, with its dimensions turned round, with gaps, and from an odd address on."""
    yield x
    if x.ndim > 1:
        yield np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
        yield np.repeat(x, 2, axis=-1)[..., ::2]
    shifted = np.empty(x.size + 1, x.dtype)[1:].reshape(x.shape)
    shifted[...] = x
    yield shifted


# ---- the types ----


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_number_of_a_16_bit_type_is_read_and_rounded(on_gpu, name):
    dtype = np.dtype(name if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    x = np.arange(2**16).astype(np.uint16).view(dtype)
    x = x[np.isfinite(x.astype(F))]
    for factor in (1.0, 0.7, 3.0):
        with np.errstate(over="ignore"):
            product = x.astype(F) * F(factor)
            want = product.astype(dtype)
        # CuPy compiles with -ftz=true: of a float32 that is denormal, as some bfloat16 are, a card makes nothing.
        usual = (x == 0) | (np.minimum(abs(x.astype(F)), abs(product)) >= np.finfo(F).tiny)
        got = on_gpu.in_place(optim.scale, x, factor)[0][usual]
        assert np.array_equal(got.view(np.uint16), want[usual].view(np.uint16))
    special = np.array([np.nan, np.inf, -np.inf, -0.0], dtype)
    got = on_gpu.in_place(optim.scale, special, 1.0)[0].astype(F)
    assert np.isnan(got[0]) and got[1] == np.inf and got[2] == -np.inf and np.signbit(got[3])


# ---- activations ----


@pytest.mark.parametrize("name", list(cpu_activations.VALUES))
def test_activations(on_gpu, dtype, name):
    p, q = {"leaky_relu": (0.1, 0.0), "elu": (1.3, 0.0), "softplus": (2.0, 5.0)}.get(name, (0.0, 0.0))
    for shape in SHAPES:
        for x in layouts(draw(shape, dtype, 3.0)):
            y = on_gpu(activations.activation, name, x, p, q)
            check(y, cpu_activations.activation(name, wide(x), p, q))
            assert y.dtype == dtype
            if x.size and np.argsort(x.strides).tolist() != np.argsort(y.strides).tolist():
                assert not x.flags.c_contiguous and not x.T.flags.c_contiguous
            g = draw(shape, dtype, 1.0, 1)
            got = on_gpu(activations.activation_gradient, name, g, x, p, q)
            check(got, cpu_activations.activation_gradient(name, wide(g), wide(x), p, q))


@pytest.mark.parametrize("name", list(cpu_activations.VALUES))
def test_activations_at_the_limits(on_gpu, name):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 100.0, -100.0, 1e-20, -1e-20, 20.0, -3.0, 3.0, 88.0], F)
    p, q = {"leaky_relu": (0.1, 0.0), "elu": (1.0, 0.0), "softplus": (1.0, 20.0)}.get(name, (0.0, 0.0))
    one = np.ones_like(x)
    check(on_gpu(activations.activation, name, x, p, q), cpu_activations.activation(name, x, p, q), absolute=1e-8)
    got = on_gpu(activations.activation_gradient, name, one, x, p, q)
    check(got, cpu_activations.activation_gradient(name, one, x, p, q))


def test_an_activation_keeps_the_memory_order(on_gpu, dtype):
    x = np.moveaxis(draw((2, 5, 5, 3), dtype), -1, 1)  # (2, 3, 5, 5) over channels-last memory
    y = on_gpu(activations.activation, "relu", x)
    assert y.strides == x.strides


# ---- softmax and cross-entropy ----


@pytest.mark.parametrize("shape", ROWS)
def test_softmax(on_gpu, dtype, shape):
    for x in list(layouts(draw(shape, dtype, 4.0)))[-2:]:
        for name in ("softmax", "log_softmax"):
            forward, gradient = getattr(softmax, name), getattr(softmax, f"{name}_gradient")
            y = on_gpu(forward, x)
            check(y, getattr(cpu_softmax, name)(wide(x)))
            g = draw(shape, dtype, 1.0, 1)
            check(on_gpu(gradient, g, y), getattr(cpu_softmax, f"{name}_gradient")(wide(g), wide(y)))


@pytest.mark.parametrize("width", [9, 2050])
def test_softmax_of_masked_rows(on_gpu, width):
    x = draw((6, width), F, 3.0)
    x[0, 1:] = -np.inf
    x[1, : width // 2] = -np.inf
    x[2] = -np.inf
    x[3, 4] = np.nan
    x[4, 2] = np.inf
    x[5] += F(1e4)
    with np.errstate(all="ignore"):
        shifted = x.astype(np.float64) - x.max(1, keepdims=True)
        total = np.exp(shifted).sum(1, keepdims=True)
        check(on_gpu(softmax.softmax, x), np.exp(shifted) / total, relative=1e-5)
        check(on_gpu(softmax.log_softmax, x), shifted - np.log(total))
        loss, lse = on_gpu(softmax.cross_entropy, x, np.zeros(6, np.int64))
        check(loss, (np.log(total) - shifted[:, :1])[:, 0])
        check(lse, (x.max(1, keepdims=True) + np.log(total))[:, 0])


@pytest.mark.parametrize("shape", [(0, 4), *ROWS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(on_gpu, dtype, shape, smoothing, weighted):
    n, width = shape
    x, weight = draw(shape, dtype, 3.0), abs(draw(width, F, 1.0, 2)) if weighted else None
    target = np.random.default_rng(3).integers(0, width, n)
    target[n // 2 : n // 2 + 1] = -100
    numbers = target, weight, -100, smoothing
    loss, lse = on_gpu(softmax.cross_entropy, x, *numbers)
    want_loss, want_lse = cpu_softmax.cross_entropy(wide(x), *numbers)
    check(loss, want_loss, relative=1e-5)
    check(lse, want_lse)
    g = draw(n, F, 1.0, 1)
    got = on_gpu(softmax.cross_entropy_gradient, g, x, target, lse, weight, -100, smoothing)
    check(got, cpu_softmax.cross_entropy_gradient(g, wide(x), target, lse, weight, -100, smoothing), absolute=5e-6)


# ---- layer norm and RMS norm ----


@pytest.mark.parametrize("shape", [*ROWS[1::2], (1, 1), (8, 1024), (3, 4099), (700, 20), (70, 1030)])
def test_norms(on_gpu, dtype, shape):
    x, g = list(layouts(draw(shape, dtype)))[-1] + dtype.type(2), draw(shape, dtype, 1.0, 3)
    for kind in {None, np.dtype(F), dtype}:  # no weight and bias, or of this type
        weight, bias = (draw(shape[1], kind, 1.0, seed) if kind else None for seed in (1, 2))
        y, mean, rstd = on_gpu(layer_norm.layer_norm, x, weight, bias, 1e-5)
        want, want_mean, want_rstd = cpu_layer_norm.layer_norm(wide(x), wide(weight), wide(bias), 1e-5)
        if shape[1] > 1:  # one number less itself is nothing but rounding
            check(mean, want_mean)
            check(rstd, want_rstd, relative=1e-5)
            check(y, want, absolute=1e-5)
        got = on_gpu(layer_norm.layer_norm_gradient, g, x, weight, mean, rstd)
        want = cpu_layer_norm.layer_norm_gradient(wide(g), wide(x), wide(weight), mean, rstd)
        compare_gradients(got, want, weight, shape)

        y, rstd = on_gpu(layer_norm.rms_norm, x, weight, 1e-5)
        want, want_rstd = cpu_layer_norm.rms_norm(wide(x), wide(weight), 1e-5)
        check(rstd, want_rstd)
        check(y, want)
        got = on_gpu(layer_norm.rms_norm_gradient, g, x, weight, rstd)
        want = cpu_layer_norm.rms_norm_gradient(wide(g), wide(x), wide(weight), rstd)
        compare_gradients(got, want, weight, shape)


def compare_gradients(got, want, weight, shape):
    check(got[0], want[0], absolute=1e-5 if shape[1] > 1 else 1.0)
    if weight is not None:
        assert got[1].dtype == weight.dtype
        for one, other in zip(got[1:], want[1:]):
            check(one, other, absolute=1e-5)


@pytest.mark.parametrize("shape", [(9, 128), (3, 1000), (2, 1030), (70, 20)])
def test_norms_of_float32_with_results_in_16_bits(on_gpu, dtype, shape):
    x, g = draw(shape) + F(2), draw(shape, dtype, 1.0, 3)
    weight, bias = draw(shape[1], F, 1.0, 1), draw(shape[1], F, 1.0, 2)
    rooms = [np.full(shape[1], np.nan, F) for _ in range(2)]
    for into in ((None, None), rooms, (rooms[0], None)):
        y, mean, rstd = on_gpu(layer_norm.layer_norm, x, weight, bias, 1e-5, 1, dtype)
        assert y.dtype == dtype
        check(y, cpu_layer_norm.layer_norm(x, weight, bias, 1e-5)[0], absolute=1e-5)
        gradient = lambda g, x, w, m, r, one, other: layer_norm.layer_norm_gradient(g, x, w, m, r, 1, (one, other))
        got = on_gpu(gradient, g, x, weight, mean, rstd, *into)
        assert got[0].dtype == F
        compare_gradients(got, cpu_layer_norm.layer_norm_gradient(wide(g), x, weight, mean, rstd), weight, shape)
    y, rstd = on_gpu(layer_norm.rms_norm, x, weight, 1e-5, 1, dtype)
    check(y, cpu_layer_norm.rms_norm(x, weight, 1e-5)[0])
    got = on_gpu(layer_norm.rms_norm_gradient, g, x, weight, rstd)
    compare_gradients(got, cpu_layer_norm.rms_norm_gradient(wide(g), x, weight, rstd), weight, shape)


def test_layer_norm_over_two_dimensions_with_a_bias_alone(on_gpu):
    x, bias = draw((2, 3, 4, 5)), draw((4, 5), F, 1.0, 1)
    y, mean, rstd = on_gpu(layer_norm.layer_norm, x, None, bias, 1e-5, 2)
    check(y, cpu_layer_norm.layer_norm(x, None, bias, 1e-5, 2)[0])
    g = draw(x.shape, F, 1.0, 2)
    got = on_gpu(layer_norm.layer_norm_gradient, g, x, None, mean, rstd, 2)
    want = cpu_layer_norm.layer_norm_gradient(g, x, None, mean, rstd, 2)
    check(got[0], want[0])
    check(got[2], want[2])


def test_layer_norm_far_from_zero(on_gpu):
    x = draw((4, 300)) + F(1e4)
    y = on_gpu(layer_norm.layer_norm, x, None, None, 1e-5)[0]
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    assert (
        abs(y - exact).max() < 2e-3
    )  # the mean is held to 1e-3 in float32; squares less the square of the mean lose all


# ---- sums ----


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 7), (200, 33), (2, 129, 256), (5000, 3), (2, 1500)])
def test_sums(on_gpu, dtype, shape):
    for x in layouts(draw(shape, dtype)):
        exact = x.astype(np.float64)
        got = on_gpu(reduce.sum_leading, x)
        assert got.dtype == dtype
        check(got, exact.reshape(-1, shape[-1]).sum(0), absolute=1e-5)
        total, squares = on_gpu(reduce.sum_all, x), on_gpu(reduce.sum_squares, x)
        assert total.dtype == squares.dtype == np.float64 and total.shape == ()
        assert abs(total - exact.sum()) <= 1e-6 * abs(exact).sum()
        assert abs(squares - (exact * exact).sum()) <= 1e-6 * (exact * exact).sum()


def test_a_large_sum_is_made_in_parts(on_gpu):
    x = draw((3, 50001))
    assert abs(on_gpu(reduce.sum_all, x) - x.sum(dtype=np.float64)) < 1e-2
    assert reduce.parts_of(x)[0].size == 10


@pytest.mark.parametrize("rows", [90, 20])  # several parts, and one
def test_sum_leading_into_an_array(on_gpu, dtype, rows):
    x, into = draw((rows, 12), dtype), np.full(12, np.nan, F)

    def write(x, into):
        assert reduce.sum_leading(x, into) is into

    _, into = on_gpu.in_place(write, x, into)
    check(into, wide(x).sum(0))


# ---- optimisers ----

SIZES = [1, 7, 64, 3001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("momentum, nesterov, maximize", [(0.0, False, False), (0.9, False, True), (0.9, True, False)])
def test_sgd(on_gpu, dtype, size, momentum, nesterov, maximize):
    p, g, buffer = draw(size), draw(size, dtype, 1.0, 1), draw(size, F, 1.0, 2) if momentum else None
    numbers = 0.1, momentum, 0.2, 0.01, nesterov, maximize
    got = on_gpu.in_place(optim.sgd, p, g, buffer, *numbers)
    cpu_optim.sgd(p, wide(g), buffer, *numbers)
    check(got[0], p)
    if momentum:
        check(got[2], buffer)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "decoupled, amsgrad, maximize", [(False, False, False), (True, False, False), (True, True, True)]
)
def test_adam(on_gpu, dtype, size, decoupled, amsgrad, maximize):
    p, g, m, v = draw(size), draw(size, dtype, 1.0, 1), draw(size, F, 0.1, 2), abs(draw(size, F, 0.1, 3))
    most = abs(draw(size, F, 0.1, 4)) if amsgrad else None
    numbers = 3, 1e-2, 0.9, 0.999, 1e-8, 0.1, decoupled, maximize
    got = on_gpu.in_place(optim.adam, p, g, m, v, most, *numbers)
    cpu_optim.adam(p, wide(g), m, v, most, *numbers)
    for one, other in zip((got[0], got[2], got[3], got[4]), (p, m, v, most)):
        if other is not None:
            check(one, other)


@pytest.mark.parametrize("size", SIZES)
def test_lerp_and_scale(on_gpu, dtype, size):
    a, b = draw(size), draw(size, dtype, 1.0, 1)
    got = on_gpu.in_place(optim.lerp, a, b, 0.3)[0]
    cpu_optim.lerp(a, wide(b), 0.3)
    check(got, a)
    check(on_gpu.in_place(optim.scale, b, 0.7)[0], wide(b) * F(0.7))


# ---- random numbers ----


@pytest.mark.parametrize("n", [0, 1, 5, 4096, 10001])
@pytest.mark.parametrize("place", [(0, 0, 0), (2**64 - 1, 7, 12345), (99, 2**63 + 5, 2**64 - 100)])
def test_random_numbers_are_the_same_bits_as_on_the_cpu(on_gpu, n, place):
    assert np.array_equal(on_gpu(random.bits, *place, n), cpu_random.bits(*place, n))
    got, want = on_gpu(random.normal, *place, n), cpu_random.normal(*place, n)
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_drops_what_the_cpu_drops(on_gpu, dtype, shape):
    for x in layouts(draw(shape, dtype)):
        numbers = 2**30, 4 / 3, 5, 2**63 + 1, 2**64 - 2
        y = on_gpu(dropout.dropout, x, *numbers)
        check(y, cpu_dropout.dropout(wide(x), *numbers))
        assert y.dtype == dtype


# ---- losses ----


@pytest.mark.parametrize("name", list(cpu_losses.LOSSES))
def test_losses(on_gpu, dtype, name):
    p = 0.8
    for shape in [*SHAPES, (3, 7001)]:
        t = abs(draw(shape, dtype, 0.5, 1))
        t.reshape(-1)[:1] = 0
        for x in layouts(draw(shape, dtype)):
            want = cpu_losses.loss_each(name, wide(x), wide(t), p)
            check(on_gpu(losses.loss_each, name, x, t, p), want)
            total = on_gpu(losses.loss_sum, name, x, t, p)
            assert total.dtype == F and total.shape == ()
            check(total, want.sum(dtype=np.float64))
            g = draw(shape, dtype, 1.0, 2)
            got = on_gpu(losses.loss_gradient, name, g, x, t, p)
            check(got, cpu_losses.loss_gradient(name, wide(g), wide(x), wide(t), p))
            one = np.array(0.3, F)
            got = on_gpu(losses.loss_gradient, name, one, x, t, p)
            check(got, cpu_losses.loss_gradient(name, one, wide(x), wide(t), p))


def test_weighted_bce(on_gpu, dtype):
    x, t, g = draw((5, 3, 67), dtype, 2.0), abs(draw((5, 3, 67), dtype, 0.5, 1)), draw((5, 3, 67), dtype, 1.0, 2)
    for weight, pos in [(None, None), (abs(draw((3, 1), dtype, 1.0, 3)), abs(draw(67, dtype, 1.0, 4)))]:
        got = on_gpu(losses.weighted_bce_with_logits, x, t, weight, pos)
        check(got, cpu_losses.weighted_bce_with_logits(wide(x), wide(t), wide(weight), wide(pos)))
        got = on_gpu(losses.weighted_bce_with_logits_gradient, g, x, t, weight, pos)
        check(got, cpu_losses.weighted_bce_with_logits_gradient(wide(g), wide(x), wide(t), wide(weight), wide(pos)))


# ---- embedding ----


@pytest.mark.parametrize(
    "n, rows, width", [(0, 3, 4), (1, 1, 1), (5, 2, 7), (300, 10, 33), (700, 70000, 3), (40, 300, 1100)]
)
def test_embedding(on_gpu, dtype, n, rows, width):
    rng = np.random.default_rng(5)
    table, index = draw((rows, width), dtype), (rng.integers(0, rows, n) * rng.integers(0, 2, n)).reshape(n, 1)
    got = on_gpu(embedding.embedding, table, index)
    assert np.array_equal(got, table[index])
    g = draw((n, 1, width), dtype, 1.0, 1)
    for padding in (None, 0):
        got = on_gpu(embedding.embedding_gradient, g, index, rows, padding)
        want = cpu_embedding.embedding_gradient(wide(g), index, rows, padding)
        check(got, want, relative=0, absolute=0)  # the sums are in the same order
