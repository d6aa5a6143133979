# %% [markdown]
# # Exercises for lesson 26
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/26_gpt.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/26_gpt.py`.

# %%
import math

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import nn, optim
from minigen.lessons import Wrong, close, exercise
from minigen.models.transformer.causal import Masks
from minigen.random import Generator
from minigen.sampling import logits as rules


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. Who may look where
#
# A text of S places is read in pieces; the last T places are new, the others are in the cache. GPT-3's second layers
# see only a band: the place itself and the window - 1 before it. Say which of the S keys each new place may look at.

# %%


def allowed(T, S, window=None):
    """A NumPy array of booleans (T, S): whether new place t (the last T of S) may look at place s."""
    raise NotImplementedError


@exercise(1, allowed, hint="new place t is place S - T + t of the text; compare two ranges, one turned by [:, None]")
def check_allowed(answer):
    "Who may look where"
    for T, S, window in [(4, 4, None), (1, 5, None), (3, 7, None), (5, 5, 2), (2, 6, 3), (3, 3, 1)]:
        got = np.asarray(answer(T, S, window))
        if got.dtype != bool:
            raise Wrong(f"booleans are wanted, got {got.dtype}")
        mask, causal = Masks(T, S - T, None, minigen.zeros(1, T, 1))(window)
        right = (
            np.tri(T, S, dtype=bool) if causal else np.ones((T, S), bool) if mask is None else mask.numpy()[0, 0] == 0
        )
        close(got.astype(int), right.astype(int), f"T={T}, S={S}, window={window}")
    print("  two new places after four others, with a window of 3:")
    for row in answer(2, 6, 3):
        print("    " + " ".join(".#"[int(x)] for x in row))


# %% [markdown]
# ## 2. The nucleus
#
# Top-p keeps the fewest symbols that together have a probability of at least `mass`, and makes them add up to 1
# (Holtzman et al. 2020). The likeliest always stays.

# %%


def nucleus(p, mass):
    """Probabilities (V,) -> the probabilities of top-p sampling (V,)."""
    raise NotImplementedError


@exercise(2, nucleus, hint="sort downwards; a symbol stays if those before it have less than `mass` together")
def check_nucleus(answer):
    "The nucleus"
    close(answer(np.array([0.1, 0.5, 0.4]), 0.6), [0.0, 5 / 9, 4 / 9], "0.1, 0.5, 0.4 with mass 0.6", 1e-9)
    close(answer(np.array([0.1, 0.5, 0.4]), 0.2), [0.0, 1.0, 0.0], "with mass 0.2", 1e-9)
    for i in range(20):
        p = np.exp(2 * numbers(12, seed=i))
        p /= p.sum()
        mass = 0.3 + 0.03 * i
        kept = np.exp(rules.top_p(np.log(p)[None], mass))[0]
        close(answer(p, mass), kept / kept.sum(), f"twelve symbols, mass {mass:.2f}", 1e-6)
    p = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    print(f"  {p} with mass 0.75: {np.round(answer(p, 0.75), 3)}")


# %% [markdown]
# ## 3. What the decoder had to find
#
# In section 9 the best guess of y at a new x is the mean of the posterior: w ~ N(0, I), and y_i = w . x_i + noise of
# standard deviation s. Write it. Then look at the check's second half: with no example it must say 0, and with many it
# is least squares.

# %%


def best_guess(X, y, x, s):
    """Examples X (n, D) and y (n,), a new x (D,): the mean of its y given the examples."""
    raise NotImplementedError


@exercise(3, best_guess, hint="w = (X'X + s^2 I)^-1 X'y, the inverse of the posterior's precision times what was seen")
def check_guess(answer):
    "What the decoder had to find"
    X, w, s = numbers(5, 3), numbers(3, seed=1), 0.5
    y, x = X @ w + s * numbers(5, seed=2), numbers(3, seed=3)
    together = np.vstack([X, x])  # y and the new one are jointly normal: condition the one on the others
    covariance = together @ together.T
    right = covariance[-1, :-1] @ np.linalg.solve(covariance[:-1, :-1] + s**2 * np.eye(5), y)
    close(answer(X, y, x, s), right, "by conditioning a joint normal", 1e-9)
    close(answer(X[:0], y[:0], x, s) + 1, 1.0, "1 + the guess without an example")
    many = numbers(2000, 3, seed=4)
    least = np.linalg.lstsq(many, many @ w, rcond=None)[0] @ x
    close(answer(many, many @ w, x, 1e-3), least, "2000 examples without noise", 1e-5)
    print(f"  five examples: {answer(X, y, x, s):.3f}; the truth without noise {w @ x:.3f}")


# %% [markdown]
# ## 4. One ruler for all
#
# A model that writes pieces of words reports nats a *piece*, one that writes letters nats a letter. They can be
# compared only on the same text, by the nats it costs altogether. Give bits for each byte.

# %%


def bits_per_byte(nats_per_symbol, symbols, text):
    """What a model costs that spends `nats_per_symbol` on each of the `symbols` that stand for the string `text`."""
    raise NotImplementedError


@exercise(4, bits_per_byte, hint="all nats, divided by log 2 and by the bytes of the text in UTF-8: len(text.encode())")
def check_bits(answer):
    "One ruler for all"
    text = "So it goes. Así va la cosa. 就是这样。"
    close(answer(math.log(2), 10, "0123456789"), 1.0, "one bit for each of ten letters", 1e-9)
    close(
        answer(2.0, len(text), text), 2 * len(text) / math.log(2) / len(text.encode()), "letters of several bytes", 1e-9
    )
    letters, pieces = answer(1.47, 1000, "x" * 1000), answer(3.6, 300, "x" * 1000)
    print(f"  1.47 nats a letter are {letters:.2f} bits a byte")
    print(f"  3.6 nats a piece, with 300 pieces for 1000 letters, are {pieces:.2f}")
    print("  the second number looks worse, and is the better model")


# %% [markdown]
# ## 5. Break it and see: without sqrt(d)
#
# Write attention with and without the division by sqrt(d). The check gives one head of size 256 an easy task, the mean
# of sixteen numbers: all it has to learn is to prefer none of them.

# %%


def look_up(q, k, v, broken):
    """q (..., T, d), k (..., S, d), v (..., S, e) -> (..., T, e): attention without a mask; if `broken`, undivided."""
    raise NotImplementedError


@exercise(
    5,
    look_up,
    hint="scores = q @ k.mT, divided by math.sqrt(q.shape[-1]) unless broken; then F.softmax(scores, -1) @ v",
)
def check_scaling(answer):
    "Break it and see: without sqrt(d)"
    q, k, v = (minigen.tensor(numbers(2, n, d, seed=n)) for n, d in ((3, 16), (5, 16), (5, 4)))
    close(answer(q, k, v, False), F.scaled_dot_product_attention(q, k, v), "divided", 1e-9)
    close(answer(q, k, v, True), F.scaled_dot_product_attention(q, k, v, scale=1.0), "undivided", 1e-9)
    for broken in (False, True):
        minigen.manual_seed(0)
        g, size = Generator(0), 256
        to_q, to_k = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        with minigen.no_grad():
            for linear in (to_q, to_k):  # so that q and k have variance 1, as x has
                linear.weight.copy_(minigen.randn(size, size, generator=g) / math.sqrt(size))
        optimizer, losses = optim.Adam([*to_q.parameters(), *to_k.parameters()], lr=1e-3), []
        for _ in range(61):
            x, number = (minigen.tensor(g.normal((32, 16, n))) for n in (size, 1))
            found = answer(to_q(x), to_k(x), number, broken)
            loss = ((found - number.mean(1, keepdim=True)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        name = "not divided" if broken else "divided by sqrt(d)"
        print(f"  {name:18}  squared error at the start {losses[0]:.3f}, after 20 steps {losses[20]:.3f}, "
              f"after 60 {losses[60]:.3f}")  # fmt: skip
    print("  undivided, the softmax has chosen before anything was learned: a single number in place of the mean")
