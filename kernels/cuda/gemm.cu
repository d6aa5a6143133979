// Products of matrices: C (M, N) = A (M, K) B (K, N) + bias (N,), for a stack of them, in tiles.
//
// Floor: 2 M N K operations, at what the card can do of their kind; for thin matrices the bytes of A, B and C.
//
//   the tile      a block makes 64 x 64 numbers of C. It walks along K, and each number of A and B that it fetches
//                 serves 64 products.
//   the stages    four pieces of A and B, 64 bytes deep, stand in shared memory in turn: while the block works on one,
//                 three are on their way (copy_async), and nobody waits for memory but at the start.
//   the slots     packs lie in shared memory so that the threads of a warp, reading side by side, meet no bank twice.
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
#include "tiles.cuh"

constexpr int TILE = 64, THREADS = 128, STAGES = 4;

// A stage of one operand: 64 lines (rows of A, columns of B) from `line` on, of a matrix of `lines` by K whose rows in
// memory are `step` apart, and its numbers from k on; past the end, zeros. In memory K runs along the rows (A as it is,
// B transposed) as it does in the tile, or each row is one k.
template <class Tile> INLINE void fetch(Pack<T>* tile, const T* x, i64 step, i64 line, i64 lines, i64 k, i64 K) {
    constexpr bool ACROSS = Tile::IS_ACROSS;
    constexpr int PACKS = (ACROSS ? TILE : Tile::INNER) / PACK;  // of a row
    i64 row = ACROSS ? k : line, rows = ACROSS ? K : lines, column = ACROSS ? line : k, columns = ACROSS ? lines : K;
    #pragma unroll
    for (int turn = 0; turn < Tile::PACKS / THREADS; turn++) {
        int p = turn * THREADS + threadIdx.x, r = p / PACKS, c = p % PACKS;
        const T* from = x + (row + r) * step + column + c * PACK;
        i64 left = row + r < rows ? columns - column - c * PACK : 0;
        Pack<T>& to = tile[Tile::slot(r, c)];
        if (left >= PACK && (u64)from % 16 == 0) copy_async(&to, from, true);
        else
            #pragma unroll
            for (int i = 0; i < PACK; i++) to.at[i] = i < left ? from[i] : T{};
    }
}

// ---- the kernel: block (tile, matrix of the stack), in one row of blocks ----

template <class A, class B>
INLINE void gemm(const T* a, const T* b, const T* bias, W* c, W* before, i64 M, i64 N, i64 K, i64 a_step, i64 b_step,
                 i64 a_stride, i64 b_stride, i64 c_stride, i64 more) {
    typedef typename Either<TENSOR, Fragments<A, B, 32, 32, STAGES>, Registers<A, B, 8, 4, STAGES>>::Type Product;
    __shared__ union {
        Pack<T> stages[STAGES * (A::PACKS + B::PACKS)];
        float tile[TILE][TILE + 4];
    } shared;

    i64 down = (M + TILE - 1) / TILE, across = (N + TILE - 1) / TILE;
    i64 tile = blockIdx.x % (down * across), matrix = blockIdx.x / (down * across);
    i64 row = tile / across * TILE, column = tile % across * TILE;
    a += matrix * a_stride, b += matrix * b_stride, c += matrix * c_stride;

    i64 k = 0;
    auto get = [&](Pack<T>* left, Pack<T>* right) {
        fetch<A>(left, a, a_step, row, M, k, K);
        fetch<B>(right, b, b_step, column, N, k, K);
        k += A::INNER;
    };
    Product product;
    multiply(product, (K + A::INNER - 1) / A::INNER, shared.stages, get);
    __syncthreads();  // no copy is on its way any more; the stages' memory becomes the tile's
    product.each([&](int i, int j, const float (&v)[Product::COUNT]) {
        #pragma unroll
        for (int e = 0; e < Product::COUNT; e++) shared.tile[i][j + e] = v[e];
    });
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
#define GEMM(name, A, B)                                                                                            \
    KERNEL name(const T* a, const T* b, const T* bias, W* c, W* before, i64 M, i64 N, i64 K, i64 a_step, i64 b_step, \
                i64 a_stride, i64 b_stride, i64 c_stride, i64 more) {                                               \
        gemm<A, B>(a, b, bias, c, before, M, N, K, a_step, b_step, a_stride, b_stride, c_stride, more);             \
    }
GEMM(gemm_nn, Along<TILE>, Across<TILE>)
GEMM(gemm_nt, Along<TILE>, Along<TILE>)
GEMM(gemm_tn, Across<TILE>, Across<TILE>)
GEMM(gemm_tt, Across<TILE>, Along<TILE>)
