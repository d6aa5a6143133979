"""Sampling a flow (Lipman et al. 2023, arXiv:2210.02747; Liu, Gong & Liu 2023, arXiv:2209.03003).

x = (1 - sigma) x_0 + sigma eps runs on a straight line from the picture to the noise, and the network predicts the
velocity eps - x_0 along it. Sampling is Euler's method from sigma = 1 to 0. Which sigmas: large pictures are drowned
more slowly by the same noise, so their levels are shifted up (Esser et al. 2024, arXiv:2403.03206, section 5.3.2).
"""

import math

import numpy as np

from ...errors import ArgumentError, expect
from .dpm_solver import shifted
from .sampler import Sampler
from .sigmas import levels


class FlowEuler(Sampler):
    """Euler's method on a flow. The network is given t = T sigma, from T down.

    T            what t is at sigma = 1
    shift        of the levels: 1 none, 3 as in Stable Diffusion 3. As published it is applied to the ends of the range
                 and again to the levels between them
    mu           a shift of another form, e^mu / (e^mu + 1 / sigma - 1), in the place of `shift`; `linear_mu`: mu itself
                 in the place of e^mu
    terminal     stretch the levels so that the last one is this
    levels       "karras", "exponential" or "beta" between the ends (see sigmas.py)
    resampled    draw fresh noise at every level, in the place of the noise that the velocity points to
    inverted     from 0 to 1: from a picture to its noise
    sigmas       own levels, before any shift; timesteps: own times, given to the network as they are
    """

    def __init__(self, steps=None, T=1000, shift=1.0, mu=None, linear_mu=False, terminal=None, levels=None,
                 resampled=False, inverted=False, sigmas=None, timesteps=None):  # fmt: skip
        given = sigmas if sigmas is not None else timesteps
        steps = len(given) if steps is None and given is not None else steps
        rule = "FlowEuler: steps is 1 or more, and of the length of sigmas or timesteps where they are given"
        lengths = {steps, *(len(x) for x in (sigmas, timesteps) if x is not None)}
        expect(isinstance(steps, int) and steps >= 1 and len(lengths) == 1, rule, steps, error=ArgumentError)
        self.steps, self.T, self.stochastic, self.prediction = steps, T, resampled, "velocity"
        own = None if timesteps is None else np.asarray(timesteps, dtype=np.float32)
        found = self._between(own, sigmas, shift, mu)
        if mu is not None:
            base = mu if linear_mu else math.exp(mu)
            found = base / (base + (1 / found - 1))
        else:
            found = shifted(found, shift)
        if terminal:
            found = 1 - (1 - found) / ((1 - found[-1]) / (1 - terminal))
        if levels is not None:
            found = _levels(levels, found, steps)
        found = found.astype(np.float32)
        if inverted:
            found, own = 1 - found, None
        self.timesteps = found * np.float32(T) if own is None else own
        self.sigmas = np.append(found, np.float32(1 if inverted else 0))

    def _between(self, own, sigmas, shift, mu):
        """The levels before they are shifted."""
        if sigmas is not None:
            return np.asarray(sigmas, dtype=np.float32)
        if own is not None:
            return own / self.T
        ends = np.array([self.T, 1], dtype=np.float32) / np.float32(self.T)
        if mu is None:
            ends = shifted(ends, np.float32(shift))
        return np.linspace(float(ends[0]) * self.T, float(ends[1]) * self.T, self.steps) / self.T

    def step(self, out, i, x, noise=None):
        sigma, after = self.sigmas[i], self.sigmas[i + 1]
        if self.stochastic:
            x0 = x - out * float(sigma)
            return x0 * float(1 - after) + noise * float(after)
        return x + out * float(after - sigma)

    def add_noise(self, x0, eps, t):
        sigma = self.sigma_of(t, x0)
        return eps * sigma + x0 * (1 - sigma)


def _levels(kind, found, n):
    return levels(kind, found[0], found[-1], n)
