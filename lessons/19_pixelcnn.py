# %% [markdown]
# # 19. PixelCNN
#
# What is the probability of this very picture, to the last digit?
#
# A VAE (lesson 10) can only bound it. Here is a model that computes it exactly, with nothing but the chain rule and
# convolutions: PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu 2016), its gated successor (van den Oord et al.
# 2016b) and the pixels of PixelCNN++ (Salimans et al. 2017).
#
# 1. one pixel after another
# 2. a convolution that does not look ahead: masks A and B
# 3. the blind spot, and two stacks that have none
# 4. sprites: the exact distance from the truth
# 5. two wrong masks
# 6. 256 levels: a softmax, or a mixture of logistics
# 7. real digits
#
# You need lessons 1 (nats, KL) and 6 (convolution). Run it with `python lessons/19_pixelcnn.py`.

# %%
import time

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import autograd, nn, optim
from minigen.data import digits, worlds
from minigen.lessons import Lesson
from minigen.metrics.digits import name_digits
from minigen.models.autoregressive import logistic_mixture, pixelcnn
from minigen.plot import COLOURS, show_image
from minigen.random import Generator

lesson = Lesson("19_pixelcnn", uses=("device",))
g = lesson.generator


def tensor(array):
    return minigen.tensor(np.asarray(array, np.float32), device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


# %% [markdown]
# ## 1. One pixel after another
#
# Put the pixels in the order of reading: rows from the top, in a row from the left. Then, for any distribution of
# pictures whatever,
#
#     p(x)  =  p(x_1) p(x_2 | x_1) p(x_3 | x_1, x_2) ...  =  product over i of  p(x_i | x_1 ... x_(i-1))
#
# This is the chain rule. Nothing is assumed, and no integral is left to do. Each factor is about one pixel only, and a
# pixel has few values.
#
# Let us watch it where everything is known: sprites of 8x8 pixels, three shapes at sixteen places, each pixel turned
# over with a probability of 1%. This world can say what any pixel is likely to be, given any others. Give it the
# earlier ones, and add up:

# %%
lesson.section("1. One pixel after another")

SIDE, PIXELS = 8, 64
sprites = worlds.Sprites(SIDE, radii=(2,), places=4)
entropy, independent = float(sprites.entropy()), float(sprites.independent_entropy())
EARLIER = np.tril(np.ones((PIXELS, PIXELS), bool), -1).reshape(PIXELS, 1, SIDE, SIDE)  # row i: the pixels before i


def true_factors(x):
    """log p(x_i | x_1 ... x_(i-1)) in the world itself, for each pixel of x (N, 1, 8, 8): (N, 64)."""
    on = np.stack([sprites.conditional(np.broadcast_to(one, EARLIER.shape), EARLIER) for one in x])
    on = on.reshape(len(x), PIXELS, PIXELS).diagonal(axis1=1, axis2=2)  # of pixel i, given those before it
    return np.log(np.where(x.reshape(len(x), PIXELS) == 1, on, 1 - on))


few = sprites.sample(4, g)
factors = true_factors(few)
rows = [[f"picture {i + 1}", -factors[i].sum(), -sprites.log_prob(few)[i]] for i in range(4)]
lesson.table(["nats", "sum over pixels", "-log p(x)"], rows)
print(f"  on average {entropy:.2f} nats a picture (the entropy); independent pixels: {independent:.2f}")

with lesson.figure("surprise", "Where the nats are.", columns=8, size=(9.6, 1.6)) as axes:
    for i in range(4):
        show_image(axes[2 * i], few[i, 0], f"picture {i + 1}", -0.15, 1)
        show_image(axes[2 * i + 1], -factors[i].reshape(SIDE, SIDE), "its nats", 0, 3, cmap="Oranges")

# %% [markdown]
# Look where the surprise is: at the first pixel of a sprite (where does it begin?), at the few that tell its shape, and
# at every pixel that was turned over. The rest follows from what came before, and costs nearly nothing.
#
# So this is what a network must learn: 64 conditional probabilities. But one network, please, and all 64 at once.
#
# ## 2. A convolution that does not look ahead
#
# A convolution computes something at every pixel from its neighbours. If it used earlier neighbours only, then so
# would a second one on top of it, and a third; and the last could say p(x_i | earlier) for all i in one pass. The paper
# gets there with a *mask*, a kernel of 0 and 1 by which the weights are multiplied:
#
#     1 1 1        1 1 1
#     1 0 0   A    1 1 0   B
#     0 0 0        0 0 0
#
# **Mask A** leaves out the pixel itself. The first layer needs it: what is at a pixel must not be used to predict that
# pixel. **Mask B** keeps it. The later layers need that one: at a pixel they no longer find the pixel, but what the
# layer below knows there, which was earlier pixels only.

# %%
lesson.section("2. A convolution that does not look ahead")


def mask_of(kind, k):
    """(k, k) of 0 and 1; None for an ordinary convolution."""
    order = np.arange(k * k).reshape(k, k)
    middle = k * k // 2
    return np.ones((k, k)) if kind is None else order < middle if kind == "A" else order <= middle


class MaskedConv(nn.Conv2d):
    def __init__(self, inputs, outputs, k, kind):
        super().__init__(inputs, outputs, k, padding=k // 2)
        self.register_buffer("mask", minigen.tensor(mask_of(kind, k).astype(np.float32)))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def stacked(first, others, layers, channels=16, k=3):
    """A first masked convolution, more of them, and a logit for each pixel."""
    parts = [MaskedConv(1, channels, k, first)]
    for _ in range(layers - 1):
        parts += [nn.ReLU(), MaskedConv(channels, channels, k, others)]
    return nn.Sequential(*parts, nn.ReLU(), nn.Conv2d(channels, 1, 1)).to(lesson.device)


# %% [markdown]
# Is it true? There is a test that leaves no doubt. The Jacobian has an entry d(logit i) / d(pixel j) for each pair of
# pixels. In the order of reading, a model may use x_j for pixel i if j < i: so everything on the diagonal and to the
# right of it must be 0. Not small: 0.

# %%


def jacobian(network, side=SIDE, places=None):
    """d(logit i) / d(pixel j) at a random picture, (len(places), side^2); all places if None."""
    x = tensor(g.normal((1, 1, side, side))).requires_grad_()
    logits = network(x).reshape(-1)
    places = range(side * side) if places is None else places
    return np.stack([array(autograd.grad(logits[i], [x], retain_graph=True)[0]).reshape(-1) for i in places])


drawn = {"no mask": (None, None), "B in every layer": ("B", "B"), "A, then B": ("A", "B")}
reached = {name: jacobian(stacked(*kinds, layers=3)) for name, kinds in drawn.items()}
with lesson.figure("jacobian", "Which pixel (across) moves which logit (down).", columns=3, size=(8.4, 3.0)) as axes:
    for axis, (name, j) in zip(axes, reached.items()):
        show_image(axis, j != 0, f"{name}: {np.triu(j != 0).sum()} forbidden", 0, 1.3, cmap="Blues")
        axis.plot([-0.5, 63.5], [-0.5, 63.5], color=COLOURS["second"], linewidth=0.7)

# %% [markdown]
# Only "A, then B" stays below the diagonal. With B in every layer each logit sees the very pixel that it is to predict.
#
# ## 3. The blind spot
#
# Not looking ahead is one half. The other half: does it see *everything* that came before? Take the logit of one pixel,
# and mark what its Jacobian reaches, as more layers are stacked.

# %%
lesson.section("3. The blind spot, and two stacks that have none")

FIELD, PLACE = 11, (7, 5)  # a larger picture, and the pixel to look from
HERE = PLACE[0] * FIELD + PLACE[1]


def seen_from(network):
    """Which pixels move the logit at PLACE, (121,) bool."""
    return jacobian(network, FIELD, [HERE])[0] != 0


DEPTHS = (1, 2, 4, 8)
masked = [seen_from(stacked("A", "B", layers)) for layers in DEPTHS]
blind = HERE - masked[-1].sum()
print(f"  {HERE} pixels come before the one at {PLACE}; masked convolutions never see {blind} of them")

# %% [markdown]
# Some are missing, and no depth helps. A 3x3 kernel moves the view up and to the right by one pixel each layer, so what
# lies further to the right than upwards is out of reach. (To the left there is a whole row to walk along; to the right
# there is none.) The mask has thrown away too much.
#
# The remedy (van den Oord et al. 2016b, section 2.2): two stacks. Look at what the mask leaves: a rectangle of rows
# above, and a piece of a row to the left. Give each of them a convolution of its own:
#
# - the **vertical** stack sees rows above, across their full width, and only ever talks to itself;
# - the **horizontal** stack sees the row to the left, and is told at each layer what the vertical one knows.
#
# The vertical stack may look to the right as far as it likes: everything up there is earlier. And the masks are gone.
# The two kernels have no weight that would have to be 0, they only stand beside the pixel, not around it. The padding
# moves them there: `padding=((1, -1), (1, 1))` puts a row of zeros above the picture, and leaves out its last one. The
# sum of the two, for once, is the masked convolution:

# %%
one = MaskedConv(1, 4, 3, "A").to(lesson.device)
x = minigen.randn(1, 1, 6, 6, generator=g, device=lesson.device)
above = F.conv2d(x, one.weight[:, :, :1], one.bias, padding=((1, -1), (1, 1)))  # 1 row of 3 taps
left = F.conv2d(x, one.weight[:, :, 1:2, :1], padding=(0, (1, -1)))  # 1 tap
print(f"  masked 3x3 - (above + left): {np.abs(array(one(x) - above - left)).max():.0e}, with 4 taps in place of 9")

# %% [markdown]
# One more change: where a layer has relu, the gated network multiplies two halves,
#
#     y = tanh(a) * sigmoid(b)                       (2016b, eq. 1)
#
# so that one half can decide whether the other matters. Here is the whole layer. In the first one both stacks get the
# picture, so neither may look at its own row or pixel; later ones may, as with mask B.

# %%


def gate(x):
    a, b = x.chunk(2, 1)
    return minigen.tanh(a) * minigen.sigmoid(b)


class GatedLayer(nn.Module):
    """v: what the rows above say. h: what the pixels to the left say as well. (2016b, figure 2)"""

    def __init__(self, inputs, channels, k, first):
        half, own = k // 2, 0 if first else 1  # own: is the own row (above), the pixel itself (left) seen?
        self.first = first
        self.above = nn.Conv2d(inputs, 2 * channels, (half + own, k), padding=((half, own - 1), (half, half)))
        self.left = nn.Conv2d(inputs, 2 * channels, (1, half + own), padding=(0, (half, own - 1)))
        self.down = nn.Conv2d(2 * channels, 2 * channels, 1)  # from the vertical stack to the horizontal one
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, v, h):
        rows = self.above(v)
        y = self.out(gate(self.left(h) + self.down(rows)))
        return gate(rows), y if self.first else h + y


class GatedPixelCNN(nn.Module):
    """Pictures of 0 and 1 (N, 1, H, W) -> the logit of each pixel, given the earlier ones."""

    def __init__(self, channels, layers, first_k=5, k=3):
        self.layers = nn.ModuleList(
            [GatedLayer(channels if i else 1, channels, k if i else first_k, first=i == 0) for i in range(layers)]
        )
        self.hidden, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        v = h = 2 * x - 1  # ground is -1, ink 1: then 0 means "outside the picture"
        for layer in self.layers:
            v, h = layer(v, h)
        return self.out(F.relu(self.hidden(F.relu(h))))


# %% [markdown]
# The same test for it, first whether it looks ahead, then whether it sees everything.

# %%
ahead = np.abs(np.triu(jacobian(GatedPixelCNN(8, 4).to(lesson.device)))).max()
lesson.proof(
    "gated: Jacobian on and right of the diagonal",
    ahead,
    floor=(np.abs(np.triu(reached["no mask"])).max(), "ordinary convolutions"),
    optimum=(0.0, "exact"),
    at_most=0.0,
)


def awake(network):
    """With biases that keep the last relus open: a unit that sleeps would hide what it sees."""
    with minigen.no_grad():
        network.hidden.bias.fill_(1.0)
        network.layers[-1].out.bias.fill_(1.0)
    return network


gated = [seen_from(awake(GatedPixelCNN(8, layers, first_k=3).to(lesson.device))) for layers in DEPTHS]
lesson.proof(
    "gated: earlier pixels out of sight",
    HERE - gated[-1].sum(),
    "pixels",
    floor=(blind, "masked convolutions"),
    optimum=(0.0, "none"),
    at_most=0.0,
)

PAINT = np.array([[0.94] * 3, [0.9, 0.55, 0.3], [0.45, 0.66, 0.85], [0.1] * 3])  # later, unseen, seen, the pixel
with lesson.figure("blind_spot", "What the black pixel can see (blue), and what not (orange).", rows=2, columns=4,
                   size=(8.0, 4.3)) as axes:  # fmt: skip
    for line, (name, fields) in enumerate({"masked": masked, "two stacks": gated}.items()):
        for axis, layers, field in zip(axes[line], DEPTHS, fields):
            kind = np.where(np.arange(FIELD**2) < HERE, 1 + field, 0)
            kind[HERE] = 3
            show_image(axis, PAINT[kind].reshape(FIELD, FIELD, 3), f"{name}, {layers} layer{'s' * (layers > 1)}")

# %% [markdown]
# (A few layers reach only so far, in both. What counts is what no depth can heal: the orange steps at the upper right.)
#
# ## 4. Sprites: the exact distance from the truth
#
# Training could not be simpler. The network is a classifier of each pixel, all at once: binary cross entropy, *summed*
# over pixels, is -log p(x). It is no bound. So the distance from the truth can be measured exactly, too:
#
#     KL(world || model)  =  E[ log p(x) - log q(x) ]  =  loss - entropy
#
# Before we train, listen to the network as it is born. A convolution keeps the size of what it is given if its weights
# have the variance 1 / fan_in. `nn.Conv2d` starts with a third of that, in PyTorch as here. Then comes a gate, which
# lets through half of what is small: tanh(a) sigmoid(b) is about a / 2. For relu, lesson 6 had a remedy: weights that
# are larger by a *gain* (He et al. 2015, eq. 14). Here it is the 5/3 that goes with tanh. How much does the vertical
# stack still say about the picture after each layer?

# %%
lesson.section("4. Sprites: the exact distance from the truth")


def loud(network):
    """The network, with weights large enough for its gates."""
    for layer in network.layers:
        for conv in (layer.above, layer.left, layer.down):
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="tanh")
        nn.init.kaiming_uniform_(layer.out.weight, nonlinearity="linear")
    return network


