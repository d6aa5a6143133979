"""The table of what every kernel family asks of memory: traffic.py counts, these are the operations.

    python tests/kernels/cuda/traffic_table.py                          float32
    python tests/kernels/cuda/traffic_table.py --type bfloat16
    python tests/kernels/cuda/traffic_table.py layer_norm --where       one family, and where its worst accesses stand
    python tests/kernels/cuda/traffic_table.py --record                 write both into traffic.txt, for the slow test

    bytes     what the launches touch, each byte once a launch, over the floor that the head of the .cu file names
    moved     the sectors of all requests, over the floor: what comes from a cache the second time is counted again
    sectors   the sectors of all requests over the least that hold the bytes asked for: 1 is coalesced
    waves     wavefronts of shared memory over the least: 1 is without bank conflicts

The shapes have several blocks and full warps; small arrays (weights, partial sums) weigh more than in earnest.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from traffic import Counter

from minigen.kernels.cpu import pool as cpu_pool
from minigen.kernels.cuda import (
    activations,
    attention,
    attention_decode,
    compile,
    conv,
    dropout,
    embedding,
    gemm,
    group_norm,
    kv_cache,
    layer_norm,
    layout,
    linear,
    losses,
    mix,
    norms,
    numbers,
    optim,
    pool,
    random,
    recurrent,
    reduce,
    sampling,
    scan,
    softmax,
)

RECORD = Path(__file__).with_name("traffic.txt")
OWN = "gemm", "attention", "conv"  # families whose products are not bound by memory: not in the record
F = np.dtype(np.float32)


def draw(dtype, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def last(x):
    """(N, C, ...), channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


CASES = {}


def case(family):
    """A generator function of (type) that yields (what, the floor's bytes, a function, *its arguments)."""

    def keep(make):
        CASES[family] = make
        return make

    return keep


@case("activations")
def _(t):
    x = draw(t, 64, 1024)
    yield "gelu 64x1024", 2 * x.nbytes, activations.activation, "gelu", x
    yield "gelu gradient", 3 * x.nbytes, activations.activation_gradient, "gelu", x, x.copy()


@case("softmax")
def _(t):
    for width in (1000, 1024, 4096):
        x, target = draw(t, 24, width), np.arange(24)
        n = x.nbytes
        yield f"softmax 24x{width}", 2 * n, softmax.softmax, x
        yield "its gradient", 3 * n, softmax.softmax_gradient, x, x.copy()
        yield "log softmax", 2 * n, softmax.log_softmax, x
        yield "cross entropy", n, softmax.cross_entropy, x, target
        yield (
            "cross entropy's gradient",
            2 * n,
            softmax.cross_entropy_gradient,
            np.ones(24, F),
            x,
            target,
            np.ones(24, F),
        )


@case("layer_norm")
def _(t):
    for n, width in ((4096, 64), (1024, 768), (64, 4096)):
        x, w, mean, rstd = draw(t, n, width), draw(t, width), np.zeros(n, F), np.ones(n, F)
        size = x.nbytes
        yield f"layer norm {n}x{width}", 2 * size, layer_norm.layer_norm, x, w, w.copy(), 1e-5
        yield "its gradient", 3 * size, layer_norm.layer_norm_gradient, x, x.copy(), w, mean, rstd
        yield "RMS norm", 2 * size, layer_norm.rms_norm, x, w, 1e-5
        yield "its gradient", 3 * size, layer_norm.rms_norm_gradient, x, x.copy(), w, rstd


@case("norms")
def _(t):
    for order, what in ((np.ascontiguousarray, "first"), (last, "last")):
        x, g, w = order(draw(t, 8, 64, 16, 16)), order(draw(t, 8, 64, 16, 16)), draw(t, 64)
        mean, ones, size = np.zeros(64, F), np.ones(64, F), x.nbytes
        yield f"batch norm 8x64x16x16 {what}", 3 * size, norms.batch_norm, x, w, w.copy(), 1e-5
        yield "its gradient", 5 * size, norms.batch_norm_gradient, g, x, w, mean, mean.copy(), ones
        yield "evaluation", 2 * size, norms.batch_norm_eval, x, w, w.copy(), mean, ones, 1e-5


@case("group_norm")
def _(t):
    for order, what in ((np.ascontiguousarray, "first"), (last, "last")):
        x, w = order(draw(t, 4, 64, 16, 16)), draw(t, 64)
        size, saved = x.nbytes, [draw(F, 4 * 64, seed=i) for i in range(5)]
        yield f"group norm 4x64x16x16 {what}", 3 * size, group_norm.group_norm, x, 8, w, w.copy(), 1e-5, "silu"
        g = order(draw(t, *x.shape))
        yield "its gradient", 5 * size, group_norm.group_norm_gradient, g, x, 8, w, *saved, "silu"


