"""A classifier of 784-256-256-10, batch 128."""

import numpy as np

from . import SEED, activated
from .setting import training


def on_gpu(setting, batch=128, pixels=784, width=256, classes=10):
    library = setting.library
    nn, F = library.nn, library.nn.functional

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(pixels, width), nn.Linear(width, width)
            self.three = nn.Linear(width, classes)

        def forward(self, x, labels):
            h = activated(library, self.one, x, "relu")
            return F.cross_entropy(self.three(activated(library, self.two, h, "relu")), labels)

    model = setting.network(Classifier())
    random = np.random.default_rng(SEED + 1)
    x = setting.put(random.standard_normal((batch, pixels), dtype=np.float32))
    labels = setting.put(random.integers(0, classes, batch))
    return training(setting, setting.adam(model), lambda: model(x, labels))
