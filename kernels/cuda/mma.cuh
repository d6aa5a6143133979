// Tensor cores: products of small matrices by a warp, the loads that serve them, and copies that do not wait.
//
//   mma_16x8x16      c (16, 8) += a (16, 16) b (16, 8), of float16 or bfloat16, summed in float
//   mma_16x8x8_tf32  c (16, 8) += a (16, 8) b (8, 8), of float rounded to TF32 (10 bits after the leading one)
//   mma              whichever of the two the type wants
//   ldmatrix         four 8 x 8 matrices of 16-bit numbers from shared memory, as fragments
//   copy_async       16 bytes from global to shared memory
//
// All 32 lanes call them together: where lanes may have gone different ways just before, __syncwarp() brings them
// together, which a card promises for nothing else. Each lane holds a fragment, as the PTX ISA lays it out; with
// g = lane / 4 and t = lane % 4, pairs of 16-bit numbers standing in one u32, the lower index in the lower half:
//
//   16 x 8 x 16   a[0], a[1], a[2], a[3]: rows g, g + 8, g, g + 8; columns 2t and 2t + 1, in the last two 8 further
//                 b[0], b[1]: column g; rows 2t and 2t + 1, in the last 8 further
//   16 x 8 x 8    a[0], a[1], a[2], a[3]: rows g, g + 8, g, g + 8; columns t, t, t + 4, t + 4
//                 b[0], b[1]: column g; rows t and t + 4
//   both          c[0], c[1]: row g, columns 2t and 2t + 1; c[2], c[3]: row g + 8
//
// Compute capability 8.0 has an instruction for each; 7.5 has ldmatrix, and half of the product of float16. Whatever is
// lacking is made of shuffles and float arithmetic, which is right, and slow. The tests' emulator runs those forms.
// After common.cuh. Not yet measured.

struct alignas(16) Chunk { u32 at[4]; };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define AMPERE 1  // the card has all of these instructions
#else
#define AMPERE 0
#endif

// The address of shared memory as instructions take it.
#ifdef __CUDA_ARCH__
INLINE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
#else
INLINE u32 shared_address(const void* p) { return emulator_shared_address(p); }
#endif

// ---- products ----

template <class S> INLINE float half_of(u32 pair, int upper) {
    S x;
    x.bits = (unsigned short)(upper ? pair >> 16 : pair);
    return widen(x);
}

// Two numbers rounded to S{}, a pair; the first stands in the lower half.
INLINE u32 pair_of(float lower, float upper, float16) {
#if AMPERE
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(upper), "f"(lower));
    return pair;
#else
    float16 x, y;
    narrow(lower, x), narrow(upper, y);
    return x.bits | (u32)y.bits << 16;
#endif
}

INLINE u32 pair_of(float lower, float upper, bfloat16) {
#if AMPERE
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(upper), "f"(lower));
    return pair;
#else
    bfloat16 x, y;
    narrow(lower, x), narrow(upper, y);
    return x.bits | (u32)y.bits << 16;
#endif
}

// c += a b by shuffles: rows g and g + 8 of a come from the lanes 4g to 4g + 3, columns 2t and 2t + 1 of b from 8t to
// 8t + 7. The sum goes over pairs of columns of a in a fixed order.
template <class S> INLINE void mma_by_shuffles(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    u64 left = a[0] | (u64)a[1] << 32, right = a[2] | (u64)a[3] << 32, both = b[0] | (u64)b[1] << 32;
    #pragma unroll 1  // short code: kernels are full of products
    for (int pair = 0; pair < 4; pair++) {
        int row = lane() / 4 * 4 + pair, column = lane() % 4 * 8 + pair;
        u64 l = __shfl_sync(ALL, left, row), r = __shfl_sync(ALL, right, row);
        u64 x = __shfl_sync(ALL, both, column), y = __shfl_sync(ALL, both, column + 4);
        #pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            float top = half_of<S>((u32)l, upper), low = half_of<S>((u32)(l >> 32), upper);
            float x0 = half_of<S>((u32)x, upper), y0 = half_of<S>((u32)y, upper);
            c[0] += top * x0, c[1] += top * y0, c[2] += low * x0, c[3] += low * y0;
            top = half_of<S>((u32)r, upper), low = half_of<S>((u32)(r >> 32), upper);
            x0 = half_of<S>((u32)(x >> 32), upper), y0 = half_of<S>((u32)(y >> 32), upper);
            c[0] += top * x0, c[1] += top * y0, c[2] += low * x0, c[3] += low * y0;
        }
    }
}

