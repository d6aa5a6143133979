# %% [markdown]
# # 10. The variational autoencoder
#
# How do you learn what causes pictures, when nobody ever shows you a cause?
#
# A handwritten three has causes: which digit, how slanted, how thick the pen. We see only pixels. The variational
# autoencoder (Kingma & Welling 2013; Rezende, Mohamed & Wierstra 2014) learns a decoder, from causes to pictures, and
# an encoder that guesses the causes back. Both climb one number, a bound on the likelihood. We go to that number
# slowly:
#
# 1. a cause behind every x, and why its likelihood is an integral that we cannot do
# 2. a bound that we can: the ELBO, and its tighter sister IWAE
# 3. how to follow a slope through a roll of the dice
# 4. a world where everything is known: the linear VAE finds the exact answer
# 5. sprites: how close to the truth does a network come?
# 6. real digits
# 7. two causes only: a map of the digits, and the likelihood exactly
# 8. three losses that are not the ELBO
#
# You need lessons 1 (nats, KL) and 2 (nn.Linear, Adam, dropout). Run it with `python lessons/10_vae.py`.

# %%
import math
from statistics import NormalDist

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import autograd, nn, optim
from minigen.data import ImageFolder, digits, worlds
from minigen.data.classic import mnist
from minigen.errors import DownloadError
from minigen.lessons import Lesson
from minigen.models.latent import vae as library
from minigen.plot import COLOURS, show_image, tile
from minigen.random import Generator
from minigen.train import fit

lesson = Lesson("10_vae", uses=("device", "full", "data"))
g = lesson.generator


