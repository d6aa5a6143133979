"""Solutions to the exercises of lesson 15, and what there is to see."""

import numpy as np


def best_discriminator(p, q, r):
    return r * p / (r * p + (1 - r) * q)


def overlaps(k, s):
    # Pixel j of the row is covered by the kernels that began at j, j - s, j - 2 s, ... down to j - (k - 1).
    return np.sort([len(range(j % s, k, s)) for j in range(s)])


def expected_modes(w, n):
    return (1 - (1 - w) ** n).sum()


def frechet(m1, c1, m2, c2):
    def roots(c):
        values, vectors = np.linalg.eigh(c)
        return np.sqrt(np.maximum(values, 0)), vectors

    values, vectors = roots(c1)
    root = (vectors * values) @ vectors.T
    between = roots(root @ c2 @ root)[0].sum()
    return ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * between


def spread_after(s, epsilon):
    # With s = 0.01, as untrained layers have it, and epsilon 0.8: 0.011 in place of 1.
    return s / np.sqrt(s**2 + epsilon)
