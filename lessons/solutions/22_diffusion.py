"""Solutions to the exercises of lesson 22, and what there is to see."""

import math

import numpy as np


def jumps(betas):
    # a is multiplied by sqrt(1 - beta) in each step; a^2 + s^2 stays 1 if it was.
    alpha_bar = np.cumprod(1 - betas)
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


def one_step_back(x_0, x_t, a_before, s_before, a, s):
    # Given x_0, x_{t-1} has variance s_before^2, and its covariance with x_t is r s_before^2.
    r = a / a_before
    gain = r * s_before**2 / s**2
    return a_before * x_0 + gain * (x_t - a * x_0), s_before**2 * (1 - gain * r)


def from_v(v, x_t, a, s):
    return a * x_t - s * v, s * x_t + a * v


def forward_step(x, beta, noise, broken):
    # Broken, the variance tends to beta / (1 - (1 - beta)^2), about 1/2: half of what it should be.
    return (1 - beta if broken else math.sqrt(1 - beta)) * x + math.sqrt(beta) * noise


def ddim_step(x_t, noise, a, s, a_next, s_next):
    x_0 = (x_t - s * noise) / a
    return a_next * x_0 + s_next * noise
