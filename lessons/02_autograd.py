# %% [markdown]
# # 2. Automatic differentiation, and a network that learns
#
# How does a program know the slope of another program?
#
# Everything in this course learns by going downhill: compute a loss, ask how it changes with each of a million
# parameters, take a small step. The question in the middle is answered by reverse-mode automatic differentiation
# (Linnainmaa 1970; Rumelhart, Hinton & Williams 1986). We build it from nothing in sixty lines, break it, check it,
# and then use it to read handwriting.
#
# 1. three ways to a slope
# 2. reverse mode in sixty lines
# 3. why the order of the walk matters
# 4. is the gradient right?
# 5. the engine
# 6. a network by hand
# 7. optimisers, on a valley whose answer is known
# 8. real digits
#
# Run it with `python lessons/02_autograd.py`, and read this file alongside.

# %%
import heapq
import math
import time
from collections import deque

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import autograd, nn, optim, plot
from minigen.data import digits
from minigen.data.augment import random_affine
from minigen.gradcheck import worst_error
from minigen.lessons import Lesson
from minigen.plot import COLOURS

lesson = Lesson("02_autograd", uses=("device",))
g = lesson.generator

# %% [markdown]
# ## 1. Three ways to a slope
#
# The first way needs no idea at all: nudge the input and look. For small h,
#
#     f'(x) = (f(x + h) - f(x - h)) / 2h
#
# But not too small, in a computer that keeps 16 digits: f(x + h) and f(x - h) agree in most of them, and the
# difference is made of the rest. Small h, rounding; large h, curvature. Let us see how good it can get.

# %%
lesson.section("1. Three ways to a slope")

f = lambda x: np.sin(x) * np.exp(-x)
slope = lambda x: (np.cos(x) - np.sin(x)) * np.exp(-x)
steps = 10.0 ** np.arange(-13, 0.1, 0.25)
xs = np.linspace(1, 2, 201)[:, None]  # at one x alone, rounding may happen to cancel
error = np.abs((f(xs + steps) - f(xs - steps)) / (2 * steps) - slope(xs)).mean(0)
best = steps[np.argmin(error)]
print(f"  the best h is about {best:.0e}, and then the error is {error.min():.0e}: eleven digits of sixteen")

with lesson.figure("differences", "Too large a step bends, too small a step rounds.", size=(4.8, 3.0)) as axes:
    axes.loglog(steps, error)
    axes.loglog(steps, 0.1 * steps**2, "--", color=COLOURS["floor"], linewidth=1, label="h^2: curvature")
    axes.loglog(steps, 1e-17 / steps, ":", color=COLOURS["floor"], linewidth=1, label="1/h: rounding")
    axes.set(xlabel="h", ylabel="error of the slope", title="Finite differences", ylim=(1e-15, 1))
    axes.legend()

# %% [markdown]
# Eleven digits are plenty. The price is the trouble: two evaluations for each parameter. A network with a million
# parameters would need two million runs for a single step downhill. (We keep differences for checking, in section 4.)
#
# The second way is to take derivatives as at school, on paper or by a computer algebra system. The formulas of a long
# program become far longer than the program.
#
# The third is **automatic differentiation**. A program, when it runs, is a chain of additions, products,
# exponentials; each has a derivative that fits in a line; and the chain rule says how to put them together. Start at
# the end and go backwards: then *one* pass gives the slope with respect to *every* input, for about the price of two
# more evaluations (Baur & Strassen 1983).
#
# ## 2. Reverse mode in sixty lines
#
# A variable remembers its value, what it was made from, and for each of these a *rule*: if my slope is g, then what I
# was made from receives rule(g). For y = a * b:
#
#     a receives g * b,    b receives g * a
#
# If a variable is used twice, what it receives is added up. That is the multivariate chain rule, and all of it.

# %%


