"""Ancestral sampling (Ho, Jain & Abbeel 2020, arXiv:2006.11239, algorithm 2).

Given x_t and a guess of x_0, the step before is Gaussian, with mean and variance known in closed form (eq. 6-7). Draw
from it, and go on. Where steps are skipped, the same formulas hold with alpha_t = alpha_bar_t / alpha_bar_s, s being
the time that comes next (Nichol & Dhariwal 2021, eq. 19).
"""

import numpy as np

from ...errors import ArgumentError, expect
from ...ops.elementary import exp, sqrt
from .prediction import limited, to_x0
from .sampler import Sampler, spaced

VARIANCES = "fixed_small", "fixed_large", "fixed_small_log", "learned", "learned_range"


class DDPM(Sampler):
    """Ancestral sampling: every step draws noise, except at t = 0.

    steps      all of them by default; fewer take larger strides
    variance   of a step (Ho et al. 2020, section 3.2):
               "fixed_small"     beta (1 - alpha_bar_s) / (1 - alpha_bar_t): right if the data were a single point
               "fixed_large"     beta: right if the data were N(0, I)
               "learned_range"   the network's second half of channels, v in [-1, 1], mixes the logarithms of the two
                                 (Nichol & Dhariwal 2021, eq. 15)
               "learned"         the network's second half of channels is the variance
               "fixed_small_log" "fixed_small", computed through its logarithm
    clip       a number, a `DynamicThreshold` or None: what is done to the predicted x_0 (1.0 for pictures in [-1, 1])
    """

    stochastic = True

    def __init__(self, schedule, steps=None, prediction="epsilon", clip=None, variance="fixed_small",
                 spacing="leading", offset=0, timesteps=None):  # fmt: skip
        steps = len(schedule) if steps is None and timesteps is None else steps
        super().__init__(schedule, len(timesteps) if steps is None else steps, prediction, clip)
        expect(variance in VARIANCES, f"DDPM: variance is one of {VARIANCES}", variance, error=ArgumentError)
        self.variance = variance
        self.timesteps = (
            spaced(len(schedule), self.steps, spacing, offset) if timesteps is None else _own(self, timesteps)
        )

    def step(self, out, i, x, noise=None):
        t = self.timesteps[i]
        after = self.schedule.alphas_bar[self.timesteps[i + 1]] if i + 1 < len(self.timesteps) else 1
        alpha_bar, after = self.schedule.alphas_bar[t], self.schedule.dtype.type(after)
        alpha = alpha_bar / after
        beta = 1 - alpha
        learned = None
        if self.variance.startswith("learned"):
            rule = f"DDPM: with variance={self.variance!r} the network gives 2 x {x.shape[1]} channels"
            expect(out.shape[1] == 2 * x.shape[1], rule, out, x)
            out, learned = out.chunk(2, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            x0 = to_x0(self.prediction, out, x, np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar))
        x0 = limited(x0, self.clip)
        of_x0 = np.sqrt(after) * beta / (1 - alpha_bar)
        of_x = np.sqrt(alpha) * (1 - after) / (1 - alpha_bar)
        mean = x0 * float(of_x0) + x * float(of_x)
        if t == 0:
            return mean
        small = np.maximum((1 - after) / (1 - alpha_bar) * beta, beta.dtype.type(1e-20))
        return mean + noise * self._std(small, beta, learned)

    def _std(self, small, beta, learned):
        if self.variance == "fixed_small":
            return float(np.sqrt(small))
        if self.variance == "fixed_large":
            return float(np.sqrt(beta))
        if self.variance == "fixed_small_log":
            return float(np.exp(np.log(small) / 2))
        if self.variance == "learned":
            return sqrt(learned)
        share = (learned + 1) / 2
        return exp((share * float(np.log(beta)) + (1 - share) * float(np.log(small))) * 0.5)


def _own(sampler, timesteps):
    t = np.asarray(timesteps, dtype=np.int64)
    rule = f"{type(sampler).__name__}: timesteps fall, from {len(sampler.schedule) - 1} or below to 0 or above"
    expect(bool((np.diff(t) < 0).all() and t[0] < len(sampler.schedule) and t[-1] >= 0), rule, t, error=ArgumentError)
    return t
