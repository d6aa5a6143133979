# %% [markdown]
# # 6. Convolution
#
# What does a network gain when it knows that pixels have neighbours?
#
# The networks of lesson 2 see a picture as a list of numbers. Put its pixels in another order, the same for all
# pictures, and they learn just as well. But a picture is more than a list: near pixels belong together, and a stroke
# is the same stroke wherever it stands. Convolution builds these two facts in (Fukushima 1980; LeCun et al. 1989). We
# take it apart:
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
from minigen import nn, optim, plot
from minigen.data import digits
from minigen.data.augment import random_affine
from minigen.lessons import Lesson
from minigen.plot import COLOURS, show_image, tile

lesson = Lesson("06_convolution", uses=("device",))
g = lesson.generator


def array(x):
    return x.detach().cpu().numpy()


def normal(*shape):
    """Random numbers in float64: where we compare, rounding should not be in the way."""
    return g.normal(shape).astype(np.float64)


def small(x):
    """A difference, as text."""
    return f"{x:.0e}" if x else "0"


# %% [markdown]
# ## 1. Why share weights?
#
# A dense layer has a weight for every pair of an input and an output. A convolution looks at a small window, and has
# *the same* few weights wherever the window stands: with C channels (maps) in, O out and windows of 3x3, 9 C O of
# them, whatever the size of the picture.

# %%
lesson.section("1. Why share weights?")

rows = []
for name, side, c, o in [
    ("a digit, 8x8, 1 map to 32", 8, 1, 32),
    ("a letter, 28x28, 1 map to 32", 28, 1, 32),
    ("a photograph, 224x224, 3 maps to 64", 224, 3, 64),
]:
    rows.append([name, f"{side**4 * c * o:,}", f"{9 * c * o:,}"])
lesson.table(["weights of a layer that keeps the size", "dense", "3x3 convolution"], rows)

# %% [markdown]
# But is this the right way to share? It is the only one. Say merely what we want: if the picture moves, the result
# moves with it, and nothing else changes. With S for "move by one",
#
#     A S x = S A x   for every x              (shift equivariance; LeCun et al. 1998, section II.A)
#
# If A is linear, that makes it a convolution. Column p of the matrix A is what it does to a single bright pixel at p,
# and this must be what it does to one at 0, moved by p. So every column is the first one, moved: one kernel, shared.
#
# See it happen. Take any 12x12 matrix (on a ring, where everything can move freely), and average it over all
# positions, so that none is special:

# %%
n = 12
dense = normal(n, n)
move = np.roll(np.eye(n), 1, axis=0)  # move @ x is x, moved by one
moves = [np.linalg.matrix_power(move, k) for k in range(n)]
fair = sum(s.T @ dense @ s for s in moves) / n
off = lambda a: np.abs(a @ move - move @ a).max()
differ = max(np.abs(fair[:, p] - np.roll(fair[:, 0], p)).max() for p in range(n))
print(f"  the largest number in A S - S A: before {off(dense):.2f}, after {small(off(fair))}")
print(f"  its columns are the first column, moved: they differ by {small(differ)}; {n * n} weights have become {n}")

# %% [markdown]
# The rest is thrift: we let the kernel be 0 except near its middle. What lies further away can wait for the next
# layer.
#
# ## 2. Convolution, in loops and as one product
#
# In one dimension, with q a place of the result and t a tap of the kernel w:
#
#     z[q] = sum over t of  w[t] x[stride q + dilation t - padding]              x is 0 outside
#
# - **padding**: so many zeros on each side. With (k-1)/2 of them the result is as large as x.
# - **stride**: how far the window moves from one output to the next. 2 halves the size.
# - **dilation**: how far apart the taps stand. A wide view with few weights.
#
# In two dimensions rows and columns do the same, and channels are added up. Here it is in the plainest loops. (Signal
# processing turns the kernel round first, and calls ours *correlation*. The kernel is learned, so it makes no
# difference, and every deep-learning library does it as here.)

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


SETTINGS = {
    "stride 1": dict(stride=1, padding=0, dilation=1),
    "stride 2": dict(stride=2, padding=0, dilation=1),
    "padding 1": dict(stride=1, padding=1, dilation=1),
    "dilation 2": dict(stride=1, padding=0, dilation=2),
}
with lesson.figure("windows", "What two neighbours of the result see.", columns=4, size=(9.6, 2.7)) as axes:
    for axis, (name, how) in zip(axes, SETTINGS.items()):
        pad = how["padding"]
        show_image(axis, np.full((7, 7), 0.1), f"{name}: 7x7 to {outputs(7, 3, **how)}x{outputs(7, 3, **how)}", 0, 1)
        lines = np.arange(-pad, 8 + pad) - 0.5
        axis.hlines(lines, lines[0], lines[-1], color="#cccccc", linewidth=0.8)
        axis.vlines(lines, lines[0], lines[-1], color="#cccccc", linewidth=0.8)
        axis.set(xlim=(-1.6, 7.6), ylim=(7.6, -1.6))
        for window, colour, aside in ((0, "ours", -0.16), (1, "second", 0.16)):
            taps = how["dilation"] * np.arange(3) - pad
            across, down = np.meshgrid(taps + how["stride"] * window, taps)
            axis.scatter(across + aside, down, s=16, color=COLOURS[colour], zorder=3)