class Var:
    """An array that remembers how it was made."""

    made = 0

    def __init__(self, value, parents=()):
        self.value = np.asarray(value, np.float64)
        self.parents = parents  # [(variable, rule), ...]
        self.grad = None
        Var.made += 1
        self.number = Var.made  # a later variable has a larger number

    def __add__(a, b):
        b = lift(b)
        return Var(a.value + b.value, [(a, lambda g: g), (b, lambda g: g)])

    def __mul__(a, b):
        b = lift(b)
        return Var(a.value * b.value, [(a, lambda g: g * b.value), (b, lambda g: g * a.value)])

    def __matmul__(a, b):
        return Var(a.value @ b.value, [(a, lambda g: g @ b.value.T), (b, lambda g: a.value.T @ g)])

    def __neg__(a):
        return Var(-a.value, [(a, lambda g: -g)])

    def __sub__(a, b):
        return a + -lift(b)

    __radd__, __rmul__ = __add__, __mul__


def lift(x):
    return x if isinstance(x, Var) else Var(x)


def exp(a):
    y = np.exp(a.value)
    return Var(y, [(a, lambda g: g * y)])


def log(a):
    return Var(np.log(a.value), [(a, lambda g: g / a.value)])


def tanh(a):
    y = np.tanh(a.value)
    return Var(y, [(a, lambda g: g * (1 - y * y))])


def relu(a):
    return Var(np.maximum(a.value, 0), [(a, lambda g: g * (a.value > 0))])


def mean(a):
    return Var(a.value.mean(), [(a, lambda g: np.full_like(a.value, g / a.value.size))])


def unbroadcast(g, shape):
    """Add up a gradient over what NumPy had repeated, until it has the shape of the variable."""
    g = g.sum(tuple(range(g.ndim - len(shape))))
    return g.sum(tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] > 1), keepdims=True)


def backward(y):
    """Give every variable that y was made from its slope. The newest first."""
    y.grad = np.ones_like(y.value)
    waiting, known = [(-y.number, y)], {y.number}
    while waiting:
        _, v = heapq.heappop(waiting)
        for parent, rule in v.parents:
            g = unbroadcast(rule(v.grad), parent.value.shape)
            parent.grad = g if parent.grad is None else parent.grad + g
            if parent.number not in known:
                known.add(parent.number)
                heapq.heappush(waiting, (-parent.number, parent))


# %% [markdown]
# That is the whole of it. One line deserves a remark. NumPy repeats small arrays to fit large ones (a bias is added
# to every row), and what was repeated on the way forward must be added up on the way back: `unbroadcast`.
#
# A first try, on a tangle of all that we have, beside the best finite difference:

# %%
lesson.section("2. Reverse mode in sixty lines")


def tangle(x):
    a = tanh(x * 0.7) + exp(-x) * x
    return a * a + log(a * a + 1.0) * x


x = Var(1.3)
y = tangle(x)
backward(y)
nudged = (tangle(Var(1.3 + 1e-5)).value - tangle(Var(1.3 - 1e-5)).value) / 2e-5
print(f"  dy/dx by our sixty lines {x.grad:.12f}")
print(f"  by finite differences    {nudged:.12f}")

# %% [markdown]
# ## 3. Why the order of the walk matters
#
# `backward` takes the newest variable first, with a heap. Is that fuss necessary? Two walks look simpler:
#
# - **first come, first served**: a queue, as in breadth-first search
# - **every message at once**: whenever a slope arrives, pass it on to the parents, by recursion
#
# The smallest graph that tells them apart has a variable that is used both directly and through another:
#
#     a = 3 x,    b = a a,    y = a + b.        At x = 1:  dy/dx = 3 + 2 a 3 = 21

# %%
lesson.section("3. Why the order of the walk matters")


def backward_by_queue(y):
    """First come, first served."""
    y.grad = np.ones_like(y.value)
    waiting, known, visits = deque([y]), {y.number}, 0
    while waiting:
        v, visits = waiting.popleft(), visits + 1
        for parent, rule in v.parents:
            parent.grad = rule(v.grad) + (0 if parent.grad is None else parent.grad)
            if parent.number not in known:
                known.add(parent.number)
                waiting.append(parent)
    return visits


def backward_by_messages(v, g=1.0):
    """Every message is passed on at once."""
    v.grad = g + (0 if v.grad is None else v.grad)
    return 1 + sum(backward_by_messages(parent, rule(g)) for parent, rule in v.parents)


