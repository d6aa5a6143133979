# %% [markdown]
# # 1. What a generative model is
#
# What does it mean to learn a distribution, and how do you tell whether you did?
#
# A generative model is a probability distribution that you can draw from. A good one is hard to tell from the world
# it was learned from. This lesson makes "hard to tell" a number. It uses worlds whose truth we know, so every result
# stands beside the best that is possible.
#
# 1. a die, and the model that fits it best
# 2. likelihood: what a model pays for every surprise
# 3. how far the fit is from the truth, and a law that says so
# 4. four ways to measure a distance, and why they disagree
# 5. generative against discriminative: who learns faster, who ends better
# 6. real digits: what only a generative model can do
#
# Run it with `python lessons/01_generative.py`, and read this file alongside.

# %%
import math

import numpy as np

import minigen
from minigen.data import digits, worlds
from minigen.lessons import Lesson
from minigen.plot import COLOURS

lesson = Lesson("01_generative")
g = lesson.generator

# %% [markdown]
# ## 1. A die, and the model that fits it best
#
# Somebody rolls a loaded die 30 times and shows us the rolls. Which die was it?
#
# A model of a die is six numbers q_1 ... q_6 that add up to 1. If side i came up n_i times, the model gives the rolls
# the probability
#
#     q_1^n_1 * q_2^n_2 * ... * q_6^n_6
#
# Seen as a function of q this is the **likelihood**. Fisher's proposal (1922): take the q that makes it largest. With
# the sum held at 1 the answer is
#
#     q_i = n_i / N
#
# so the best model of the rolls is the rolls' own shares. No calculus is needed to believe it: let us start from a
# fair die and go downhill on -log likelihood, which is what every model in this course does. A softmax keeps the sum
# at 1. (`loss.backward()` computes the slope. Lesson 2 builds it from nothing.)

# %%
lesson.section("1. A die, and the model that fits it best")

p = np.array([0.25, 0.20, 0.20, 0.15, 0.10, 0.10])  # the truth, which a learner never sees
rolls = g.categorical(p, (30,))
share = np.bincount(rolls, minlength=6) / 30

theta = minigen.zeros(6, requires_grad=True)
for _ in range(400):
    log_q = theta - minigen.logsumexp(theta, 0)  # log softmax
    loss = -(minigen.tensor(share, dtype=minigen.float32) * log_q).sum()  # mean of -log q over the rolls
    loss.backward()
    slope = theta.grad.numpy()
    theta = (theta.detach() - 1.0 * theta.grad).requires_grad_()

q = np.exp(log_q.detach().numpy())
lesson.table(
    ["side", *"123456"],
    [["truth p", *p], ["shares n/N", *share], ["after 400 steps", *q]],
)
print(f"  the slope that is left: {np.abs(slope).max():.1e}. By hand it is q - n/N: {np.abs(q - share).max():.1e}")

# %% [markdown]
# ## 2. Likelihood: what a model pays for every surprise
#
# A model pays -log q(x) for every x that happens: little for what it expected, much for what it held impossible. With
# the natural logarithm the unit is the **nat** (one bit is 0.693 nats). The mean price, in the long run, is the cross
# entropy, and it splits in two (Shannon 1948; Kullback & Leibler 1951):
#
#     E_p[-log q]  =  H(p)  +  KL(p || q)          H(p) = E_p[-log p],   KL(p || q) = E_p[log p - log q] >= 0
#
# The entropy H is what the world itself costs: nobody can pay less. The KL divergence is our own fault. So a loss in
# nats means little until you know the entropy, and this course uses worlds where it is known.
#
# Now the trap. The same model looks better on the rolls it was fitted to than on new ones:

# %%
lesson.section("2. Likelihood: what a model pays for every surprise")


def entropy(p):
    return -np.sum(p * np.log(p), axis=-1)


