"""wgmma.cuh: products by warpgroups from tiles in shared memory, in the emulator and on a card of 9.0, and the faults
that the emulator must find in them.
"""

import numpy as np
import pytest

from minigen.kernels.cuda import compile
from minigen.kernels.ladder import nvrtc

pytestmark = pytest.mark.kernels
F = np.float32
HEADERS = "common.cuh", "mma.cuh", "wgmma.cuh", "tiles.cuh"
KERNELS = """
// c (64, N) = a (64, 64) b (64, N) + c, with a and b given as they lie in the tiles: a tile's row is a line, or a place
// in the inner dimension. FENCE, WAIT, BARRIER, LAST: whether what a product needs is done.
template <class Tile> INLINE void fetch(Pack<T>* tile, const T* from, int rows, int width) {
    for (int i = threadIdx.x; i < rows * width / PACK; i += blockDim.x)
        copy_async(tile + Tile::slot(i / (width / PACK), i % (width / PACK)), from + i * PACK, true);
}

template <class Left, class Right, bool FENCE = true, bool WAIT = true, bool BARRIER = true, bool LAST = true>
INLINE void product(const T* a, const T* b, float* c) {
    constexpr int N = Right::LINES;
    DYNAMIC_SHARED(memory);
    typedef Warpgroups<Left, Right, 1> Product;
    Pack<T>*left = Product::tiles(memory), *right = left + Left::PACKS;
    fetch<Left>(left, a, 64, 64);
    fetch<Right>(right, b, Right::IS_ACROSS ? 64 : N, Right::IS_ACROSS ? N : 64);
    copy_async_commit();
    if (WAIT) copy_async_wait<0>();
    if (FENCE) Product::arrive();
    if (BARRIER) __syncthreads();
    __syncwarp();
    Product product;
    product.add(left, right);
    product.add(left, right);  // twice
    if (LAST) product.template wait<0>();
    product.each([&](int row, int column, const float (&v)[Product::COUNT]) {
        for (int k = 0; k < Product::COUNT; k++) c[row * N + column + k] += v[k];
    });
}

#define PRODUCT(name, ...) KERNEL name(const T* a, const T* b, float* c) { product<__VA_ARGS__>(a, b, c); }
PRODUCT(along_along_64, SwizzledAlong<64>, SwizzledAlong<64>)
PRODUCT(along_dealt_128, SwizzledAlong<64>, SwizzledAlong<128, PACK>)
PRODUCT(along_dealt_256, SwizzledAlong<64>, SwizzledAlong<256, PACK>)
PRODUCT(along_across_128, SwizzledAlong<64>, SwizzledAcross<128>)
PRODUCT(across_along_64, SwizzledAcross<64>, SwizzledAlong<64>)
PRODUCT(across_across_256, SwizzledAcross<64>, SwizzledAcross<256>)
PRODUCT(without_fence, SwizzledAlong<64>, SwizzledAlong<64>, false)
PRODUCT(without_wait, SwizzledAlong<64>, SwizzledAlong<64>, true, false)
PRODUCT(without_barrier, SwizzledAlong<64>, SwizzledAlong<64>, true, true, false)
PRODUCT(without_last_wait, SwizzledAlong<64>, SwizzledAlong<64>, true, true, true, false)

KERNEL writes_while_a_product_reads(const T* a, const T* b, float* c) {
    DYNAMIC_SHARED(memory);
    typedef SwizzledAlong<64> Tile;
    Warpgroups<Tile, Tile, 1> product;
    Pack<T>* tile = product.tiles(memory);
    for (int i = threadIdx.x; i < 2 * Tile::PACKS; i += blockDim.x) tile[i] = ((const Pack<T>*)a)[i % 512];
    product.arrive();
    __syncthreads();
    product.add(tile, tile + Tile::PACKS);
    __syncthreads();
    if (threadIdx.x == 0) tile[0].at[0] = a[1];
    __syncthreads();
    product.template wait<0>();
    product.each([&](int row, int column, const float (&v)[2]) { c[row * 64 + column] = v[0]; });
}

KERNEL points_outside(const T* a, const T* b, float* c) {
    float sum[8][4] = {};
    DYNAMIC_SHARED(memory);
    wgmma<64, false, false>(sum, factor_at(memory + (1 << 17), 16), factor_at(memory, 16), T{});
}

KERNEL each_lane_its_own(const T* a, const T* b, float* c) {
    float sum[8][4] = {};
    DYNAMIC_SHARED(memory);
    u32 factor = factor_at(memory + 16 * lane(), 16);
    wgmma<64, false, false>(sum, factor, factor, T{});
}
"""
WAYS = {
    "along_along_64": (False, False, 64),
    "along_dealt_128": (False, False, 128),
    "along_dealt_256": (False, False, 256),
    "along_across_128": (False, True, 128),
    "across_along_64": (True, False, 64),
    "across_across_256": (True, True, 256),
}
SHARED = 1024 + 128 * (64 + 256)