def tensor(array):
    return minigen.tensor(np.asarray(array, np.float32), device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


# %% [markdown]
# ## 1. A cause behind every x
#
# Here is the smallest world with hidden causes, probabilistic PCA (Tipping & Bishop 1999). Three numbers z, drawn
# from N(0, I), make twelve numbers x:
#
#     z ~ N(0, I),        x = W z + m + s * noise
#
# Everything about it is known. x is Gaussian with mean m and covariance C = W W' + s^2 I. The causes given x are
# Gaussian too, with covariance P = (I + W'W / s^2)^-1 and mean P W'(x - m) / s^2.

# %%
lesson.section("1. A cause behind every x")

CAUSES, D, S = 3, 12, 0.5
constants = Generator(10)  # one world, whatever the seed of the run
W = np.linalg.qr(constants.normal((D, CAUSES)).astype(np.float64))[0] * [4.0, 2.5, 1.5]
m = constants.normal((D,)).astype(np.float64)
C = W @ W.T + S**2 * np.eye(D)
P = np.linalg.inv(np.eye(CAUSES) + W.T @ W / S**2)


def draw(n, generator):
    z = generator.normal((n, CAUSES)).astype(np.float64)
    return z @ W.T + m + S * generator.normal((n, D))


def log_normal(x, mean, covariance):
    """log N(x; mean, covariance), (..., D) -> (...)."""
    root = np.linalg.cholesky(covariance)
    white = (x - mean) @ np.linalg.inv(root).T
    return -0.5 * (white**2).sum(-1) - np.log(np.diag(root)).sum() - 0.5 * x.shape[-1] * math.log(2 * math.pi)


def log_mean_exp(a, axis):
    top = a.max(axis, keepdims=True)
    return np.log(np.exp(a - top).mean(axis)) + top.squeeze(axis)


# %% [markdown]
# In general p(x) is the integral of p(x | z) p(z) over every possible z. The obvious way to compute it: draw many z
# from the prior, and average p(x | z). That is unbiased. Let us see how it does for one x.

# %%
x = draw(1, g)[0]
exact = log_normal(x, m, C)
rows = []
for k in [1, 10, 100, 1000, 10_000]:
    z = g.normal((20, k, CAUSES)).astype(np.float64)
    log_p = log_normal(x, z @ W.T + m, S**2 * np.eye(D))
    found = log_mean_exp(log_p, 1)
    rows.append([f"{k:,}", found.mean(), found.std()])
lesson.table(["z drawn from the prior", "log p(x), estimated", "spread"], rows)
print(f"  exactly                  {exact:.2f}")

# %% [markdown]
# It needs thousands of draws, and until then it is too low: nearly all z have nothing to do with this x. The volume
# worth looking at shrinks with every further cause. With three causes it is a nuisance; with sixteen it is hopeless.
#
# ## 2. A bound that we can compute
#
# So let somebody tell us where to look: draw z from a q(z | x) that favours likely causes, and divide by q to make up
# for it. By Jensen's inequality (log is concave),
#
#     log p(x) = log E_q[ p(x, z) / q(z | x) ]  >=  E_q[ log p(x, z) - log q(z | x) ]  =  ELBO
#
# and the gap has a name: it is KL(q(z | x) || p(z | x)), how wrong q is about the causes. A perfect q has no gap at
# all. With k draws inside the logarithm the bound is tighter (Burda, Grosse & Salakhutdinov 2015):
#
#     IWAE_k = E[ log 1/k sum_i p(x, z_i) / q(z_i | x) ],      ELBO = IWAE_1 <= IWAE_k <= log p(x)
#
# Three guesses for the same x: the prior; the right means but no correlations; and the true posterior.

# %%
lesson.section("2. A bound that we can compute")

posterior_mean = P @ W.T @ (x - m) / S**2
guesses = {
    "the prior": (np.zeros(CAUSES), np.eye(CAUSES)),
    "right, but for correlations": (posterior_mean, np.diag(1 / np.diag(np.linalg.inv(P)))),
    "the true posterior": (posterior_mean, P),
}
rows = []
for name, (mean, covariance) in guesses.items():
    z = mean + g.normal((100_000, CAUSES)) @ np.linalg.cholesky(covariance).T
    log_joint = log_normal(x, z @ W.T + m, S**2 * np.eye(D)) + log_normal(z, np.zeros(CAUSES), np.eye(CAUSES))
    log_weight = log_joint - log_normal(z, mean, covariance)
    off = posterior_mean - mean
    ratio = np.linalg.solve(P, covariance)
    gap = 0.5 * (np.trace(ratio) + off @ np.linalg.solve(P, off) - CAUSES - np.linalg.slogdet(ratio)[1])
    iwae = log_mean_exp(log_weight.reshape(-1, 100), 1).mean()
    rows.append([name, log_weight.mean(), iwae, exact, exact - log_weight.mean(), gap])
lesson.table(["q(z | x)", "ELBO", "IWAE_100", "log p(x)", "gap of the ELBO", "KL(q || posterior)"], rows)

# %% [markdown]
# The gap is the KL to the digit, and the true posterior has none: there *every* draw gives log p(x), without any
# spread.
#
# Written another way, with log p(x, z) = log p(x | z) + log p(z), the same ELBO is what the name "autoencoder" comes
# from:
#
#     ELBO = E_q[ log p(x | z) ]  -  KL( q(z | x) || p(z) )            (Kingma & Welling 2013, eq. 3)
#            reconstruction          nats that z carries
#
# For q = N(mu, sigma^2) and p(z) = N(0, 1) the KL is 1/2 (mu^2 + sigma^2 - log sigma^2 - 1) for each cause.
#
# ## 3. How to follow a slope through a roll of the dice
#
# To train the encoder we need d(loss)/d(mu). But z ~ N(mu, sigma^2) is a roll of the dice: nudge mu, and nothing says
# how this particular z would have moved. Roll the dice *outside* instead. Draw noise ~ N(0, 1) once; then
#
#     z = mu + sigma * noise                      (Kingma & Welling 2013, section 2.4)
#
# has the same distribution, and now dz/dmu = 1 and dz/dsigma = noise: plain arithmetic. Before we use it, let us see
# that it is true, beside the older way (the score function: the slope of log q, times the loss), which is true as
# well.

# %%
lesson.section("3. How to follow a slope through a roll of the dice")

sigma = 0.8
loss_of = lambda z: (z - 2.0) ** 2  # any loss; at mu = 0.5 the slope of its mean is 2 (mu - 2) = -3


def by_reparameterisation(noise):
    mu = minigen.tensor(0.5, requires_grad=True)
    return autograd.grad(loss_of(mu + sigma * noise).mean(), [mu])[0].item()


def by_score_function(noise):
    z = 0.5 + sigma * noise
    return (loss_of(z) * (z - 0.5) / sigma**2).mean().item()


noises = [minigen.randn(64, generator=g) for _ in range(500)]
lesson.report("reparameterised", [by_reparameterisation(e) for e in noises], truth=-3.0)
lesson.report("score function ", [by_score_function(e) for e in noises], truth=-3.0)

# %% [markdown]
# Both are right on average. One is four times as noisy, and in a real model hundreds of times.
#
# ## 4. A world where everything is known
#
# Now the model. Twenty lines, and they are all of it: an encoder gives the mean and log variance of q, a decoder
# gives p(x | z). (Log variance, so that it can be any number; sigma is exp(log_var / 2), and exercise 4 shows what
# happens to those who forget the half.)

# %%


class VAE(nn.Module):
    """log_likelihood(out, x) is log p(x | z) for the decoder's output, (N,): a sum over pixels."""

    def __init__(self, encoder, decoder, log_likelihood):
        self.encoder, self.decoder = encoder, decoder
        self.log_likelihood = log_likelihood

    def posterior(self, x):
        return self.encoder(x).chunk(2, -1)  # mu and log variance, each (N, causes)

    def elbo(self, x):
        """The two parts of the ELBO: reconstruction (N,), and the KL of each cause (N, causes)."""
        mu, log_var = self.posterior(x)
        z = mu + minigen.exp(0.5 * log_var) * minigen.randn_like(mu)
        kl = 0.5 * (mu * mu + minigen.exp(log_var) - log_var - 1)
        return self.log_likelihood(self.decoder(z), x), kl

    def log_weight(self, x):
        """log p(x, z) - log q(z | x) for one draw of z, (N,)."""
        mu, log_var = self.posterior(x)
        noise = minigen.randn_like(mu)
        z = mu + minigen.exp(0.5 * log_var) * noise
        return self.log_likelihood(self.decoder(z), x) + 0.5 * (noise * noise + log_var - z * z).sum(1)


# %% [markdown]
# The training loop has no secrets either. (`minigen.train.fit` is the same with checkpoints and Ctrl-C.)

# %%


def train(model, batch, steps, rate, what, objective=lambda reconstruction, kl: (reconstruction - kl.sum(1)).mean()):
    """Climb the ELBO with Adam and a learning rate that falls like a cosine. Returns the loss of each step."""
    optimizer = optim.Adam(model.parameters(), lr=rate)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    losses = []
    model.train()
    for _ in (bar := lesson.progress(steps, what)):
        optimizer.zero_grad()
        loss = -objective(*model.elbo(batch()))
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix_str(f"{losses[-1]:.2f} nats", refresh=False)
    model.eval()
    return losses


@minigen.no_grad()
def measure(model, x, k):
    """The mean over x of -ELBO, -IWAE_k, and the KL of each cause, in nats, from k draws for each x."""
    weights = np.stack([array(model.log_weight(x)) for _ in range(k)]).astype(np.float64)
    return -weights.mean(), -log_mean_exp(weights, 0).mean(), array(model.elbo(x)[1]).mean(0)


# %% [markdown]
# First the twelve-number world. Encoder and decoder are single linear layers, and one more parameter is the noise. We
# offer *five* causes where the world has three.
#
# What is the right answer? The maximum-likelihood solution is known in closed form (Tipping & Bishop 1999, eq. 7-8):
# take the eigenvalues l_i of the sample covariance, largest first. The noise is the mean of the ones left over, s^2,
# and the columns of W are the first eigenvectors times sqrt(l_i - s^2). So the VAE can be judged against *the*
# optimum, and by exact likelihood, since a linear decoder gives a Gaussian.

# %%
lesson.section("4. A world where everything is known")

OFFERED = 5
data = draw(2000, g)

# The exact solution.
values, vectors = np.linalg.eigh(np.cov(data.T, bias=True))
values, vectors = values[::-1], vectors[:, ::-1]
best_noise = values[OFFERED:].mean()
best_W = vectors[:, :OFFERED] * np.sqrt(values[:OFFERED] - best_noise)
optimum = -log_normal(data, data.mean(0), best_W @ best_W.T + best_noise * np.eye(D)).mean()
floor = -log_normal(data, data.mean(0), np.diag(data.var(0))).mean()


class GaussianNoise(nn.Module):
    """log N(x; out, s^2), with s^2 learned."""

    def __init__(self):
        self.log_var = nn.Parameter(minigen.zeros(1, device=lesson.device))

    def forward(self, out, x):
        square = (x - out) ** 2 * minigen.exp(-self.log_var)
        return -0.5 * (square + self.log_var + math.log(2 * math.pi)).sum(1)


linear = VAE(nn.Linear(D, 2 * OFFERED), nn.Linear(OFFERED, D), GaussianNoise()).to(lesson.device)
x = tensor(data)
steps = lesson.pick(2000, quick=400)
train(linear, lambda: x[g.integers(0, len(data), (200,))], steps, 0.03, "linear VAE")
lesson.spend(steps * 200 * 3 * 2 * (D * 2 * OFFERED + OFFERED * D))

found_W = array(linear.decoder.weight).astype(np.float64)
found_noise = math.exp(linear.log_likelihood.log_var.item())
covariance = found_W @ found_W.T + found_noise * np.eye(D)
ours = -log_normal(data, array(linear.decoder.bias), covariance).mean()
elbo, _, kl = measure(linear, x, 10)
lesson.table(
    ["exact -log p of the data", "nats"],
    [["independent Gaussians", floor], ["linear VAE", ours], ["its own bound, -ELBO", elbo], ["closed form", optimum]],
)
lesson.proof(
    "linear VAE: above the closed form",
    ours - optimum,
    "nats",
    floor=(floor - optimum, "independent Gaussians"),
    optimum=(0.0, "exact"),
)

# %% [markdown]
# The bound is tight as well, so the encoder has found the posterior. How many nats does each cause carry? At the
# optimum, cause i carries 1/2 log(l_i / s^2) (Lucas, Tucker, Grosse & Norouzi 2019). Three are real. The other two
# have nothing to say, and fall silent:

# %%
carried = np.sort(kl)[::-1]
in_theory = 0.5 * np.log(values[:OFFERED] / best_noise)
lesson.table(
    ["cause", *map(str, range(1, OFFERED + 1))],
    [["nats carried", *carried], ["in theory", *in_theory]],
)

with lesson.figure("linear", "Three causes speak, two are silent, as they should.", size=(4.8, 2.8)) as axes:
    places = np.arange(1, OFFERED + 1)
    axes.bar(places - 0.2, carried, 0.38, label="the linear VAE")
    axes.bar(places + 0.2, in_theory, 0.38, color="#bbbbbb", label="1/2 log(eigenvalue / noise)")
    axes.set(xlabel="cause", ylabel="KL  [nats]", title="What each cause carries")
    axes.set_xticks(places)
    axes.legend()

# %% [markdown]
# A silent cause is called *posterior collapse*, and it is much feared. Here it is simply right: there are three
# causes. It is a fault only where a cause falls silent that had something to say. Watch the KL of each cause, and you
# will know.
#
# ## 5. Sprites: how close to the truth does a network come?
#
# Now bend it: put hidden layers in the encoder and the decoder, and the posterior is no longer Gaussian, nor known.
# But the world can still be: sprites of 12x12 pixels, three shapes in two sizes at sixteen places, each pixel turned
# over with a probability of 1%. `worlds.Sprites` knows log p(x) exactly.
#
# A pixel is 0 or 1, so the decoder gives 144 probabilities, and log p(x | z) is minus the binary cross entropy,
# *summed* over pixels.

# %%
lesson.section("5. Sprites: how close to the truth does a network come?")


def network(inputs, hidden, outputs, dropout=0.0):
    layers = [nn.Flatten()]
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.Tanh(), nn.Dropout(dropout)]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def bits(out, x):
    """log p(x | z) for pixels of 0 and 1."""
    return -F.binary_cross_entropy_with_logits(out, x.flatten(1), reduction="none").sum(1)


