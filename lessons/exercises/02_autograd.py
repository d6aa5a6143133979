# %% [markdown]
# # Exercises for lesson 2
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/02_autograd.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/02_autograd.py`.

# %%
import numpy as np

from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


def slope(f, x, h=1e-6):
    """d f(x).sum() / dx by central differences, for f that works element by element."""
    return (f(x + h) - f(x - h)) / (2 * h)


# %% [markdown]
# ## 1. Two rules more
#
# Our sixty lines cannot divide, and have no sigmoid. Write the rules: what do the arguments receive when the result's
# slope is g? For the sigmoid, use its value y = 1 / (1 + e^-x), which the forward has computed anyway.

# %%


def division_and_sigmoid_rules(g, a, b, y):
    """What a and b receive from a / b, and x from y = sigmoid(x), all given g: a tuple of three arrays."""
    raise NotImplementedError


@exercise(1, division_and_sigmoid_rules, hint="d(a/b)/da = 1/b, d(a/b)/db = -a/b^2, dy/dx = y (1 - y)")
def check(answer):
    "Two rules more"
    g, a, b = numbers(5), numbers(5, seed=1), 2 + numbers(5, seed=2) ** 2
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    to_a, to_b, to_x = answer(g, a, b, sigmoid(a))
    close(to_a, g * slope(lambda a: a / b, a), "a / b, to a", 1e-6)
    close(to_b, g * slope(lambda b: a / b, b), "a / b, to b", 1e-6)
    close(to_x, g * slope(sigmoid, a), "sigmoid", 1e-6)


# %% [markdown]
# ## 2. What was repeated must be added up
#
# NumPy repeats a (3, 1) or a (4,) to fit a (2, 3, 4). On the way back the gradient has the shape (2, 3, 4), and must
# be added up to the shape that the argument had. Write it without looking at the lesson.

# %%


def unbroadcast(g, shape):
    """The gradient g, added up to `shape`, which NumPy had broadcast to g.shape."""
    raise NotImplementedError


@exercise(2, unbroadcast, hint="first the axes in front that are too many, then those where the shape says 1")
def check_unbroadcast(answer):
    "What was repeated must be added up"
    g = numbers(2, 3, 4)
    close(answer(g, (2, 3, 4)), g, "to the same shape")
    close(answer(g, (4,)), g.sum((0, 1)), "to (4,)")
    close(answer(g, (3, 1)), g.sum((0, 2))[:, None], "to (3, 1)")
    close(answer(g, (2, 1, 4)), g.sum(1, keepdims=True), "to (2, 1, 4)")
    close(answer(g, ()), g.sum(), "to a number")
    close(answer(numbers(1, 4), (1, 4)), numbers(1, 4), "an axis of 1 that was always 1")


# %% [markdown]
# ## 3. An order without numbers
#
# The heap needs variables to be numbered. Suppose they are not: a graph is a dict that gives each node the list of
# nodes it was made from. Return all the nodes that `last` was made from, itself first, so that each comes after
# *everything that used it*. The graph may be 100,000 deep, so no recursion.

# %%


def order_of_the_walk(parents, last):
    """A list of nodes, `last` first, each after all of its users. parents: {node: [node, ...]}."""
    raise NotImplementedError


@exercise(3, order_of_the_walk, hint="count each node's users among those reached; serve a node when its count is 0")
def check_order(answer):
    "An order without numbers"

    def right(parents, last, name):
        order = answer(parents, last)
        if order is None:
            raise Wrong(f"{name}: the answer is None")
        order = list(order)
        place = {node: i for i, node in enumerate(order)}
        if len(place) != len(order):
            raise Wrong(f"{name}: a node comes twice")
        reached, stack = set(), [last]
        while stack:
            node = stack.pop()
            if node not in reached:
                reached.add(node)
                stack += parents.get(node, [])
        if set(place) != reached:
            raise Wrong(f"{name}: the nodes should be those that {last!r} was made from, and no others")
        for node in order:
            for parent in parents.get(node, []):
                if place[parent] < place[node]:
                    raise Wrong(f"{name}: {parent!r} comes before {node!r}, which used it")

    right({"y": ["a", "b"], "b": ["a", "a"], "a": ["x"]}, "y", "the graph of the lesson")
    right({"y": ["b", "a"], "b": ["a"], "a": ["x"], "z": ["a"]}, "y", "with a node that y does not need")
    right({i: [i - 1, i - 1] for i in range(1, 40)}, 39, "x <- x + x, 39 times")
    right({i: [i - 1] for i in range(1, 100_000)}, 99_999, "a chain of 100,000")


# %% [markdown]
# ## 4. Break it and see: Adam without its correction
#
# Write one step of Adam, with the division by 1 - beta^t only if `corrected`. The check runs both down a slope of
# exactly 1, where a correct Adam takes steps of exactly `rate`. What do you expect of the other, at first and later?

# %%


def adam_step(x, slope, m, v, t, rate, corrected=True, beta1=0.9, beta2=0.999, eps=1e-8):
    """One step, t = 1 for the first: returns the new (x, m, v)."""
    raise NotImplementedError


@exercise(
    4, adam_step, hint="m <- b1 m + (1-b1) slope; v <- b2 v + (1-b2) slope^2; then divide them by 1 - b1^t, 1 - b2^t"
)
def check_adam(answer):
    "Break it and see: Adam without its correction"
    steps = {}
    for corrected in (True, False):
        x, m, v, steps[corrected] = 0.0, 0.0, 0.0, []
        for t in range(1, 3001):
            before = x
            found = answer(x, 1.0, m, v, t, 0.01, corrected)
            if found is None:
                raise Wrong("the answer is None")
            x, m, v = found
            steps[corrected].append(before - x)
    close(steps[True], np.full(3000, 0.01), "the steps of a correct Adam", 1e-6)
    t = np.arange(1, 3001)
    close(steps[False], 0.01 * (1 - 0.9**t) / np.sqrt(1 - 0.999**t), "the steps without correction", 1e-4)
    print("  step          " + "".join(f"{i:9d}" for i in (1, 2, 10, 30, 100, 1000, 3000)))
    for corrected, name in ((True, "corrected"), (False, "uncorrected")):
        print(f"  {name:12}  " + "".join(f"{steps[corrected][i - 1]:9.4f}" for i in (1, 2, 10, 30, 100, 1000, 3000)))
    print("  three times too long at once, six times after ten steps: v, the slower mean, is what is missing")


# %% [markdown]
# ## 5. Dropout that needs nothing at test time
#
# Write dropout for training: `u` are uniform random numbers of x's shape; a value is dropped where u < p. The mean
# over many masks must be x, so that at test time nothing needs to be done. Give also what x receives on the way back.

# %%


def dropout_and_its_gradient(x, u, p, g):
    """(y, what x receives when y's slope is g), each of x's shape."""
    raise NotImplementedError


@exercise(
    5, dropout_and_its_gradient, hint="what remains is divided by the share that is kept, 1 - p; the gradient too"
)
def check_dropout(answer):
    "Dropout that needs nothing at test time"
    random, x = Generator(0), 1 + numbers(4) ** 2
    u, g = random.uniform((50_000, 4)), numbers(50_000, 4, seed=3)
    for p in (0.1, 0.5, 0.9):
        y, back = answer(np.broadcast_to(x, u.shape), u, p, g)
        share = float((np.asarray(y) == 0).mean())
        if abs(share - p) > 0.01:
            raise Wrong(f"p = {p}: a share of {share:.2f} is dropped")
        close(np.asarray(y).mean(0), x, f"p = {p}: the mean of many dropouts", 0.05)
        close(back, g * np.asarray(y) / x, f"p = {p}: the gradient", 1e-9)
