"""Noise levels: where the steps of a solver are put (Karras et al. 2022, "EDM", arXiv:2206.00364).

Divide x_t by sqrt(alpha_bar_t): what is left is x_0 + sigma eps with sigma = sqrt((1 - alpha_bar) / alpha_bar). In this
scale the probability flow is dx / dsigma = (x - x_0(x, sigma)) / sigma (eq. 1-4), and a solver is a list of sigmas.
The network was trained at integer t; a sigma between two of them is given the t between them on the log scale.

    karras        equal steps of sigma^(1/7): many small sigmas      Karras et al. 2022, eq. 5
    exponential   equal steps of log sigma
    lu            the same, and t rounded                            Lu et al. 2022, arXiv:2206.00927
    beta          quantiles of Beta(0.6, 0.6): small and large ones  Lee et al. 2024, arXiv:2407.12173
"""

import math

import numpy as np

from ...errors import ArgumentError, expect

LEVELS = "karras", "exponential", "beta"


def of_schedule(schedule):
    """sigma of each of a schedule's T times. Where alpha_bar is 0 it is taken as 2**-24, for sigma to be finite."""
    alphas_bar = schedule.alphas_bar
    alphas_bar = np.where(alphas_bar == 0, alphas_bar.dtype.type(2.0**-24), alphas_bar)
    return np.sqrt((1 - alphas_bar) / alphas_bar)


def levels(kind, largest, smallest, n):
    """n sigmas from `largest` to `smallest`, float64."""
    expect(kind in (*LEVELS, "lu"), f"levels is one of {LEVELS}", kind, error=ArgumentError)
    largest, smallest = float(largest), float(smallest)
    if kind == "karras":
        a, b = largest ** (1 / 7), smallest ** (1 / 7)
        return (a + np.linspace(0, 1, n) * (b - a)) ** 7.0
    if kind == "lu":  # in log sigma as rounded to float32: a truncated t hangs on the last digit
        a, b = [float(np.log(np.float32(end))) for end in (largest, smallest)]
        return np.exp(a + np.linspace(0, 1, n) * (b - a))
    if kind == "beta":
        return np.array([smallest + beta_quantile(1 - p) * (largest - smallest) for p in np.linspace(0, 1, n)])
    return np.exp(np.linspace(math.log(largest), math.log(smallest), n))


def time_of(sigma, log_sigmas):
    """The time, between the integers, at which the schedule has this sigma; by its logarithm. float64."""
    wanted = np.log(max(float(sigma), 1e-10))
    low = int(np.clip(np.searchsorted(log_sigmas, wanted, side="right") - 1, 0, len(log_sigmas) - 2))
    below, above = np.float64(log_sigmas[low]), np.float64(log_sigmas[low + 1])
    share = np.clip((below - wanted) / (below - above), 0, 1)
    return (1 - share) * low + share * (low + 1)


def beta_quantile(p, a=0.6, b=0.6):
    """The x with I_x(a, b) = p, for the regularised incomplete beta function I: by halving, to the last digits."""
    if p <= 0 or p >= 1:
        return float(p >= 1)
    if p <= _beta_share(0.5, a, b):
        return _halved(p, a, b)
    return 1 - _halved(1 - p, b, a)  # the digits of an x near 1 are in 1 - x


def _halved(p, a, b):
    """The quantile where it is at most 1/2."""
    low, high = 0.0, 0.5
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _beta_share(middle, a, b) < p else (low, middle)
    return high


def _beta_share(x, a, b):
    """I_x(a, b) for x up to 1/2, as x^a (1 - x)^b / (a B(a, b)) times 1 + sum of prod (a + b + k) x / (a + 1 + k)."""
    term = total = 1.0
    k = 0
    while term > 1e-17 * total:
        term *= (a + b + k) * x / (a + 1 + k)
        total += term
        k += 1
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return total * math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a
