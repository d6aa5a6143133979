"""Heun's method for the probability flow (Karras et al. 2022, arXiv:2206.00364, algorithm 1): second order.

An Euler step to the next sigma, the slope there, and the step again with the mean of both slopes. The last step, to
sigma = 0, stays Euler's: at 0 there is no slope.
"""

import numpy as np

from .euler import SigmaSampler


class Heun(SigmaSampler):
    """Two calls of the network a step, so 2 steps - 1 in all: `timesteps` and `sigmas` name each inner one twice.

    `step` is called once for each call of the network: it gives Euler's x first, and then Heun's in its place.
    """

    def __init__(self, schedule, steps=None, **options):
        super().__init__(schedule, steps, **options)
        t, s = self.timesteps, self.sigmas
        self.timesteps = np.concatenate([t[:1], np.repeat(t[1:], 2)])
        self.sigmas = np.concatenate([s[:1], np.repeat(s[1:-1], 2), s[-1:]])
        self._from = None

    def reset(self):
        self._from = None

    def step(self, out, i, x, noise=None):
        slope = (x - self.denoised(out, x, self.sigmas[i])) / float(self.sigmas[i])
        if self._from is None:
            dt = self.sigmas[i + 1] - self.sigmas[i]
            self._from = x, slope, dt
            return x + slope * float(dt)
        (x, first, dt), self._from = self._from, None
        return x + (first + slope) / 2 * float(dt)
