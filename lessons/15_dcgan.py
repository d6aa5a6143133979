# %% [markdown]
# # 15. DCGAN
#
# How do two networks that only play against each other learn to draw?
#
# Lesson 14 has the game: a generator G turns noise into samples, a discriminator D says of each whether it is real,
# and each learns from the other (Goodfellow et al. 2014). With convolutions the game kept falling apart, until
# Radford, Metz and Chintala (2015) published a list of choices that work. We take the list apart:
#
# 1. the game where the best answer is known
# 2. why the generator's loss is not the one in the game
# 3. the two networks, piece by piece
# 4. sprites: every mode counted
# 5. collapse, made on purpose
# 6. labels: conditional GANs, and AC-GAN
# 7. real digits
#
# You need lessons 6 (convolution, batch norm) and 14. Run it with `python lessons/15_dcgan.py`.

# %%
import copy

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import autograd, nn, optim
from minigen.data import digits, worlds
from minigen.lessons import Lesson
from minigen.metrics.digits import digit_features, name_digits
from minigen.metrics.frechet import frechet_distance
from minigen.metrics.labels import class_accuracy
from minigen.metrics.manifold import precision_recall
from minigen.metrics.worlds import judge_samples
from minigen.models.gan import dcgan as library
from minigen.models.gan.training import fit_gan, frozen
from minigen.plot import COLOURS, show_image

lesson = Lesson("15_dcgan", uses=("device",))
g = lesson.generator


def tensor(array):
    return minigen.tensor(np.asarray(array, np.float32), device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


# %% [markdown]
# ## 1. The game where the best answer is known
#
# D is a classifier. It sees x from the world p as often as x from the generator q, and gives the probability that x
# is real. What is the best it can say? The x that come up at all come from p with probability (Bayes)
#
#     D*(x) = p(x) / (p(x) + q(x))                      (Goodfellow et al. 2014, proposition 1)
#
# Written as a sigmoid, D = sigmoid(score), the best score is log p - log q: D has learned by how many nats the two
# worlds differ at x. And its loss is then 2 log 2 - 2 JS(p, q), so the better G is, the worse is the best D.
#
# Let us take two densities that we know, and see whether a network gets there from samples alone.

# %%
lesson.section("1. The game where the best answer is known")

real = worlds.GaussianMixture([0.4, 0.6], [-1.5, 1.0], 0.25)
false = worlds.GaussianMixture([1.0], [0.3], 1.44)


def logistic(real_score, fake_score):
    """-log D(x) - log(1 - D(G(z))), means over both batches; softplus(s) is -log(1 - sigmoid(s))."""
    return F.softplus(-real_score).mean() + F.softplus(fake_score).mean()


judge = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)).to(lesson.device)
steps = lesson.pick(2000, quick=300)
optimizer = optim.Adam(judge.parameters(), lr=0.01)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
for _ in lesson.progress(steps, "discriminator"):
    optimizer.zero_grad()
    loss = logistic(judge(tensor(real.sample(200, g))), judge(tensor(false.sample(200, g))))
    loss.backward()
    optimizer.step()
    schedule.step()
lesson.spend(3 * steps * 400 * 2 * (32 + 32 * 32 + 32))

x = np.linspace(-5, 5, 1001)[:, None]
p, q = np.exp(real.log_prob(x)), np.exp(false.log_prob(x))
best = p / (p + q)
with minigen.no_grad():
    said = array(minigen.sigmoid(judge(tensor(x))))[:, 0]
    final = logistic(judge(tensor(real.sample(100_000, g))), judge(tensor(false.sample(100_000, g)))).item()
middle = (p + q) / 2
js = 0.005 * (p * np.log(p / middle) + q * np.log(q / middle)).sum()  # 1/2 of both integrals; the grid's step is 0.01
print(f"  the loss of D is {final:.4f} nats, the best possible is 2 log 2 - 2 JS = {2 * np.log(2) - 2 * js:.4f}")
off = lambda D: 0.01 * (abs(D - best) * middle).sum()  # the mean over what D is shown
lesson.proof("D, mean error", off(said), floor=(off(0.5), "always 1/2"), optimum=(0.0, "p / (p + q)"))

with lesson.figure("pair", "The discriminator finds p / (p + q).", columns=2, size=(8.4, 2.9)) as axes:
    axes[0].plot(x, p, color=COLOURS["truth"], label="the world p")
    axes[0].plot(x, q, color=COLOURS["second"], label="the generator q")
    axes[0].set(title="Two densities that we know", xlabel="x")
    axes[0].legend()
    axes[1].plot(x, best, "--", color=COLOURS["truth"], linewidth=1, label="p / (p + q)")
    axes[1].plot(x, said, label="D, learned from samples")
    axes[1].set(title="Real or false?", xlabel="x", ylabel="D(x)", ylim=(-0.02, 1.02))
    axes[1].legend()

