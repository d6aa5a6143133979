# %% [markdown]
# # 07. Recurrent networks
#
# How can a network of fixed size remember what came long ago?
#
# A text or a series has no fixed size, and what comes next may hang on something a hundred steps back. A recurrent
# network reads one element at a time and keeps a **state**, a vector that must hold all of the past that still
# matters. Everything in this lesson follows from that one idea, and from the trouble that it makes:
#
# 1. a state that is carried along
# 2. why the past fades: |dh_T / dh_0|, measured beside its theory
# 3. the LSTM: a gate that decides how much is kept
# 4. the GRU: the same with less
# 5. the copy task: who remembers?
# 6. backpropagation through time, cut short
# 7. a forecaster that reaches the least error there is
# 8. a language model that comes within 0.02 nats of the truth
# 9. both directions, and layers on layers
# 10. real text
#
# You need lessons 1 (nats), 2 (backpropagation) and 5 (hidden Markov models). Run it with
# `python lessons/07_recurrent.py`.

# %%
import itertools
import math

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import autograd, nn, optim
from minigen.data import text, worlds
from minigen.lessons import Lesson
from minigen.models.autoregressive import recurrent as library
from minigen.models.autoregressive.ngram import NGram
from minigen.plot import COLOURS
from minigen.random import Generator

lesson = Lesson("07_recurrent", uses=("data", "device", "full"))
g = lesson.generator