def operations(model):
    """Floating-point operations of one forward pass for one picture: two for each weight."""
    return 2 * sum(p.numel() for p in model.parameters() if p.ndim == 2)


sprites = worlds.Sprites(12, radii=(2, 3), places=4)
sprite_vae = VAE(network(144, (256, 256), 16), network(8, (256, 256), 144), bits).to(lesson.device)
steps = lesson.pick(2000, quick=200)
curve = train(sprite_vae, lambda: tensor(sprites.sample(100, g)), steps, 2e-3, "sprites")
lesson.spend(3 * steps * 100 * operations(sprite_vae))

test = sprites.sample(lesson.pick(1000, quick=200), g)
k = lesson.pick(200, quick=10)
elbo, iwae, kl = measure(sprite_vae, tensor(test), k)
# The test sample happens to be a little easier or harder than average. The world knows by how much:
luck = float(sprites.entropy()) + sprites.log_prob(test).mean()
elbo, iwae, entropy = elbo + luck, iwae + luck, float(sprites.entropy())
print(f"  -ELBO {elbo:.2f}  >=  -IWAE_{k} {iwae:.2f}  >=  the entropy {entropy:.2f} nats, as theory demands")
lesson.proof(
    "sprites, -IWAE",
    iwae,
    "nats",
    floor=(float(sprites.independent_entropy()), "independent pixels"),
    optimum=(entropy, "exact"),
)