def backward_counted(y):
    """Ours; how many variables it visits."""
    before = Var.made
    backward(y)
    seen, stack = set(), [y]
    while stack:
        v = stack.pop()
        if v.number not in seen:
            seen.add(v.number)
            stack += [parent for parent, _ in v.parents]
    assert Var.made == before
    return len(seen)


rows = []
for name, walk in [
    ("newest first", backward_counted),
    ("queue", backward_by_queue),
    ("messages", backward_by_messages),
]:
    x = Var(1.0)
    a = x * 3.0
    y = a + a * a
    walk(y)
    rows.append([name, float(x.grad), "right" if x.grad == 21 else "wrong"])
lesson.table(["walk", "dy/dx", "it should be 21"], rows)

# %% [markdown]
# The queue is *wrong*. It serves `a` when the message from y is in, and passes 3 on to x; the message from b comes
# after that, too late. Nothing crashes. The network trains, a little worse, and nobody knows why.
#
# The messages are right. But count them, where every variable is used twice, x <- x + x, n times over:

# %%
counts = {"newest first": [], "messages": []}
depths = list(range(1, lesson.pick(18, quick=14) + 1))
for depth in depths:
    for name, walk in [("newest first", backward_counted), ("messages", backward_by_messages)]:
        x = Var(1.0)
        y = x
        for _ in range(depth):
            y = y + y
        counts[name].append(walk(y))
        assert x.grad == 2**depth

with lesson.figure("walks", "Passing on every message at once takes 2^n visits.", size=(4.8, 3.0)) as axes:
    axes.semilogy(
        depths, counts["messages"], "o-", markersize=4, color=COLOURS["second"], label="every message at once"
    )
    axes.semilogy(depths, counts["newest first"], "o-", markersize=4, color=COLOURS["ours"], label="newest first")
    axes.set(xlabel="n times  x <- x + x", ylabel="variables visited", title="The same slope, twice")
    axes.legend()

lesson.proof(
    f"visits for n = {depths[-1]}",
    counts["newest first"][-1],
    floor=(counts["messages"][-1], "every message at once"),
    optimum=(depths[-1] + 1, "each variable once"),
    at_most=depths[-1] + 1,
)

# %% [markdown]
# A residual network is exactly such a graph, a hundred deep. So the rule is: serve a variable only when *everything
# that used it* has been served. A variable can only be used by later ones, so "newest first" does it, with no sorting
# and no recursion.
#
# ## 4. Is the gradient right?
#
# A wrong rule seldom crashes, so every rule must be checked. Here differences are worth their price. Take a random
# direction d and compare
#
#     gradient . d     with     (f(x + h d) - f(x - h d)) / 2h
#
# in float64 with h = 1e-6: two evaluations, however many parameters there are, and a wrong gradient has no chance to
# hide in a direction that it does not know. A small network with everything in it:

# %%
lesson.section("4. Is the gradient right?")


def network_loss(w1, b1, w2):
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    hidden = tanh(Var(x) @ w1 + b1) + relu(Var(x) @ w1)
    out = hidden @ w2
    return mean(log(exp(out) + 1.0) - out * np.array([[1.0, 0.0, 1.0]]))


def check(loss, shapes, h=1e-6):
    """The relative difference between gradient and finite difference along a random direction."""
    at = [g.normal(shape).astype(np.float64) for shape in shapes]
    d = [g.normal(shape).astype(np.float64) for shape in shapes]
    variables = [Var(a) for a in at]
    backward(loss(*variables))
    ours = sum((v.grad * dv).sum() for v, dv in zip(variables, d))
    up, down = (loss(*(Var(a + s * h * dv) for a, dv in zip(at, d))).value for s in (1, -1))
    nudged = (up - down) / (2 * h)
    return abs(ours - nudged) / max(1.0, abs(ours), abs(nudged))


shapes = [(2, 5), (5,), (5, 3)]
errors = [check(network_loss, shapes) for _ in range(20)]
lesson.proof("gradient check, sixty lines", max(errors), "relative", at_most=1e-7)

