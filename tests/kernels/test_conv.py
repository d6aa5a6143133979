"""The convolution kernels alone: each against an einsum over a padded array, at the edges of blocks and parts."""

import itertools

import numpy as np
import pytest

pytest.importorskip("numba")
from minigen.kernels.cpu import columns, conv, conv_weight

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape, dtype=np.float32)


def seen(x, kernel, count, window):
    """(N, C, *count, *kernel): what each place sees at each tap, by padding x and indexing."""
    stride, padding, dilation, _ = window
    far = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(count, kernel, stride, dilation)]
    width = [(p, max(0, f - m - p)) for p, f, m in zip(padding, far, x.shape[2:])]
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *width])
    places = [s * np.arange(n)[:, None] + d * np.arange(k) for n, k, s, d in zip(count, kernel, stride, dilation)]
    H, W = places
    return x[:, :, H[:, None, :, None], W[None, :, None, :]]


def close(ours, expected):
    assert ours.dtype == np.float32 and ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-5 * max(1, np.abs(expected).max()))


def check(N, C, O, size, kernel, stride, padding, dilation, groups=1):
    window = (stride, padding, dilation, groups)
    count = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    )
    x, weight, bias = draw(N, C, *size), draw(O, C // groups, *kernel), draw(O)
    g = draw(N, O, *count)
    patches = seen(x, kernel, count, window).reshape(N, groups, C // groups, *count, *kernel)
    factors = weight.astype(np.float64).reshape(groups, O // groups, C // groups, *kernel)
    y = np.einsum("ngchwij,gocij->ngohw", patches, factors).reshape(N, O, *count) + bias[:, None, None]
    close(conv.convolve(x, weight, bias, count, window), y)
    dw = np.einsum("ngchwij,ngohw->gocij", patches, g.astype(np.float64).reshape(N, groups, -1, *count))
    close(conv.correlate(x, g, kernel, window), dw.reshape(weight.shape))
    # spread is the transpose of convolve: <g, convolve(e)> = <spread(g), e> for every e, here random ones
    dx = conv.spread(g, weight, None, size, window)
    for _ in range(3):
        e = draw(*x.shape)
        moved = np.einsum(
            "ngchwij,gocij->ngohw", seen(e, kernel, count, window).reshape(patches.shape), factors
        ).reshape(g.shape)
        left, right = (g * moved).sum(), (dx.astype(np.float64) * e).sum()
        assert abs(left - right) < 1e-4 * np.sqrt(g.size) * max(1, np.abs(moved).max())


CHANNELS = [(1, 9, 1), (4, 9, 1), (5, 9, 1), (9, 4, 1), (9, 5, 1), (4, 4, 1), (8, 8, 8), (6, 12, 3), (2, 6, 2)]


@pytest.mark.parametrize("C, O, groups", CHANNELS)
def test_every_number_of_channels(C, O, groups):
    for k, s, p, d in [(3, 1, 1, 1), (1, 1, 0, 1), (1, 2, 0, 1), (4, 2, 1, 1), (2, 3, 1, 2), (3, 2, 4, 1)]:
        check(2, C, O, (9, 7), (k, k), (s, s), (p, p), (d, d), groups)


def test_places_that_do_not_fill_the_last_block(monkeypatch):
    for module in (conv, conv_weight):
        monkeypatch.setattr(module, "BLOCK", 400)
    monkeypatch.setattr(conv, "TALL", 7)
    for C, O in [(6, 5), (3, 5), (6, 3), (20, 140)]:
        check(3, C, O, (5, 6), (3, 2), (1, 1), (1, 0), (1, 1))
        check(3, C, O, (11, 4), (2, 2), (2, 1), (0, 1), (1, 2))


def test_few_places_and_many_outputs_are_shared_out():
    for groups in (1, 2):
        check(1, 6 * groups, 260 * groups, (5, 6), (3, 3), (1, 1), (1, 1), (1, 1), groups)
        check(1, 260 * groups, 6 * groups, (3, 4), (2, 2), (2, 2), (0, 0), (1, 1), groups)


def test_one_place_and_one_tap():
    for C, O, groups in CHANNELS:
        check(1, C, O, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1), groups)
        check(1, C, O, (3, 3), (3, 3), (1, 1), (0, 0), (1, 1), groups)
        check(2, C, O, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1), groups)


def test_phases_reach_every_pair_of_place_and_tap_once():
    for size, taps, stride, padding, dilation in itertools.product((1, 7), (1, 2, 5), (1, 2, 3, 6), (0, 2), (1, 2, 4)):
        pairs = set()
        for phase, count, reach, start, step in conv.phases_of(size, taps, stride, padding, dilation):
            for place, (i, tap) in itertools.product(range(count), enumerate(reach)):
                pair = (phase + stride * place, tap, place + start + step * i)
                assert pair not in pairs
                pairs.add(pair)
        for p, t in itertools.product(range(size), range(taps)):
            whole, rest = divmod(p + padding - dilation * t, stride)
            assert ((p, t, whole) in pairs) == (rest == 0)


def test_padded_sees_only_inside():
    x = draw(1, 1, 3, 4, 2)
    count, taps, stride, start, step = (1, 3, 2), (1, 2, 3), (1, 1, 2), (0, -1, -3), (1, 2, 1)
    wide, moved = columns.padded(x, count, taps, stride, start, step)
    assert moved == (0, 0, 0)
    for n, size, t, s, d in zip(count, wide.shape[1:4], taps, stride, step):
        assert (n - 1) * s + (t - 1) * d < size
    np.testing.assert_array_equal(wide[:, :, 1:4, 3:7], x)
    assert wide.sum() == pytest.approx(x.sum(), abs=1e-5)
    same, _ = columns.padded(x, (1, 1, 1), (1, 2, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1))
    assert same is x


def test_sum_positions():
    x = draw(3, 5, 40, 30)
    close(conv.sum_positions(x), x.astype(np.float64).sum((0, 2, 3)))
