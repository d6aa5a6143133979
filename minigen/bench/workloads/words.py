"""A language model of words: an embedding of 10000 x 1024, two layers of LSTM, a head; 128 steps, batch 64."""

import numpy as np

from . import SEED
from .setting import training


def on_gpu(setting, symbols=10000, width=1024, layers=2, steps=128, batch=64):
    nn, F = setting.library.nn, setting.library.nn.functional

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(symbols, width)
            self.lstm = nn.LSTM(width, width, layers)
            self.head = nn.Linear(width, symbols)

        def forward(self, x, targets):
            h, _ = self.lstm(self.embedding(x))
            return F.cross_entropy(self.head(h).reshape(-1, symbols), targets.reshape(-1))

    model = setting.network(Words())
    random = np.random.default_rng(SEED + 1)
    x, y = (setting.put(random.integers(0, symbols, (steps, batch))) for _ in range(2))
    return training(setting, setting.adam(model), lambda: model(x, y))
