# %% [markdown]
# # Exercises for lesson 1
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/01_generative.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/01_generative.py`.

# %%
import math

import numpy as np

from minigen.data import digits
from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator

# %% [markdown]
# ## 1. The divergence of two Gaussians
#
# Section 4 added up KL(p || q) on a grid. For two Gaussians there is a formula. Derive it: write out log p - log q,
# and take the mean under p. (You need E_p[(x - m)^2], for a mean m that is not p's own.)

# %%


def kl_of_gaussians(mean_p, std_p, mean_q, std_q):
    """KL(N(mean_p, std_p^2) || N(mean_q, std_q^2)) in nats."""
    raise NotImplementedError


@exercise(1, kl_of_gaussians, hint="E_p[(x - mean_q)^2] = std_p^2 + (mean_p - mean_q)^2")
def check(answer):
    "The divergence of two Gaussians"
    x = np.linspace(-40, 40, 400_001)
    density = lambda m, s: np.exp(-0.5 * ((x - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    for mp, sp, mq, sq in [(0, 1, 0, 1), (0, 1, 1, 2), (1, 2, 0, 1), (-3, 0.5, 2, 4)]:
        p, q = density(mp, sp), np.maximum(density(mq, sq), 1e-300)
        on_a_grid = (p * (np.log(np.maximum(p, 1e-300)) - np.log(q))).sum() * (x[1] - x[0])
        close(1 + answer(mp, sp, mq, sq), 1 + on_a_grid, f"1 + KL(N({mp}, {sp}^2) || N({mq}, {sq}^2))", 1e-6)


# %% [markdown]
# ## 2. How far must mass be carried?
#
# Two dice with sides 1 to k. To turn q into p, probability must be carried from side to side, one unit of cost for
# each step of one side. Find the least cost. No search is needed: how much must cross from side i to side i + 1?

# %%


def wasserstein_of_dice(p, q):
    """W1 of two distributions over 1..k, each (k,)."""
    raise NotImplementedError


@exercise(2, wasserstein_of_dice, hint="what has gone missing to the left of a border must cross it: cumulative sums")
def check_wasserstein(answer):
    "How far must mass be carried?"
    one = np.eye(6)
    close(answer(one[0], one[5]), 5.0, "all of it, from side 6 to side 1")
    close(answer(one[2], one[2]) + 1, 1.0, "1 + the distance to itself")
    close(answer(np.full(6, 1 / 6), one[0]), 2.5, "from side 1 to a fair die")
    close(answer([0.5, 0.0, 0.5], [0.0, 1.0, 0.0]), 1.0, "from the middle to both sides")


# %% [markdown]
# ## 3. Laplace's pseudo-counts
#
# A side that never came up gets q = 0, and an infinite price when it does. Laplace's remedy (1774): pretend to have
# seen each side `pseudo` times before. Write the smoothed fit. The check tells you what it costs and what it saves.

# %%


def smoothed(counts, pseudo):
    """The shares of (..., k) counts, with `pseudo` more of each side. (..., k), adding up to 1."""
    raise NotImplementedError


@exercise(3, smoothed, hint="add pseudo to every count, and divide by the new total along the last axis")
def check_smoothed(answer):
    "Laplace's pseudo-counts"
    close(answer(np.array([0.0, 3.0, 1.0]), 1.0), np.array([1, 4, 2]) / 7, "counts 0, 3, 1 with one more of each")
    p = np.array([0.25, 0.20, 0.20, 0.15, 0.10, 0.10])
    rolls = Generator(0).categorical(p, (2000, 30))
    counts = np.stack([np.bincount(row, minlength=6) for row in rolls]).astype(float)
    close(answer(counts, 0.5).sum(1), np.ones(2000), "the sum of each row")
    print("  30 rolls, 2000 times over:    pseudo     mean KL(p || fit)   infinite")
    for pseudo in (0.0, 0.1, 0.5, 1.0, 3.0, 10.0):
        with np.errstate(divide="ignore"):
            kl = (p * (np.log(p) - np.log(answer(counts, pseudo)))).sum(1)
        print(
            f"                              {pseudo:8.1f}{kl[np.isfinite(kl)].mean():18.4f}{np.isinf(kl).mean():13.1%}"
        )


# %% [markdown]
# ## 4. The missing half
#
# Classify digits of which only some pixels are seen, with naive Bayes. `parts[n, c, i]` is log p(pixel i of picture n
# | class c), `log_prior[c]` is log p(c), `seen[i]` says which pixels are there. Give the *posterior* p(c | what is
# seen).

# %%


def posterior_of_what_is_seen(parts, log_prior, seen):
    """(n, classes, pixels), (classes,), (pixels,) of bool -> (n, classes), rows adding up to 1."""
    raise NotImplementedError


@exercise(4, posterior_of_what_is_seen, hint="an unseen factor is left out: its sum over all values is 1. Then Bayes")
def check_missing(answer):
    "The missing half"
    (images, labels), (tests, truth) = digits("train", binary=True), digits("test", binary=True)
    on = np.stack([(images[labels == c].sum(0).ravel() + 0.5) / ((labels == c).sum() + 1) for c in range(10)])
    x = tests.reshape(len(tests), 1, 64)
    parts = np.log(np.where(x == 1, on, 1 - on))
    log_prior = np.log(np.bincount(labels) / len(labels))
    close(answer(parts, log_prior, np.zeros(64, bool))[0], np.exp(log_prior), "with nothing seen, the prior")
    whole = answer(parts, log_prior, np.ones(64, bool))
    close(whole.sum(1), np.ones(len(x)), "the sum over classes")
    joint = np.exp(parts[:50].sum(2) + log_prior)
    close(whole[:50], joint / joint.sum(1, keepdims=True), "with everything seen")
    half = answer(parts, log_prior, np.arange(64) < 32)
    for name, found in (("the whole picture", whole), ("its upper half", half)):
        right, sure = 100 * (found.argmax(1) == truth).mean(), 100 * found.max(1).mean()
        print(f"  {name:18} {right:5.1f}% right, {sure:.1f}% sure of it on average")
    print("  (far too sure: 64 pixels are not 64 independent witnesses)")


# %% [markdown]
# ## 5. Break it and see: choose by training likelihood
#
# A histogram with many bars is a model with many parameters. Choose the number of bars for 100 numbers. Write the
# mean price -log q(x) of points x under a histogram of other points: with `bars` equal bars on [0, 1), one
# pseudo-count of 0.1 in each, the density in a bar is its share times `bars`. The check chooses by the price on the
# *training* points, and then by the price on new ones.

# %%


def price_under_histogram(points, x, bars):
    """The mean over x of -log density, in nats, of the histogram of `points`. Both in [0, 1)."""
    raise NotImplementedError


@exercise(5, price_under_histogram, hint="np.bincount((points * bars).astype(int), minlength=bars) + 0.1")
def check_histogram(answer):
    "Break it and see: choose by training likelihood"
    close(answer(np.array([0.1, 0.2]), np.array([0.3]), 1) + 1, 1.0, "1 + the price under a single bar")
    close(answer(np.array([0.1, 0.2, 0.7]), np.array([0.3]), 2), -math.log(2 * 2.1 / 3.2), "two bars", 1e-9)
    g = Generator(0)
    draw = lambda n: (0.5 + 0.13 * g.normal((n,)).astype(float)).clip(0, 0.999)
    points, new = draw(100), draw(5000)
    choices = (2, 4, 8, 16, 32, 64, 128, 256, 512)
    own = [answer(points, points, bars) for bars in choices]
    fresh = [answer(points, new, bars) for bars in choices]
    print("  bars             " + "".join(f"{bars:8d}" for bars in choices))
    print("  own points [nats]" + "".join(f"{price:8.3f}" for price in own))
    print("  new points [nats]" + "".join(f"{price:8.3f}" for price in fresh))
    if np.argmin(fresh) == len(choices) - 1 or own[-1] > own[3]:
        raise Wrong("on new points many bars should lose, on the points themselves they should win")
    print(f"  its own points vote for {choices[np.argmin(own)]} bars, new ones for {choices[np.argmin(fresh)]}")
