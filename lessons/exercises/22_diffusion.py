# %% [markdown]
# # Exercises for lesson 22
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/22_diffusion.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/22_diffusion.py`.

# %%
import math

import numpy as np

from minigen.data import worlds
from minigen.lessons import close, exercise
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


LINEAR = np.linspace(1e-4, 0.02, 1000)

# %% [markdown]
# ## 1. A thousand steps as one
#
# One step is x -> sqrt(1 - beta) x + sqrt(beta) noise. After t + 1 of them x_t = a_t x_0 + s_t noise, with new noise of
# variance 1. Give a and s for every t.

# %%


def jumps(betas):
    """betas (T,) -> a (T,) and s (T,)."""
    raise NotImplementedError


@exercise(1, jumps, hint="variances of independent Gaussians add: follow a^2 and s^2 through one step; np.cumprod")
def check(answer):
    "A thousand steps as one"
    a, s = answer(LINEAR)
    of_x, variance = 1.0, 0.0
    for t, beta in enumerate(LINEAR):
        of_x, variance = of_x * math.sqrt(1 - beta), variance * (1 - beta) + beta
        if t % 111 == 0:
            close(np.array([a[t], s[t]]), np.array([of_x, math.sqrt(variance)]), f"a and s after {t + 1} steps", 1e-9)
    print(f"  after 1000 steps {a[-1]:.4f} of x is left, and the noise has a spread of {s[-1]:.6f}")


# %% [markdown]
# ## 2. One step back
#
# Given x_t and x_0, the step before is Gaussian. Write its mean and its variance, from a and s at t - 1 and at t. (You
# can get beta from these: 1 - beta is a_t^2 / a_{t-1}^2.)

# %%


def one_step_back(x_0, x_t, a_before, s_before, a, s):
    """Arrays of one shape, and numbers -> the mean and the variance of q(x_{t-1} | x_t, x_0)."""
    raise NotImplementedError


@exercise(2, one_step_back, hint="x_t = r x_{t-1} + noise with r = a / a_before: condition the pair on x_t, given x_0")
def check_back(answer):
    "One step back"
    a = np.sqrt(np.cumprod(1 - LINEAR))
    s = np.sqrt(1 - a**2)
    x_0, x_t = numbers(5), numbers(5, seed=1)
    for t in (1, 100, 700):
        mean, variance = answer(x_0, x_t, a[t - 1], s[t - 1], a[t], s[t])
        r, beta = math.sqrt(1 - LINEAR[t]), LINEAR[t]
        # The product of two bells in x_{t-1}: N(a_before x_0, s_before^2) and N(x_t; r x_{t-1}, beta).
        precision = 1 / s[t - 1] ** 2 + r * r / beta
        right = (a[t - 1] * x_0 / s[t - 1] ** 2 + r * x_t / beta) / precision
        close(np.asarray(mean), right, f"the mean at t = {t}", 1e-8)
        close(np.float64(variance), np.float64(1 / precision), f"the variance at t = {t}", 1e-8)


# %% [markdown]
# ## 3. What v knows
#
# v = a noise - s x_0, with a^2 + s^2 = 1. From v and x_t both x_0 and the noise follow, without a division: nothing
# breaks where a or s is near 0.

# %%


def from_v(v, x_t, a, s):
    """Arrays of one shape, and two numbers -> x_0 and the noise."""
    raise NotImplementedError


@exercise(3, from_v, hint="(x_t, v) is (x_0, noise), turned by an angle with cosine a and sine s: turn it back")
def check_v(answer):
    "What v knows"
    x_0, noise = numbers(6), numbers(6, seed=1)
    for a in (1.0, 0.8, 0.01, 0.0):
        s = math.sqrt(1 - a * a)
        found = answer(a * noise - s * x_0, a * x_0 + s * noise, a, s)
        close(
            np.stack([np.asarray(part) for part in found]), np.stack([x_0, noise]), f"x_0 and noise at a = {a}", 1e-12
        )


# %% [markdown]
# ## 4. Break it and see: the forgotten root
#
# A slip that runs: keep (1 - beta) of x in each step, in place of sqrt(1 - beta). Write both. The check walks a world
# forward with each, and looks at what comes out at the end, where sampling is to begin with N(0, 1).

# %%


def forward_step(x, beta, noise, broken):
    """One step of noise on x; or, if `broken`, with the root of 1 - beta forgotten (that of beta is kept)."""
    raise NotImplementedError


@exercise(4, forward_step, hint="sqrt(1 - beta) x + sqrt(beta) noise")
def check_root(answer):
    "Break it and see: the forgotten root"
    x, noise = numbers(7), numbers(7, seed=1)
    close(answer(x, 0.3, noise, False), math.sqrt(0.7) * x + math.sqrt(0.3) * noise, "the right one", 1e-9)
    close(answer(x, 0.3, noise, True), 0.7 * x + math.sqrt(0.3) * noise, "the broken one", 1e-9)
    world, g = worlds.GaussianMixture([0.5, 0.5], [-1.0, 1.0], 0.04), Generator(0)
    for broken in (False, True):
        y = world.sample(5000, g)[:, 0].astype(np.float64)
        for beta in LINEAR:
            y = answer(y, beta, g.normal(y.shape), broken)
        print(f"  {'(1 - beta)' if broken else 'sqrt(1 - beta)':15} spread at the end {y.std():.3f}")
    print("  broken, the end is too narrow: samples that start from N(0, 1) start where no training picture ever was")


# %% [markdown]
# ## 5. A step without dice
#
# DDIM: take the guess of the noise at x_t, see which x_0 it means, and put the same noise back at another level. The
# check goes from noise to data with it, with the exact noise of a world, in 100 steps.

# %%


def ddim_step(x_t, noise, a, s, a_next, s_next):
    """x_t and the guess of the noise, arrays of one shape -> x at the next level."""
    raise NotImplementedError


@exercise(5, ddim_step, hint="x_0 = (x_t - s noise) / a")
def check_ddim(answer):
    "A step without dice"
    x_0, noise = numbers(6), numbers(6, seed=1)
    found = answer(0.6 * x_0 + 0.8 * noise, noise, 0.6, 0.8, 0.8, 0.6)
    close(found, 0.8 * x_0 + 0.6 * noise, "with the right noise it goes to the right place", 1e-9)
    world = worlds.GaussianMixture([0.7, 0.3], [-1.0, 1.0], 0.04)
    levels = np.geomspace(20.0, 0.01, 101)
    a, s = 1 / np.sqrt(1 + levels**2), levels / np.sqrt(1 + levels**2)
    x = Generator(0).normal((4000, 1)).astype(np.float64)
    for i in range(100):
        x = answer(x, -s[i] * world.noised(a[i], s[i]).score(x), a[i], s[i], a[i + 1], s[i + 1])
    far, own = world.wasserstein(x), world.wasserstein(world.sample(4000, Generator(1)))
    print(f"  Wasserstein distance to the world {far:.3f} (of as many real samples: {own:.3f})")