@case("reduce")
def _(t):
    x = draw(t, 512, 512)
    yield "sum of rows 512x512", x.nbytes, reduce.sum_leading, x
    yield "sum of all", x.nbytes, reduce.sum_all, x
    yield "sum of squares", x.nbytes, reduce.sum_squares, x


@case("optim")
def _(t):
    n = 1 << 16
    p, g, m, v = draw(F, n), draw(t, n), draw(F, n), abs(draw(F, n))
    yield "AdamW 65536", n * (24 + t.itemsize), optim.adam, p, g, m, v, None, 1, 0.1, 0.9, 0.99, 1e-8, 0.1, True
    yield "SGD", n * (16 + t.itemsize), optim.sgd, p, g, m, 0.1, 0.9
    yield "average", n * (8 + t.itemsize), optim.lerp, p, g, 0.1
    yield "scale", n * 2 * t.itemsize, optim.scale, g, 0.5


@case("numbers")
def _(t):
    g = draw(t, 1 << 16)
    yield "unscale 65536", 2 * g.nbytes, numbers.unscale, g, np.ones((), F), np.zeros((), F)


@case("random")
def _(t):
    if t == F:
        yield "words 65536", 4 << 16, random.bits, 1, 2, 3, 1 << 16
        yield "normal", 4 << 16, random.normal, 1, 2, 3, 1 << 16


@case("scan")
def _(t):
    for shape, dim in (((512, 512), 1), ((512, 2048), 1), ((4, 65536), 1), ((64, 64, 64), 1), ((4096, 64), 0)):
        x = draw(t, *shape)
        yield f"{'x'.join(map(str, shape))} along {dim}", 2 * x.nbytes, scan.cumsum, x, dim
    yield "from the end", 2 * x.nbytes, scan.cumsum, x, 0, True


@case("dropout")
def _(t):
    x = draw(t, 64, 1024)
    yield "dropout 64x1024", 2 * x.nbytes, dropout.dropout, x, 1 << 30, 1.25, 1, 2, 3


@case("losses")
def _(t):
    x, g, weight = draw(t, 64, 1024), np.ones((), F), draw(t, 1024)
    yield "mse, sum 64x1024", 2 * x.nbytes, losses.loss_sum, "mse", x, x.copy()
    yield "its gradient", 3 * x.nbytes, losses.loss_gradient, "mse", g, x, x.copy()
    yield "bce, each", 3 * x.nbytes, losses.loss_each, "bce", x, x.copy()
    yield "gradient of each", 4 * x.nbytes, losses.loss_gradient, "bce", x, x.copy(), x.copy()
    yield "weighted bce", 3 * x.nbytes, losses.weighted_bce_with_logits, x, x.copy(), None, weight
    yield "its gradient", 4 * x.nbytes, losses.weighted_bce_with_logits_gradient, x, x.copy(), x.copy(), None, weight


@case("embedding")
def _(t):
    table, index = draw(t, 1024, 256), np.random.default_rng(0).permutation(1024)[:512]
    g = draw(t, 512, 256)
    yield "embedding 512 of 1024x256", 2 * g.nbytes, embedding.embedding, table, index
    yield "its gradient", 2 * g.nbytes, embedding.embedding_gradient, g, index, 1024
    many, wide = np.random.default_rng(0).integers(0, 1024, 4096), draw(t, 4096, 64)
    floor = wide.nbytes + 1024 * 64 * t.itemsize
    yield "gradient, 4096 of 1024x64", floor, embedding.embedding_gradient, wide, many, 1024


@case("pool")
def _(t):
    window, overlap = ((2, 2), (0, 0), (1, 1), 1), ((2, 2), (1, 1), (1, 1), 1)
    for order, what in ((np.ascontiguousarray, "first"), (last, "last")):
        x, y = order(draw(t, 2, 32, 32, 32)), order(draw(t, 2, 32, 16, 16))
        n, m = x.nbytes, y.nbytes
        yield f"max 2x2, 2x32x32x32 {what}", n + m + 8 * y.size, pool.max_pool, x, (2, 2), (16, 16), window
        places = order(cpu_pool.max_pool(x.astype(F), (2, 2), (16, 16), window)[1])
        yield "its gradient", n + m + 8 * y.size, pool.put, y, places, (32, 32), ((2, 2), window)
        yield "max 3x3 overlapping", n + m + 8 * y.size, pool.max_pool, x, (3, 3), (16, 16), overlap
        yield "mean 2x2", n + m, pool.sum_pool, x, (2, 2), (16, 16), window, 0.25
        yield "its gradient", n + m, pool.spread, y, (2, 2), (32, 32), window, 0.25
        whole = (32, 32), (0, 0), (1, 1), 1
        yield "global mean", n, pool.sum_pool, x, (32, 32), (1, 1), whole, 1 / 1024
        yield "take", n / 4 + m + 8 * y.size, pool.take, x, places


