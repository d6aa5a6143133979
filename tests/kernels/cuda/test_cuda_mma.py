"""mma.cuh: each fragment as the PTX ISA lays it out, products of it, and copies that run on, in the emulator and on a
card.
"""

import numpy as np
import pytest

from minigen.kernels.cuda import compile
from minigen.kernels.ladder import nvrtc

pytestmark = pytest.mark.kernels
F = np.float32
KERNELS = """
// Fragments are loaded number by number, from the layout that the PTX ISA gives: c (16, 8) = a (16, 16) b (16, 8) + c.
template <class S> INLINE u32 two(const S* x, i64 i, i64 j) { return x[i].bits | (u32)x[j].bits << 16; }

template <class S> INLINE void by_number(const S* a, const S* b, float* c) {
    int g = lane() / 4, t = lane() % 4;
    u32 left[4], right[2];
    for (int i = 0; i < 4; i++) {
        int at = (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
        left[i] = two(a, at, at + 1);
    }
    for (int i = 0; i < 2; i++) right[i] = two(b, (2 * t + 8 * i) * 8 + g, (2 * t + 8 * i + 1) * 8 + g);
    float sum[4];
    for (int i = 0; i < 4; i++) sum[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    mma_16x8x16(sum, left, right, S{});
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

KERNEL product_by_number(const T* a, const T* b, float* c) { by_number(a, b, c); }

KERNEL product_tf32(const float* a, const float* b, float* c) {  // a (16, 8), b (8, 8)
    int g = lane() / 4, t = lane() % 4;
    u32 left[4], right[2];
    for (int i = 0; i < 4; i++) left[i] = __float_as_uint(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) right[i] = __float_as_uint(b[(t + 4 * i) * 8 + g]);
    float sum[4];
    for (int i = 0; i < 4; i++) sum[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    mma_16x8x8_tf32(sum, left, right);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// The same product with fragments by ldmatrix: a (16, 16), b (16, 16) by rows, of which the columns 0 to 7 and 8 to 15
// are two products; or b given by columns (its rows are the columns of the product), which need no turning.
KERNEL product_by_ldmatrix(const T* a, const T* b, const T* b_turned, float* c, float* c_turned) {
    constexpr int PITCH = 24;
    alignas(16) __shared__ T x[16 * PITCH], y[16 * PITCH], z[16 * PITCH];
    int row = lane() / 2, half = lane() % 2 * 8;
    copy_async(x + row * PITCH + half, a + row * 16 + half, true);
    copy_async_commit();
    copy_async(y + row * PITCH + half, b + row * 16 + half, true);
    copy_async(z + row * PITCH + half, b_turned + row * 16 + half, true);
    copy_async_commit();
    copy_async_wait<1>();
    __syncwarp();
    u32 left[4], right[4];
    ldmatrix(left, x + lane() % 16 * PITCH + lane() / 16 * 8);
    copy_async_wait<0>();
    __syncwarp();
    int g = lane() / 4, t = lane() % 4;
    for (int turned = 0; turned < 2; turned++) {
        if (turned)
            ldmatrix(right, z + (lane() % 8 + lane() / 16 * 8) * PITCH + lane() / 8 % 2 * 8);
        else
            ldmatrix_transposed(right, y + lane() % 16 * PITCH + lane() / 16 * 8);
        for (int n = 0; n < 2; n++) {
            float sum[4] = {0, 0, 0, 0};
            u32 part[2] = {right[2 * n], right[2 * n + 1]};
            mma_16x8x16(sum, left, part, T{});
            float* to = turned ? c_turned : c;
            for (int i = 0; i < 4; i++) to[(g + i / 2 * 8) * 16 + 8 * n + 2 * t + i % 2] = sum[i];
        }
    }
}

// Rows 0 to 3 of a (4, 8) that are inside; the wait is for the older of two groups, or for both.
KERNEL copies(const T* a, T* y, i64 inside, i64 both) {
    alignas(16) __shared__ T x[4 * 8];
    for (int group = 0; group < 2; group++) {
        if (lane() / 2 == group) copy_async(x + lane() * 8, a + lane() * 8, lane() < inside);
        copy_async_commit();
    }
    if (both) copy_async_wait<0>();
    else copy_async_wait<1>();
    __syncwarp();
    y[lane()] = x[lane()];
}

KERNEL pairs(const float* x, T* y) {
    u32 pair = pair_of(x[2 * lane()], x[2 * lane() + 1], T{});
    y[2 * lane()].bits = pair, y[2 * lane() + 1].bits = pair >> 16;
}

KERNEL ldmatrix_from_an_odd_place(const T* a, float* c) {
    alignas(16) __shared__ T x[64 * 8];
    for (int i = lane(); i < 64 * 8; i += 32) x[i] = a[0];
    __syncwarp();
    u32 r[4];
    ldmatrix(r, x + lane() * 8 + 2);
    c[lane()] = r[0];
}
"""