# %% [markdown]
# (Where D is off, far out, there are hardly any samples.)
#
# ## 2. Why the generator's loss is not the one in the game
#
# G never sees the world. All it learns is the slope of D's score at its own samples: this way is more real. In the
# game as it is written G minimises E[log(1 - D(G(z)))]. Its authors at once used another loss, -E[log D(G(z))], which
# has the same fixed point. Why?
#
# Let the world be N(0, 1) and the generator N(theta, 1), so that D* is known: its score is theta^2 / 2 - theta x.
# With D held, the slope of either loss by theta is an average that we can take. How large is it when G is far off, as
# every G is at the start?

# %%
lesson.section("2. Why the generator's loss is not the one in the game")

minimax = lambda score: -F.softplus(score).mean()  # E[log(1 - D)]
non_saturating = lambda score: F.softplus(-score).mean()  # -E[log D]


def pull(loss, theta):
    """The slope by theta of a loss of the generator x = theta + z, with D at its best and held."""
    where = minigen.tensor(theta, requires_grad=True)
    x = where + noise
    score = theta**2 / 2 - theta * x
    return autograd.grad(loss(score), [where])[0].item()


noise = minigen.randn(20_000, generator=g)
places = [0.5, 1.0, 2.0, 4.0, 6.0, 8.0]
rows = [[f"{t:g}", pull(minimax, t), pull(non_saturating, t)] for t in places]
lesson.table(["theta, how far G is off", "slope, as in the game", "slope, non-saturating"], rows)

# %% [markdown]
# In the game as it is written the slope dies where it is needed most: D is sure, so log(1 - D) is flat. With the
# other loss it grows with the distance. The first *saturates*, hence the second's name. (It is no longer a zero-sum
# game, so "G and D minimise and maximise one number" is not quite what GANs do.)
#
# ## 3. The two networks, piece by piece
#
# **Transposed convolutions.** D halves the side of a picture by strided convolutions, until it is 4x4. G runs them
# backwards (lesson 6): each number of a small map paints a kernel, scaled, into a map twice the size. How many
# kernels overlap at a pixel? Paint with ones, and count:

# %%
lesson.section("3. The two networks, piece by piece")

kernels = {3: (1, 1), 4: (1, 0), 5: (2, 1)}  # size: (padding, output_padding), so that the side doubles
painted = {}
for size, padding in kernels.items():
    paint = lambda maps, weight, padding=padding: F.conv_transpose2d(maps, weight, None, 2, *padding)
    count = array(paint(minigen.ones(1, 1, 8, 8), minigen.ones(1, 1, size, size)))[0, 0]
    untrained = paint(minigen.randn(40, 16, 8, 8, generator=g), minigen.randn(16, 100, size, size, generator=g))
    painted[size] = count, (array(untrained) ** 2).mean((0, 1))  # over pictures, and over 100 kernels
inner = slice(4, 12)  # the border has fewer in any case
rows = []
for size, (count, variance) in painted.items():
    count, variance = count[inner, inner], variance[inner, inner]
    most, least = (variance[count == c].mean() for c in (count.max(), count.min()))
    rows.append([f"{size}x{size}", ", ".join(f"{c:g}" for c in np.unique(count)), most / least])
lesson.table(["kernel, stride 2", "kernels that meet at a pixel", "variance, untrained: most / fewest"], rows)

with lesson.figure("checkerboard", "Odd kernels meet unevenly.", columns=6, size=(10, 2.0)) as axes:
    for i, (size, (count, variance)) in enumerate(painted.items()):
        show_image(axes[i], count, f"{size}x{size}: overlaps", 0, 9)
        show_image(axes[3 + i], variance, f"{size}x{size}: variance", 0, variance.max())

# %% [markdown]
# A kernel whose size is no multiple of the stride begins with a checkerboard that training has to undo (Odena,
# Dumoulin & Olah 2016). 4x4 with stride 2 does not. Its four kernels have different weights, though, so even here the
# four kinds of pixel can learn to differ.
#
# **The generator.** 1x1 with many channels to 4x4, and then twice the side each time, half the channels. Batch norm
# and ReLU in between. The last layer has no batch norm, since that would give every channel of a batch the same mean
# and spread; tanh keeps pixels between -1 and 1, as the data are.
#
# **The discriminator** is its mirror image. Its ReLUs leak: G learns only from slopes that come *through* D, and a
# ReLU that is off passes none. Its first layer has no batch norm either, so that it sees pictures as they are.

