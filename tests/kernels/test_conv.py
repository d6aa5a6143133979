"""The convolution kernels alone: each against an einsum over a padded array, at the edges of blocks and parts."""

import itertools

import numpy as np
import pytest

pytest.importorskip("numba")
import numba

from minigen.kernels.cpu import conv, conv_weight, places

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


CHANNELS = [
    (1, 9, 1),
    (4, 9, 1),
    (5, 9, 1),
    (9, 4, 1),
    (9, 5, 1),
    (4, 4, 1),
    (8, 8, 8),
    (6, 12, 3),
    (2, 6, 2),
    (20, 3, 1),
    (40, 4, 2),
]


@pytest.mark.parametrize("C, O, groups", CHANNELS)
def test_every_number_of_channels(C, O, groups):
    for k, s, p, d in [(3, 1, 1, 1), (1, 1, 0, 1), (1, 2, 0, 1), (4, 2, 1, 1), (2, 3, 1, 2), (3, 2, 4, 1)]:
        check(2, C, O, (9, 7), (k, k), (s, s), (p, p), (d, d), groups)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few places, and tasks of a few rows, so that small arrays have many of them."""
    for name, value in (("LEAST", 7), ("MOST", 11), ("NUMBERS", 400)):
        monkeypatch.setattr(places, name, value)
    monkeypatch.setattr(conv_weight, "SMALL", 100)
    places.places_of.cache_clear()
    yield
    places.places_of.cache_clear()


def test_places_that_do_not_fill_the_last_block(small_blocks):
    for C, O in [(6, 5), (3, 5), (6, 3), (20, 3), (20, 140)]:
        check(3, C, O, (5, 6), (3, 2), (1, 1), (1, 0), (1, 1))
        check(3, C, O, (11, 4), (2, 2), (2, 1), (0, 1), (1, 2))
        check(7, C, O, (2, 2), (2, 1), (1, 1), (0, 0), (1, 1))
        check(5, C, O, (3, 4), (1, 1), (1, 1), (0, 0), (1, 1))


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


@numba.njit
def seen_from(x, b, count, stride, start, block, box, span):
    """A helper of kernels, called as kernels call it."""
    return places.seen(x, b, count, stride, start, block, box, span)


@numba.njit
def first_of(b, n, count, block):
    return places.first_of(b, n, count, block)


GEOMETRIES = [  # count, taps, stride, start, step
    ((3, 4, 5), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),  # x as it lies
    ((2, 3, 2), (2, 2, 3), (1, 1, 1), (0, 0, 1), (1, 1, 1)),  # a part of it
    ((3, 4, 5), (3, 3, 3), (1, 1, 1), (-1, -1, -1), (1, 1, 1)),
    ((1, 3, 2), (1, 2, 3), (1, 1, 2), (0, -1, -3), (1, 2, 1)),
    ((2, 2, 4), (2, 3, 2), (2, 3, 2), (-2, 1, -4), (1, 1, 3)),
    ((1, 1, 2), (1, 1, 2), (1, 1, 1), (5, -9, 7), (1, 1, 1)),  # nothing but zeros
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_what_the_places_of_a_block_see(geometry, small_blocks):
    x = draw(3, 3, 4, 5, 2)
    count, taps, stride, start, step = geometry
    found = places.places_of(x.shape, 2, *geometry)
    met = []
    for b in range(found.blocks):
        seen = seen_from(x, b, count, stride, start, found.block, found.box, found.span)
        n, q_d, q_h, samples, lines = first_of(b, len(x), count, found.block)
        within = itertools.product(range(n, n + samples), [q_d], range(q_h, q_h + lines), range(count[2]))
        for at, q in zip(found.at, within):
            met.append(q)
            for k, (*tap, c) in enumerate(itertools.product(*map(range, taps), range(2))):
                p = [i * s + a + t * d for i, s, a, t, d in zip(q[1:], stride, start, tap, step)]
                inside = all(0 <= i < m for i, m in zip(p, x.shape[1:4]))
                assert seen[at + found.lags[k]] == (x[(q[0], *p, c)] if inside else 0)
    assert sorted(met) == list(itertools.product(range(3), *map(range, count)))
    runs = (found.runs[:, None] + np.arange(found.depth)).ravel()
    np.testing.assert_array_equal(runs, found.lags)


def test_upright_turns_lines_that_cannot_be_cut_into_columns():
    line = (4, 1, 1, 1000, 3), (4, 1, 1, 998, 5), (1, 1, 998), (1, 1, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1)
    shape, to_shape, count, taps, *_ = places.upright(*line)
    assert (shape, to_shape, count, taps) == ((4, 1, 1000, 1, 3), (4, 1, 998, 1, 5), (1, 998, 1), (1, 3, 1))
    assert places.places_of(shape, 3, count, taps, *places.upright(*line)[4:]).depth == 9  # one run of 3 x 3
    once = (1, 1, 1)
    point = (4, 1, 6, 7, 3), (4, 1, 6, 7, 5), (1, 6, 7), once, once, (0, 0, 0), once
    assert places.upright(*point)[:3] == ((1, 1, 168, 1, 3), (1, 1, 168, 1, 5), (1, 168, 1))


def test_gradients_of_weight_and_bias_in_memory_that_is_given():
    for C, O, groups in [(6, 40, 1), (6, 3, 1), (8, 8, 8), (6, 4, 2)]:
        x, g = draw(2, C, 6, 5), draw(2, O, 6, 5)
        window = ((1, 1), (1, 1), (1, 1), groups)
        dw, db = np.full((O, C // groups, 3, 3), np.nan, np.float32), np.full(O, np.nan, np.float32)
        made = conv.parameter_gradients(x, g, (3, 3), window, True, (dw, db))
        assert made[0] is dw and made[1] is db
        np.testing.assert_array_equal(dw, conv.correlate(x, g, (3, 3), window))
        close(db, g.astype(np.float64).sum((0, 2, 3)))
        assert conv.parameter_gradients(x, g, (3, 3), window, False)[1] is None


def test_sum_positions():
    x = draw(3, 5, 40, 30)
    close(conv.sum_positions(x), x.astype(np.float64).sum((0, 2, 3)))