@minigen.no_grad()
def loudness(network):
    """How far v spreads from picture to picture after each layer, as a standard deviation."""
    v = h = tensor(2 * sprites.sample(200, Generator(0)) - 1)
    spread = []
    for layer in network.layers:
        v, h = layer(v, h)
        spread.append(array(v).std(0).mean())
    return spread


model = GatedPixelCNN(channels=24, layers=4).to(lesson.device)
rows = [["the usual start", *loudness(model)], ["with a gain", *loudness(loud(model))]]
lesson.table(["spread of v after", "layer 1", "2", "3", "4"], rows)

# %% [markdown]
# The usual start leaves a whisper. What the rows above have to say hardly reaches the logits, and hardly a gradient
# reaches the layers that should learn to say it, so the network first learns to do without. Some seeds then took
# hundreds of steps to notice what they were missing, and ended at one and a half times the KL of the others. With the
# gain the seeds lie closer together, and at a somewhat smaller KL, after fewer steps.
#
# One more thing needs care. A tanh or a sigmoid that a single early step has pushed far out has no slope left, and
# stays there. So the gradient is shortened wherever it is longer than 3, as early ones are; late ones have a length of
# about 2. (With the usual start, and without that, two seeds of six ended at two to three times the KL. With the gain
# it is a precaution.)