# %%
LATENT, WIDTH = 8, 16


def generator(latent=LATENT, width=WIDTH, levels=2, norm=True, channels=1):
    widths = [width * 2**i for i in range(levels)][::-1]
    layers = [nn.ConvTranspose2d(latent, widths[0], 4, bias=not norm)]  # 1x1 -> 4x4
    for a, b in zip(widths, [*widths[1:], channels]):
        layers += [*([nn.BatchNorm2d(a)] if norm else []), nn.ReLU()]
        layers += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=not norm)]  # twice the side
    return nn.Sequential(nn.Unflatten(1, (latent, 1, 1)), *layers, nn.Tanh()).to(lesson.device)


def discriminator(width=WIDTH, levels=2, norm=True, channels=1, slope=0.2):
    layers = []
    for i in range(levels):
        b = width * 2**i
        layers += [nn.Conv2d(channels, b, 4, stride=2, padding=1, bias=not norm)]  # half the side
        layers += [*([nn.BatchNorm2d(b)] if norm and i else []), nn.LeakyReLU(slope)]
        channels = b
    layers += [nn.Conv2d(channels, 1, 4, bias=not norm), nn.Flatten(0)]  # 4x4 -> one score
    return nn.Sequential(*layers).to(lesson.device)


def begin(module):
    """The paper's weights, for `network.apply`: N(0, 0.02), and N(1, 0.02) for the gains of batch norm."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02, generator=g)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02, generator=g)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)


# %% [markdown]
# In the published size, 100 numbers to 64x64 pixels in colour, this G has 3,576,704 weights. With weights of 0.02 its
# signal would die on the way: each layer makes it smaller. Batch norm puts it back in order after each:

# %%
rows = []
z = minigen.randn(16, 100, generator=g, device=lesson.device)
for norm in (True, False):
    net = generator(100, 64, levels=4, norm=norm, channels=3).apply(begin)
    sizes, h = [], z
    with minigen.no_grad():
        for layer in net:
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                sizes.append(float(np.sqrt((array(h) ** 2).mean())))
    apart = array(h).std(0).mean()  # over z: how much two pictures differ
    rows.append(["with batch norm" if norm else "without", *(f"{s:.2g}" for s in [*sizes, apart])])
print(f"  the generator for 64x64 has {sum(p.numel() for p in generator(100, 64, 4, True, 3).parameters()):,} weights")
lesson.table(["root mean square", "4x4", "8x8", "16x16", "32x32", "pictures apart by"], rows)

# %% [markdown]
# Without it all pictures are the same grey, whatever z is: D's slope tells G what one picture should be like, and all
# follow. So batch norm is not there for speed alone.
#
# **The steps.** D's turn: real pictures and false ones, in two batches, each with its own batch statistics. G's turn:
# the same false pictures, judged by the new D. Adam with beta1 = 0.5: with the usual 0.9 it goes on in the direction
# of ten steps ago, and the opponent has moved since then. Our networks are small and our time is short, so the rate
# is 2e-3, where the paper has 2e-4 for its large ones.
#
# Two things are younger than the paper. **Noise:** our pixels are just -1 or 1, and D would forever tell false
# pictures by their greys, however good they are. Where two worlds lie on thin sets that do not meet, a perfect D
# exists, and its slope says nothing (Arjovsky & Bottou 2017). So all pictures that D sees get Gaussian noise. **The
# mean of the weights:** G circles around where it wants to go, and the mean of its last hundred weights is mostly a
# better G than the last (lesson 2 has EMA). Batch norm's statistics belong to the weights, so they are measured anew
# for the mean.

# %%
NOISE = 0.6


def seen(x):
    """A picture as D sees it."""
    return x + NOISE * minigen.randn_like(x, generator=g)


def play(G, D, batch, steps, what, rate=2e-3, memory=0.99, see=seen, watch=None):
    """Steps of D and G in turn. Returns the losses (steps, 2) of D and G."""
    options = {"lr": rate, "betas": (0.5, 0.999)}
    d_steps, g_steps = optim.Adam(D.parameters(), **options), optim.Adam(G.parameters(), **options)
    mean, losses = optim.EMA(G, memory, warmup=True), []
    for step in (bar := lesson.progress(steps, what)):
        x = batch()
        fake = G(minigen.randn(len(x), LATENT, generator=g, device=lesson.device))

        d_steps.zero_grad()
        d_loss = logistic(D(see(x)), D(see(fake.detach())))
        d_loss.backward()
        d_steps.step()

        with frozen(D):  # the slope goes through D, and its weights stay
            g_steps.zero_grad()
            g_loss = non_saturating(D(see(fake)))
            g_loss.backward()
            g_steps.step()

        mean.update()
        losses.append((d_loss.item(), g_loss.item()))
        bar.set_postfix_str(f"D {losses[-1][0]:.2f}  G {losses[-1][1]:.2f}", refresh=False)
        if watch is not None:
            watch(step + 1)
    mean.copy_to()
    settle(G)
    return np.array(losses)


@minigen.no_grad()
def settle(G, batches=20):
    """Batch norm's running statistics as plain means over new batches; then evaluation mode."""
    norms = [layer for layer in G.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean
    G.train()
    for _ in range(batches):
        G(minigen.randn(100, LATENT, generator=g, device=lesson.device))
    for layer in norms:
        layer.momentum = 0.1
    G.eval()


@minigen.no_grad()
def draw(G, n):
    return array(G(minigen.randn(n, LATENT, generator=g, device=lesson.device)))


def operations(G, D):
    """Floating-point operations of one step for one picture: G forward and back, D three times forward and back."""
    z, x = minigen.zeros(1, LATENT, device=lesson.device), tensor(np.zeros((1, 1, 16, 16)))
    return 3 * G.summary(z).flops + 9 * D.summary(x).flops


# %% [markdown]
# ## 4. Sprites: every mode counted
#
# A world of twelve pictures, 16x16: square, disc or cross, at four places. Nothing else exists in it, so a sample can
# be judged exactly: is it, up to 3 of its 256 pixels, one of the twelve? Are all twelve drawn, and each as often as
# it should be?
#
# G can only be *asked for samples*. It has no likelihood, and no loss says how good it is. So we compare the
# histogram of its samples over the twelve with the world's. Twelve numbers are counted from a finite sample, so even
# a perfect sampler has a divergence of about (12 - 1) / (2 n), as lesson 1 found. `minigen.metrics.worlds` has it
# exactly.
#
# First section 2 once more, now with these networks. G is untrained, and D alone takes some steps. How long is the
# slope by all of G's weights, for either loss?

# %%
lesson.section("4. Sprites: every mode counted")

sprites = worlds.Sprites(16, radii=(3,), places=2, flip=0.0)
SHAPES = sprites.factors["shape"]
WITHIN = 3


def pictures(n=64):
    return tensor(2 * sprites.sample(n, g) - 1)


def black_and_white(x):
    return (x > 0).astype(np.float32)


def report(samples):
    return judge_samples(sprites, black_and_white(samples), WITHIN)


def slope(loss):
    """The length of the gradient of a loss by all weights of G."""
    scores = D(G(minigen.randn(256, LATENT, generator=g, device=lesson.device)))
    return float(np.sqrt(sum((array(part) ** 2).sum() for part in autograd.grad(loss(scores), list(G.parameters())))))


G, D = generator().apply(begin), discriminator().apply(begin)
d_steps = optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
rows = []
for step in range(41):
    if step % 10 == 0:
        rows.append([str(step), slope(minimax), slope(non_saturating)])
    d_steps.zero_grad()
    fake = G(minigen.randn(64, LATENT, generator=g, device=lesson.device)).detach()
    logistic(D(pictures()), D(fake)).backward()
    d_steps.step()
lesson.table(["steps of D alone", "slope, as in the game", "slope, non-saturating"], rows)

# %% [markdown]
# With the game as it is written, the better D is, the less G learns. One would have to keep D bad on purpose.
#
# Now what the choices are worth. The same two networks, 250 steps, each time with one choice undone:

# %%
steps = lesson.pick(220, quick=8)
rows = []
for name, changes, see in [
    ("all as described", {}, seen),
    ("no batch norm", {"norm": False}, seen),
    ("no noise for D", {}, lambda x: x),
]:
    G, D = generator(**changes).apply(begin), discriminator(**changes).apply(begin)
    losses = play(G, D, pictures, steps, name, see=see)
    lesson.spend(steps * 64 * operations(G, D))
    found = report(draw(G, 2000))
    rows.append([name, f"{found.on_mode:.1%}", str(found.hit), losses[-50:, 0].mean(), losses[-50:, 1].mean()])
lesson.table([f"after {steps} steps", "on a sprite", "of 12 sprites", "loss of D", "loss of G"], rows)

# %% [markdown]
# Without batch norm nothing is drawn in that time. Without noise D is surer of itself, its loss says so, and G gets
# little from it. Now in earnest, with samples from the same noise taken on the way.

# %%
G, D = generator().apply(begin), discriminator().apply(begin)
steps = lesson.pick(1200, quick=120)
same_z = minigen.randn(16, LATENT, generator=g, device=lesson.device)
moments = [max(1, round(steps * share)) for share in (0.02, 0.1, 0.25, 0.5, 1)]
film = []


def watch(step):
    if step in moments:
        with minigen.no_grad():
            film.append(array(G(same_z)))


losses = play(G, D, pictures, steps, "DCGAN", watch=watch)
lesson.spend(steps * 64 * operations(G, D))
samples = draw(G, 4000)
found, own = report(samples), report(array(pictures(4000)))
print(f"  samples: {found}")
print(f"  world:   {own}")
with minigen.no_grad():
    film.append(array(G(same_z)))
lesson.images(
    "sprites",
    "The same noise, as G learns; at the bottom the mean of the weights.",
    np.concatenate([*film, array(pictures(16))]),
    columns=16,
    rows=7,
    row_labels=[*(f"step {m}" for m in moments), "mean", "world"],
    low=-1,
    high=1,
)

# %%
with lesson.figure("training", "The losses say little; the modes say all.", columns=2, size=(9.4, 3.0)) as axes:
    axes[0].plot(losses[:, 0], linewidth=0.6, label="D")
    axes[0].plot(losses[:, 1], linewidth=0.6, label="G")
    guess = {"color": COLOURS["truth"], "linestyle": "--", "linewidth": 1, "label": "2 log 2: D can only guess"}
    axes[0].axhline(2 * np.log(2), **guess)
    axes[0].set(xlabel="step", ylabel="loss  [nats]", title="Neither falls, and neither should", ylim=(0, 4))
    axes[0].legend()
    width = 0.42
    share, own_share = (r.counts / max(1, r.counts.sum()) for r in (found, own))
    axes[1].bar(np.arange(12) - width / 2, share, width, label="samples on a sprite")
    axes[1].bar(np.arange(12) + width / 2, own_share, width, color="#bbbbbb", label="world's own")
    axes[1].axhline(1 / 12, color=COLOURS["truth"], linestyle="--", linewidth=1)
    axes[1].set(xlabel="sprite", ylabel="share", title="How often each of the twelve is drawn", xticks=range(12))
    axes[1].set(ylim=(0, 1.35 * max(*share, *own_share)))
    axes[1].legend(loc="upper right", ncols=2)

ink = sprites.sample(4000, g).mean(0)
blind = report(2 * (g.uniform((4000, 1, 16, 16)) < ink) - 1.0)  # the floor: every pixel for itself
lesson.proof(
    "sprites, samples on a mode",
    100 * found.on_mode,
    "%",
    floor=(100 * blind.on_mode, "independent pixels"),
    optimum=(100.0, "the world"),
)
lesson.proof(
    "sprites, divergence of the modes",
    found.divergence,
    "nats",
    floor=(np.log(12), "collapse"),
    optimum=(found.perfect_divergence, "perfect sampler, expected"),
)

# %% [markdown]
# All twelve are found, and each gets about its share. What is wrong are the samples *between* sprites. G is a
# continuous map of a connected cloud of noise. It can bend and stretch the cloud, but it cannot tear it into twelve
# islands: some z must lie on the way from one sprite to the next. D's steepness makes these ways short, never empty.
# (A VAE has the same trouble, lesson 10.)
#
# And look at the losses. They are not a measure of anything: D's loss tells how well *this* D does against *this* G.
# Both may stand still while the pictures get better, or the other way round.
#
# ## 5. Collapse, made on purpose
#
# A generator collapses when many z give one picture. Lesson 1 says that a perfect D leads G to the Jensen-Shannon
# divergence, which would not allow it. But G does not see that perfect D. It sees one D at a time, and against a
# *fixed* D its best answer is a single picture: the one that D likes best. What keeps it from going there is that D
# answers.
#
# So let D not answer. We keep the D of section 4 as it is, and train a new G against it.

# %%
lesson.section("5. Collapse, made on purpose")

against = copy.deepcopy(D)
G2 = generator().apply(begin)
steps = lesson.pick(200, quick=30)
g_steps = optim.Adam(G2.parameters(), lr=1e-3, betas=(0.5, 0.999))
for _ in lesson.progress(steps, "D stands still"):
    g_steps.zero_grad()
    with frozen(against):
        non_saturating(against(seen(G2(minigen.randn(64, LATENT, generator=g, device=lesson.device))))).backward()
    g_steps.step()
settle(G2)
collapsed, answered, world = draw(G2, 1000), draw(G, 1000), array(pictures(1000))
variety = lambda samples: float(samples.std(0).mean())  # how much samples differ, at a pixel
rows = []
for name, samples in [("the world", world), ("D answers", answered), ("D is fixed", collapsed)]:
    found_here = report(samples)
    rows.append([name, variety(samples), f"{found_here.hit} of 12", f"{found_here.on_mode:.1%}"])
lesson.table(["1000 samples", "differ at a pixel by", "modes reached", "on a mode"], rows)
lesson.images(
    "collapse",
    "Against a D that does not answer, G draws one thing.",
    np.concatenate([answered[:16], collapsed[:16]]),
    columns=16,
    rows=2,
    row_labels=["D answers", "D is fixed"],
    low=-1,
    high=1,
)
lesson.proof(
    "collapse: variety that is left",
    variety(collapsed) / variety(world),
    floor=(variety(answered) / variety(world), "D answers"),
    optimum=(0.0, "one picture"),
)

# %% [markdown]
# That one picture need not even be a sprite: it is what this D, outside of all that it was shown, likes best. (Such
# pictures are called adversarial examples.) Collapse is not rare in practice, in milder forms: three modes of twelve,
# say. The losses would not tell. Counting does, and where modes cannot be counted, variety must be looked for by
# other means (lesson 37).
#
# ## The engine's own
#
# `minigen.models.gan.dcgan` has these networks ready for use, and `minigen.models.gan.training.fit_gan` the steps,
# with checkpoints and Ctrl-C. Same weights, same pictures, same scores:


# %%
def take_over(ready, G, D):
    """The library's model with the weights of ours."""
    for theirs, ours in [(ready.generator, G), (ready.discriminator, D)]:
        theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values())))
    return ready.to(lesson.device).eval()