# %% [markdown]
# Loops are clear, and far too slow. The remedy: copy every window into a column of its own (*im2col*). Then all the
# sums together are *one* product of matrices, (O, C k k) times (C k k, windows), and that is what computers do best.

# %%


def places(n, k, stride=1, padding=0, dilation=1):
    """Which pixel of the padded line tap t sees in window q, (k, windows)."""
    return dilation * np.arange(k)[:, None] + stride * np.arange(outputs(n, k, stride, padding, dilation))


def windows(size, k, **how):
    """Rows and columns of what each tap sees, to index a picture with: (k, 1, H', 1) and (1, k, 1, W')."""
    rows, columns = (places(n, k, **how) for n in size)
    return rows[:, None, :, None], columns[None, :, None, :]


def im2col(x, k, padding=0, **how):
    """x (N, C, H, W) -> its windows as columns, (N, C k k, H' W')."""
    i, j = windows(x.shape[2:], k, padding=padding, **how)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return x[:, :, i, j].reshape(len(x), -1, i.shape[2] * j.shape[3])


def conv(x, w, **how):
    """x (N, C, H, W), w (O, C, k, k) -> (N, O, H', W')."""
    i, j = windows(x.shape[2:], w.shape[2], **how)
    z = w.reshape(len(w), -1) @ im2col(x, w.shape[2], **how)
    return z.reshape(len(x), len(w), i.shape[2], j.shape[3])


x, w = normal(2, 3, 9, 9), normal(4, 3, 3, 3)
rows = []
for name, how in [*SETTINGS.items(), ("all at once", dict(stride=2, padding=3, dilation=2))]:
    loops, ours = np.stack([conv_loops(one, w, **how) for one in x]), conv(x, w, **how)
    engine = array(F.conv2d(minigen.tensor(x), minigen.tensor(w), **how))
    size = "x".join(map(str, loops.shape[2:]))
    rows.append([name, size, small(np.abs(ours - loops).max()), small(np.abs(engine - loops).max())])
lesson.table(["from 9x9 pixels", "to", "im2col - loops", "F.conv2d - loops"], rows)


def seconds(work, times):
    """The shortest of several runs, after one that does not count."""
    spans = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        spans.append(time.perf_counter() - started)
    return min(spans[1:] or spans)


x, w = normal(50, 16, 8, 8).astype(np.float32), normal(32, 16, 3, 3).astype(np.float32)
held = minigen.tensor(x), minigen.tensor(w)
spans = {
    "loops (one picture, times 50)": 50 * seconds(lambda: conv_loops(x[0], w, padding=1), 0),
    "im2col and a product": seconds(lambda: conv(x, w, padding=1), 5),
    "F.conv2d": seconds(lambda: F.conv2d(*held, padding=1), 20),
}
lesson.table(["50 pictures 8x8, 16 maps to 32", "ms"], [[name, 1000 * span] for name, span in spans.items()])

# %% [markdown]
# The engine makes the same product without the copies. It keeps the channels of a pixel side by side in memory, so that
# a row of a window is one run of numbers, and reads each column where it lies in the picture:
# `minigen/ops/convolution.py`, `kernels/cpu/conv.py`.
#
# ## 3. Its gradient is the transposed convolution
#
# A convolution is linear in x: z = A x, and each row of the matrix A is the kernel, moved. Nobody stores A (for one
# photograph it would have 10^11 entries), but it is good to have seen it, for eight pixels and the kernel (1, 2, 3):

# %%
lesson.section("3. Its gradient is the transposed convolution")


def matrix(stride, n=8, w=(1.0, 2.0, 3.0)):
    """The matrix of a convolution in one dimension: its columns are what it makes of single pixels."""
    kernel = minigen.tensor(np.array(w)[None, None])
    return array(F.conv1d(minigen.tensor(np.eye(n)[:, None]), kernel, stride=stride))[:, 0].T


ratios = {"width_ratios": (8, 6, 8, 3)}
with lesson.figure("matrix", "The kernel lies in the rows of A.", columns=4, size=(9.6, 2.9), **ratios) as axes:
    drawn = [("A, stride 1", matrix(1)), ("A'", matrix(1).T), ("A, stride 2", matrix(2)), ("A'", matrix(2).T)]
    for axis, (title, a) in zip(axes, drawn):
        show_image(axis, a, title, 0, 5, cmap="Blues", aspect="equal")
        axis.set_anchor("NW")
        for (i, j), value in np.ndenumerate(a):
            axis.text(j, i, f"{value:.0f}" if value else "·", ha="center", va="center", fontsize=8)

# %% [markdown]
# Now let a loss L follow. The chain rule for z = A x says
#
#     dL/dx = A' dL/dz               (A' is A transposed)
#
# Look at the columns of A': each number of dL/dz *gives* the whole kernel, scaled, to the places that the convolution
# had read for it, and what lands in the same place is added up. That is all that the **transposed convolution** is.
# In the loops, two names change sides:
#
#     convolution      z[q] += w[t] x[p]
#     its transpose    x[p] += w[t] z[q]           p = stride q + dilation t - padding, in both
#
# And z is linear in w too, so dL/dw is of the same kind: dL/dz times the columns of im2col.

