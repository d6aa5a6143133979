"""Series written by a linear recurrence with noise: the world in which the best forecast is known exactly.

    world = AutoregressiveSeries([1.6, -0.9], noise=0.25)   # AR(2): swings with a period of 11 steps
    x = world.sample(64, generator)                 # (64, length) float32
    mean, variance = world.forecast(x, steps=10)    # of the values after each series
    world.innovation_variance                       # the least squared error, one step ahead, of any forecaster

The law is x_t = a_1 x_(t-1) + ... + a_p x_(t-p) + e_t with e_t ~ N(0, noise^2) (Yule 1927). A series starts in the
stationary law, so every stretch of it is alike, and all of it is one Gaussian whose covariances follow from the
Yule-Walker equations (Box, Jenkins & Reinsel 2015, section 3.2).
"""

import math

import numpy as np

from ... import random
from ...errors import ArgumentError, DataError, ShapeError, expect
from ..arrays import as_numpy
from .world import Estimate, World


class AutoregressiveSeries(World):
    """A stationary Gaussian autoregressive process of order p.

    coefficients   (p,) a_1 ... a_p: how much each of the last p values counts, the latest first
    noise          standard deviation of the innovations e_t
    length         values in a series, where none is asked for

    The hidden causes are the innovations, (n, length): what each value adds to its best prediction. Raises
    ArgumentError for coefficients with which the series would grow without end.
    """

    def __init__(self, coefficients=(1.6, -0.9), noise=0.25, length=64):
        self.coefficients = as_numpy(coefficients, np.float64).reshape(-1)
        self.noise, self.length = float(noise), int(length)
        self.order = len(self.coefficients)
        expect(self.order >= 1, "AutoregressiveSeries: at least one coefficient", coefficients, error=ArgumentError)
        expect(self.noise > 0, "AutoregressiveSeries: the noise is positive", noise, error=ArgumentError)
        expect(self.length >= 1, "a series has at least one value", length, error=ArgumentError)
        self.radius = float(np.abs(np.roots([1.0, *-self.coefficients])).max(initial=0.0))
        expect(
            self.radius < 1,
            f"AutoregressiveSeries: a deviation is multiplied by {self.radius:.4g} a step and never dies out",
            coefficients,
            error=ArgumentError,
            hint="the roots of z^p - a_1 z^(p-1) - ... - a_p must lie inside the unit circle",
        )

    @property
    def shape(self):
        return (self.length,)

    @property
    def innovation_variance(self):
        """noise^2: the mean squared error of the best forecast, one step ahead."""
        return self.noise**2

    def sample(self, n, generator=None, length=None):
        """n series of `length` values (the world's own length if None), (n, length) float32."""
        return self.sample_with_latents(n, generator, length)[0]

    def sample_with_latents(self, n, generator=None, length=None):
        """(n, length) values and (n, length) innovations, float32."""
        length = self.length if length is None else length
        e = (generator or random.default_generator).normal((length, n), dtype=np.float64)
        x = np.zeros((length, n))
        for t in range(length):
            weights, variance = self._predictor(min(t, self.order))
            e[t] *= math.sqrt(variance)
            x[t] = weights @ x[t - len(weights) : t] + e[t]
        return x.T.astype(np.float32), e.T.astype(np.float32)

    # The law of a series

    def autocovariance(self, lags):
        """E[x_t x_(t-k)] for k = 0 ... lags, (lags + 1,), from the Yule-Walker equations."""
        p = self.order
        # p + 1 equations for gamma_0 ... gamma_p: gamma_k - sum_j a_j gamma_|k-j| is noise^2 at k = 0, and 0 elsewhere
        equations = np.eye(p + 1)
        for k in range(p + 1):
            for j, a in enumerate(self.coefficients, 1):
                equations[k, abs(k - j)] -= a
        gamma = list(np.linalg.solve(equations, np.r_[self.innovation_variance, np.zeros(p)]))
        while len(gamma) <= lags:
            gamma.append(self.coefficients @ gamma[: -p - 1 : -1])
        return np.array(gamma[: lags + 1])

    def covariance(self, length=None):
        """The covariance of a whole series, (length, length)."""
        length = self.length if length is None else length
        place = np.arange(length)
        return self.autocovariance(length - 1)[abs(place[:, None] - place)] if length else np.zeros((0, 0))

    def predictions(self, x):
        """The mean (..., length) and variance (length,) of every x_t, given the values before it."""
        x = self._series(x, "predictions")
        mean, variance = np.zeros(x.shape), np.zeros(x.shape[-1])
        for t in range(x.shape[-1]):
            weights, variance[t] = self._predictor(min(t, self.order))
            mean[..., t] = x[..., t - len(weights) : t] @ weights
        return mean, variance

    def log_prob(self, x):
        """Log density of each series, of any length, in nats: (..., length) -> (...)."""
        mean, variance = self.predictions(x)
        x = self._series(x, "log_prob")
        return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * math.pi * variance)).sum(-1)

    def entropy(self, length=None):
        """-E[log p] of series of `length`, in nats a series: exact."""
        length = self.length if length is None else length
        variances = [self._predictor(min(t, self.order))[1] for t in range(length)]
        return Estimate(0.5 * np.log(2 * math.pi * math.e * np.array(variances)).sum())

    def entropy_rate(self):
        """Nats a value, exact: 1/2 log(2 pi e noise^2), the least Gaussian loss, one step ahead, of any forecaster."""
        return Estimate(0.5 * math.log(2 * math.pi * math.e * self.innovation_variance))

    def forecast(self, x, steps=1):
        """What comes after each series x: the means (..., steps) and variances (steps,) of the next `steps` values.

        x may have any length, 0 too; only its last p values matter. The variances are the mean squared errors of the
        best forecasts, and tend to the variance of the series.
        """
        x = self._series(x, "forecast")
        known = min(x.shape[-1], self.order)
        law = self.covariance(known + steps)
        weights = np.linalg.solve(law[:known, :known], law[:known, known:])
        variance = np.diagonal(law)[known:] - (weights * law[:known, known:]).sum(0)
        return x[..., x.shape[-1] - known :] @ weights, variance

    # Pieces

    def _predictor(self, known):
        """The best weights for the last `known` <= p values, oldest first, and the variance that they leave."""
        if known == self.order:
            return self.coefficients[::-1], self.innovation_variance
        law = self.covariance(known + 1)
        weights = np.linalg.solve(law[:known, :known], law[:known, known])
        return weights, law[known, known] - weights @ law[:known, known]

    def _series(self, x, name):
        x = as_numpy(x, np.float64)
        expect(x.ndim >= 1, f"AutoregressiveSeries.{name}: x is (..., length)", x, error=ShapeError)
        expect(np.isfinite(x).all(), f"AutoregressiveSeries.{name}: x holds a NaN or an Inf", x, error=DataError)
        return x