ready = take_over(library.DCGAN(shape=(1, 16, 16), latent=LATENT, width=WIDTH, noise=NOISE), G, D.eval())
z, x = minigen.randn(8, LATENT, generator=g, device=lesson.device), pictures(8)
with minigen.no_grad():
    picture_off = np.abs(array(ready.generator(z) - G(z))).max()
    score_off = np.abs(array(ready.discriminator(x) - D(x))).max()
print(f"\n  minigen.models.gan.dcgan, same weights: pictures differ by {picture_off:.0e}, scores by {score_off:.0e}")

# %% [markdown]
# ## 6. Labels: conditional GANs, and AC-GAN
#
# Can we ask for a square? Give *both* networks the label y (Mirza & Osindero 2014). G gets it beside z. But if only G
# got it, nothing would make G obey. D must judge pairs: is this a real picture *of a square*? Then a fine disc under
# the label "square" is false, and the game's fixed point is p(x | y) for every y. Three ways to bring y into D:
#
# 1. **Concatenate.** An embedding of y as further channels, the same numbers beside every pixel.
# 2. **Project** (Miyato & Koyama 2018). For the best D the score is a sum: log p(x)/q(x) + log p(y|x)/q(y|x). The
#    first part is an ordinary score. If log p(y | x) is linear in features h(x), as in any classifier with a softmax,
#    the second is an inner product <v_y, h(x)>. So the score is s(h(x)) + <v_y, h(x)>: one vector for each label.
# 3. **Do not tell D the label; let it name it** (AC-GAN: Odena, Olah & Shlens 2016). D has a second output, class
#    logits, and both players add the cross entropy of the label to their losses. G is paid for pictures that are easy
#    to name.
#
# Here are the first two by hand, around the pieces from above; a label is a number from 0 to 2.

