"""Distances between two sets of feature vectors: Frechet's (FID), and the kernel distance (KID).

Frechet distance (Heusel et al. 2017, arXiv:1706.08500, eq. 6): fit a Gaussian to each set, and take the squared
Wasserstein-2 distance of the two, which has a closed form (Dowson & Landau 1982):

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1^1/2 C2 C1^1/2)^1/2

The last trace is the sum of the singular values of C2^1/2 C1^1/2. Both roots are of symmetric matrices and come from
their eigenvectors; no square root of a product is taken, which is where other programs meet complex numbers.

It is biased: two samples of one distribution are some distance apart, the more so the fewer they are, so give it beside
that of two real sets of the same sizes. The kernel distance (Binkowski et al. 2018, arXiv:1801.01401) has no such bias.
"""

import numpy as np

from ..data.arrays import as_numpy
from ..errors import ShapeError, expect


def frechet_distance(a, b):
    """The squared Frechet distance of two sets of features (N, D) and (M, D), in float64: 0 for equal Gaussians.

    The features of pictures are the caller's choice: `digit_features(x)`, say. Covariances have Bessel's correction.
    Raises ShapeError if the sets do not fit or hold fewer than two vectors.
    """
    return gaussian_distance(*moments(a), *moments(b))


def moments(features):
    """The mean (D,) and the covariance (D, D) of features (N, D), in float64."""
    x = as_numpy(features, np.float64)
    expect(x.ndim == 2 and len(x) > 1, "frechet: features are (N, D) with N of 2 or more", x, error=ShapeError)
    return x.mean(0), np.atleast_2d(np.cov(x.T))


def gaussian_distance(mean_1, covariance_1, mean_2, covariance_2):
    """The squared Wasserstein-2 distance of two Gaussians, means (D,) and covariances (D, D)."""
    m1, c1, m2, c2 = (np.asarray(x, np.float64) for x in (mean_1, covariance_1, mean_2, covariance_2))
    expect(m1.shape == m2.shape and c1.shape == c2.shape == (*m1.shape, *m1.shape),
           "frechet: two means (D,) and two covariances (D, D)", m1, c1, m2, c2, error=ShapeError)  # fmt: skip
    between = np.linalg.svd(root(c2) @ root(c1), compute_uv=False).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * between)


def root(covariance):
    """The symmetric square root of a symmetric matrix without negative eigenvalues, (D, D)."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # rounding makes zeros slightly negative


def kernel_distance(a, b):
    """The squared maximum mean discrepancy of two sets of features, (N, D) and (M, D), without bias.

    The kernel is (x . y / D + 1)^3, as in Binkowski et al. 2018, section 4. Around 0, on either side, for two samples
    of one distribution.
    """
    a, b = as_numpy(a, np.float64), as_numpy(b, np.float64)
    fits = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1] and min(len(a), len(b)) > 1
    expect(fits, "kernel_distance: features (N, D) and (M, D), 2 or more", a, b, error=ShapeError)
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(a, a), kernel(b, b))]
    return float(sum(within) - 2 * kernel(a, b).mean())