# %% [markdown]
# Would it notice a mistake? A test that cannot fail proves nothing. Let us forget the square in tanh' = 1 - y^2:

# %%
right = tanh


def tanh(a):
    y = np.tanh(a.value)
    return Var(y, [(a, lambda g: g * (1 - y))])


print(f"  with a wrong rule for tanh the check says {max(check(network_loss, shapes) for _ in range(20)):.0e}")
tanh = right

# %% [markdown]
# Two things it cannot see. If the *forward* computes the wrong function, its gradient is the right gradient of the
# wrong function. And at a kink, relu at exactly 0, there is no gradient; the two sides disagree, and 0 is a
# convention.
#
# `minigen check` runs this for every op of the engine and prints the table.
#
# ## 5. The engine
#
# minigen's own engine is the same idea, with the same walk (`minigen/autograd/walk.py`). It adds what a person needs
# who works with it all day: float32, memory freed on the way, in-place writes noticed, errors that say what to write
# instead. And one thing that our sixty lines cannot do. There, a rule handles arrays, so the slope is just numbers.
# In the engine a rule can run on tensors as well, and then the slope is itself a computation that can be
# differentiated:

# %%
lesson.section("5. The engine")

x = minigen.tensor(1.3, dtype=minigen.float64, requires_grad=True)
a = (x * 0.7).tanh() + (-x).exp() * x
y = a * a + (a * a + 1.0).log() * x
print(plot.graph(y, names={"x": x}))
lesson.show(plot.graph(y, mode="figure", names={"x": x}), "graph", "What the engine recorded.")
(dy,) = autograd.grad(y, [x], create_graph=True)
(ddy,) = autograd.grad(dy, [x])
v = Var(1.3)
backward(tangle(v))
print(f"\n  dy/dx     engine {dy.item():.12f}   sixty lines {float(v.grad):.12f}")
curvature = (tangle(Var(1.301)).value - 2 * tangle(v).value + tangle(Var(1.299)).value) / 1e-6
print(f"  d2y/dx2   engine {ddy.item():.6f}         differences {float(curvature):.6f}")


def engine_loss(w1, b1, w2):
    x = minigen.tensor(np.linspace(-1, 1, 12).reshape(6, 2))
    out = ((x @ w1 + b1).tanh() + F.relu(x @ w1)) @ w2
    return (F.softplus(out) - out * minigen.tensor([1.0, 0.0, 1.0], dtype=minigen.float64)).mean()


found = [
    worst_error(
        engine_loss, [minigen.tensor(g.normal(s).astype(np.float64), requires_grad=True) for s in shapes], seed=i
    )
    for i in range(20)
]
lesson.proof("gradient check, engine", max(found), "relative", at_most=1e-7)

depth = lesson.pick(100_000, quick=10_000)
x = minigen.tensor(1.0, requires_grad=True)
started, y = time.perf_counter(), x
for _ in range(depth):
    y = y * 1.0
y.backward()
print(
    f"  a chain of {depth:,} products, there and back: {time.perf_counter() - started:.2f} s (recursion ends near 1000)"
)

# %% [markdown]
# ## 6. A network by hand
#
# A feed-forward network is products with matrices and something bent in between (Rumelhart et al. 1986):
#
#     hidden = tanh(x W1 + b1),    out = hidden W2 + b2
#
# Two spirals, one of each class, cannot be parted by a straight line. We train with our own sixty lines. The loss is
#
#     log(1 + e^out) - y out
#
# the price, in nats, of the label y under a coin with log odds `out` (lesson 1). Then a step of plain gradient
# descent, and again.

# %%
lesson.section("6. A network by hand")


def spirals(n, generator):
    y = np.arange(n) % 2
    turn = 3.0 * np.sqrt(generator.uniform((n,), dtype=np.float64))
    angle = 2.2 * turn + np.pi * y
    x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], 1) / 3
    return x + 0.03 * generator.normal((n, 2)), y[:, None].astype(float)