# %%
lesson.section("6. Labels: conditional GANs, and AC-GAN")


class LabelledGenerator(nn.Module):
    def __init__(self, classes, size=3):
        self.embed = nn.Embedding(classes, size)
        self.layers = generator(LATENT + size).apply(begin)

    def forward(self, z, y):
        return self.layers(minigen.cat([z, self.embed(y)], 1))


class Concatenating(nn.Module):
    def __init__(self, classes, size=3):
        self.embed = nn.Embedding(classes, size)
        self.layers = discriminator(channels=1 + size).apply(begin)

    def forward(self, x, y):
        planes = self.embed(y)[:, :, None, None].expand(len(x), -1, *x.shape[2:])
        return self.layers(minigen.cat([x, planes], 1))


class Projecting(nn.Module):
    def __init__(self, classes):
        *layers, score, _ = discriminator().apply(begin)
        self.layers, self.score = nn.Sequential(*layers), score
        self.embed = nn.Embedding(classes, 2 * WIDTH)

    def forward(self, x, y):
        h = self.layers(x)  # (N, channels, 4, 4)
        return self.score(h).flatten() + (self.embed(y) * h.sum((2, 3))).sum(1)


y = minigen.tensor(np.array([0, 1, 2, 0, 1, 2, 0, 1]), device=lesson.device)
G_y = LabelledGenerator(3).to(lesson.device).eval()
for condition, D_y in [("concat", Concatenating(3)), ("projection", Projecting(3))]:
    D_y.to(lesson.device).eval()
    sizes = {"shape": (1, 16, 16), "latent": LATENT, "width": WIDTH, "classes": 3, "embedding": 3}
    ready = take_over(library.DCGAN(**sizes, condition=condition), G_y, D_y)
    with minigen.no_grad():
        picture_off = np.abs(array(ready.generator(z, y) - G_y(z, y))).max()
        score_off = np.abs(array(ready.discriminator(x, y) - D_y(x, y))).max()
    print(f"  {condition:10}  beside the library's: pictures differ by {picture_off:.0e}, scores by {score_off:.0e}")

