// What the attention kernels share: tiles of rows in shared memory, the two products of a warp, masks and dropout.
//
// A warp works on 16 rows of one matrix (queries, say) against tiles of another's (keys), 8 N rows at a time:
//
//   scores   c (16, 8 N) = left (16, DIM) tile (8 N, DIM)^T
//   mix      c (16, DIM) += weights (16, 8 N) tile (8 N, DIM)
//
// Results lie as fragments of mma.cuh do: with g = lane / 4 and t = lane % 4, c[n][e] is row g + 8 (e / 2), column
// 8 n + 2 t + e % 2. So what `scores` gives, `mix` takes as its left side, out of the registers. The products are
//
//   16-bit numbers   tensor cores, the left side in registers, the tile by ldmatrix
//   float            multiplications and additions: 2 rows and 2 N columns a thread, 16 N of them for 2 + 2 N reads of
//                    16 bytes, of which lanes share most. In `mix` a thread has columns 4 t to 4 t + 3 of each 16
//   float, TF32      tensor cores, if the file is compiled so; the left side is read from shared memory
//
// HEAD is the size of a head, rounded up: columns beyond the arrays' own are zeros. A row in shared memory is 16 bytes
// longer, so that eight rows begin in different banks.

#include "common.cuh"
#include "mma.cuh"
#include "philox.cuh"

constexpr int DIM = HEAD, PITCH = DIM + PACK;
constexpr bool BY_PAIRS = sizeof(T) == 2;
constexpr int ROWS = BY_PAIRS || DIM <= 64 ? 64 : 32, THREADS = 2 * ROWS;  // of a block, 16 rows a warp; heads.py knows
#ifdef TF32
constexpr bool BY_TF32 = !BY_PAIRS;
#else
constexpr bool BY_TF32 = false;
#endif
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// The column of c[n][0] in the result of `mix`; that of c[n][1] is the next.
INLINE int column(int n) {
    return BY_PAIRS || BY_TF32 ? 8 * n + lane() % 4 * 2 : n / 2 * 16 + lane() % 4 * 4 + n % 2 * 2;
}

// ---- tiles ----

// tile[r, :] = x[first + r, :], zeros beyond n rows and `width` columns, by all threads of the block. 16 bytes at a
// time where they lie so, which copy_async_wait waits for.
template <int COUNT> INLINE void fetch(T* tile, const T* x, i64 stride, i64 first, i64 n, i64 width) {
    constexpr int CHUNKS = DIM / PACK;
    for (int i = threadIdx.x; i < COUNT * CHUNKS; i += THREADS) {
        int r = i / CHUNKS, d = i % CHUNKS * PACK;
        const T* from = x + (first + r) * stride + d;
        T* to = tile + r * PITCH + d;
        bool inside = first + r < n && d < width;
        if (inside && ((u64)from % 16 != 0 || d + PACK > width)) {
            #pragma unroll
            for (int k = 0; k < PACK; k++) to[k] = d + k < width ? from[k] : T{};
        } else {
            copy_async(to, (const void*)(inside ? (u64)from : (u64)x / 16 * 16), inside);
        }
    }
}

// work(i, stage) for each step i, after bring(i, stage) has fetched what it needs. With two stages the next is fetched
// meanwhile.
template <int STAGES, class Bring, class Work> INLINE void stream(i64 steps, Bring bring, Work work) {
    if (STAGES == 2 && steps > 0) {
        bring(0, 0);
        copy_async_commit();
    }
    for (i64 i = 0; i < steps; i++) {
        if (STAGES == 2) {
            if (i + 1 < steps) bring(i + 1, (int)((i + 1) % 2));
            copy_async_commit();
            copy_async_wait<1>();
        } else {
            bring(i, 0);
            copy_async_commit();
            copy_async_wait<0>();
        }
        __syncthreads();
        work(i, STAGES == 2 ? (int)(i % 2) : 0);
        __syncthreads();  // before this stage is written again
    }
}

// ---- products ----

// f(n, e) for each number c[n][e] of a fragment
template <int N, class F> INLINE void each(F f) {
    #pragma unroll
    for (int n = 0; n < N; n++)
        #pragma unroll
        for (int e = 0; e < 4; e++) f(n, e);
}

template <int N> INLINE void clear(float (&c)[N][4]) {
    each<N>([&](int n, int e) { c[n][e] = 0; });
}

// 16 rows, the left side of `scores`: 16-bit numbers in registers, unless those are needed for something else; others
// where they stand in shared memory.
template <bool IN_REGISTERS = BY_PAIRS> struct Left {
    u32 pair[IN_REGISTERS ? DIM / 16 : 1][4];
    const T* rows;

    INLINE void load(u32 (&a)[4], int k) const { ldmatrix(a, rows + lane() % 16 * PITCH + 16 * k + lane() / 16 * 8); }

    INLINE void columns(u32 (&a)[4], int k) const {  // 16 k to 16 k + 15
        if constexpr (IN_REGISTERS) {
            #pragma unroll
            for (int i = 0; i < 4; i++) a[i] = pair[k][i];
        } else {
            load(a, k);
        }
    }

    // This warp's rows of x, of which the block has ROWS; `room` holds them.
    INLINE void take(T* room, const T* x, i64 stride, i64 first, i64 n, i64 width) {
        fetch<ROWS>(room, x, stride, first, n, width);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        rows = room + 16 * warp() * PITCH;
        if constexpr (IN_REGISTERS) {
            #pragma unroll
            for (int k = 0; k < DIM / 16; k++) load(pair[k], k);
            __syncthreads();  // `room` may be used for something else
        }
    }
};

