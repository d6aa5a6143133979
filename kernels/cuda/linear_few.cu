// A linear layer of a few rows, as decoding asks for it, with all that stands around it:
//
//     y = residual + f(layer_norm(x) w' + bias)        each of norm, bias, f and residual may be missing
//
// Floor: read w, 2 bytes a number in the 16-bit types. Of a batch of one that is all there is, and no tensor core helps:
// 4.7 MB for 768 to 3072 are 1.4 us at 3.35 TB/s. So a launch costs more than its work, and the norm, the bias, the
// activation and the sum, a launch each, would cost as much as the product.
// It should be near the floor because a warp reads whole rows of w by 16 bytes a lane, four loads on the way at a time;
// the rows of x lie in shared memory. Each block norms them for itself: some thousand numbers, while w is fetched.
// Not yet measured.

#include "common.cuh"
#include "activations.cuh"

// The rows of x from `top` on in shared memory, normed, each filled up with zeros to whole packs.
template <int R>
INLINE void take_rows(T* rows, const T* x, const T* norm_weight, const T* norm_bias, i64 top, i64 n, i64 inputs,
                      i64 packs, i64 normed, float eps) {
    for (int r = warp(); r < R; r += warps()) {
        const T* row = x + (top + r) * inputs;
        bool there = top + r < n;
        float v[PACK], a[PACK], b[PACK], mean = 0, rstd = 1;
        if (normed && there) {
            float sum = 0, squares = 0;
            for (i64 p = lane(); p < packs; p += 32) {
                load(v, row, p * PACK, inputs);
                #pragma unroll
                for (int k = 0; k < PACK; k++) sum += v[k];
            }
            mean = warp_sum(sum) / inputs;
            for (i64 p = lane(); p < packs; p += 32) {
                load(v, row, p * PACK, inputs, mean);
                #pragma unroll
                for (int k = 0; k < PACK; k++) squares += (v[k] - mean) * (v[k] - mean);
            }
            rstd = 1 / sqrtf(warp_sum(squares) / inputs + eps);
        }
        for (i64 p = lane(); p < packs; p += 32) {
            Pack<T> pack;
            #pragma unroll
            for (int k = 0; k < PACK; k++) v[k] = b[k] = 0, a[k] = 1;
            if (there) load(v, row, p * PACK, inputs, mean);
            if (norm_weight) load(a, norm_weight, p * PACK, inputs);
            if (norm_bias) load(b, norm_bias, p * PACK, inputs);
            #pragma unroll
            for (int k = 0; k < PACK; k++) narrow(normed ? (v[k] - mean) * rstd * a[k] + b[k] : v[k], pack.at[k]);
            *(Pack<T>*)(rows + (r * packs + p) * PACK) = pack;
        }
    }
}

// Block (outputs, R rows of x); a warp makes `each` outputs.
template <int R>
INLINE void few(const T* x, const T* w, const T* bias, const T* norm_weight, const T* norm_bias, const T* residual, T* y,
                i64 n, i64 inputs, i64 outputs, i64 each, i64 normed, float eps) {
    DYNAMIC_SHARED(memory);
    T* rows = (T*)memory;
    i64 packs = (inputs + PACK - 1) / PACK, top = (i64)blockIdx.y * R;
    take_rows<R>(rows, x, norm_weight, norm_bias, top, n, inputs, packs, normed, eps);
    __syncthreads();
    i64 first = ((i64)blockIdx.x * warps() + warp()) * each, last = min(first + each, outputs);
    for (i64 o = first; o < last; o++) {
        float sum[R] = {}, u[PACK], mine = 0;
        #pragma unroll 4
        for (i64 p = lane(); p < packs; p += 32) {
            load(u, w + o * inputs, p * PACK, inputs);
            #pragma unroll
            for (int r = 0; r < R; r++) {
                Pack<T> v = *(const Pack<T>*)(rows + (r * packs + p) * PACK);
                #pragma unroll
                for (int k = 0; k < PACK; k++) sum[r] += widen(v.at[k]) * u[k];
            }
        }
        #pragma unroll
        for (int r = 0; r < R; r++) {
            float all = warp_sum(sum[r]);
            if (lane() == r) mine = all;
        }
        if (lane() >= R || top + lane() >= n) continue;
        i64 at = (top + lane()) * outputs + o;
        mine = activated(bias ? mine + widen(bias[o]) : mine);
        narrow(residual ? mine + widen(residual[at]) : mine, y[at]);
    }
}

#define FEW(R)                                                                                                     \
    KERNEL linear_few_##R(const T* x, const T* w, const T* bias, const T* norm_weight, const T* norm_bias,         \
                          const T* residual, T* y, i64 n, i64 inputs, i64 outputs, i64 each, i64 normed, float eps) { \
        few<R>(x, w, bias, norm_weight, norm_bias, residual, y, n, inputs, outputs, each, normed, eps);            \
    }

FEW(1)
FEW(2)
FEW(4)
FEW(8)