# %% [markdown]
# The label is the shape. Whether a picture obeys, the world knows exactly: it gives the probability of each shape
# given the picture. (It allows 2% of pixels to be wrong, so that every picture has an answer.) From here on `fit_gan`
# takes the steps.

# %%
knows = worlds.Sprites(16, radii=(3,), places=2, flip=0.02)
shape_of = lambda samples: knows.infer(black_and_white(samples))[:, 0]


def labelled(n=64):
    x, factors = sprites.sample_with_latents(n, g)
    return tensor(2 * x - 1), minigen.tensor(factors[:, 0], device=lesson.device)


kinds = {
    "concatenated": {"condition": "concat"},
    "projected": {"condition": "projection"},
    "AC-GAN": {"condition": "auxiliary"},
    "AC-GAN, real names": {"condition": "auxiliary", "name_fakes": False},
}
asked = np.arange(1200) % 3
steps = lesson.pick(360, quick=120)
obeyed = {"no label (section 4)": class_accuracy(shape_of(draw(G, 1200)), asked)}
rows = [["no label (section 4)", f"{obeyed['no label (section 4)']:.1%}", f"{found.on_mode:.1%}", str(found.hit)]]
shown = []
chosen = lesson.pick(list(kinds), quick=["projected"])
for name in chosen:
    model = library.DCGAN(**sizes, noise=NOISE, **kinds[name]).to(lesson.device)
    fit_gan(model, labelled, steps=steps, lr=2e-3, ema=0.99, generator=g, progress=lesson.options.progress)
    lesson.spend(steps * 64 * operations(G, D))
    samples = array(model.sample(1200, asked, g))
    obeyed[name] = class_accuracy(shape_of(samples), asked)
    here = report(samples)
    rows.append([name, f"{obeyed[name]:.1%}", f"{here.on_mode:.1%}", str(here.hit)])
    shown += [samples[asked == label][:5] for label in range(3)]