def kl(p, q):
    """KL(p || q) along the last axis; inf where q calls impossible what p does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sum(np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0), axis=-1)


print(f"  price on its own 30 rolls   {entropy(share):.3f} nats a roll")
print(f"  the world's entropy         {entropy(p):.3f}            nobody can do better in the long run")
print(f"  price on new rolls          {entropy(p) + kl(p, share):.3f}            = entropy + KL {kl(p, share):.3f}")

# %% [markdown]
# A price below the entropy is not skill. It is memory.
#
# ## 3. How far is the fit from the truth?
#
# Repeat the whole story many times: roll N times, fit, measure KL(p || q). Before looking, let us predict it. Near
# the truth KL is a parabola, and counts scatter as counts do:
#
#     KL(p || q)  =  1/2 sum_i (q_i - p_i)^2 / p_i,          E (q_i - p_i)^2  =  p_i (1 - p_i) / N
#
#     E KL(p || q)  =  1/2 sum_i (1 - p_i) / N  =  (k - 1) / (2 N)                           (after Wilks 1938)
#
# The six probabilities have dropped out. Only their number matters: each free parameter costs half an observation's
# worth of nats. And by the same parabola the price on its *own* rolls lies as far *below* the entropy. So the gap
# between training and test price is (k - 1) / N, which is Akaike's correction (1974).

# %%
lesson.section("3. How far is the fit from the truth?")

repeats = lesson.pick(4000, quick=1000)
sizes = lesson.pick([30, 100, 300, 1000, 3000], quick=[30, 300, 1000])
distance, flattery = {}, {}
for n in lesson.progress(sizes, "rolling dice"):
    counts = np.stack([np.bincount(row, minlength=6) for row in g.categorical(p, (repeats, n))])
    q = counts / n
    distance[n] = kl(p, q)
    flattery[n] = np.sum(p * np.log(p), -1) - np.sum(np.where(q > 0, q * np.log(np.maximum(q, 1e-300)), 0), -1)

lesson.table(
    ["N", "E KL(p || q)", "(k-1) / 2N", "price on own rolls - entropy", "infinite"],
    [
        [str(n), d[np.isfinite(d)].mean(), 5 / (2 * n), flattery[n].mean(), f"{np.isinf(d).mean():.0%}"]
        for n, d in distance.items()
    ],
)

with lesson.figure("dice", "Each free parameter costs half an observation.", size=(5.2, 3.2)) as axes:
    ns = np.array(sizes)
    axes.plot(ns, 5 / (2 * ns), color=COLOURS["truth"], linewidth=1, linestyle="--", label="(k - 1) / 2N")
    finite = [distance[n][np.isfinite(distance[n])] for n in sizes]
    axes.fill_between(
        ns, [np.quantile(d, 0.1) for d in finite], [np.quantile(d, 0.9) for d in finite], alpha=0.2, linewidth=0
    )
    axes.plot(ns, [d.mean() for d in finite], "o", label="fits: the mean, and where 80% of them lie")
    axes.set(xscale="log", yscale="log", xlabel="rolls N", ylabel="KL(p || fit)  [nats]")
    axes.set_title("The price of a finite sample")
    axes.legend()

# %% [markdown]
# With 30 rolls the mean is not quite there, and some fits were left out: a side that never came up gets q = 0, and
# the first time it does come up the model pays log 1/0. An infinite price for one surprise: likelihood punishes
# overconfidence without mercy. (Exercise 3 repairs it with Laplace's pseudo-counts.)

# %%
n = 1000
error = distance[n].std() / math.sqrt(repeats)
theory = 5 / (2 * n)
lesson.proof(
    "KL of the fit, N=1000",
    distance[n].mean(),
    "nats",
    floor=(kl(p, np.full(6, 1 / 6)), "a fair die"),
    band=(theory - 4 * error, theory + 4 * error, "4 standard errors"),
    optimum=(theory, "(k-1)/2N"),
)

# %% [markdown]
# ## 4. Four ways to measure a distance
#
# "A generative model minimises the statistical difference between its samples and the data." One often reads that,
# and it is only half a sentence. *Which* difference? Here are four, for densities p (the world) and q (the model):
#
#     forward KL       KL(p || q) = E_p[log p/q]               what maximum likelihood minimises
#     reverse KL       KL(q || p) = E_q[log q/p]               what variational inference minimises (lesson 10)
#     Jensen-Shannon   1/2 KL(p || m) + 1/2 KL(q || m),        what a GAN with a perfect critic minimises (lesson 14)
#                      where m = (p + q) / 2
#     Wasserstein-1    the least mean distance that mass       what a WGAN approximates (lesson 16)
#                      must be carried to turn q into p
#
# On the line, W1 is the area between the two distribution functions (Vallender 1974).
#
# **First experiment: two narrow bumps that move apart.** If a model starts far from the data, does the distance say
# which way to go?

# %%
lesson.section("4. Four ways to measure a distance")

grid = np.linspace(-12, 12, 1201)
dx = grid[1] - grid[0]


def normal(mean, std):
    return np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def divergences(p, q):
    """Forward KL, reverse KL, JS and W1 of densities on the grid. p (G,), q (..., G) -> four arrays (...)."""
    tiny = 1e-300
    log_p, log_q = np.log(np.maximum(p, tiny)), np.log(np.maximum(q, tiny))
    log_m = np.log(np.maximum((p + q) / 2, tiny))
    forward = (p * (log_p - log_q)).sum(-1) * dx
    reverse = (q * (log_q - log_p)).sum(-1) * dx
    js = 0.5 * ((p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)) * dx
    w1 = np.abs(np.cumsum(p - q, -1) * dx).sum(-1) * dx
    return forward, reverse, js, w1


NAMES = ["forward KL", "reverse KL", "JS", "W1"]

# The closed forms first: for N(0, 1) and N(1, 2), KL = log(2) + (1 + 1)/8 - 1/2.
measured = divergences(normal(0, 1), normal(1, 2))
print(f"  N(0,1) and N(1,2): forward KL {measured[0]:.6f} on the grid, {math.log(2) + 2 / 8 - 0.5:.6f} by formula")

apart = np.linspace(0, 4, 81)
moving = divergences(normal(0, 0.3), np.stack([normal(a, 0.3) for a in apart]))
slopes = [np.interp(3.0, apart[1:-1], (d[2:] - d[:-2]) / (apart[2] - apart[0])) for d in moving]
lesson.table(
    ["N(0, 0.3) and N(3, 0.3)", "distance", "its slope"],
    [[name, np.interp(3.0, apart, d), slope] for name, d, slope in zip(NAMES, moving, slopes)],
)

# %% [markdown]
# KL grows without bound (it is 1/2 (distance / width)^2). JS is nearly ln 2 = 0.693 as soon as the bumps no longer
# touch, and then it is *flat*: a model that follows its slope goes nowhere. W1 is simply how far apart they are. That
# flat line is the reason that WGAN exists (Arjovsky, Chintala & Bottou 2017, figure 1).
#
# **Second experiment: one bump for two.** The world has two bumps, 70% and 30%. The model is a single Gaussian, so it
# must be wrong. How, depends on the divergence. To leave no doubt about optimisers we simply try a fine grid of means
# and widths and take the best.

# %%
world = worlds.GaussianMixture.pair(distance=4.0, std=0.5, weights=(0.7, 0.3))
density = np.exp(world.log_prob(grid[:, None]))

means = np.linspace(-3, 3, lesson.pick(121, quick=41))
widths = np.exp(np.linspace(math.log(0.3), math.log(3.0), lesson.pick(60, quick=25)))
tried = [divergences(density, normal(m, widths[:, None])) for m in means]
best = []
for name, score in zip(NAMES, np.stack(tried, axis=1)):
    i, j = np.unravel_index(np.argmin(score), score.shape)
    best.append((name, means[i], widths[j]))
mean, std = float(world.mean()[0]), float(np.sqrt(world.covariance()[0, 0]))
lesson.table(
    ["best under", "mean", "width"],
    [*best, ["the world's own moments", mean, std], ["its larger bump alone", -2.0, 0.5]],
)

with lesson.figure("divergences", "The divergence decides the mistake.", columns=2, size=(8.6, 3.2)) as axes:
    for name, d in zip(NAMES, moving):
        if name != "reverse KL":
            axes[0].plot(apart, d, label=name + (" (both)" if "KL" in name else ""))
    axes[0].axhline(math.log(2), color=COLOURS["truth"], linewidth=0.8, linestyle=":")
    axes[0].set(
        ylim=(0, 4), xlabel="distance between two bumps of width 0.3", title="Moving apart: JS goes flat at ln 2"
    )
    axes[0].legend()
    axes[1].fill_between(grid, density, color="#dddddd", label="the world")
    for name, m, s in best:
        axes[1].plot(grid, normal(m, s), label=name)
    axes[1].set(xlim=(-5, 5), title="The best single Gaussian for two bumps")
    axes[1].legend()

# %% [markdown]
# Forward KL pays when the model gives too little to what happens, so it covers everything and fills the empty valley:
# its answer is the world's own mean and spread, exactly. Reverse KL pays when the model does what never happens, so
# it hides in the larger bump. JS does the same here. W1 minds how far mass must travel: to leave a third of it four
# steps away is dear, so it covers both bumps too. A blurry sample and a missing mode are answers to two different
# questions.
#
# ## 5. Generative against discriminative
#
# To tell cats from dogs you can learn what cats and dogs look like, p(x | y) p(y), and apply Bayes' rule. That is a
# *generative* classifier. Or you can learn the border alone, p(y | x): a *discriminative* one. Vapnik's advice was
# never to solve a harder problem on the way. Ng & Jordan (2002) found that it is not so simple:
#
#     the generative one comes near its best with N ~ log(dimensions), but its best is worse if its assumption is wrong;
#     the discriminative one needs N ~ dimensions, but ends at the best border there is.
#
# So there should be a crossing. Our world: two classes of 16 features, Gaussian, with *correlated* noise.
#
#     naive Bayes          a Gaussian for each feature by itself (so it is wrong about the correlations)
#     logistic regression  maximises sum log p(y | x) over linear borders, by Newton's method
#
# Both give a linear border w.x + b > 0. In this world its error needs no test set. With d the difference of the class
# means, S the covariance, and Phi the normal distribution function,
#
#     error(w, b) = 1/2 Phi(-(w.d/2 + b) / sqrt(w.S.w)) + 1/2 Phi(-(w.d/2 - b) / sqrt(w.S.w))
#
# and the best border, w = S^-1 d (Fisher 1936), has the error Phi(-sqrt(d.S^-1.d) / 2). We set that to 10%.

# %%
lesson.section("5. Generative against discriminative")

D = 16
S = 0.6 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))
d = np.where(np.arange(D) % 2 == 0, 1.0, 0.7)
d *= 2 * 1.2815516 / math.sqrt(d @ np.linalg.solve(S, d))  # 1.28 standard deviations: an error of 10%
root = np.linalg.cholesky(S)


def exact_error(w, b):
    """The probability of error of w.x + b > 0, in %. w (R, D), b (R,) -> (R,)."""
    spread = np.sqrt(np.einsum("ri,ij,rj->r", w, S, w))
    phi = lambda z: 0.5 * np.vectorize(math.erfc)(-z / math.sqrt(2))
    return 50 * (phi(-(w @ d / 2 + b) / spread) + phi(-(w @ d / 2 - b) / spread))


def naive_bayes(x, y):
    """Means by class, one variance a feature. x (R, n, D), y (n,) of 0 and 1 -> w (R, D), b (R,)."""
    one, zero = x[:, y == 1].mean(1), x[:, y == 0].mean(1)
    noise = x - np.where(y[:, None] == 1, one[:, None], zero[:, None])
    variance = (noise**2).sum(1) / (len(y) - 2)
    w = (one - zero) / variance
    return w, -(w * (one + zero) / 2).sum(1)


def logistic_regression(x, y, steps=12, ridge=1e-3):
    """Newton's method on the log-likelihood; the small ridge keeps it finite where the classes can be parted."""
    x = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
    theta = np.zeros((len(x), D + 1))
    # In blocks of 640 examples (b): products so small that NumPy computes them without waking other threads.
    x, y = x.reshape(len(x), -1, min(640, len(y)), D + 1), y.reshape(-1, min(640, len(y)))
    for _ in range(steps):
        prob = 1 / (1 + np.exp(-np.clip(np.einsum("rbni,ri->rbn", x, theta), -30, 30)))
        slope = np.einsum("rbni,rbn->ri", x, prob - y) + ridge * theta
        weighted = x * (prob * (1 - prob))[..., None]
        bend = np.matmul(weighted.swapaxes(2, 3), x).sum(1) + ridge * np.eye(D + 1)
        theta -= np.linalg.solve(bend, slope[..., None])[..., 0]
    return theta[:, :D], theta[:, D]


