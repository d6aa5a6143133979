// Channels first to channels last and back: every matrix of an array turned; and the sum of several, turned.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types. It should be near the floor because both
// sides are touched in runs of 32 numbers: a square of 32 x 32 passes through shared memory, whose rows are one word
// longer, so that reading down a column meets every bank once. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors and 1.00 wavefronts of shared memory over the least.

#include "common.cuh"

constexpr int SIDE = 32;

// y[n, p, c] = x[n, c, p]; a block takes one square of one matrix
KERNEL turn(const T* x, T* y, i64 C, i64 P) {
    __shared__ T square[SIDE][SIDE + 4 / sizeof(T)];
    i64 across = (P + SIDE - 1) / SIDE, n = quotient(blockIdx.x, across);
    i64 c = (i64)blockIdx.y * SIDE, p = (blockIdx.x - n * across) * SIDE;
    x += n * C * P, y += n * C * P;
    for (int i = warp(); i < SIDE; i += warps())
        if (c + i < C && p + lane() < P) square[i][lane()] = x[(c + i) * P + p + lane()];
    __syncthreads();
    for (int i = warp(); i < SIDE; i += warps())
        if (p + i < P && c + lane() < C) y[(p + i) * C + c + lane()] = square[lane()][i];
}

// y[n, p, c] = sum over the parts, in order, of x[part, n, c, p], N matrices each
KERNEL turn_sums(const float* x, T* y, i64 parts, i64 N, i64 C, i64 P) {
    __shared__ float square[SIDE][SIDE + 1];
    i64 across = (P + SIDE - 1) / SIDE, n = quotient(blockIdx.x, across);
    i64 c = (i64)blockIdx.y * SIDE, p = (blockIdx.x - n * across) * SIDE;
    x += n * C * P, y += n * C * P;
    for (int i = warp(); i < SIDE; i += warps()) {
        if (c + i >= C || p + lane() >= P) continue;
        float sum = 0;
        #pragma unroll 4
        for (i64 part = 0; part < parts; part++) sum += x[(part * N * C + c + i) * P + p + lane()];
        square[i][lane()] = sum;
    }
    __syncthreads();
    for (int i = warp(); i < SIDE; i += warps())
        if (p + i < P && c + lane() < C) narrow(square[lane()][i], y[(p + i) * C + c + lane()]);
}