@minigen.no_grad()
def dream(model, n, causes):
    return array(minigen.sigmoid(model.decoder(minigen.randn(n, causes, generator=g, device=lesson.device))))


dreams = dream(sprite_vae, 1000, 8).reshape(-1, 1, 12, 12)
drawn = (g.uniform(dreams.shape) < dreams).astype(np.float32)
modes, own = sprites.count_modes(drawn), sprites.count_modes(sprites.sample(1000, g))
print(
    f"  of 1000 samples {modes.on_mode:.0%} are sprites of the world; {modes.hit} of its {modes.total} sprites appear"
)
print(f"  (of 1000 real ones: {own.on_mode:.0%}, {own.hit})")
lesson.images(
    "sprites",
    "Above: the world. Below: the model's, as probabilities.",
    np.concatenate([test[:16], dreams[:16]]),
    columns=16,
    row_labels=["real", "dreamt"],
)

# %% [markdown]
# From 46 nats to about 16, where 12.6 is perfect. What is missing shows in the samples: some are two sprites at once.
# A z between two kinds of picture must decode to something, and the prior puts mass there. That is the VAE's
# characteristic fault. It is not blur from "a pixel loss".
#
# ## 6. Real digits
#
# The bundled digits: 8x8 pixels with 0 to 16 drops of ink. In the order of the file, 1000 to learn from, 350 to
# choose settings with, and 447 for the test. A pixel is one of 17 levels, so the decoder gives 64 x 17 logits and p(x
# | z) is a product of categoricals. This is a probability, not a density: nothing is dequantised, and nats can be
# compared. Pixels that know nothing of each other cost 106.3 nats (lesson 1). Naive Bayes, which knows the class,
# 99.9.
#
# A thousand pictures are few. Half of the hidden units are dropped at each step (lesson 2), or the network learns the
# pictures by heart: without that the test gets *worse* after 300 steps, from 97 nats to 101.