@pytest.fixture(scope="module")
def source():
    made = compile.Source("wgmma_test.cu", "-DWARPGROUPS", architecture="90a")
    made.text = "".join((compile.HERE / name).read_text(encoding="utf-8") for name in HEADERS) + KERNELS
    return made


def draw(*shape, dtype=F, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", list(WAYS))
def test_products(on_hopper, source, half, name):
    left_across, right_across, N = WAYS[name]
    a, b, c = draw(64, 64, dtype=half), draw(64, N, dtype=half, seed=1), draw(64, N, seed=2)
    want = c + 2 * (a.astype(np.float64) @ b.astype(np.float64))
    tiles = np.ascontiguousarray(a.T if left_across else a), np.ascontiguousarray(b if right_across else b.T)
    run = lambda *x: source.run(name, (half,), 1, 128, *x, shared=SHARED)
    assert abs(on_hopper.in_place(run, *tiles, c)[2] - want).max() < 1e-4


@pytest.mark.parametrize(
    "name, what",
    [
        ("without_fence", "before its thread passed the fence"),
        ("writes_while_a_product_reads", "written while a product still reads it"),
        ("points_outside", "leads out of shared memory"),
        ("each_lane_its_own", "do not share"),
    ],
)
def test_the_emulator_finds_faults(emulator, source, half, name, what):
    a, c = draw(64, 64, dtype=half), np.zeros((64, 64), F)
    with compile.running_on(emulator), pytest.raises(AssertionError, match=what):
        source.run(name, (half,), 1, 128, a, a, c, shared=SHARED)


@pytest.mark.parametrize("name", ["without_wait", "without_barrier", "without_last_wait"])
def test_what_is_read_too_soon_is_nan(emulator, source, half, name):
    a, c = draw(64, 64, dtype=half), np.zeros((64, 64), F)
    with compile.running_on(emulator):
        try:
            source.run(name, (half,), 1, 128, a, a, c, shared=SHARED)
        except AssertionError as fault:
            assert "depends on the order of the threads" in str(fault)
        else:
            assert np.isnan(c).all()


@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
def test_it_is_assembled(source, half):
    options = (*source.options((half,)), "-ftz=true")
    ptx = nvrtc.compile(source.text, "sm_90a", options)
    kind = {"float16": "f16", "bfloat16": "bf16"}[half.name]
    for columns in (64, 128, 256):
        assert f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind}" in ptx
    assert "fence.proxy.async.shared::cta" in ptx and ".local" not in ptx


@pytest.mark.slow
@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
@pytest.mark.parametrize("other", ["sm_90", "sm_100", "sm_120"])
def test_it_is_assembled_for_no_other(source, half, other):
    with pytest.raises(RuntimeError):
        nvrtc.compile(source.text, other, (*source.options((half,)), "-ftz=true"))
