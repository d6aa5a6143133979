"""Solutions to the exercises of lesson 10, and what there is to see."""

import math

import numpy as np

import minigen


def kl_to_prior(mu, log_var):
    # E_q[log q] - E_q[log p], with E_q[z^2] = mu^2 + sigma^2.
    return 0.5 * (mu * mu + minigen.exp(log_var) - log_var - 1)


def iwae(log_weights):
    return minigen.logsumexp(log_weights, 0) - math.log(len(log_weights))


def best_independent_variances(W, s):
    # The slope of precision_ii v_i - log v_i is zero at v_i = 1 / precision_ii: how much z_i may move while the others
    # stand still. The posterior's own variance lets them move along, and is larger.
    precision = np.eye(W.shape[1]) + W.T @ W / s**2
    return 1 / np.diag(precision)


def draw_causes(mu, log_var, noise, broken):
    # Broken, a sigma of 0.1 is taken for 0.01: the decoder sees z nearly without noise, and the KL is charged for much.
    return mu + noise * minigen.exp(log_var if broken else 0.5 * log_var)


def reported_nats(true_nats, pixels, width):
    # Nothing was learned: the same P, on a shorter ruler. Bits per dimension shift the same way, by log2(width).
    return true_nats + pixels * math.log(width)
