"""Noise schedules: how fast a picture drowns (Ho, Jain & Abbeel 2020, arXiv:2006.11239, section 2).

Each step keeps sqrt(alpha_t) of what it finds and adds noise of variance beta_t = 1 - alpha_t. Gaussians add, so t
steps are one, with alpha_bar_t the product of the alphas so far:

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,     eps ~ N(0, I)                            (eq. 4)

Steps count from 0, as in the published code: x_0's first noisy version is t = 0 (the paper's t = 1).

    linear          betas on a line                                    Ho et al. 2020, section 4
    scaled_linear   square roots of betas on a line                    latent diffusion, Rombach et al. 2022
    cosine          alpha_bar falls as a squared cosine                Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17
    sigmoid         betas on a sigmoid                                 GeoDiff, Xu et al. 2022
    laplace, exp    alpha_bar from the quantiles of a Laplace law; falling exponentially
    zero_terminal_snr   any of them, stretched so that the last step keeps nothing: Lin et al. 2023, arXiv:2305.08891
"""

import math
from functools import cached_property

import numpy as np

from ...device import device_of, to_device, xp
from ...errors import ArgumentError, expect
from ...tensor import Tensor, float32, value


class NoiseSchedule:
    """betas, alphas and alphas_bar, (T,) arrays each, and what follows from them in closed form.

    dtype   float32, as published: betas and alphas are rounded to it, and so is their product (taken in float64).
            float64 for experiments on the order of a solver
    name    how it was made; the published samplers treat "cosine" apart in one place
    """

    def __init__(self, betas, dtype=float32, name="betas"):
        betas = np.asarray(value(betas), dtype=dtype)
        rule = "NoiseSchedule: betas is (T,), each from 0 to 1"
        expect(betas.ndim == 1 and betas.size > 0, rule, betas, error=ArgumentError)
        expect(bool(((betas >= 0) & (betas <= 1)).all()), rule, betas.min(), betas.max(), error=ArgumentError)
        self.dtype, self.name = np.dtype(dtype), name
        self.betas = betas
        self.alphas = 1 - betas
        self.alphas_bar = np.cumprod(self.alphas, dtype=np.float64).astype(dtype)
        self._moved = {}  # tables in the types and on the devices where they were wanted

    def __len__(self):
        return len(self.betas)

    def __repr__(self):
        return (
            f"NoiseSchedule.{self.name}({len(self)}), alpha_bar {self.alphas_bar[0]:.4g} to {self.alphas_bar[-1]:.4g}"
        )

    # The published schedules

    @classmethod
    def linear(cls, T=1000, start=1e-4, end=0.02, dtype=float32):
        """betas from `start` to `end` in equal steps. For another T than 1000, scale both by 1000 / T."""
        return cls(_line(start, end, T, dtype), dtype, "linear")

    @classmethod
    def scaled_linear(cls, T=1000, start=0.00085, end=0.012, dtype=float32):
        """The square roots of the betas in equal steps. The default ends are Stable Diffusion's."""
        return cls(_line(start**0.5, end**0.5, T, dtype) ** 2, dtype, "scaled_linear")

    @classmethod
    def cosine(cls, T=1000, offset=0.008, largest=0.999, dtype=float32):
        """alpha_bar(s) = cos^2((s + offset) / (1 + offset) pi / 2) for s from 0 to 1, and no beta above `largest`."""

        def alpha_bar(s):
            return math.cos((s + offset) / (1 + offset) * math.pi / 2) ** 2

        return cls.of(alpha_bar, T, largest, dtype, "cosine")

    @classmethod
    def sigmoid(cls, T=1000, start=1e-4, end=0.02, dtype=float32):
        """betas from `start` to `end` along a sigmoid over [-6, 6]."""
        rising = (1 / (1 + np.exp(-_line(-6.0, 6.0, T, dtype).astype(np.float64)))).astype(dtype)
        real = np.dtype(dtype).type
        return cls(rising * real(end - start) + real(start), dtype, "sigmoid")

    @classmethod
    def laplace(cls, T=1000, largest=0.999, dtype=float32):
        """The log signal-to-noise ratio at the quantiles of a Laplace distribution (Hang & Gu 2024)."""

        def alpha_bar(s):
            half = -0.5 * math.copysign(1, 0.5 - s) * math.log(1 - 2 * abs(0.5 - s) + 1e-6)
            return math.sqrt(math.exp(half) / (1 + math.exp(half)))

        return cls.of(alpha_bar, T, largest, dtype, "laplace")

    @classmethod
    def exp(cls, T=1000, largest=0.999, dtype=float32):
        """alpha_bar(s) = e^(-12 s): the same share of the signal is lost in every step."""
        return cls.of(lambda s: math.exp(-12.0 * s), T, largest, dtype, "exp")

    @classmethod
    def of(cls, alpha_bar, T=1000, largest=0.999, dtype=float32, name="of"):
        """The schedule whose alpha_bar is a function of s from 0 to 1: beta = 1 - alpha_bar(s + 1/T) / alpha_bar(s)."""
        expect(T >= 1, f"NoiseSchedule: T={T} must be at least 1", error=ArgumentError)
        betas = [min(1 - alpha_bar((i + 1) / T) / alpha_bar(i / T), largest) for i in range(T)]
        return cls(np.array(betas), dtype, name)

    def zero_terminal_snr(self):
        """This schedule, its sqrt(alpha_bar) shifted and scaled to end at 0 and start as before (algorithm 1).

        At the last step x is then pure noise, in training as in sampling. A network that predicts eps learns nothing
        there: predict v or x_0.
        """
        root = np.sqrt(self.alphas_bar)
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        alphas_bar = root**2
        alphas = np.concatenate([alphas_bar[:1], alphas_bar[1:] / alphas_bar[:-1]])
        return NoiseSchedule(1 - alphas, self.dtype, self.name)

    # In closed form. x0, eps and x are (N, ...) tensors; t is a number or (N,) integers from 0 to T - 1.

    def add_noise(self, x0, eps, t):
        """x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps."""
        signal, noise = self.coefficients(t, x0)
        return x0 * signal + eps * noise

    def velocity(self, x0, eps, t):
        """v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x0 (Salimans & Ho 2022, arXiv:2202.00512, appendix D)."""
        signal, noise = self.coefficients(t, x0)
        return eps * signal - x0 * noise

    def snr(self, t):
        """The signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t)."""
        alpha_bar = self.alphas_bar[self._checked(t)]
        return alpha_bar / (1 - alpha_bar)

    def coefficients(self, t, x):
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), in a shape that multiplies x (N, ...)."""
        alpha_bar = self._at("alphas_bar", t, x)
        lib = xp(alpha_bar)
        return Tensor(lib.sqrt(alpha_bar)), Tensor(lib.sqrt(1 - alpha_bar))

    def posterior(self, x0, x, t):
        """The mean (N, ...) and the variance (N, 1, ...) of q(x_{t-1} | x_t = x, x_0 = x0) (Ho et al. 2020, eq. 6-7).

        At t = 0 the mean is x0 and the variance 0.
        """
        of_x0, of_x, variance = [Tensor(self._at(name, t, x)) for name in ("of_x0", "of_x", "variance")]
        return x0 * of_x0 + x * of_x, variance

    @cached_property
    def _tables(self):
        """{name: (T,) float64}."""
        alphas_bar = self.alphas_bar.astype(np.float64)
        before = np.concatenate([[1.0], alphas_bar[:-1]])
        betas, alphas = self.betas.astype(np.float64), self.alphas.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_x0 = np.sqrt(before) * betas / (1 - alphas_bar)
            of_x = np.sqrt(alphas) * (1 - before) / (1 - alphas_bar)
            variance = betas * (1 - before) / (1 - alphas_bar)
        of_x0[0], of_x[0], variance[0] = 1.0, 0.0, 0.0
        return {"alphas_bar": alphas_bar, "of_x0": of_x0, "of_x": of_x, "variance": variance}

    def _at(self, name, t, x):
        """A table at t in the type of x, (N, 1, ..., 1), or () if t is one number. On the GPU nothing is read back."""
        array, t = value(x), value(t)
        key = name, array.dtype.str, device_of(array)
        if key not in self._moved:
            self._moved[key] = to_device(self._tables[name].astype(array.dtype), key[-1])
        if not (hasattr(t, "dtype") and device_of(t) == key[-1] != "cpu"):
            t = to_device(self._checked(t), key[-1])
        chosen = self._moved[key][t]
        return chosen.reshape(chosen.shape + (1,) * (x.ndim - 1 if chosen.ndim else 0))

    def _checked(self, t):
        t = to_device(np.asarray(t) if isinstance(t, (int, float, list)) else value(t), "cpu")
        rule = f"NoiseSchedule: t is an integer, or (N,) integers, from 0 to {len(self) - 1}"
        expect(t.dtype.kind in "iu" and t.ndim <= 1, rule, t, error=ArgumentError)
        expect(bool(((t >= 0) & (t < len(self))).all()), rule, t.min(), t.max(), error=ArgumentError)
        return t


def _line(start, end, n, dtype):
    """n numbers from `start` to `end`, counted from the nearer end; step and numbers are rounded to `dtype` once.

    This is how PyTorch's linspace rounds, and thereby the published schedules: a last digit of a beta is the seventh
    digit of sigma, which is in the hundreds.
    """
    expect(n >= 1, f"NoiseSchedule: T={n} must be at least 1", error=ArgumentError)
    real = np.dtype(dtype).type
    start, end = real(start), real(end)
    step = np.float64((end - start) / real(max(n - 1, 1)))
    i = np.arange(n)
    return np.where(i < n // 2, start + step * i, (end if n > 1 else start) - step * (n - 1 - i)).astype(dtype)
