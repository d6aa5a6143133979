"""Denoising diffusion implicit models (Song, Meng & Ermon 2020, arXiv:2010.02502).

The training loss of DDPM only looks at q(x_t | x_0). Many processes share these marginals, and for one of them the way
back is not random at all: keep the predicted noise, and put it back at the next, lower level,

    x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - std^2) eps + std noise                            (eq. 12)

With std = 0 this is a step of Euler's method for an ordinary differential equation (section 4.3), so few large steps
do. eta moves std from 0 to that of ancestral sampling (eq. 16).
"""

import numpy as np

from ...errors import ArgumentError, expect
from .prediction import limited, to_eps, to_x0
from .sampler import Sampler, spaced


class DDIM(Sampler):
    """Deterministic for eta = 0, ancestral sampling for eta = 1.

    eta                how much noise a step draws, from 0 to 1
    clip               a number, a `DynamicThreshold` or None: what is done to the predicted x_0
    eps_from_clipped   compute eps again after clipping, so that it and x_0 make up x
    to_one             the last step goes to alpha_bar = 1; otherwise to the schedule's first alpha_bar

    As published, a step goes from t to t - T // steps, which is the next of `timesteps` only where they are so far
    apart: always with spacing="leading", with "trailing" if `steps` divides T, and never quite with "linspace".
    """

    def __init__(self, schedule, steps=50, eta=0.0, prediction="epsilon", clip=None, spacing="leading", offset=0,
                 to_one=True, eps_from_clipped=False):  # fmt: skip
        super().__init__(schedule, steps, prediction, clip)
        expect(0 <= eta <= 1, "DDIM: eta is from 0 to 1", eta, error=ArgumentError)
        self.eta, self.eps_from_clipped = eta, eps_from_clipped
        self.timesteps = spaced(len(schedule), steps, spacing, offset)
        self.last = schedule.dtype.type(1) if to_one else schedule.alphas_bar[0]

    @property
    def stochastic(self):
        return self.eta > 0

    def step(self, out, i, x, noise=None):
        t = self.timesteps[i]
        s = t - len(self.schedule) // self.steps
        a, after = self.schedule.alphas_bar[t], self.schedule.alphas_bar[s] if s >= 0 else self.last
        signal, sigma = np.sqrt(a), np.sqrt(1 - a)
        x0, eps = [convert(self.prediction, out, x, signal, sigma) for convert in (to_x0, to_eps)]
        x0 = limited(x0, self.clip)
        if self.eps_from_clipped:
            eps = to_eps("sample", x0, x, signal, sigma)
        std = self.eta * np.sqrt((1 - after) / (1 - a) * (1 - a / after))
        x = x0 * float(np.sqrt(after)) + eps * float(np.sqrt(1 - after - std**2))
        return x if self.eta == 0 else x + noise * float(std)