# %%


def log_factors(network, x):
    """log q(x_i | x_1 ... x_(i-1)) for each pixel, (N, 64)."""
    return -F.binary_cross_entropy_with_logits(network(x), x, reduction="none").flatten(1)


def train(model, loss, steps, rate, what):
    """Adam, with short gradients and a learning rate that falls like a cosine. Returns the loss of each step."""
    optimizer = optim.Adam(model.parameters(), lr=rate)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    losses = []
    model.train()
    for _ in (bar := lesson.progress(steps, what)):
        optimizer.zero_grad()
        now = loss(model)
        now.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
        schedule.step()
        losses.append(now.item())
        bar.set_postfix_str(f"{losses[-1]:.2f} nats", refresh=False)
    model.eval()
    return losses


def operations(model, batch, places=PIXELS):
    """Floating-point operations of a training step: two for each weight and place, forward; thrice that in all."""
    return 3 * batch * places * 2 * sum(p.numel() for p in model.parameters() if p.ndim == 4)


BATCH = 50
sprite_loss = lambda model: -log_factors(model, tensor(sprites.sample(BATCH, g))).sum(1).mean()
steps = lesson.pick(800, quick=35)
curve = train(model, sprite_loss, steps, 0.01, "gated")
plain = pixelcnn.PixelCNN(shape=(1, SIDE, SIDE), gated=False, channels=48, layers=4, first_kernel=5).to(lesson.device)
plain_curve = train(plain, lambda m: m(tensor(sprites.sample(BATCH, g))), steps, 0.005, "plain")
lesson.spend(steps * (operations(model, BATCH) + operations(plain, BATCH)))

