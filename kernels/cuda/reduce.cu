// Sums with the same bits on any card: over rows, and over everything.
//
// Floor: read x once, 4 bytes a number in float32, 2 in the 16-bit types. The array is cut by its shape alone; a block
// sums each part, and a second kernel adds the parts' sums in order: over rows in float32, over everything in float64.
// It should be near the floor because every access is of 16 bytes and there are up to 1024 parts, enough blocks for any
// card. Not yet measured.
// Counted: 1.00 times the floor's bytes over everything, 1.03 over rows (1.06 in 16 bits), which is the parts; 1.00
// sectors and 1.00 wavefronts of shared memory over the least.

#include "common.cuh"

constexpr int WARPS = 8;

// out[part, j] = the sum of x[i, j] over the rows i of a part. Block (tile, part, slice) takes 32 packs of N columns, a
// warp every WARPS-th row; a slice is a matrix of its own, x[slice] to out[slice].
template <class S, class O> INLINE void sum_columns(const S* x, O* out, i64 n, i64 width, i64 step) {
    constexpr int N = 16 / sizeof(S);
    alignas(16) __shared__ float sums[WARPS][32 * N];
    x += blockIdx.z * n * width, out += blockIdx.z * gridDim.y * width;
    i64 first = ((i64)blockIdx.x * 32 + lane()) * N, end = min((blockIdx.y + 1) * step, n);
    float total[N] = {};
    #pragma unroll 4
    for (i64 row = blockIdx.y * step + warp(); row < end; row += WARPS) {
        float v[N];
        load(v, x + row * width, first, width);
        #pragma unroll
        for (int k = 0; k < N; k++) total[k] += v[k];
    }
    put_pack(sums[warp()], total);
    __syncthreads();
    for (int c = threadIdx.x; c < 32 * N; c += blockDim.x) {
        i64 j = (i64)blockIdx.x * 32 * N + c;
        if (j >= width) break;
        float sum = 0;
        for (int turn = 0; turn < WARPS; turn++) sum += sums[turn][spot(c / N, c % N)];
        narrow(sum, out[blockIdx.y * width + j]);
    }
}

KERNEL sum_rows(const T* x, float* partial, i64 n, i64 width, i64 step) {
    sum_columns(x, partial, n, width, step);
}

KERNEL add_parts(const float* partial, T* out, i64 n, i64 width, i64 step) {
    sum_columns(partial, out, n, width, step);
}

// partial[block] = the sum of f(x) over `step` numbers, a multiple of PACK
template <class F> INLINE void sum_part(const T* x, float* partial, i64 n, i64 step, F f) {
    i64 end = min((blockIdx.x + 1) * step, n);
    float total = 0;
    #pragma unroll 4
    for (i64 first = blockIdx.x * step + threadIdx.x * PACK; first < end; first += blockDim.x * PACK) {
        float v[PACK];
        load(v, x, first, end);
        #pragma unroll
        for (int k = 0; k < PACK; k++) total += f(v[k]);
    }
    total = block_sum(total);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

KERNEL sum_chunks(const T* x, float* partial, i64 n, i64 step) {
    sum_part(x, partial, n, step, [](float v) { return v; });
}

KERNEL square_chunks(const T* x, float* partial, i64 n, i64 step) {
    sum_part(x, partial, n, step, [](float v) { return v * v; });
}

// One block adds n partial sums.
INLINE double sum_of(const float* partial, i64 n) {
    double total = 0;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) total += partial[i];
    return block_sum(total);
}

KERNEL add_to_double(const float* partial, double* out, i64 n) {
    double total = sum_of(partial, n);
    if (threadIdx.x == 0) *out = total;
}

KERNEL add_to_float(const float* partial, float* out, i64 n) {
    double total = sum_of(partial, n);
    if (threadIdx.x == 0) *out = total;
}