// (volatile: no compiler may move a product into a branch that only some lanes take)
INLINE void mma_16x8x16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], float16) {
#if AMPERE
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif defined(__CUDA_ARCH__)
    #pragma unroll
    for (int half = 0; half < 2; half++)
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#else
    mma_by_shuffles<float16>(c, a, b);
#endif
}

INLINE void mma_16x8x16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], bfloat16) {
#if AMPERE
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_by_shuffles<bfloat16>(c, a, b);
#endif
}

// The nearest number of TF32, a tie away from zero, as the bits of a float.
INLINE u32 to_tf32(u32 x) {
#if AMPERE
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
    return y;
#else
    return (x & 0x7F800000) == 0x7F800000 ? x : (x + 0x1000) & 0xFFFFE000;  // infinite and NaN as they are
#endif
}

INLINE void mma_16x8x8_tf32(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    u32 a0 = to_tf32(a[0]), a1 = to_tf32(a[1]), a2 = to_tf32(a[2]), a3 = to_tf32(a[3]);
    u32 b0 = to_tf32(b[0]), b1 = to_tf32(b[1]);
#if AMPERE
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    u64 left = a0 | (u64)a1 << 32, right = a2 | (u64)a3 << 32, both = b0 | (u64)b1 << 32;
    #pragma unroll
    for (int k = 0; k < 4; k++) {
        int row = lane() / 4 * 4 + k, column = lane() % 4 * 8 + k;
        u64 l = __shfl_sync(ALL, left, row), r = __shfl_sync(ALL, right, row);
        u64 x = __shfl_sync(ALL, both, column), y = __shfl_sync(ALL, both, column + 4);
        float top = __uint_as_float((u32)l), low = __uint_as_float((u32)(l >> 32));
        float x0 = __uint_as_float((u32)x), y0 = __uint_as_float((u32)y);
        c[0] += top * x0, c[1] += top * y0, c[2] += low * x0, c[3] += low * y0;
        top = __uint_as_float((u32)r), low = __uint_as_float((u32)(r >> 32));
        x0 = __uint_as_float((u32)(x >> 32)), y0 = __uint_as_float((u32)(y >> 32));
        c[0] += top * x0, c[1] += top * y0, c[2] += low * x0, c[3] += low * y0;
    }
#endif
}

template <class S> INLINE void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], S kind) {
    mma_16x8x16(c, a, b, kind);
}
INLINE void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], float) { mma_16x8x8_tf32(c, a, b); }

// ---- fragments from shared memory: lane 8i + j points at row j of matrix i, 16 bytes at a multiple of 16. r[i] is
// then row g of matrix i, columns 2t and 2t + 1; transposed, column g, rows 2t and 2t + 1. ----

INLINE void ldmatrix(u32 (&r)[4], const void* row) {
#ifdef __CUDA_ARCH__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#else
    emulator_ldmatrix(r, (const Chunk*)row, false);
#endif
}

INLINE void ldmatrix_transposed(u32 (&r)[4], const void* row) {
#ifdef __CUDA_ARCH__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#else
    emulator_ldmatrix(r, (const Chunk*)row, true);
#endif
}

// ---- copies to shared memory, both addresses multiples of 16. What a thread has copied it may read after its own
// copy_async_wait<N>, which leaves the newest N groups under way; the other threads after a barrier more. ----

// `inside`: whether there is anything to copy; otherwise zeros are written, and `global` is not read.
INLINE void copy_async(void* shared, const void* global, bool inside) {
#if AMPERE
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(inside ? 16 : 0)
                 : "memory");
#elif defined(__CUDA_ARCH__)
    *(Chunk*)shared = inside ? *(const Chunk*)global : Chunk{};
#else
    emulator_copy_async((Chunk*)shared, (const Chunk*)global, inside);
#endif
}

INLINE void copy_async_commit() {  // what was copied since the last is a group
#if AMPERE
    asm volatile("cp.async.commit_group;" ::: "memory");
#elif !defined(__CUDA_ARCH__)
    emulator_commit();
#endif
}

template <int N> INLINE void copy_async_wait() {
#if AMPERE
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#elif !defined(__CUDA_ARCH__)
    emulator_wait(N);
#endif
}