test = sprites.sample(lesson.pick(8000, quick=300), g)
with minigen.no_grad():
    ours = np.concatenate([array(log_factors(model, tensor(x))) for x in np.array_split(test, 8)]).astype(np.float64)
    plains = np.concatenate([array(plain.log_prob(tensor(x))) for x in np.array_split(test, 8)]).astype(np.float64)
kl, plain_kl = sprites.divergence(test, ours.sum(1)), sprites.divergence(test, plains)
lesson.table(
    ["sprites", "KL(world || model)  [nats]"],
    [["independent pixels", independent - entropy], ["plain, with the blind spot", str(plain_kl)], ["gated", str(kl)]],
)
lesson.proof("sprites, KL", kl, "nats", floor=(independent - entropy, "independent pixels"), optimum=(0.0, "exact"))

# %% [markdown]
# The VAE of lesson 10 stayed some 3 nats away from its sprites; here it is a part of one nat. (Is the difference
# between the last two rows the blind spot? In part: the two networks differ in their units as well, and this table
# cannot tell one from the other.)
#
# We can even say at which pixels the nats are lost. Both log p and log q are sums over pixels, so the KL is one, too:

# %%
some = slice(0, lesson.pick(400, quick=50))
where_lost = (true_factors(test[some]) - ours[some]).mean(0).reshape(SIDE, SIDE)
surprise = -true_factors(test[some]).mean(0).reshape(SIDE, SIDE)
with lesson.figure("where", "The world's own surprise, and what the model adds.", columns=3, size=(10.2, 2.7)) as axes:
    show_image(axes[0], surprise, f"surprise: {surprise.sum():.2f} nats", 0, surprise.max(), cmap="Oranges")
    title = f"KL, drawn ten times darker: {where_lost.sum():.2f} nats"
    show_image(axes[1], where_lost, title, 0, surprise.max() / 10, cmap="Oranges")
    smooth = lambda losses: np.convolve(losses, np.ones(10) / 10, "valid")
    axes[2].plot(smooth(plain_curve), color=COLOURS["second"], label="plain")
    axes[2].plot(smooth(curve), color=COLOURS["ours"], label="gated")
    axes[2].axhline(entropy, color=COLOURS["truth"], linestyle="--", linewidth=1, label="entropy")
    axes[2].set(xlabel="step", title="loss  [nats/image]", ylim=(6, 20))
    axes[2].legend()