# %%


def spread(z, w, size, padding=0, **how):
    """The transpose of `conv`: z (N, O, H', W'), w (O, C, k, k) -> (N, C, *size)."""
    (O, C, k, _), (H, W) = w.shape, size
    i, j = windows(size, k, padding=padding, **how)
    columns = w.reshape(O, -1).T @ z.reshape(len(z), O, -1)
    x = np.zeros((len(z), C, H + 2 * padding, W + 2 * padding))
    np.add.at(x, (slice(None), slice(None), i, j), columns.reshape(len(z), C, k, k, i.shape[2], j.shape[3]))
    return x[:, :, padding : padding + H, padding : padding + W]


def weight_slope(x, dz, k, **how):
    """dL/dw from dL/dz, summed over the pictures."""
    N, O = dz.shape[:2]
    return (dz.reshape(N, O, -1) @ im2col(x, k, **how).swapaxes(1, 2)).sum(0).reshape(O, x.shape[1], k, k)


# %% [markdown]
# Is it right? The transpose is *defined* by an equation that must hold for all x and y,
#
#     <A x, y> = <x, A' y>
#
# so draw x, y, w, sizes, strides, paddings and dilations at random, a few hundred times, and look for the worst.
# Beside it a mistake that is often made: the kernel turned round by 180 degrees.

# %%
inner = lambda a, b: float((a * b).sum())
apart = lambda a, b: np.abs(a - b).max() / np.abs(b).max()
checks = {"ours": [], "turned": [], "dL/dx": [], "dL/dw": [], "layer": []}
for _ in range(lesson.pick(300, quick=60)):
    N, C, O, k, stride, padding, dilation = (int(g.integers(1, most + 1, ())) for most in (2, 3, 3, 4, 3, 3, 2))
    size = tuple(int(n) for n in g.integers(8, 12, (2,)))
    how = dict(stride=stride, padding=padding - 1, dilation=dilation)
    x, w = normal(N, C, *size), normal(O, C, k, k)
    z = conv(x, w, **how)
    y = normal(*z.shape)
    back, scale = spread(y, w, size, **how), np.linalg.norm(z) * np.linalg.norm(y)
    checks["ours"].append(abs(inner(z, y) - inner(x, back)) / scale)
    checks["turned"].append(abs(inner(z, y) - inner(x, spread(y, w[:, :, ::-1, ::-1], size, **how))) / scale)

    tx, tw, ty = minigen.tensor(x, requires_grad=True), minigen.tensor(w, requires_grad=True), minigen.tensor(y)
    F.conv2d(tx, tw, **how).backward(ty)
    checks["dL/dx"].append(apart(back, array(tx.grad)))
    checks["dL/dw"].append(apart(weight_slope(x, y, k, **how), array(tw.grad)))
    left_over = tuple((n + 2 * how["padding"] - dilation * (k - 1) - 1) % stride for n in size)
    checks["layer"].append(apart(back, array(F.conv_transpose2d(ty, tw, output_padding=left_over, **how))))

dx, dw, layer = (small(max(checks[name])) for name in ("dL/dx", "dL/dw", "layer"))
print(f"  by hand and in the engine: dL/dx differs by {dx}, dL/dw by {dw}")
print(f"  F.conv_transpose2d, a layer of its own, is our transpose: they differ by {layer}")
lesson.proof(
    "<Ax, y> = <x, A'y>",
    max(checks["ours"]),
    "relative",
    floor=(max(checks["turned"]), "kernel turned round"),
    optimum=(0.0, "exact"),
    band=(0.0, 1e-12, "rounding in float64"),
)

# %% [markdown]
# As a layer of its own the transpose makes pictures *larger*: lessons 12, 15 and 22 use it to draw. (It is often
# called "deconvolution". It does not undo a convolution: A'A is not I.) The same exchange works the other way round:
# the gradient of a transposed convolution is a convolution.
#
# **The checkerboard.** Spread a plain picture of ones with stride 2. How many windows give to each pixel? In one
# dimension place p gets the taps t that have the remainder of p modulo the stride. If the kernel is no multiple of
# the stride, some pixels have more of them than others, and the squares of a chessboard come out, whatever was to be
# drawn (Odena, Dumoulin & Olah 2016). Two cures: a kernel of 4 for a stride of 2, or enlarge first and then convolve.

# %%
ones = minigen.ones(1, 1, 5, 5)
drawn = {
    "kernel 3, stride 2": lambda w: F.conv_transpose2d(ones, w, stride=2),
    "kernel 4, stride 2": lambda w: F.conv_transpose2d(ones, w, stride=2),
    "enlarged by 2, then kernel 3": lambda w: F.conv2d(F.interpolate(ones, scale_factor=2.0), w, padding=2),
}
sizes = dict(zip(drawn, (3, 4, 3)))
rows = []
with lesson.figure("checkerboard", "How often each pixel is drawn.", columns=3, size=(7.6, 2.7)) as axes:
    for axis, (name, draw) in zip(axes, drawn.items()):
        k = sizes[name]
        count = array(draw(minigen.ones(1, 1, k, k)))[0, 0]
        show_image(axis, count, name, 0, 1.8 * count.max(), cmap="Blues")
        for (i, j), value in np.ndenumerate(count):
            axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6)
        many = np.stack([array(draw(minigen.randn(1, 1, k, k, generator=g)))[0, 0] for _ in range(2000)])
        spreads = [many[:, 4 + a, 4 + b].std() for a, b in ((0, 0), (0, 1), (1, 1))]
        theory = [np.sqrt(count[4 + a, 4 + b]) for a, b in ((0, 0), (0, 1), (1, 1))]
        rows.append([name, *spreads, ", ".join(f"{t:.2f}" for t in theory)])