points, label = spirals(240, g)
H = 32
start = {
    "w1": g.normal((2, H)) * 3.0,
    "b1": g.normal((H,)) * 1.0,
    "w2": g.normal((H, H)) / math.sqrt(H),
    "b2": np.zeros(H),
    "w3": g.normal((H, 1)) / math.sqrt(H),
    "b3": np.zeros(1),
}


def by_hand(weights, x):
    hidden = tanh(Var(x) @ weights["w1"] + weights["b1"])
    hidden = tanh(hidden @ weights["w2"] + weights["b2"])
    return hidden @ weights["w3"] + weights["b3"]


values = {name: np.asarray(w, np.float64) for name, w in start.items()}
losses = []
for _ in lesson.progress(lesson.pick(600, quick=100), "two spirals"):
    weights = {name: Var(w) for name, w in values.items()}
    out = by_hand(weights, points)
    loss = mean(log(exp(out) + 1.0) - out * label)
    backward(loss)
    values = {name: w.value - 0.5 * w.grad for name, w in weights.items()}
    losses.append(float(loss.value))
correct = 100 * ((by_hand(weights, points).value > 0) == label).mean()
print(f"  after {len(losses)} steps: loss {losses[-1]:.3f}, {correct:.1f}% of the points on the right side")

# %% [markdown]
# The same in the engine is the same program; and `nn.Linear` is nothing but x W' + b with W and b inside. (It keeps W
# as (outputs, inputs), as PyTorch does.) Same weights, same slopes:

# %%


class Net(nn.Module):
    def __init__(self):
        self.first, self.second, self.out = nn.Linear(2, H), nn.Linear(H, H), nn.Linear(H, 1)

    def forward(self, x):
        return self.out(self.second(self.first(x).tanh()).tanh())


net = Net().double()
net.load_state_dict(
    {
        f"{layer}.{part}": minigen.tensor(np.asarray(start[f"{part[0]}{i}"], np.float64).T)
        for i, layer in enumerate(["first", "second", "out"], 1)
        for part in ("weight", "bias")
    }
)
F.binary_cross_entropy_with_logits(net(minigen.tensor(points)), minigen.tensor(label)).backward()
weights = {name: Var(w) for name, w in start.items()}
out = by_hand(weights, points)
backward(mean(log(exp(out) + 1.0) - out * label))
difference = np.abs(net.second.weight.grad.numpy().T - weights["w2"].grad).max()
print(f"  the slope of W2, by hand and by nn.Linear, differs by {difference:.0e}")

span = np.linspace(-1.25, 1.25, 121)
plane = np.stack(np.meshgrid(span, span), -1).reshape(-1, 2)
weights = {name: Var(w) for name, w in values.items()}
belief = 1 / (1 + np.exp(-by_hand(weights, plane).value.reshape(121, 121)))
with lesson.figure("spirals", "Bent once, bent twice: enough for a spiral.", columns=2, size=(8.0, 3.4)) as axes:
    axes[0].contourf(span, span, belief, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.5)
    axes[0].contour(span, span, belief, levels=[0.5], colors=COLOURS["truth"], linewidths=1)
    for c, colour in ((0, "ours"), (1, "second")):
        axes[0].scatter(*points[label[:, 0] == c].T, s=7, color=COLOURS[colour])
    axes[0].set(title="What the network believes", aspect="equal")
    axes[1].semilogy(losses)
    axes[1].set(xlabel="step", ylabel="loss  [nats]", title="Gradient descent")

# %% [markdown]
# **How large should the first weights be?** Send noise through 20 layers of 200 units and watch its size. A layer
# multiplies the variance by (inputs) x (variance of a weight), and relu halves it. So with weights of variance 2 /
# inputs nothing grows or dies (He et al. 2015); with anything else the signal is gone, or has exploded, before it
# reaches the end. The slopes on their way back suffer the same.

# %%
layers, width = 20, 200
sizes = {}
for name, scale in [("1 / inputs", 1.0), ("2 / inputs (He)", 2.0), ("4 / inputs", 4.0)]:
    signal, sizes[name] = g.normal((500, width)), []
    for _ in range(layers):
        signal = np.maximum(signal @ (g.normal((width, width)) * math.sqrt(scale / width)), 0)
        sizes[name].append(math.sqrt((signal**2).mean()))