# %% [markdown]
# To draw a picture, draw its pixels in order. It is as slow as it sounds: 64 passes of the network, each for the sake
# of a single pixel. Training looks at all pixels at once, since they are all known; sampling cannot.

# %%


@minigen.no_grad()
def draw(network, n, generator):
    x = minigen.zeros(n, 1, SIDE, SIDE, device=lesson.device)
    for i in range(SIDE):
        for j in range(SIDE):
            p = minigen.sigmoid(network(x)[:, :, i, j])
            x[:, :, i, j] = (minigen.rand(n, 1, generator=generator, device=lesson.device) < p).float()
    return array(x)


# %% [markdown]
# `minigen.models.autoregressive.pixelcnn` has the same network, with its gains. It draws faster: the vertical stack
# needs only the rows above, so it runs once for each row, and then a single row of the horizontal stack is all there is
# to do for a pixel. The same weights and the same dice must give the same pictures.

# %%
ready = pixelcnn.PixelCNN(shape=(1, SIDE, SIDE), channels=24, layers=4, first_kernel=5).to(lesson.device).eval()
with minigen.no_grad():
    for theirs, mine in zip(ready.parameters(), model.parameters()):
        theirs.copy_(mine)
    apart = np.abs(array(ready.log_prob(tensor(test[:500]))) - ours[:500].sum(1)).max()
n, spans, pictures = lesson.pick(500, quick=50), [], []
for sample in (lambda dice: draw(model, n, dice), lambda dice: array(ready.sample(n, generator=dice))):
    started = time.process_time()
    pictures.append(sample(Generator(lesson.seed)))
    spans.append(time.process_time() - started)
print(f"  log q(x), ours - the library's: at most {apart:.0e} nats")
print(f"  {n} pictures: {spans[0]:.2f} s by whole passes, {spans[1]:.2f} s row by row; "
      f"{np.mean(pictures[0] != pictures[1]):.2%} of the pixels differ")  # fmt: skip
modes, own = sprites.count_modes(pictures[1]), sprites.count_modes(sprites.sample(n, g))
print(f"  {modes.on_mode:.0%} are sprites of the world; {modes.hit} of its {modes.total} sprites appear")
print(f"  (of as many real ones: {own.on_mode:.0%}, {own.hit})")
lesson.images(
    "sprites",
    "Above: the world. Below: the model's.",
    np.concatenate([test[:16], pictures[1][:16]]),
    columns=16,
    row_labels=["real", "drawn"],
    low=-0.15,
)

# %% [markdown]
# ## 5. Two wrong masks
#
# What if the first layer gets mask B, or all of them mask A? Both run without a complaint. Look at what the nats do.

# %%
lesson.section("5. Two wrong masks")

rows = []
steps = lesson.pick(150, quick=10)
for name, first, others in [("A, then B", "A", "B"), ("A in every layer", "A", "A"), ("B in every layer", "B", "B")]:
    net = stacked(first, others, layers=4)
    train(net, sprite_loss, steps, 0.01, name)
    with minigen.no_grad():
        wrong = array(log_factors(net, tensor(test[:300]))).sum(1)
    drawn = sprites.count_modes(draw(net, lesson.pick(100, quick=10), g))
    rows.append([name, -wrong.mean(), f"{float(sprites.divergence(test[:300], wrong)):.2f}", f"{drawn.on_mode:.0%}"])
lesson.table([f"masks ({steps} steps)", "nats", "KL", "drawn: sprites"], rows)

