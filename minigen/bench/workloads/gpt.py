"""A GPT of 4 layers, width 128, 4 heads, context 128, batch 16, 65 symbols: pre-norm, GELU (tanh), untied head."""

import numpy as np

from . import SEED, activated, adam, plain, training, weights_into

BATCH, CONTEXT, WIDTH, HEADS, LAYERS, SYMBOLS = 16, 128, 128, 4, 4, 65


def layer(library, width, heads):
    """The class of a layer of GPT-2, for any width and number of heads."""
    nn, F = library.nn, library.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            B, T, D = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(B, T, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(mixed.transpose(1, 2).reshape(B, T, D))
            return x + self.down(activated(library, self.up, self.norm2(x), "gelu_tanh"))

    return Block


def build(library, captured=plain):
    nn, F = library.nn, library.nn.functional
    Block = layer(library, WIDTH, HEADS)

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(SYMBOLS, WIDTH)
            self.positions = nn.Parameter(library.zeros(CONTEXT, WIDTH))
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, SYMBOLS, bias=False)

        def forward(self, x, targets):
            h = self.tokens(x) + self.positions
            for block in self.blocks:
                h = block(h)
            return F.cross_entropy(self.head(self.norm(h)).view(-1, SYMBOLS), targets.view(-1))

    model = GPT()
    params = weights_into(library, model)
    optimiser = adam(library, model)
    random = np.random.default_rng(SEED + 1)
    x, y = (library.from_numpy(random.integers(0, SYMBOLS, (BATCH, CONTEXT))) for _ in range(2))

    return training(optimiser, lambda: model(x, y), captured), params
