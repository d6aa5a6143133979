"""`interpolate`: against the formulas written one sample at a time, the kernel against the definition, gradients."""

from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right, kernel_equals_definition, same_bits_on_any_threads

from minigen import Tensor
from minigen.errors import ArgumentError, ShapeError
from minigen.ops.along import Mix, mix
from minigen.ops.resampling import interpolate

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape)


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def sample(row, where, mode):
    """One new sample between the old ones of `row`, at the place `where`."""
    n = len(row)
    if mode == "linear":
        where = max(where, 0.0)
        left = int(np.floor(where))
        t = where - left
        return (1 - t) * row[min(left, n - 1)] + t * row[min(left + 1, n - 1)]
    left, total = int(np.floor(where)), 0.0
    for tap in range(-1, 3):
        d, a = abs(where - left - tap), -0.75
        weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
        total += weight * row[min(max(left + tap, 0), n - 1)]
    return total


def along(x, dim, new, mode, align_corners, scale=None):
    x = np.moveaxis(x, dim, -1)
    old = x.shape[-1]
    y = np.zeros((*x.shape[:-1], new))
    for place in np.ndindex(*y.shape):
        i, row = place[-1], x[place[:-1]]
        apart = old / new if scale is None else 1 / scale
        if mode == "nearest":
            y[place] = row[min(int(np.floor(i * apart)), old - 1)]
        elif mode == "nearest-exact":
            y[place] = row[min(int(np.floor((i + 0.5) * apart)), old - 1)]
        elif align_corners:
            y[place] = sample(row, i * (old - 1) / (new - 1) if new > 1 else 0.0, mode)
        else:
            y[place] = sample(row, (i + 0.5) * apart - 0.5, mode)
    return np.moveaxis(y, -1, dim)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_equals_the_formula(mode, dtype):
    line = {"bilinear": "linear"}.get(mode, mode)
    for size in [(5, 4), (8, 12), (2, 3), (1, 9), (3, 1)]:
        for align_corners in (None, True) if mode in ("bilinear", "bicubic") else (None,):
            x = draw(1, 2, 4, 6).astype(dtype)
            y = interpolate(Tensor(x), size, mode=mode, align_corners=align_corners)
            expected = along(along(x, 2, size[0], line, align_corners), 3, size[1], line, align_corners)
            assert y.dtype == dtype
            np.testing.assert_allclose(y.numpy(), expected, atol=1e-5 if dtype == np.float32 else 1e-12)


def test_one_and_three_dimensions():
    x = draw(2, 3, 5)
    np.testing.assert_allclose(
        interpolate(Tensor(x), 8, mode="linear").numpy(), along(x, 2, 8, "linear", False), atol=1e-12
    )
    x = draw(1, 2, 3, 4, 5)
    expected = x
    for dim, new in zip((2, 3, 4), (4, 2, 7)):
        expected = along(expected, dim, new, "linear", False)
    y = interpolate(Tensor(x), (4, 2, 7), mode="trilinear")
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


def test_the_factor_given_counts_unless_recomputed():
    x = draw(1, 1, 5)
    y = interpolate(Tensor(x), scale_factor=1.5, mode="linear").numpy()  # 7 samples, 1 / 1.5 apart
    np.testing.assert_allclose(y, along(x, 2, 7, "linear", False, scale=1.5), atol=1e-12)
    y = interpolate(Tensor(x), scale_factor=1.5, mode="linear", recompute_scale_factor=True).numpy()
    np.testing.assert_allclose(y, along(x, 2, 7, "linear", False), atol=1e-12)


def test_doubling_repeats_pixels():
    x = draw(1, 2, 3, 4)
    y = interpolate(Tensor(x), scale_factor=2).numpy()
    np.testing.assert_array_equal(y, x.repeat(2, 2).repeat(2, 3))