struct alignas(16) Four { float at[4]; };

INLINE u32 bits_at(const T* x) { return *(const u32*)x; }
INLINE float dot(const Four& x, const Four& y, float sum) {
    #pragma unroll
    for (int k = 0; k < 4; k++) sum += x.at[k] * y.at[k];
    return sum;
}

template <int N, bool IN_REGISTERS, class S>
INLINE void scores(float (&c)[N][4], const Left<IN_REGISTERS>& left, const S* tile) {
    int g = lane() / 4, t = lane() % 4;
    clear(c);
    if constexpr (BY_PAIRS) {
        #pragma unroll
        for (int k = 0; k < DIM / 16; k++) {
            u32 a[4];
            left.columns(a, k);
            #pragma unroll
            for (int n = 0; n < N; n += 2) {
                u32 r[4];
                ldmatrix(r, tile + (8 * n + lane() % 8 + lane() / 16 * 8) * PITCH + 16 * k + lane() / 8 % 2 * 8);
                u32 one[2] = {r[0], r[1]}, other[2] = {r[2], r[3]};
                mma_16x8x16(c[n], a, one, S{});
                mma_16x8x16(c[n + 1], a, other, S{});
            }
        }
    } else if constexpr (BY_TF32) {
        const T *x = left.rows + g * PITCH + t, *y = tile + g * PITCH + t;
        #pragma unroll 4
        for (int k = 0; k < DIM; k += 8) {
            u32 a[4] = {bits_at(x + k), bits_at(x + k + 8 * PITCH), bits_at(x + k + 4), bits_at(x + k + 8 * PITCH + 4)};
            #pragma unroll
            for (int n = 0; n < N; n++) {
                u32 b[2] = {bits_at(y + k + 8 * n * PITCH), bits_at(y + k + 8 * n * PITCH + 4)};
                mma_16x8x8_tf32(c[n], a, b);
            }
        }
    } else {
        const T *x = left.rows + g * PITCH, *y = tile + 2 * t * PITCH;
        #pragma unroll 2
        for (int k = 0; k < DIM; k += 4) {
            Four upper = *(const Four*)(x + k), lower = *(const Four*)(x + k + 8 * PITCH);
            #pragma unroll
            for (int n = 0; n < N; n++) {
                Four one = *(const Four*)(y + k + 8 * n * PITCH), other = *(const Four*)(y + k + (8 * n + 1) * PITCH);
                c[n][0] = dot(upper, one, c[n][0]), c[n][1] = dot(upper, other, c[n][1]);
                c[n][2] = dot(lower, one, c[n][2]), c[n][3] = dot(lower, other, c[n][3]);
            }
        }
    }
}

template <int N, class S> INLINE void mix(float (&c)[DIM / 8][4], const float (&w)[N][4], const S* tile) {
    int g = lane() / 4, t = lane() % 4;
    __syncwarp();  // masks let lanes go different ways
    if constexpr (BY_PAIRS) {
        #pragma unroll
        for (int k = 0; k < N; k += 2) {
            u32 a[4] = {pair_of(w[k][0], w[k][1], S{}), pair_of(w[k][2], w[k][3], S{}),
                        pair_of(w[k + 1][0], w[k + 1][1], S{}), pair_of(w[k + 1][2], w[k + 1][3], S{})};
            #pragma unroll
            for (int n = 0; n < DIM / 8; n += 2) {
                u32 r[4];
                ldmatrix_transposed(r, tile + (8 * k + lane() % 16) * PITCH + 8 * n + lane() / 16 * 8);
                u32 one[2] = {r[0], r[1]}, other[2] = {r[2], r[3]};
                mma_16x8x16(c[n], a, one, S{});
                mma_16x8x16(c[n + 1], a, other, S{});
            }
        }
    } else if constexpr (BY_TF32) {  // 8 rows in the order 0 2 4 6 1 3 5 7, as w lies in the registers
        const T* x = tile + 2 * t * PITCH + g;
        #pragma unroll
        for (int k = 0; k < N; k++) {
            u32 a[4] = {__float_as_uint(w[k][0]), __float_as_uint(w[k][2]), __float_as_uint(w[k][1]),
                        __float_as_uint(w[k][3])};
            #pragma unroll
            for (int n = 0; n < DIM / 8; n++) {
                u32 b[2] = {bits_at(x + 8 * k * PITCH + 8 * n), bits_at(x + (8 * k + 1) * PITCH + 8 * n)};
                mma_16x8x8_tf32(c[n], a, b);
            }
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++)
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                float upper = __shfl_sync(ALL, w[k][i % 2], 4 * g + i / 2);
                float lower = __shfl_sync(ALL, w[k][2 + i % 2], 4 * g + i / 2);
                #pragma unroll
                for (int n = 0; n < DIM / 8; n += 2) {
                    Four x = *(const Four*)(tile + (8 * k + i) * PITCH + 8 * n + 4 * t);
                    #pragma unroll
                    for (int e = 0; e < 4; e++) {
                        c[n + e / 2][e % 2] += upper * x.at[e];
                        c[n + e / 2][2 + e % 2] += lower * x.at[e];
                    }
                }
            }
    }
}