lesson.table([f"the label in D, {steps} steps", "shape obeyed", "on a sprite", "of 12 sprites"], rows)
lesson.images(
    "labels",
    "Asked for a square, a disc, a cross, five times each.",
    np.concatenate(shown),
    columns=15,
    rows=2,
    row_labels=chosen,
    low=-1,
    high=1,
)
lesson.proof(
    "sprites, shape obeyed",
    100 * obeyed["projected"],
    "%",
    floor=(100 / 3, "label not used"),
    optimum=(100.0, "the world"),
)

# %% [markdown]
# The label works. (Each got a third of the steps of section 4.) Two things to note.
#
# AC-GAN as it was published obeys less. Its D learns to name *generated* pictures too, as they were asked for,
# whatever they show. So as long as G draws badly, any private sign will do to tell the classes apart, and nobody says
# that it should be the shape. If D learns the names from real pictures only, G must draw what real ones of that name
# look like. It may cost variety, though: easily named pictures are preferred, and with other seeds a mode or two gets
# lost.
#
# And the size of the embedding matters. Three numbers beside eight of z are little. With sixteen the label speaks
# louder than z, and each label soon has one picture. A condition invites collapse.
#
# ## 7. Real digits
#
# The bundled digits, 8x8, with their labels: the same networks with one level fewer, and the projection. Nobody knows
# the modes of handwriting, so other measures have to do, all of them by a classifier that minigen ships
# (`minigen.metrics.digits`: a small CNN that names 98.9% of the test digits rightly):
#
# - Does it name a sample as it was asked for?
# - **Frechet distance** (Heusel et al. 2017): take the classifier's 64 features of real and of generated pictures,
#   fit a Gaussian to each set, and take the distance of the two Gaussians, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2).
#   It is not 0 for two real sets either, so it must stand beside that of real ones of the same sizes.
#
# Two floors. Independent pixels, and independent pixels of the right class (naive Bayes).

