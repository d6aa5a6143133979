// Tensor cores of compute capability 9.0, and of no other: products by a warpgroup, four warps, which read both factors
// from shared memory by themselves and run on while their threads do something else.
//
//   wgmma<N>         c (64, N) += a (64, 16) b (16, N), of float16 or bfloat16, summed in float
//   wgmma_fence      before the first product, and where c was written otherwise since the last
//   wgmma_commit     what was started since the last is a group
//   wgmma_wait<K>    all but the newest K groups are done; with 0, c may be read
//   reach_products   what this thread has written to shared memory is seen by products that begin after a barrier
//
// All 128 threads call them together, the first a multiple of 128. The last is the fence between two ways to memory,
// the threads' own and that of the products: a copy that has come (copy_async_wait) is seen by threads, and not by a
// product, until its thread has passed the fence. A stage is so ready after the wait, the fence and a barrier, in this
// order, and may be written again when the products are done (wgmma_wait) in every warpgroup, a barrier later.
//
// c lies as in mma.cuh: with g = lane / 4 and t = lane % 4, warp w of the four holds, of columns 8j to 8j + 7, in c[j]
// the columns 2t and 2t + 1 of row 16w + g, then those of row 16w + g + 8.
//
// A factor is named by a descriptor (PTX ISA, "Matrix descriptor format"): where it begins, how far its parts are from
// one another, and the swizzle, here always that of 128 bytes. With it memory is rows of 128 bytes, eight after another
// from a multiple of 1024 on, and the 16-byte pack p of row r lies where pack p ^ r % 8 would. A row is
//
//   along         a line (a row of a, a column of b): 64 numbers of the inner dimension
//   across        a place in the inner dimension: the numbers of 64 lines there; the next 64 lines follow farther on
//
// In the tests' emulator each thread reads the numbers of its sums through the descriptor, when the product begins and
// again when it is waited for: what has changed in between is a fault there, and so is a fence that lacks.
// After mma.cuh. Not yet measured.

constexpr int SWIZZLED = 64;  // numbers of a row of 128 bytes

#ifdef __CUDA_ARCH__
INLINE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
INLINE void reach_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int K> INLINE void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(K) : "memory");
}
#else
INLINE void wgmma_fence() {}
INLINE void wgmma_commit() { emulator_wgmma_commit(); }
INLINE void reach_products() { emulator_reach_products(); }
template <int K> INLINE void wait_for_products() { emulator_wgmma_wait(K); }
#endif

template <int K, int COUNT> INLINE void wgmma_wait(float (&c)[COUNT][4]) {
    wait_for_products<K>();
#ifdef __CUDA_ARCH__
    #pragma unroll
    for (int j = 0; K == 0 && j < COUNT; j++)  // no instruction: for the compiler, who shall not read c any earlier
        #pragma unroll
        for (int e = 0; e < 4; e++) asm volatile("" : "+f"(c[j][e])::"memory");
#endif
}

// ---- descriptors ----

// The lower half of a descriptor, which counts in packs: 1 more is a pack further. `leading`: from 64 lines to the
// next, in bytes, of a factor that lies across; to others it means nothing. The upper half is the same for all: the way
// from eight rows to the next, and the swizzle.
INLINE u32 factor_at(const void* first, u32 leading) { return (shared_address(first) >> 4) + (leading >> 4 << 16); }
INLINE u64 descriptor(u32 factor) { return (u64)(1024 >> 4 | 1 << 30) << 32 | factor; }

// Where a tile may begin in `memory`.
INLINE char* swizzle_aligned(char* memory) { return memory + (-shared_address(memory) & 1023); }

// ---- the instruction: its operands are the sums, then both descriptors, then whether each factor lies across ----

#define FIVE(d, a, b, c, e, f) "%" #d #a ", %" #d #b ", %" #d #c ", %" #d #e ", %" #d #f ", "
#define TEN(d) FIVE(d, 0, 1, 2, 3, 4) FIVE(d, 5, 6, 7, 8, 9)
#define FOUR(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define SIXTEEN(j) FOUR(j), FOUR(j + 1), FOUR(j + 2), FOUR(j + 3)
#define SUMS_32(j) SIXTEEN(j), SIXTEEN(j + 4)
#define SUMS_64(j) SUMS_32(j), SUMS_32(j + 8)
#define NAMES_32 TEN() TEN(1) TEN(2) "%30, %31"
#define NAMES_64 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60, %61, %62, %63"
#define NAMES_128 TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) \
    "%120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA(columns, kind, names, operands, ...)                                                           \
    asm volatile("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"                                             \
        "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." kind "." kind " {" names "}, " operands       \
        ";\n}"                                                                                               \
        : __VA_ARGS__                                                                                        \
        : "l"(descriptor(a)), "l"(descriptor(b)), "n"(A_ACROSS), "n"(B_ACROSS))
#define WGMMA_OF(kind)                                                                                       \
    if constexpr (N == 64) WGMMA("64", kind, NAMES_32, "%32, %33, add, 1, 1, %34, %35", SUMS_32(0));         \
    else if constexpr (N == 128) WGMMA("128", kind, NAMES_64, "%64, %65, add, 1, 1, %66, %67", SUMS_64(0));  \
    else WGMMA("256", kind, NAMES_128, "%128, %129, add, 1, 1, %130, %131", SUMS_64(0), SUMS_64(16))

template <int N, bool A_ACROSS, bool B_ACROSS> INLINE void wgmma(float (&c)[N / 8][4], u32 a, u32 b, float16) {
    static_assert(N == 64 || N == 128 || N == 256, "written for 64, 128 and 256 columns");
#ifdef __CUDA_ARCH__
    WGMMA_OF("f16");
#else
    emulator_wgmma<N>(c, descriptor(a), descriptor(b), A_ACROSS, B_ACROSS, half_of<float16>);
#endif
}

template <int N, bool A_ACROSS, bool B_ACROSS> INLINE void wgmma(float (&c)[N / 8][4], u32 a, u32 b, bfloat16) {
    static_assert(N == 64 || N == 128 || N == 256, "written for 64, 128 and 256 columns");
#ifdef __CUDA_ARCH__
    WGMMA_OF("bf16");
#else
    emulator_wgmma<N>(c, descriptor(a), descriptor(b), A_ACROSS, B_ACROSS, half_of<bfloat16>);
#endif
}