# %% [markdown]
# - With B first the network copies each pixel to its own logit. The nats fall to nearly 0, far *below the entropy*, and
#   the KL is negative: this cannot be, and it is the alarm. (Without a known world there is no such alarm. Distrust
#   nats that are too good, and look at the Jacobian.) Drawn pixel by pixel it is helpless: it waits to be shown what it
#   should say.
# - With A everywhere nothing is forbidden, but each layer leaves out its own place, so after four of them the nearest
#   pixels to the left are gone. The nats are honest, and bad.
#
# ## 6. 256 levels
#
# A pixel of a photograph has 256 levels. A softmax has a logit for each (three colours: 768 numbers a pixel), and knows
# nothing about them: that 127 lies beside 128, it must learn from examples. PixelCNN++ (Salimans et al. 2017) puts a
# smooth density there, a mixture of K logistic distributions, and gives each level the mass of its bin. The
# distribution function of a logistic is the sigmoid, so for levels x scaled to -1 ... 1, with bins of half width h,
#
#     P(x)  =  sum over k of  share_k [ sigmoid((x + h - mean_k) / s_k) - sigmoid((x - h - mean_k) / s_k) ]
#
# and the two bins at the ends reach to infinity. By hand, for one component:

# %%
lesson.section("6. 256 levels: a softmax, or a mixture of logistics")

sigmoid = lambda a: 1 / (1 + np.exp(-a))
LEVELS = 256
GRID = np.arange(LEVELS) * (2 / (LEVELS - 1)) - 1
HALF = 1 / (LEVELS - 1)


def mass(x, mean, log_scale, ends=True):
    """The probability of level x under one logistic."""
    s = np.exp(log_scale)
    up, down = sigmoid((x + HALF - mean) / s), sigmoid((x - HALF - mean) / s)
    if ends:
        up, down = np.where(x == 1, 1.0, up), np.where(x == -1, 0.0, down)
    return up - down


def library_log_p(params, x):
    """The same in the library: params (N, 3), x (N, 1) -> log P, (N,)."""
    return logistic_mixture.discretized_logistic_mixture(minigen.tensor(params), minigen.tensor(x))


rows = []
for mean, log_scale in [(0.2, -3.0), (0.2, -1.0), (0.95, -2.0), (1.5, -2.0)]:
    closed, open_ended = mass(GRID, mean, log_scale, ends=False), mass(GRID, mean, log_scale)
    library = np.exp(array(library_log_p(np.tile([0.0, mean, log_scale], (LEVELS, 1)), GRID[:, None])))
    sums = [f"{open_ended.sum():.12f}", f"{closed.sum():.4f}"]
    rows.append([f"mean {mean}, log s {log_scale:g}", *sums, f"{np.abs(open_ended - library).max():.0e}"])
lesson.table(["sum over 256 levels", "by hand", "ends forgotten", "by hand - library"], rows)

# %% [markdown]
# The slope for the mean, from sigmoid' = sigmoid (1 - sigmoid):
#
#     d log P / d mean  =  - (sigmoid'(a) - sigmoid'(b)) / (s (sigmoid(a) - sigmoid(b)))     a, b = (x +- h - mean) / s
#
# On paper that is all. In float32 it is not: twenty scales from the mean both sigmoids are 1, and their difference is
# 0. The published code then takes the density in the middle of the bin. There is an exact way as well,
#
#     sigmoid(a) - sigmoid(b)  =  sigmoid(a) sigmoid(-b) (1 - e^(b - a))
#
# whose three factors each have a logarithm that never gets lost:

# %%
rows = []
mean, log_scale = -0.6, -3.5
s = np.exp(log_scale)
for x in GRID[[60, 90, 128, 200]]:
    a, b = (x + HALF - mean) / s, (x - HALF - mean) / s
    exact = np.log(sigmoid(-b) - sigmoid(-a))  # the same difference, from the side where the sigmoids are small
    slope = -(sigmoid(a) * sigmoid(-a) - sigmoid(b) * sigmoid(-b)) / (s * np.exp(exact))
    with np.errstate(divide="ignore"):
        difference = np.log(sigmoid(np.float32(a)) - sigmoid(np.float32(b)))
    params = minigen.tensor(np.array([[0, mean, log_scale]], np.float32), requires_grad=True)
    log_p = logistic_mixture.discretized_logistic_mixture(params, minigen.tensor(np.array([[x]], np.float32)))
    log_p.backward()
    rows.append([f"{(x - mean) / s:.0f} scales away", exact, difference, log_p.item(), slope, params.grad[0, 1].item()])
lesson.table(["log P", "exact", "difference, float32", "product, float32", "slope by hand", "by autograd"], rows)

# %% [markdown]
# What is it good for? Here is one pixel of known distribution, two humps over 256 levels. From n examples of it, let a
# softmax learn (where it ends is known: at the shares in which the levels were seen; we add 0.1 to each count, so that
# none is impossible), and a mixture of three logistics, nine numbers.

