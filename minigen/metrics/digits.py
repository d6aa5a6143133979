"""A judge of handwritten digits: a small CNN, trained once on the bundled digits and shipped with its weights.

    digit_features(x)       (N, 64): what the Frechet distance is taken of
    name_digits(x)          (N,) int64: which digit each picture shows

Pictures are (N, 1, 8, 8) in [0, 1], as `minigen.data.digits` gives them. Published Frechet distances are of Inception's
features of photographs (Heusel et al. 2017); these are of features that know digits, so the numbers of the two cannot
be compared.

    python -m minigen.metrics.digits        trains it anew, in about a minute, and says how well it does

The shipped weights have learned from the 1350 digits of "train" and "valid", and never seen the 447 of "test".
"""

import functools
from pathlib import Path

import numpy as np

from .. import nn, optim
from ..autograd import no_grad
from ..data.arrays import as_numpy
from ..data.augment import random_affine
from ..data.handwritten import digits
from ..errors import CheckpointError, DataError, ShapeError, expect
from ..nn import functional as F
from ..random import Generator, manual_seed
from ..tensor import Tensor
from ..tensorfile import read_safetensors, write_safetensors

WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
ACCURACY = 0.9888  # share of digits("test") that the shipped weights name rightly
BLOCK = 1000  # pictures at a time


class DigitClassifier(nn.Module):
    """Pictures (N, 1, 8, 8) in [0, 1] -> logits (N, 10). Its features, (N, 64), are means over places."""

    def __init__(self):
        self.layers = nn.Sequential(*_block(1, 24), *_block(24, 32), nn.MaxPool2d(2), *_block(32, 64), nn.Dropout(0.2))
        self.out = nn.Linear(64, 10)

    def features(self, x):
        return self.layers(x).mean((2, 3))

    def forward(self, x):
        return self.out(self.features(x))


def _block(inputs, maps):
    return nn.Conv2d(inputs, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()


@functools.cache
def digit_classifier():
    """The shipped DigitClassifier, in evaluation mode, on the CPU."""
    judge = DigitClassifier()
    try:
        with read_safetensors(WEIGHTS) as file:
            judge.load_state_dict(dict(file))
    except CheckpointError as problem:
        raise CheckpointError(f"{problem}\n  reinstall minigen: it ships this file") from None
    return judge.eval().requires_grad_(False)


def digit_features(x):
    """The classifier's 64 features of each picture, a float64 NumPy array (N, 64).

    x is (N, 1, 8, 8) in [0, 1]; raises ShapeError or DataError for anything else.
    """
    return _by_blocks(digit_classifier().features, x)


def name_digits(x):
    """The digit that each picture shows, in the classifier's opinion: (N,) int64."""
    return _by_blocks(digit_classifier(), x).argmax(1)


def digit_probabilities(x):
    """p(digit | picture) in the classifier's opinion, (N, 10) float64."""
    return _by_blocks(lambda x: F.softmax(digit_classifier()(x), 1), x)


@no_grad()
def _by_blocks(function, x):
    x = as_numpy(x, np.float32)
    expect(x.ndim == 4 and x.shape[1:] == (1, 8, 8), "digits: pictures are (N, 1, 8, 8)", x, error=ShapeError)
    if x.size and not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
        raise DataError(
            f"digits: pixels are from 0 (paper) to 1 (ink), these from {x.min():.3g} to {x.max():.3g}\n"
            "  write (x + 1) / 2 for pictures from -1 to 1, x / 16 for ink from 0 to 16"
        )
    blocks = [function(Tensor(x[i : i + BLOCK])).numpy() for i in range(0, max(len(x), 1), BLOCK)]
    return np.concatenate(blocks).astype(np.float64)


# How it was trained


def moved(x, generator):
    """Each picture moved by -1, 0 or 1 pixel both ways, with zeros coming in."""
    framed = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = generator.integers(0, 3, (2, len(x)))
    rows, columns = down[:, None, None] + np.arange(8)[:, None], right[:, None, None] + np.arange(8)
    return framed[np.arange(len(x))[:, None, None], 0, rows, columns][:, None]


def train(epochs=60, seed=0):
    """A DigitClassifier trained on "train" and "valid", every picture turned, slanted, scaled and moved a little."""
    manual_seed(seed)
    generator = Generator(seed)
    x, y = (np.concatenate(parts) for parts in zip(digits("train"), digits("valid")))
    judge = DigitClassifier()
    steps = epochs * len(x) // 50
    optimizer = optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        rows = generator.integers(0, len(x), (50,))
        seen = moved(random_affine(x[rows], generator, shift=0.0), generator)
        optimizer.zero_grad()
        F.cross_entropy(judge(Tensor(seen)), Tensor(y[rows])).backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


def main():
    judge = train()
    WEIGHTS.parent.mkdir(exist_ok=True)
    write_safetensors(WEIGHTS, judge.state_dict())
    digit_classifier.cache_clear()
    for part in ("train", "valid", "test"):
        x, y = digits(part)
        print(f"{part:6} {np.mean(name_digits(x) == y):.4f}")


if __name__ == "__main__":
    main()