def test_area_is_the_mean():
    x = draw(1, 2, 4, 6)
    y = interpolate(Tensor(x), (2, 3), mode="area").numpy()
    np.testing.assert_allclose(y, x.reshape(1, 2, 2, 2, 3, 2).mean((3, 5)), atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiasing_looks_at_every_old_sample(mode):
    x = Tensor(draw(1, 1, 12, 12), requires_grad=True)
    interpolate(x, (3, 3), mode=mode, antialias=True).sum().backward()
    assert (x.grad.numpy() != 0).all()
    np.testing.assert_allclose(interpolate(Tensor(np.ones((1, 1, 9, 9))), (4, 2), mode=mode, antialias=True).data, 1)


MODES = [
    {"mode": "nearest"},
    {"mode": "bilinear"},
    {"mode": "bilinear", "align_corners": True},
    {"mode": "bicubic"},
    {"mode": "bicubic", "antialias": True},
    {"mode": "area"},
]


@pytest.mark.parametrize("options", MODES, ids=str)
def test_kernel_equals_definition(options):
    for C, size in [(1, (7, 3)), (3, (4, 12)), (10, (10, 10)), (4, (1, 1))]:
        x = draw(2, C, 5, 6)
        for order in (x, channels_last(x), np.asfortranarray(x), x[:, :, ::-1]):
            kernel_equals_definition(partial(interpolate, size=size, **options), order)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_gradients(options):
    gradients_are_right(partial(interpolate, size=(7, 3), **options), draw(1, 2, 4, 5))
    gradients_are_right(lambda x: interpolate(x.tanh(), scale_factor=1.4, **options), draw(1, 1, 4, 5))


def test_a_transposed_list_is_the_transposed_matrix():
    lists = Mix(random.integers(0, 6, (4, 9)), draw(4, 9) * (random.random((4, 9)) < 0.7), 6)
    forward = mix(np.eye(6), 0, lists)
    np.testing.assert_allclose(mix(np.eye(9), 0, lists.transposed), forward.T)
    assert lists.transposed.transposed is lists


def test_channels_last_stay_so():
    x = Tensor(channels_last(draw(2, 8, 5, 5).astype(np.float32)))
    for mode in ("nearest", "bilinear", "area"):
        y = interpolate(x, (7, 10), mode=mode)
        assert y.permute(0, 2, 3, 1).is_contiguous()


def test_empty_batch():
    kernel_equals_definition(partial(interpolate, scale_factor=2), draw(0, 3, 4, 4))


def test_same_bits_on_one_thread_and_two():
    same_bits_on_any_threads(partial(interpolate, scale_factor=2.3, mode="bicubic"), draw(3, 9, 20, 20))


def test_bad_input():
    x = Tensor(draw(1, 2, 4, 5))
    with pytest.raises(ArgumentError, match="size or scale_factor, and not both"):
        interpolate(x)
    with pytest.raises(ArgumentError, match="mode is one of"):
        interpolate(x, 3, mode="cubic")
    with pytest.raises(ShapeError, match="'linear' resamples 1 dimension"):
        interpolate(x, 3, mode="linear")
    with pytest.raises(ArgumentError, match="takes no align_corners"):
        interpolate(x, 3, align_corners=True)
    with pytest.raises(ArgumentError, match="antialias goes with"):
        interpolate(x, 3, antialias=True)
    with pytest.raises(ShapeError, match="one number, or 2"):
        interpolate(x, (1, 2, 3))
    with pytest.raises(ShapeError, match="at least 1"):
        interpolate(x, scale_factor=0.1)


@pytest.mark.torch
def test_equals_torch():
    torch = pytest.importorskip("torch")
    x = draw(2, 3, 7, 6)
    for options in [*MODES, {"mode": "bilinear", "antialias": True}, {"mode": "nearest-exact"}]:
        for how in ({"size": (4, 11)}, {"scale_factor": 1.7}, {"scale_factor": (0.4, 2.5)}):
            a, b = Tensor(x.astype(np.float32), requires_grad=True), torch.from_numpy(x).requires_grad_()
            y = interpolate(a, **how, **options)
            z = torch.nn.functional.interpolate(b, **how, **options)
            np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-5)
            (y * y).sum().backward()
            (z * z).sum().backward()
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-3)