# %%
lesson.section("6. Real digits")

LEVELS = 17


def load_digits():
    """(train, valid, test), each (N, 1, 8, 8) of levels 0..16: the digits, or the pictures in --data, made small."""
    if lesson.data:
        folder = ImageFolder(lesson.data, size=8, channels=1)
        x = np.stack([array(folder[i][0]) for i in g.permutation(len(folder))])
        return np.split(np.rint(16 * x), [int(0.6 * len(x)), int(0.8 * len(x))])
    return [np.rint(16 * digits(part)[0]) for part in ("train", "valid", "test")]


train_x, valid_x, test_x = load_digits()
SIDE, PIXELS = 8, 64


def levels(out, x):
    """log p(x | z) for pixels of 17 levels: the decoder's logits are (N, pixels * 17)."""
    nll = F.cross_entropy(out.reshape(-1, LEVELS), x.reshape(-1).long(), reduction="none")
    return -nll.reshape(len(x), -1).sum(1)


class Centred(nn.Module):
    """Levels 0..16 as numbers from -1 to 1, which a network takes more easily."""

    def forward(self, x):
        return x / 8 - 1


def digit_vae(causes, hidden=256, dropout=0.5):
    encoder = nn.Sequential(Centred(), network(PIXELS, (hidden,), 2 * causes, dropout))
    return VAE(encoder, network(causes, (hidden,), PIXELS * LEVELS, dropout), levels).to(lesson.device)


def pixel_dice(x, pseudo=0.1):
    """log of the share of each level at each pixel (lesson 1), (pixels, 17)."""
    counts = np.stack([np.bincount(p, minlength=LEVELS) for p in x.reshape(len(x), -1).T.astype(int)]) + pseudo
    return np.log(counts / counts.sum(1, keepdims=True))


dice = pixel_dice(train_x)
floor = -dice[np.arange(PIXELS), test_x.reshape(len(test_x), -1).astype(int)].sum(1).mean()
x, x_valid, x_test = tensor(train_x), tensor(valid_x), tensor(test_x)
digit_batch = lambda: x[g.integers(0, len(train_x), (100,))]

vae = digit_vae(causes=16)
steps = lesson.pick(1500, quick=200)
curve = train(vae, digit_batch, steps, 3e-3, "digits")
lesson.spend(3 * steps * 100 * operations(vae))
elbo, iwae, kl = measure(vae, x_test, lesson.pick(500, quick=10))
valid, _, _ = measure(vae, x_valid, 10)
print(f"  -ELBO: training {np.mean(curve[-50:]):.1f} (with dropout), validation {valid:.1f}, test {elbo:.1f}")
lesson.proof("digits, -ELBO/image", elbo, "nats", floor=(floor, "independent pixels"))
lesson.proof("digits, -IWAE/image", iwae, "nats", floor=(floor, "independent pixels"))

