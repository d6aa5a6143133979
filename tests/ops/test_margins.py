"""Losses that ask for a margin, written out in NumPy beside ours."""

import numpy as np
import pytest
from against_numpy import agrees, draw

from minigen import Tensor, errors
from minigen.nn import functional as F

SIGN = np.array([1.0, -1, 1, -1, -1])
positive = lambda x: np.maximum(x, 0)
distance = lambda a, b, p=2: (np.abs(a - b + 1e-6) ** p).sum(-1) ** (1 / p)
signs = lambda x: SIGN.astype(x.dtype)


@pytest.mark.parametrize(("reduction", "reduced"), [("mean", np.mean), ("sum", np.sum), ("none", lambda x: x)])
def test_pairs(reduction, reduced):
    x, y = draw(5), draw(5, seed=1)
    agrees(lambda x: F.hinge_embedding_loss(x, signs(x), 0.7, reduction),
           lambda x: reduced(np.where(SIGN == 1, x, positive(0.7 - x))), x)  # fmt: skip
    agrees(lambda x: F.soft_margin_loss(x, signs(x), reduction), lambda x: reduced(np.log1p(np.exp(-SIGN * x))), x)
    agrees(lambda x, y: F.margin_ranking_loss(x, y, signs(x), 0.3, reduction),
           lambda x, y: reduced(positive(-SIGN * (x - y) + 0.3)), x, y)  # fmt: skip
    cosine = lambda a, b: (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    agrees(lambda a, b: F.cosine_embedding_loss(a, b, signs(a), 0.2, reduction),
           lambda a, b: reduced(np.where(SIGN == 1, 1 - cosine(a, b), positive(cosine(a, b) - 0.2))),
           draw(5, 3), draw(5, 3, seed=1), tolerance=1e-10)  # fmt: skip


@pytest.mark.parametrize("swap", [False, True])
def test_triplets(swap):
    def reference(a, p, n, norm=2):
        far = np.minimum(distance(a, n, norm), distance(p, n, norm)) if swap else distance(a, n, norm)
        return positive(distance(a, p, norm) - far + 0.8).mean()

    three = [draw(5, 3, seed=i) for i in range(3)]
    agrees(lambda a, p, n: F.triplet_margin_loss(a, p, n, 0.8, swap=swap), reference, *three, tolerance=1e-10)
    agrees(lambda a, p, n: F.triplet_margin_loss(a, p, n, 0.8, p=3, swap=swap),
           lambda a, p, n: reference(a, p, n, 3), *three, tolerance=1e-10)  # fmt: skip
    own = lambda a, b: ((a - b) ** 2).sum(-1)
    agrees(lambda a, p, n: F.triplet_margin_with_distance_loss(Tensor(a) if isinstance(a, np.ndarray) else a, p, n,
                                                               distance_function=own),
           lambda a, p, n: positive(own(a, p) - own(a, n) + 1).mean(), *three)  # fmt: skip


@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin(p):
    t, w = np.array([2, 0, 1, 2]), np.array([0.5, 1.0, 2.0])

    def reference(x):
        rows = []
        for row, c in zip(x, t):
            rows.append(sum(w[c] * positive(0.7 - row[c] + row[j]) ** p for j in range(3) if j != c) / 3)
        return np.mean(rows).astype(x.dtype)

    agrees(lambda x: F.multi_margin_loss(x, t, p, 0.7, w.astype(x.dtype)), reference, draw(4, 3))
    one = F.multi_margin_loss(Tensor(draw(3)), np.int64(1))
    assert one.shape == () and abs(one.item() - F.multi_margin_loss(Tensor(draw(1, 3)), np.array([1])).item()) < 1e-12


def test_multilabel_margin():
    t = np.array([[2, 0, -1, 1], [-1, 0, 1, 2], [3, 2, 1, 0]])

    def reference(x):
        rows = []
        for row, listed in zip(x, t):
            end = list(listed).index(-1) if -1 in listed else 4
            own = listed[:end]
            rows.append(sum(positive(1 - row[i] + row[j]) for i in own for j in range(4) if j not in own) / 4)
        return np.mean(rows).astype(x.dtype)

    agrees(lambda x: F.multilabel_margin_loss(x, t), reference, draw(3, 4))


def test_multilabel_soft_margin():
    t = np.array([[1.0, 0, 1], [0, 0, 1]])
    w = np.array([0.5, 1, 2])
    agrees(lambda x: F.multilabel_soft_margin_loss(x, t.astype(x.dtype), w.astype(x.dtype)),
           lambda x: (w * (t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x))).mean(), draw(2, 3))  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.triplet_margin_loss(x, x, x, margin=0), errors.ArgumentError, "margin"),
        (lambda x: F.triplet_margin_loss(x, x, x[0]), errors.ShapeError, "dimensions"),
        (lambda x: F.multi_margin_loss(x, np.array([0, 1, 4])), errors.DimError, "0 to 3"),
        (lambda x: F.multi_margin_loss(x, np.array([0, 1])), errors.ShapeError, "target"),
        (lambda x: F.multi_margin_loss(x, np.array([0, 1, 2]), p=3), errors.ArgumentError, "1 or 2"),
        (lambda x: F.multilabel_margin_loss(x, np.full((3, 4), 4)), errors.DimError, "-1 to 3"),
        (lambda x: F.soft_margin_loss(x, x[0]), errors.ShapeError, "shapes must be equal"),
        (lambda x: F.cosine_embedding_loss(x, x, x), errors.ShapeError, "the target"),
        (lambda x: F.margin_ranking_loss(x, x, x[0]), errors.ShapeError, "dimensions"),
        (lambda x: F.hinge_embedding_loss(x, x, reduction="max"), errors.ArgumentError, "reduction"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(draw(3, 4)))
