"""A classifier of 784-256-256-10, batch 128."""

import numpy as np

from . import SEED
from .setting import training


def on_gpu(setting, batch=128, pixels=784, width=256, classes=10):
    nn, F = setting.library.nn, setting.library.nn.functional

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(pixels, width), nn.Linear(width, width)
            self.three = nn.Linear(width, classes)

        def forward(self, x, labels):
            return F.cross_entropy(self.three(F.relu(self.two(F.relu(self.one(x))))), labels)

    model = setting.network(Classifier())
    random = np.random.default_rng(SEED + 1)
    x = setting.put(random.standard_normal((batch, pixels), dtype=np.float32))
    labels = setting.put(random.integers(0, classes, batch))
    return training(setting, setting.adam(model), lambda: model(x, labels))
