// Products of matrices: C (M, N) = A (M, K) B (K, N) + bias (N,), for a stack of them, in tiles.
//
// Floor: 2 M N K operations, at what the card can do of their kind; for thin matrices the bytes of A, B and C.
//
//   the tile      a block makes 64 x 64 numbers of C. It walks along K, and each number of A and B that it fetches
//                 serves 64 products.
//   the stages    four pieces of A and B, 64 bytes deep, stand in shared memory in turn: while the block works on one,
//                 three are on their way (copy_async), and nobody waits for memory but at the start.
//   the padding   rows of a piece are so long that the threads of a warp, reading side by side, meet no bank twice.
//   registers     float32 is multiplied by 8 x 4 numbers a thread, held in registers: 32 products for 12 numbers read.
//                 The 16-bit types (and float32, where TF32 is allowed) go to the tensor cores, 32 x 32 numbers a warp.
//   the end       the tile goes through shared memory, so that C is written 16 bytes at a time, in whole lines; there
//                 the bias is added, and an activation may follow (-DACTIVATION), before the one rounding to C's type.
//
// A and B are read as they lie. Where rows are not multiples of 16 bytes, the packs that begin at odd addresses are
// fetched number by number: right, and slower. cuBLAS is quicker on large matrices (it has larger tiles, and on Hopper
// wgmma); this kernel serves small ones with a bias, which are one launch then, and machines without cuBLAS. The sum
// over K goes from first to last. Not yet measured.

#include "common.cuh"
#include "activations.cuh"
#include "mma.cuh"

constexpr int TILE = 64, THREADS = 128, STAGES = 4;
constexpr int DEPTH = 4 * PACK;  // along K, of one stage

// ---- a stage of one operand: 64 lines (rows of A, columns of B) by DEPTH. ALONG: they lie in memory with K running
// along the rows (A as it is, B transposed); otherwise each row is one k, with the lines beside each other. ----

template <bool ALONG> struct Piece {
    static constexpr int ROWS = ALONG ? TILE : DEPTH, WIDTH = ALONG ? DEPTH : TILE, PAD = ALONG ? PACK : 8;
    alignas(16) T at[ROWS][WIDTH + PAD];

    // The numbers from (line, k) on, of a matrix of `lines` by K whose rows in memory are `step` apart; past it, zeros.
    INLINE void fetch(const T* x, i64 step, i64 line, i64 lines, i64 k, i64 K) {
        i64 row = ALONG ? line : k, rows = ALONG ? lines : K, column = ALONG ? k : line, columns = ALONG ? K : lines;
        constexpr int PACKS = WIDTH / PACK;
        #pragma unroll
        for (int turn = 0; turn < ROWS * PACKS / THREADS; turn++) {
            int p = turn * THREADS + threadIdx.x, r = p / PACKS, c = p % PACKS * PACK;
            const T* from = x + (row + r) * step + column + c;
            i64 left = row + r < rows ? columns - column - c : 0;
            if (left >= PACK && (u64)from % 16 == 0) copy_async(&at[r][c], from, true);
            else
                #pragma unroll
                for (int i = 0; i < PACK; i++) at[r][c + i] = i < left ? from[i] : T{};
        }
    }

    INLINE T get(int line, int k) const { return ALONG ? at[line][k] : at[k][line]; }

    // For float arithmetic: N lines, and of each the numbers k to k + 3. Which lines, `line` says: of every `threads`
    // neighbours each has its own.
    static INLINE int line(int thread, int threads, int i) {
        return ALONG ? thread + threads * i : 4 * (thread + threads * (i / 4)) + i % 4;
    }

    template <int N> INLINE void quads(float (&v)[N][4], int thread, int threads, int k) const {
        #pragma unroll
        for (int i = 0; i < (ALONG ? N : N / 4); i++)
            #pragma unroll
            for (int j = 0; j < (ALONG ? 1 : 4); j++) {
                const T* from = ALONG ? &at[line(thread, threads, i)][k] : &at[k + j][line(thread, threads, 4 * i)];
                Pack<T> pack = *(const Pack<T>*)from;
                #pragma unroll
                for (int e = 0; e < 4; e++) (ALONG ? v[i][e] : v[4 * i + e][j]) = widen(pack.at[e]);
            }
    }

    // For tensor cores: the 16 lines and 16 k from (line, k) on, as four matrices of 8 x 8. Those of the A of a product
    // go down its lines first, those of B along k first.
    INLINE void fragment(u32 (&r)[4], int line, int k, bool lines_first) const {
        int matrix = lane() / 8, own = lane() % 8;
        line += 8 * (lines_first ? matrix % 2 : matrix / 2), k += 8 * (lines_first ? matrix / 2 : matrix % 2);
        if (ALONG) ldmatrix(r, &at[line + own][k]);
        else ldmatrix_transposed(r, &at[k + own][line]);
    }
};

