"""Proof lines, their verdicts, and the bands behind them."""

import math

import pytest

from minigen.lessons.proof import Proof, ProofFailed, band_of, number, skew_of


def verdict(ours, **rest):
    return Proof("nll", ours, "nats", **rest).judge()


LOWER = {"floor": (106.3, "independent pixels"), "optimum": (88.0, "exact"), "band": (91.2, 93.1)}


def test_the_line_has_floor_ours_band_and_optimum():
    line = Proof("nll/image", 92.137, "nats", **LOWER).line()
    assert line == (
        "PROOF  nll/image [nats]   floor 106.30 (independent pixels)   ours 92.14 (band 91.20 to 93.10)   "
        "optimum 88.00 (exact)   pass"
    )


@pytest.mark.parametrize(
    "ours, passes, words",
    [
        (92.0, True, "pass"),
        (94.0, False, "above the band"),
        (90.0, True, "better than recorded"),
        (87.0, False, "which cannot be"),
        (math.nan, False, "not a finite number"),
        (math.inf, False, "not a finite number"),
    ],
)
def test_lower_is_better(ours, passes, words):
    passed, said = verdict(ours, **LOWER)
    assert passed == passes and words in said


def test_higher_is_better_where_the_optimum_lies_above_the_floor():
    accuracy = {"floor": (93.0, "linear"), "band": (97.5, 98.5)}
    assert verdict(99.0, **accuracy)[0] and not verdict(97.0, **accuracy)[0]


def test_without_a_floor_both_sides_of_the_band_are_wrong():
    assert not verdict(1.0, band=(2, 3))[0] and not verdict(4.0, band=(2, 3))[0] and verdict(2.5, band=(2, 3))[0]


def test_bounds():
    assert verdict(1e-9, at_most=1e-7)[0] and not verdict(1e-3, at_most=1e-7)[0]
    assert verdict(98.0, at_least=97)[0] and not verdict(96.9, at_least=97)[0]
    assert not verdict(96.9, at_least=97, band=(96, 99))[0]


def test_without_a_band_it_must_beat_the_floor():
    assert verdict(100.0, floor=(106.3, "x"))[0] and not verdict(107.0, floor=(106.3, "x"))[0]
    assert not verdict(1.0)[0]


def test_a_band_holds_a_new_seed_and_needs_five():
    low, high = band_of([1.0, 1.1, 0.9, 1.05, 0.95])
    assert low < 0.6 and high > 1.4  # t = 8.6 with four degrees of freedom
    assert band_of([2.0] * 5) == pytest.approx((1.998, 2.002))
    with pytest.raises(ProofFailed, match="5 seeds"):
        band_of([1.0, 2.0])


def test_bands_cover_new_seeds_as_often_as_they_say():
    from minigen.random import Generator

    draws = Generator(0).normal((4000, 11)).astype(float) * 0.5 + 100
    outside = 0
    for row in draws:
        low, high = band_of(list(row[:10]))
        outside += not low <= row[10] <= high
    assert outside <= 15  # 4 expected


@pytest.mark.parametrize(
    "values, words",
    [
        ([0.10, 0.11, 0.09, 0.10, 0.16], "seed 16 lies 0.06 above the median, and none more than 0.01 below it"),
        ([0.10, 0.04, 0.09, 0.10, 0.11], "seed 13 lies 0.06 below the median, and none more than 0.01 above it"),
        ([0.10, 0.11, 0.09, 0.10, 0.12], None),  # twice as far is nothing to speak of
        ([100.0, 100.0, 100.0, 100.0, 100.05], None),  # nor is what the band leaves to arithmetic
        ([3.0] * 5, None),
    ],
)
def test_a_skewed_spread_is_remarked_on(values, words):
    assert skew_of(values, range(12, 17)) == words


@pytest.mark.parametrize(
    "x, width, text",
    [
        (106.3142, None, "106.3"),
        (0.0025, None, "0.0025"),
        (97.0, None, "97"),
        (19.0, None, "19"),
        (3e-10, None, "3.0e-10"),
        (0.0, None, "0"),
        (92.137, 0.95, "92.14"),
        (123.456, 30.0, "123"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(x, width, text):
    assert number(x, width) == text