sizes = [10, 20, 40, 80, 160, 320, 640, 1280, 2560]
repeats = lesson.pick(200, quick=40)
errors = {"naive Bayes": [], "logistic regression": []}
for n in lesson.progress(sizes, "learning borders"):
    y = np.arange(n) % 2
    noise = g.normal((repeats * n, D)).astype(np.float64) @ root.T
    x = noise.reshape(repeats, n, D) + (y - 0.5)[:, None] * d
    errors["naive Bayes"].append(exact_error(*naive_bayes(x, y)))
    errors["logistic regression"].append(exact_error(*logistic_regression(x, y)))

bayes = exact_error(np.linalg.solve(S, d)[None], np.zeros(1))[0]
limit = exact_error(d[None], np.zeros(1))[0]  # naive Bayes with endless data: S is taken to be 1 on the diagonal
nb, lr = (np.array([e.mean() for e in errors[name]]) for name in errors)
lesson.table(["examples", *map(str, sizes)], [["naive Bayes, error %", *nb], ["logistic regression", *lr]])
print(
    f"  with endless data: naive Bayes {limit:.2f}%, logistic regression {bayes:.2f}%, which is also the best possible"
)

# %% [markdown]
# There it is: with few examples the model with the *wrong* assumption wins, with many it loses. (That logistic
# regression gains so little up to 40 examples is no accident either: 17 weights can part so few points without a
# mistake in many ways, and nothing says which is right.)

