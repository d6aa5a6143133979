# %% [markdown]
# # 21. Normalising flows
#
# Can a network know exactly how likely a picture is, and still draw one in a single pass?
#
# A VAE has only a bound on log p(x), a GAN has no number at all. A flow has the number itself. It is a network that
# can be run backwards: one way from x to noise z, the other way from noise to x. Whoever can do that, and knows by how
# much volumes change on the way, knows the density. The art is to build networks that are rich, run backwards, and
# have a determinant that costs nothing:
#
# 1. change of variables, in one dimension
# 2. coupling layers, and why they can be turned round
# 3. NICE and RealNVP on a world with a known density
# 4. one dimension after the other: MAF and IAF
# 5. whole numbers: dequantisation, done rightly and wrongly
# 6. many scales: RealNVP on digits
# 7. Glow: actnorm and the 1x1 convolution
# 8. noise that is learned: variational dequantisation
#
# You need lessons 1 (nats, KL) and 10 (bounds, the digits and their floor). Run it with `python lessons/21_flows.py`.

# %%
import math
import time

import numpy as np

import minigen
from minigen import autograd, linalg, nn, optim
from minigen.data import ImageFolder, digits, worlds
from minigen.lessons import Lesson
from minigen.metrics.likelihood import bits_per_dim, dequantisation_constant
from minigen.models.flow.convolution import LUConvolution
from minigen.models.flow.glow import Glow
from minigen.models.flow.masked_autoregressive import MADE, MAF, InverseAutoregressive, MaskedAutoregressive
from minigen.models.flow.multiscale import Squeeze
from minigen.models.flow.realnvp import RealNVP
from minigen.models.flow.scaling import ActNorm
from minigen.nn.utils import clip_grad_norm_
from minigen.plot import COLOURS, show_image

lesson = Lesson("21_flows", uses=("device", "data"))
g = lesson.generator


def tensor(array, dtype=np.float32):
    return minigen.tensor(np.asarray(array, dtype), device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


# %% [markdown]
# ## 1. Change of variables, in one dimension
#
# Draw z from N(0, 1), and let x = e^z. How dense is x? All z between 0 and 0.1 land between 1 and 1.105: the same
# share of draws, on a slightly longer piece of line, so the density is lower by that much. In general
#
#     p(x) = p(z) |dz/dx|,         log p(x) = log N(log x; 0, 1) - log x
#
# It is often forgotten. Let us do both, and count.

# %%
lesson.section("1. Change of variables, in one dimension")

normal = lambda z: np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
x = np.exp(g.normal((200_000,)).astype(np.float64))
rows = []
for a in (0.25, 0.5, 1.0, 2.0, 4.0):
    b = a + 0.1
    counted = ((x >= a) & (x < b)).mean() / (b - a)
    middle = 0.5 * (a + b)
    rows.append([f"{a} to {b:.2f}", counted, normal(np.log(middle)) / middle, normal(np.log(middle))])
lesson.table(["x", "counted", "p(z) |dz/dx|", "p(z) alone"], rows)
line = np.linspace(1e-4, 60, 600_001)
areas = [np.trapezoid(p, line) for p in (normal(np.log(line)) / line, normal(np.log(line)))]
print(f"  area below: {areas[0]:.3f} with |dz/dx|, {areas[1]:.3f} without (e^0.5): not a density")

with lesson.figure("change", "The same draws, on a stretched line.", columns=2, size=(8.2, 2.9)) as axes:
    z = np.linspace(-2.5, 1.8, 200)
    axes[0].plot(z, np.exp(z))
    for left in np.arange(-2, 1.5, 0.5):
        axes[0].fill_between([left, left + 0.25], 0, np.exp([left, left + 0.25]), color=COLOURS["floor"], alpha=0.4)
    axes[0].set(xlabel="z", ylabel="x = exp(z)", title="Equal steps of z, growing steps of x")
    axes[1].hist(x[x < 6], 90, density=False, weights=np.full((x < 6).sum(), 1 / (len(x) * 6 / 90)), color="#cccccc")
    shown = np.linspace(0.01, 6, 400)
    axes[1].plot(shown, normal(np.log(shown)) / shown, label="p(z) |dz/dx|")
    axes[1].plot(shown, normal(np.log(shown)), "--", color=COLOURS["second"], label="p(z) alone")
    axes[1].set(xlabel="x", ylabel="density", title="Counted (grey), and two formulas")
    axes[1].legend()

# %% [markdown]
# With many dimensions the stretch is the determinant of the Jacobian:
#
#     log p(x) = log p(f(x)) + log|det df/dx|
#
# A layer after a layer: the logarithms add. So a flow is made of layers, and each must have an inverse, and a
# determinant that is cheap. A general D x D determinant costs D^3, for every x and at every step: hopeless. The
# determinant of a *triangular* matrix is the product of its diagonal.
#
# ## 2. Coupling layers, and why they can be turned round
#
# Cut x into two halves. One stays, and tells the other how to move:
#
#     z_a = x_a
#     z_b = x_b * exp(s(x_a)) + t(x_a)            (Dinh, Sohl-Dickstein & Bengio 2017, eq. 4-5)
#
# To go back: x_a is there, so compute the *same* s and t, subtract and divide. Nobody ever inverts s and t, so they
# may be any network at all. With s = 0 it is NICE's additive coupling (Dinh, Krueger & Bengio 2014).
#
# The halves are told apart by a mask: 1 where x stays. (s goes through a tanh times a learned factor, as in the paper:
# an exp of anything would soon explode.)

# %%
lesson.section("2. Coupling layers, and why they can be turned round")


class Coupling(nn.Module):
    """x (N, D) <-> z (N, D), each with log|det| of its Jacobian, (N,)."""

    def __init__(self, mask, hidden, affine=True):
        dim = len(mask)
        self.network = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dim)
        )
        self.factor = nn.Parameter(minigen.ones(dim) if affine else minigen.zeros(dim))
        self.factor.requires_grad_(affine)
        self.register_buffer("mask", minigen.tensor(np.asarray(mask, np.float32)))

    def how(self, stays):
        s, t = self.network(stays).chunk(2, 1)
        return minigen.tanh(s) * self.factor * (1 - self.mask), t * (1 - self.mask)

    def forward(self, x):
        s, t = self.how(x * self.mask)
        return x * minigen.exp(s) + t, s.sum(1)

    def inverse(self, z):
        s, t = self.how(z * self.mask)  # what stayed is in z as it was in x
        return (z - t) * minigen.exp(-s), -s.sum(1)


