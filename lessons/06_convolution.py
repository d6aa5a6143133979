# %% [markdown]
# # 6. Convolution
#
# What does a network gain when it knows that pixels have neighbours?
#
# The networks of lesson 2 see a picture as a list of numbers. Put its pixels in any other order, the same for all
# pictures, and they learn just as well, or as badly. But a picture is more than a list: near pixels belong together,
# and a stroke is the same stroke wherever it stands. Convolution builds these two facts in (Fukushima 1980; LeCun et
# al. 1989). We take it apart:
#
# 1. why share weights?
# 2. convolution, in loops and as one product
# 3. its gradient is the transposed convolution
# 4. pooling
# 5. what moves when the picture moves
# 6. normalisation
# 7. real digits
#
# You need lesson 2 (gradients, nn.Linear, Adam, dropout). Run it with `python lessons/06_convolution.py`.

# %%
import copy
import time

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import nn, optim
from minigen.data import digits
from minigen.data.augment import random_affine
from minigen.lessons import Lesson
from minigen.plot import COLOURS, show_image, tile

lesson = Lesson("06_convolution", uses=("device",))
g = lesson.generator


def tensor(array):
    return minigen.tensor(np.asarray(array, np.float32), device=lesson.device)


def array(x):
    return x.detach().cpu().numpy()


def random(*shape):
    """Normal numbers in float64: where we compare, rounding should not be in the way."""
    return g.normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. Why share weights?
#
# A dense layer has a weight for every pair of an input and an output. A convolution looks at a small window, and has
# *the same* few weights wherever the window stands. With a window of 3x3, C channels (maps) in and O out, that is 9 C
# O weights, whatever the size of the picture:

# %%
lesson.section("1. Why share weights?")

rows = []
for name, side, c, o in [
    ("a digit, 8x8, 1 map to 32", 8, 1, 32),
    ("a letter, 28x28, 1 map to 32", 28, 1, 32),
    ("a photograph, 224x224, 3 maps to 64", 224, 3, 64),
]:
    rows.append([name, f"{side**4 * c * o:,}", f"{9 * c * o:,}"])
lesson.table(["a layer that keeps the size", "weights, dense", "3x3 convolution"], rows)

# %% [markdown]
# But which sharing is right? There is no choice. Say only what we want: if the picture moves, the result moves with
# it, and nothing else changes. With S for "move by one",
#
#     A S x = S A x   for every x            (shift equivariance: Fukushima 1980; LeCun et al. 1998, section II.A)
#
# If A is linear, this makes it a convolution. Column p of A is what A does to a single bright pixel at p, and that
# must be what it does to a pixel at 0, moved by p. So all columns are the first one, moved: one kernel, shared.
#
# See it happen. Take any 12x12 matrix (on a ring, where moving is easy), and average it over all positions, so that
# no position is special:

# %%
n = 12
dense = random(n, n)
move = np.roll(np.eye(n), 1, axis=0)  # move @ x is x, moved by one
powers = [np.linalg.matrix_power(move, k) for k in range(n)]
fair = sum(s.T @ dense @ s for s in powers) / n
off = lambda a: np.abs(a @ move - move @ a).max()
same = max(np.abs(fair[:, p] - np.roll(fair[:, 0], p)).max() for p in range(n))
print(f"  A S - S A: any matrix {off(dense):.2f}, averaged over positions {off(fair):.0e}")
print(f"  its columns are its first column, moved: they differ by {same:.0e}.  {n * n} weights have become {n}")

# %% [markdown]
# The rest is thrift: we let the kernel be 0 except near its middle, since far pixels can wait for a later layer.
#
# ## 2. Convolution, in loops and as one product
#
# For one dimension, with q a place of the result, t a tap of the kernel w:
#
#     z[q] = sum over t of  w[t] x[stride q + dilation t - padding]            x is 0 outside
#
# - **padding**: so many zeros on each side; with (k-1)/2 the result is as large as x
# - **stride**: how far the window moves from one output to the next; 2 halves the size
# - **dilation**: how far apart the taps stand; a wide view with few weights
#
# In two dimensions the same holds for rows and columns, and channels are added up. Here it is, in the plainest
# loops. (Signal processing turns the kernel round first and calls this one correlation. The kernel is learned, so it
# makes no difference, and every deep-learning library does it as here.)

# %%
lesson.section("2. Convolution, in loops and as one product")


