"""A small training run with a bit of everything, for the checks that compare one run with another.

    losses, fingerprint = train(20)
    python -m minigen.faults.small 20          prints the fingerprint: the same bits give the same one

Convolution, two norms, attention, dropout, cross-entropy; a shuffled loader, Adam, a schedule, an average of the
weights, clipping. All of it draws from the default generator.
"""

import hashlib
import sys

import numpy as np


def network():
    """Pictures (N, 1, 8, 8) -> logits (N, 4)."""
    from minigen import nn
    from minigen.nn import functional as F

    class Network(nn.Module):
        def __init__(self):
            self.stem = nn.Conv2d(1, 8, 3, padding=1)
            self.norm = nn.GroupNorm(2, 8)
            self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
            self.batch = nn.BatchNorm2d(16)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.layer = nn.LayerNorm(16)
            self.drop = nn.Dropout(0.1)
            self.out = nn.Linear(16, 4)

        def forward(self, x):
            x = F.gelu(self.norm(self.stem(x)))
            x = F.silu(self.batch(self.down(x)))
            x = x.flatten(2).transpose(1, 2)
            x = x + self.attention(x, x, x, need_weights=False)[0]
            return self.out(self.drop(self.layer(x)).mean(1))

    return Network()


def pictures(count=128):
    """`count` noisy pictures of one bright quarter each, and which quarter it was."""
    random = np.random.default_rng(0)
    quarter = random.integers(0, 4, count)
    x = 0.3 * random.standard_normal((count, 1, 8, 8))
    for i, q in enumerate(quarter):
        x[i, 0, q // 2 * 4 : q // 2 * 4 + 4, q % 2 * 4 : q % 2 * 4 + 4] += 1
    return x.astype(np.float32), quarter


def loss(model, batch):
    """Cross-entropy of the quarter."""
    from minigen.nn import functional as F

    x, quarter = batch
    return F.cross_entropy(model(x), quarter)


def train(steps, seed=0, **options):
    """Train; returns the losses, and a fingerprint of every weight, average and generator at the end."""
    import minigen
    from minigen import optim
    from minigen.data import DataLoader, TensorDataset
    from minigen.train import fit

    minigen.manual_seed(seed)
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    ema = optim.EMA(model, 0.9)
    run = fit(
        model,
        loss,
        DataLoader(TensorDataset(*pictures()), batch_size=32, shuffle=True),
        optimizer,
        steps=steps,
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        ema=ema,
        clip_norm=1.0,
        progress=False,
        **options,
    )
    return run.losses, fingerprint(run.state())


def fingerprint(state):
    """A hash of everything in a nest of dictionaries, lists, arrays, tensors and numbers."""
    digest = hashlib.sha256()
    _feed(digest, state)
    return digest.hexdigest()


def _feed(digest, value):
    value = value.data if hasattr(value, "requires_grad") else value
    if isinstance(value, dict):
        for key in value:
            _feed(digest, key), _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "tobytes"):
        digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    else:
        digest.update(repr(value).encode())


if __name__ == "__main__":
    numbers, bits = train(int(sys.argv[1]))
    print(" ".join(repr(x) for x in numbers))
    print(bits)
