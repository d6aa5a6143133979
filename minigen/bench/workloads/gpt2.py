"""GPT-2 of any size: pre-norm, GELU (tanh), the head tied to the table of symbols. Without dropout, as pre-trained now.

12 layers, 12 heads, width 768, 50304 symbols (a multiple of 64), context 1024: 124 million parameters. AdamW with the
rates of Brown et al. 2020.
"""

import numpy as np

from . import SEED
from .gpt import layer
from .setting import training


def on_gpu(setting, layers=12, heads=12, width=768, symbols=50304, context=1024, batch=8):
    nn, F = setting.library.nn, setting.library.nn.functional
    Block = layer(setting.library, width, heads)

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(symbols, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)

        def forward(self, x, targets):
            h = self.tokens(x) + self.places.weight
            for block in self.blocks:
                h = block(h)
            logits = F.linear(self.norm(h), self.tokens.weight)
            return F.cross_entropy(logits.reshape(-1, symbols), targets.reshape(-1))

    model = setting.network(GPT())
    optimiser = setting.adam(model, 3e-4, "AdamW", betas=(0.9, 0.95), weight_decay=0.1)
    random = np.random.default_rng(SEED + 1)
    x, y = (setting.put(random.integers(0, symbols, (batch, context))) for _ in range(2))
    return training(setting, optimiser, lambda: model(x, y))