class Flow(nn.Module):
    """Couplings one after the other, of which each moves what the one before left alone; noise N(0, I) at the end."""

    def __init__(self, dim, couplings, hidden, affine=True):
        masks = [(np.arange(dim) + i) % 2 == 0 for i in range(couplings)]
        self.layers = nn.ModuleList([Coupling(mask, hidden, affine) for mask in masks])

    def encode(self, x):
        total = 0.0
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def decode(self, z):
        for layer in reversed(list(self.layers)):
            z, _ = layer.inverse(z)
        return z

    def log_prob(self, x):
        z, log_det = self.encode(x)
        return log_det - (0.5 * z * z + 0.5 * math.log(2 * math.pi)).sum(1)


# %% [markdown]
# Is it so? Eight numbers, six couplings, weights at random. Autograd gives the whole 8 x 8 Jacobian, NumPy its
# determinant, in float64.


# %%
def jacobian(function, x):
    """d function(x) / dx for one x (1, D): (D, D)."""
    x = minigen.tensor(array(x), requires_grad=True)
    y = function(x).reshape(-1)
    return np.stack([array(autograd.grad(y[i], [x], retain_graph=True)[0]).reshape(-1) for i in range(len(y))])


six = Flow(8, 6, 32).double()
with minigen.no_grad():
    for p in six.parameters():
        p.add_(0.1 * minigen.randn_like(p, generator=g))
x = tensor(g.normal((5, 8)), np.float64)


def through(layers):
    def function(v):
        for layer in layers:
            v, _ = layer(v)
        return v

    return function


matrices = [jacobian(through(list(six.layers)[:k]), x[:1]) for k in (1, 2, 6)]
z, log_det = six.encode(x)
dense = [np.linalg.slogdet(jacobian(through(six.layers), x[i : i + 1]))[1] for i in range(len(x))]
lesson.table(
    ["", *(f"x_{i}" for i in range(len(x)))],
    [["sum of s", *array(log_det)], ["log|det| of the dense Jacobian", *dense]],
)
lesson.proof("log-det against the dense Jacobian", np.abs(array(log_det) - dense).max(), "nats", at_most=1e-9)
lesson.proof("inverse of forward, largest error", np.abs(array(six.decode(z) - x)).max(), at_most=1e-10)

