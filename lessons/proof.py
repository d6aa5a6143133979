"""Proofs: is my number right?

    PROOF  nll [nats]   floor 106.31 (independent pixels)   ours 92.1 (band 91.2 to 93.1)   optimum 88.02 (exact)   pass

The *floor* is what an honest simple method reaches, *ours* is what this run measured, the *optimum* is the truth where
the world knows it. The *band* is where a run with another seed ends up: it comes from recorded runs (see record.py),
never from a wish. A proof without seeds (a gradient check, an identity) has a bound in the band's place.
"""

import json
import math
import statistics
from dataclasses import dataclass

from minigen.errors import MinigenError

from . import catalogue

# Two-sided 99.9% points of Student's t, by degrees of freedom.
STUDENT = {4: 8.610, 5: 6.869, 6: 5.959, 7: 5.408, 8: 5.041, 9: 4.781, 11: 4.437, 14: 4.140, 19: 3.883}
LEAST_SEEDS = 5
LEAST_WIDTH = 1e-3  # of the mean: where all seeds agree, arithmetic still differs a little between machines
SKEW = 2.5  # how much further the values may reach on one side of their median than on the other

HOW = (
    "band = mean +- t s sqrt(1 + 1/n) over n seeds, s their standard deviation, t the two-sided 99.9% point of "
    "Student's t with n - 1 degrees of freedom: if seeds are normally spread, a new one falls outside once in a "
    "thousand runs; never narrower than 0.1% of the mean"
)


class ProofFailed(MinigenError, AssertionError):
    """A lesson's number is not what it should be."""


@dataclass
class Proof:
    """One claim of a lesson. Numbers are in `unit`; floor and optimum are (value, what it is)."""

    name: str
    ours: float
    unit: str = ""
    floor: tuple | None = None
    optimum: tuple | None = None
    band: tuple | None = None
    band_is: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def judge(self):
        """(passed, a few words)."""
        if not math.isfinite(self.ours):
            return False, "FAIL: not a finite number"
        if self.at_least is not None and self.ours < self.at_least:
            return False, f"FAIL: below {number(self.at_least)}"
        if self.at_most is not None and self.ours > self.at_most:
            return False, f"FAIL: above {number(self.at_most)}"
        if self.band is None:
            return self._judge_without_band()
        low, high = self.band
        if low <= self.ours <= high:
            return True, "pass"
        side = "below" if self.ours < low else "above"
        if side != self._good_side():
            return False, f"FAIL: {side} the band"
        if self.optimum is not None and (self.ours < self.optimum[0]) == (side == "below"):
            return False, "FAIL: better than the optimum, which cannot be"
        return True, f"pass ({side} the band: better than recorded)"

    def _judge_without_band(self):
        """A run of another size or on other data than those recorded: it must at least beat the floor."""
        if self.at_least is not None or self.at_most is not None:  # which have been looked at
            return True, "pass"
        if self.floor is None:
            return False, "FAIL: nothing to judge it by (no band is recorded)"
        lower_is_better = self._good_side() != "above"
        beats = self.ours < self.floor[0] if lower_is_better else self.ours > self.floor[0]
        return beats, "pass (beats the floor; no band is recorded)" if beats else "FAIL: does not beat the floor"

    def _good_side(self):
        """The better side of the band, "below" or "above"; None where both are wrong."""
        if self.floor is None:
            return None
        goal = self.optimum[0] if self.optimum else sum(self.band) / 2 if self.band else None
        if goal is None:
            return "above" if self.unit == "%" else "below"
        return "below" if goal < self.floor[0] else "above"

    def line(self):
        """The PROOF line."""
        width = (self.band[1] - self.band[0]) / 2 if self.band else None
        show = lambda x: number(x, width)
        parts = [f"PROOF  {self.name}" + (f" [{self.unit}]" if self.unit else "")]
        if self.floor is not None:
            parts.append(f"floor {show(self.floor[0])} ({self.floor[1]})")
        notes = []
        if self.band is not None:
            notes.append(
                f"band {show(self.band[0])} to {show(self.band[1])}" + (f", {self.band_is}" if self.band_is else "")
            )
        if self.at_least is not None:
            notes.append(f"at least {number(self.at_least)}")
        if self.at_most is not None:
            notes.append(f"at most {number(self.at_most)}")
        parts.append(f"ours {show(self.ours)}" + (f" ({'; '.join(notes)})" if notes else ""))
        if self.optimum is not None:
            parts.append(f"optimum {show(self.optimum[0])} ({self.optimum[1]})")
        return "   ".join([*parts, self.judge()[1]])


def number(x, width=None):
    """`x` in as many digits as mean something: two of `width`, or four of its own."""
    if not math.isfinite(x):
        return str(x)
    scale = width or abs(x)
    if x == 0 or scale == 0:
        return f"{x:g}"
    if abs(x) < 1e-3 or abs(x) >= 1e6:
        return f"{x:.1e}"
    decimals = (1 if width else 3) - math.floor(math.log10(scale))
    text = f"{x:.{min(max(decimals, 0), 6)}f}"
    return text if width else text.rstrip("0").rstrip(".") if "." in text else text


def band_of(values):
    """(low, high) from the values of at least five seeds, as HOW says."""
    n = len(values)
    if n < LEAST_SEEDS:
        raise ProofFailed(f"a band needs {LEAST_SEEDS} seeds, not {n}")
    mean = sum(values) / n
    spread = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1))
    freedom = max(f for f in STUDENT if f <= n - 1)
    half = max(STUDENT[freedom] * spread * math.sqrt(1 + 1 / n), LEAST_WIDTH * abs(mean))
    return mean - half, mean + half


def skew_of(values, seeds):
    """A remark on values that lie much further to one side of their median than to the other; None where they do not.

    The rule of the bands supposes a normal spread. Such a spread is remarked on too, by chance: in a quarter of all
    recordings with six seeds, in a tenth with twelve. A remark that further seeds confirm is about the lesson.
    """
    middle = statistics.median(values)
    above, below = max(values) - middle, middle - min(values)
    if max(above, below) <= max(SKEW * min(above, below), LEAST_WIDTH * abs(middle)):
        return None
    far, side, other = (max, "above", "below") if above > below else (min, "below", "above")
    seed = seeds[values.index(far(values))]
    reach, rest = number(max(above, below)), number(min(above, below))
    return f"seed {seed} lies {reach} {side} the median, and none more than {rest} {other} it"


def expected(lesson):
    """What was recorded for a lesson (see record.py); an empty dict where nothing was."""
    path = catalogue.home() / "expected" / f"{lesson}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def recorded_band(lesson, mode, name):
    """(low, high) of a proof as recorded in `mode` ("standard" or "quick"), or None."""
    found = expected(lesson).get(mode, {}).get("proofs", {}).get(name)
    return tuple(found["band"]) if found and found.get("band") else None
