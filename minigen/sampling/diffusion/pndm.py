"""Pseudo numerical methods for diffusion models (Liu et al. 2022, arXiv:2202.09778).

A step of DDIM carries x from one time to another, given the noise eps; call it the transfer (eq. 11). A multistep
method of high order needs a better eps than the last one: the Adams-Bashforth mixture of the last four (eq. 12). It has
no four to begin with. "F-PNDM" gets them from three steps of the Runge-Kutta method (eq. 13), twelve calls of the
network; "S-PNDM", as in Stable Diffusion, starts with one improved Euler step and lower orders.
"""

import itertools

import numpy as np

from ...errors import ArgumentError, expect
from .sampler import Sampler, spaced

ADAMS_BASHFORTH = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


class PNDM(Sampler):
    """The linear multistep method, order 4.

    runge_kutta   start with three Runge-Kutta steps (12 calls); otherwise with one improved Euler step (1 call more)
    to_one        the last step goes to alpha_bar = 1; otherwise to the schedule's first alpha_bar
    """

    def __init__(self, schedule, steps=50, prediction="epsilon", runge_kutta=False, spacing="leading", offset=0,
                 to_one=False):  # fmt: skip
        super().__init__(schedule, steps, prediction)
        expect(prediction != "sample", "PNDM: the multistep method mixes eps or v, not x_0", prediction,
               error=ArgumentError)  # fmt: skip
        fewest = 4 if runge_kutta else 2
        expect(steps >= fewest, f"PNDM: needs {fewest} steps or more", steps, error=ArgumentError)
        self.runge_kutta = runge_kutta
        self.stride = len(schedule) // steps
        self.last = schedule.dtype.type(1) if to_one else schedule.alphas_bar[0]
        t = spaced(len(schedule), steps, spacing, offset)
        if runge_kutta:
            half = self.stride // 2
            stages = [np.array([a, b + half, b + half, b]) for a, b in itertools.pairwise(t[:4])]
            self.timesteps = np.concatenate([*stages, t[3:]])
        else:
            self.timesteps = np.concatenate([t[:2], t[1:]])
        self.reset()

    def reset(self):
        self._calls, self._past = 0, []  # the last four predictions, newest last
        self._from = self._mixed = None

    def step(self, out, i, x, noise=None):
        t, k = int(self.timesteps[i]), self._calls
        self._calls += 1
        if self.runge_kutta and k < 12:
            return self._runge_kutta(out, k, i, x)
        if not self.runge_kutta and k == 1:  # the improved Euler step: the first step again, with the mean of both
            return self._transfer(self._from, t + self.stride, t, (out + self._past[-1]) / 2)
        self._past = [*self._past[-3:], out]
        self._from = x
        if len(self._past) > 1:
            weights = ADAMS_BASHFORTH[len(self._past)]
            out = sum(past * w for past, w in zip(self._past[::-1], weights))
        return self._transfer(x, t, t - self.stride, out)

    def _runge_kutta(self, out, k, i, x):
        """Call k of twelve: the four slopes of a step, each transferred from the step's beginning (eq. 13)."""
        half, stage = self.stride // 2, k % 4
        start = int(self.timesteps[i - stage])
        if stage == 0:
            self._from, self._mixed = x, out * (1 / 6)
            self._past.append(out)
        elif stage < 3:
            self._mixed = self._mixed + out * (1 / 3)
        else:
            out = self._mixed + out * (1 / 6)
        end = int(self.timesteps[i]) - (half if stage in (0, 2) else 0)
        return self._transfer(self._from, start, end, out)

    def _transfer(self, x, t, s, out):
        """x at time t carried to time s by the prediction `out` (eq. 11)."""
        a, after = self.schedule.alphas_bar[t], self.schedule.alphas_bar[s] if s >= 0 else self.last
        if self.prediction == "v_prediction":
            out = out * float(np.sqrt(a)) + x * float(np.sqrt(1 - a))
        below = a * np.sqrt(1 - after) + np.sqrt(a * (1 - a) * after)
        return x * float(np.sqrt(after / a)) - out * float(after - a) / float(below)
