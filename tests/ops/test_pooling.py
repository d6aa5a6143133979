"""Pooling: against loops over single windows, kernels against definitions, gradients."""

import itertools
from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

from minigen import Tensor
from minigen.errors import ArgumentError, DimError, DtypeError, ShapeError
from minigen.ops import pooling

random = np.random.default_rng(0)
MAX = pooling.max_pool1d, pooling.max_pool2d, pooling.max_pool3d
AVG = pooling.avg_pool1d, pooling.avg_pool2d, pooling.avg_pool3d
ADAPTIVE_AVG = pooling.adaptive_avg_pool1d, pooling.adaptive_avg_pool2d, pooling.adaptive_avg_pool3d
ADAPTIVE_MAX = pooling.adaptive_max_pool1d, pooling.adaptive_max_pool2d, pooling.adaptive_max_pool3d


def draw(*shape):
    return random.standard_normal(shape)


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def windows(size, k, s, p, d, ceil_mode):
    """For each window along one dimension, its places inside and how many it has inside the input or its padding."""
    count = (size + 2 * p - d * (k - 1) - 1) / s + 1
    count = int(np.ceil(count) if ceil_mode else np.floor(count))
    if ceil_mode and (count - 1) * s >= size + p:
        count -= 1
    for q in range(count):
        places = [q * s - p + d * t for t in range(k)]
        yield [i for i in places if 0 <= i < size], len([i for i in places if i < size + p])


def by_windows(x, k, s, p, d, ceil_mode, reduce):
    """reduce(the elements of a window, how many places it has with the padding), for each window of each plane."""
    lines = [list(windows(n, k, s, p, d, ceil_mode)) for n in x.shape[2:]]
    y = np.zeros((*x.shape[:2], *map(len, lines)))
    for q in itertools.product(*[range(len(line)) for line in lines]):
        seen = np.ix_(*map(range, x.shape[:2]), *[lines[i][j][0] for i, j in enumerate(q)])
        full = np.prod([lines[i][j][1] for i, j in enumerate(q)])
        y[(..., *q)] = reduce(x[seen].reshape(*x.shape[:2], -1), full)
    return y