# %%
first = int(np.argmax(lr < nb))  # the first size at which logistic regression is ahead
gap = np.log(nb / lr)
share = -gap[first - 1] / (gap[first] - gap[first - 1])
crossing = sizes[first - 1] * (sizes[first] / sizes[first - 1]) ** share

with lesson.figure("crossover", "The wrong assumption wins while data are few.", size=(5.6, 3.4)) as axes:
    for (name, error), colour in zip(errors.items(), ("second", "ours")):
        axes.plot(sizes, [e.mean() for e in error], "o-", color=COLOURS[colour], label=name, markersize=4)
        low, high = zip(*(np.quantile(e, [0.1, 0.9]) for e in error))
        axes.fill_between(sizes, low, high, color=COLOURS[colour], alpha=0.15, linewidth=0)
    axes.axhline(bayes, color=COLOURS["truth"], linestyle="--", linewidth=1, label="best possible (exact)")
    endless = "naive Bayes with endless data (exact)"
    axes.axhline(limit, color=COLOURS["second"], linestyle=":", linewidth=1, label=endless)
    axes.axvline(crossing, color="#bbbbbb", linewidth=0.8)
    axes.set(xscale="log", xlabel="training examples", ylabel="error, exact  [%]")
    axes.set_title("Generative and discriminative cross over")
    axes.legend()