// ---- three ways to multiply: each holds its thread's part of the tile, adds a stage to it, and gives it out ----

// Floats in registers: 8 x 16 threads, 8 x 4 numbers each.
template <bool A_ALONG, bool B_ALONG> struct Floats {
    float c[8][4] = {};

    INLINE void add(const Piece<A_ALONG>& left, const Piece<B_ALONG>& right) {
        #pragma unroll
        for (int k = 0; k < DEPTH; k += 4) {
            float a[8][4], b[4][4];
            left.quads(a, threadIdx.x / 16, 8, k);
            right.quads(b, threadIdx.x % 16, 16, k);
            #pragma unroll
            for (int e = 0; e < 4; e++)
                #pragma unroll
                for (int i = 0; i < 8; i++)
                    #pragma unroll
                    for (int j = 0; j < 4; j++) c[i][j] += a[i][e] * b[j][e];
        }
    }

    template <class F> INLINE void each(F put) const {
        #pragma unroll
        for (int i = 0; i < 8; i++)
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                int row = Piece<A_ALONG>::line(threadIdx.x / 16, 8, i);
                put(row, Piece<B_ALONG>::line(threadIdx.x % 16, 16, j), c[i][j]);
            }
    }
};

// Tensor cores: 2 x 2 warps, 32 x 32 numbers each, as 2 x 4 products of 16 x 8.
template <class S, bool A_ALONG, bool B_ALONG> struct Tensors {
    float c[2][4][4] = {};

    static INLINE int top() { return 32 * (warp() / 2); }
    static INLINE int left_edge() { return 32 * (warp() % 2); }

    INLINE void add(const Piece<A_ALONG>& left, const Piece<B_ALONG>& right) { add(left, right, S{}); }

    template <class HALF> INLINE void add(const Piece<A_ALONG>& left, const Piece<B_ALONG>& right, HALF type) {
        #pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            u32 a[2][4], b[2][4];
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                left.fragment(a[i], top() + 16 * i, k, true);
                right.fragment(b[i], left_edge() + 16 * i, k, false);
            }
            #pragma unroll
            for (int i = 0; i < 2; i++)
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    u32 pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
                    mma_16x8x16(c[i][j], a[i], pair, type);
                }
        }
    }

    INLINE void add(const Piece<A_ALONG>& left, const Piece<B_ALONG>& right, float) {  // TF32
        int g = lane() / 4, t = lane() % 4;
        #pragma unroll
        for (int k = 0; k < DEPTH; k += 8) {
            u32 a[2][4], b[4][2];
            #pragma unroll
            for (int i = 0; i < 2; i++)
                #pragma unroll
                for (int q = 0; q < 4; q++)
                    a[i][q] = __float_as_uint(left.get(top() + 16 * i + g + q % 2 * 8, k + t + q / 2 * 4));
            #pragma unroll
            for (int j = 0; j < 4; j++)
                #pragma unroll
                for (int q = 0; q < 2; q++)
                    b[j][q] = __float_as_uint(right.get(left_edge() + 8 * j + g, k + t + q * 4));
            #pragma unroll
            for (int i = 0; i < 2; i++)
                #pragma unroll
                for (int j = 0; j < 4; j++) mma_16x8x8_tf32(c[i][j], a[i], b[j]);
        }
    }

    template <class F> INLINE void each(F put) const {
        int g = lane() / 4, t = lane() % 4;
        #pragma unroll
        for (int i = 0; i < 2; i++)
            #pragma unroll
            for (int j = 0; j < 4; j++)
                #pragma unroll
                for (int e = 0; e < 4; e++)
                    put(top() + 16 * i + g + e / 2 * 8, left_edge() + 8 * j + 2 * t + e % 2, c[i][j][e]);
    }
};

