# %% [markdown]
# # 3. Kernels: the same sum, a thousand times faster
#
# Why is one loop a thousand times faster than another, and how do you know when to stop?
#
# A kernel is the innermost loop of a program: the few lines in which all the time goes. We take three that every
# network needs (a sum, a softmax, a product of matrices) and climb with each from a loop in Python to what the engine
# runs. Each rung changes one thing and says why it is faster. And before we climb we measure how high the ceiling is,
# on *your* machine: no loop can be faster than its bytes and its operations allow. When a rung is near that, stop.
#
# 1. the ceiling: bytes and operations
# 2. a sum: why a compiled loop is still slow
# 3. softmax: an exponential without a library, and fewer trips to memory
# 4. a product of matrices: use what you have loaded
# 5. threads, and the same bits on any number of them
# 6. a GPU: ten thousand threads
# 7. when to stop: the roofline
# 8. an op with two bodies
#
# You need lesson 2 (ops and gradients). Run it with `python lessons/03_kernels.py`.

# %%
import inspect
import math
import time

import numpy as np

import minigen
from minigen import autograd, kernels
from minigen.autograd import op
from minigen.gradcheck import worst_error
from minigen.kernels import ladder
from minigen.kernels.cpu import vector_math
from minigen.kernels.cpu.blas import describe, single_threaded_blas
from minigen.kernels.cpu.compile import inline_sums, kernel
from minigen.kernels.ladder import gpu, nvrtc, threads
from minigen.lessons import Lesson
from minigen.plot import COLOURS

lesson = Lesson("03_kernels", uses=("device",))
g = lesson.generator
U = 2.0**-24  # rounding to float32 is off by at most this share

# %% [markdown]
# ## 1. The ceiling: bytes and operations
#
# A kernel must fetch what it reads, store what it writes, and compute in between. Let it move b bytes and do n
# operations on a machine that moves B bytes and does P operations a second. Moving and computing overlap at best, so
#
#     time  >=  max(b / B,  n / P)                  (the roofline model: Williams, Waterman & Patterson 2009)
#
# That is the *floor* of the kernel. Two numbers of the machine are needed. First, how to measure at all: other
# programs disturb, so contestants take turns for several rounds. A disturbance can only add time: the best round is
# the estimate.

# %%
lesson.section("1. The ceiling: bytes and operations")


def race(runs, rounds, least=3e-4):
    """{name: seconds a call, in each round}. Short calls are repeated until they take `least` seconds."""
    repeats = {}
    for name, run in runs.items():
        run()  # the first call compiles, and touches the memory
        started = time.perf_counter()
        run()
        repeats[name] = max(1, math.ceil(least / (time.perf_counter() - started + 1e-9)))
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - started) / repeats[name])
    return {name: np.array(found) for name, found in times.items()}


# %% [markdown]
# B first. A copy reads and writes; a dot product only reads. We take the better of them, for arrays from 16 KB up.
# And P: multiply-adds on numbers that stay in the registers, where no memory can be in the way, or a large product by
# the library that has been tuned for decades, if that is faster. (A multiply-add is two operations.)

# %%
ROUNDS = lesson.pick(20, quick=4)
LARGE = lesson.pick(1 << 24, quick=1 << 23)  # floats: 64 MB, beyond the caches of most machines
pool = [g.normal((LARGE,)), np.ones(LARGE, np.float32)]


