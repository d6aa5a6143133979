"""Euler's method for the probability flow, and its ancestral variant (Karras et al. 2022, arXiv:2206.00364).

x = x_0 + sigma eps, and dx / dsigma = (x - x_0(x, sigma)) / sigma (eq. 1-4). One step follows this slope to the next
sigma. Two ways to add noise: before a step, by raising sigma ("churn", algorithm 2), or after it, going down further
than the next sigma and up again (ancestral; Crowson's k-diffusion).
"""

import math

import numpy as np

from ...errors import ArgumentError, expect
from .prediction import limited
from .sampler import Sampler, spaced
from .sigmas import levels, of_schedule, time_of


class SigmaSampler(Sampler):
    """A sampler on x = x_0 + sigma eps. The network is given x / sqrt(sigma^2 + 1), which has variance 1, and t.

    levels          None: the sigmas of the schedule at `spacing`; or "karras", "exponential", "beta" (see sigmas.py)
    smallest, largest   the ends of those levels; by default the schedule's own at the first and last time
    final           the last sigma: "zero", or "sigma_min", the schedule's smallest
    timesteps       own times instead of `steps` of them, or
    sigmas          own noise levels, the last one included
    interpolation   "linear": a sigma between two times is on the line between theirs. "log_linear": steps + 1 sigmas
                    at equal ratios, as published
    continuous      the network takes log(sigma) / 4 for t (EDM, table 1)
    """

    def __init__(self, schedule, steps=None, prediction="epsilon", clip=None, spacing="linspace", offset=0, levels=None,
                 smallest=None, largest=None, final="zero", timesteps=None, sigmas=None, interpolation="linear",
                 continuous=False):  # fmt: skip
        given = timesteps if timesteps is not None else None if sigmas is None else np.asarray(sigmas)[:-1]
        name = type(self).__name__
        expect((steps is None) != (given is None), f"{name}: give steps, timesteps or sigmas, one of them", steps,
               error=ArgumentError)  # fmt: skip
        super().__init__(schedule, len(given) if steps is None else steps, prediction, clip)
        expect(final in ("zero", "sigma_min"), f'{name}: final is "zero" or "sigma_min"', final, error=ArgumentError)
        expect(interpolation in ("linear", "log_linear"), f'{name}: interpolation is "linear" or "log_linear"',
               interpolation, error=ArgumentError)  # fmt: skip
        expect(levels is None or timesteps is None, f"{name}: with own timesteps there are no levels", levels,
               error=ArgumentError)  # fmt: skip
        self.spacing = spacing
        ends = largest, smallest
        times, sigmas = self._grid(timesteps, sigmas, offset, levels, ends, final, interpolation)
        self.sigmas = sigmas.astype(schedule.dtype)
        self.timesteps = (0.25 * np.log(self.sigmas[: len(times)]) if continuous else times).astype(schedule.dtype)

    def _grid(self, timesteps, sigmas, offset, kind, ends, final, interpolation):
        """(times, sigmas with the final one)."""
        T, n, schedule = len(self.schedule), self.steps, of_schedule(self.schedule)
        with np.errstate(divide="ignore"):
            logs = np.log(schedule)
        if sigmas is not None:
            sigmas = np.asarray(sigmas, dtype=np.float64)
            return np.array([time_of(s, logs) for s in sigmas[:-1]]), sigmas
        times = self._times(T, n, offset) if timesteps is None else np.asarray(timesteps, dtype=np.float32)
        sigmas = np.interp(times, np.arange(T), schedule)
        if interpolation == "log_linear":
            sigmas = np.exp(np.linspace(logs[-1], logs[0], n + 1))
        if kind is not None:
            largest, smallest = [sigmas[i] if end is None else end for i, end in zip((0, -1), ends)]
            sigmas = levels(kind, largest, smallest, n)
            times = np.array([time_of(s, logs) for s in sigmas])
        return times, np.append(sigmas, schedule[0] if final == "sigma_min" else 0.0)

    def _times(self, T, n, offset):
        if self.spacing == "linspace":  # not rounded: a time between two is a sigma between two
            return np.linspace(0, T - 1, n, dtype=np.float32)[::-1]
        return spaced(T, n, self.spacing, offset).astype(np.float32)

    @property
    def initial_std(self):
        """The largest sigma; with spacing="leading" as the square root of sigma^2 + 1, as published."""
        largest = self.sigmas.max()
        return float(largest if self.spacing != "leading" else np.sqrt(largest**2 + 1))

    def model_input(self, x, i):
        return x / float(np.sqrt(self.sigmas[i] ** 2 + 1))

    def add_noise(self, x0, eps, t):
        return x0 + eps * self.sigma_of(t, x0)

    def denoised(self, out, x, sigma, raised=None):
        """The predicted x_0 at x and sigma. (`raised` is the sigma that x has after churning, where it is another.)"""
        if self.prediction == "sample":
            x0 = out
        elif self.prediction == "epsilon":
            x0 = x - out * float(sigma if raised is None else raised)
        else:
            x0 = out * float(-sigma / np.sqrt(sigma**2 + 1)) + x / float(sigma**2 + 1)
        return limited(x0, self.clip)


class Euler(SigmaSampler):
    """One step of Euler's method from each sigma to the next.

    churn       how much noise is put in, over all steps (S_churn); only for sigma in `churn_range`, times `churn_std`
    """

    def __init__(self, schedule, steps=None, churn=0.0, churn_range=(0.0, math.inf), churn_std=1.0, **options):
        super().__init__(schedule, steps, **options)
        self.churn, self.churn_range, self.churn_std = churn, churn_range, churn_std

    @property
    def stochastic(self):
        return self.churn > 0

    def step(self, out, i, x, noise=None):
        sigma, after = self.sigmas[i], self.sigmas[i + 1]
        low, high = self.churn_range
        gamma = min(self.churn / (len(self.sigmas) - 1), math.sqrt(2) - 1) if low <= sigma <= high else 0.0
        raised = sigma * (gamma + 1)
        if gamma > 0:
            x = x + noise * self.churn_std * float(np.sqrt(raised**2 - sigma**2))
        slope = (x - self.denoised(out, x, sigma, raised)) / float(raised)
        return x + slope * float(after - raised)


class EulerAncestral(SigmaSampler):
    """Down to below the next sigma, then up to it with fresh noise: the variances add up to the next sigma squared."""

    stochastic = True

    def step(self, out, i, x, noise=None):
        sigma, after = self.sigmas[i], self.sigmas[i + 1]
        up = np.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)
        down = np.sqrt(after**2 - up**2)
        slope = (x - self.denoised(out, x, sigma)) / float(sigma)
        return x + slope * float(down - sigma) + noise * float(up)
