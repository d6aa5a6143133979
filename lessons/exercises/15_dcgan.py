# %% [markdown]
# # Exercises for lesson 15
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/15_dcgan.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/15_dcgan.py`.

# %%
import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import nn
from minigen.lessons import Wrong, close, exercise
from minigen.metrics.frechet import gaussian_distance
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. The best discriminator, when real pictures are rare
#
# D* = p / (p + q) is for a D that sees as many real as false samples. Let only a share r of what it sees be real. What
# is the best D(x) now?

# %%


def best_discriminator(p, q, r):
    """The densities p and q at some places, arrays (N,), and the share r of real samples -> the best D, (N,)."""
    raise NotImplementedError


@exercise(1, best_discriminator, hint="Bayes: what comes up at x is real with weight r p(x), false with (1 - r) q(x)")
def check(answer):
    "The best discriminator, when real pictures are rare"
    p, q = np.exp(numbers(20)), np.exp(numbers(20, seed=1))
    D = np.linspace(1e-4, 1 - 1e-4, 200_001)[:, None]
    for r in (0.5, 0.1, 0.9):
        loss = -r * p * np.log(D) - (1 - r) * q * np.log(1 - D)
        close(answer(p, q, r), D[loss.argmin(0), 0], f"against a search, r = {r}", 2e-5)
    print("  as if real pictures were rarer: the score moves by log r / (1 - r), the same everywhere")


# %% [markdown]
# ## 2. Where kernels meet
#
# Along one dimension, a transposed convolution with kernel size k and stride s. Far from the border, how many kernels
# meet at a pixel? It depends on the pixel's place modulo s only. Which pairs (k, s) have no checkerboard?

# %%


def overlaps(k, s):
    """The counts at s pixels in a row, in any order: a sorted array (s,) of integers."""
    raise NotImplementedError


@exercise(2, overlaps, hint="kernels begin at multiples of s; one covers pixel j if it began at most k - 1 before it")
def check_overlaps(answer):
    "Where kernels meet"
    for k, s in [(3, 2), (4, 2), (5, 2), (2, 2), (1, 2), (5, 3), (6, 3), (7, 4)]:
        painted = F.conv_transpose1d(minigen.ones(1, 1, 20), minigen.ones(1, 1, k), stride=s).numpy()[0, 0]
        close(answer(k, s), np.sort(painted[8 * s : 9 * s]), f"k = {k}, s = {s}", 1e-6)
    print("  even only where k is a multiple of s")


# %% [markdown]
# ## 3. How many modes would a perfect sampler reach?
#
# A world has modes with probabilities w. A perfect model draws n samples. How many modes does it reach on average? (So
# many, and no more, can be asked of yours.)

# %%


def expected_modes(w, n):
    """Probabilities (K,), a number of samples -> the mean number of modes with at least one sample."""
    raise NotImplementedError


@exercise(3, expected_modes, hint="a mode is missed by all n samples with probability (1 - w)^n; add up over modes")
def check_modes(answer):
    "How many modes would a perfect sampler reach?"
    close(answer(np.full(4, 0.25), 1), 1.0, "one sample reaches one mode", 1e-9)
    w = np.exp(numbers(30))
    w /= w.sum()
    draws = Generator(2).categorical(w, (20_000, 40))
    hit = np.array([len(np.unique(row)) for row in draws])
    close(answer(w, 40), hit.mean(), "against 20,000 simulations", 0.005)
    print(f"  of these 30 modes, 40 perfect samples reach {hit.mean():.1f}")


# %% [markdown]
# ## 4. The Frechet distance
#
# |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1^1/2 C2 C1^1/2)^1/2. Write it with nothing but `np.linalg.eigh`, which gives
# eigenvalues and eigenvectors of a symmetric matrix. Covariances of few samples have eigenvalues of 0, which rounding
# turns into -1e-17.

# %%


def frechet(m1, c1, m2, c2):
    """Two means (D,) and covariances (D, D) -> the squared distance, a number."""
    raise NotImplementedError


@exercise(
    4, frechet, hint="root of C: V sqrt(max(values, 0)) V'; the trace of a root is the sum of roots of eigenvalues"
)
def check_frechet(answer):
    "The Frechet distance"
    close(answer(np.zeros(1), np.full((1, 1), 4.0), np.full(1, 3.0), np.full((1, 1), 1.0)), 10.0, "on a line", 1e-9)
    a, b = numbers(6, 4), numbers(3, 4, seed=1) + 1  # three points in four dimensions: a singular covariance
    given = a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T)
    close(answer(*given), gaussian_distance(*given), "where one covariance is singular", 1e-6)
    same = answer(*given[:2], *given[:2])
    if not abs(same) < 1e-6:
        raise Wrong(f"the distance of a Gaussian from itself is 0, not {same}")


# %% [markdown]
# ## 5. Break it and see: an epsilon of 0.8
#
# In a well-known collection of GANs one reads `nn.BatchNorm2d(channels, 0.8)`, in forty places. Its author meant the
# momentum. But the second argument is epsilon, which is added to the variance. If a map has mean 0 and standard
# deviation s, what is its standard deviation after batch norm (gain 1, bias 0)?

# %%


def spread_after(s, epsilon):
    """The standard deviation of a channel before, and batch norm's epsilon -> its standard deviation after."""
    raise NotImplementedError


@exercise(5, spread_after, hint="batch norm divides by sqrt(variance + epsilon)")
def check_epsilon(answer):
    "Break it and see: an epsilon of 0.8"
    x = numbers(64, 1, 8, 8).astype(np.float32)
    x /= x.std()
    for s in (0.01, 0.2, 3.0):
        for epsilon in (1e-5, 0.8):
            y = nn.BatchNorm2d(1, epsilon)(minigen.tensor(np.float32(s) * x)).detach().numpy()
            close(answer(s, epsilon), y.std(), f"s = {s}, epsilon = {epsilon}", 1e-3)
    z = minigen.randn(64, 100, 1, 1, generator=Generator(0))
    for epsilon in (1e-5, 0.8):
        g, layers, channels = Generator(1), [], 100
        for i, width in enumerate((128, 64, 32, 1)):
            step = {"stride": 2, "padding": 1} if i else {}
            layers.append(nn.ConvTranspose2d(channels, width, 4, **step, bias=False))
            nn.init.normal_(layers[-1].weight, 0.0, 0.02, generator=g)
            layers += [nn.BatchNorm2d(width, epsilon), nn.ReLU()] if width > 1 else [nn.Tanh()]
            channels = width
        pictures = nn.Sequential(*layers)(z).detach().numpy()
        print(f"  epsilon {epsilon:<6g} untrained pictures of two z differ at a pixel by {pictures.std(0).mean():.5f}")
    print("  it runs, and the signal dies as if there were no batch norm at all")