# (kernel, stride, padding, ceil_mode)
GEOMETRY = [(2, 2, 0, False), (3, 2, 1, False), (3, 2, 1, True), (3, 1, 1, False), (2, 3, 0, True), (1, 2, 0, False)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_equal_windows(dims, dtype):
    for (k, s, p, ceil_mode), C in itertools.product(GEOMETRY, (3, 5)):
        x = draw(2, C, *(7, 6, 5)[:dims]).astype(dtype)
        for order in (x, channels_last(x)):
            t = Tensor(order)
            y = MAX[dims - 1](t, k, s, p, ceil_mode=ceil_mode)
            expected = by_windows(x, k, s, p, 1, ceil_mode, lambda seen, full: seen.max(-1))
            assert y.dtype == dtype
            np.testing.assert_array_equal(y.numpy(), expected.astype(dtype))
            for counted in (True, False):
                y = AVG[dims - 1](t, k, s, p, ceil_mode, counted)
                mean = lambda seen, full, counted=counted: seen.sum(-1) / (full if counted else seen.shape[-1])
                expected = by_windows(x, k, s, p, 1, ceil_mode, mean)
                assert y.dtype == dtype
                np.testing.assert_allclose(y.numpy(), expected, atol=1e-6)


def test_dilation_and_one_number_for_each_dimension():
    x = draw(2, 5, 9, 8)
    y = pooling.max_pool2d(Tensor(x), 3, 2, 1, dilation=2)
    np.testing.assert_array_equal(y.numpy(), by_windows(x, 3, 2, 1, 2, False, lambda seen, full: seen.max(-1)))
    kernel_equals_definition(partial(pooling.max_pool2d, kernel_size=(3, 2), stride=(1, 2), padding=(1, 0)), x)
    kernel_equals_definition(partial(pooling.avg_pool2d, kernel_size=(3, 2), stride=(1, 2), padding=(1, 0)), x)


def test_kernel_equals_definition():
    for dims, C in itertools.product((1, 2, 3), (1, 3, 20, 70)):
        x = draw(2, C, *(9, 8, 5)[:dims])
        for k, s, p, ceil_mode in GEOMETRY[1:4]:
            options = {"kernel_size": k, "stride": s, "padding": p, "ceil_mode": ceil_mode}
            for order in (x, channels_last(x)):
                kernel_equals_definition(partial(MAX[dims - 1], **options, return_indices=True), order)
                kernel_equals_definition(partial(AVG[dims - 1], **options, count_include_pad=False), order)


@pytest.mark.parametrize("C", [1, 3, 20])
@pytest.mark.parametrize("k, d", [((3, 7), 1), ((2, 8), 1), ((1, 19), 1), ((5, 41), 1), ((2, 9), 2)])
def test_wide_windows(C, k, d):
    """Those with more taps in a line than are added up at a time."""
    x = draw(2, C, 5, 41)
    for order in (x, channels_last(x)):
        window = pooling.Window((1, 2), (0, 3), (d, d))
        count = [(n + 2 * p - d * (size - 1) - 1) // s + 1 for n, size, s, p in zip((5, 41), k, *window[:2])]
        sums = partial(pooling._window_sums, kernel=k, count=tuple(count), window=window, scale=0.5)
        kernel_equals_definition(sums, order)
    kernel_equals_definition(partial(pooling.adaptive_avg_pool2d, output_size=1), channels_last(x))


def test_divisor():
    x = draw(1, 2, 4, 4)
    y = pooling.avg_pool2d(Tensor(x), 2, divisor_override=3)
    np.testing.assert_allclose(y.numpy(), by_windows(x, 2, 2, 0, 1, False, lambda seen, full: seen.sum(-1) / 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_and_nans(dtype):
    x = np.zeros((1, 1, 2, 4), dtype)
    x[0, 0, 1, 3] = np.nan
    for order in (x, np.repeat(x, 6, 1), channels_last(np.repeat(x, 6, 1))):
        t = Tensor(order, requires_grad=True)
        y, places = pooling.max_pool2d(t, 2, return_indices=True)
        assert (places.data[:, :, 0, 0] == 0).all()  # of equals the first
        assert np.isnan(y.data[:, :, 0, 1]).all() and (places.data[:, :, 0, 1] == 7).all()
        y.sum().backward()
        assert (t.grad.data[:, :, 0, 0] == 1).all() and (t.grad.data[:, :, 1, 3] == 1).all()
        assert t.grad.data.sum() == 2 * order.shape[1]


@pytest.mark.kernels
def test_results_keep_channels_last():
    x = Tensor(channels_last(draw(2, 8, 6, 6).astype(np.float32)), requires_grad=True)
    y = pooling.max_pool2d(x, 2)
    z = pooling.avg_pool2d(x, 2)
    for t in (y, z):
        assert t.permute(0, 2, 3, 1).is_contiguous()


def test_indices_lead_back():
    x = Tensor(draw(2, 3, 6, 6), requires_grad=True)
    y, places = pooling.max_pool2d(x, 2, return_indices=True)
    flat = x.data.reshape(2, 3, 36)
    np.testing.assert_array_equal(np.take_along_axis(flat, places.data.reshape(2, 3, 9), 2).reshape(y.shape), y.data)
    back = pooling.max_unpool2d(y, places, 2)
    assert back.shape == (2, 3, 6, 6)
    assert ((back.data == x.data) | (back.data == 0)).all() and (back.data != 0).sum() == 54
    back.sum().backward()
    np.testing.assert_array_equal(x.grad.data, back.data != 0)
    larger = pooling.max_unpool2d(y, places, 2, output_size=(7, 6))
    assert larger.shape == (2, 3, 7, 6)
    no_batch = pooling.max_unpool2d(y.detach()[0], Tensor(places.data[0]), 2)
    np.testing.assert_array_equal(no_batch.data, back.data[0])


def by_even_windows(x, size, reduce):
    y = np.zeros((*x.shape[:2], *size))
    for q in itertools.product(*map(range, size)):
        seen = [slice(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(q, x.shape[2:], size)]
        y[(..., *q)] = reduce(x[(..., *seen)].reshape(*x.shape[:2], -1))
    return y


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_even_windows(dims):
    for size in [(1, 1, 1), (2, 3, 1), (7, 4, 5), (3, 3, 2), (9, 8, 3)]:
        x, size = draw(2, 3, *(7, 6, 5)[:dims]), size[:dims]
        for function, reduce in [
            (ADAPTIVE_AVG[dims - 1], lambda seen: seen.mean(-1)),
            (ADAPTIVE_MAX[dims - 1], lambda seen: seen.max(-1)),
        ]:
            expected = by_even_windows(x, size, reduce)
            np.testing.assert_allclose(function(Tensor(x), size).numpy(), expected, atol=1e-12)
            kernel_equals_definition(partial(function, output_size=size), x)
            kernel_equals_definition(partial(function, output_size=size), channels_last(np.repeat(x, 3, 1)))
    y = pooling.adaptive_avg_pool2d(Tensor(draw(1, 2, 5, 6)), (None, 2))
    assert y.shape == (1, 2, 5, 2)


def test_adaptive_max_indices():
    x = draw(2, 3, 7, 5)
    y, places = pooling.adaptive_max_pool2d(Tensor(x), (3, 2), return_indices=True)
    flat = np.take_along_axis(x.reshape(2, 3, 35), places.data.reshape(2, 3, 6), 2)
    np.testing.assert_array_equal(flat.reshape(y.shape), y.data)


def test_p_norms():
    x = np.abs(draw(2, 3, 6, 6))
    y = pooling.lp_pool2d(Tensor(x), 3, 2)
    expected = by_windows(x, 2, 2, 0, 1, False, lambda seen, full: (seen**3).sum(-1) ** (1 / 3))
    np.testing.assert_allclose(y.numpy(), expected)
    gradients_are_right(lambda x: pooling.lp_pool2d(x, 3, 2), x)


def test_gradients():
    x = draw(2, 3, 6, 5)
    gradients_are_right(partial(pooling.max_pool2d, kernel_size=3, stride=2, padding=1), x)
    gradients_are_right(partial(pooling.avg_pool2d, kernel_size=3, stride=2, padding=1, ceil_mode=True), x)
    gradients_are_right(partial(pooling.adaptive_avg_pool2d, output_size=(4, 3)), x)
    gradients_are_right(partial(pooling.adaptive_max_pool2d, output_size=(4, 3)), x)
    gradients_are_right(lambda x: pooling.max_pool2d(x * x * x, 2), x)
    gradients_are_right(lambda x: pooling.max_pool1d(x.tanh(), 2), draw(1, 2, 6))
    gradients_are_right(lambda x: pooling.avg_pool3d(x.tanh(), 2), draw(1, 2, 4, 4, 3))
    places = Tensor(np.array([[[1, 5, 2]]]))
    gradients_are_right(lambda x: pooling.max_unpool1d(x.tanh(), places, 2), draw(1, 1, 3))


def test_no_batch_and_empty_batch():
    x = draw(3, 6, 6)
    for function in (pooling.max_pool2d, pooling.avg_pool2d, pooling.adaptive_avg_pool2d, pooling.adaptive_max_pool2d):
        y = function(Tensor(x), 2)
        np.testing.assert_array_equal(y.numpy(), function(Tensor(x[None]), 2).numpy()[0])
        kernel_equals_definition(partial(lambda f, x: f(x, 2), function), draw(0, 3, 6, 6))
        kernel_equals_definition(partial(lambda f, x: f(x, 2), function), x)


def test_same_bits_on_one_thread_and_two():
    x = draw(3, 70, 9, 9)
    same_bits_on_any_threads(partial(pooling.max_pool2d, kernel_size=3, stride=2), x)
    same_bits_on_any_threads(partial(pooling.avg_pool2d, kernel_size=3, stride=2), channels_last(x))
    same_bits_on_any_threads(partial(pooling.adaptive_avg_pool2d, output_size=1), channels_last(draw(5, 70, 9, 29)))


def test_bad_input():
    x = Tensor(draw(2, 3, 6, 6))
    with pytest.raises(ArgumentError, match="padding 2 is more than half of the kernel 3"):
        pooling.max_pool2d(x, 3, padding=2)
    with pytest.raises(ShapeError, match="a window of 7 does not fit into 6"):
        pooling.avg_pool2d(x, 7)
    with pytest.raises(ArgumentError, match="stride must be at least 1"):
        pooling.avg_pool2d(x, 2, 0)
    with pytest.raises(ArgumentError, match="divisor_override"):
        pooling.avg_pool2d(x, 2, divisor_override=0)
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\) or \(C, H, W\)"):
        pooling.max_pool2d(x[0, 0], 2)
    with pytest.raises(ArgumentError, match="output_size"):
        pooling.adaptive_avg_pool2d(x, (2, 2, 2))
    with pytest.raises(ShapeError, match="nothing to pool"):
        pooling.max_pool2d(Tensor(draw(1, 3, 0, 4)), 1)
    y, places = pooling.max_pool2d(x, 2, return_indices=True)
    with pytest.raises(ShapeError, match="within a stride"):
        pooling.max_unpool2d(y, places, 2, output_size=(9, 9))
    with pytest.raises(DimError, match="an index of"):
        pooling.max_unpool2d(y, Tensor(places.data * 9), 2)
    with pytest.raises(DtypeError, match="integers"):
        pooling.max_unpool2d(y, y, 2)


@pytest.mark.torch
def test_equals_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = draw(2, 6, 9, 8)
    for name, arguments in [
        ("max_pool2d", (3, 2, 1)),
        ("max_pool2d", (2, 3, 0, 2, True)),
        ("avg_pool2d", (3, 2, 1, True, False)),
        ("adaptive_avg_pool2d", ((4, 3),)),
        ("adaptive_max_pool2d", ((4, 3),)),
        ("lp_pool2d", (2, 3, 2)),
    ]:
        a, b = Tensor(x.astype(np.float32), requires_grad=True), torch.from_numpy(x).requires_grad_()
        y, z = getattr(pooling, name)(a, *arguments), getattr(functional, name)(b, *arguments)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-5)
        (y * y).sum().backward()
        (z * z).sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-4)