# %%
lesson.section("7. Real digits")

train_x, train_y = digits("train")
test_x, test_y = digits("test")
sizes = {"shape": (1, 8, 8), "latent": 32, "width": 64, "classes": 10, "condition": "projection", "noise": NOISE}
model = library.DCGAN(**sizes).to(lesson.device)


def digit_batch():
    rows = g.integers(0, len(train_x), (64,))
    return tensor(2 * train_x[rows] - 1), minigen.tensor(train_y[rows], device=lesson.device)


steps = lesson.pick(1300, quick=250)
fit_gan(model, digit_batch, steps=steps, lr=2e-3, ema=0.99, generator=g, progress=lesson.options.progress)
lesson.spend(steps * 64 * 2 * 3 * (64 * 16 * 42 + 16 * 16 * 64 + 3 * (16 * 16 * 64 + 16 * 64)))


def as_ink(samples):
    return (array(samples) + 1) / 2


def mixed(x, n):
    """n pictures, each of whose pixels comes from another picture of x."""
    return x.reshape(-1, 64)[g.integers(0, len(x), (n, 64)), np.arange(64)].reshape(n, 1, 8, 8)


by_class = np.concatenate([mixed(train_x[train_y == c], int((test_y == c).sum())) for c in range(10)])
sets = {  # 447 pictures each, with as many of each digit
    "independent pixels": (mixed(train_x, len(test_x)), test_y[g.permutation(len(test_y))]),
    "independent pixels of the class": (by_class, np.sort(test_y)),
    "DCGAN": (as_ink(model.sample(len(test_x), test_y, g)), test_y),
    "real: the test digits": (test_x, test_y),
}
features, distance, rows = digit_features(train_x), {}, []
for name, (pictures_here, labels) in sets.items():
    distance[name] = frechet_distance(features, digit_features(pictures_here))
    precision, recall = precision_recall(features, digit_features(pictures_here))
    right = class_accuracy(name_digits(pictures_here), labels)
    nearest = [((train_x - one) ** 2).sum((1, 2, 3)).min() ** 0.5 for one in pictures_here]
    rows.append([name, distance[name], f"{right:.1%}", f"{precision:.2f}", f"{recall:.2f}", np.mean(nearest)])
head = ["447 pictures", "Frechet", "named rightly", "precision", "recall", "to the nearest training digit"]
lesson.table(head, rows)
lesson.proof(
    "digits, Frechet distance",
    distance["DCGAN"],
    floor=(distance["independent pixels"], "independent pixels"),
    optimum=(0.0, f"real ones {distance['real: the test digits']:.2f}"),
)
lesson.proof(
    "digits, named as asked for",
    100 * class_accuracy(name_digits(sets["DCGAN"][0]), test_y),
    "%",
    floor=(10.0, "label not used"),
    optimum=(100.0, "all"),
)

# %%
columns = np.arange(20) % 10
real_ones = np.stack([train_x[train_y == c][i // 10] for i, c in enumerate(columns)])
lesson.images(
    "digits",
    "Above: real. Below: asked for 0 to 9, twice.",
    np.concatenate([real_ones, *(as_ink(model.sample(20, columns, g)) for _ in range(3))]),
    columns=20,
    row_labels=["real", "DCGAN", "", ""],
    low=0,
    high=1,
)

# %% [markdown]
# Which measure should one believe? None by itself. Each can be cheated: the share that is named rightly by a
# generator of ten perfect pictures, one for each digit; the Frechet distance by Gaussians of features that look
# right; both by a copy of the training set. So there are three more columns. Precision is the share of samples that
# lie where real ones do, recall the share of real ones that samples come near (Kynkaanniemi et al. 2019), and the
# last is the mean distance to the nearest training digit: if it were much smaller than for real test digits, G would
# only copy.
#
# ## What this lesson does not show
#
# - That GANs are reliable. The settings here hold for six seeds because we looked for such that do. A divergence that
#   does not lose its slope is lesson 16.
# - Size. What DCGAN began, StyleGAN finished (lesson 17).
# - Likelihood. A GAN gives none, so it can be compared with a VAE or a flow by its samples only.
#
# Next: lesson 16 puts another distance in the place of the Jensen-Shannon divergence.

# %%
lesson.end()
