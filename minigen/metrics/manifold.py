"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991).

Around every vector of a set lies a ball that reaches to its k-th nearest neighbour; together they stand for where the
set lives. Precision is the share of generated vectors inside the real balls: how good single samples are. Recall is the
share of real vectors inside the generated balls: how much of the world is reached. A collapsed generator has high
precision and low recall, which a single number such as the Frechet distance cannot say.
"""

import numpy as np

from ..data.arrays import as_numpy
from ..errors import ArgumentError, ShapeError, expect

BLOCK = 1 << 22  # numbers in one slab of a table of distances


def precision_recall(real, fake, k=3):
    """(precision, recall) of generated features (M, D) against real ones (N, D), eq. 2. Both are from 0 to 1."""
    real, fake = as_numpy(real, np.float64), as_numpy(fake, np.float64)
    fits = real.ndim == fake.ndim == 2 and real.shape[1] == fake.shape[1]
    expect(fits, "precision_recall: features (N, D) and (M, D)", real, fake, error=ShapeError)
    fewest = min(len(real), len(fake))
    expect(1 <= k < fewest, f"precision_recall: k is 1 to {fewest - 1} here", k, error=ArgumentError)
    return _covered(fake, real, k), _covered(real, fake, k)


def _covered(x, support, k):
    """The share of x inside the balls around the vectors of `support`."""
    radius = np.concatenate([np.partition(d, k, 1)[:, k] for d in _squares(support, support)])  # the 0th is itself
    return float(np.concatenate([(d <= radius).any(1) for d in _squares(x, support)]).mean())


def _squares(a, b):
    """Slabs of the table of squared distances, (n, M)."""
    size = max(1, BLOCK // len(b))
    middle = b.mean(0)  # near the origin |a|^2 + |b|^2 - 2 ab loses fewest digits
    a, b = a - middle, b - middle
    b_square = (b**2).sum(1)
    for i in range(0, len(a), size):
        part = a[i : i + size]
        yield np.maximum((part**2).sum(1)[:, None] + b_square - 2 * part @ b.T, 0)