def tensor(x):
    return minigen.tensor(x, device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


# %% [markdown]
# ## 1. A state that is carried along
#
# Elman's network (1990) is one line. The new state is made from the old one and from what is read now:
#
#     h_t = tanh(W x_t + U h_(t-1) + b)
#
# The same W, U and b serve at every step, so a text of any length needs no further parameter. Reading a sequence is a
# loop:

# %%
lesson.section("1. A state that is carried along")


def rnn_step(x, h, W, U, b):
    """x (N, inputs), h (N, hidden) -> the next h."""
    return (minigen.tanh(x @ W.mT + h @ U.mT + b),)


def read(step, x, state, weights):
    """Read x (N, T, inputs) step by step. Returns the states (N, T, hidden) and the last state, a tuple."""
    states = []
    for x_t in x.unbind(1):
        state = step(x_t, *state, *weights)
        states.append(state[0])
    return minigen.stack(states, 1), state


def weights_of(net):
    """(W, U, b) of a layer of minigen.nn, which keeps two biases (they are added: one would do)."""
    return net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0 + net.bias_hh_l0


# %% [markdown]
# `nn.RNN` is this loop, in one kernel for all steps. Same weights, same numbers:

# %%
x = minigen.randn(4, 50, 3, generator=g, device=lesson.device)
zero = minigen.zeros(4, 16, device=lesson.device)
net = nn.RNN(3, 16, batch_first=True).to(lesson.device)
with minigen.no_grad():
    ours, theirs = read(rnn_step, x, (zero,), weights_of(net))[0], net(x)[0]
print(f"  by hand and nn.RNN, 50 steps: they differ by {np.abs(array(ours - theirs)).max():.0e}")

# %% [markdown]
# ## 2. Why the past fades
#
# What the state knows of step 0 at step T is in the derivative dh_T / dh_0. By the chain rule it is a product of T
# matrices, one for each step (Bengio, Simard & Frasconi 1994):
#
#     dh_T / dh_0 = prod_t diag(1 - h_t^2) U
#
# Leave out the tanh for a moment, and it is U multiplied by itself T times. A power of a matrix is ruled by its largest
# eigenvalue, whose size is the **spectral radius** r. Below 1 the past is forgotten, like r**T. Above 1 it explodes,
# like r**T. The tanh puts a factor 1 - h^2, at most 1, before each U, so that less is left still.
#
# One walk back measures all distances at once. Take a random direction v; the gradient of v . h_T by h_t is v' dh_T /
# dh_t, for each t. Its mean square over many v is the size of the matrix.

# %%
lesson.section("2. Why the past fades")

H, T = 32, 201


def fading(step, x, state, weights, watched=0):
    """How much of the state of t steps ago is left: sqrt(E |v' dh_T / dh_(T - t)|^2) for t = 0, 1, ..., T."""
    state = tuple(s.clone().requires_grad_() for s in state)
    kept = [state[watched]]
    for x_t in x.unbind(1):
        state = step(x_t, *state, *weights)
        kept.append(state[watched])
    v = tensor(Generator(1).normal(kept[-1].shape).astype(array(kept[-1]).dtype)) / math.sqrt(H)
    slopes = autograd.grad((v * kept[-1]).sum(), kept)
    return np.array([np.sqrt((array(s) ** 2).sum(-1).mean()) for s in reversed(slopes)])


def linear_step(x, h, U):
    return (h @ U.mT + x,)


with minigen.no_grad():
    raw = g.normal((H, H)).astype(np.float64)
    raw /= np.abs(np.linalg.eigvals(raw)).max()  # spectral radius 1
    inputs, nothing = tensor(g.normal((64, T, H)).astype(np.float64)), tensor(np.zeros((64, H)))
rows, lines = [], {}
for radius in (0.9, 1.0, 1.1):
    U = tensor(radius * raw)
    for name, step, weights in [
        (f"linear, r = {radius}", linear_step, (U,)),
        (f"tanh, r = {radius}", rnn_step, (tensor(0.3 * np.eye(H)), U, tensor(np.zeros(H)))),
    ]:
        lines[name] = left = fading(step, inputs, (nothing,), weights)
        rate = (left[200] / left[100]) ** 0.01 if left[200] > 0 else 0.0
        rows.append([name, left[10], left[100], rate, f"{radius:.4g}" if step is linear_step else ""])
lesson.table(["", "left after 10", "after 100", "factor a step", "in theory"], rows)
off = max(abs(row[3] / radius - 1) for row, radius in zip(rows[::2], (0.9, 1.0, 1.1)))
lesson.proof("decay a step, against the spectral radius", off, "relative error", at_most=0.02)

# %% [markdown]
# Nothing here is the fault of the optimiser. At r = 0.9 the gradient that should tell step 0 what it did wrong has
# shrunk by a factor of 100,000 after 100 steps: it is drowned by those of nearer steps. At r = 1.1 it has grown
# thousands of times. With a tanh there is no lucky value in between: what is kept depends on how far the units are
# saturated, and new input saturates them.
#
# (For explosions there is a plain remedy. If the whole gradient's norm is above a limit, scale it down to it: its
# direction stays (Pascanu, Mikolov & Bengio 2013). `nn.utils.clip_grad_norm_` does it, and every training below uses
# it. For vanishing there is none so simple: what has gone cannot be scaled up.)
#
# ## 3. The LSTM: a gate that decides how much is kept
#
# Hochreiter & Schmidhuber (1997) change what is carried. Beside h there is a **cell** c, which is not multiplied by a
# matrix at all. It is kept, element by element, by a **forget gate** f (Gers, Schmidhuber & Cummins 2000), and an
# **input gate** i lets news in. An **output gate** o decides what of it is shown:
#
#     i, f, o = sigmoid(W x_t + U h_(t-1) + b)        each with its own rows of W, U and b
#     g       = tanh(W x_t + U h_(t-1) + b)           the news
#     c_t     = f * c_(t-1) + i * g
#     h_t     = o * tanh(c_t)

# %%
lesson.section("3. The LSTM")


def lstm_step(x, h, c, W, U, b):
    i, f, g, o = (x @ W.mT + h @ U.mT + b).chunk(4, -1)
    c = minigen.sigmoid(f) * c + minigen.sigmoid(i) * minigen.tanh(g)
    return minigen.sigmoid(o) * minigen.tanh(c), c


net = nn.LSTM(3, 16, batch_first=True).to(lesson.device)
with minigen.no_grad():
    ours, theirs = read(lstm_step, x, (zero, zero), weights_of(net))[0], net(x)[0]
print(f"  by hand and nn.LSTM, 50 steps: they differ by {np.abs(array(ours - theirs)).max():.0e}")

# %% [markdown]
# Now the derivative along the cell: dc_t / dc_(t-1) is f_t, plus what goes round through h and the gates. Where the
# gates do not look at h (U = 0) there is no such detour, and dc_T / dc_0 is exactly the product of the forget gates.
# Let us check that, and then see how large the detour is with ordinary weights.
#
# The network chooses f at every step, and it can choose 1: then *nothing* fades. But it must be able to learn that,
# and at first f is about sigmoid(0) = 1/2, so that after 20 steps a millionth is left. The usual remedy is a bias:
# start with the gate open (Gers et al. 2000; Jozefowicz, Zaremba & Sutskever 2015). To remember for about T steps, f
# should be 1 - 1/T, which is a bias of log(T - 1) (Tallec & Ollivier 2018).


# %%
def lstm_weights(forget_bias, feedback=1.0):
    """Random weights as nn.LSTM has them at first, but for the forget gate's bias. feedback=0: gates do not see h."""
    bound = 1 / math.sqrt(H)
    W, U = (Generator(i).uniform((4 * H, H), -bound, bound).astype(np.float64) for i in (2, 3))
    b = np.zeros(4 * H)
    b[H : 2 * H] = forget_bias
    return tensor(W), tensor(feedback * U), tensor(b)


def product_of_forget_gates(x, W, U, b):
    """The same size as `fading` measures, from the gates alone (U = 0): (T + 1,)."""
    f = 1 / (1 + np.exp(-(array(x) @ array(W).T + array(b))[..., H : 2 * H]))  # (N, T, H)
    v = Generator(1).normal((len(f), H)).astype(np.float64) / math.sqrt(H)
    product = np.cumprod(np.concatenate([np.ones((len(f), 1, H)), f[:, ::-1]], 1), 1)
    return np.sqrt(((v[:, None] * product) ** 2).sum(-1).mean(0))


rows, off = [], 0.0
for bias in (0.0, 1.0, 3.0, 5.0):
    exact = product_of_forget_gates(inputs, *lstm_weights(bias, feedback=0.0))
    alone = fading(lstm_step, inputs, (nothing, nothing), lstm_weights(bias, feedback=0.0), watched=1)
    off = max(off, np.abs(alone / exact - 1).max())
    lines[f"LSTM, bias {bias:g}"] = left = fading(lstm_step, inputs, (nothing, nothing), lstm_weights(bias), watched=1)
    rows.append([f"{bias:g}", 1 / (1 + math.exp(-bias)), left[20], left[100], exact[100]])
lesson.table(["forget bias", "sigmoid of it", "left after 20", "after 100", "product of the gates"], rows)
lesson.proof("dc_T/dc_0 without feedback, against the product of forget gates", off, "relative error", at_most=1e-9)

# %% [markdown]
# Without feedback the two agree to the last digits. With it more is left than the gates alone would keep, or even more
# than there was: what leaves the cell through h comes back in by the other gates. An LSTM's gradients can explode, too.
# But what rules the memory is the bias, from nothing left to all of it.

# %%
with lesson.figure("fading", "How much of the state t steps ago is left in the state now.", columns=2) as axes:
    for radius, colour in zip((1.1, 1.0, 0.9), ("second", "third", "ours")):
        axes[0].plot(lines[f"linear, r = {radius}"], color=COLOURS[colour], label=f"linear, r = {radius}")
        axes[0].plot(lines[f"tanh, r = {radius}"], ":", color=COLOURS[colour], label=f"tanh, r = {radius}")
        axes[0].plot(radius ** np.arange(T), color=COLOURS["truth"], linewidth=0.7)
    axes[0].set(title="Plain RNN (thin: r**t)")
    for bias, colour in zip((5, 3, 1, 0), ("second", "third", "ours", "fourth")):
        axes[1].plot(lines[f"LSTM, bias {bias}"], color=COLOURS[colour], label=f"forget bias {bias}")
        axes[1].plot((1 + math.exp(-bias)) ** -np.arange(T, dtype=float), color=COLOURS["truth"], linewidth=0.7)
    axes[1].set(title="LSTM cell (thin: sigmoid(bias)**t)")
    for ax in axes:
        ax.set(xlabel="t, steps ago", yscale="log", ylim=(1e-12, 1e15))
        ax.legend(loc="upper left", ncols=2, fontsize=7)

# %% [markdown]
# ## 4. The GRU: the same with less
#
# Cho et al. (2014) do with one state and two gates. An **update gate** z mixes the old state with the news: what is
# kept and what is written add up to 1. A **reset gate** r lets the news ignore the state:
#
#     r, z = sigmoid(W x_t + U h_(t-1) + b)
#     n    = tanh(W x_t + b + r * (U h_(t-1) + c))
#     h_t  = z * h_(t-1) + (1 - z) * n
#
# (The paper has r inside, U (r * h). Here, as in cuDNN and PyTorch, r stands outside the product: then all products
# with U can be done at once. Some texts also exchange z and 1 - z.)

# %%
lesson.section("4. The GRU")


def gru_step(x, h, W, U, b, c):
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (x @ W.mT + b).chunk(3, -1), (h @ U.mT + c).chunk(3, -1)
    r, z = minigen.sigmoid(x_r + h_r), minigen.sigmoid(x_z + h_z)
    return (z * h + (1 - z) * minigen.tanh(x_n + r * h_n),)


net = nn.GRU(3, 16, batch_first=True).to(lesson.device)
with minigen.no_grad():
    two_biases = (net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0, net.bias_hh_l0)
    ours, theirs = read(gru_step, x, (zero,), two_biases)[0], net(x)[0]
print(f"  by hand and nn.GRU, 50 steps: they differ by {np.abs(array(ours - theirs)).max():.0e}")
lesson.table(
    ["16 units, 3 inputs", "parameters"],
    [[kind.__name__, str(sum(p.numel() for p in kind(3, 16).parameters()))] for kind in (nn.RNN, nn.GRU, nn.LSTM)],
)

# %% [markdown]
# ## 5. The copy task: who remembers?
#
# The classic test (Hochreiter & Schmidhuber 1997; Arjovsky, Shah & Bengio 2016): read two symbols of eight, then 40
# blanks, then a cue, and say the two symbols. Nothing else helps: a model without memory pays log 8 = 2.08 nats a
# symbol, a model that remembers pays 0.
#
# The model for this, and for all text below, is an embedding, a recurrent layer, and a linear layer for the logits:

# %%
lesson.section("5. The copy task")


class Reader(nn.Module):
    """Symbols (N, T) -> logits of an answer at every place (N, T, answers), and the state after the last."""

    def __init__(self, symbols, embedding, net, answers=None):
        self.embedding = nn.Embedding(symbols, embedding)
        self.net = net
        self.head = nn.Linear(net.hidden_size * net.directions, answers or symbols)

    def forward(self, ids, state=None):
        y, state = self.net(self.embedding(ids), state)
        return self.head(y), state


def keeping(net, bias):
    """`net` with the gate that keeps (f of the LSTM, z of the GRU) opened by a bias, in every layer and direction."""
    gate = slice(net.hidden_size, 2 * net.hidden_size)  # the second one: of i, f, g, o and of r, z, n
    with minigen.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("bias"):
                parameter[gate] = bias / 2  # there are two biases
    return net


def train(model, loss, steps, rate, what):
    """Adam, a cosine schedule, a gradient clipped to norm 1. Returns each step's loss and the norm before clipping."""
    optimizer = optim.Adam(model.parameters(), lr=rate)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    history = []
    model.train()
    for step in (bar := lesson.progress(steps, what)):
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        history.append((value.item(), float(norm)))
        bar.set_postfix_str(f"{history[-1][0]:.3f}", refresh=False)
    model.eval()
    return np.array(history).T


# %%
LETTERS, BLANK, CUE, TOLD, DELAY = 8, 8, 9, 2, lesson.pick(40, quick=8)


def copy_batch(n, generator):
    """(n, TOLD + DELAY + TOLD) symbols, and what is to be said at the last TOLD places."""
    told = generator.integers(0, LETTERS, (n, TOLD))
    ids = np.full((n, 2 * TOLD + DELAY), BLANK)
    ids[:, :TOLD], ids[:, TOLD + DELAY] = told, CUE
    return tensor(ids), tensor(told)


def copy_loss(model, ids, told, window=None):
    """Nats a symbol. With a window, the gradient walks back only so many steps; the state comes from before."""
    state, start = None, 0 if window is None else ids.shape[1] - window
    if start:
        with minigen.no_grad():
            state = model(ids[:, :start])[1]
    logits = model(ids[:, start:], state)[0][:, -TOLD:]
    return F.cross_entropy(logits.reshape(-1, 10), told.reshape(-1))


contestants = {
    "RNN": (nn.RNN(10, 64, batch_first=True), None),
    "LSTM, forget bias 0": (keeping(nn.LSTM(10, 64, batch_first=True), 0.0), None),
    "LSTM, forget bias 4": (keeping(nn.LSTM(10, 64, batch_first=True), 4.0), None),
    "GRU, update bias 3": (keeping(nn.GRU(10, 64, batch_first=True), 3.0), None),
    "the same GRU, cut after 10 steps": (keeping(nn.GRU(10, 64, batch_first=True), 3.0), 10),
}


def contest(name, net, window, steps):
    """Train on the copy task. Returns the losses, the largest gradient norm, and nats and share right afterwards."""
    model, dice = Reader(10, 10, net).to(lesson.device), Generator(lesson.seed)
    losses, norms = train(model, lambda _: copy_loss(model, *copy_batch(64, dice), window), steps, 0.02, name)
    with minigen.no_grad():
        ids, told = copy_batch(2000, Generator(lesson.seed + 1000))
        right = (array(model(ids)[0][:, -TOLD:]).argmax(-1) == array(told)).mean()
        return losses, norms.max(), copy_loss(model, ids, told).item(), right


steps = lesson.pick(400, quick=110)
copied = {name: contest(name, net, window, steps) for name, (net, window) in contestants.items()}
lesson.spend(len(contestants) * steps * 64 * (2 * TOLD + DELAY) * 3 * 2 * 3 * 64 * 74)
lesson.table(
    [f"copied over {DELAY} steps", "nats a symbol", "right", "largest gradient norm"],
    [[name, nats, f"{100 * right:.1f}%", norm] for name, (_, norm, nats, right) in copied.items()],
)
lesson.proof(f"copied over {DELAY} steps by the GRU", copied["GRU, update bias 3"][2], "nats a symbol",
             floor=(math.log(8), "no memory"), optimum=(0.0, "exact"))  # fmt: skip

# %%
with lesson.figure("copy", "The copy task: nats a symbol while training.", size=(5.6, 3.2)) as axes:
    for name, (losses, *_) in copied.items():
        axes.plot(np.convolve(losses, np.ones(10) / 10, "valid"), label=name)
    axes.axhline(math.log(8), color=COLOURS["truth"], linestyle="--", linewidth=1, label="no memory: log 8")
    axes.set(xlabel="step", ylabel="nats a symbol", ylim=(-0.1, 2.75))
    axes.legend(loc="upper right", ncols=2, fontsize=7)

# %% [markdown]
# Neither the plain RNN nor the LSTM whose gate starts half shut gets far: for the latter the gradient from the answer
# back to the question is 2^-40 of what it was. The same LSTM with its gate open learns it. It is not that the LSTM
# *has* a long memory; it *can* have one, and a bias tells it where to begin.
#
# ## 6. Backpropagation through time, cut short
#
# Training unrolls the loop and walks back through all of it (backpropagation through time: Rumelhart, Hinton &
# Williams 1986; Werbos 1990). For a text of a million symbols nobody can. So one cuts it into windows: the **state**
# goes on from window to window, the **gradient** stops at the edge (truncated: Williams & Peng 1990). In code it is
# one `detach()`.
#
# The last row of the table shows what is lost. Cut after 10 steps, the gradient never reaches the two symbols. The
# open gate carries *something* of them by itself, so the output layer learns to read a part. But the network is never
# told to write them down more clearly. A window should be as long as what has to be learned; what the state then
# carries further is a gift.
#
# ## 7. A forecaster that reaches the least error there is
#
# Numbers instead of symbols. The world is the AR(2) series (Yule 1927)
#
#     x_t = 1.6 x_(t-1) - 0.9 x_(t-2) + e_t,        e_t ~ N(0, 0.25^2)
#
# It swings with a period of about 11 steps, and drifts in phase. Nobody can foresee e_t: the least mean squared error,
# one step ahead, is the **innovation variance** 0.0625. The network sees neither the equation nor that two values are
# enough. It gives a mean and a log variance for the next value, and its loss is -log of that Gaussian.

# %%
lesson.section("7. A forecaster")

series = worlds.AutoregressiveSeries([1.6, -0.9], noise=0.25, length=60)


class Forecast(nn.Module):
    """x (N, T) -> the mean and log variance of the value after each, (N, T)."""

    def __init__(self, net):
        self.net = net
        self.head = nn.Linear(net.hidden_size, 2)

    def forward(self, x):
        change, log_var = self.head(self.net(x.unsqueeze(-1))[0]).unbind(-1)
        return x + change, log_var  # a network that knows nothing says: as now


def gaussian_nats(x, mean, log_var):
    return 0.5 * ((x - mean) ** 2 * minigen.exp(-log_var) + log_var + math.log(2 * math.pi))


def series_loss(_):
    x = tensor(series.sample(32, g))
    mean, log_var = forecast(x[:, :-1])
    return gaussian_nats(x[:, 1:], mean, log_var).mean()


forecast = Forecast(keeping(nn.LSTM(1, 32, batch_first=True), 1.0)).to(lesson.device)
steps = lesson.pick(700, quick=100)
train(forecast, series_loss, steps, 0.01, "forecaster")
lesson.spend(steps * 32 * 60 * 3 * 2 * 4 * 32 * 33)

# %% [markdown]
# How far is it from the optimum? Subtracting two noisy averages would be blunt. The innovation is independent of all
# that came before, so for *any* forecast m
#
#     E (x_t - m)^2  =  0.0625  +  E (m - m*)^2        with m* the exact forecast
#
# and the second part we can measure without the noise. (From the third value on: m* for the first two is another.)

# %%
y = series.sample(2000, Generator(71))
exact, _ = series.predictions(y)
with minigen.no_grad():
    mean, log_var = (array(part) for part in forecast(tensor(y[:, :-1])))
excess = ((mean - exact[:, 1:]) ** 2)[:, 1:].mean()
now = ((y[:, 1:-1] - exact[:, 2:]) ** 2).mean()
least = series.innovation_variance
variance = series.autocovariance(0)[0]
lesson.table(
    ["forecast of the next value", "mean squared error"],
    [
        ["always the mean", variance],
        ["as now", least + now],
        ["the LSTM", least + excess],
        ["the best there is", least],
    ],
)
print(f"  the variance that it says itself: {np.exp(log_var[:, 10:]).mean():.4f}")
lesson.proof("squared error, one step ahead", least + excess, "", floor=(least + now, "as now"),
             optimum=(least, "innovation variance"))  # fmt: skip

# %% [markdown]
# One value ahead is a Gaussian. Further ahead there is no formula in the network; but it can be *sampled*: draw the
# next value, feed it back, draw again. A thousand such futures give the mean and the spread at every distance, and
# the world knows both exactly.


# %%
@minigen.no_grad()
def futures(x, steps, draws):
    """Draws of the `steps` values after one series x (T,): (draws, steps)."""
    path = tensor(np.repeat(x[None], draws, 0))
    for _ in range(steps):
        mean, log_var = forecast(path)
        noise = minigen.randn(draws, generator=g, device=lesson.device)
        path = minigen.cat([path, (mean[:, -1] + minigen.exp(0.5 * log_var[:, -1]) * noise).unsqueeze(1)], 1)
    return array(path[:, len(x) :])


AHEAD = 30
seen = y[0, :40]
drawn = futures(seen, AHEAD, lesson.pick(1000, quick=200))
best, spread = series.forecast(seen, AHEAD)
lesson.table(
    ["steps ahead", "mean, exact", "sampled", "standard deviation, exact", "sampled"],
    [
        [str(k), best[k - 1], drawn[:, k - 1].mean(), spread[k - 1] ** 0.5, drawn[:, k - 1].std()]
        for k in (1, 3, 10, 30)
    ],
)
with lesson.figure("forecast", "What the forecaster expects, beside the exact law.", size=(6.4, 2.9)) as axes:
    place = np.arange(40, 40 + AHEAD)
    axes.plot(np.arange(40), seen, color=COLOURS["truth"], label="seen")
    for k, path in enumerate(drawn[:4]):
        axes.plot(place, path, color=COLOURS["floor"], linewidth=0.6, label=None if k else "LSTM: four draws")
    low, high = np.quantile(drawn, [0.1, 0.9], axis=0)
    axes.fill_between(place, low, high, color=COLOURS["ours"], alpha=0.2, label="LSTM: 80% of its draws")
    axes.plot(place, drawn.mean(0), color=COLOURS["ours"], label="LSTM: their mean")
    axes.plot(place, best, "--", color=COLOURS["second"], label="exact mean")
    for sign in (-1, 1):
        axes.plot(place, best + sign * 1.2816 * spread**0.5, ":", color=COLOURS["second"], linewidth=1,
                  label="exact 80%" if sign == 1 else None)  # fmt: skip
    axes.set(xlabel="t", ylabel="x_t", xlim=(0, 70), ylim=(-3.4, 5.2))
    axes.legend(loc="upper left", ncols=2, fontsize=7)

# %% [markdown]
# ## 8. A language model that comes within 0.02 nats of the truth
#
# Now text, from a world with a long memory. It has four **moods**. A mood lasts a hundred letters on the average, and
# each has its own habits, a table of which letter follows which. The reader sees the letters only. A few letters tell
# little about the mood, many tell it well: the last four letters are not enough, and that is where counting ends.
#
# It is a hidden Markov chain (lesson 5) whose state is (mood, last letter).

# %%
lesson.section("8. A language model")

MOODS, V, LENGTH = 4, 8, 400


def moody(stay=0.99, seed=7):
    constants = Generator(seed)
    common, own = constants.normal((V, V)).astype(np.float64), constants.normal((MOODS, V, V)).astype(np.float64)
    habits = np.exp(common + own)
    habits /= habits.sum(-1, keepdims=True)  # (mood, letter now, letter next)
    change = np.full((MOODS, MOODS), (1 - stay) / (MOODS - 1))
    np.fill_diagonal(change, stay)
    transition = np.einsum("mn,nab->manb", change, habits).reshape(MOODS * V, MOODS * V)
    return worlds.HiddenMarkovText(transition, np.tile(np.eye(V), (MOODS, 1)), length=LENGTH)


world = moody()
y, z = world.sample_with_latents(lesson.pick(300, quick=120), Generator(81))  # to judge by
mood = z // V
print(f"  {world.decode(y[0, :90])}\n  {''.join(map(str, mood[0, :90]))}   (its moods, which nobody sees)")

# %% [markdown]
# The truth first. The exact p(next letter) comes from the forward pass of lesson 5, and look at its form:

# %%


def beliefs(x):
    """p(state | letters so far) at every place, (N, T, states): the best memory there can be."""
    h, kept = world.start, []
    for t in range(x.shape[1]):
        h = (h @ world.transition if t else h) * world.emission[:, x[:, t]].T
        h = h / h.sum(-1, keepdims=True)
        kept.append(h)
    return np.stack(kept, 1)


known = beliefs(y)
truth = np.log(np.take_along_axis(known[:, :-1] @ world.transition @ world.emission, y[:, 1:, None], -1))[..., 0]
same = np.log(np.take_along_axis(world.conditionals(y), y[..., None], -1))[:, 1:, 0]
print(f"  log p of every letter, by this loop and by the world: they differ by {np.abs(truth - same).max():.0e}")

# %% [markdown]
# It is a recurrent network! A state of 32 numbers, carried along, mixed by a matrix, gated by what is read. So the
# question is whether an LSTM *learns* something as good from letters alone.
#
# The floor is the best that counting can do: interpolated n-grams with Kneser-Ney smoothing, on exactly the letters
# that the network will see, in the order that does best. All are judged by the **gap**: the mean of log p(x_t) - log
# q(x_t) over the same letters. It is the KL divergence in nats a letter, and the noise that both logarithms share
# cancels.

# %%
BATCH, WINDOW = 32, lesson.pick(64, quick=32)
steps = lesson.pick(1000, quick=180)
letters = world.sample(BATCH, g, length=steps * WINDOW + 1)
grams = {n: NGram(n, V).fit(letters) for n in range(1, 8)}
gaps = {n: (truth - gram.symbol_log_prob(y)[:, 1:]).mean() for n, gram in grams.items()}
order = min(gaps, key=gaps.get)
print(
    f"  {letters.size:,} letters to learn from; the exact entropy is {-truth.mean():.4f} nats a letter on these texts"
)
lesson.table(["n-gram, n =", *map(str, gaps)], [["gap in nats", *gaps.values()]])

# %% [markdown]
# Training is section 6: windows of 64 letters, the state carried from each to the next and detached.

# %%


def detached(state):
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def language_model(net, letters, steps, what, rate=0.01, symbols=V, embedding=16, window=WINDOW):
    """Train a Reader to say the next letter of each row of `letters`, by windows. Returns it and its losses."""
    model = Reader(symbols, embedding, net).to(lesson.device)
    state = None

    def loss(step):
        nonlocal state
        piece = tensor(letters[:, step * window : (step + 1) * window + 1])
        logits, state = model(piece[:, :-1], state)
        state = detached(state)
        return F.cross_entropy(logits.reshape(-1, symbols), piece[:, 1:].reshape(-1))

    history = train(model, loss, steps, rate, what)
    lesson.spend(steps * letters.shape[0] * window * 6 * sum(p.numel() for p in net.parameters()))
    return model, history[0]


@minigen.no_grad()
def log_q(model, x):
    """log q(x_t | x before t) of every letter but the first, (N, T) -> (N, T - 1)."""
    log_p = array(F.log_softmax(model(tensor(x[:, :-1]))[0], -1))
    return np.take_along_axis(log_p, x[:, 1:, None], -1)[..., 0]


models = {}
for name, net in {
    "RNN": nn.RNN(16, 64, batch_first=True),
    "GRU": keeping(nn.GRU(16, 64, batch_first=True), 1.0),
    "LSTM": keeping(nn.LSTM(16, 64, batch_first=True), 1.0),
}.items():
    models[name], _ = language_model(net, letters, steps, name)
found = {name: truth - log_q(model, y) for name, model in models.items()}
rows = [[name, -truth.mean() + gap.mean(), gap.mean()] for name, gap in found.items()]
rows = [[f"{order}-gram", -truth.mean() + gaps[order], gaps[order]], *rows, ["the truth", -truth.mean(), 0.0]]
lesson.table(["", "nats a letter", "gap"], rows)
lesson.proof("LSTM, gap to the exact entropy", found["LSTM"].mean(), "nats a letter",
             floor=(gaps[order], f"{order}-gram, the best of 1 to 7"), optimum=(0.0, "exact"))  # fmt: skip

# %% [markdown]
# Where does the difference lie? The figure below shows the gap place by place. As long as the whole past fits into its
# window, the n-gram is at the truth, and better than any network. Then the letters that it needs drop out of the
# window, while the networks go on to learn about the mood.
#
# And *what* is in the LSTM's state? Nobody told it about moods. Fit one linear layer from h_t to the true mood, and
# compare its nats with those of the exact belief:

# %%
with minigen.no_grad():
    states = array(models["LSTM"].net(models["LSTM"].embedding(tensor(y)))[0])
half = len(y) // 2
probe = nn.Linear(64, MOODS).to(lesson.device)
learn = tensor(states[:half, ::4].reshape(-1, 64)), tensor(mood[:half, ::4].reshape(-1))
train(probe, lambda _: F.cross_entropy(probe(learn[0]), learn[1]), lesson.pick(300, quick=60), 0.05, "probe")
with minigen.no_grad():
    read_out = array(F.softmax(probe(tensor(states)), -1))
by_mood = known.reshape(*y.shape, MOODS, V).sum(-1)


def mood_nats(belief):
    return -np.log(np.take_along_axis(belief[half:], mood[half:, :, None], -1)).mean()


def mood_right(belief):
    return f"{100 * (belief[half:].argmax(-1) == mood[half:]).mean():.1f}%"


lesson.table(
    ["the mood, from the past", "nats", "right"],
    [
        ["guessing", math.log(MOODS), "25.0%"],
        ["one linear layer on the LSTM's state", mood_nats(read_out), mood_right(read_out)],
        ["the exact belief", mood_nats(by_mood), mood_right(by_mood)],
    ],
)
with lesson.figure("moods", "What the LSTM's state says about the mood, beside the exact belief.", rows=3, columns=1,
                   size=(7.0, 4.2), sharex=True) as axes:  # fmt: skip
    strip = np.eye(MOODS)[mood[-1]]
    colours = [COLOURS[name] for name in ("ours", "second", "third", "fifth")]
    titles = ["the mood (hidden)", "exact belief from the letters so far", "read out of the LSTM's state"]
    for ax, shares, title in zip(axes, (strip, by_mood[-1], read_out[-1]), titles):
        ax.stackplot(np.arange(LENGTH), shares.T, colors=colours, step="mid" if ax is axes[0] else None)
        ax.set(title=title, xlim=(0, LENGTH - 1), ylim=(0, 1), yticks=[0, 1])
    axes[2].set(xlabel="letters read")

# %%
edges = np.unique(np.round(np.geomspace(1, LENGTH, 12)).astype(int))
with lesson.figure("gap", "The gap at each place of a text.", size=(5.2, 3.0)) as axes:
    best_gram = truth - grams[order].symbol_log_prob(y)[:, 1:]
    shown = {f"{order}-gram": (best_gram, "floor"), "RNN": (found["RNN"], "second"), "GRU": (found["GRU"], "third"),
             "LSTM": (found["LSTM"], "ours")}  # fmt: skip
    for name, (gap, colour) in shown.items():
        means = [gap[:, a - 1 : b - 1].mean() for a, b in itertools.pairwise(edges)]
        axes.plot(np.sqrt(edges[:-1] * edges[1:]), means, "o-", markersize=3, color=COLOURS[colour], label=name)
    axes.axhline(0, color=COLOURS["truth"], linestyle="--", linewidth=1, label="the truth")
    axes.set(xscale="log", xlabel="letters read", ylabel="gap in nats a letter")
    axes.legend()

# %% [markdown]
# The model writes, too: draw a letter, feed it back. How good are its texts? The world can be asked for their exact
# probability.

# %%


@minigen.no_grad()
def write(model, n, length, first):
    """n texts that go on from `first` (n, k), (n, length)."""
    logits, state = model(tensor(first))
    texts = []
    for _ in range(length):
        p = array(F.softmax(logits[:, -1], -1))
        texts.append(g.categorical(p))
        logits, state = model(tensor(texts[-1][:, None]), state)
    return np.stack(texts, 1)


first = world.sample(200, g, length=1)
written = {
    "the world": world.sample(200, g, length=301),
    "the LSTM": np.concatenate([first, write(models["LSTM"], 200, 300, first)], 1),
    f"the {order}-gram": np.concatenate([first, grams[order].sample(200, 300, g, context=first)], 1),
}
rows = []
for name, texts in written.items():
    log_p = np.log(np.take_along_axis(world.conditionals(texts), texts[..., None], -1))[:, 1:, 0]
    rows.append([name, world.decode(texts[0, :44]), -log_p.mean()])
lesson.table(["written by", "a beginning", "-log p of the world"], rows)

# %% [markdown]
# ## 9. Both directions, and layers on layers
#
# A second network may read from the right, and both states stand side by side (Schuster & Paliwal 1997). Such a
# network cannot predict the next letter, as it has seen it. It is for *labelling*: which mood was it here? Looking back
# from the end one knows better. How much better is known exactly: the posterior given the letters so far, and given
# all of them.

# %%
lesson.section("9. Both directions, and layers on layers")

smoothed = world.posterior(y).reshape(*y.shape, MOODS, V).sum(-1)


def label(name, both, steps):
    """An LSTM that is taught the moods. Returns its p(mood) at every place of the texts y, (N, T, MOODS)."""
    net = keeping(nn.LSTM(16, 32, batch_first=True, bidirectional=both), 1.0)
    model, dice = Reader(V, 16, net, answers=MOODS).to(lesson.device), Generator(lesson.seed)

    def loss(_):
        x, states = world.sample_with_latents(32, dice, length=128)
        return F.cross_entropy(model(tensor(x))[0].reshape(-1, MOODS), tensor(states // V).reshape(-1))

    train(model, loss, steps, 0.02, name)
    lesson.spend(steps * 32 * 128 * 6 * sum(p.numel() for p in net.parameters()))
    with minigen.no_grad():
        return array(F.softmax(model(tensor(y))[0], -1))


steps = lesson.pick(400, quick=110)
one_way, both_ways = label("forwards", False, steps), label("both directions", True, steps)
lesson.table(
    ["the mood at each place", "nats", "right", "the exact posterior's nats"],
    [
        ["LSTM, forwards", mood_nats(one_way), mood_right(one_way), mood_nats(by_mood)],
        ["LSTM, both directions", mood_nats(both_ways), mood_right(both_ways), mood_nats(smoothed)],
    ],
)
lesson.proof("the mood, read from both sides", mood_nats(both_ways), "nats",
             floor=(mood_nats(by_mood), "the exact belief from the past"),
             optimum=(mood_nats(smoothed), "exact"))  # fmt: skip

# %% [markdown]
# The network that reads both ways beats *every* network that reads forwards only: its floor is the optimum of those.
#
# Layers are stacked in the simplest way: the states of one are the inputs of the next. That is all that `num_layers=2`
# does (and `dropout` drops between the layers, never along time).

# %%
stacked = nn.LSTM(3, 16, num_layers=2, batch_first=True).to(lesson.device)
second = [getattr(stacked, f"{name}_l1") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
with minigen.no_grad():
    lower = read(lstm_step, x, (zero, zero), weights_of(stacked))[0]
    upper = read(lstm_step, lower, (zero, zero), (second[0], second[1], second[2] + second[3]))[0]
    print(f"  two layers by hand and nn.LSTM: they differ by {np.abs(array(upper - stacked(x)[0])).max():.0e}")

# %% [markdown]
# ## 10. Real text
#
# The source of Python's standard library is on every machine. (Or take your own: `--data notes.txt`.) A few seconds of
# training, and beside it the n-grams, on the same letters:

# %%
lesson.section("10. Real text")

steps = lesson.pick(200, quick=12, full=20_000)
hidden = lesson.pick(128, quick=32, full=512)
rows_of_text, length = 32, steps * WINDOW + 1
if lesson.data:
    corpus, held_out = (text.text_file(lesson.data, part, at_least=20_000) for part in ("train", "valid"))
else:
    wanted = rows_of_text * length
    corpus, held_out = text.standard_library_text("train", wanted), text.standard_library_text("valid", 60_000)
alphabet = sorted(set(corpus))
number = {letter: i for i, letter in enumerate(alphabet)}
encode = lambda string: np.array([number.get(letter, len(alphabet)) for letter in string])  # the last: never seen
steps = min(steps, (len(corpus) // rows_of_text - 1) // WINDOW)
length = steps * WINDOW + 1
source = encode(corpus)[: rows_of_text * length].reshape(rows_of_text, length)
test = encode(held_out)
test = test[: len(test) // 500 * 500].reshape(-1, 500)
symbols = len(alphabet) + 1

counted = {n: NGram(n, symbols).fit(source).nll(test) for n in (1, 2, 3, 5, 7)}
net = keeping(nn.LSTM(32, hidden, batch_first=True), 1.0)
coder, losses = language_model(net, source, steps, "source text", 0.01, symbols, 32)
nats = -log_q(coder, test).mean()
lesson.table(
    [f"{source.size:,} letters, {symbols} symbols", "nats a letter, held out"],
    [*([f"{n}-gram", value] for n, value in counted.items()), [f"LSTM of {hidden}", nats]],
)
prompt = encode("def ")[None]
print("  " + "".join((alphabet + ["?"])[i] for i in write(coder, 1, 160, prompt)[0]).replace("\n", "\n  "))

# %% [markdown]
# Here counting wins, and by far. Source text has thousands of names and phrases that stand in it word for word; a
# 7-gram looks them up at once, and a network of this size must squeeze them into its weights by small steps. It has
# seen each letter once. This is the honest state of affairs after some seconds. (`--full` trains a larger network on
# all of the library: see who is ahead then.) Keep the n-gram beside you: many a network that was shown with pride is
# behind it.
#
# ## The engine's own
#
# `minigen.models.autoregressive.recurrent` has both models ready for use: RecurrentLM (symbols) and Forecaster
# (numbers, on any scale). The same weights give the same numbers, at once or in pieces:

# %%
lesson.section("The engine's own")

ready = library.RecurrentLM(symbols=V, embedding=16, hidden=64).to(lesson.device).eval()
with minigen.no_grad():
    for theirs, mine in zip(ready.parameters(), models["LSTM"].parameters()):
        theirs.copy_(mine)
    by_library = array(ready.log_prob(y))
    start, state = ready.step(y[:, :100])
    rest, _ = ready.step(y[:, 100:], state)
    pieces = array(minigen.cat([start, rest], 1))
    off = np.abs(pieces - array(models["LSTM"](tensor(y))[0])).max()
gap = (truth - by_library).mean()
print(f"  RecurrentLM, same weights: gap {gap:.4f} nats; in two pieces the logits differ by {off:.0e}")
fan = library.Forecaster(hidden=32).to(lesson.device).eval()
with minigen.no_grad():
    for theirs, mine in zip(fan.parameters(), forecast.parameters()):
        theirs.copy_(mine)
    some = tensor(series.sample(100, Generator(72)))
    off = np.abs(array(fan.step(some)[0][0])[..., 0] - array(forecast(some)[0])).max()
print(f"  Forecaster, same weights: means differ by {off:.0e}")

# %% [markdown]
# ## What this lesson does not show
#
# - Attention, which does not carry the past but looks at it again (lesson 8), and the transformer (lesson 25). They
#   train all places in parallel; a recurrent network needs one step after the other, but each at the same cost,
#   however long the text.
# - Recurrence in newer forms (linear state spaces, xLSTM), whose decay is a diagonal that is trained directly.
# - Better ways to choose a letter than drawing from the softmax: beam search, top-k, temperature (lesson 26).
# - A larger real text. A well-known tutorial reports 1.88 nats a letter on Shakespeare as a success, where an
#   interpolated 5-gram has 1.69.

# %%
lesson.end()