# %% [markdown]
# Ten to fifteen nats a picture better than pixels that know nothing of each other. There is no optimum in these
# lines: nobody knows the entropy of handwriting. (Lesson 19 gets lower still, by another road.)
#
# What did it learn? Let it dream, let it copy, and turn one cause at a time:

# %%


@minigen.no_grad()
def mean_picture(model, z):
    """The mean of p(x | z): (N, causes) -> (N, 1, 8, 8) of 0..16."""
    share = array(F.softmax(model.decoder(z).reshape(-1, LEVELS), -1))
    return (share @ np.arange(LEVELS)).reshape(-1, 1, SIDE, SIDE)


@minigen.no_grad()
def drawn_picture(model, z):
    """A draw from p(x | z)."""
    share = array(F.softmax(model.decoder(z).reshape(-1, LEVELS), -1))
    u = g.uniform((len(share), 1))
    return np.minimum((share.cumsum(1) < u).sum(1), LEVELS - 1).reshape(-1, 1, SIDE, SIDE).astype(np.float32)


z = minigen.randn(20, 16, generator=g, device=lesson.device)
with minigen.no_grad():
    mu, _ = vae.posterior(x_test[:20])
rows = [test_x[:20], mean_picture(vae, mu), mean_picture(vae, z), drawn_picture(vae, z)]
lesson.images(
    "digits",
    "Copied through 16 causes, and dreamt from noise.",
    np.concatenate(rows),
    columns=20,
    row_labels=["test", "copied", "dreamt, mean", "dreamt, drawn"],
    low=0,
    high=16,
)

order = np.argsort(kl)[::-1]
turn = np.linspace(-2.5, 2.5, 11)
path = np.repeat(array(mu[3:4]), 6 * len(turn), 0).reshape(6, len(turn), 16)
for row, cause in enumerate(order[:6]):
    path[row, :, cause] = turn
lesson.images(
    "traversals",
    "One cause turned from -2.5 to 2.5, the others held.",
    mean_picture(vae, tensor(path.reshape(-1, 16))),
    columns=len(turn),
    rows=0,
    row_labels=[f"{kl[c]:.2f} nats" for c in order[:6]],
    low=0,
    high=16,
)
with lesson.figure("training", "The loss falls towards the data's own entropy.", columns=2, size=(8.2, 3.0)) as axes:
    axes[0].plot(np.arange(1, len(curve) + 1), curve, linewidth=0.7)
    axes[0].axhline(floor, color=COLOURS["floor"], linestyle="--", label="independent pixels")
    axes[0].set(xlabel="step", ylabel="-ELBO  [nats/image]", title="Training", ylim=(70, max(130, floor + 20)))
    axes[0].legend()
    axes[1].bar(np.arange(1, 17), kl[order])
    axes[1].set(xlabel="cause, busiest first", ylabel="KL  [nats]", title="What each of 16 causes carries")

# %% [markdown]
# The watch for collapse: how many of the 16 causes speak? Burda et al. (2015) call a cause active if its mean moves,
# over the data, with a variance above 0.01.

# %%
with minigen.no_grad():
    mu, _ = vae.posterior(x_test)
active = int((array(mu).var(0) > 0.01).sum())
print(f"  {active} of 16 causes are active, and carry {kl.sum():.1f} nats together; {16 - active} have collapsed")

# %% [markdown]
# ## 7. Two causes only: a map, and the likelihood exactly
#
# With two causes we can look at all of them at once. And in two dimensions the integral can be done after all, by
# adding up p(x | z) p(z) on a fine grid: the true likelihood of the model, to see how far the bounds are from it.

# %%
lesson.section("7. Two causes only: a map, and the likelihood exactly")

flat = digit_vae(causes=2, dropout=0.3)
steps = lesson.pick(1000, quick=120)
train(flat, digit_batch, steps, 3e-3, "two causes")
lesson.spend(3 * steps * 100 * operations(flat))