# %%
p = 0.65 * np.exp(-0.5 * ((GRID + 0.3) / 0.12) ** 2) / 0.12 + 0.35 * np.exp(-0.5 * ((GRID - 0.5) / 0.05) ** 2) / 0.05
p /= p.sum()


def fit_mixture(counts):
    """log P of each level, for the mixture of three logistics that makes the counted levels most probable."""
    params = nn.Parameter(minigen.tensor([[0, 0, 0, -0.5, 0, 0.5, -1, -1, -1]], dtype=minigen.float64))
    optimizer = optim.Adam([params], lr=0.05)
    levels, share = minigen.tensor(GRID[:, None]), minigen.tensor(counts / counts.sum())
    for _ in range(lesson.pick(400, quick=60)):
        optimizer.zero_grad()
        log_p = logistic_mixture.discretized_logistic_mixture(params.expand(LEVELS, 9), levels)
        (-(share * log_p).sum()).backward()
        optimizer.step()
    return array(log_p)


rows, shown = [], {}
for n in (30, 300, 3000):
    counts = np.bincount(g.categorical(p, (n,)), minlength=LEVELS)
    softmax, mixture = np.log((counts + 0.1) / (counts + 0.1).sum()), fit_mixture(counts)
    rows.append([f"{n}", (p * (np.log(p) - softmax)).sum(), (p * (np.log(p) - mixture)).sum()])
    shown[n] = softmax, mixture
lesson.table(["examples", "KL of the softmax", "KL of the mixture"], rows)
with lesson.figure("levels", "Three hundred examples of one pixel.", size=(6.4, 2.8)) as axes:
    axes.bar(np.arange(LEVELS), np.exp(shown[300][0]), 1.0, color="#cccccc", label="softmax")
    axes.plot(np.exp(shown[300][1]), label="mixture of 3 logistics")
    axes.plot(p, "--", color=COLOURS["truth"], linewidth=1, label="truth")
    axes.set(xlabel="level", ylabel="probability", title="256 levels from 300 examples")
    axes.legend()

# %% [markdown]
# The softmax catches up where examples are many: it can be any shape at all, and a mixture of three cannot. (A network
# has as many examples as there are pixels, but they come in as many situations.) With three colours, one component is
# chosen for the whole pixel, and the mean of green moves with red, that of blue with both: ten numbers for each
# component, and the network need not keep the colours in order. `likelihood="logistic_mixture"` in the library has it;
# with `"softmax"` and `"bits"` the channels of every layer are shared out among the colours, and masked, as in the
# first paper.
#
# ## 7. Real digits
#
# The digits of lesson 10: 8x8 pixels of 17 levels, 1000 to learn from, 350 to choose settings with, 447 for the test.
# With so few levels we take the softmax: 17 logits a pixel, the likelihood of lesson 10, so the nats can be compared.
# Pixels that know nothing of each other cost 106.3 nats, and the VAE has shown that it can save some 12 of them.
#
# The label is given to the network, as a bias on both halves of each gate (2016b, section 2.3). So it learns p(x | c).
# We lose nothing by that, since the sum over ten classes is soon done:
#
#     p(x)  =  sum over c of  p(c) p(x | c),         p(c) = 1/10

# %%
lesson.section("7. Real digits")

INK = 17
(x_train, y_train), (x_valid, y_valid), (x_test, y_test) = (
    (np.rint(16 * x), y) for x, y in map(digits, ("train", "valid", "test"))
)
shares = np.stack([np.bincount(p, minlength=INK) for p in x_train.reshape(1000, PIXELS).T.astype(int)]) + 0.1
dice = np.log(shares / shares.sum(1, keepdims=True))
floor = -dice[np.arange(PIXELS), x_test.reshape(-1, PIXELS).astype(int)].sum(1).mean()

net = pixelcnn.PixelCNN(shape=(1, SIDE, SIDE), classes=10, channels=32, layers=4, first_kernel=5, dropout=0.4,
                        likelihood="softmax", levels=INK).to(lesson.device)  # fmt: skip


def digit_loss(net):
    chosen = g.integers(0, len(x_train), (BATCH,))
    return net(tensor(x_train[chosen]), minigen.tensor(y_train[chosen], device=lesson.device))


steps = lesson.pick(600, quick=80, full=3000)
digit_curve = train(net, digit_loss, steps, 5e-3, "digits")
lesson.spend(steps * operations(net, BATCH))


@minigen.no_grad()
def class_factors(x):
    """log q(x_i | earlier, c) for each class and pixel, (10, N, 64)."""
    found = []
    for c in range(10):
        logits = net.logits(tensor(x), minigen.tensor(np.full(len(x), c), device=lesson.device))
        rows = logits.permute(0, 2, 3, 1).reshape(-1, INK)
        log_q = -F.cross_entropy(rows, tensor(x).reshape(-1).long(), reduction="none")
        found.append(array(log_q).astype(np.float64).reshape(len(x), PIXELS))
    return np.stack(found)