lesson.proof("error with 20 examples", nb[1], "%", floor=(lr[1], "logistic regression"), optimum=(bayes, "exact"))
lesson.proof("error with 2560 examples", lr[-1], "%", floor=(nb[-1], "naive Bayes"), optimum=(bayes, "exact"))
lesson.proof("crossing", crossing, "examples")

# %% [markdown]
# ## 6. Real digits: what only a generative model can do
#
# 1797 handwritten digits come with minigen: 8x8 pixels, each with 0 to 16 drops of ink. We learn from the first 1000
# of the file and test on the last 447.
#
# The same two classifiers. Naive Bayes gives each of the 10 classes, each of the 64 pixels, a categorical
# distribution over 17 levels: section 1's die, 640 times. (With a pseudo-count of 0.1, see exercise 3.) Logistic
# regression has ten outputs and a softmax.
#
# Naive Bayes is a full model p(x, y). So it can do three things more:
#
# - say how likely a picture is: log p(x) = log sum_y p(y) prod_i p(x_i | y)
# - ignore what it cannot see: a missing pixel is a factor left out
# - draw digits

# %%
lesson.section("6. Real digits: what only a generative model can do")

(train, train_y), (test, test_y) = digits("train"), digits("test")
ink, test_ink = (np.rint(16 * x.reshape(-1, 64)).astype(int) for x in (train, test))


def pixel_dice(ink, pseudo=0.1):
    """log of the share of each ink level at each pixel: (n, 64) of 0..16 -> (64, 17)."""
    counts = np.stack([np.bincount(pixel, minlength=17) for pixel in ink.T]) + pseudo
    return np.log(counts / counts.sum(1, keepdims=True))


def log_likelihoods(dice, ink):
    """(n, 64): what each pixel adds to log p(x)."""
    return dice[np.arange(64), ink]


def log_sum(x):
    top = x.max(-1, keepdims=True)
    return np.log(np.exp(x - top).sum(-1)) + top[..., 0]


alone = pixel_dice(ink)
by_class = np.stack([pixel_dice(ink[train_y == c]) for c in range(10)])
log_prior = np.log(np.bincount(train_y) / len(train_y))
parts = np.stack([log_likelihoods(dice, test_ink) for dice in by_class], axis=1)  # (447, 10, 64)

independent = -log_likelihoods(alone, test_ink).sum(1).mean()
mixture = -log_sum(log_prior + parts.sum(2)).mean()
lesson.proof("nll/image of naive Bayes", mixture, "nats", floor=(independent, "independent pixels"))

