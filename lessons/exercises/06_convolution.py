# %% [markdown]
# # Exercises for lesson 6
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/06_convolution.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/06_convolution.py`.

# %%
import numpy as np

import minigen
import minigen.nn.functional as F
from minigen.data import digits
from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape).astype(np.float64)


# %% [markdown]
# ## 1. How far does it see?
#
# One number of the last layer depends on a square of the picture, its *receptive field*. Layers are given as (kernel,
# stride, dilation), the first one first; a pooling layer counts like a convolution. How wide is the square?

# %%


def receptive_field(layers):
    """[(kernel, stride, dilation), ...] -> the number of pixels on a side."""
    raise NotImplementedError


@exercise(
    1,
    receptive_field,
    hint="go through the layers with two numbers: how wide one place of the present layer sees, and how far apart "
    "two neighbours of it stand in the picture",
)
def check(answer):
    "How far does it see?"
    nets = {
        "one 3x3": [(3, 1, 1)],
        "two 3x3": [(3, 1, 1)] * 2,
        "the network of section 7, to its last map": [(3, 1, 1), (3, 1, 1), (2, 2, 1), (3, 1, 1)],
        "dilations 1, 2, 4, 8 with a kernel of 2 (WaveNet)": [(2, 1, 2**i) for i in range(4)],
        "strides and dilations": [(4, 2, 1), (3, 1, 2), (3, 3, 1), (2, 1, 3)],
    }
    for name, layers in nets.items():
        x = minigen.zeros(1, 1, 200, dtype=minigen.float64, requires_grad=True)
        y = x
        for kernel, stride, dilation in layers:
            weight = minigen.ones(1, 1, kernel, dtype=minigen.float64)
            y = F.conv1d(y, weight, stride=stride, dilation=dilation)
        y[0, 0, y.shape[2] // 2].backward()
        reached = np.flatnonzero(x.grad.numpy()[0, 0])
        seen = int(reached[-1] - reached[0]) + 1
        close(np.float64(answer(layers)), np.float64(seen), name, 1e-9)
        print(f"  {name}: {seen}")


# %% [markdown]
# ## 2. Who gets the slope of the largest?
#
# The gradient of max-pooling with squares of 2x2, by hand: each number of dz goes to the pixel that won its square
# (to the first one, where two are equal). Use NumPy only.

# %%


def max_pool_slope(x, dz):
    """x (N, C, H, W), dz (N, C, H/2, W/2) -> dL/dx, (N, C, H, W)."""
    raise NotImplementedError


@exercise(2, max_pool_slope, hint="`squares` of section 4, `argmax(-1)`, `np.put_along_axis`, and the way back")
def check_pool(answer):
    "Who gets the slope of the largest?"
    x, dz = numbers(2, 3, 6, 8), numbers(2, 3, 3, 4, seed=1)
    held = minigen.tensor(x, requires_grad=True)
    F.max_pool2d(held, 2).backward(minigen.tensor(dz))
    close(answer(x, dz), held.grad, "random numbers", 1e-12)
    flat = answer(np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1)))
    close(flat, np.array([[[[1.0, 0.0], [0.0, 0.0]]]]), "four equal pixels: the first wins", 1e-12)


# %% [markdown]
# ## 3. Back through batch norm
#
# y = (x - mean) / sqrt(variance + eps), over pictures and places, for each channel. Its gradient must go through the
# mean and the variance as well. Derive it; it fits in one line:
#
#     dL/dx = (g - the mean of g - y * the mean of g y) / sqrt(variance + eps)            g = dL/dy
#
# The check also looks at what this says: no slope is left along 1 and along y. Where a change would only be taken
# away again by the norm, nothing flows back.

# %%


def batch_norm_slope(x, g, eps=1e-5):
    """x and g (N, C, H, W) -> dL/dx. NumPy only."""
    raise NotImplementedError


@exercise(3, batch_norm_slope, hint="means over (0, 2, 3) with keepdims=True, of g and of g * y")
def check_batch_norm(answer):
    "Back through batch norm"
    x, g = 3 * numbers(4, 3, 5, 5) + 1, numbers(4, 3, 5, 5, seed=1)
    held = minigen.tensor(x, requires_grad=True)
    y = F.batch_norm(held, None, None, training=True)
    y.backward(minigen.tensor(g))
    found = answer(x, g)
    close(found, held.grad, "against the engine", 1e-10)
    along = np.abs(found.sum((0, 2, 3))).max(), np.abs((found * y.detach().numpy()).sum((0, 2, 3))).max()
    print(f"  what is left along 1: {along[0]:.0e}, along y: {along[1]:.0e} (eps is to blame for the second)")


# %% [markdown]
# ## 4. Break it and see: the kernel turned round
#
# "A transposed convolution is a convolution with the kernel turned round." So it is, for stride 1 and with enough
# zeros around: spreading is convolving with the turned kernel. Whoever turns it *once more*, or forgets to, gets a
# wrong gradient that has the right shape. Write both, in one dimension and without padding. The check finds a hidden
# signal from its convolution by going downhill on |A x - z|^2 with your gradient.

# %%


def spread(z, w, broken):
    """z (L,), w (k,) -> A' z, (L + k - 1,); or, if `broken`, with the kernel turned round."""
    raise NotImplementedError


@exercise(4, spread, hint="each z[q] adds z[q] * w to the places q ... q + k - 1; broken: z[q] * w[::-1]")
def check_turned(answer):
    "Break it and see: the kernel turned round"
    w, hidden = np.array([1.0, 0.4, -0.3]), numbers(30)
    z = np.correlate(hidden, w)
    dense = np.stack([np.correlate(e, w) for e in np.eye(30)], 1)
    close(answer(z, w, False), dense.T @ z, "the right one", 1e-12)
    dense = np.stack([np.correlate(e, w[::-1]) for e in np.eye(30)], 1)
    close(answer(z, w, True), dense.T @ z, "the broken one", 1e-12)
    for broken in (False, True):
        x, losses = np.zeros(30), []
        for _ in range(300):
            rest = np.correlate(x, w) - z
            losses.append((rest**2).sum())
            x = x - 0.2 * answer(rest, w, broken)
        name = "kernel turned round" if broken else "as it should be"
        print(f"  {name:20} |A x - z|^2 after 0, 30, 299 steps: {losses[0]:.3g}, {losses[30]:.3g}, {losses[299]:.3g}")
    print("  the shapes fit, and nothing crashes. With a kernel nearer to symmetric it would merely learn badly")


# %% [markdown]
# ## 5. Break it and see: the mean over too little
#
# Batch norm takes mean and variance over pictures *and places*. A slip that runs without complaint: over the pictures
# only, so that each place has a mean of its own. (It is what `BatchNorm1d` does to flattened maps.) Write both, and
# the check moves pictures on their ring, as section 5 did, and tries an odd one out.

# %%


def batch_normalise(x, broken, eps=1e-5):
    """x (N, C, H, W) -> normalised over pictures and places; or, if `broken`, over pictures only."""
    raise NotImplementedError


@exercise(5, batch_normalise, hint="over (0, 2, 3); broken: over 0 alone. x.mean and x.var, with keepdims=True")
def check_axes(answer):
    "Break it and see: the mean over too little"
    x = numbers(6, 3, 4, 4)
    right = F.batch_norm(minigen.tensor(x), None, None, training=True)
    close(answer(x, False), right, "the right one", 1e-10)
    right = F.batch_norm(minigen.tensor(x.reshape(6, -1)), None, None, training=True).reshape(x.shape)
    close(answer(x, True), right, "the broken one", 1e-10)
    images = digits("test")[0][:50].astype(np.float64)
    some = np.arange(50) % 2 == 0  # every other picture moves
    both = np.where(some[:, None, None, None], np.roll(images, 1, -1), images)
    for broken in (False, True):
        name = "over pictures only" if broken else "over both"
        before, after = answer(images, broken), answer(both, broken)
        error = np.linalg.norm(after[some] - np.roll(before[some], 1, -1)) / np.linalg.norm(before[some])
        brightest = np.abs(before).max()
        print(f"  {name:20} moving error {error:.3f}   largest number that comes out {brightest:.1f}")
        if not broken and error > 1e-10:
            raise Wrong("what is normalised over all places must move with the picture")
    print("  a pixel that is nearly always empty has hardly any variance: one drop of ink there is blown up")