lesson.table(
    ["variance of a weight", "layer 1", "layer 10", "layer 20"],
    [[name, size[0], size[9], size[19]] for name, size in sizes.items()],
)

# %% [markdown]
# ## 7. Optimisers, on a valley whose answer is known
#
# Downhill is not straight to the bottom. The plainest difficult landscape is a valley, steep across and flat along:
#
#     f(x, y) = 1/2 (x^2 + k y^2),        k = 50
#
# **Gradient descent.** x <- x - rate * slope. Along an axis of curvature c each step multiplies the distance by (1 -
# rate c). The steep axis allows no rate above 2/k; the flat one wants more. The best compromise shrinks the distance
# by (k-1)/(k+1) a step: 0.961, so 58 steps for one digit.
#
# **Momentum** (Polyak 1964). Let the step have inertia: v <- beta v - rate * slope, x <- x + v. Across the valley the
# pushes cancel, along it they add up. At its best it shrinks by (sqrt(k)-1)/(sqrt(k)+1) a step: 0.752, 8 steps for a
# digit. A hundred times worse a valley costs ten times the steps, not a hundred.
#
# **Adam** (Kingma & Ba 2014). Keep a mean m of the slopes and a mean v of their squares, and step by m / sqrt(v):
# every parameter gets a scale of its own. Both means start from 0 and are too small at first, by 1 - beta^t; dividing
# by that repairs it.

# %%
lesson.section("7. Optimisers, on a valley whose answer is known")

K = 50.0
curvature = np.array([1.0, K])
origin = np.array([-4.0, 0.6])


def descend(x, rate, steps):
    path = [x]
    for _ in range(steps):
        path.append(path[-1] - rate * curvature * path[-1])
    return np.array(path)


def momentum(x, rate, beta, steps):
    path, v = [x], np.zeros(2)
    for _ in range(steps):
        v = beta * v - rate * curvature * path[-1]
        path.append(path[-1] + v)
    return np.array(path)


def adam(x, rate, steps, beta1=0.9, beta2=0.999, eps=1e-8):
    path, m, v = [x], np.zeros(2), np.zeros(2)
    for t in range(1, steps + 1):
        slope = curvature * path[-1]
        m = beta1 * m + (1 - beta1) * slope
        v = beta2 * v + (1 - beta2) * slope**2
        step = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        path.append(path[-1] - rate * step)
    return np.array(path)


root = math.sqrt(K)
paths = {
    "gradient descent": descend(origin, 2 / (1 + K), 200),
    "momentum": momentum(origin, (2 / (1 + root)) ** 2, ((root - 1) / (root + 1)) ** 2, 200),
    "Adam": adam(origin, 0.3, 200),
}


def shrinkage(path, first=40, last=100):
    """By how much a step shrinks the distance, on average over steps first to last."""
    distance = np.linalg.norm(path, axis=1)
    return (distance[last] / distance[first]) ** (1 / (last - first))


closed_form = origin * (1 - 2 / (1 + K) * curvature) ** np.arange(201)[:, None]
print(f"  gradient descent, off from x (1 - rate c)^t by {np.abs(paths['gradient descent'] - closed_form).max():.0e}")
lesson.proof(
    "momentum, shrinkage a step",
    shrinkage(paths["momentum"]),
    floor=(shrinkage(paths["gradient descent"]), "gradient descent"),
    optimum=((root - 1) / (root + 1), "theory"),
)

# %% [markdown]
# The engine's optimisers are these formulas over one flat array. The same paths:

# %%


def engine_path(make, steps=200):
    x = minigen.tensor(origin, requires_grad=True)
    optimizer, path = make([x]), [origin]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (minigen.tensor(curvature) * x * x).sum()).backward()
        optimizer.step()
        path.append(x.detach().numpy().copy())
    return np.array(path)