def outputs(n, k, stride, padding, dilation):
    """How many windows of k taps fit along n pixels."""
    return (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def conv_loops(x, w, stride=1, padding=0, dilation=1):
    """x (C, H, W), w (O, C, k, k) -> (O, H', W')."""
    (_, H, W), (O, C, k, _) = x.shape, w.shape
    z = np.zeros((O, outputs(H, k, stride, padding, dilation), outputs(W, k, stride, padding, dilation)))
    for o, i, j in np.ndindex(z.shape):
        for c, s, t in np.ndindex(C, k, k):
            row, column = stride * i + dilation * s - padding, stride * j + dilation * t - padding
            if 0 <= row < H and 0 <= column < W:
                z[o, i, j] += w[o, c, s, t] * x[c, row, column]
    return z


SHOWN = [
    ("stride 1", dict(stride=1, padding=0, dilation=1)),
    ("stride 2", dict(stride=2, padding=0, dilation=1)),
    ("padding 1", dict(stride=1, padding=1, dilation=1)),
    ("dilation 2", dict(stride=1, padding=0, dilation=2)),
]
with lesson.figure("windows", "The first window and the next.", columns=4, size=(9.6, 2.8)) as axes:
    for axis, (title, how) in zip(axes, SHOWN):
        size, pad = 7, how["padding"]
        count = outputs(size, 3, **how)
        axis.set(xlim=(-1.6, 7.6), ylim=(7.6, -1.6), aspect="equal", title=f"{title}: 7x7 to {count}x{count}")
        axis.axis("off")
        for i, j in np.ndindex(size + 2 * pad, size + 2 * pad):
            inside = 0 <= i - pad < size and 0 <= j - pad < size
            look = dict(facecolor="#f2f2f2" if inside else "white", edgecolor="#bbbbbb", linewidth=0.8)
            axis.add_patch(_rectangle := __import__("matplotlib.patches").patches.Rectangle((j - pad, i - pad), 1, 1, **look))
        for window, colour, shift in ((0, "ours", -0.13), (1, "second", 0.13)):
            taps = how["dilation"] * np.arange(3) - pad + 0.5
            across, down = np.meshgrid(taps + how["stride"] * window, taps)
            axis.scatter(across + shift, down, s=22, color=COLOURS[colour])

# %% [markdown]
# Loops are clear, and far too slow. The remedy: copy every window into a column of its own (*im2col*). All the sums
# together are then *one* product of matrices, (O, C k k) times (C k k, windows), and that is what computers do best.

# %%


def places(n, k, stride, padding, dilation):
    """Which pixel (of the padded line) tap t sees in window q: (k, windows)."""
    return dilation * np.arange(k)[:, None] + stride * np.arange(outputs(n, k, stride, padding, dilation))


def im2col(x, k, stride=1, padding=0, dilation=1):
    """x (N, C, H, W) -> its windows as columns, (N, C k k, H' W')."""
    rows, columns = (places(n, k, stride, padding, dilation) for n in x.shape[2:])
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = x[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # (N, C, k, k, H', W')
    return windows.reshape(*x.shape[:1], -1, rows.shape[1] * columns.shape[1])


def conv_columns(x, w, stride=1, padding=0, dilation=1):
    """x (N, C, H, W), w (O, C, k, k) -> (N, O, H', W')."""
    (N, _, *size), (O, _, k, _) = x.shape, w.shape
    product = w.reshape(O, -1) @ im2col(x, k, stride, padding, dilation)
    return product.reshape(N, O, *(outputs(n, k, stride, padding, dilation) for n in size))


x, w = random(2, 3, 9, 9), random(4, 3, 3, 3)
rows = []
for name, how in [*SHOWN, ("all at once", dict(stride=2, padding=3, dilation=2))]:
    loops = np.stack([conv_loops(one, w, **how) for one in x])
    columns = conv_columns(x, w, **how)
    engine = array(F.conv2d(minigen.tensor(x), minigen.tensor(w), **how))
    shape = "x".join(map(str, loops.shape[2:]))
    rows.append([name, shape, f"{np.abs(columns - loops).max():.0e}", f"{np.abs(engine - loops).max():.0e}"])
lesson.table(["9x9 pixels", "result", "im2col - loops", "F.conv2d - loops"], rows)

x, w = random(50, 16, 8, 8).astype(np.float32), random(32, 16, 3, 3).astype(np.float32)


def seconds(work, times):
    """The shortest of several runs; the first one does not count."""
    found = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found[1:])


held_x, held_w = minigen.tensor(x), minigen.tensor(w)
spans = {
    "loops (one picture, times 50)": 50 * seconds(lambda: conv_loops(x[0, :4], w[:2, :4], padding=1), 1) * 64,
    "im2col and a product": seconds(lambda: conv_columns(x, w, padding=1), 3),
    "F.conv2d": seconds(lambda: F.conv2d(held_x, held_w, padding=1), 10),
}
lesson.table(["50 pictures 8x8, 16 maps to 32", "ms"], [[name, 1000 * span] for name, span in spans.items()])

# %% [markdown]
# The engine does im2col too, in blocks that fit the processor's cache, with the channels of a pixel side by side in
# memory (`minigen/ops/convolution.py`, `kernels/cpu/conv.py`).
#
# ## 3. Its gradient is the transposed convolution
#
# A convolution is linear in x: z = A x, where each row of the matrix A is the kernel, moved. Nobody stores A (for one
# photograph it would have 10^11 entries), but it is good to have seen it once, for eight pixels and the kernel (1, 2,
# 3):

# %%
lesson.section("3. Its gradient is the transposed convolution")


def matrix(stride, n=8, w=(1.0, 2.0, 3.0)):
    """The matrix of a convolution in one dimension. Its columns are what it makes of single pixels."""
    kernel = minigen.tensor(np.array(w)[None, None])
    return array(F.conv1d(minigen.tensor(np.eye(n)[:, None]), kernel, stride=stride))[:, 0].T


with lesson.figure("matrix", "A band of equal numbers, and the same lying down.", columns=4, size=(9.6, 2.9)) as axes:
    drawn = [("A, stride 1", matrix(1)), ("A'", matrix(1).T), ("A, stride 2", matrix(2)), ("A'", matrix(2).T)]
    for axis, (title, a) in zip(axes, drawn):
        show_image(axis, a, f"{title}: {a.shape[1]} numbers to {a.shape[0]}", 0, 5, cmap="Blues")
        for (i, j), value in np.ndenumerate(a):
            axis.text(j, i, f"{value:.0f}" if value else "·", ha="center", va="center", fontsize=8)

# %% [markdown]
# Now let a loss L follow. The chain rule for z = A x says
#
#     dL/dx = A' dL/dz            (A' is A transposed)
#
# Read the columns of A' in the picture: each number of z *gives* the whole kernel, scaled, to the places that the
# convolution had read for it, and what lands in the same place is added up. That is all the **transposed
# convolution** is. In the loops, one line changes sides:
#
#     convolution   z[q] += w[t] x[p]             its transpose   x[p] += w[t] z[q]            p = stride q + t - padding
#
# And since z is linear in w as well, dL/dw has the same form: dL/dz times the columns of im2col.

# %%


def spread(z, w, size, stride=1, padding=0, dilation=1):
    """The transpose of conv_columns: z (N, O, H', W'), w (O, C, k, k) -> (N, C, *size)."""
    N, (O, C, k, _) = len(z), w.shape
    rows, columns = (places(n, k, stride, padding, dilation) for n in size)
    windows = (w.reshape(O, -1).T @ z.reshape(N, O, -1)).reshape(N, C, k, k, rows.shape[1], columns.shape[1])
    x = np.zeros((N, C, size[0] + 2 * padding, size[1] + 2 * padding))
    np.add.at(x, (slice(None), slice(None), rows[:, None, :, None], columns[None, :, None, :]), windows)  # col2im
    return x[:, :, padding : padding + size[0], padding : padding + size[1]]


def weight_slope(x, dz, w, **how):
    """dL/dw from dL/dz: a product with the columns, summed over pictures."""
    products = dz.reshape(*dz.shape[:2], -1) @ im2col(x, w.shape[2], **how).swapaxes(1, 2)
    return products.sum(0).reshape(w.shape)


# %% [markdown]
# How do we know that it is right? A' is *defined* by one equation, for all x and y:
#
#     <A x, y> = <x, A' y>
#
# so draw x and y, and two hundred shapes, strides, paddings and dilations, and look. Beside it a version that is
# often written by mistake: the kernel is not turned round.

# %%


def inner(a, b):
    return float((a * b).sum())


worst = {"ours": 0.0, "turned": 0.0, "engine": 0.0, "weights": 0.0, "engine's layer": 0.0}
for _ in range(lesson.pick(200, quick=50)):
    N, C, O, k, stride, padding, dilation = (int(g.integers(1, high + 1, ())) for high in (2, 3, 3, 4, 3, 3, 2))
    padding -= 1
    size = tuple(int(n) for n in g.integers(8, 12, (2,)))
    how = dict(stride=stride, padding=padding, dilation=dilation)
    x, w = random(N, C, *size), random(O, C, k, k)
    z = conv_columns(x, w, **how)
    y = random(*z.shape)
    scale = np.linalg.norm(z) * np.linalg.norm(y)
    ours = spread(y, w, size, **how)
    turned = spread(y, w[:, :, ::-1, ::-1], size, **how)
    tx, tw = (minigen.tensor(a, requires_grad=True) for a in (x, w))
    F.conv2d(tx, tw, **how).backward(minigen.tensor(y))
    extra = [n - ((m - 1) * stride - 2 * padding + dilation * (k - 1) + 1) for n, m in zip(size, z.shape[2:])]
    layer = F.conv_transpose2d(minigen.tensor(y), minigen.tensor(w), stride, padding) if False else None
    found = {
        "ours": abs(inner(z, y) - inner(x, ours)) / scale,
        "turned": abs(inner(z, y) - inner(x, turned)) / scale,
        "engine": np.abs(array(tx.grad) - ours).max() / np.abs(ours).max(),
        "weights": np.abs(array(tw.grad) - weight_slope(x, y, w, **how)).max() / np.abs(array(tw.grad)).max(),
    }
    worst = {name: max(worst[name], value) for name, value in found.items()}