@pytest.fixture
def source():
    made = compile.Source("mma_test.cu")
    made.text = "".join((compile.HERE / name).read_text(encoding="utf-8") for name in ("common.cuh", "mma.cuh"))
    made.text += KERNELS
    return made


def draw(*shape, dtype=F, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def product(a, b):
    return a.astype(np.float64) @ b.astype(np.float64)


def test_products(on_gpu, source, half):
    a, b, c = draw(16, 16, dtype=half), draw(16, 8, dtype=half, seed=1), draw(16, 8, seed=2)
    got = on_gpu.in_place(lambda *x: source.run("product_by_number", (half,), 1, 32, *x), a, b, c)[2]
    assert abs(got - (c + product(a, b))).max() < 1e-5


def test_products_of_tf32(on_gpu, source, half):
    bits = draw(16, 8).view(np.uint32) & 0xFFFFE000  # numbers that TF32 holds
    a, b, c = bits.view(F), (draw(8, 8, seed=1).view(np.uint32) & 0xFFFFE000).view(F), draw(16, 8, seed=2)
    run = lambda *x: source.run("product_tf32", (half,), 1, 32, *x)
    got = on_gpu.in_place(run, a, b, c)[2]
    assert abs(got - (c + product(a, b))).max() < 1e-5
    a = np.zeros((16, 8), F)
    a[:5, 0] = 1 + 2**-11, 1 + 2**-12, -1 - 2**-11, np.inf, np.nan  # a tie goes away from zero, less than a tie back
    got = on_gpu.in_place(run, a, np.ones((8, 8), F), np.zeros((16, 8), F))[2]
    assert np.array_equal(got[:5, 0], [1 + 2**-10, 1, -1 - 2**-10, np.inf, np.nan], equal_nan=True)


def test_fragments_by_ldmatrix(on_gpu, source, half):
    a, b = draw(16, 16, dtype=half), draw(16, 16, dtype=half, seed=1)
    run = lambda *x: source.run("product_by_ldmatrix", (half,), 1, 32, *x)
    out = np.zeros((16, 16), F)
    got = on_gpu.in_place(run, a, b, np.ascontiguousarray(b.T), out, out)
    assert abs(got[3] - product(a, b)).max() < 1e-5 and abs(got[4] - product(a, b)).max() < 1e-5


def test_copies_fill_with_zeros(on_gpu, source, half):
    a = draw(4, 8, dtype=half)
    run = lambda *x: source.run("copies", (half,), 1, 32, *x)
    got = on_gpu.in_place(run, a, np.zeros_like(a), 3, 1)[1]
    assert np.array_equal(got[:3], a[:3]) and (got[3] == 0).all()


def test_the_emulator_shows_a_wait_that_lacks(emulator, source, half):
    a, y = draw(4, 8, dtype=half), np.zeros((4, 8), half)
    with compile.running_on(emulator):
        source.run("copies", (half,), 1, 32, a, y, 4, 0)
    assert np.array_equal(y[:2], a[:2]) and np.isnan(y[2:].astype(F)).all()


def test_pairs_are_rounded(on_gpu, source, half):
    x = draw(64)
    got = on_gpu.in_place(lambda *x: source.run("pairs", (half,), 1, 32, *x), x, np.zeros(64, half))[1]
    assert np.array_equal(got, x.astype(half))


def test_ldmatrix_wants_aligned_rows(emulator, source, half):
    with compile.running_on(emulator), pytest.raises(AssertionError, match="not aligned"):
        source.run("ldmatrix_from_an_odd_place", (half,), 1, 32, np.zeros(1, half), np.zeros(32, F))


@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
@pytest.mark.parametrize("card", ["75", "80", "90"])
def test_it_is_assembled(source, half, card):
    """For `sm_` NVRTC makes machine code, so that the assembler reads each instruction."""
    ptx = nvrtc.compile(source.text, f"sm_{card}", (*source.options((half,)), "-ftz=true"))
    kind = {"float16": "f16", "bfloat16": "bf16"}[half.name]
    whole = f"mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32"
    assert (whole in ptx, "cp.async" in ptx, "m16n8k8.row.col.f32.tf32" in ptx) == (3 * (card > "75",))
    assert ("m16n8k8.row.col.f32.f16" in ptx) == (card == "75" and kind == "f16")
    assert "ldmatrix.sync.aligned.m8n8.x4.trans" in ptx and ".local" not in ptx