def log_mean_exp(a):
    top = a.max(0)
    return np.log(np.exp(a - top).mean(0)) + top


by_class = class_factors(x_test)
nll = -log_mean_exp(by_class.sum(-1)).mean()
valid = -log_mean_exp(class_factors(x_valid[: lesson.pick(350, quick=50)]).sum(-1)).mean()
print(
    f"  -log p(x | c): training {np.mean(digit_curve[-50:]):.1f} (with dropout)   "
    f"-log p(x): validation {valid:.1f}, test {nll:.1f}"
)
lesson.proof("digits, -log p/image", nll, "nats", floor=(floor, "independent pixels"))

# %% [markdown]
# More than twenty nats below independent pixels, ten below the VAE, and this is no bound. (A stack of plain causal
# convolutions in a well-known collection of examples reaches 86.6 on the same split.)
#
# It has learned p(x | c) for all ten classes, so by Bayes' rule it can also say which digit it sees, without ever
# having been trained for that: p(c | x) = p(x | c) / sum. And it can say so early, from the rows that it has seen so
# far, since these have a probability of their own: the product over their pixels.

# %%
right = [(by_class[:, :, : SIDE * rows].sum(-1).argmax(0) == y_test).mean() for rows in range(1, SIDE + 1)]
lesson.table(["rows seen", *map(str, range(1, SIDE + 1))], [["digit named rightly", *(f"{r:.0%}" for r in right)]])

# %% [markdown]
# Now let it draw. Ask for each digit, and watch the pictures grow; then let a judge name them who has never seen a
# drawn one: the small CNN in `minigen/metrics/digits.py`, trained on real digits only.

# %%
each = lesson.pick(60, quick=20)
asked = np.repeat(np.arange(10), each)
grown = []


def watch(i, j, x):
    if i % 2 == 1 and j == SIDE - 1:
        grown.append(array(x)[::each].copy())


drawn = array(net.sample(len(asked), minigen.tensor(asked, device=lesson.device), generator=g, watch=watch))
named = name_digits(drawn / 16)
judge = (name_digits(x_test / 16) == y_test).mean()
lesson.images(
    "grow",
    "Asked for 0 to 9: after two, four, six and eight rows; below, three more of each.",
    np.concatenate(grown + [drawn[k::each] for k in (1, 2, 3)]),
    columns=10,
    rows=4,
    row_labels=["2 rows", "4 rows", "6 rows", "8 rows", "others", "", ""],
    low=-2,
    high=16,
)
lesson.proof(
    "drawn digits named as asked",
    100 * (named == asked).mean(),
    "%",
    floor=(10.0, "any digit"),
    optimum=(100 * judge, "real digits, same judge"),
)

# %% [markdown]
# **Completion.** Show it the upper half of a test digit, and let it go on from there. It needs a label, which we do not
# give: we draw one from p(c | upper half), and then the rest given both. Together that is an exact draw from p(lower
# half | upper half).

# %%
shown = [int(np.flatnonzero(y_test == c)[0]) for c in range(10)]
half = x_test[shown].copy()
known = np.arange(SIDE).reshape(1, 1, SIDE, 1) < SIDE // 2
upper = by_class[:, shown, : PIXELS // 2].sum(-1)
posterior = np.exp(upper - upper.max(0)) / np.exp(upper - upper.max(0)).sum(0)  # (10 classes, 10 pictures)
tries = []
for _ in range(4):
    labels = np.array([int(g.categorical(posterior[:, k])) for k in range(10)])
    tries.append(array(net.complete(tensor(half), known, minigen.tensor(labels, device=lesson.device), generator=g)))
lesson.images(
    "complete",
    "Test digits, their upper halves, and four ways to go on.",
    np.concatenate([half, np.where(known, half, 0), *tries]),
    columns=10,
    rows=0,
    row_labels=["test", "given", "completed", "", "", ""],
    low=-2,
    high=16,
)
print("  true " + " ".join(map(str, range(10))) + "   the label that the upper half makes most likely: "
      + " ".join(map(str, posterior.argmax(0))))  # fmt: skip

# %% [markdown]
# ## What this lesson does not show
#
# - Attention. A pixel far away is reached only through many layers. Lesson 20 looks back in one step (PixelSNAIL).
# - Speed. Drawing takes one pass for each pixel. For 8x8 that is nothing, for a photograph it is minutes.
# - A hidden cause. There is no z to turn: the model has no idea of a "three", only of what comes next. Lesson 13 puts
#   a PixelCNN on top of learned codes (VQ-VAE), and has both.
# - Order. Rows from the top are a convention. Any order gives an exact model, and not every order an equally good one.
#
# Next: lesson 20, where a far pixel decides.

# %%
lesson.end()
