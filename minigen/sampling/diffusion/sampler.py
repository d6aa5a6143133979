"""What all samplers share: a list of times, one step for each, and the loop over them.

A sampler calls the network once a step: prediction = model(x, t), with x (N, ...) and t (N,). What the step does with
the prediction is what tells samplers apart. `step` draws nothing: where a sampler needs noise it is handed in, so that
a step is a function that can be looked at by itself.
"""

import numpy as np

from ...autograd import no_grad
from ...device import device_of, library
from ...errors import ArgumentError, expect
from ...ops import creation
from ...tensor import Tensor, float32, value
from .prediction import check_prediction

SPACINGS = "leading", "trailing", "linspace"


class Sampler:
    """A way from noise to a sample in `steps` steps.

        sampler = DDIM(NoiseSchedule.cosine(1000), steps=50)
        x = sampler.sample(model, (16, 1, 8, 8), generator=g)
        for x in sampler.walk(model, sampler.start((16, 1, 8, 8), generator=g)):      # or step by step
            ...

    timesteps     (K,) the t that the network is asked at: integers, or floats between them
    sigmas        (K + 1,) the noise levels, of samplers that are written in them; else None
    initial_std   the standard deviation of x at the first step
    stochastic    whether a step draws noise
    """

    sigmas = None
    stochastic = False
    initial_std = 1.0

    def __init__(self, schedule, steps, prediction="epsilon", clip=None):
        T = len(schedule)
        rule = f"{type(self).__name__}: steps is from 1 to the schedule's {T}"
        expect(isinstance(steps, int) and 1 <= steps <= T, rule, steps, error=ArgumentError)
        self.schedule, self.steps, self.clip = schedule, steps, clip
        self.prediction = check_prediction(type(self).__name__, prediction)

    def __repr__(self):
        return f"{type(self).__name__}(steps={self.steps}, prediction={self.prediction!r})"

    # Sampling

    def sample(self, model, noise, generator=None, device=None, dtype=None):
        """A sample (N, ...). `noise` is its shape, or standard normal noise of that shape to start from.

        model(x, t) -> prediction, with x (N, ...) and t (N,). Conditions and guidance are the model's own matter.
        """
        *_, x = self.walk(model, self.start(noise, generator, device, dtype), generator)
        return x

    def start(self, noise, generator=None, device=None, dtype=None):
        """x before the first step: standard normal noise (or a shape to draw it in) times `initial_std`."""
        if not hasattr(noise, "dtype"):
            noise = creation.randn(tuple(noise), generator=generator, dtype=dtype or float32, device=device)
        return noise if isinstance(noise, Tensor) and self.initial_std == 1 else Tensor(noise) * float(self.initial_std)

    def walk(self, model, x, generator=None, first=0):
        """x after each step, one after the other, from x at step `first` (above 0 to begin from a noised picture)."""
        self.reset()
        for i in range(first, len(self.timesteps)):
            with no_grad():
                out = model(self.model_input(x, i), self.at(i, x))
                noise = creation.randn_like(x, generator=generator) if self.stochastic else None
                x = self.step(out, i, x, noise)
            yield x

    def at(self, i, x):
        """t of step i for each of x's samples: (N,)."""
        t = self.timesteps[i]
        return Tensor(library(device_of(value(x))).full(len(x), t, dtype=t.dtype))

    # What a sampler says

    def reset(self):
        """Forget the predictions of earlier steps. `walk` calls it."""

    def model_input(self, x, i):
        """What the network is given for x at step i."""
        return x

    def step(self, out, i, x, noise=None):
        """x after step i, from x before it and the network's output at (model_input(x, i), timesteps[i])."""
        raise NotImplementedError

    def add_noise(self, x0, eps, t):
        """x0 (N, ...) with noise eps as it is at the times t (N,): where a walk can begin."""
        return self.schedule.add_noise(x0, eps, t)

    def step_of(self, t):
        """The step at time t, one of `timesteps` to three decimals; the second where two are equal, as published."""
        off = np.abs(self.timesteps - t)
        found = np.flatnonzero(off == off.min())
        rule = f"{type(self).__name__}: t is one of its timesteps {self.timesteps[0]} ... {self.timesteps[-1]}"
        expect(off.min() <= 1e-3, rule, t, error=ArgumentError)
        return int(found[1 if len(found) > 1 else 0])

    def sigma_of(self, t, x):
        """The noise level at each of the times t (N,), in a shape that multiplies x."""
        t = np.atleast_1d(value(t).get() if device_of(value(t)) != "cpu" else value(t))
        sigma = self.sigmas[[self.step_of(one) for one in t]].astype(value(x).dtype)
        return Tensor(library(device_of(value(x))).asarray(sigma.reshape(-1, *[1] * (x.ndim - 1))))


def spaced(T, steps, spacing="leading", offset=0):
    """`steps` of the times 0 ... T - 1, falling, int64 (Lin et al. 2023, arXiv:2305.08891, table 2).

    leading    0, k, 2k, ... + offset, with k = T // steps: does not reach T - 1
    trailing   T - 1 and then every T / steps: does not reach 0
    linspace   from T - 1 to 0
    """
    expect(spacing in SPACINGS, f"spacing is one of {SPACINGS}", spacing, error=ArgumentError)
    if spacing == "linspace":
        t = np.linspace(0, T - 1, steps).round()[::-1]
    elif spacing == "leading":
        t = np.arange(steps)[::-1] * (T // steps) + offset
    else:
        t = np.round(np.arange(T, 0, -T / steps)) - 1
    t = t.astype(np.int64)
    expect(t.max() < T, f"offset={offset} leads beyond the last time {T - 1}", t.max(), error=ArgumentError)
    return t