template <class S, bool A_ALONG, bool B_ALONG> struct Multiplier { typedef Tensors<S, A_ALONG, B_ALONG> type; };
#ifndef TF32
template <bool A_ALONG, bool B_ALONG> struct Multiplier<float, A_ALONG, B_ALONG> {
    typedef Floats<A_ALONG, B_ALONG> type;
};
#endif

// ---- the kernel: block (tile, matrix of the stack), in one row of blocks ----

template <bool A_ALONG, bool B_ALONG>
INLINE void gemm(const T* a, const T* b, const T* bias, W* c, W* before, i64 M, i64 N, i64 K, i64 a_step, i64 b_step,
                 i64 a_stride, i64 b_stride, i64 c_stride, i64 more) {
    union Shared {
        struct { Piece<A_ALONG> a; Piece<B_ALONG> b; } stage[STAGES];
        float tile[TILE][TILE + 4];
    };
    __shared__ Shared shared;

    i64 down = (M + TILE - 1) / TILE, across = (N + TILE - 1) / TILE;
    i64 tile = blockIdx.x % (down * across), matrix = blockIdx.x / (down * across);
    i64 row = tile / across * TILE, column = tile % across * TILE;
    a += matrix * a_stride, b += matrix * b_stride, c += matrix * c_stride;

    auto fetch = [&](i64 k) {
        if (k < K) {
            auto& stage = shared.stage[k / DEPTH % STAGES];
            stage.a.fetch(a, a_step, row, M, k, K);
            stage.b.fetch(b, b_step, column, N, k, K);
        }
        copy_async_commit();  // an empty group too: the waits count groups
    };

    typename Multiplier<T, A_ALONG, B_ALONG>::type sum;
    for (int stage = 0; stage < STAGES - 1; stage++) fetch(stage * DEPTH);
    for (i64 k = 0; k < K; k += DEPTH) {
        copy_async_wait<STAGES - 2>();  // this thread's part of the stage has come, and
        __syncthreads();                // everybody's; and everybody is through with the stage that is fetched next
        fetch(k + (STAGES - 1) * DEPTH);
        __syncwarp();  // some copied pack by pack, some number by number
        auto& stage = shared.stage[k / DEPTH % STAGES];
        sum.add(stage.a, stage.b);
    }
    __syncthreads();  // no copy is on its way any more; the stages' memory becomes the tile's
    sum.each([&](int i, int j, float v) { shared.tile[i][j] = v; });
    __syncthreads();

    for (int p = threadIdx.x; p < TILE * TILE / PACK; p += THREADS) {
        int i = p / (TILE / PACK), j = p % (TILE / PACK) * PACK;
        if (row + i >= M || column + j >= N) continue;
        W* to = c + (row + i) * N;
        float v[PACK], w[PACK] = {};
        if (more) load(w, to, column + j, N);
        else if (bias) load(w, bias, column + j, N);
        #pragma unroll
        for (int e = 0; e < PACK; e++) v[e] = shared.tile[i][j + e];
        if (ACTIVATES && before) store(before + (row + i) * N, column + j, N, v);
        #pragma unroll
        for (int e = 0; e < PACK; e++) v[e] = activated(v[e] + w[e]);
        store(to, column + j, N, v);
    }
}

// `gemm_nt`: A as it is, B transposed in memory. a_step and b_step: from row to row there; a_stride, b_stride and
// c_stride: from matrix to matrix of the stack. more: add the product to what stands in C. before: memory for the
// product alone, of one matrix, where an activation follows it, or a null pointer.
#define GEMM(name, A_ALONG, B_ALONG)                                                                                \
    KERNEL name(const T* a, const T* b, const T* bias, W* c, W* before, i64 M, i64 N, i64 K, i64 a_step, i64 b_step, \
                i64 a_stride, i64 b_stride, i64 c_stride, i64 more) {                                               \
        gemm<A_ALONG, B_ALONG>(a, b, bias, c, before, M, N, K, a_step, b_step, a_stride, b_stride, c_stride, more); \
    }
GEMM(gemm_nn, true, false)
GEMM(gemm_nt, true, true)
GEMM(gemm_tn, false, false)
GEMM(gemm_tt, false, true)