@minigen.no_grad()
def exact_log_prob(model, x, per_unit):
    """log p(x) of a model with two causes, by the trapezoid rule with `per_unit` points to a unit of z."""
    line = np.arange(-5 * per_unit, 5 * per_unit + 1) / per_unit
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    seen = np.eye(LEVELS, dtype=np.float32)[x.reshape(len(x), -1).astype(int)].reshape(len(x), -1)  # one-hot
    best, total = np.full(len(x), -np.inf), np.zeros(len(x))
    for z in np.array_split(grid, math.ceil(len(grid) / 4000)):
        log_share = F.log_softmax(model.decoder(tensor(z)).reshape(-1, LEVELS), -1).reshape(len(z), -1)
        log_joint = array(log_share @ tensor(seen).T).astype(np.float64) - 0.5 * (z**2).sum(1, keepdims=True)
        top = np.maximum(best, log_joint.max(0))
        total = total * np.exp(best - top) + np.exp(log_joint - top).sum(0)
        best = top
    return best + np.log(total) - math.log(2 * math.pi) - 2 * math.log(per_unit)


some = test_x[: lesson.pick(200, quick=50)]
fine, finer = (exact_log_prob(flat, some, n).mean() for n in lesson.pick((10, 20), quick=(8, 12)))
with minigen.no_grad():
    draws = lesson.pick(2000, quick=200)
    weights = np.stack([array(flat.log_weight(tensor(some))) for _ in range(draws)]).astype(np.float64)
