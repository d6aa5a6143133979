"""What a classifier says of samples: do they show what was asked for, and are there many kinds of them?

`class_accuracy` takes labels from whoever knows: `name_digits` for digits, a world's own posterior for a world,

    class_accuracy(world.infer(x)[:, 0], labels)
"""

import numpy as np

from ..data.arrays import as_numpy
from ..errors import DataError, ShapeError, expect


def class_accuracy(named, asked):
    """The share of samples that were named as they were asked for: two arrays (N,) of labels -> 0 to 1."""
    named, asked = as_numpy(named), as_numpy(asked)
    expect(named.shape == asked.shape and named.ndim == 1 and len(named),
           "class_accuracy: two arrays (N,) of labels", named, asked, error=ShapeError)  # fmt: skip
    return float((named == asked).mean())


def confusion(named, asked, classes):
    """How often label i was asked for and j was named: (classes, classes) int64."""
    named, asked = as_numpy(named, np.int64), as_numpy(asked, np.int64)
    expect(named.shape == asked.shape and named.ndim == 1, "confusion: two arrays (N,)", named, asked, error=ShapeError)
    return np.bincount(asked * classes + named, minlength=classes * classes).reshape(classes, classes)


def inception_score(probabilities):
    """exp E[KL(p(y | x) || p(y))] (Salimans et al. 2016, arXiv:1606.03498, sec. 4), from p(y | x) of each x, (N, K).

    1 if all samples look alike to the classifier, K if each is certain and all classes come equally. It never looks at
    real data: one perfect sample of each class, repeated, scores K.
    """
    p = as_numpy(probabilities, np.float64)
    expect(p.ndim == 2 and len(p), "inception_score: probabilities (N, K)", p, error=ShapeError)
    fits = (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-4)
    expect(fits, "inception_score: each row adds up to 1", p, error=DataError, hint="write softmax(logits, 1)")
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(p > 0, p * (np.log(p) - np.log(p.mean(0))), 0.0)
    return float(np.exp(gain.sum(1).mean()))