same = {
    "gradient descent": engine_path(lambda p: optim.SGD(p, lr=2 / (1 + K))),
    "momentum": engine_path(lambda p: optim.SGD(p, lr=(2 / (1 + root)) ** 2, momentum=((root - 1) / (root + 1)) ** 2)),
    "Adam": engine_path(lambda p: optim.Adam(p, lr=0.3)),
}
worst = max(np.abs(same[name] - paths[name]).max() for name in paths)
lesson.proof("paths of minigen.optim", worst, "off by", at_most=1e-12)

with lesson.figure("optimisers", "The valley, and how fast each comes down.", columns=2, size=(8.4, 3.2)) as axes:
    a, b = np.meshgrid(np.linspace(-4.6, 2.6, 200), np.linspace(-2.6, 2.6, 200))
    axes[0].contour(a, b, np.sqrt(a**2 + K * b**2), levels=12, colors="#cccccc", linewidths=0.8)
    for (name, path), colour in zip(paths.items(), ("second", "ours", "third")):
        axes[0].plot(*path[:60].T, "o-", markersize=2.5, linewidth=1, color=COLOURS[colour], label=name)
        axes[1].semilogy(np.linalg.norm(path, axis=1), color=COLOURS[colour], label=name)
    axes[0].set(title="The first 60 steps", ylim=(-2.6, 2.6), xlim=(-4.6, 2.6))
    axes[1].set(xlabel="step", ylabel="distance from the bottom", title="How far from the bottom", ylim=(1e-12, 20))
    axes[1].legend()

# %% [markdown]
# Adam circles: its step is about as long as the rate, whatever the slope, so it needs a falling rate to settle. It
# earns its keep elsewhere, where curvatures differ by thousands and slopes are noisy. We use it with a rate that
# falls like a cosine.
#
# ## 8. Real digits
#
# 64 pixels in, ten scores out, two hidden layers of 256. The loss is -log of the probability of the right digit. It
# will learn its 1350 training pictures by heart. The question is what it makes of new ones. Two remedies:
#
# **Dropout** (Srivastava et al. 2014): in each step switch off a random part of the hidden units, so that no unit can
# rely on another. What remains is divided by the share that is kept, so that the sum stays the same on average, and
# at test time nothing needs to be done:

# %%
lesson.section("8. Real digits")


def dropout(x, p, generator):
    keep = generator.uniform(x.shape) >= p
    return x * keep / (1 - p)


x = np.array([1.0, 2.0, 3.0])
times = lesson.pick(20_000, quick=2_000)
dropped = np.mean([dropout(x, 0.3, g) for _ in range(times)], axis=0)
print(f"  the mean of {times:,} dropouts of [1, 2, 3] is {np.array2string(dropped, precision=2)}")

# %% [markdown]
# **Augmentation**: a three that is turned by five degrees is still a three. Every picture is turned, slanted, scaled
# and moved a little each time it is used, differently each time: `data.augment.random_affine`.
#
# How we test matters as much. Thirteen people wrote these digits. The file does not say who wrote which, but what
# stands together in it looks alike. So there are two fair questions:
#
# - **shuffled**: three quarters drawn at random to learn from, the rest to test. New digits, mostly by hands that
#   were seen.
# - **in file order**: the first 1350 of the file to learn from, the last 447 to test. This is harder, and nearer to
#   life: those who use what you trained are not those who wrote your data.

# %%

images, numbers = digits("all")
SPLITS = {"shuffled": g.permutation(len(images)), "file order": np.arange(len(images))}


def mlp(p):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 256),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(256, 10),
    )


def train(net, images, numbers, epochs, rate, augment, what):
    """Adam with a rate that falls like a cosine; batches of 50. Returns the share of correct answers by step."""
    net.to(lesson.device).train()
    steps = epochs * (len(images) // 50)
    optimizer = optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    rows = np.concatenate([g.permutation(len(images)) for _ in range(epochs + 1)])
    for step in (bar := lesson.progress(steps, what)):
        batch = rows[50 * step : 50 * step + 50]
        x = random_affine(images[batch], g) if augment else images[batch]
        optimizer.zero_grad()
        x, y = (minigen.tensor(a, device=lesson.device) for a in (x, numbers[batch]))
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"{loss.item():.3f} nats", refresh=False)
    lesson.spend(3 * steps * 50 * 2 * sum(p.numel() for p in net.parameters() if p.ndim > 1))
    return net.eval()


