"""Attention on the GPU against the formula in float64, and against the CPU's kernels: forward, gradients, decoding."""

from types import SimpleNamespace

import numpy as np
import pytest

import minigen
from minigen import Tensor, kernels, nn, optim, random
from minigen.kernels.cpu import attention as cpu
from minigen.kernels.cuda import attention, attention_decode, attention_gradient, compile, heads, precision
from minigen.kernels.ladder import nvrtc
from minigen.ops.attention import attention_decode as decode
from minigen.ops.attention import scaled_dot_product_attention as attend

pytestmark = pytest.mark.kernels
F = np.float32
CLOSE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}  # of the largest number; weights are rounded, too
NAMES = "y", "logs", "dq", "dk", "dv", "dmask"


def draw(shape, dtype=F, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def formula(g, q, k, v, mask, drop, scale, causal):
    """y, logs, dq, dk, dv and dmask in float64; a query that sees nothing gets zeros, and logs of infinity."""
    g, q, k, v = (x.astype(np.float64) for x in (g, q, k, v))
    sharing = q.shape[1] // k.shape[1]
    k, v = k.repeat(sharing, 1), v.repeat(sharing, 1)
    s = scale * q @ k.swapaxes(2, 3) + (0 if mask is None else mask.astype(np.float64))
    if causal:
        s = np.where(np.tri(*s.shape[2:], dtype=bool), s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(top == -np.inf, 0, top))
    total = p.sum(-1, keepdims=True)
    p = p / np.where(total == 0, 1, total)
    kept = 1 if drop is None else kept_of(drop, s.shape)
    y = (p * kept) @ v
    with np.errstate(divide="ignore"):
        logs = np.where(total == 0, np.inf, top + np.log(total))[..., 0]
    d = p * ((g @ v.swapaxes(2, 3)) * kept - (g * y).sum(-1, keepdims=True))
    together = lambda x: x.reshape(len(x), q.shape[1] // sharing, sharing, *x.shape[2:]).sum(2)
    dk, dv = scale * d.swapaxes(2, 3) @ q, (p * kept).swapaxes(2, 3) @ g
    return y, logs, scale * d @ k, together(dk), together(dv), d


def kept_of(drop, shape):
    """What dropout multiplies the weights (B, H, T, S) by: each row of words begins with a block of four."""
    threshold, factor, place = drop
    words = random.philox(*place, np.prod(shape[:-1]) * -(-shape[-1] // 4) * 4).reshape(*shape[:-1], -1)
    return (words[..., : shape[-1]] >= threshold) * factor


def case(shape, dtype, mask=None, drop=False, causal=False):
    """(B, H, G, T, S, D, E) -> g, q, k, v, mask, drop, scale, causal."""
    B, H, G, T, S, D, E = shape
    q, k, v, g = (draw(s, dtype, i) for i, s in enumerate([(B, H, T, D), (B, G, S, D), (B, G, S, E), (B, H, T, E)]))
    rng = np.random.default_rng(9)
    if mask == "rows":  # one number a key, the same for all queries and heads
        mask = np.broadcast_to(draw((B, 1, 1, S), dtype, 5), (B, H, T, S))
    elif mask is not None:  # forbidden here and there; the first query sees nothing
        mask = draw((1, H, T, S), dtype, 5)
        mask[rng.random(mask.shape) < 0.3] = -np.inf
        mask[:, :, 0] = -np.inf
        mask = np.broadcast_to(mask, (B, H, T, S))
    drop = (2**32 // 5, 1 / 0.8, (2**40 + 3, 2**63 + 5, 2**33 - 7)) if drop else None
    return g, q, k, v, mask, drop, 0.3, causal


def everything(on_gpu, g, q, k, v, mask, drop, scale, causal):
    y, logs = on_gpu(attention.attention, q, k, v, mask, drop, scale, causal)
    named = dict(mask_too=True)
    gradients = on_gpu(attention.attention_gradient, g, q, k, v, mask, drop, y, logs, scale, causal, **named)
    return y, logs, *gradients


def compare(got, want, close, names=NAMES):
    for name, a, b in zip(names, got, want):
        assert a.shape == b.shape, name
        assert np.array_equal(np.isinf(a), np.isinf(b)), name
        a, b = (np.where(np.isinf(x), 0, x).astype(np.float64) for x in (a, b))
        off = abs(a - b).max(initial=0) / max(abs(b).max(initial=0), 1e-3)
        assert off <= close, f"{name} is off by {off:.2g} of its largest number"


# Sizes B, H, G, T, S, D, E at and beside those of blocks and tiles; each size of a head; what is compiled once is used
# several times, since g++ takes longer than the kernels.
PLAIN = [
    ((2, 4, 2, 7, 9, 16, 13), {}),
    ((1, 2, 2, 66, 66, 16, 16), dict(causal=True)),
    ((1, 2, 1, 5, 67, 9, 16), dict(mask="each", drop=True)),
    ((1, 1, 1, 70, 3, 16, 16), dict(mask="rows", causal=True)),
    ((1, 2, 1, 140, 20, 16, 16), {}),
    ((1, 2, 1, 66, 140, 16, 16), dict(causal=True)),
    ((1, 1, 1, 1, 1, 1, 1), {}),
    ((2, 4, 2, 3, 70, 16, 13), dict(mask="each")),  # few queries: the keys are split
    ((1, 1, 1, 1, 130, 9, 16), {}),
    ((2, 2, 1, 66, 70, 16, 16), dict(causal=True, drop=True)),
    ((1, 1, 1, 3, 70, 16, 16), dict(drop=True)),  # few queries, and yet not split
]
LARGE = [
    ((1, 1, 1, 33, 35, 31, 32), dict(causal=True)),
    ((1, 2, 1, 40, 66, 64, 40), dict(mask="each", causal=True)),
    ((1, 1, 1, 34, 33, 96, 90), dict(causal=True, drop=True)),
    ((1, 1, 1, 33, 37, 128, 128), dict(mask="each")),
]


@pytest.mark.parametrize("shape, options", PLAIN)
def test_equals_the_formula(on_gpu, dtype, shape, options):
    given = case(shape, dtype, **options)
    got = everything(on_gpu, *given)
    assert [x.dtype == dtype for x in got] == [True, False, True, True, True, True] or dtype == F
    compare(got, formula(*given), CLOSE[dtype.name])


@pytest.mark.slow
@pytest.mark.parametrize("shape, options", LARGE)
def test_each_size_of_a_head(on_gpu, dtype, shape, options):
    given = case(shape, dtype, **options)
    compare(everything(on_gpu, *given), formula(*given), CLOSE[dtype.name])


def test_equals_the_cpu(on_gpu):
    for shape, options in PLAIN[:3]:
        g, q, k, v, mask, drop, scale, causal = given = case(shape, np.dtype(F), **options)
        y, logs = cpu.attention(*given[1:])
        gradients = cpu.attention_gradient(g, q, k, v, mask, drop, y, logs, scale, causal, mask_too=True)
        compare(everything(on_gpu, *given), (y, logs, *gradients), 1e-5)


def test_views_are_read_where_they_stand(on_gpu, dtype):
    """Of one projection to q, k and v, heads beside each other; rows at an odd address; columns that are apart.

    Where q, k and v are neighbours in memory, their gradients are (a copy on a card may have parted them).
    """
    B, T, H, D = 2, 20, 2, 16
    packed = draw((B, T, 3, H, D), dtype)
    q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    g = draw((B, T, H, D), dtype, 1).transpose(0, 2, 1, 3)
    odd = draw((B, H, T, D + 1), dtype, 2)[..., 1:]
    apart = draw((B, H, D, T), dtype, 3).swapaxes(2, 3)
    assert all(x is y for x, y in zip(heads.unit_rows(q, odd), (q, odd)))
    for given in [(g, q, k, v), (odd, q, odd, v), (apart, apart, k, apart)]:
        beside = given[1] is q and given[2] is k
        given = (*given, None, None, 0.25, True)
        got = everything(on_gpu, *given)
        compare(got, formula(*given), CLOSE[dtype.name])
        assert got[0].transpose(0, 2, 1, 3).flags.c_contiguous
        assert got[2].transpose(0, 2, 1, 3).flags.c_contiguous or (beside and got[2].strides == k.strides)


def test_dropout_from_a_place_that_stands_in_an_array(on_gpu):
    """As in a captured step: the first block is so many after the number in a device array."""
    *given, drop, scale, causal = case(PLAIN[2][0], np.dtype(F), drop=True)
    threshold, factor, (seed, stream, first) = drop
    far = np.array([first - 11], np.uint64)
    want = everything(on_gpu, *given, drop, scale, causal)
    got = everything(on_gpu, *given, (threshold, factor, (seed, stream, (11, on_gpu.there(far)))), scale, causal)
    assert all(np.array_equal(a, b) for a, b in zip(got, want))


def test_dropout_is_a_choice_by_place(on_gpu, dtype):
    """Each weight by itself: values that are the unit matrix make y the weights, and dy of 1 makes dv their sums."""
    drop = 2**31, 2.0, (7, 8, 9)
    B, H, T, S = shape = 2, 2, 18, 14
    q, k, v = (np.zeros((B, H, n, 16), dtype) for n in (T, S, S))
    v[..., :S] = np.eye(S)
    kept = kept_of(drop, shape)
    y, logs = on_gpu(attention.attention, q, k, v, None, drop, 1.0, False)
    assert np.allclose(y[..., :S].astype(F), kept / S, rtol=5e-3) and np.array_equal(y[..., :S] != 0, kept != 0)
    g = np.ones((B, H, T, 16), dtype)
    *_, dv, dmask = on_gpu(attention.attention_gradient, g, q, k, v, None, drop, y, logs, 1.0, False, mask_too=True)
    assert np.allclose(dv[..., 0].astype(F), kept.sum(2) / S, rtol=5e-3)
    assert np.allclose(dmask.astype(F), (kept - kept.mean(-1, keepdims=True)) / S, atol=2e-3)


def test_nothing_to_attend_to(on_gpu):
    for shape in [(0, 2, 2, 3, 4, 8, 8), (1, 2, 1, 0, 4, 8, 8), (1, 2, 2, 3, 0, 8, 8), (1, 1, 1, 3, 4, 8, 0)]:
        given = case(shape, np.dtype(F))
        compare(everything(on_gpu, *given), formula(*given), 1e-6)


def test_large_scores_and_nan(on_gpu, dtype):
    g, q, k, v, *rest = case((1, 1, 1, 20, 40, 16, 16), dtype)
    q[0, 0, :, 0], k[0, 0, :, 0] = 100, np.linspace(-20, 20, 40)
    got, want = everything(on_gpu, g, q, k, v, *rest), formula(g, q, k, v, *rest)
    compare(got[:2], want[:2], CLOSE[dtype.name])
    assert all(np.isfinite(x.astype(F)).all() for x in got)
    q[0, 0, 3] = np.nan
    y = on_gpu(attention.attention, q, k, v, *rest)[0]
    assert np.isnan(y[0, 0, 3].astype(F)).all() and np.isfinite(np.delete(y, 3, 2).astype(F)).all()


def test_a_head_that_is_too_large_is_left_to_the_definition(on_gpu):
    with pytest.raises(ValueError, match="heads of 129 and 8 numbers, more than 128"):
        heads.head_size(draw((1, 1, 2, 129)), draw((1, 1, 2, 8)))


def test_tf32(on_gpu):
    """Products of float32 rounded to TF32: the same within its rounding, and not the same bits."""
    given = case((1, 2, 1, 20, 40, 16, 16), np.dtype(F), mask="each", drop=True, causal=True)
    exact = everything(on_gpu, *given)
    precision.allow_tf32(True)
    try:
        got = everything(on_gpu, *given)
    finally:
        precision.allow_tf32(False)
    compare(got, formula(*given), 3e-3)
    assert not np.array_equal(got[0], exact[0])


# ---- decoding ----


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 3, 1, 70, 16, 13),
        (1, 2, 2, 1, 300, 16, 16),
        (3, 6, 1, 1, 150, 9, 16),
        (1, 4, 2, 1, 64, 16, 16),
        (1, 1, 1, 1, 1, 16, 1),
    ],
)
def test_decoding(on_gpu, dtype, shape):
    _, q, k, v, *_ = case(shape, dtype)
    B, S = shape[0], shape[4]
    for length in (np.full(B, S), np.arange(1, B + 1), np.full(B, min(S, 65), np.int32)):
        k[...], v[...] = draw(k.shape, dtype, 1), draw(v.shape, dtype, 2)
        seen = np.arange(S) < length[:, None, None, None]
        want = formula(np.zeros((*q.shape[:3], v.shape[3])), q, k, v, np.where(seen, 0.0, -np.inf), None, 0.3, False)[0]
        for x in (k, v):
            x[np.broadcast_to(~seen.swapaxes(2, 3), x.shape)] = np.nan  # what stands behind the end is not read
        got = on_gpu(attention.attention_decode, q, k, v, length, 0.3)
        compare([got], [want], CLOSE[dtype.name], "y")


@pytest.mark.parametrize("shape", [(2, 3, 3, 1, 70, 16, 13), (3, 6, 1, 1, 150, 9, 16), (2, 10, 2, 1, 20, 8, 8)])
def test_decoding_writes_the_new_key_and_value(on_gpu, dtype, shape):
    _, q, k, v, *_ = case(shape, dtype)
    k, v = np.ascontiguousarray(k), np.ascontiguousarray(v)
    (B, S), (G, D, E) = shape[::4][:2], (shape[2], *shape[5:])
    both = draw((B, 1, G, D + E), dtype, 5)  # as a layer makes them: views of one product
    new_k, new_v = both[..., :D].transpose(0, 2, 1, 3), both[..., D:].transpose(0, 2, 1, 3)
    length = np.array([S - 3, 1, 66])[:B]
    written = [x.copy() for x in (k, v)]
    for cache, new in zip(written, (new_k, new_v)):
        cache[np.arange(B), :, length - 1] = new[:, :, 0]
    want = on_gpu(attention.attention_decode, q, *written, length, 0.3)

    def call(q, k, v, new_k, new_v, length):
        return attention.attention_decode(q, k, v, length, 0.3, (new_k, new_v)), k, v

    got, *caches = on_gpu(call, q, k.copy(), v.copy(), new_k, new_v, length)
    for one, other in zip((got, *caches), (want, *written)):
        np.testing.assert_array_equal(one.astype(np.float32), other.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("size", heads.SIZES)
def test_decoding_with_each_size_of_a_head(on_gpu, dtype, size):
    _, q, k, v, *_ = case((2, 6, 1, 1, 70, size, size - 1), dtype)
    length = np.array([66, 13])
    seen = np.arange(70) < length[:, None, None, None]
    want = formula(np.zeros((*q.shape[:3], size - 1)), q, k, v, np.where(seen, 0.0, -np.inf), None, 0.3, False)[0]
    cache = np.ascontiguousarray(k.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)  # (B, S, G, D) in memory
    got = on_gpu(attention.attention_decode, q, cache, v, length, 0.3)
    compare([got], [want], CLOSE[dtype.name], "y")


# ---- the op ----


@pytest.fixture
def engine(emulator, monkeypatch):
    """Inside, the op finds the CUDA family for NumPy arrays, and runs it emulated."""
    monkeypatch.setattr(kernels, "find", lambda array, family: attention if family == "attention" else None)
    earlier, emulator.launched = emulator.launched, set()
    with compile.running_on(emulator):
        yield emulator
    emulator.launched |= earlier


@pytest.mark.parametrize("options", [{}, dict(is_causal=True), dict(mask=True), dict(enable_gqa=True, is_causal=True)])
def test_the_op_and_its_gradients(engine, options):
    options = dict(options)
    groups = 1 if options.get("enable_gqa") else 2
    arrays = [draw(s, seed=i) for i, s in enumerate([(2, 2, 9, 8), (2, groups, 11, 8), (2, groups, 11, 6), (9, 11)])]
    weights, masked = Tensor(draw((2, 2, 9, 6), seed=7)), options.pop("mask", False)

    def run(dtype):
        tensors = [Tensor(x.astype(dtype), requires_grad=True) for x in arrays]
        mask = tensors[3] if masked else Tensor(np.tri(9, 11, 2, dtype=bool))
        y = attend(*tensors[:3], mask, **options)
        (y * weights.to(dtype)).sum().backward()
        return [y.detach().numpy(), *[x.grad.numpy() for x in tensors if x.grad is not None]]

    got = run(F)
    assert {name for _, name in engine.launched} == {
        *("attention", "attention_gradient_queries", "attention_gradient_keys")
    }
    with kernels.disabled(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "find", lambda array, family: None)
        want = run(np.float64)
    assert len(got) == len(want) == 5 if masked else 4
    compare(got, want, 2e-5, "yqkvm")


def test_a_layer_learns_the_same(engine):
    x, want = Tensor(draw((2, 7, 8))), Tensor(draw((2, 7, 8), seed=1))

    def train():
        minigen.manual_seed(2)
        layer = nn.MultiheadAttention(8, 2, batch_first=True)
        optimiser, losses = optim.SGD(layer.parameters(), lr=0.5), []
        for _ in range(4):
            y = layer(x, x, x, need_weights=False)[0]
            loss = ((y - want) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses

    got = train()
    assert ("attention.cu", "attention") in engine.launched
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "find", lambda array, family: None)
        want_losses = train()
    assert np.allclose(got, want_losses, rtol=1e-5) and got[-1] < got[0]


def test_the_op_with_dropout_keeps_what_it_kept(engine):
    q, k, v = (Tensor(draw((1, 2, 6, 8), seed=i), requires_grad=True) for i in range(3))

    def run():
        minigen.manual_seed(4)
        y = attend(q, k, v, dropout_p=0.5)
        return [y.detach().numpy(), *[x.numpy() for x in minigen.autograd.grad(y.sum(), [q, k, v])]]

    got = run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "find", lambda array, family: None)
        want = run()
    compare(got, want, 2e-5, "yqkv")


def test_the_op_for_decoding(engine):
    q, k, v, length = draw((2, 4, 1, 8)), draw((2, 2, 70, 8), seed=1), draw((2, 2, 70, 8), seed=2), np.array([3, 70])
    got = decode(*map(Tensor, (q, k, v, length))).numpy()
    assert {name for _, name in engine.launched} == {"attention_decode_4", "attention_combine"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "find", lambda array, family: None)
        compare([got], [decode(*map(Tensor, (q, k, v, length))).numpy()], 2e-5, "y")


def test_a_large_head_with_a_mask_or_dropout_runs_on_the_definition(engine):
    q = Tensor(draw((1, 1, 3, 130)))
    for options in (dict(is_causal=True), dict(dropout_p=0.5)):
        y = attend(q, q, q, **options)
    assert not engine.launched and y.shape == (1, 1, 3, 130)


# ---- the compiler ----

KINDS = ("75", "float32", False), ("80", "float32", True), ("80", "float16", False), ("90", "bfloat16", False)
QUICK = (128, *KINDS[0]), (64, *KINDS[1]), (128, *KINDS[3])


@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
@pytest.mark.parametrize("family", [attention, attention_gradient, attention_decode])
@pytest.mark.parametrize(
    "size, card, name, tf32",
    [pytest.param(size, *kind, marks=[] if (size, *kind) in QUICK else pytest.mark.slow) for size in heads.SIZES
     for kind in KINDS],
)  # fmt: skip
def test_it_is_assembled(family, size, card, name, tf32):
    """Machine code for each size of a head: all its shared memory fits, and nothing lies in local memory."""
    decoding = family is attention_decode
    source = family.FILES[size] if decoding else family.FILES.of[tf32][size]
    ptx = nvrtc.compile(source.text, f"sm_{card}", (*source.options((SimpleNamespace(name=name),)), "-ftz=true"))
    assert ".local" not in ptx
    assert ("mma.sync" in ptx) == (card > "75" and not decoding)