@case("mix")
def _(t):
    places, weights = np.stack([np.arange(64) // 2, np.minimum(np.arange(64) // 2 + 1, 31)]), np.full((2, 64), 0.5, F)
    x = draw(t, 8, 32, 32)
    yield "rows 8x32x32 to 8x64x32", 3 * x.nbytes, mix.mix, x, 1, places, weights
    yield "columns to 8x32x64", 3 * x.nbytes, mix.mix, x, 2, places, weights


@case("recurrent")
def _(t):
    T, N, H = 4, 32, 64
    x, h, w, b = draw(t, T, N, H), draw(t, N, H), draw(t, 4 * H, H) / 8, draw(t, 4 * H)
    c = draw(F, N, H)
    one = x.nbytes
    floor = 8 * one + one + 4 * x.size + w.nbytes
    yield "LSTM 4x32x64", floor, recurrent.lstm, x, h, c, w, w, b, b, False, False
    hs, cs, gates = draw(t, T + 1, N, H), draw(F, T + 1, N, H), abs(draw(t, T, N, 4 * H)) / 4
    floor = 8 * one + one + 4 * x.size + w.nbytes
    yield "its gradient", floor, recurrent.lstm_gradient, x, None, None, x, w, w, hs, cs, gates, False, False, [0] * 7
    w, b = w[: 3 * H], b[: 3 * H]
    yield "GRU", 6 * one + 2 * one + w.nbytes, recurrent.gru, x, h, w, w, b, b, False, False
    w, b = w[:H], b[:H]
    yield "RNN", 2 * one + w.nbytes, recurrent.rnn, x, h, w, w, b, b, "tanh", False, False


@case("sampling")
def _(t):
    logits, ids = draw(t, 4, 8192), np.random.default_rng(0).integers(0, 8192, (4, 512))
    yield "draw 4x8192", logits.nbytes, sampling.draw, logits, 1.0, None, None, None, 1, 2, 3
    yield "draw, top-k and top-p", logits.nbytes, sampling.draw, logits, 1.0, 50, 0.9, None, 1, 2, 3
    yield "largest", logits.nbytes, sampling.largest, logits
    yield "penalty", 4 * 512 * (8 + 2 * t.itemsize), sampling.repetition_penalty, logits, ids, 1.5


@case("kv_cache")
def _(t):
    keys, k = draw(t, 4, 8, 64, 64), draw(t, 4, 16, 8, 64).transpose(0, 2, 1, 3)
    places = np.tile(np.arange(16), (4, 1))
    yield "16 symbols, 4x8 heads of 64", 4 * k.nbytes, kv_cache.cache_write, keys, keys.copy(), k, k.copy(), places


@case("layout")
def _(t):
    x = draw(t, 4, 64, 256)
    yield "turn 4x64x256", 2 * x.nbytes, layout.turned, x


@case("linear")
def _(t):
    y, b = draw(t, 1024, 256), draw(t, 256)
    run = lambda source, name, *arrays: source.run(name, (t,), linear.down_the_rows(y)[0], linear.BLOCK, *arrays)
    source, sizes, size = linear.BY_ACTIVATION["gelu"], linear.down_the_rows(y)[1], y.nbytes
    sums = np.empty((1024 // sizes[2], 256), F)
    yield "bias 1024x256", size, linear.fill_rows, y, b
    yield "gelu behind", 2 * size, run, source, "activated_rows", y.copy(), b, y, *sizes
    gradient = run, source, "inner_gradient_rows", y, y.copy(), b, y.copy(), sums, *sizes
    yield "its gradient", 3 * size, *gradient


@case("attention_decode")
def _(t):
    for heads in (4, 16):
        q, k, length = draw(t, 2, heads, 1, 64), draw(t, 2, 4, 512, 64), np.array([512, 300])
        what, floor = f"{heads} heads of 64, 4 of 512 keys", 2 * 812 * 4 * 64 * t.itemsize
        yield what, floor, attention_decode.attention_decode, q, k, k.copy(), length, 0.125


@case("gemm")
def _(t):
    a, b, c, bias = draw(t, 128, 128), draw(t, 128, 128), np.empty((128, 128), t), draw(t, 128)
    for name, left, right in (("nn", a, b), ("nt", a, b.T), ("tn", a.T, b), ("tt", a.T, b.T)):
        yield f"{name} 128x128x128", 3 * a.nbytes, gemm.product, left, right, c, bias


@case("attention")
def _(t):
    q, k, v, g = (draw(t, 1, 4, 128, 64, seed=i) for i in range(4))
    n, logs = q.nbytes, np.zeros((1, 4, 128), F)
    yield "attention 4x128x128x64", 4 * n, attention.attention, q, k, v, None, None, 0.125, True
    yield "its gradient", 8 * n, attention.attention_gradient, g, q, k, v, None, None, q.copy(), logs, 0.125, True


@case("conv")
def _(t):
    window, x, w = ((1, 1), (1, 1), (1, 1), 1), last(draw(t, 4, 32, 16, 16)), draw(t, 64, 32, 3, 3)
    g = last(draw(t, 4, 64, 16, 16))
    floor = x.nbytes + w.nbytes + g.nbytes
    yield "3x3, 4x32x16x16 to 64", floor, conv.convolve, x, w, None, (16, 16), window
    yield "gradient of x", floor, conv.spread, g, w, None, (16, 16), window
    yield "gradient of the weight", floor, conv.correlate, x, g, (3, 3), window
    each = ((1, 1), (1, 1), (1, 1), 32)
    own = draw(t, 32, 1, 3, 3)
    yield "depthwise 3x3", 2 * x.nbytes + own.nbytes, conv.convolve, x, own, None, (16, 16), each
    yield "its gradient of the weight", 2 * x.nbytes + own.nbytes, conv.correlate, x, x.copy(), (3, 3), each


# ---- the table ----


@cache
def dtype_of(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def measure(counter, function, *arguments):
    """The launches of one call, without the products that cuBLAS would make."""
    counter.launches = []
    with compile.running_on(counter):
        function(*arguments)
    return [launch for launch in counter.launches if launch.file != "gemm.cu"] or counter.launches


def line(what, floor, launches):
    """One line of the table."""
    (moved, least), (waves, fewest) = (np.sum([x.count(shared) for x in launches], 0) for shared in (False, True))
    total = sum(launch.bytes for launch in launches)
    pairs = (total, floor), (32 * moved, floor), (moved, least), (waves, fewest)
    shares = " ".join(f"{a / b:7.2f}" if b else "      -" for a, b in pairs)
    return f"{what:34}{shares}   {' '.join(dict.fromkeys(launch.name for launch in launches))}"


def table(counter, family, dtype):
    """The lines of a family."""
    for what, floor, *call in CASES[family](dtype):
        launches = measure(counter, *call)
        yield line(what, floor, launches), launches


def where(launches, most=6):
    """The sites that move most above the least, with the lines of the calls that lead there."""
    for launch in launches:
        first = begin(launch.library)
        for site in sorted(launch.sites, key=lambda site: site.least - site.moved)[:most]:
            if site.moved == site.least:
                continue
            words = [f"{place - first - 1:x}" for place in site.path if 0 < place - first < 1 << 24]
            done = subprocess.run(["addr2line", "-e", launch.library, *words], capture_output=True, text=True)
            lines = [Path(text.split(" ")[0]).name for text in done.stdout.splitlines()]
            kind = f"{'shared' if site.shared else 'global'} {'write' if site.written else 'read'} of {site.size} bytes"
            yield f"    {launch.name}, {kind}: {site.moved}, least {site.least}: {' < '.join(lines[:4])}"


def begin(library):
    """Where a loaded library begins."""
    for text in Path("/proc/self/maps").read_text().splitlines():
        if text.endswith(library):
            return int(text.split("-")[0], 16)


def recorded():
    """The families that are in traffic.txt."""
    return [family for family in CASES if family not in OWN]


def heading(name):
    return f"{name:37}bytes   moved sectors   waves   kernels"


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("family", nargs="*", help="all of them, if none is named")
    words.add_argument("--type", default="float32", help="float32, float16 or bfloat16")
    words.add_argument("--where", action="store_true", help="show the places that move more than they must")
    words.add_argument("--record", action="store_true", help="write traffic.txt")
    words = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counter = Counter(Path(folder), *["-g"] * words.where)
        lines = []
        for name in ("float32", "bfloat16") if words.record else (words.type,):
            lines.append(heading(name))
            for family in words.family or (recorded() if words.record else CASES):
                lines.append(family)
                for text, launches in table(counter, family, dtype_of(name)):
                    lines += [f"  {text}", *(where(launches) if words.where else ())]
    text = "\n".join(lines) + "\n"
    RECORD.write_text(text) if words.record else print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