ks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if 2 * k <= draws]
bounds = [log_mean_exp(weights[: len(weights) // k * k].reshape(-1, k, len(some)), 1).mean() for k in ks]
print(f"  exact log p(x) {finer:.3f} (on a grid half as fine: {fine:.3f})")
lesson.table(["k", *map(str, ks)], [["IWAE_k", *(f"{b:.3f}" for b in bounds)]])
lesson.proof(
    f"IWAE_{ks[-1]}: gap to log p(x)",
    finer - bounds[-1],
    "nats",
    floor=(finer - bounds[0], "the ELBO's gap"),
    optimum=(0.0, "exact"),
)

# %%
labels = None if lesson.data else digits("test")[1]
with minigen.no_grad():
    places = array(flat.posterior(x_test)[0])
n = 14
quantile = [NormalDist().inv_cdf(share) for share in np.linspace(0.02, 0.98, n)]
corners = np.stack([[a, -b] for b in quantile for a in quantile])
with lesson.figure("map", "Where digits live in two dimensions.", columns=2, size=(10.6, 5.0)) as axes:
    pictures = tile(mean_picture(flat, tensor(corners)), n, gap=2, fill=0)
    show_image(axes[0], pictures, "Every picture there is: z laid out, evenly by probability", 0, 16)
    if labels is not None:
        dots = axes[1].scatter(*places.T, c=labels, cmap="tab10", s=12, vmin=-0.5, vmax=9.5)
        axes[1].figure.colorbar(dots, ax=axes[1], ticks=range(10))
    else:
        axes[1].scatter(*places.T, s=12)
    axes[1].set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), title="Test digits, where the encoder puts them", aspect="equal")
    axes[1].set(xlabel="first cause", ylabel="second cause")

with lesson.figure("bounds", "The bound rises to the truth.", size=(4.8, 3.0)) as axes:
    axes.plot(ks, bounds, "o-", markersize=4, label="IWAE_k")
    axes.axhline(finer, color=COLOURS["truth"], linestyle="--", linewidth=1, label="log p(x), by integration")
    axes.set(xscale="log", xlabel="k", ylabel="nats/image", title="ELBO = IWAE_1 <= IWAE_k <= log p(x)")
    axes.legend(loc="lower right")

# %% [markdown]
# Nobody told it what a digit is; the labels only colour the dots. Neighbouring causes give similar pictures, since q
# is a small cloud and everything in the cloud must decode to the same x.
#
# ## 8. Three losses that are not the ELBO
#
# In many tutorials the reconstruction is a *mean* over pixels, or a mean squared error, or has a weight such as 500
# in front, "to balance it". These train, and the pictures may please. But a weight w on the reconstruction is the
# bound of a model whose pixels count w times. With a mean, w = 1/64: to that model a whole picture is worth one
# pixel, and no cause is worth its KL. With 500 a picture is worth 500, and the prior is forgotten. Let us train all
# three, and judge all three by the same ELBO:

# %%
lesson.section("8. Three losses that are not the ELBO")

weights = {"a sum over pixels (the ELBO)": 1.0, "a mean over pixels": 1 / PIXELS, "500 times the sum": 500.0}
steps = lesson.pick(500, quick=40)
rows, pictures = [], []
z = minigen.randn(16, 16, generator=g, device=lesson.device)
for name, weight in weights.items():
    model = digit_vae(causes=16)
    train(model, digit_batch, steps, 3e-3, name, lambda r, kl, w=weight: (w * r - kl.sum(1)).mean() / max(w, 1.0))
    lesson.spend(3 * steps * 100 * operations(model))
    elbo, _, kl = measure(model, x_test, 10)
    with minigen.no_grad():
        active = int((array(model.posterior(x_test)[0]).var(0) > 0.01).sum())
    rows.append([name, elbo, kl.sum(), str(active)])
    pictures.append(mean_picture(model, z))
lesson.table([f"reconstruction, {steps} steps", "-ELBO", "nats carried", "active causes"], rows)
lesson.images(
    "weights",
    "The same noise, decoded by three models.",
    np.concatenate(pictures),
    columns=16,
    row_labels=["sum", "mean", "500 x"],
    low=0,
    high=16,
)

# %% [markdown]
# The mean dreams of one picture only, the average of all digits: 0 active causes, and the nats of independent pixels.
# The 500 carries so much through z that it copies well, but its prior is a stranger to it: the dreams fall between
# the digits. A weight on the KL can be a *choice* (beta-VAE, lesson 11). It should not be an accident.
#
# Squared error is a likelihood too, if one says of what: (x - out)^2 / (2 s^2) + log s is a Gaussian with noise s, as
# in section 4, where s was learned. Without the s it says that s^2 = 1/2, which for pixels between 0 and 1 is all
# noise.
#
# ## The engine's own
#
# `minigen.models.latent.vae` has this model ready for use: VAEConfig, and VAE with encode, decode, elbo, iwae, sample.
# The same weights give the same numbers:

# %%
ready = library.VAE(shape=(1, SIDE, SIDE), latent=16, hidden=(256,), dropout=0.5, likelihood="categorical")
ready = ready.to(lesson.device).eval()
with minigen.no_grad():
    for theirs, mine in zip(ready.parameters(), vae.parameters()):
        theirs.copy_(mine)
    same = array(ready.encode(x_test)[0]) - array(vae.posterior(x_test)[0])
    theirs = -array(ready.iwae(x_test, 20)).mean()
print(f"\n  models.latent.vae, same weights: means differ by {np.abs(same).max():.0e}, -IWAE_20 {theirs:.2f} nats")

# %% [markdown]
# With `--full` it shows what it can do on the classic benchmark: MNIST, 28x28 pixels that are 0 or 1 (drawn anew from
# the grey values each time), 50 causes, two hidden layers of 200, as in Burda et al. (2015), table 1. They report
# 86.76 nats for the VAE, measured by IWAE_5000. (Some minutes on a GPU; a long while without.)

# %%
if lesson.full:
    lesson.section("MNIST, as published")
    try:
        grey, grey_test = mnist("train")[0], mnist("test")[0]
    except DownloadError as problem:
        print(f"  {problem}")
    else:
        flip = lambda x: (g.uniform(x.shape) < x).astype(np.float32)
        big = library.VAE(shape=(1, 28, 28), latent=50, hidden=(200, 200)).to(lesson.device)
        optimizer = optim.Adam(big.parameters(), lr=1e-3)
        steps = lesson.pick(100_000, quick=50)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        batch = lambda: tensor(flip(grey[g.integers(0, len(grey), (100,))]))
        fit(big, lambda model, x: model(x), batch, optimizer, steps=steps, scheduler=schedule,
            progress=lesson.options.progress)  # fmt: skip
        big.eval()
        test = tensor(flip(grey_test[: lesson.pick(2000, quick=50)]))
        with minigen.no_grad():
            k = lesson.pick(1000, quick=10)
            nll = -array(big.iwae(test, k)).mean()
        share = np.clip(grey.mean(0), 1e-4, 1 - 1e-4)
        seen = array(test)
        floor = -(seen * np.log(share) + (1 - seen) * np.log(1 - share)).sum((1, 2, 3)).mean()
        lesson.proof(f"MNIST, -IWAE_{k}/image", nll, "nats", floor=(floor, "independent pixels"))

# %% [markdown]
# ## What this lesson does not show
#
# - Convolutions: at 8x8 a fully connected network is enough. For larger pictures give `VAE` your own encoder and
#   decoder.
# - A better prior, a deeper hierarchy, a sharper posterior (flows: lesson 21). All of them close part of the gap.
# - The ELBO judges a model, not a picture. Lesson 37 sets likelihood beside other measures.
#
# Next: lesson 11 asks when the causes that it finds are the ones that we would name.

# %%
lesson.end()
