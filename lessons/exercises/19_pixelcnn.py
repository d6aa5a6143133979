# %% [markdown]
# # Exercises for lesson 19
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/19_pixelcnn.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/19_pixelcnn.py`.

# %%
import numpy as np

import minigen
from minigen import optim
from minigen.data import worlds
from minigen.lessons import Wrong, close, exercise
from minigen.models.autoregressive.pixelcnn import PixelCNN
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. The mask for colours
#
# With three colours a pixel is predicted red first, then green given red, then blue given both. The channels of each
# layer are shared out among the colours in equal parts, in order (of six channels, two for each). At the pixel itself,
# under mask A an output channel sees the input channels of *earlier* colours, under mask B of its own colour as well.
# Give the mask of the middle tap.

# %%


def middle_tap(inputs, outputs, colours, kind):
    """0 and 1: which of `inputs` channels each of `outputs` channels sees at the pixel itself, (outputs, inputs)."""
    raise NotImplementedError


@exercise(1, middle_tap, hint="channel i of n has the colour i * colours // n; compare the two colours with < or <=")
def check(answer):
    "The mask for colours"
    a = np.asarray(answer(3, 6, 3, "A"))
    close(a, [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]], "3 to 6 channels, mask A", 0)
    close(answer(6, 3, 3, "B"), [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1] * 6], "6 to 3 channels, mask B", 0)
    close(answer(4, 2, 1, "A"), np.zeros((2, 4)), "one colour, mask A", 0)
    whole = (
        np.asarray(answer(9, 3, 3, "B"), int)
        @ np.asarray(answer(9, 9, 3, "B"), int)
        @ np.asarray(answer(3, 9, 3, "A"), int)
    )
    if np.triu(whole).any() or not np.tril(whole, -1)[np.tril_indices(3, -1)].all():
        raise Wrong("through three layers (A, B, B) blue must see red and green, green must see red, and no more")
    print(f"  through three layers, paths from each colour (across) to each (down):\n{whole}")


# %% [markdown]
# ## 2. How much is out of sight?
#
# Masked 3x3 convolutions, as many as you like, on an endless picture: each layer lets the view go up a row and to the
# right by at most one pixel. How many of the pixels in the `rows` rows above, and at most `right` columns to the right,
# are never seen?

# %%


def out_of_sight(rows, right):
    """How many of the pixels (1 ... rows above) x (1 ... right to the right) no depth can reach."""
    raise NotImplementedError


@exercise(2, out_of_sight, hint="r rows up, r columns to the right can be seen, and right - r of them cannot")
def check_blind(answer):
    "How much is out of sight?"
    for rows, right in [(1, 1), (1, 5), (3, 5), (6, 4), (10, 10)]:
        seen = np.zeros((rows + 1, right + 1), bool)
        seen[0, 0] = True
        for _ in range(rows + right):  # one more layer: the taps of the mask, (0, 0), (0, -1), (1, -1), (1, 0), (1, 1)
            step = seen.copy()
            step[:, :-1] |= seen[:, 1:]
            for shift in (-1, 0, 1):
                moved = np.roll(seen[:-1], shift, 1)
                moved[:, (0 if shift == 1 else -1)] &= shift == 0
                step[1:] |= moved
            seen = step
        close(answer(rows, right), int((~seen[1:, 1:]).sum()), f"{rows} rows, {right} columns", 1e-9)
    share = answer(100, 100) / 100**2
    print(f"  of 100 x 100 pixels above and to the right, {share:.0%} are out of sight")


# %% [markdown]
# ## 3. A level's mass, without loss
#
# Give log(sigmoid(a) - sigmoid(b)) for a > b, right in float32 however large or small a and b are. Use only operations
# that work on tensors (`F.logsigmoid`, `minigen.expm1`, `minigen.log`), so that a gradient can flow.

# %%


def log_difference(a, b):
    """Tensors a > b of the same shape -> log(sigmoid(a) - sigmoid(b))."""
    raise NotImplementedError


@exercise(
    3, log_difference, hint="sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)); 1 - e^t is -expm1(t)"
)
def check_difference(answer):
    "A level's mass, without loss"
    b = np.array([-60.0, -20.0, -3.0, 0.0, 2.0, 15.0, 18.0, 50.0])
    a = b + np.array([1e-3, 2.0, 1e-4, 0.5, 30.0, 0.01, 1.0, 2.0])
    a_, b_ = np.where(b > 0, -b, a), np.where(b > 0, -a, b)  # the same difference, where no sigmoid is near 1
    right = np.log(1 / (1 + np.exp(-a_)) - 1 / (1 + np.exp(-b_)))
    close(answer(minigen.tensor(a), minigen.tensor(b)), right, "in float64", 1e-9)
    a32, width = minigen.tensor(a.astype(np.float32), requires_grad=True), (a - b).astype(np.float32)
    found = answer(a32, a32 - minigen.tensor(width))
    with np.errstate(divide="ignore"):
        plain = np.log(1 / (1 + np.exp(-a.astype(np.float32))) - 1 / (1 + np.exp(-b.astype(np.float32))))
    close(found, right, "in float32", 2e-3)
    found.sum().backward()
    if not np.isfinite(a32.grad.numpy()).all():
        raise Wrong("the gradient is not finite")
    print("  b              " + " ".join(f"{t:8.0f}" for t in b))
    print("  plain, float32 " + " ".join(f"{t:8.3f}" for t in plain))
    print("  yours, float32 " + " ".join(f"{t:8.3f}" for t in found.detach().numpy()))


# %% [markdown]
# ## 4. Break it and see: bins twice as wide
#
# The levels 0 ... 255, scaled to -1 ... 1, lie 2/255 apart, so the half width of a bin is 1/255. A common slip is
# 2/255 (or 1/127.5, which is the same). Write the masses of all levels under one logistic, for any half width. The
# check fits a mean and a scale to the same data with both, and prints the nats that each believes in.

# %%


def masses(mean, log_scale, half, levels=256):
    """The probability of each level under one logistic, with the two end bins open: a tensor (levels,)."""
    raise NotImplementedError


@exercise(
    4, masses, hint="sigmoid((x + half - mean) / s) - sigmoid((x - half - mean) / s); the last upper edge gives 1"
)
def check_width(answer):
    "Break it and see: bins twice as wide"
    number = lambda value: minigen.tensor(np.float64(value), requires_grad=True)
    grid = np.arange(256) * (2 / 255) - 1
    cdf = lambda t: 1 / (1 + np.exp(-t))
    for mean, log_scale in [(0.1, -2.0), (-1.2, -1.5)]:
        edges = cdf((grid[:-1] + 1 / 255 - mean) / np.exp(log_scale))
        right = np.diff(np.concatenate([[0], edges, [1]]))
        close(answer(number(mean), number(log_scale), 1 / 255), right, f"mean {mean}", 1e-9)
    counts = np.bincount(np.clip(np.rint(127 + 20 * numbers(2000)), 0, 255).astype(int), minlength=256)
    share = minigen.tensor(counts / counts.sum())
    for half, name in [(1 / 255, "1/255"), (2 / 255, "2/255")]:
        mean, log_scale = number(0.0), number(-2.0)
        optimizer = optim.Adam([mean, log_scale], lr=0.02)
        for _ in range(300):
            optimizer.zero_grad()
            p = answer(mean, log_scale, half)
            nll = -(share * minigen.log(p.clamp(min=1e-12))).sum()
            nll.backward()
            optimizer.step()
        print(f"  half width {name}: {nll.item():.3f} nats a pixel, and the masses add up to {p.sum().item():.3f}")
    print("  0.69 nats a pixel better (one bit!), and nothing was learned: add up your probabilities")


# %% [markdown]
# ## 5. Break it and see: all pixels at once
#
# Training computes all pixels in one pass. Why not draw them in one pass, too? Write both: `together` draws every pixel
# from the probabilities that the network gives for an empty picture; otherwise pixel by pixel, in the order of reading.

# %%


def draw(logits, x, generator, together):
    """Fill in x (N, 1, H, W), a NumPy array of zeros, by draws, and return it.

    logits   a function: pictures (N, 1, H, W) as an array -> the logit of each pixel, an array of the same shape
    """
    raise NotImplementedError


@exercise(5, draw, hint="for every i, j: p = 1 / (1 + exp(-logits(x)[:, 0, i, j])), then x[:, 0, i, j] = uniform < p")
def check_draw(answer):
    "Break it and see: all pixels at once"
    copy = lambda x: np.concatenate(
        [np.zeros((len(x), 1, 3, 1)), 60 * x[..., :-1] - 30], -1
    )  # each as the one before it
    for together in (False, True):
        x = answer(copy, np.zeros((400, 1, 3, 4)), Generator(0), together)
        close(np.asarray(x).max(), 1.0, "the largest value", 0)
        rows = x[:, 0].reshape(-1, 4)
        if not together and not (rows == rows[:, :1]).all():
            raise Wrong("pixel by pixel, each must be drawn given those already drawn")
        if together and not ((rows[:, 1:] == 0).all() and 0.4 < rows[:, 0].mean() < 0.6):
            raise Wrong("together, every pixel is drawn from what the network says of the empty picture")
    world, g = worlds.Sprites(8, radii=(2,), places=4), Generator(0)
    minigen.manual_seed(0)
    net = PixelCNN(shape=(1, 8, 8), channels=24, layers=3, first_kernel=5)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    for _ in range(250):
        optimizer.zero_grad()
        net(minigen.tensor(world.sample(32, g))).backward()
        optimizer.step()
    with minigen.no_grad():
        logits = lambda x: net.logits(minigen.tensor(x.astype(np.float32))).numpy()
        for together in (False, True):
            x = answer(logits, np.zeros((200, 1, 8, 8)), g, together)
            name = "all at once" if together else "pixel by pixel"
            print(f"  {name:15} ink in {x.mean():.0%} of the pixels, {world.count_modes(x).on_mode:.0%} are sprites")
    print(f"  the world       ink in {world.sample(500, g).mean():.0%} of the pixels")
    print("  one pass gives the factors for the picture that it was shown, and nobody had drawn anything yet")