@minigen.no_grad()
def guesses(net, images):
    return net(minigen.tensor(images, device=lesson.device)).argmax(1).cpu().numpy()


def correct(net, images, numbers):
    return 100 * float((guesses(net, images) == numbers).mean())


def nearest(images, numbers, tests):
    """The label of the nearest training picture."""
    a, b = images.reshape(len(images), -1), tests.reshape(len(tests), -1)
    return numbers[((b**2).sum(1)[:, None] - 2 * b @ a.T + (a**2).sum(1)).argmin(1)]


epochs = lesson.pick(60, quick=3)
rows, nets = [], {}
for name, net, augment in [
    ("linear (logistic regression)", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), False),
    ("network", lambda: mlp(0.0), False),
    ("network, dropout", lambda: mlp(0.3), False),
    ("network, dropout, augmentation", lambda: mlp(0.2), True),
]:
    found = []
    for split, index in SPLITS.items():
        learn, test = index[:1350], index[1350:]
        made = train(net(), images[learn], numbers[learn], epochs, 2e-3, augment, f"{name}, {split}")
        found += [correct(made, images[learn], numbers[learn]), correct(made, images[test], numbers[test])]
        nets[name, split] = made
    rows.append([name, found[0], found[1], found[3]])
near = [
    100 * (nearest(images[i[:1350]], numbers[i[:1350]], images[i[1350:]]) == numbers[i[1350:]]).mean()
    for i in SPLITS.values()
]
rows.append(["the nearest training picture", 100.0, *near])
lesson.table(["correct [%]", "on its own", "shuffled", "file order"], rows)

# %% [markdown]
# The plain network knows its own pictures perfectly, and by heart. Dropout alone does little for it here.
# Augmentation does much, most of all at the end of the file, where hands are new: it says what may change without
# changing the digit. And the honest last line: for pictures as small and as neatly centred as these, looking for the
# nearest one known is hard to beat. What the network does not know is that pixels have neighbours. That is lesson 6.

# %% [markdown]
# 447 digits are a small test: three mistakes more or less are nearly a percent. So for the number that counts, every
# digit takes its turn: four networks, each tested on the quarter that it has not seen.

# %%
quarters = np.array_split(SPLITS["shuffled"], 4)
right = 0.0
for i, test in enumerate(quarters):
    learn = np.concatenate(quarters[:i] + quarters[i + 1 :])
    net = train(mlp(0.2), images[learn], numbers[learn], epochs, 2e-3, True, f"quarter {i + 1} of 4")
    right += correct(net, images[test], numbers[test]) * len(test) / len(images)

linear, ours = rows[0], rows[3]
goal = None if lesson.quick else 97.0
lesson.proof("digits, shuffled", right, "%", floor=(linear[2], "linear"), at_least=goal)
lesson.proof("digits, file order", ours[3], "%", floor=(linear[3], "linear"))

net = nets["network, dropout, augmentation", "file order"]
said = guesses(net, images[1350:])
wrong = np.flatnonzero(said != numbers[1350:])[:24]
if len(wrong):
    show = np.stack([images[1350 + i, 0] for i in wrong])
    lesson.images("mistakes", "What it got wrong, at the end of the file.", show, columns=12, rows=2)
    print("  said    " + " ".join(map(str, said[wrong])) + "\n  it was  " + " ".join(map(str, numbers[1350:][wrong])))

# %% [markdown]
# ## What this lesson does not show
#
# - Forward mode, which goes with the program instead of against it. It is the better one when there are few inputs
#   and many outputs; a loss is the opposite.
# - How the engine saves memory on long programs (`autograd.checkpoint` computes again what it would have had to
#   keep).
# - Why large networks generalise as well as they do. Nobody knows it well.
#
# Where next: lesson 3 makes the arithmetic fast; lesson 6 gives the network eyes.

# %%
lesson.end()