with lesson.figure("jacobians", "After one coupling half of the rows are the identity's.", columns=3,
                   size=(8.2, 2.9)) as axes:  # fmt: skip
    for panel, matrix, k in zip(axes, matrices, (1, 2, 6)):
        show_image(panel, np.abs(matrix), f"{k} coupling{'s' * (k > 1)}", 0, np.abs(matrix).max())
        panel.set(xlabel="x", ylabel="z")

# %% [markdown]
# One coupling leaves half of x as it was, and in the right order of rows its Jacobian is triangular. Two, with the
# halves exchanged, let everything move. Six have a full Jacobian whose determinant we still know from a sum.
#
# ## 3. NICE and RealNVP on a world with a known density
#
# A ring in the plane, blurred: its density is known, so the KL from the world to the flow can be integrated on a fine
# grid, and so can the flow's own density. If that is not 1, it was no density.

# %%
lesson.section("3. NICE and RealNVP on a world with a known density")

world = worlds.Rings(radii=(2.0,), std=0.2)
side = lesson.pick(361, quick=161)
axis = np.linspace(-6.0, 6.0, side)
grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
cell = (axis[1] - axis[0]) ** 2
log_p = world.log_prob(grid)


def train(model, loss, steps, rate, what):
    """Adam, a cosine, and gradients clipped. Returns the loss of each step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optim.Adam(parameters, lr=rate)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    losses = []
    model.train()
    for _ in (bar := lesson.progress(steps, what)):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        clip_grad_norm_(parameters, 20.0)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
        bar.set_postfix_str(f"{losses[-1]:.2f} nats", refresh=False)
    model.eval()
    return losses


@minigen.no_grad()
def on_the_grid(model):
    """log q on the grid, the integral of q, and KL(world || q) in nats."""
    log_q = np.concatenate([array(model.log_prob(tensor(part))) for part in np.array_split(grid, 8)]).astype(np.float64)
    return log_q, np.exp(log_q).sum() * cell, (np.exp(log_p) * (log_p - log_q)).sum() * cell


ring_batch = lambda: tensor(world.sample(256, g))
variance = 2.0**2 / 2 + 0.2**2
gaussian = math.log(2 * math.pi * math.e * variance) - float(world.entropy())
steps = lesson.pick(800, quick=80)
plane, rows = {}, [["the best Gaussian", "1", f"{gaussian:.3f}"]]
for name, affine in (("NICE", False), ("RealNVP", True)):
    model = Flow(2, 6, 64, affine).to(lesson.device)
    train(model, lambda model=model: -model.log_prob(ring_batch()).mean(), steps, 3e-3, name)
    lesson.spend(steps * 256 * 3 * 6 * 2 * (2 * 64 + 64 * 64 + 64 * 4))
    plane[name] = model, *on_the_grid(model)
    rows.append([name, f"{plane[name][2]:.5f}", f"{plane[name][3]:.3f}"])
lesson.table(["ring", "its integral", "KL(world || it), nats"], rows)
real, _, integral, kl = plane["RealNVP"]
lesson.proof("RealNVP: integral of its density, off 1 by", abs(integral - 1), at_most=2e-3)
lesson.proof("ring, KL(world || RealNVP)", kl, "nats", floor=(gaussian, "the best Gaussian"), optimum=(0.0, "exact"))

with lesson.figure("ring", "A ring, and two flows that bend a disc into it.", columns=4, size=(11.0, 2.9)) as axes:
    for panel, (name, log_q) in zip(axes, [("The world", log_p), *((k, v[1]) for k, v in plane.items())]):
        middle = slice(side // 6, side - side // 6)
        picture = np.exp(log_q).reshape(side, side)[::-1][middle, middle]
        show_image(panel, picture, name, 0, np.exp(log_p).max() * 1.2)
    with minigen.no_grad():
        for radius in (0.25, 0.5, 1.0, 1.5, 2.0, 2.5):
            turn = np.linspace(0, 2 * np.pi, 400)
            circle = radius * np.stack([np.cos(turn), np.sin(turn)], 1)
            axes[3].plot(*array(real.decode(tensor(circle))).T, linewidth=1)
    axes[3].set(title="RealNVP: circles of z, seen in x", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))

# %% [markdown]
# NICE may shear but not squeeze (volumes stay), so its density is that of the noise, moved about. RealNVP is close.
# But look at the circles: a flow is continuous both ways, so no flow can make a hole in a disc. It bends the disc into
# a C whose ends nearly meet, and pays a little for the gap. Topology is what a flow cannot change.
#
# ## 4. One dimension after the other: MAF and IAF
#
# A triangular Jacobian can be had in another way: let every dimension move by *all* that came before it.
#
#     z_d = (x_d - shift(x_1 .. x_(d-1))) * exp(-s(x_1 .. x_(d-1)))     (Papamakarios et al. 2017, eq. 2-5)
#
# One network gives all the shifts at once if its weights are masked, so that output d cannot see x_d and later: MADE
# (Germain et al. 2015). Give each hidden unit a degree m: it may look at x_1 .. x_m, and tell only outputs above m.

# %%
lesson.section("4. One dimension after the other: MAF and IAF")

dim, units = 6, 10
inputs, degrees = np.arange(1, dim + 1), np.arange(units) % (dim - 1) + 1
first = degrees[:, None] >= inputs[None, :]  # (units, dim): which weights of the first layer stay
second = inputs[:, None] > degrees[None, :]  # (dim, units): of the second
paths = second.astype(int) @ first.astype(int)
print("  ways from x (columns) to each output (rows), through the masks:")
print("\n".join("    " + " ".join(f"{n:2d}" for n in row) for row in paths))

# %% [markdown]
# Strictly below the diagonal, and nothing missing there. Density: one pass of the network, since all of x is known.
# Sampling: x_1 is needed for x_2, that is one pass for each dimension. IAF (Kingma et al. 2016) turns the formula
# round, x_d = z_d exp(s(z_<d)) + shift(z_<d): samples take one pass, and the density of an x from elsewhere takes D.
# Here with 64 dimensions:

# %%
rows = []
v = tensor(g.normal((500, 64)))
for name, layer in (
    ("MAF", MaskedAutoregressive(MADE(64, (128,)))),
    ("IAF", InverseAutoregressive(MADE(64, (128,)))),
    ("coupling", Coupling(np.arange(64) % 2, 128)),
):
    layer = layer.to(lesson.device).eval()
    took = []
    with minigen.no_grad():
        for function in (layer, layer.inverse):
            function(v)
            started = time.process_time()
            for _ in range(3):
                function(v)
            took.append((time.process_time() - started) / 3)
    passes = {"MAF": ("1", "64"), "IAF": ("64", "1"), "coupling": ("1", "1")}[name]
    rows.append([name, passes[0], passes[1], f"{1e3 * took[0]:.1f}", f"{1e3 * took[1]:.1f}"])
lesson.table(["", "passes x -> z", "z -> x", "ms x -> z", "ms z -> x"], rows)

maf = MAF(shape=(2,), layers=4, hidden=(64, 64), activation="tanh").to(lesson.device)
train(maf, lambda: maf(ring_batch()), steps, 3e-3, "MAF")
_, integral, kl = on_the_grid(maf)
print(f"  four layers of MAF on the ring: integral {integral:.4f}, KL(world || MAF) {kl:.3f} nats")

# %% [markdown]
# A coupling is the special case where the network sees only half and moves only half: poorer, and quick both ways.
# MAF for densities, IAF inside a VAE's posterior (where only its own samples are ever scored), couplings for both.
#
# ## 5. Whole numbers: dequantisation, done rightly and wrongly
#
# The digits' pixels are whole numbers, 0 to 16. A *density* for whole numbers is worth nothing: put a spike on each,
# make it narrower, and log p grows without end. Add noise u ~ U(0, 1) to every pixel first. Then any density p of v
# belongs to a probability P(x), the integral of p over the unit cube above x, and by Jensen's inequality
#
#     log P(x) = log E_u[ p(x + u) ]  >=  E_u[ log p(x + u) ]            (Theis, van den Oord & Bethge 2016)
#
# so the loss is a bound on an honest, discrete log-likelihood: nats that may stand beside 106.3, the independent
# pixels. The width must be 1. With u ~ U(0, 1/2) half of the line is never used, and the density can be twice as high
# at every pixel, for nothing: 64 log 2 = 44.4 nats a picture. Let us train the same small Glow (section 7) with both.

# %%
lesson.section("5. Whole numbers: dequantisation, done rightly and wrongly")

LEVELS, SIDE, PIXELS = 17, 8, 64


def load_digits():
    """(train, valid, test), each (N, 1, 8, 8) of levels 0..16: the digits, or the pictures in --data, made small."""
    if lesson.data:
        folder = ImageFolder(lesson.data, size=SIDE, channels=1)
        x = np.stack([array(folder[i][0]) for i in g.permutation(len(folder))])
        return np.split(np.rint(16 * x), [int(0.6 * len(x)), int(0.8 * len(x))])
    return [np.rint(16 * digits(part)[0]) for part in ("train", "valid", "test")]


train_x, valid_x, test_x = load_digits()
x, x_test = tensor(train_x), tensor(test_x)
digit_batch = lambda: x[g.integers(0, len(train_x), (100,))]
counts = np.stack([np.bincount(p, minlength=LEVELS) for p in train_x.reshape(len(train_x), -1).T.astype(int)]) + 0.1
share = counts / counts.sum(1, keepdims=True)
floor = -np.log(share)[np.arange(PIXELS), test_x.reshape(len(test_x), -1).astype(int)].sum(1).mean()


@minigen.no_grad()
def bound(model, x):
    """The mean of -log p(x + u) over pictures and draws of u: nats a picture, an upper bound on -log P(x)."""
    draws = lesson.pick(10, quick=2)
    return -float(np.mean([array(model.log_prob(x)).astype(np.float64).mean() for _ in range(draws)]))


def glow(**options):
    config = {"shape": (1, SIDE, SIDE), "levels": LEVELS, "alpha": 0.01, "scales": 2, "steps": 4, "hidden": 32}
    return Glow(**config | options).to(lesson.device)


steps = lesson.pick(150, quick=10)
rows = []
for width in (1.0, 0.5):
    model = glow()
    log_p_of = lambda x, model=model, width=width: model.log_density(x + width * minigen.rand_like(x))
    train(model, lambda log_p_of=log_p_of: -log_p_of(digit_batch()).mean(), steps, 3e-3, f"noise of width {width}")
    with minigen.no_grad():
        reported = -array(log_p_of(x_test)).mean()
    rows.append([f"{width}", f"{reported:.1f}", f"{reported + dequantisation_constant(PIXELS, noise=width):.1f}"])
lesson.table([f"width of u, {steps} steps", "nats reported", "nats that it bounds"], rows)
print(f"  independent pixels: {floor:.1f} nats, or {floor - PIXELS * math.log(2):.1f} 'reported' with half the width")

# %% [markdown]
# The wrong one looks far better. Pay the 44.4 nats back, and it is worse than pixels that know nothing of each other:
# it has spent its training on keeping half of the line empty. A well-known tutorial reports 122.5 nats for a flow on
# these very digits, with noise of half the width. Its true bound is 122.5 + 44.4 = 166.9. If a number looks too good,
# look for the noise first.
#
# What follows the noise is logit(alpha + (1 - 2 alpha) v / 17), from the interval to the whole line. It is a layer
# like any other, and its slope is counted in log|det|.
#
# ## 6. Many scales: RealNVP on digits
#
# For pictures the mask is a checkerboard, and the network a small residual convolutional one. After some couplings,
# *squeeze*: each 2x2 block of pixels becomes four channels, so that masks by channel reach further. And then half of
# the channels leave: they go to the noise as they are. Coarse things are left for the deeper, cheaper layers.

# %%
lesson.section("6. Many scales: RealNVP on digits")

block = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
print(
    "  squeezed, the first of four channels of 0 .. 15:", array(Squeeze()(tensor(block))[0])[0, 0].ravel().astype(int)
)


def costs(model):
    """Floating-point operations for one picture: two a weight, at each place of an 8x8 or 4x4 plane."""
    return 2 * sum(p.numel() * 30 for p in model.parameters() if p.ndim == 4)


multi = RealNVP(shape=(1, SIDE, SIDE), levels=LEVELS, alpha=0.01, scales=2, couplings=2, hidden=12, blocks=1,
                norm="act").to(lesson.device)  # fmt: skip
steps, rate = lesson.pick((240, 3e-3), quick=(55, 7e-3))
curves = {"RealNVP": train(multi, lambda: multi(digit_batch()), steps, rate, "RealNVP")}
lesson.spend(3 * steps * 100 * costs(multi))
found = {"RealNVP": bound(multi, x_test)}
print(f"  bound on -log P: training {bound(multi, x[:300]):.1f}, validation {bound(multi, tensor(valid_x)):.1f}, "
      f"test {found['RealNVP']:.1f} nats/image ({bits_per_dim(found['RealNVP'], PIXELS):.3f} bits/dim)")  # fmt: skip
lesson.proof("digits, RealNVP, bound/image", found["RealNVP"], "nats", floor=(floor, "independent pixels"))

# %% [markdown]
# Honestly below the floor, where lesson 10's VAE stands too, and with no encoder to help.
#
# ## 7. Glow: actnorm and the 1x1 convolution
#
# Glow (Kingma & Dhariwal 2018) makes the step of flow simpler. *Actnorm*: scale and shift each channel; the first
# batch sets both, so that every channel starts with mean 0 and variance 1. No batch statistics later. *Invertible 1x1
# convolution*: RealNVP swaps the halves, a fixed permutation of the channels. A permutation is a matrix; so learn the
# matrix, W, the same for each pixel. Its log|det| counts once for each pixel. To have it cheaply, keep W in factors
#
#     W = P L (U + diag(s)),     log|det W| = sum log|s|                  (eq. 10-11)
#
# P fixed, L with ones on its diagonal, U strictly upper. Both claims, tested:

# %%
lesson.section("7. Glow: actnorm and the 1x1 convolution")

norm = ActNorm(4)
with minigen.no_grad():
    out = array(norm(5 + 3 * minigen.randn(64, 4, 4, 4, generator=g))[0])
print("  actnorm after its first batch: means", np.round(out.mean((0, 2, 3)), 4) + 0.0, " deviations",
      np.round(out.std((0, 2, 3)), 4))  # fmt: skip
mixing = LUConvolution(8, generator=g).double()
with minigen.no_grad():
    mixing.log_s.add_(0.3 * minigen.randn_like(mixing.log_s, generator=g))
    dense = mixing.matrix()
    print(f"  log|det W|: {mixing.log_determinant().item():.10f} from the factors, "
          f"{linalg.slogdet(dense)[1].item():.10f} from the dense matrix")  # fmt: skip

uniform = glow()
steps, rate = lesson.pick((300, 3e-3), quick=(33, 6e-3))
curves["Glow"] = train(uniform, lambda: uniform(digit_batch()), steps, rate, "Glow")
lesson.spend(3 * steps * 100 * costs(uniform))
found["Glow"] = bound(uniform, x_test)
lesson.proof("digits, Glow, bound/image", found["Glow"], "nats", floor=(floor, "independent pixels"))

exact = glow()
exact.load_state_dict(uniform.state_dict())
exact.double().eval()
with minigen.no_grad():
    v = tensor(test_x[:20] + g.uniform(test_x[:20].shape), np.float64)
    back = array(exact.decode(exact.encode(v)[0]))
lesson.proof("Glow, trained: digits there and back", np.abs(back - array(v)).max(), "levels", at_most=1e-10)

# %% [markdown]
# ## 8. Noise that is learned: variational dequantisation
#
# Uniform noise makes a staircase of the data: cubes with sharp edges, which a smooth flow must imitate, and cannot.
# But u may be drawn from any q(u | x) on the cube, if it is paid for:
#
#     log P(x)  >=  E_q[ log p(x + u) - log q(u | x) ]                   (Ho et al. 2019, eq. 11)
#
# the ELBO, with u for the hidden cause. Let a second small flow make u from noise, given the picture. It begins as
# the uniform one, and the two learn together. Same Glow, same steps:

# %%
lesson.section("8. Noise that is learned: variational dequantisation")

learned = glow(dequantization="variational", noise_hidden=16, noise_couplings=2)
curves["Glow, learned noise"] = train(learned, lambda: learned(digit_batch()), steps, rate, "learned noise")
lesson.spend(3 * steps * 100 * costs(learned))
found["Glow, learned noise"] = bound(learned, x_test)
k = lesson.pick(30, quick=3)
rows = [["independent pixels", f"{floor:.1f}", "", f"{bits_per_dim(floor, PIXELS):.3f}"]]
with minigen.no_grad():
    for (name, nats), model in zip(found.items(), (multi, uniform, learned)):
        tighter = -array(model.bound(x_test, k)).mean()
        rows.append([name, f"{nats:.1f}", f"{tighter:.1f}", f"{bits_per_dim(nats, PIXELS):.3f}"])
lesson.table(["digits, test", "-E[log p]", f"{k} draws in the log", "bits/dim"], rows)
lesson.proof("digits, Glow with learned noise, bound/image", found["Glow, learned noise"], "nats",
             floor=(found["Glow"], "uniform noise"))  # fmt: skip

# %% [markdown]
# With k draws inside the logarithm each bound comes nearer to its model's own log P(x) (lesson 10's IWAE). For the
# same Glow, uniform noise leaves the larger gap.
#
# Now look. Samples at three temperatures: the noise z times a number below 1 keeps to what is typical. And the
# road from one digit to another. Between two draws of Gaussian noise the straight line runs through the middle of z,
# where no draw ever lies; the arc cos(a) z_1 + sin(a) z_2 keeps to the right length. Above it, the blend of pixels.

# %%
rows, temperatures = [], (0.6, 0.8, 1.0)
for temperature in temperatures:
    rows.append(array(learned.sample(16, temperature=temperature, generator=g)))
lesson.images(
    "samples",
    "Test digits, and samples of the Glow with learned noise.",
    np.concatenate([test_x[:16], *rows]),
    columns=16,
    row_labels=["test", *(f"T = {t}" for t in temperatures)],
    low=0,
    high=16,
)

turns = np.linspace(0, np.pi / 2, 12)
rows, labels = [], []
with minigen.no_grad():
    for a, b in ((3, 17), (9, 12)):
        ends = array(learned.encode(x_test[[a, b]] + 0.5)[0])
        arc = np.stack([np.cos(t) * ends[0] + np.sin(t) * ends[1] for t in turns])
        blend = np.stack([(1 - t) * test_x[a] + t * test_x[b] for t in np.linspace(0, 1, len(turns))])
        rows += [blend, array(learned.quantize(learned.decode(tensor(arc))))]
        labels += ["pixels blended", "along the arc in z"]
lesson.images(
    "roads", "From one test digit to another.", np.concatenate(rows), columns=12, row_labels=labels, low=0, high=16
)

with lesson.figure("training", "Three flows fall below the floor.", size=(5.2, 3.0)) as axes:
    for name, losses in curves.items():
        axes.plot(np.arange(1, len(losses) + 1), losses, linewidth=0.9, label=name)
    axes.axhline(floor, color=COLOURS["floor"], linestyle="--", label="independent pixels")
    axes.set(xlabel="step", ylabel="bound  [nats/image]", title="Training", ylim=(80, 140))
    axes.legend()

# %% [markdown]
# The samples have strokes, but at T = 1 many are no digit: few steps of flow, and a thousand pictures. And every layer
# must keep all 64 dimensions, so a flow spends its strength on noise that a VAE would leave out. That is the price of
# the exact number. (A sample at T < 1 is not one of the model whose nats we measured.)
#
# ## The engine's own
#
# `minigen.models.flow` has all of it: NICE, RealNVP, Glow and MAF, for vectors and for pictures, with classes where
# you want them. Our flow of section 3, with the same weights:

# %%
ready = RealNVP(shape=(2,), couplings=6, hidden=64, blocks=2, norm="none").to(lesson.device).eval()
with minigen.no_grad():
    for theirs, mine in zip(ready.parameters(), real.parameters()):
        theirs.copy_(mine)
    off = array(ready.log_prob(tensor(grid[::97])) - real.log_prob(tensor(grid[::97])))
print(f"\n  minigen.models.flow.realnvp, same weights: log densities differ by {np.abs(off).max():.0e}")

# %% [markdown]
# ## What this lesson does not show
#
# - Flows that are continuous in time, with an ODE for their layers (Chen et al. 2018). Flow matching: lesson 23.
# - Couplings richer than affine: mixtures of logistics (Ho et al. 2019), splines (Durkan et al. 2019). They, and larger
#   networks, brought flows near to autoregressive models.
# - Flows on large pictures: the published Glow has 32 steps at each of three to six scales, on many GPUs.
# - Whether a likely picture is a good one. It need not be: lesson 37.

# %%
lesson.end()