lesson.table(["random kernels: spread at a pixel", "even, even", "even, odd", "odd, odd", "root of the count"], rows)

# %% [markdown]
# ## 4. Pooling
#
# To see more of the picture, later layers look at a smaller one. Pooling is the simplest way to get it: cut the
# picture into squares of 2x2, and keep the largest number of each, or the mean (LeCun et al. 1998 took the mean;
# Ranzato et al. 2007 the largest). By hand it is a reshape:

# %%
lesson.section("4. Pooling")


def squares(x):
    """(N, C, H, W) -> (N, C, H/2, W/2, 4)."""
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)


x = normal(2, 3, 8, 8)
tx = minigen.tensor(x, requires_grad=True)
largest, mean = F.max_pool2d(tx, 2), F.avg_pool2d(tx, 2)
kernel = minigen.full((3, 1, 2, 2), 0.25, dtype=minigen.float64)
as_conv = F.conv2d(tx, kernel, stride=2, groups=3)  # groups: each channel by itself
print(f"  largest: by hand - F.max_pool2d {small(np.abs(squares(x).max(-1) - array(largest)).max())}")
print(f"  mean:    by hand - F.avg_pool2d {small(np.abs(squares(x).mean(-1) - array(mean)).max())}")
print(f"  the mean is a convolution with a kernel of 1/4 and stride 2: {small(np.abs(array(as_conv - mean)).max())}")
largest.sum().backward()
print(f"  of the largest, one pixel in {x.size / array(tx.grad).sum():.0f} gets the whole slope, the others none")

# %% [markdown]
# ## 5. What moves when the picture moves
#
# We asked for A S x = S A x. Who keeps it? Take f, a layer with random weights, move digits by one pixel or two on
# their ring, and measure how far f(S x) is from f(x) moved:
#
#     error = |f(S^m x) - S^r f(x)| / |f(x)|           r: whichever of 0 ... m fits best
#
# (With a stride of 2 the result is half as large, so it can only follow a move by 2, with r = 1.) Once with the 8x8
# digits, which touch the border everywhere, and once with the same digits in the middle of 16x16 empty pixels.

# %%
lesson.section("5. What moves when the picture moves")

w1, w2 = (minigen.tensor(normal(8, c, 3, 3) * np.sqrt(2 / (9 * c))) for c in (1, 8))
blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
blur = minigen.tensor(np.broadcast_to(blur, (8, 1, 3, 3)).copy())
square = {side: minigen.tensor(normal(side**2, side**2) / side) for side in (8, 16)}


