"""A gated PixelCNN of 7 layers, 32 channels in each stack, on 28x28 pictures of 0 and 1, batch 16."""

import numpy as np

from . import SEED, adam, plain, training, weights_into

BATCH, SIDE, CHANNELS, LAYERS = 16, 28, 32, 7


def build(library, captured=plain):
    nn, F = library.nn, library.nn.functional

    def gate(x):
        a, b = x.chunk(2, 1)
        return library.tanh(a) * library.sigmoid(b)

    class Layer(nn.Module):
        """Kernels two high and two wide, above and to the left: `own` is 1 where they end at the pixel itself."""

        def __init__(self, inputs, own):
            super().__init__()
            self.own = own
            self.above = nn.Conv2d(inputs, 2 * CHANNELS, (2, 3))
            self.left = nn.Conv2d(inputs, 2 * CHANNELS, (1, 2))
            self.down = nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 1)
            self.out = nn.Conv2d(CHANNELS, CHANNELS, 1)

        def forward(self, v, h):
            rows = self.above(F.pad(v, (1, 1, 2 - self.own, self.own - 1)))
            y = self.out(gate(self.left(F.pad(h, (2 - self.own, self.own - 1))) + self.down(rows)))
            return gate(rows), h + y if self.own else y

    class PixelCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Layer(CHANNELS if i else 1, min(i, 1)) for i in range(LAYERS)])
            self.hidden = nn.Conv2d(CHANNELS, CHANNELS, 1)
            self.logits = nn.Conv2d(CHANNELS, 1, 1)

        def forward(self, x):
            v = h = 2 * x - 1
            for layer in self.layers:
                v, h = layer(v, h)
            return self.logits(F.relu(self.hidden(F.relu(h))))

    model = PixelCNN()
    params = weights_into(library, model)
    optimiser = adam(library, model)
    x = (np.random.default_rng(SEED + 1).random((BATCH, 1, SIDE, SIDE)) < 0.5).astype(np.float32)
    x = library.from_numpy(x)

    loss = lambda: F.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / BATCH
    return training(optimiser, loss, captured), params
