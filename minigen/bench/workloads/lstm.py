"""A character model: embedding 65 x 256, an LSTM of 256, a linear head; 64 steps, batch 32."""

import numpy as np

from . import SEED, adam, plain, training, weights_into

BATCH, STEPS, WIDTH, SYMBOLS = 32, 64, 256, 65


def build(library, captured=plain):
    nn, F = library.nn, library.nn.functional

    class CharacterModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(SYMBOLS, WIDTH)
            self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
            self.head = nn.Linear(WIDTH, SYMBOLS)

        def forward(self, x, targets):
            h, _ = self.lstm(self.embedding(x))
            return F.cross_entropy(self.head(h).view(-1, SYMBOLS), targets.view(-1))

    model = CharacterModel()
    params = weights_into(library, model)
    optimiser = adam(library, model)
    random = np.random.default_rng(SEED + 1)
    x, y = (library.from_numpy(random.integers(0, SYMBOLS, (BATCH, STEPS))) for _ in range(2))

    return training(optimiser, lambda: model(x, y), captured), params
