"""Training steps written once against names that minigen and PyTorch share.

build(library, captured) -> step, params
step(i)     one training step with the i-th given noise (None: draw it); returns the loss as a float
captured    what the part of it that computes is put through: minigen.capture, or nothing
"""

import numpy as np

SEED = 0


def weights_into(library, model, seed=SEED):
    """Give `model` weights drawn by NumPy, the same in both libraries: N(0, 1/fan_in), norms at one, biases zero."""
    random = np.random.default_rng(seed)
    state = dict(model.state_dict())
    for name, p in model.named_parameters():
        shape = tuple(p.shape)
        if len(shape) > 1:
            array = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        else:
            array = np.ones(shape) if name.endswith("weight") else np.zeros(shape)
        state[name] = library.from_numpy(array.astype(np.float32))
    model.load_state_dict(state)
    return sum(p.numel() for p in model.parameters())


def normal(library, *shape, seed=SEED + 1):
    """Standard normal numbers drawn by NumPy, the same in both libraries."""
    return library.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def adam(library, model, lr=1e-3):
    """Adam as each library does it best."""
    if library.__name__ == "torch":
        return library.optim.Adam(model.parameters(), lr=lr, fused=True)
    return library.optim.Adam(model.parameters(), lr=lr)


def activated(library, layer, x, activation):
    """An activation of a layer as each library does it best: minigen's layers apply it, torch.compile joins the two.

    activation: "relu", "silu" or "gelu_tanh"
    """
    if library.__name__ != "torch":
        return layer(x, activation)
    F = library.nn.functional
    if activation == "gelu_tanh":
        return F.gelu(layer(x), approximate="tanh")
    return getattr(F, activation)(layer(x))


def plain(step):
    """The step itself, not captured."""
    return step


def training(optimiser, loss, captured, noises=None):
    """The ordinary step, as a user writes it. loss(): the loss; loss(noise): that with given noise."""

    @captured
    def train(*noise):
        optimiser.zero_grad()
        found = loss(*noise)
        found.backward()
        optimiser.step()
        return found

    return lambda i: train(*(() if i is None or noises is None else (noises[i],))).item()
