# %% [markdown]
# # Exercises for lesson 21
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/21_flows.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/21_flows.py`.

# %%
import math

import numpy as np

import minigen
from minigen import optim
from minigen.data import worlds
from minigen.lessons import Wrong, close, exercise
from minigen.models.flow.realnvp import RealNVP
from minigen.nn.utils import clip_grad_norm_
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. A density between 0 and 1
#
# z ~ N(mean, std^2) and x = sigmoid(z) = 1 / (1 + e^-z), so x lies between 0 and 1. What is log p(x)?

# %%


def log_density_of_sigmoid(x, mean, std):
    """An array x (N,) of numbers between 0 and 1 -> log p(x), (N,)."""
    raise NotImplementedError


@exercise(1, log_density_of_sigmoid, hint="z = log x - log(1 - x), and dz/dx = 1 / (x (1 - x))")
def check(answer):
    "A density between 0 and 1"
    edges = np.linspace(0, 1, 400_001)
    middle = 0.5 * (edges[1:] + edges[:-1])
    for mean, std in ((0.0, 1.0), (1.0, 0.5), (-0.5, 2.0)):
        found = np.asarray(answer(middle, mean, std))
        close(found, found.reshape(middle.shape), "the shape")
        p = np.exp(found) / len(middle)
        close(p.sum(), 1.0, f"its integral, mean {mean}, std {std}", 1e-4)
        z = mean + std * numbers(400_000)
        close((p * middle).sum(), (1 / (1 + np.exp(-z))).mean(), "its mean, against samples", 5e-3)
    close(answer(np.array([0.5]), 0.0, 1.0), np.array([math.log(4 / math.sqrt(2 * math.pi))]), "at 1/2", 1e-6)


# %% [markdown]
# ## 2. Undo a coupling
#
# You are given z = x * exp(s) + t, where s and t come from `network(x * mask)` (a function that returns both, (N, D)
# each) and count only where the mask is 0. Find x. You may call the network as often as you like; once is enough.

# %%


def undo(z, mask, network):
    """Arrays z (N, D) and mask (D,) -> x (N, D)."""
    raise NotImplementedError


@exercise(2, undo, hint="where the mask is 1, z is x: so network(z * mask) is what it was")
def check_undo(answer):
    "Undo a coupling"
    w = numbers(6, 12, seed=1)
    for mask in (np.arange(6) % 2, (np.arange(6) < 2) * 1, np.ones(6)):
        network = lambda a: np.split(np.tanh(a @ w), 2, axis=1)
        x = numbers(5, 6)
        s, t = (part * (1 - mask) for part in network(x * mask))
        close(answer(x * np.exp(s) + t, mask, network), x, f"mask {mask.astype(int).tolist()}", 1e-10)


# %% [markdown]
# ## 3. MADE's masks
#
# A network with one hidden layer: `dim` inputs, `hidden` units, `dim` outputs. Make the masks of its two layers, so
# that output d (counted from 0) depends on the inputs 0 .. d-1 and on no other, and on *all* of these (there are at
# least dim - 1 hidden units).

# %%


def masks(dim, hidden):
    """Two arrays of 0 and 1: (hidden, dim), (dim, hidden)."""
    raise NotImplementedError


@exercise(3, masks, hint="hidden unit k gets a degree m from 1 to dim - 1: it sees inputs < m, and outputs >= m see it")
def check_masks(answer):
    "MADE's masks"
    for dim, hidden in ((2, 1), (3, 8), (6, 5), (10, 40)):
        first, second = (np.asarray(mask, np.float64) for mask in answer(dim, hidden))
        if first.shape != (hidden, dim) or second.shape != (dim, hidden):
            raise Wrong(f"the shapes are ({hidden}, {dim}) and ({dim}, {hidden}), not {first.shape}, {second.shape}")
        if not set(np.unique(first)) | set(np.unique(second)) <= {0.0, 1.0}:
            raise Wrong("a mask is made of 0 and 1")
        ways = second @ first
        if np.triu(ways).any():
            d, i = np.argwhere(np.triu(ways))[0]
            raise Wrong(f"dim {dim}: output {d} can see input {i}")
        if (ways[np.tril_indices(dim, -1)] == 0).any():
            raise Wrong(f"dim {dim}: some output cannot see an input before it")
        print(f"  dim {dim}, {hidden} hidden units: {int(ways.sum())} ways, all of them from before")


# %% [markdown]
# ## 4. The first batch
#
# Actnorm is z = (x + b) * exp(s), with one b and s for each channel. Find both for a batch x (N, C, H, W), so that
# each channel of z has mean 0 and standard deviation 1; and log|det| of the layer, for one picture.

# %%


def first_batch(x):
    """An array (N, C, H, W) -> b (C,), s (C,), log|det| (one number)."""
    raise NotImplementedError


@exercise(4, first_batch, hint="each of the C scales acts on H x W pixels of a picture")
def check_first_batch(answer):
    "The first batch"
    for shape in ((50, 3, 4, 4), (20, 2, 3, 5)):
        x = 4 + numbers(*shape) * np.array([1.0, 0.1, 7.0])[: shape[1], None, None]
        b, s, log_det = answer(x)
        b, s = np.asarray(b), np.asarray(s)
        z = (x + b[:, None, None]) * np.exp(s[:, None, None])
        close(1 + z.mean((0, 2, 3)), np.ones(shape[1]), "1 + the means of z", 1e-8)
        close(z.std((0, 2, 3)), np.ones(shape[1]), "its standard deviations", 1e-8)
        close(log_det, shape[2] * shape[3] * s.sum(), "log|det|", 1e-8)


# %% [markdown]
# ## 5. Break it and see: no volume
#
# Write the loss of a flow with a standard normal base, for z (N, D) and log|det| (N,), as tensors: the mean of
# -log p(x) in nats. And, if `broken`, the same without the log-determinant, which is a common slip: the loss goes down
# beautifully. The check trains a RealNVP on a ring with each.

# %%


def loss(z, log_det, broken):
    """Tensors (N, D) and (N,) -> a tensor of one number."""
    raise NotImplementedError


@exercise(5, loss, hint="-log N(z; 0, I) = 1/2 |z|^2 + D/2 log(2 pi); then subtract log|det|")
def check_volume(answer):
    "Break it and see: no volume"
    z, log_det = numbers(7, 3), numbers(7, seed=1)
    own = (0.5 * (z**2).sum(1)).mean() + 1.5 * math.log(2 * math.pi)
    close(answer(minigen.tensor(z), minigen.tensor(log_det), False), own - log_det.mean(), "the right one", 1e-8)
    close(answer(minigen.tensor(z), minigen.tensor(log_det), True), own, "the broken one", 1e-8)
    world = worlds.Rings(radii=(2.0,), std=0.2)
    test = minigen.tensor(world.sample(2000, Generator(1)))
    for broken in (False, True):
        minigen.manual_seed(0)
        g = Generator(0)
        flow = RealNVP(shape=(2,), couplings=6, hidden=32, blocks=2, norm="none")
        optimizer = optim.Adam(flow.parameters(), lr=3e-3)
        for _ in range(300):
            optimizer.zero_grad()
            value = answer(*flow.encode(minigen.tensor(world.sample(128, g))), broken)
            value.backward()
            clip_grad_norm_(list(flow.parameters()), 20.0)
            optimizer.step()
        with minigen.no_grad():
            z, _ = flow.encode(test)
            true = -flow.log_prob(test).mean().item() - float(world.entropy())
        name = "without log|det|" if broken else "as it should be"
        print(
            f"  {name:17} loss {value.item():5.2f}   spread of z {z.numpy().std():5.3f}   KL(world || it) {true:6.2f}"
        )
    print("  it has put all of x at z = 0, where the noise is densest. Its samples are drawn far from there")
