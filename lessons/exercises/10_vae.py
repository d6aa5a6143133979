# %% [markdown]
# # Exercises for lesson 10
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/10_vae.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/10_vae.py`.

# %%
import math

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import nn, optim
from minigen.data import digits
from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. The nats that a cause carries
#
# Derive KL(N(mu, sigma^2) || N(0, 1)) for each cause, from the mean and the *log variance* that the encoder gives.
# Use only operations that work on tensors, such as `minigen.exp`, so that a gradient can flow through it.

# %%


def kl_to_prior(mu, log_var):
    """Tensors (N, causes) of the same shape -> the KL of each element, in nats."""
    raise NotImplementedError


@exercise(
    1, kl_to_prior, hint="E_q[log q] = -1/2 (log 2 pi + log_var + 1),  E_q[log p] = -1/2 (log 2 pi + mu^2 + sigma^2)"
)
def check(answer):
    "The nats that a cause carries"
    mu, log_var = minigen.tensor(numbers(3, 4)), minigen.tensor(numbers(3, 4, seed=1))
    x = np.linspace(-30, 30, 200_001)[:, None, None]
    std = np.exp(log_var.numpy() / 2)
    log_q = -0.5 * ((x - mu.numpy()) / std) ** 2 - np.log(std)
    integral = (np.exp(log_q) * (log_q + 0.5 * x**2)).sum(0) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
    close(answer(mu, log_var), integral, "against the integral", 1e-6)
    close(answer(minigen.zeros(2), minigen.zeros(2)) + 1, np.ones(2), "1 + the KL of the prior itself")
    mu.requires_grad_()
    answer(mu, log_var).sum().backward()
    close(mu.grad, mu.detach(), "its slope by mu, which is mu", 1e-6)


# %% [markdown]
# ## 2. The tighter bound
#
# You have log weights log p(x, z) - log q(z | x) for k draws of z: (k, N). Give IWAE_k, the log of the mean weight,
# for each x. The weights themselves are e^-90 and smaller, in float32: they are 0.

# %%


def iwae(log_weights):
    """A tensor (k, N) -> the log of the mean of the weights over k, (N,)."""
    raise NotImplementedError


@exercise(2, iwae, hint="logsumexp subtracts the largest first; the log of a mean is the log of the sum, minus log k")
def check_iwae(answer):
    "The tighter bound"
    log_weights = numbers(50, 6) - 200
    right = np.log(np.exp(log_weights + 200).mean(0)) - 200
    close(answer(minigen.tensor(log_weights.astype(np.float32))), right, "weights of e^-200", 1e-5)
    close(answer(minigen.tensor(log_weights[:1])), log_weights[0], "of one draw, the ELBO", 1e-6)
    one = answer(minigen.tensor(log_weights)).mean().item()
    print(f"  mean log weight (ELBO) {log_weights.mean():.3f}  <=  IWAE_50 {one:.3f}")


# %% [markdown]
# ## 3. The best Gaussian guess
#
# In the linear world x = W z + m + s * noise the posterior is Gaussian, with precision I + W'W / s^2. Among all
# guesses with *independent* causes, which variances make the ELBO largest? (Not the diagonal of the covariance!)
# Write the ELBO's gap, KL(q || posterior), as a function of the variances, and set its slope to 0.

# %%


def best_independent_variances(W, s):
    """(D, causes), a number -> the variances of the best q with independent causes, (causes,)."""
    raise NotImplementedError


@exercise(3, best_independent_variances, hint="the gap is 1/2 (sum_i precision_ii v_i - log v_i) + constant")
def check_variances(answer):
    "The best Gaussian guess"
    W, s = numbers(6, 3), 0.7
    precision = np.eye(3) + W.T @ W / s**2

    def gap(v):
        return 0.5 * ((np.diag(precision) * v).sum() - np.log(v).sum() - 3 - np.linalg.slogdet(precision)[1])

    found = np.asarray(answer(W, s), np.float64)
    if found.shape != (3,) or not (found > 0).all():
        raise Wrong(f"variances are three positive numbers, not {found}")
    for factor in numbers(200, 3, seed=2):
        if gap(found * np.exp(0.05 * factor)) < gap(found) - 1e-12:
            raise Wrong(f"there are better ones: the gap of yours is {gap(found):.4f} nats")
    marginal = np.diag(np.linalg.inv(precision))
    print(f"  gap of the best {gap(found):.4f} nats, with the posterior's own variances {gap(marginal):.4f} nats")
    print(f"  the best are smaller: {np.round(found, 3)} against {np.round(marginal, 3)}. Reverse KL hides (lesson 1)")


# %% [markdown]
# ## 4. Break it and see: the forgotten half
#
# A very common slip: z = mu + exp(log_var) * noise, where exp(log_var / 2) is meant. It runs, it trains, the loss
# goes down. Write both. The check trains a VAE on the digits with each, and then measures the true ELBO of both.

# %%


def draw_causes(mu, log_var, noise, broken):
    """z ~ N(mu, exp(log_var)) from noise ~ N(0, 1); or, if `broken`, with the half forgotten."""
    raise NotImplementedError


@exercise(4, draw_causes, hint="the standard deviation is the square root of the variance: exp(log_var / 2)")
def check_half(answer):
    "Break it and see: the forgotten half"
    mu, log_var, noise = (minigen.tensor(numbers(3, 4, seed=i).astype(np.float32)) for i in range(3))
    close(answer(mu, log_var, noise, False), mu + noise * minigen.exp(log_var / 2), "the right one")
    close(answer(mu, log_var, noise, True), mu + noise * minigen.exp(log_var), "the broken one")
    images, tests = (minigen.tensor(np.rint(16 * digits(part)[0])) for part in ("train", "test"))

    def bound(encoder, decoder, x, g, broken):
        mu, log_var = encoder(x.flatten(1) / 8 - 1).chunk(2, -1)
        out = decoder(answer(mu, log_var, minigen.randn_like(mu, generator=g), broken))
        nll = F.cross_entropy(out.reshape(-1, 17), x.reshape(-1).long(), reduction="none").reshape(len(x), -1).sum(1)
        kl = 0.5 * (mu * mu + minigen.exp(log_var) - log_var - 1).sum(1)
        return (nll + kl).mean(), kl.mean()

    for broken in (False, True):
        minigen.manual_seed(0)
        g = Generator(0)
        encoder = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 16))
        decoder = nn.Sequential(nn.Linear(8, 128), nn.Tanh(), nn.Linear(128, 64 * 17))
        optimizer = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
        for _ in range(120):
            optimizer.zero_grad()
            loss = bound(encoder, decoder, images[g.integers(0, 1000, (100,))], g, broken)[0]
            loss.backward()
            optimizer.step()
        with minigen.no_grad():
            believed, kl = bound(encoder, decoder, tests, g, broken)
            true = np.mean([bound(encoder, decoder, tests, g, False)[0].item() for _ in range(10)])
        name = "the half forgotten" if broken else "as it should be"
        print(
            f"  {name:20} reports {believed.item():.1f} nats, has {true:.1f} (of these {kl.item():.1f} in the causes)"
        )
    print("  z gets less noise than the KL has paid for: the bound that it reports is none")


# %% [markdown]
# ## 5. Break it and see: noise of half the width
#
# Digits are whole numbers, and a *density* for whole numbers can be made as large as you like: a spike on each. The
# honest way is to add noise u ~ U(0, 1) first (Theis, van den Oord & Bethge 2016); then E[log density(x + u)] <= log
# P(x). Well-known code adds noise of *half* that width. For pixels that know nothing of each other the best density
# of x + w u is a staircase, P(x) / w on [x, x + w). Given the nats of the true P, how many nats will be reported for
# pictures of `pixels` pixels?

# %%


def reported_nats(true_nats, pixels, width):
    """The mean -log density of x + width * u per picture, for the best density; true_nats is that of P(x)."""
    raise NotImplementedError


@exercise(5, reported_nats, hint="each pixel's density is P / width: its -log is lower by log(1 / width)")
def check_width(answer):
    "Break it and see: noise of half the width"
    ink = np.rint(16 * digits("train")[0]).reshape(1000, 64).astype(int)
    test = np.rint(16 * digits("test")[0]).reshape(-1, 64).astype(int)
    share = np.stack([np.bincount(p, minlength=17) for p in ink.T]) + 0.1
    share /= share.sum(1, keepdims=True)
    true = -np.log(share[np.arange(64), test]).sum(1).mean()
    for width in (1.0, 0.5, 0.1):
        y = test + width * Generator(0).uniform(test.shape)
        measured = -np.log(share[np.arange(64), np.floor(y).astype(int)] / width).sum(1).mean()
        close(answer(true, 64, width), measured, f"width {width}", 1e-9)
        print(f"  noise of width {width:3}: independent pixels report {measured:7.1f} nats")
    print(
        "  44 nats better for nothing. A flow that reports 122.5 this way is truly at 166.9, worse than no model at all"
    )
