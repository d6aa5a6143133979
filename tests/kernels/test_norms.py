"""The loops of the norms: the same bits wherever arrays lie, one pass a sample or four over all, any memory order."""

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import group_norm, norms, pairs
from minigen.kernels.cpu.activations import GRADIENTS, VALUES

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape, dtype=np.float32)


def beside(arrays, gap):
    """Copies that follow one another in one block of memory, `gap` numbers apart."""
    memory, place, views = np.zeros(sum(a.size + 64 for a in arrays) + 64, np.float32), 16, []
    for a in arrays:
        view = memory[place : place + a.size].reshape(a.shape)
        view[...] = a
        views.append(view)
        place += a.size + gap
    return views


@pytest.mark.parametrize("width", [1, 5, 16, 37])
def test_bits_do_not_depend_on_where_arrays_lie(width):
    x, g, per = (
        draw(2, 22, width),
        draw(2, 22, width),
        [draw(2, width) for _ in range(4)],
    )  # 11 rows: 8 and 3, 2 4 and 3
    rows = [a.reshape(44, width) for a in (x, g)]
    per_row = [draw(44) for _ in range(4)]
    y, first, second = np.zeros_like(x), np.zeros((2, 2, width), np.float32), np.zeros((2, 2, width), np.float32)
    calls = [
        (pairs.sums_columns, [x, per[0], first, second], 11),
        (pairs.affine_columns(pairs.itself), [x, *per[:3], y], 11),
        (pairs.gradient_sums_columns, [g, x, per[0], first, second], 11),
        (pairs.gradient_affine_columns, [g, x, *per, y], 11),
        (pairs.sums_rows, [rows[0], *per_row[:3]], 5),
        (pairs.affine_rows(pairs.itself), [rows[0], *per_row[:3], y.reshape(44, width)], 5),
        (pairs.gradient_sums_rows, [rows[1], rows[0], *per_row[:3]], 5),
        (pairs.gradient_affine_rows, [rows[1], rows[0], *per_row, y.reshape(44, width)], 5),
    ]
    slope = GRADIENTS["silu"]
    calls += [
        (pairs.affine_columns(VALUES["silu"]), [x, *per[:3], y], 11),
        (pairs.affine_rows(VALUES["silu"]), [rows[0], *per_row[:3], y.reshape(44, width)], 5),
        (pairs.inner_gradient_columns(slope), [g, x, *per[:3], y, first, second], 11),
        (pairs.inner_gradient_rows(slope), [*rows[::-1], *per_row[:3], y.reshape(44, width), *draw(2, 44)], 5),
    ]
    for loop, arrays, step in calls:
        found = set()
        for gap in (0, 1, 16, 60):
            placed = beside(arrays, gap)
            loop.serial(*placed, step)
            found.add(b"".join(a.tobytes() for a in placed))
        assert len(found) == 1, loop


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 7, 8, 9, 21])
def test_rows_are_taken_several_at_a_time(rows):
    x, g, k, a, b, c = draw(2, rows, 37), draw(2, rows, 37), *draw(4, 2, 37)
    centred = x.astype(np.float64) - k[:, None]
    y, first, second = np.zeros_like(x), np.zeros((2, 1, 37), np.float32), np.zeros((2, 1, 37), np.float32)
    close = lambda found, expected: np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    pairs.sums_columns(x, k, first, second, 32)
    close(first[:, 0], centred.sum(1)), close(second[:, 0], (centred**2).sum(1))
    pairs.gradient_sums_columns(g, x, k, first, second, 32)
    close(first[:, 0], g.sum(1)), close(second[:, 0], (g * centred).sum(1))
    pairs.affine_columns(pairs.itself)(x, k, a, b, y, 32)
    close(y, centred * a[:, None] + b[:, None])
    pairs.gradient_affine_columns(g, x, k, a, b, c, y, 32)
    close(y, g * a[:, None] + centred * b[:, None] + c[:, None])


@pytest.mark.parametrize("name", [None, "silu"])
@pytest.mark.parametrize("shape, groups", [((5, 8, 3, 4), 2), ((4, 6, 50), 6), ((9, 40, 17), 5)])
def test_sample_by_sample_is_the_same_as_all_at_once(shape, groups, name, monkeypatch):
    x, g = [np.moveaxis(draw(shape[0], *shape[2:], shape[1]), -1, 1) for _ in range(2)]
    weight, bias = draw(shape[1]), draw(shape[1])
    results = []
    for several in (1, 100):
        monkeypatch.setattr(group_norm, "SEVERAL", several)
        monkeypatch.setattr(group_norm, "SMALL", 0)
        y, *saved = group_norm.group_norm(x, groups, weight, bias, 1e-5, name)
        results.append([y, *group_norm.group_norm_gradient(g, x, groups, weight, *saved, name)])
        assert y.strides == x.strides
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)
    grouped = x.reshape(shape[0], groups, -1).astype(np.float64)
    expected = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    per_channel = (1, -1, *[1] * (len(shape) - 2))
    expected = expected.reshape(shape) * weight.reshape(per_channel) + bias.reshape(per_channel)
    if name is not None:
        expected = expected / (1 + np.exp(-expected))
    np.testing.assert_allclose(results[0][0], expected, atol=2e-5)


def test_batch_norm_in_either_memory_order_with_a_large_mean():
    x = draw(7, 24, 5, 6) + np.linspace(-3000, 3000, 24, dtype=np.float32).reshape(24, 1, 1)
    g, weight, bias = draw(7, 24, 5, 6), draw(24), draw(24)
    exact = x.astype(np.float64)
    mean, variance = exact.mean((0, 2, 3), keepdims=True), exact.var((0, 2, 3), keepdims=True)
    h = (exact - mean) / np.sqrt(variance + 1e-5)
    v = g * weight.reshape(24, 1, 1).astype(np.float64)
    average = lambda a: a.mean((0, 2, 3), keepdims=True)
    gx = (v - average(v) - h * average(v * h)) / np.sqrt(variance + 1e-5)
    for order in ("usual", "last"):
        x, g = (a if order == "usual" else np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (x, g))
        y, k, offset, rstd, m, _ = norms.batch_norm(x, weight, bias, 1e-5)
        made = norms.batch_norm_gradient(g, x, weight, k, offset, rstd)
        np.testing.assert_allclose(m, mean.ravel(), rtol=1e-6)
        np.testing.assert_allclose(y, h * weight.reshape(24, 1, 1) + bias.reshape(24, 1, 1), atol=2e-3)
        for ours, expected in zip(made, (gx, (g * h).sum((0, 2, 3)), g.sum((0, 2, 3)))):
            np.testing.assert_allclose(ours, expected, atol=5e-3)
