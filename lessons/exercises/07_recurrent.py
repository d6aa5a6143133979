# %% [markdown]
# # Exercises for lesson 7
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/07_recurrent.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/07_recurrent.py`.

# %%
import math

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import nn, optim
from minigen.data import worlds
from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape)


# %% [markdown]
# ## 1. One unit that adds
#
# An LSTM cell can count, exactly, with weights that nobody needs to train. Choose the gates of one unit so that the
# cell adds 1 for each "(", takes 1 away for each ")", and keeps its value at every other symbol.

# %%


def counting_gates(symbol):
    """(i, f, g) for one symbol, i and f from 0 to 1, g from -1 to 1. The cell becomes f * c + i * g."""
    raise NotImplementedError


@exercise(1, counting_gates, hint="f keeps, always; i opens for brackets only; g is the sign of the bracket")
def check(answer):
    "One unit that adds"

    def depth(text):
        c = 0.0
        for symbol in text:
            i, f, g = (float(a) for a in answer(symbol))
            if not (0 <= i <= 1 and 0 <= f <= 1 and -1 <= g <= 1):
                raise Wrong(f"{symbol!r}: i = {i}, f = {f}, g = {g}, but sigmoids are from 0 to 1, a tanh from -1 to 1")
            c = f * c + i * g
        return c

    for text in ("(", "((a)", "f(x, (y))", "(" * 500 + "b" * 500 + ")" * 499):
        close(depth(text), text.count("(") - text.count(")"), f"open brackets after {text[:12]!r}", 1e-6)
    print(f"  500 brackets opened, 500 letters between, 499 closed: the cell holds {depth(text):.6f}")


# %% [markdown]
# ## 2. A bias for a memory of so many steps
#
# With the forget gate at sigmoid(b), what is left of a value after t steps is sigmoid(b)^t. Which bias keeps the share
# `left` of it over `steps` steps?

# %%


def forget_bias(steps, left):
    """The bias b with sigmoid(b)^steps = left."""
    raise NotImplementedError


@exercise(2, forget_bias, hint="sigmoid(b) = left^(1/steps), and the inverse of sigmoid is log(p / (1 - p))")
def check_bias(answer):
    "A bias for a memory of so many steps"
    for steps in (1, 10, 100, 1000):
        for left in (0.5, 1 / math.e):
            b = float(answer(steps, left))
            close(1 / (1 + math.exp(-b)) ** steps, left, f"left after {steps} steps with bias {b:.3f}", 1e-6)
    print(
        f"  half is left after 100 steps with a bias of {answer(100, 0.5):.2f}; 1/e with {answer(100, 1 / math.e):.2f}"
    )
    print(f"  Tallec & Ollivier's log(T - 1) is {math.log(99):.2f}")


# %% [markdown]
# ## 3. Clip the gradient, keep its direction
#
# Given the gradients of all parameters, a list of arrays, scale them so that their *common* norm is at most `most`.
# A gradient below the limit is left alone. (Clipping each array, or each number, for itself turns the direction.)

# %%


def clip(gradients, most):
    """A list of arrays -> a list of arrays of the same shapes, whose squares add up to most^2 at the most."""
    raise NotImplementedError


@exercise(3, clip, hint="norm = sqrt(sum of all squares of all arrays); multiply everything by min(1, most / norm)")
def check_clip(answer):
    "Clip the gradient, keep its direction"
    gradients = [10 * numbers(3, 4).astype(np.float64), numbers(5, seed=1).astype(np.float64)]
    norm = math.sqrt(sum((a**2).sum() for a in gradients))
    for most in (0.5, 1.0, 1000.0):
        scale = min(1.0, most / norm)
        for found, was in zip(answer([a.copy() for a in gradients], most), gradients, strict=True):
            close(found, was * scale, f"a gradient of norm {norm:.1f} clipped to {most}", 1e-5)
    print(f"  one huge array of norm {np.linalg.norm(gradients[0]):.1f} shrinks, and the small one beside it as much")


# %% [markdown]
# ## 4. How sure can one be, h steps ahead?
#
# For the series x_t = a_1 x_(t-1) + ... + a_p x_(t-p) + e_t, how large is the variance of the best forecast's error,
# 1, 2, ..., steps ahead? Each innovation e that is still to come has an effect on what follows: push the series once
# by 1, watch what comes of it, and add up.

# %%


def forecast_variances(coefficients, noise, steps):
    """a_1 ... a_p and the standard deviation of e -> the variances 1 ... steps ahead, (steps,)."""
    raise NotImplementedError


@exercise(
    4,
    forecast_variances,
    hint="psi_0 = 1, psi_k = sum_j a_j psi_(k-j); the variance h ahead: noise^2 sum_(k<h) psi_k^2",
)
def check_forecast(answer):
    "How sure can one be, h steps ahead?"
    for coefficients, noise in (([0.8], 0.5), ([1.6, -0.9], 0.25), ([0.5, -0.3, 0.4], 2.0)):
        exact = worlds.AutoregressiveSeries(coefficients, noise).forecast(np.zeros(10), 20)[1]
        close(np.asarray(answer(coefficients, noise, 20)), exact, f"for a = {coefficients}, noise {noise}", 1e-6)
    spread = np.sqrt(answer([1.6, -0.9], 0.25, 60))
    print(f"  standard deviation 1, 5, 20, 60 steps ahead: {np.round(spread[[0, 4, 19, 59]], 3)}")
    print("  it grows until nothing is known, and ends at that of the series itself")


# %% [markdown]
# ## 5. Break it and see: targets that are not shifted
#
# A language model reads x_t and must say x_(t+1). A very common slip is to give it x_t itself as the target: it runs,
# it trains, and the loss is wonderful. Write both. The check trains a model with each, on a text whose exact entropy
# is known, and that gives the slip away.

# %%


def inputs_and_targets(text, broken):
    """A text (N, T + 1) -> inputs (N, T) and targets (N, T): the next symbols; or, if `broken`, the same ones."""
    raise NotImplementedError


@exercise(5, inputs_and_targets, hint="inputs are text[:, :-1]; the targets are text[:, 1:]")
def check_shift(answer):
    "Break it and see: targets that are not shifted"
    text = Generator(0).integers(0, 9, (3, 6))
    for broken, right in ((False, text[:, 1:]), (True, text[:, :-1])):
        inputs, targets = answer(text, broken)
        close(inputs, text[:, :-1], f"inputs, broken={broken}")
        close(targets, right, f"targets, broken={broken}")
    world = worlds.MarkovText.random(symbols=6, order=1, seed=1)
    rate = world.entropy_rate()
    for broken in (False, True):
        minigen.manual_seed(0)
        embedding, net, head = nn.Embedding(6, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 6)
        optimizer = optim.Adam([*embedding.parameters(), *net.parameters(), *head.parameters()], lr=0.02)
        for step in range(120):
            inputs, targets = answer(world.sample(32, Generator(step), length=33), broken)
            optimizer.zero_grad()
            logits = head(net(embedding(minigen.tensor(inputs)))[0])
            loss = F.cross_entropy(logits.reshape(-1, 6), minigen.tensor(targets).reshape(-1))
            loss.backward()
            optimizer.step()
        print(
            f"  {'not shifted' if broken else 'shifted    '}  reports {loss.item():.3f} nats; the entropy is {rate:.3f}"
        )
        if broken and loss.item() > rate - 0.5:
            raise Wrong("the broken one should report less than the entropy, which no honest model can")
    print("  a loss below the entropy is not a good model, it is a leak")