// Rows `first` to first + 15 of x (n, width) = factor c, where factor is one for each of a thread's two rows.
INLINE void put(T* x, i64 stride, i64 first, i64 n, i64 width, const float (&c)[DIM / 8][4], float upper, float lower) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
        i64 row = first + lane() / 4 + 8 * half;
        if (row >= n) continue;
        float factor = half ? lower : upper;
        #pragma unroll
        for (int k = 0; k < DIM / 8; k++) {
            T pair[2];
            narrow(c[k][2 * half] * factor, pair[0]), narrow(c[k][2 * half + 1] * factor, pair[1]);
            i64 d = column(k);
            T* to = x + row * stride + d;
            struct alignas(2 * sizeof(T)) Two { T at[2]; };
            if (d + 1 < width && (u64)to % sizeof(Two) == 0) *(Two*)to = {pair[0], pair[1]};
            else {
                if (d < width) to[0] = pair[0];
                if (d + 1 < width) to[1] = pair[1];
            }
        }
    }
}

// ---- who may see whom: one head of the mask that is added, and the future ----

struct Marks {
    const T* mask;  // null where there is none
    i64 mask_t, mask_s;
    int queries, keys;
    bool causal;
    float scale;  // times log2(e): scores are exponents of 2

    INLINE bool seen(int i, int j) const { return i < queries && j < keys && !(causal && j > i); }

    // The score of query i and key j from their product. Where all are seen and there is no mask: product * scale.
    INLINE float score(float product, int i, int j) const {
        if (!seen(i, j)) return -INFINITY;
        return mask ? product * scale + LOG2_E * widen(mask[i * mask_t + j * mask_s]) : product * scale;
    }
};

#define STRIDES(x, row) i64 x##_b, i64 x##_h, i64 x##_##row
#define MARKS_STRIDES i64 mask_b, i64 mask_h, i64 mask_t, i64 mask_s
#define MARKS(b, h)                                                                                  \
    Marks {                                                                                          \
        mask ? mask + (b)*mask_b + (h)*mask_h : mask, mask_t, mask_s, (int)queries, (int)keys,       \
            causal != 0, scale *LOG2_E                                                               \
    }

INLINE i64 over(i64 n, i64 size) { return (n + size - 1) / size; }

// ---- dropout of one head's weights: each is drawn where it is needed, by its place alone ----

// Lanes `by` apart share two words: of the lower one `high` and of the upper one `low` change places.
INLINE void exchange(u32& low, u32& high, int by) {
    bool upper = lane() & by;
    u32 got = __shfl_xor_sync(ALL, upper ? low : high, by);
    if (upper) low = got;
    else high = got;
}

struct Drop {
    u32 threshold;  // a weight is kept, times `factor`, if its word is not below; 0 where there is no dropout
    float factor;
    u64 seed, stream, first, per_row;  // the block of query 0 and key 0, and how many blocks a query has

    // Four keys of query i, from key j on, which is a multiple of 4.
    INLINE Words block(int i, int j) const { return philox(seed, stream, first + i * per_row + j / 4); }

    // Word e belongs to c[.][e], queries i to i + 15 down and keys j to j + 7 across. Two lanes have the same four keys
    // of two queries; each draws one query's, and no word is drawn twice. All lanes of the warp call it.
    INLINE Words down_queries(int i, int j) const {
        Words w = block(i + lane() / 4 + lane() % 2 * 8, j + lane() % 4 / 2 * 4);
        exchange(w.at[0], w.at[2], 1), exchange(w.at[1], w.at[3], 1);
        return w;
    }

    // The same for keys j to j + 15 down and queries i to i + 7 across: four lanes, four blocks.
    INLINE Words down_keys(int j, int i) const {
        int four = lane() / 16, own = lane() / 4 % 4;
        Words w = block(i + lane() % 4 * 2 + own % 2, j + four * 4 + own / 2 * 8);
        exchange(w.at[0], w.at[1], 4), exchange(w.at[2], w.at[3], 4);
        exchange(w.at[0], w.at[2], 8), exchange(w.at[1], w.at[3], 8);
        return w;
    }
};

#define DROP_NUMBERS u64 drop_below, float drop_factor, u64 seed, u64 seed_stream, u64 block, const u64* place
#define DROP(b, h)                                                                                   \
    Drop {                                                                                           \
        (u32)drop_below, drop_factor, seed, seed_stream,                                             \
            block + (place ? *place : 0) + ((b)*heads + (h)) * queries * over(keys, 4),              \
            (u64)over(keys, 4)                                                                       \
    }
