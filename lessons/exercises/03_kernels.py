# %% [markdown]
# # Exercises for lesson 3
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/03_kernels.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/03_kernels.py`.
#
# Where a kernel must be fast, it is raced against the rung before it, in turns, and once is enough: five attempts.

# %%
import math
import time

import numpy as np

from minigen.kernels.cpu.compile import kernel
from minigen.kernels.ladder import gpu
from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator

cuda, _ = gpu.numba_cuda()  # numba.cuda: on a GPU, or in Numba's simulator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape)


def expect_faster(answer, before, least, attempts=5):
    """Raise Wrong unless `answer()` takes at most 1 / least of the time of `before()`."""
    best = 0.0
    for _ in range(attempts):
        times = {answer: [], before: []}
        for run in [answer, before] * 7:
            started = time.perf_counter()
            run()
            times[run].append(time.perf_counter() - started)
        best = max(best, min(times[before]) / min(times[answer]))
        if best >= least:
            print(f"  {best:.1f} times as fast as the rung before")
            return
    raise Wrong(f"the result is right, but it is {best:.2f} times as fast as the rung before, not {least}")


# %% [markdown]
# ## 1. A row that arrives in pieces
#
# Attention over a long text cannot hold a row of scores. It sees the row in pieces, each once, and still must give
# log sum e^x. Keep two numbers a row: the largest so far, and the sum of e^(x - largest). When a larger one comes, the
# sum was taken relative to the wrong number: correct it. (Milakov & Gimelshein 2018; FlashAttention is built on it.)

# %%


def log_sum_exp(pieces):
    """pieces: an iterator over arrays (N, d), d may differ -> log of the sum of e**x over all columns, (N,)."""
    raise NotImplementedError


@exercise(1, log_sum_exp, hint="with a new largest m': total <- total e^(m - m') + sum e^(x - m'). Start at m = -inf")
def check(answer):
    "A row that arrives in pieces"
    for name, shift in [("logits of a usual size", 0.0), ("logits near 1000", 1000.0), ("near -1000", -1000.0)]:
        x = 5 * numbers(7, 60) + np.float32(shift)
        right = np.log(np.exp(x.astype(np.float64) - shift).sum(1)) + shift
        for cuts in ([], [1], [10, 11, 40], list(range(1, 60))):
            close(answer(iter(np.split(x, cuts, axis=1))), right, f"{name}, in {len(cuts) + 1} pieces", 1e-6)
    rising = np.arange(60, dtype=np.float32)[None] * 10
    close(answer(iter(np.split(rising, 60, axis=1))), [590.0000454], "each piece larger than all before", 1e-6)


# %% [markdown]
# ## 2. Fuse it
#
# The rung before: layer norm, composed of NumPy calls,
#
#     y = (x - mean) / sqrt(variance + 1e-5)            over each row
#
# Write it as one kernel over rows: `@kernel(parallel=False)` above a function that loops over them. Three loops a row
# (the mean, the variance of x - mean, the result), in float32, and sums that may be reordered. It must be right, also
# for rows with a mean of 1000, and at least 1.5 times as fast. (It can be 5 times.)

# %%


def composed_layer_norm(x):
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(1, keepdims=True) + np.float32(1e-5))


def layer_norm(x):
    """x (N, D) float32 -> (N, D): makes the result, calls your kernel on it, and returns it."""
    raise NotImplementedError


@exercise(2, layer_norm, hint="a, b = x[i], y[i], then loops over j; np.float32(0) to start a sum, or it is float64")
def check_layer_norm(answer):
    "Fuse it"
    for n, width, shift in [(5, 33, 0.0), (3, 1024, 1000.0), (1, 1, 2.0)]:
        x = numbers(n, width) + np.float32(shift)
        wide = x.astype(np.float64)
        right = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
        close(answer(x), right, f"{n} rows of {width} with mean {shift:g}", 1e-3 if shift == 1000 else 1e-5)
    if answer(numbers(2, 8)).dtype != np.float32:
        raise Wrong("the result is not float32")
    x = numbers(1024, 1024)
    expect_faster(lambda: answer(x), lambda: composed_layer_norm(x), 1.5)


# %% [markdown]
# ## 3. A transposition in tiles
#
# Nothing is computed, and still the obvious loop is slow: it reads along rows and writes down columns, and of every
# line of 64 bytes that it touches it writes 4. When it comes back for the next 4, the line has left the cache. Go in
# tiles, say of 16 x 16: a tile's lines stay in the cache until they are full. At least 1.2 times as fast as the plain
# loop, for 2048 x 2048.

# %%


@kernel(parallel=False)
def plain(x, y):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[j, i] = x[i, j]


def transpose(x, y):
    """Write the transpose of x (M, N) into y (N, M), float32, and return y. M and N need not be whole tiles."""
    raise NotImplementedError


@exercise(
    3, transpose, hint="two loops over tiles, two inside; end the inner ones at min(i + 16, M) and min(j + 16, N)"
)
def check_transpose(answer):
    "A transposition in tiles"
    for shape in [(1, 1), (16, 16), (33, 50), (100, 7)]:
        x = numbers(*shape)
        y = np.full(shape[::-1], np.nan, np.float32)
        found = answer(x, y)
        close(found, x.T, f"the transpose of {shape}", 0)
        close(y, x.T, f"y, for {shape}", 0)
    x = numbers(2048, 2048)
    y = np.empty_like(x)
    plain(x, y)
    expect_faster(lambda: answer(x, y), lambda: plain(x, y), 1.2)


# %% [markdown]
# ## 4. A first kernel for the GPU
#
# y <- a x + y. Write a kernel with `cuda.jit` for one thread of many, and launch it on `blocks` blocks of `threads`
# threads: `kernel[blocks, threads](a, x, y)`. The launch is fixed, and the array has any length. So each thread begins
# at its own place (`cuda.grid(1)`) and goes on in strides of all threads (`cuda.gridsize(1)`) to the end.

# %%


def saxpy(a, x, y, blocks, threads):
    """Change y to a x + y, on blocks x threads threads of `cuda`, and return y. x and y (N,), float32."""
    raise NotImplementedError


@exercise(4, saxpy, hint="for i in range(cuda.grid(1), x.size, cuda.gridsize(1)): y[i] = ...")
def check_saxpy(answer):
    "A first kernel for the GPU"
    for n, blocks, threads in [(96, 3, 32), (250, 3, 32), (5, 2, 16), (7, 1, 1)]:
        x, y = numbers(n), numbers(n, seed=1)
        right = np.float32(0.5) * x + y
        found = answer(np.float32(0.5), x, y, blocks, threads)
        close(found, right, f"{n} numbers on {blocks} x {threads} threads", 1e-6)
        close(y, right, f"y itself, {n} numbers on {blocks} x {threads} threads", 1e-6)


# %% [markdown]
# ## 5. Break it and see: softmax without the maximum
#
# Write softmax as the formula has it, e^x over the sum of e^x, and do *not* subtract the largest. In exact arithmetic
# nothing changes. The check looks for the largest x at which a row of n equal numbers still comes out as 1 / n, in
# float32 and in float16. Where do you expect it? (Think before you run it. There are two places to overflow.)

# %%


def softmax_without_the_maximum(x):
    """x (n,) -> e**x / sum(e**x), in the type of x, the largest not subtracted."""
    raise NotImplementedError


@exercise(5, softmax_without_the_maximum, hint="np.exp(x) / np.exp(x).sum(), and no more; keep the type of x")
def check_softmax(answer):
    "Break it and see: softmax without the maximum"
    x = numbers(9)
    close(answer(x), np.exp(x) / np.exp(x).sum(), "for small numbers", 1e-6)
    rows = []
    for kind in (np.float32, np.float16):
        for n in (1, 100):

            def works(x, kind=kind, n=n):
                with np.errstate(all="ignore"):
                    y = np.asarray(answer(np.full(n, x, kind)))
                if y.dtype != kind:
                    raise Wrong(f"the result of {np.dtype(kind)} is {y.dtype}")
                return bool(np.isfinite(y).all() and np.allclose(y, 1 / n, rtol=1e-2))

            low, high = 0.0, 200.0
            if works(high):
                raise Wrong("e^200 does not overflow: the maximum is subtracted after all")
            for _ in range(30):
                middle = (low + high) / 2
                low, high = (middle, high) if works(middle) else (low, middle)
            theory = math.log(float(np.finfo(kind).max) / n)
            close(low, theory, f"{np.dtype(kind)}, n = {n}: the largest x that works", 2e-3)
            rows.append((np.dtype(kind).name, n, low, theory))
    print("  type      n    the last x that works    log(largest number / n)")
    for kind, n, low, theory in rows:
        print(f"  {kind:8}{n:4d}    {low:10.3f}               {theory:10.3f}")
    print("  the sum overflows before its terms do. In float16 a logit of 12 is enough, and logits of 12 are usual")
