# %% [markdown]
# # Exercises for lesson 41
#
# Write your answers in place of `raise NotImplementedError`, and check one with
#
#     python lessons/41_scale.py --exercise 1
#
# (or call its check here, in a notebook). Solutions lie in `lessons/solutions/41_scale.py`.

# %%
import numpy as np

from minigen.lessons import Wrong, close, exercise
from minigen.random import Generator


def numbers(*shape, seed=0):
    return Generator(seed).normal(shape)


# %% [markdown]
# ## 1. Halving the rounds
#
# A ring of N machines takes 2 (N - 1) rounds, and each costs a latency. If N is a power of two, log2 N rounds are
# enough: in round j every machine r swaps its whole array with machine r XOR 2^j, and both add. (Then everyone sends
# log2 N arrays in place of 2: good for short arrays.)

# %%


def butterfly(arrays):
    """arrays (N, n), a row for each machine; N a power of two -> ((N, n) everyone's sum, the number of rounds)."""
    raise NotImplementedError


@exercise(1, butterfly, hint="arrays = arrays + arrays[np.arange(N) ^ 2**j] does a round for all machines at once")
def check(answer):
    "Halving the rounds"
    for N, rounds in [(1, 0), (2, 1), (4, 2), (16, 4)]:
        given = numbers(N, 5).astype(np.float64)
        kept = given.copy()
        found, count = answer(given)
        if not np.array_equal(given, kept):
            raise Wrong("the arrays that were given have changed")
        close(found, np.broadcast_to(given.sum(0), (N, 5)), f"the sums of {N} machines", 1e-12)
        if count != rounds:
            raise Wrong(f"{N} machines: {count} rounds, not {rounds}")


# %% [markdown]
# ## 2. Parts of different sizes
#
# The last batch of an epoch has 10 rows, and three processes take 4, 3 and 3 of them. Each has the gradient of the mean
# over its own rows. What is the gradient of the mean over all rows?

# %%


def together(gradients, rows):
    """gradients (N, n), rows: N whole numbers, some may be 0 -> (n,), the gradient of the whole batch."""
    raise NotImplementedError


@exercise(2, together, hint="a mean over rows is a sum over rows, divided; undo each division, add, divide once")
def check_together(answer):
    "Parts of different sizes"
    for rows in ([4, 3, 3], [5, 5], [1, 0, 7]):
        each = numbers(sum(rows), 6).astype(np.float64)  # the gradient of each row's loss
        parts = np.split(each, np.cumsum(rows)[:-1])
        means = np.stack([part.mean(0) if len(part) else np.zeros(6) for part in parts])
        close(answer(means, rows), each.mean(0), f"parts of {rows} rows", 1e-12)


# %% [markdown]
# ## 3. The best segment
#
# L blocks in segments of k: ceil(L / k) inputs are kept, and while a segment is on its way back, the insides of its
# (at most) k blocks, each c times as large as an input. Which k, from 1 to L, needs the least? (Of several, the
# smallest.)

# %%


def best_segment(L, c):
    """L blocks, insides c times an input -> k, a whole number."""
    raise NotImplementedError


@exercise(3, best_segment, hint="try them all: min(range(1, L + 1), key=...) takes the first of several least ones")
def check_best_segment(answer):
    "The best segment"
    for (L, c), right in {(100, 1.0): 10, (16, 1.0): 4, (64, 4.0): 4, (64, 16.0): 2, (1, 3.0): 1, (49, 1.0): 7,
                          (12, 100.0): 1, (30, 0.01): 30}.items():  # fmt: skip
        found = answer(L, c)
        if found != right:
            raise Wrong(f"{L} blocks, insides {c:g} times an input: {found}, but {right} needs less")


# %% [markdown]
# ## 4. Break it and see: clip, then unscale
#
# A training clips its gradients: longer than `most`, they are made as long as `most`. Then someone turns on float16
# with a loss scale, and puts the division by the scale where it seems natural, right before the optimiser's step. Write
# that wrong order: clip what came back, then divide. (Right: divide, then clip. `scaler.unscale_(optimizer)` before
# `clip_grad_norm_` is that.) The check trains a small model both ways.

# %%


def clip_then_unscale(gradient, scale, most):
    """gradient (n,), of the loss times `scale` -> (n,), what the optimiser gets in the wrong order."""
    raise NotImplementedError


@exercise(4, clip_then_unscale, hint="gradient * min(1, most / its length), and only then / scale")
def check_clip_then_unscale(answer):
    "Break it and see: clip, then unscale"
    right = lambda gradient, scale, most: gradient / scale * min(1.0, most / np.linalg.norm(gradient / scale))
    for length, scale in [(0.5, 1.0), (3.0, 1.0), (3.0, 8.0), (0.001, 1024.0), (0.5, 1024.0)]:
        gradient = numbers(6).astype(np.float64)
        gradient *= length * scale / np.linalg.norm(gradient)
        wrong = gradient * min(1.0, 1 / np.linalg.norm(gradient)) / scale
        what = f"a gradient of length {length:g} at a scale of {scale:g}"
        close(answer(gradient.copy(), scale, 1.0), wrong, what, 1e-9)
    x, w = numbers(64, 8, seed=1).astype(np.float64), numbers(8, seed=2)
    for name, way, scale in [("right, ", right, 2.0**16), ("broken,", answer, 1.0), ("broken,", answer, 2.0**16)]:
        guess, losses = np.zeros(8), []
        for _ in range(100):
            off = x @ (guess - w)
            losses.append(np.mean(off**2))
            guess = guess - 0.1 * way(scale * 2 * x.T @ off / len(x), scale, 1.0)
        print(f"  {name} scale {scale:5g}: the loss goes from {losses[0]:.3f} to {losses[-1]:.3f}")
    print(
        "  without a scale nobody sees the fault; with one the steps are 65536 times too short, and no error says so."
    )
    print("  (Adam divides by the gradients' own size, and hides it until they are as small as its eps.)")


# %% [markdown]
# ## 5. Break it and see: everyone reads the same rows
#
# The commonest mistake of data parallel training: each process makes its own loader, all with the same seed, and all
# of them train on the same rows. Nothing fails, and the loss falls. Break `group.shard` so: of a batch of B rows,
# every one of N processes takes the first B / N. The check measures what it costs: how noisy the averaged gradient is.

# %%


def rows_of(rank, size, batch):
    """batch: an array of row numbers -> those that process `rank` of `size` takes, broken as described."""
    raise NotImplementedError


@exercise(5, rows_of, hint="batch[: len(batch) // size], whoever asks. Right would be batch[rank::size]")
def check_rows_of(answer):
    "Break it and see: everyone reads the same rows"
    batch = np.arange(100, 132)
    for size in (2, 4):
        for rank in range(size):
            found = np.asarray(answer(rank, size, batch))
            if not np.array_equal(found, batch[: 32 // size]):
                raise Wrong(f"process {rank} of {size} takes {found.tolist()}, not the first {32 // size}")
    gradients, order = numbers(4096), Generator(1)
    for name, shard in (("right", lambda r, n, b: b[r::n]), ("broken", answer)):
        found = []
        for _ in range(400):
            batch = order.permutation(4096)[:32]
            found.append(np.mean([gradients[shard(r, 8, batch)].mean() for r in range(8)]))
        print(f"  {name:7s} the averaged gradient's variance, 8 processes, 32 rows: {np.var(found):.4f}")
    print("  eight processes that do the work of one: the variance is that of a batch of 4.")