def ring(x, w, stride=1, groups=1):
    """A convolution whose padding is the other side of the picture."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), w, stride=stride, groups=groups)


LAYERS = {
    "dense": lambda x: (x.flatten(1) @ square[x.shape[-1]]).reshape(x.shape),
    "convolution on the ring": lambda x: ring(x, w1).relu(),
    "zeros outside": lambda x: F.conv2d(x, w1, padding=1).relu(),
    "three layers, zeros outside": lambda x: F.conv2d(
        F.conv2d(F.conv2d(x, w1, padding=1).relu(), w2, padding=1).relu(), w2, padding=1
    ),
    "ring, every second pixel": lambda x: ring(x, w1).relu()[:, :, ::2, ::2],
    "ring, largest of 2x2": lambda x: F.max_pool2d(ring(x, w1).relu(), 2),
    "ring, mean of 2x2": lambda x: F.avg_pool2d(ring(x, w1).relu(), 2),
    "ring, blur, every second pixel": lambda x: ring(ring(x, w1).relu(), blur, stride=2, groups=8),
    "ring, mean over the picture": lambda x: ring(x, w1).relu().mean((2, 3), keepdim=True),
}


def moved(x, m):
    return np.roll(x, m, axis=(-2, -1))


def moving_error(layer, x, m):
    f = lambda x: array(layer(minigen.tensor(x)))
    before, after = f(x), f(moved(x, m))
    return min(np.linalg.norm(after - moved(before, r)) for r in range(m + 1)) / np.linalg.norm(before)


tight = digits("test")[0][:100].astype(np.float64)
roomy = np.pad(tight, ((0, 0), (0, 0), (4, 4), (4, 4)))
errors = {
    name: [moving_error(layer, tight, 1), moving_error(layer, tight, 2), moving_error(layer, roomy, 1)]
    for name, layer in LAYERS.items()
}
rows = [[name, *(f"{e:.3f}" if e > 1e-12 else small(e) for e in error)] for name, error in errors.items()]
lesson.table(["error", "8x8, by 1", "8x8, by 2", "with room, by 1"], rows)
lesson.proof(
    "moving with the picture, on the ring",
    max(errors["convolution on the ring"]),
    "relative",
    floor=(min(errors["dense"]), "dense"),
    optimum=(0.0, "exact"),
    band=(0.0, 1e-12, "rounding in float64"),
)

# %% [markdown]
# - On the ring a convolution moves exactly with the picture. So does relu, and anything that treats all places alike.
# - Zeros outside break this, but only near the border. A digit with room around it does not notice; for the 8x8 ones
#   nearly everything is border. A network can even use it to find out *where* something is (Islam et al. 2020).
# - A stride keeps moves by 2 and breaks moves by 1: only every second window is left. The largest of 2x2 is better than
#   nothing, but no protection: "pooling makes it invariant to small shifts" is said too often. To blur before
#   pixels are dropped helps a little more, as signal processing has always known (Zhang 2019).
# - The mean over the whole picture forgets where things are: invariant, exactly.
#
# ## 6. Normalisation
#
# Lesson 2 had to choose the size of the first weights with care: a little too small, and after twenty layers the
# signal is gone. Normalisation takes care of it at every layer, all through training: subtract the mean, divide by
# the spread, and let the network scale and shift again, by two learned numbers a channel. The only question is: the
# mean over what? x is (N, C, H, W):
#
#     batch norm      over N, H, W: each channel               (Ioffe & Szegedy 2015)
#     layer norm      over C, H, W: each picture               (Ba, Kiros & Hinton 2016)
#     instance norm   over H, W: each channel of each picture  (Ulyanov, Vedaldi & Lempitsky 2016)
#     group norm      over H, W and a group of channels        (Wu & He 2018)

# %%
lesson.section("6. Normalisation")


def normalise(x, dims, eps=1e-5):
    centred = x - x.mean(dims, keepdims=True)
    return centred / np.sqrt((centred**2).mean(dims, keepdims=True) + eps)


def group_normalise(x, groups):
    N, C, H, W = x.shape
    return normalise(x.reshape(N, groups, C // groups, H, W), (2, 3, 4)).reshape(x.shape)


x = 3 * normal(4, 6, 5, 5) + 2
tx = minigen.tensor(x)
pairs = [
    ("batch norm", normalise(x, (0, 2, 3)), F.batch_norm(tx, None, None, training=True)),
    ("layer norm", normalise(x, (1, 2, 3)), F.layer_norm(tx, tx.shape[1:])),
    ("instance norm", normalise(x, (2, 3)), F.instance_norm(tx)),
    ("group norm, 2 groups", group_normalise(x, 2), F.group_norm(tx, 2)),
]
lesson.table(
    ["", "by hand - engine", "group norm with"],
    [
        [name, small(np.abs(ours - array(engine)).max()), same]
        for (name, ours, engine), same in zip(pairs, ("-", "1 group", "6 groups", "2 groups"))
    ],
)

with lesson.figure("norms", "Pixels of one colour share a mean and a spread.", columns=4, size=(8.6, 2.2)) as axes:
    shared = [
        np.tile(np.arange(6), (4, 1)),
        np.tile(np.arange(4)[:, None], (1, 6)),
        np.arange(24).reshape(4, 6),
        np.arange(4)[:, None] * 2 + np.arange(6) // 3,
    ]
    for axis, (name, *_), group in zip(axes, pairs, shared):
        show_image(axis, group, name.split(",")[0], 0, group.max(), cmap="Spectral", alpha=0.6)
        for (i, j), number in np.ndenumerate(group):
            axis.text(j, i, number + 1, ha="center", va="center", fontsize=8)
        axis.hlines(np.arange(5) - 0.5, -0.5, 5.5, color="white", linewidth=1.5)
        axis.vlines(np.arange(7) - 0.5, -0.5, 3.5, color="white", linewidth=1.5)
        axis.set(xlabel="channels", ylabel="pictures")

# %% [markdown]
# Batch norm is the odd one: what it makes of a picture depends on the *other* pictures of the batch. That is no way
# to answer a question about one picture. So while it learns it keeps running means of means and variances, and when
# it is tested it uses these. (Its variance in training is the plain mean square; the running one has Bessel's n /
# (n-1), an old custom.)

# %%


class BatchNorm:
    def __init__(self, channels, momentum=0.1, eps=1e-5):
        self.scale, self.shift = np.ones(channels), np.zeros(channels)  # these two are learned
        self.mean, self.variance = np.zeros(channels), np.ones(channels)  # these two are followed
        self.momentum, self.eps = momentum, eps

    def __call__(self, x, training):
        mean, variance = self.mean, self.variance
        if training:
            mean, variance, n = x.mean((0, 2, 3)), x.var((0, 2, 3)), x.size // x.shape[1]
            self.mean += self.momentum * (mean - self.mean)
            self.variance += self.momentum * (variance * n / (n - 1) - self.variance)
        each = lambda v: v[:, None, None]
        return each(self.scale) * (x - each(mean)) / np.sqrt(each(variance) + self.eps) + each(self.shift)


ours, engine = BatchNorm(6), nn.BatchNorm2d(6).double()
for batch in 2 * normal(20, 8, 6, 5, 5) - 1:
    difference = np.abs(ours(batch, True) - array(engine(minigen.tensor(batch)))).max()
engine.eval()
tested = np.abs(ours(x, False) - array(engine(minigen.tensor(x)))).max()
print(f"  nn.BatchNorm2d, twenty batches: by hand - engine in training {small(difference)}, in test {small(tested)}")

# %% [markdown]
# **Why it helps.** First, the size of the signal. Noise goes through 20 convolutions with relu, whose weights are a
# little too small, right (2 / inputs, He et al. 2015), or a little too large:

# %%
DEPTH = 20
signals = {}
for name, gain in [("1 / inputs", 1.0), ("2 / inputs (He)", 2.0), ("4 / inputs", 4.0)]:
    weights = [minigen.randn(16, 16, 3, 3, generator=g) * (gain / 144) ** 0.5 for _ in range(DEPTH)]
    for norm in (False, True):
        x, sizes = minigen.randn(50, 16, 8, 8, generator=g), []
        for w in weights:
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), w)
            x = (F.batch_norm(x, None, None, training=True) if norm else x).relu()
            sizes.append(float((x * x).mean().sqrt()))
        signals[name, norm] = sizes
lesson.table(
    ["size of the signal", "layer 1", "layer 10", "layer 20", "layer 20, batch norm"],
    [[name, *(signals[name, False][i] for i in (0, 9, 19)), signals[name, True][19]] for name, _ in list(signals)[::2]],
)

# %% [markdown]
# After batch norm the size of the weights does not matter at all: norm(conv(x, 10 w)) = norm(conv(x, w)). (And a bias
# before it is taken away with the mean, so we leave it out.)
#
# Then, does it train? Ten layers on the digits, plain gradient descent, a few steps, three rates:

# %%
(learn_x, learn_y), (test_x, test_y) = digits("train"), digits("test")


def deep(norm, he=False, depth=10, width=16):
    layers, maps = [], 1
    for _ in range(depth):
        layers += [
            nn.Conv2d(maps, width, 3, padding=1, bias=norm is None),
            *([] if norm is None else [norm(width)]),
            nn.ReLU(),
        ]
        if he:
            nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
        maps = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * width, 10)).to(lesson.device)


def on_device(x, y):
    return minigen.tensor(x, device=lesson.device), minigen.tensor(y, device=lesson.device)


RATES = (0.01, 0.03, 0.1)
kinds = {
    "none, usual first weights": lambda: deep(None),
    "none, He's first weights": lambda: deep(None, he=True),
    "batch norm": lambda: deep(nn.BatchNorm2d),
    "group norm": lambda: deep(lambda c: nn.GroupNorm(4, c)),
}
speed, steps = {}, lesson.pick(60, quick=6)
for name, make in kinds.items():
    for rate in RATES:
        net, losses = make(), []
        optimizer = optim.SGD(net.parameters(), lr=rate)
        for _ in lesson.progress(steps, f"{name}, rate {rate}"):
            rows = g.integers(0, 1000, (50,))
            x, y = on_device(learn_x[rows], learn_y[rows])
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        speed[name, rate] = losses
rows = [[name, *(float(np.mean(speed[name, rate][-5:])) for rate in RATES)] for name in kinds]
lesson.table([f"loss after {steps} steps, guessing: 2.303", *(f"rate {rate}" for rate in RATES)], rows)

# %%
with lesson.figure("depth", "The signal over depth, and the loss over steps.", columns=2, size=(8.6, 3.1)) as axes:
    for (name, norm), sizes in signals.items():
        if norm and "He" not in name:
            continue
        label = "with batch norm" if norm else name
        axes[0].semilogy(np.arange(1, DEPTH + 1), sizes, "--" if norm else "-", label=label)
    axes[0].set(xlabel="layer", ylabel="root mean square", title="How large the signal is", xticks=range(0, 21, 5))
    axes[0].legend()
    for name in kinds:
        tried = [np.convolve(speed[name, rate], np.ones(5) / 5, "valid") for rate in RATES]
        best = min((t for t in tried if np.isfinite(t).all()), key=lambda t: t[-1])
        axes[1].plot(np.arange(5, 5 + len(best)), best, label=name)
    axes[1].axhline(np.log(10), color=COLOURS["floor"], linestyle=":", linewidth=1, label="guessing")
    axes[1].set(xlabel="step", ylabel="loss  [nats]", title="Ten layers, each at its best rate", ylim=(0, 3.6))
    axes[1].legend(loc="upper right", ncols=2)

# %% [markdown]
# Without it, and with weights of the usual size (variance 1 / (3 inputs)), ten layers learn nothing in that time.
# With He's weights they begin to. With any of the norms they are nearly done. Why? The usual answer, that the norm
# stops "internal covariate shift", was a guess of its authors. Santurkar et al. (2018) put the shift back in by
# adding noise, and training was as fast as before. What they found is that the loss becomes smoother, so that longer
# steps are safe.
#
# Group norm does not look at other pictures at all. It is the choice where batches are small, and in the diffusion
# models of lesson 22.
#
# ## 7. Real digits
#
# Now everything together. Convolutions with batch norm, 32 maps, 32 maps, the largest of 2x2, 64 maps; then a dense
# layer with ten outputs. Half of what goes into it is dropped (lesson 2).
#
# We take the harder test of lesson 2: the last 447 of the file, mostly by other hands. To choose the settings we let
# networks learn from the first 1000, four times each, and looked at the 350 in between. Eight combinations of width,
# dropout, last layers and augmentation got 98.3% (no augmentation) to 99.4% right; one digit is 0.3%, so most of these
# differences are luck. We took the one that was best with nine views, and it learns now from all 1350. What came out:
#
# - **Augmentation.** Turned, slanted and scaled a little (lesson 2), and moved by up to one whole pixel.
# - **Nine views.** Section 5 says that such a network is not indifferent to a move by one pixel. So show it the
#   picture in all nine places, and take the mean of its answers. The mean of three networks, from three different
#   beginnings, is better again: they do not make the same mistakes.
#
# Beside it, on the same pictures: logistic regression, and the dense network of lesson 2, with the augmentation of
# that lesson and with ours. These learn for three times as many steps. The floor is the best that came of the dense
# ones, three together.

# %%
lesson.section("7. Real digits")

images, numbers = (np.concatenate(parts) for parts in zip(digits("train"), digits("valid")))
epochs = lesson.pick(20, quick=1)


def cnn(width=32):
    def block(inputs, maps):
        return nn.Conv2d(inputs, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()

    return nn.Sequential(
        *block(1, width),
        *block(width, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(2 * width * 16, 10),
    )


def mlp(width=256, p=0.2):
    hidden = [nn.Linear(64, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, width), nn.ReLU(), nn.Dropout(p)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def view(x, down, right):
    """Pictures moved by -1, 0 or 1 pixel each way, all alike or each by its own; zeros come in."""
    framed = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = (np.arange(8) + 1 - np.broadcast_to(down, len(x))[:, None])[:, :, None]
    columns = (np.arange(8) + 1 - np.broadcast_to(right, len(x))[:, None])[:, None, :]
    return framed[np.arange(len(x))[:, None, None], :, rows, columns].transpose(0, 3, 1, 2)


VIEWS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def augmented(x):
    down, right = g.integers(-1, 2, (2, len(x)))
    return view(random_affine(x, g, shift=0.0), down, right)


def train(net, what, change=augmented, times=1, order=None):
    """AdamW with a rate that falls like a cosine; batches of 50. `order` puts the pixels in another order."""
    net.to(lesson.device).train()
    steps = times * epochs * (len(images) // 50)
    optimizer = optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    rows = np.concatenate([g.permutation(len(images)) for _ in range(times * epochs + 1)])
    for step in (bar := lesson.progress(steps, what)):
        batch = rows[50 * step : 50 * step + 50]
        x, y = on_device(reordered(change(images[batch]), order), numbers[batch])
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"{loss.item():.3f} nats", refresh=False)
    net.eval()
    lesson.spend(3 * steps * 50 * operations(net))
    return net


def reordered(x, order):
    return x if order is None else np.ascontiguousarray(x.reshape(len(x), 64)[:, order]).reshape(x.shape)


def operations(net):
    """Floating-point operations of one forward pass for one picture."""
    return net.summary(minigen.tensor(images[:1], device=lesson.device)).flops


@minigen.no_grad()
def probabilities(nets, x, views=((0, 0),), order=None):
    """The mean of what several networks say to several views of x, (N, 10)."""
    said = [F.softmax(net(on_device(reordered(view(x, *v), order), 0)[0]), 1) for net in nets for v in views]
    return np.mean([array(p) for p in said], axis=0)


def correct(nets, **how):
    return 100 * float((probabilities(nets, test_x, **how).argmax(1) == test_y).mean())


shuffled = g.permutation(64)
as_it_is, as_before = lambda x: x, lambda x: random_affine(x, g)
linear = train(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "logistic regression", as_it_is, 3)
plain = train(cnn(), "CNN, not augmented", as_it_is)
blind = train(cnn(), "CNN, pixels shuffled", order=shuffled)
dense = train(mlp(), "dense network", times=3)
mlps = [train(mlp(), f"dense network {i} of 3", as_before, 3) for i in (1, 2, 3)]
cnns = [train(cnn(), f"CNN {i} of 3") for i in (1, 2, 3)]

rows = []
for name, net, order in [
    ("logistic regression, not augmented", linear, None),
    ("dense network, as in lesson 2", mlps[0], None),
    ("dense network, our augmentation", dense, None),
    ("CNN, not augmented", plain, None),
    ("CNN, pixels shuffled", blind, shuffled),
    ("CNN", cnns[0], None),
]:
    parameters = sum(p.numel() for p in net.parameters())
    aside = np.mean([correct([net], views=[v], order=order) for v in VIEWS if v != (0, 0)])
    rows.append(
        [name, f"{parameters:,}", f"{operations(net) / 1e6:.3f}", f"{correct([net], order=order):.2f}", f"{aside:.2f}"]
    )
lesson.table(["one network", "parameters", "Mflop a picture", "correct, %", "moved by a pixel, %"], rows)
rows = [
    [name, correct(nets), correct(nets, views=VIEWS)]
    for name, nets in (("dense networks, as in lesson 2", mlps), ("CNNs", cnns))
]
lesson.table(["three together, correct, %", "one view", "nine views"], rows)
lesson.proof(
    "digits, other hands",
    correct(cnns, views=VIEWS),
    "%",
    floor=(max(rows[0][1:]), "three dense networks"),
    at_least=None if lesson.quick else 98.0,
)

# %% [markdown]
# The line with the shuffled pixels is the answer to our first question. It is the same network, the same number of
# weights, the same data; only who is whose neighbour was taken away.
#
# Nothing in the *architecture* protects against a move by one pixel, as section 5 said: the last layer has a weight for
# each place. Trained without such moves, the CNN falls as deep as the others. It is the augmentation that teaches it,
# and the convolutions that let it learn from so few.
#
# **Do not forget eval().** Let the three networks answer once more, with batch norm left in training mode: each
# answer now depends on the other pictures of its batch. In the order of the file that does little harm. But show it a
# batch of nothing but threes, and it takes away what they have in common:

# %%


def forgetful(nets, batches):
    """Correct answers in % to these batches, batch norm in training mode."""
    nets, right = copy.deepcopy(nets), 0
    for layer in [layer for net in nets for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]:
        layer.train()
    for batch in batches:
        right += (probabilities(nets, test_x[batch]).argmax(1) == test_y[batch]).sum()
    return 100 * right / len(test_y)


def in_batches(size):
    return [slice(start, start + size) for start in range(0, len(test_y), size)]


one_class = [np.flatnonzero(test_y == c) for c in range(10)]
row = ["three CNNs", correct(cnns), *(forgetful(cnns, b) for b in (in_batches(50), in_batches(5), one_class))]
lesson.table(["correct, %", "eval()", "batches of 50", "batches of 5", "one digit a batch"], [row])

# %% [markdown]
# What has it learned to see? A kernel of 3x3 says little by itself. Look at what it makes of a digit: after the first
# layer one still sees it, here its left edges, there its horizontal strokes. After the third, a map is a few dots: here
# is such a piece of a stroke.

# %%
kernels = array(cnns[0][0].weight)
one = minigen.tensor(test_x[3:4], device=lesson.device)
with minigen.no_grad():
    maps = [array(cnns[0][:stop](one))[0][:32] for stop in (3, 6, 10)]
shape = {"columns": 5, "width_ratios": (3, 8, 8, 8, 8), "size": (11, 1.9)}
with lesson.figure("features", "From pixels to pieces of strokes.", **shape) as axes:
    show_image(axes[0], test_x[3, 0], "a digit")
    reach = np.abs(kernels).max()
    show_image(axes[1], tile(kernels, 8), "first layer: 32 kernels", -reach, reach, cmap="RdBu_r")
    for axis, each, name in zip(axes[2:], maps, ("its 32 maps", "second layer: 32 maps", "third layer: 32 of 64 maps")):
        show_image(axis, tile(each, 8, fill=0.2 * each.max()), name, 0)

said = probabilities(cnns, test_x, VIEWS)
guess = said.argmax(1)
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (test_y, guess), 1)
with lesson.figure("confusion", "Which digits are taken for which.", size=(3.6, 3.4)) as axes:
    mistakes = np.where(np.eye(10), 0, confusion)
    show_image(axes, mistakes, low=0, high=max(3, mistakes.max()), cmap="Reds")
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            axes.text(j, i, count, ha="center", va="center", color="#999999" if i == j else "#222222", fontsize=8)
    axes.set(xticks=range(10), yticks=range(10), xlabel="said", ylabel="was", title="The test digits")
    axes.grid(False)

wrong = np.flatnonzero(guess != test_y)[:24]
if len(wrong):
    print(plot.preview(test_x[wrong], 12))
    print("  said    " + " ".join(map(str, guess[wrong])) + "\n  it was  " + " ".join(map(str, test_y[wrong])))
    lines = -(-len(wrong) // 8)
    with lesson.figure("mistakes", "What it got wrong.", lines, 8, (8.6, 1.25 * lines), squeeze=False) as axes:
        for axis in axes.flat:
            axis.axis("off")
        for axis, i in zip(axes.flat, wrong):
            show_image(axis, test_x[i, 0], f"{guess[i]}? No, {test_y[i]}")

# %% [markdown]
# ## What this lesson does not show
#
# - That 98% is much, or little: with 447 digits one mistake is 0.22%. Lesson 2 shows what looking for the nearest
#   known picture reaches, which for such small and well-centred digits is a strong opponent.
# - Depth. Residual connections (He et al. 2016) are what makes fifty layers trainable, and normalisation alone does
#   not. They come with the U-Net in lesson 22.
# - Other symmetries. A convolution moves with a picture, but does not turn with it. Cohen & Welling (2016) build in
#   turns the same way as section 1 built in moves.
# - Speed. Why the same sums can take 1 ms or 1 s is lesson 3.
#
# The engine's own: `minigen/ops/convolution.py` (convolution and its transpose, which are each other's gradients),
# `minigen/ops/pooling.py`, `minigen/ops/normalization.py`, and as layers `minigen/nn/conv.py` and `minigen/nn/norm.py`.
#
# Where next: lesson 7 shares weights over time, lesson 15 draws with the transposed convolution.

# %%
lesson.end()