# %% [markdown]
# Keep those two numbers in mind: 106.3 nats for pixels that know nothing of each other, and what knowing the class is
# worth. Later lessons go on from here with the same digits, in the same unit.
#
# Now the classifiers, as the picture is covered row by row from below. Logistic regression must be given *something*
# for the hidden pixels; the mean picture is its best guess.

# %%
x = minigen.tensor(train.reshape(-1, 64))
w, b = minigen.zeros(64, 10, requires_grad=True), minigen.zeros(10, requires_grad=True)
target = minigen.tensor(np.eye(10, dtype=np.float32)[train_y])
for _ in lesson.progress(lesson.pick(300, quick=100), "logistic regression"):
    logits = x @ w + b
    log_prob = logits - minigen.logsumexp(logits, 1, keepdim=True)
    loss = -(target * log_prob).sum(1).mean() + 1e-4 * (w * w).sum()
    loss.backward()
    w = (w.detach() - 1.0 * w.grad).requires_grad_()
    b = (b.detach() - 1.0 * b.grad).requires_grad_()
lesson.spend(3 * 2 * 64 * 10 * 1000 * lesson.pick(300, quick=100))

w, b, mean_picture = w.detach().numpy(), b.detach().numpy(), train.reshape(-1, 64).mean(0)
seen_rows = range(8, 0, -1)
accuracy = {"naive Bayes": [], "logistic regression": []}
for rows in seen_rows:
    seen = np.arange(64) < 8 * rows
    guess = (log_prior + parts[:, :, seen].sum(2)).argmax(1)
    accuracy["naive Bayes"].append(100 * np.mean(guess == test_y))
    guess = (np.where(seen, test.reshape(-1, 64), mean_picture) @ w + b).argmax(1)
    accuracy["logistic regression"].append(100 * np.mean(guess == test_y))
lesson.table(["rows seen", *map(str, seen_rows)], [[name, *a] for name, a in accuracy.items()])

# %% [markdown]
# With the whole picture the discriminative model is ahead. With half of it gone, the generative one is: it was never
# asked to learn p(y | x), so it does not mind which part of x is left.
#
# Last, let it draw. A row of real digits, a row from independent pixels, and a row from naive Bayes, one of each
# class:

# %%


def draw(dice, generator):
    """One picture (8, 8) of 0..16 from log-probabilities (64, 17): the level where the running sum passes u."""
    u = generator.uniform((64, 1))
    return np.minimum((np.exp(dice).cumsum(1) < u).sum(1), 16).reshape(8, 8)


real = [16 * train[train_y == c][0, 0] for c in range(10)]
rows = [real, [draw(alone, g) for _ in range(10)], [draw(by_class[c], g) for c in range(10)]]
lesson.images(
    "digits",
    "Every pixel plausible, the picture not.",
    np.array([picture for row in rows for picture in row], np.float32),
    columns=10,
    row_labels=["real", "independent\npixels", "naive Bayes"],
)

with lesson.figure("missing", "A generative model can leave out what it does not see.", size=(5.2, 3.2)) as axes:
    for (name, a), colour in zip(accuracy.items(), ("second", "ours")):
        axes.plot(list(seen_rows), a, "o-", color=COLOURS[colour], label=name, markersize=4)
    axes.axhline(10, color=COLOURS["floor"], linestyle="--", linewidth=1, label="guessing")
    axes.set(
        xlabel="rows of the picture seen, from above", ylabel="correct  [%]", title="Classifying half-hidden digits"
    )
    axes.invert_xaxis()
    axes.legend()

# %% [markdown]
# Naive Bayes' digits have the right ink in the right places, but no pixel knows what its neighbour did: strokes are
# speckle. Modelling how pixels hang *together* is what the rest of this course is about.
#
# ## What this lesson does not show
#
# - That likelihood is the only measure. A model can have a fine likelihood and ugly samples, or the reverse (Theis,
#   van den Oord & Bethge 2016). Lesson 37 compares the measures.
# - That naive Bayes always wins with few data. Here both borders are linear and the world is Gaussian, which made the
#   errors exact. Elsewhere it depends on how wrong the assumption is.
# - Continuous data deserve care: a *density* can exceed 1, so its -log can be negative, and it changes with the unit
#   of x. Exercise 5 of lesson 10 shows how that is misused.
#
# Where next: lesson 2 builds the `backward()` that we used here without asking.

# %%
lesson.end()
