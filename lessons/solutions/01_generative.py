"""Solutions to the exercises of lesson 1, and what there is to see."""

import math

import numpy as np


def kl_of_gaussians(mean_p, std_p, mean_q, std_q):
    # log p - log q = log(std_q / std_p) - (x - mean_p)^2 / 2 std_p^2 + (x - mean_q)^2 / 2 std_q^2, and under p the two
    # squares have the means std_p^2 and std_p^2 + (mean_p - mean_q)^2.
    square = std_p**2 + (mean_p - mean_q) ** 2
    return math.log(std_q / std_p) - 0.5 + square / (2 * std_q**2)


def wasserstein_of_dice(p, q):
    # All that p has more than q to the left of a border must cross that border, whatever the plan.
    return np.abs(np.cumsum(np.asarray(p) - np.asarray(q))).sum()


def smoothed(counts, pseudo):
    # Pseudo-counts pull the fit towards a fair die. This die is nearly fair, so even ten of each side help, when there
    # are only 30 rolls. (Without knowing the die, 1/2 is the classic choice: Krichevsky & Trofimov 1981.)
    counts = np.asarray(counts) + pseudo
    return counts / counts.sum(-1, keepdims=True)


def posterior_of_what_is_seen(parts, log_prior, seen):
    log_joint = log_prior + parts[:, :, seen].sum(2)
    share = np.exp(log_joint - log_joint.max(1, keepdims=True))  # exp(-400) would be 0 for every class
    return share / share.sum(1, keepdims=True)


def price_under_histogram(points, x, bars):
    # On its own points the price falls for ever: in the end each point has a bar of its own, and a density beyond all
    # bounds. New points fall between the bars.
    counts = np.bincount((np.asarray(points) * bars).astype(int), minlength=bars) + 0.1
    density = bars * counts / counts.sum()
    return -np.log(density[(np.asarray(x) * bars).astype(int)]).mean()