def bandwidth(size, rounds=ROUNDS):
    """Bytes a second for arrays of so many bytes, on one thread."""
    x, y = (whole[: size // 4] for whole in pool)
    with single_threaded_blas:
        times = race({"copy": lambda: np.copyto(y, x), "dot": lambda: np.dot(x, y)}, rounds)
    return 2 * size / min(found.min() for found in times.values())


@kernel(parallel=False)
def multiply_add(x, y, a, b):
    for i in range(x.size):
        p = x[i]
        for _ in range(8):  # a chain of 8; many chains are under way at once
            p = p * a + b
        y[i] = p


def peak(rounds=ROUNDS):
    """Operations a second on one thread: of a loop over registers, or of the library's product if that is faster."""
    x, y = np.ones(1 << 15, np.float32), np.empty(1 << 15, np.float32)
    a, c = np.ones((512, 512), np.float32), np.empty((512, 512), np.float32)
    loop = race({"loop": lambda: multiply_add(x, y, np.float32(0.5), np.float32(0.25))}, 4 * rounds)["loop"]
    with single_threaded_blas:
        product = race({"product": lambda: np.matmul(a, a, out=c)}, rounds)["product"]
    return max(2 * 8 * x.size / loop.min(), 2 * 512**3 / product.min())


sizes = [1 << k for k in range(14, int(math.log2(4 * LARGE)) + 1)]
speeds = [bandwidth(size) for size in sizes]
NEAR, FAR, PEAK = max(speeds), speeds[-1], peak()
print(f"  memory  {FAR / 1e9:6.1f} GB/s for {sizes[-1] >> 20} MB, {NEAR / 1e9:.0f} GB/s in the caches, on one thread")
print(f"  peak    {PEAK / 1e9:6.1f} Gop/s on one thread: {PEAK / FAR * 4:.0f} operations in the time of one float32")
print(f"  products run on {describe()}")

with lesson.figure("memory", "Every cache that no longer holds the array costs speed.", size=(4.8, 2.8)) as axes:
    axes.semilogx(np.array(sizes) / 1024, np.array(speeds) / 1e9, "o-", base=2, markersize=4)
    axes.set(xlabel="size of each of two arrays", ylabel="GB/s, one thread", title="How fast memory is", ylim=(0, None))
    axes.set_xticks([16, 256, 4096, 65536], ["16 KB", "256 KB", "4 MB", "64 MB"])

# %% [markdown]
# The steps are the caches. (The smallest arrays are slower again: there it is the call that costs.) And the second line
# is the most important number of this lesson: so many operations could be done while *one* number comes from memory.
# Whatever does fewer than that with a number waits for memory.
#
# ## 2. A sum: why a compiled loop is still slow
#
# A sum reads 4 bytes an element and adds once: its floor is 4 / B. The ladder's rungs stand in `kernels/ladder/`, one
# file an operation. Here are two of them. Look for the difference:

# %%
lesson.section("2. A sum: why a compiled loop is still slow")


def show(function):
    print("    " + inspect.getsource(inspect.unwrap(function)).rstrip().replace("\n", "\n    ") + "\n")


sums, softmaxes, products = (ladder.load(name) for name in ladder.KERNELS)
show(ladder.sum.in_order)
show(ladder.sum.in_any_order)

# %% [markdown]
# The body is the same, to the letter. `exact=True` compiles the additions in the order in which they are written.
# Without it (the engine's default, LLVM's `reassoc`) they may be reordered. To see what that is worth, climb. A rung
# is measured against the rung it improves on, and against the floor:

# %%
measured = {}  # (operation, rung) -> Gop/s, for the roofline at the end
steps = []  # (operation, rung, how many times faster than it promises)


def climb(name, rungs, arrays, small, speed, rounds=ROUNDS):
    """Race the rungs on `arrays`, the one in Python on `small`. A table, and seconds an operation by rung."""
    given = {rung.name: small if rung.name == "python" else arrays for rung in rungs}
    times = race({rung.name: (lambda rung=rung: rung(*given[rung.name])) for rung in rungs}, rounds)
    each = {rung.name: times[rung.name] / rung.ladder.operations(*given[rung.name]) for rung in rungs}
    work = rungs[0].ladder.operations(*arrays)
    floor = max(rungs[0].ladder.bytes(*arrays) / speed, work / PEAK) / work
    rows = []
    for rung in rungs:
        seconds, faster = each[rung.name].min(), ""
        if rung.over in each:
            faster = f"{each[rung.over].min() / seconds:.3g} x {rung.over}"
            if rung.promise:  # by the quickest rounds, or round by round: where a disturbance lasts, it hits both
                rounds_apart = float(np.median(each[rung.over] / each[rung.name]))
                steps.append((name, rung.name, max(rounds_apart, each[rung.over].min() / seconds) / rung.promise))
        rows.append([rung.name, 1e9 * seconds, faster, f"{100 * floor / seconds:.3g} %"])
        measured[name, rung.name] = 1e-9 / seconds
    lesson.table([name, "ns/op", "faster than before", "of the limit"], rows)
    print()
    return each


NEARBY = 1 << 17  # 512 KB: in the second or third cache
near = (pool[0][:NEARBY],)
near_speed = max(bandwidth(size) for size in (1 << 18, 1 << 19))
sum_near = climb("sum, 512 KB", sums.on("cpu"), near, near, near_speed)
sum_far = climb("sum, 64 MB" if not lesson.quick else "sum, 32 MB",
                [sums[name] for name in ("numpy", "scalar", "vector")], (pool[0],), near, FAR)  # fmt: skip

# %% [markdown]
# The compiled loop in order is tens of times faster than Python, and still far from the limit: each addition needs the
# result of the one before it, so the processor, which could start dozens of additions in that time, waits for one.
# Given leave to reorder, the compiler keeps dozens of running sums, up to 16 in one register, and none waits. NumPy
# lies in between: it may reorder too (its order is eight columns, then pairs), but does not use the whole width.
#
# In the second table the array comes from memory. The differences shrink: *memory* is the limit now, and the last
# rung is at it. There is nothing left to gain, unless it reads less.
#
# Why is reordering not the default in every compiler? Because it changes the result. Floating-point addition is not
# associative; each addition rounds to 24 bits. How much, and is it worse?

# %%
rows, exact = [], {}
for name in ("scalar", "numpy", "vector"):
    errors = []
    for _ in range(lesson.pick(20, quick=5)):
        x = g.normal((100_000,)) ** 2
        errors.append(abs(float(sums[name](x)) - math.fsum(x)) / math.fsum(x) / U)
    order = {"scalar": "one after another", "numpy": "eight columns, pairs of blocks", "vector": "dozens of columns"}
    rows.append([order[name], np.mean(errors), np.max(errors)])
lesson.table(["order of 100,000 additions", "error, in roundings: mean", "worst"], rows)

# %% [markdown]
# In order is the *least* accurate. Its running total grows large, and every further addition rounds away a little of
# the small number that is added. Dozens of smaller totals lose less, and pairs of pairs lose least: their error grows
# with log n where that of the loop grows with n (Higham 2002, chapter 4). So reordering is not "unsafe math". It is
# another order, usually a better one; but another, and whoever promises the same bits must fix it (section 5).
#
# ## 3. Softmax: an exponential without a library, and fewer trips to memory
#
#     y_j = e^(x_j - m) / sum_k e^(x_k - m),        m = max x
#
# Reordering alone does not help here. `math.exp` is a call of a function that takes *one* number: no compiler can
# make 16 of it. What it can widen is plain arithmetic. So write the exponential as plain arithmetic: with n = x / log 2
# rounded to a whole number and r = x - n log 2,
#
#     e^x = 2^n e^r,      |r| <= log(2) / 2
#
# 2^n is only a number written into the exponent's bits, and e^r on so short an interval is a polynomial. Of which
# degree? Float32 needs an error below 2^-24. A Taylor series is best at r = 0 and bad at the ends; fitting at
# Chebyshev's points spreads the error evenly.

# %%
lesson.section("3. Softmax: an exponential without a library, and fewer trips to memory")

HALF = math.log(2) / 2
r = np.linspace(-HALF, HALF, 2001)
nodes = lambda degree: HALF * np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
fits = {degree: np.polyfit(nodes(degree), np.exp(nodes(degree)), degree) for degree in range(2, 8)}
taylor = {degree: [1 / math.factorial(k) for k in range(degree, -1, -1)] for degree in fits}
worst = lambda polynomial: np.abs(np.polyval(polynomial, r) / np.exp(r) - 1).max()


def exp_by_hand(x, polynomial):
    """e**x in float32: a rounding, a polynomial, and bits put together."""
    x = np.asarray(x, np.float32)
    n = np.rint(x * np.float32(1 / math.log(2)))
    r = (x - n * np.float32(0.693359375)) - n * np.float32(
        -2.12194440e-4
    )  # log 2 in two parts: n times the first is exact
    p = np.polyval(np.asarray(polynomial, np.float32), r)
    return p * ((n.astype(np.int32) + 127) << 23).view(np.float32)


@kernel(parallel=False)
def engine_exp(x, y):
    for i in range(x.size):
        y[i] = vector_math.exp(x[i])


x = np.linspace(-80, 80, 20_001).astype(np.float32)
truth = np.exp(x.astype(np.float64))
engines = np.empty_like(x)
engine_exp(x, engines)
by_hand = exp_by_hand(x, fits[6])
lesson.table(
    ["e^x for x from -80 to 80", "largest relative error"],
    [
        ["ours, degree 6", np.abs(by_hand / truth - 1).max()],
        ["the engine's (vector_math.exp)", np.abs(engines / truth - 1).max()],
    ],
)
with lesson.figure("exponential", "Degree 6 is enough for float32; Chebyshev saves a degree.", size=(4.8, 2.8)) as axes:
    axes.semilogy(list(fits), [worst(p) for p in fits.values()], "o-", label="fitted at Chebyshev's points")
    axes.semilogy(list(taylor), [worst(p) for p in taylor.values()], "o-", color=COLOURS["second"], label="Taylor")
    axes.axhline(U, color=COLOURS["floor"], linestyle="--", linewidth=1, label="rounding of float32")
    axes.set(xlabel="degree", ylabel="largest relative error", title="A polynomial for e^r, |r| <= 0.35")
    axes.legend()

# %% [markdown]
# The other half is memory. NumPy's softmax is five calls, and each of them goes over the whole array. How many bytes
# is that? We need not guess: an array class can see every call and count what it reads and writes.

# %%


class Counted(np.ndarray):
    """An array that counts the bytes its NumPy calls read and write."""

    moved = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        plain = [np.asarray(x) for x in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        Counted.moved += sum(x.nbytes for x in plain) + result.nbytes
        return result.view(Counted)


x = g.normal((256, 1024))
softmaxes["numpy"].run.__wrapped__(x.view(Counted))
composed = Counted.moved / x.size
print(
    f"  bytes an element: composed of NumPy calls {composed:.1f}, fused into one pass {softmaxes.bytes(x) / x.size:.0f}"
)

ROWS = lesson.pick(8192, quick=2048)
matrix = pool[0][: ROWS * 1024].reshape(ROWS, 1024)
softmax_each = climb("softmax", softmaxes.on("cpu"), (matrix,), (matrix[:32],), FAR, lesson.pick(15, quick=3))

# %% [markdown]
# A factor of four in bytes: for a loop that waits for memory, that is what fusing is worth, and no cleverness inside
# the five calls can win it back. A fused kernel takes a row through all its steps while it lies in the first cache.
# That is why the engine has a kernel for softmax, for layer norm, for Adam, and why a compiler for networks is above
# all a machine that fuses.
#
# The scalar rung is fused too, and yet slower than NumPy: it waits for exp, call by call, where NumPy's own is plain
# arithmetic over 4 to 16 numbers. Both changes are needed, and the vector rung has both. It is still two to four times
# the floor: an ordinary store fetches the line that it is about to write, so memory moves 12 bytes an element where we
# counted 8 (a large copy goes round the cache and need not), and the arithmetic is not wholly hidden.
#
# ## 4. A product of matrices: use what you have loaded
#
#     c_ij = sum_k a_ik b_kj
#
# Now arithmetic could be the limit: n x n matrices are 12 n^2 bytes, but 2 n^3 operations. Could be, if each number
# that is loaded is used often. The obvious loop loads two numbers for each multiply-add. In tiles of 4 x 4 dot
# products, eight loads serve sixteen:
#
#     for k:   load a[i..i+3, k] and b[k, j..j+3];   sixteen sums += the sixteen products
#
# See `four_rows` in `kernels/ladder/matmul.py`. Libraries do the same once more for each level of cache (Goto & van
# de Geijn 2008).

# %%
lesson.section("4. A product of matrices: use what you have loaded")

SIDE = lesson.pick(384, quick=192)
a, b = (pool[0][i * SIDE * SIDE : (i + 1) * SIDE * SIDE].reshape(SIDE, SIDE) for i in range(2))
small = (np.ascontiguousarray(a[:32, :32]), np.ascontiguousarray(b[:32, :32]))
product_each = climb("matmul", products.on("cpu"), (a, b), small, FAR, lesson.pick(20, quick=3))
lesson.table(
    ["loads for a multiply-add", ""],
    [["dot by dot", 2], ["tiles of 4 x 4", 8 / 16], ["tiles of 16 x 16 in shared memory (a GPU)", 2 / 16]],
)

# %% [markdown]
# From Python to the tiles it is several thousand times, for the same operations on the same numbers. What changed is
# only when a number is fetched, and how many wait for how few.
#
# ## 5. Threads, and the same bits on any number of them
#
# The other cores are idle. To give each a share of the rows of a product, or of a softmax, is easy: rows are
# independent. A sum is not. The obvious way cuts the array into one part a thread. Then the order of the additions
# follows from the number of threads, and the last bits with it: the same program with the same seed trains another
# network on another machine. The cure costs nothing. Cut into chunks of a *fixed* size, and add their sums in order:

# %%
lesson.section("5. Threads, and the same bits on any number of them")

show(ladder.sum.by_chunks)
small_sum, small_rows = pool[0][:300_000], matrix[:64]
sums["careless"](small_sum), sums["parallel"](small_sum), softmaxes["parallel"](small_rows)
products["parallel"](*small)  # compiled and kept, so that the processes below run the same machine code

repeats = lesson.pick(20, quick=10)
rungs = ["sum/careless", "sum/parallel", "softmax/parallel", "matmul/parallel"]
one, two = (threads.results(count, rungs, repeats) for count in (1, 2))
differ = {name: sum(p != q for p, q in zip(one[name], two[name])) for name in rungs}
lesson.table([f"of {repeats} results", "differ between 1 and 2 threads"], [[name, n] for name, n in differ.items()])
lesson.proof(
    "results whose bits change with the threads",
    max(n for name, n in differ.items() if name != "sum/careless"),
    f"of {repeats}",
    floor=(differ["sum/careless"], "one part a thread"),
    optimum=(0, "exact"),
    at_most=0,
)

import numba  # noqa: E402  (after the kernels: it is heavy)

print(f"\n  and the speed, with {numba.get_num_threads()} thread(s), as the machine was when this ran:")
for name, rungs, arrays in [
    ("sum", [sums[n] for n in ("vector", "parallel", "engine")], (pool[0],)),
    ("softmax", [softmaxes[n] for n in ("vector", "parallel", "engine")], (matrix,)),
    ("matmul", [products[n] for n in ("tiled", "parallel", "library", "engine")], (a, b)),
]:
    climb(f"{name}, threads", rungs, arrays, arrays, FAR, lesson.pick(40, quick=3))

# %% [markdown]
# Two cores do not double everything. A sum that waits for memory gains only as far as one core could not use all of
# the memory's speed; starting threads costs some 5 microseconds; and where other programs keep the cores busy, threads
# wait for each other and *lose*. (The last column still counts against the limits of one thread: it may pass 100.)
#
# ## 6. A GPU: ten thousand threads
#
# A GPU is the same idea with other numbers. A kernel is the program of *one* thread, and the launch says how many run
# it: blocks of up to 1024 threads that can share a small fast memory and wait for each other. 32 threads, a *warp*,
# go in step. Two rules decide nearly everything:
#
# - **Memory comes in lines.** When a warp loads, the hardware fetches every line of 128 bytes that any of its threads
#   touches. Neighbours should read neighbours ("coalesced").
# - **Waiting is hidden by others.** While one warp waits for memory, another runs. So there must be many.
#
# The first rule can be counted. A softmax of rows, one thread a row or one warp a row: which lines does a warp touch
# in its first load?

# %%
lesson.section("6. A GPU: ten thousand threads")

WIDTH = 96
lane = np.arange(32)
loads = {"one thread a row": lane * WIDTH, "one warp a row": lane}
lines = {name: np.unique(4 * places // 128) for name, places in loads.items()}
lesson.table(
    ["a warp's first load", "lines fetched", "bytes used of those fetched"],
    [[name, len(found), f"{32 * 4 / (128 * len(found)):.0%}"] for name, found in lines.items()],
)
with lesson.figure("coalescing", "What 32 threads read in one step.", columns=2, size=(7.4, 2.5), sharey=True) as axes:
    for axis, (name, places) in zip(axes, loads.items()):
        picture = np.zeros((32, 128))
        picture[:, :WIDTH] = 0.15
        for place in places:
            fetched = np.arange(4 * place // 128 * 32, 4 * place // 128 * 32 + 32)
            fetched = fetched[fetched < 32 * WIDTH]
            picture[fetched // WIDTH, fetched % WIDTH] = 0.5
        picture[places // WIDTH, places % WIDTH] = 1.0
        axis.imshow(picture[:, :WIDTH], cmap="Blues", aspect="auto", vmin=0, vmax=1)
        axis.set(title=f"{name}: lines fetched {len(lines[name])}", xlabel="column")
        axis.grid(False)
    axes[0].set_ylabel("row")

# %% [markdown]
# With one thread a row, 97% of what is fetched was not asked for. (Some of it is used later, if the cache has
# not lost it by then.) With one warp a row, all of it is used.
#
# Numba compiles such kernels from Python. And where there is no GPU, its simulator runs every thread as a thread of
# Python, with barriers and shared memory. That proves that a kernel is *right*; of its speed it says nothing at all.
# A sum as a tree in shared memory:

# %%
cuda, simulated = gpu.numba_cuda()
print(f"  numba.cuda runs {'in its simulator' if simulated else 'on the GPU'}\n")
show(ladder.sum.on_numba()[1].fn if simulated else ladder.sum.on_numba()[1].py_func)

# %% [markdown]
# `syncthreads` is the barrier: no thread may read a neighbour's sum before it is written. Now every rung of every
# ladder is checked against the mathematics in float64. How close must it be? Theory says (Higham 2002): an error of
# at most K u |a| |b| for a product over K, n u sum |x| for a sum of n, with u = 2^-24; for softmax (range + D + 20) u,
# relative, with the range of the row's logits. We report the worst error of all, as a share of its bound.

# %%


def check_rungs():
    """[(operation, rung, error as a share of the bound)] for every rung that can run here."""
    x, rows, a, b = g.normal((1003,)), 3 * g.normal((6, 37)), g.normal((9, 11)), g.normal((11, 7))
    wide = [array.astype(np.float64) for array in (x, rows, a, b)]
    powers = np.exp(wide[1] - wide[1].max(1, keepdims=True))
    softmax = powers / powers.sum(1, keepdims=True)
    relative = (np.ptp(rows, axis=1).max() + rows.shape[1] + 20) * U
    cases = [
        ("sum", sums, (x,), wide[0].sum(), x.size * U * np.abs(wide[0]).sum()),
        ("softmax", softmaxes, (rows,), softmax, relative * softmax),
        ("matmul", products, (a, b), wide[2] @ wide[3], a.shape[1] * U * np.abs(wide[2]) @ np.abs(wide[3])),
    ]
    places = ["cpu", "threads", "numba.cuda"] + ["cuda"] * gpu.available()
    for name, rungs, arrays, truth, bound in cases:
        for rung in rungs.on(*places):
            found = rung(*arrays)
            found = found.get() if hasattr(found, "get") else found
            yield name, rung, float((np.abs(np.asarray(found, np.float64) - truth) / bound).max())


checked = list(check_rungs())
lesson.table(
    ["rung", "where", "error / bound"], [[f"{name} {rung.name}", rung.where, share] for name, rung, share in checked]
)
lesson.proof(
    f"error of {len(checked)} rungs, the worst", max(share for *_, share in checked), "of its bound", at_most=1.0
)

# %% [markdown]
# The last rungs of each ladder are CUDA C++: 16-byte loads, sums that go from register to register within a warp
# ("shuffles"), tiles in shared memory and in registers. They run with CuPy on a GPU. Without one, NVIDIA's compiler
# can at least say whether they compile (`pip install nvidia-cuda-nvrtc-cu12`).

# %%
for name in ladder.KERNELS:
    if nvrtc.library() is None:
        print("  NVRTC is not installed: the CUDA C++ rungs are not compiled here")
        break
    print(f"  {name}: CUDA C++ to {len(nvrtc.compile(getattr(ladder, name).SOURCE).splitlines())} lines of PTX")

if lesson.device == "cuda":
    import cupy

    def gpu_seconds(run, rounds=20):
        """Seconds of a call by the GPU's own clock, the median."""
        run()
        found = []
        for _ in range(rounds):
            start, stop = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            run()
            stop.record()
            stop.synchronize()
            found.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
        return float(np.median(found))

    far = [cupy.asarray(array) for array in (pool[0], matrix, a, b)]
    into = cupy.empty_like(far[0])
    rate = 2 * far[0].nbytes / gpu_seconds(lambda: cupy.copyto(into, far[0]))
    rows = []
    for name, rungs, arrays in [
        ("sum", sums, far[:1]),
        ("softmax", softmaxes, far[1:2]),
        ("matmul", products, far[2:]),
    ]:
        seconds = gpu_seconds(lambda run=rungs["cuda_cpp"], arrays=arrays: run(*arrays))
        rows.append([name, 1e6 * seconds, f"{100 * rungs.bytes(*arrays) / rate / seconds:.3g} %"])
    print(f"  the GPU copies {rate / 1e9:.0f} GB/s")
    lesson.table(["CUDA C++", "microseconds", "of the memory's limit"], rows)

# %% [markdown]
# ## 7. When to stop: the roofline
#
# All of it in one picture. Across: how many operations a kernel does for each byte that it must move. Upwards: how
# many a second. The slanted roof is memory's (B times operations a byte), the flat one is arithmetic's. A kernel
# stands on one vertical line, whatever its code, and climbing is all it can do.

# %%
lesson.section("7. When to stop: the roofline")

across = {
    "sum, 512 KB": sums.operations(pool[0]) / sums.bytes(pool[0]),
    "softmax": softmaxes.operations(matrix) / softmaxes.bytes(matrix),
    "matmul": products.operations(a, b) / products.bytes(a, b),
}
with lesson.figure("roofline", "The roofs are this machine's; each dot is a rung.", size=(6.4, 4.2)) as axes:
    reach = np.geomspace(0.05, 500, 200)
    for rate, style, name in [(FAR, "-", "memory"), (near_speed, "--", "cache")]:
        axes.loglog(reach, np.minimum(rate * reach, PEAK) / 1e9, style, color=COLOURS["truth"], linewidth=1)
        axes.text(0.055, rate * 0.055 / 1e9 * 1.3, f"{name} {rate / 1e9:.0f} GB/s", fontsize=7, rotation=33)
    axes.text(480, PEAK / 1e9 * 1.15, f"peak {PEAK / 1e9:.0f} Gop/s", fontsize=7, ha="right")
    for (name, place), role in zip(across.items(), ("ours", "second", "third")):
        rungs = sorted((speed, rung) for (kind, rung), speed in measured.items() if kind == name)
        for k, (speed, rung) in enumerate(rungs):
            axes.loglog(place, speed, "o", color=COLOURS[role], markersize=5)
            crowded = k > 0 and speed < 1.5 * rungs[k - 1][0]
            side, align = (-6, "right") if crowded else (6, "left")
            axes.annotate(rung, (place, speed), (side, -2), textcoords="offset points", fontsize=7, ha=align)
        axes.text(place, 3e-3, name, color=COLOURS[role], ha="center", fontsize=9)
    axes.set(xlabel="operations a byte", ylabel="Gop/s, one thread", title="Roofline", ylim=(2e-3, 4 * PEAK / 1e9))

# %% [markdown]
# So, how do you know when to stop? When the dot is at the roof. And what to do before that, the picture says too. Far
# below the slanted roof: too many trips to memory, so fuse. On the slanted roof: read less (smaller types, fewer
# passes), which moves the dot to the *right*. Far below the flat roof: something waits; reorder, widen, use what is
# loaded. Two thirds of a roof are good, and the last third is usually dear.
#
# Speed is not reproducible, so the proofs ask little of it, and of ratios only. A rung that promises to be so many
# times faster than another must be, in its quickest round or in the median of rounds in which both took their turn.
# And the top rungs must come within a factor of five of this machine's limits, whatever else it had to do. Python is
# hundreds of times away.

# %%
slowest = min(steps, key=lambda step: step[2])
print(f"  {len(steps)} rungs promise speed; the nearest to its promise is {slowest[1]} ({slowest[0]})")
lesson.proof("time of a rung / time promised, the worst", 1 / slowest[2], at_most=1.0)
python = sum_near["python"].min()
lesson.proof(
    "sum from memory: time / floor",
    float(sum_far["vector"].min() / (4 / FAR)),
    floor=(float(python / (4 / FAR)), "plain Python"),
    optimum=(1.0, "this machine's bandwidth"),
    at_most=5.0,
)
lesson.proof(
    "matmul: time / floor",
    float(min(product_each[name].min() for name in ("tiled", "library")) * PEAK),
    floor=(float(product_each["python"].min() * PEAK), "plain Python"),
    optimum=(1.0, "this machine's peak"),
    at_most=5.0,
)

# %% [markdown]
# ## 8. An op with two bodies
#
# Last, the engine. How does a kernel become an op that can be differentiated? We make one that minigen does not have:
# a softmax with a learned inverse temperature,
#
#     y = softmax(beta x)
#     dL/dx_j   = beta y_j (g_j - s),        s = sum_k g_k y_k
#     dL/dbeta  = sum_rows sum_j x_j y_j (g_j - s)
#
# It has two bodies. The *kernel* is fast. The *definition* is the mathematics, in ops that the engine knows. The
# engine uses the definition wherever there is no kernel for an array (float64, another device, `MINIGEN_KERNELS=off`)
# and for second derivatives. And a test may compare the two.

# %%
lesson.section("8. An op with two bodies")


@inline_sums
def dot(p, q):
    total = np.float32(0)
    for j in range(p.size):
        total += p[j] * q[j]
    return total


@kernel(parallel=False)
def warm_rows(x, beta, y, warm):
    for i in range(x.shape[0]):
        a = x[i]
        for j in range(a.size):
            warm[j] = beta * a[j]
        ladder.softmax.row(warm, y[i])  # the ladder's own; `warm`, one row, never leaves the first cache


@kernel(parallel=False)
def warm_rows_gradient(g, x, beta, y, gx, gbeta):
    for i in range(x.shape[0]):
        a, b, d, to_x = x[i], y[i], g[i], gx[i]
        s, total = dot(d, b), np.float32(0)
        for j in range(a.size):
            slope = b[j] * (d[j] - s)
            to_x[j] = beta * slope
            total += a[j] * slope
        gbeta[i] = total


@op
def warm_softmax(x, beta):
    """softmax(beta x) over rows: x (N, D), beta a number -> (N, D)."""
    if kernels.find(x, "softmax") is None:
        return NotImplemented
    y = np.empty_like(x)
    warm_rows(np.ascontiguousarray(x), np.float32(beta), y, np.empty(x.shape[1], np.float32))
    return y


@warm_softmax.gradient
def _(g, y, x, beta):
    gx, by_row = np.empty_like(x), np.empty(len(x), np.float32)
    warm_rows_gradient(np.ascontiguousarray(g), np.ascontiguousarray(x), np.float32(beta), y, gx, by_row)
    return gx, by_row.sum().reshape(np.shape(beta))


@warm_softmax.definition
def _(x, beta):
    z = beta * x
    powers = minigen.exp(z - z.amax(1, keepdim=True).detach())
    return powers / powers.sum(1, keepdim=True)


# %% [markdown]
# Is it right? First the gradient of the definition, in float64 against differences (lesson 2), and its second
# derivative, which nobody wrote. Then the kernel against the definition in float32, forwards and backwards.

# %%
double = lambda *shape: minigen.tensor(g.normal(shape).astype(np.float64), requires_grad=True)
first = max(worst_error(warm_softmax, [double(4, 6), double()], seed=k) for k in range(5))


def second(x, beta):
    y = warm_softmax(x, beta)
    return autograd.grad((y**3).sum(), [x, beta], create_graph=True)[0]


lesson.proof("gradient of the definition", first, "relative", at_most=1e-7)
lesson.proof(
    "its second derivative", max(worst_error(second, [double(4, 6), double()], seed=k) for k in range(5)), "relative",
    at_most=1e-7,
)  # fmt: skip


def both_ways(x, beta, slope):
    """(y, dL/dx, dL/dbeta) where slope is dL/dy."""
    x, beta = minigen.tensor(x, requires_grad=True), minigen.tensor(beta, requires_grad=True)
    y = warm_softmax(x, beta)
    y.backward(slope)
    return [found.detach().numpy() for found in (y, x.grad, beta.grad)]


x, beta, slope = g.normal((512, 256)), np.float32(1.5), minigen.tensor(g.normal((512, 256)))
fast = both_ways(x, beta, slope)
with kernels.disabled():
    defined = both_ways(x, beta, slope)
# dL/dbeta adds terms of both signs, so its error is compared with their sizes: the sum itself may be near 0.
sizes = [np.abs(defined[0]).max(), np.abs(defined[1]).max(), np.abs(x * defined[1]).sum() / beta]
apart = max(float(np.abs(p - q).max() / size) for p, q, size in zip(fast, defined, sizes))
lesson.proof("kernel against definition", apart, "relative", at_most=(np.ptp(x) * beta + 256 + 20) * U)


def by_definition():
    with kernels.disabled():
        both_ways(x, beta, slope)


times = race({"kernel": lambda: both_ways(x, beta, slope), "definition": by_definition}, lesson.pick(9, quick=3))
print(f"  there and back, the kernel is {times['definition'].min() / times['kernel'].min():.1f} times as fast")

# %% [markdown]
# Every fused op of minigen is made in this way: `minigen/ops/` has the ops, `kernels/` their kernels, and
# `minigen check` compares all of them.
#
# ## What this lesson does not show
#
# - **The cost of a launch.** On a GPU a small model waits for Python, not for memory: some 10 microseconds for each op.
#   Recording a whole training step and replaying it at once (a CUDA graph) removes that. It belongs to lesson 41.
# - Tensor cores, half precision, and loads that run ahead of the arithmetic: how a GPU's product reaches its roof.
# - How the ladder's GPU rungs fare in *time*, unless you ran this with `--device cuda`. The simulator cannot say.
# - Polyhedral compilers, Triton, TVM: programs that find such loops by themselves. They search on the same picture.
#
# Where next: lesson 4 leaves the machine for mathematics, EM; lesson 6 has the next great kernel, the convolution.

# %%
lesson.end()
