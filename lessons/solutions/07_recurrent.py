"""Solutions to the exercises of lesson 7, and what there is to see."""

import math

import numpy as np


def counting_gates(symbol):
    # The forget gate is open for ever, so nothing fades: after 1499 steps the count is still exact. A plain RNN passes
    # its state through U and tanh at every step, and cannot. (A pre-activation of 40 is a gate of 1 to the last digit.)
    sign = {"(": 1.0, ")": -1.0}.get(symbol, 0.0)
    return abs(sign), 1.0, sign


def forget_bias(steps, left):
    keep = left ** (1 / steps)
    return math.log(keep / (1 - keep))


def clip(gradients, most):
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1.0, most / norm) for g in gradients]


def forecast_variances(coefficients, noise, steps):
    # psi_k is what an innovation of 1 has become after k steps; those of the next h steps are independent.
    psi = [1.0]
    while len(psi) < steps:
        psi.append(sum(a * psi[-j] for j, a in enumerate(coefficients, 1) if j <= len(psi)))
    return noise**2 * np.cumsum(np.square(psi))


def inputs_and_targets(text, broken):
    # Broken, the model learns to repeat what it has just read, and its loss falls below the entropy. Only a leak does.
    return text[:, :-1], (text[:, :-1] if broken else text[:, 1:])
