// Layer norm and RMS norm, and their gradients, over rows.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types; 12 and 6 in the gradient. It should be
// near the floor because a row of up to 1024 numbers stands in a warp's registers through its passes (mean, squares
// about the mean, result), and sums go by shuffles. In the gradient a warp keeps its share of the gradients of weight
// and bias in registers too, over all its rows, so g and x are read once; rows of up to 8192 stand in a block's in the
// same way. Else a wider row is read again for each pass, from a cache, and in the gradient the sums for weight and
// bias are a second kernel beyond 8192: 20 bytes a number, not 12. Not yet measured.
// Counted: 1.00 to 1.03 times the floor's bytes, 1.00 sectors over the least (1.07 and 1.12 in the gradients of wide
// rows in 16 bits), 1.00 wavefronts of shared memory. In the gradient of 1024 rows 1.08 and 1.17 times the floor's
// bytes, 1.17 and 1.34 in 16 bits: the partial sums, a row or two of floats for each 8 rows, or for more rows where
// there are more than 2048.
//
// The squares are of (x - mean), not of x: with a large mean, the mean of x*x less mean*mean loses every digit. Weight
// and bias are of type W, or null pointers, y and its gradient g of type Y: under autocast a product reads y next, and x
// may be float32. mean and rstd are float32. The partial sums of the gradients of weight and bias are one row a block,
// first all those of the weight, then all those of the bias; reduce.cu adds them in order.

#include "common.cuh"
#include "rows.cuh"

// The parameter, or `rest` where there is none.
template <int M> INLINE void load_or(Row<M>& a, const W* parameter, i64 width, float rest) {
    if (parameter) a.load(parameter, width);
    else a.set([&](int, int) { return rest; });
}

INLINE void load_or(float (&v)[PACK], const W* parameter, i64 first, i64 width, float rest) {
    if (parameter) load(v, parameter, first, width);
    else
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = rest;
}

// ---- forward: y = (x - mean) rstd weight + bias; RMS norm is the same with a mean of 0 and no bias ----

template <int M, bool CENTRED>
INLINE void norm(const T* x, const W* weight, const W* bias, float eps, Y* y, float* mean, float* rstd, i64 n,
                 i64 width) {
    i64 row = my_row();
    if (row >= n) return;
    Row<M> a, w, b;
    a.load(x + row * width, width);
    load_or(w, weight, width, 1);
    load_or(b, bias, width, 0);
    float m = CENTRED ? Row<M>::sum([&](int i, int k) { return a.at[i][k]; }) / width : 0;
    float squares = Row<M>::sum([&](int i, int k) {
        float d = a.place(i) + k < width ? a.at[i][k] - m : 0;
        return d * d;
    });
    float r = 1 / sqrtf(squares / width + eps);
    a.set([&](int i, int k) { return (a.at[i][k] - m) * r * w.at[i][k] + b.at[i][k]; });
    a.store(y + row * width, width);
    if (lane() > 0) return;
    if (CENTRED) mean[row] = m;
    rstd[row] = r;
}

template <bool CENTRED>
INLINE void norm_wide(const T* x, const W* weight, const W* bias, float eps, Y* y, float* mean, float* rstd,
                      i64 width) {
    i64 row = blockIdx.x;
    x += row * width, y += row * width;
    float m = 0, squares = 0;
    if (CENTRED) {
        each_pack(width, [&](i64 first) {
            float v[PACK];
            load(v, x, first, width);
            #pragma unroll
            for (int k = 0; k < PACK; k++) m += v[k];
        });
        m = block_sum(m) / width;
    }
    each_pack(width, [&](i64 first) {
        float v[PACK];
        load(v, x, first, width, m);
        #pragma unroll
        for (int k = 0; k < PACK; k++) squares += (v[k] - m) * (v[k] - m);
    });
    float r = 1 / sqrtf(block_sum(squares) / width + eps);
    each_pack(width, [&](i64 first) {
        float v[PACK], w[PACK], b[PACK];
        load(v, x, first, width);
        load_or(w, weight, first, width, 1);
        load_or(b, bias, first, width, 0);
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = (v[k] - m) * r * w[k] + b[k];
        store(y, first, width, v);
    });
    if (threadIdx.x > 0) return;
    if (CENTRED) mean[row] = m;
    rstd[row] = r;
}

// ---- gradient: with h = (x - mean) rstd and v = g weight,   dx = rstd (v - average(v) - h average(v h)), the first
// average only where there is a mean;   dweight = Σ g h and dbias = Σ g over the rows ----

// A block takes `step` rows, a warp every WARPS-th of them.
template <int M, bool CENTRED>
INLINE void norm_gradient(const Y* g, const T* x, const W* weight, const float* mean, const float* rstd, T* gx,
                          float* partial, i64 n, i64 width, i64 step) {
    alignas(16) __shared__ float sums[1 + CENTRED][WARPS / 2][Row<M>::N][32 * PACK];
    Row<M> w, of_weight, of_bias;
    load_or(w, weight, width, 1);
    of_weight.set([](int, int) { return 0.0f; });
    of_bias.set([](int, int) { return 0.0f; });
    i64 end = min((blockIdx.x + 1) * step, n);
    for (i64 row = blockIdx.x * step + warp(); row < end; row += WARPS) {
        Row<M> d, h;
        d.load(g + row * width, width);
        h.load(x + row * width, width);
        float m = CENTRED ? mean[row] : 0, r = rstd[row];
        h.set([&](int i, int k) { return (h.at[i][k] - m) * r; });
        of_weight.set([&](int i, int k) { return of_weight.at[i][k] + d.at[i][k] * h.at[i][k]; });
        if (CENTRED) of_bias.set([&](int i, int k) { return of_bias.at[i][k] + d.at[i][k]; });
        d.set([&](int i, int k) { return d.at[i][k] * w.at[i][k]; });
        float first = CENTRED ? Row<M>::sum([&](int i, int k) { return d.at[i][k]; }) / width : 0;
        float second = Row<M>::sum([&](int i, int k) { return d.at[i][k] * h.at[i][k]; }) / width;
        d.set([&](int i, int k) { return r * (d.at[i][k] - first - h.at[i][k] * second); });
        d.store(gx + row * width, width);
    }
    int half = warp() % (WARPS / 2);
    if (warp() >= WARPS / 2)
        #pragma unroll
        for (int i = 0; i < w.N; i++) {
            put_pack(sums[0][half][i], of_weight.at[i]);
            if constexpr (CENTRED) put_pack(sums[1][half][i], of_bias.at[i]);
        }
    __syncthreads();
    if (warp() < WARPS / 2)
        #pragma unroll
        for (int i = 0; i < w.N; i++) {
            put_pack<true>(sums[0][half][i], of_weight.at[i]);
            if constexpr (CENTRED) put_pack<true>(sums[1][half][i], of_bias.at[i]);
        }
    __syncthreads();
    for (int j = threadIdx.x; j < width; j += blockDim.x) {
        int i = j / (32 * PACK), place = spot(j / PACK % 32, j % PACK);
        float total[2] = {};
        #pragma unroll
        for (int w = 0; w < WARPS / 2; w++) {
            total[0] += sums[0][w][i][place];
            if constexpr (CENTRED) total[1] += sums[1][w][i][place];
        }
        partial[blockIdx.x * width + j] = total[0];
        if (CENTRED) partial[(gridDim.x + blockIdx.x) * width + j] = total[1];
    }
}

// The same for wider rows: the threads of a block hold a row, N packs each, and of the sums their own columns.
template <int N, bool CENTRED>
INLINE void norm_gradient_held(const Y* g, const T* x, const W* weight, const float* mean, const float* rstd, T* gx,
                               float* partial, i64 n, i64 width, i64 step) {
    float w[N][PACK], of_weight[N][PACK] = {}, of_bias[N][PACK] = {};
    auto place = [](int i) { return ((i64)i * blockDim.x + threadIdx.x) * PACK; };
    #pragma unroll
    for (int i = 0; i < N; i++) load_or(w[i], weight, place(i), width, 1);
    i64 end = min((blockIdx.x + 1) * step, n);
    for (i64 row = blockIdx.x * step; row < end; row++) {
        float d[N][PACK], h[N][PACK], m = CENTRED ? mean[row] : 0, r = rstd[row], first = 0, second = 0;
        #pragma unroll
        for (int i = 0; i < N; i++) {
            load(d[i], g + row * width, place(i), width);
            load(h[i], x + row * width, place(i), width);
        }
        #pragma unroll
        for (int i = 0; i < N; i++)
            #pragma unroll
            for (int k = 0; k < PACK; k++) {
                h[i][k] = (h[i][k] - m) * r;
                of_weight[i][k] += d[i][k] * h[i][k];
                of_bias[i][k] += d[i][k];
                d[i][k] *= w[i][k];
                first += d[i][k], second += d[i][k] * h[i][k];
            }
        first = CENTRED ? block_sum(first) / width : 0;
        second = block_sum(second) / width;
        #pragma unroll
        for (int i = 0; i < N; i++) {
            #pragma unroll
            for (int k = 0; k < PACK; k++) d[i][k] = r * (d[i][k] - first - h[i][k] * second);
            store(gx + row * width, place(i), width, d[i]);
        }
    }
    #pragma unroll
    for (int i = 0; i < N; i++) {
        store(partial + blockIdx.x * width, place(i), width, of_weight[i]);
        if (CENTRED) store(partial + (gridDim.x + blockIdx.x) * width, place(i), width, of_bias[i]);
    }
}

template <bool CENTRED>
INLINE void norm_gradient_wide(const Y* g, const T* x, const W* weight, const float* mean, const float* rstd, T* gx,
                               i64 width) {
    i64 row = blockIdx.x;
    g += row * width, x += row * width, gx += row * width;
    float m = CENTRED ? mean[row] : 0, r = rstd[row], first = 0, second = 0;
    auto load_both = [&](i64 at, float (&v)[PACK], float (&h)[PACK]) {
        float w[PACK];
        load(v, g, at, width);
        load(h, x, at, width);
        load_or(w, weight, at, width, 1);
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] *= w[k], h[k] = (h[k] - m) * r;
    };
    each_pack(width, [&](i64 at) {
        float v[PACK], h[PACK];
        load_both(at, v, h);
        #pragma unroll
        for (int k = 0; k < PACK; k++) first += v[k], second += v[k] * h[k];
    });
    first = CENTRED ? block_sum(first) / width : 0;
    second = block_sum(second) / width;
    each_pack(width, [&](i64 at) {
        float v[PACK], h[PACK];
        load_both(at, v, h);
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = r * (v[k] - first - h[k] * second);
        store(gx, at, width, v);
    });
}

// The partial sums of the gradients of weight and bias for wide rows: block (tile, part) adds up `step` rows of 32
// packs.
template <bool CENTRED>
INLINE void norm_parameters(const Y* g, const T* x, const float* mean, const float* rstd, float* partial, i64 n,
                            i64 width, i64 step) {
    alignas(16) __shared__ float sums[1 + CENTRED][WARPS][32 * PACK];
    i64 first = (blockIdx.x * 32 + lane()) * PACK, end = min((blockIdx.y + 1) * step, n);
    float of_weight[PACK] = {}, of_bias[PACK] = {};
    for (i64 row = blockIdx.y * step + warp(); row < end; row += WARPS) {
        float d[PACK], a[PACK], m = CENTRED ? mean[row] : 0, r = rstd[row];
        load(d, g + row * width, first, width);
        load(a, x + row * width, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) of_weight[k] += d[k] * ((a[k] - m) * r), of_bias[k] += d[k];
    }
    put_pack(sums[0][warp()], of_weight);
    if constexpr (CENTRED) put_pack(sums[1][warp()], of_bias);
    __syncthreads();
    for (int c = threadIdx.x; c < 32 * PACK; c += blockDim.x) {
        i64 j = blockIdx.x * 32 * PACK + c;
        if (j >= width) break;
        int place = spot(c / PACK, c % PACK);
        float total[2] = {};
        for (int turn = 0; turn < WARPS; turn++) {
            total[0] += sums[0][turn][place];
            if constexpr (CENTRED) total[1] += sums[1][turn][place];
        }
        partial[blockIdx.y * width + j] = total[0];
        if (CENTRED) partial[(gridDim.y + blockIdx.y) * width + j] = total[1];
    }
}

// ---- what Python calls ----

#define NARROW(M)                                                                                                     \
    KERNEL layer_norm_narrow_##M(const T* x, const W* weight, const W* bias, float eps, Y* y, float* mean,            \
                                 float* rstd, i64 n, i64 width) {                                                     \
        norm<M, true>(x, weight, bias, eps, y, mean, rstd, n, width);                                                 \
    }                                                                                                                 \
    KERNEL rms_norm_narrow_##M(const T* x, const W* weight, const W* bias, float eps, Y* y, float* mean, float* rstd, \
                               i64 n, i64 width) {                                                                    \
        norm<M, false>(x, weight, nullptr, eps, y, nullptr, rstd, n, width);                                          \
    }                                                                                                                 \
    KERNEL layer_norm_gradient_narrow_##M(const Y* g, const T* x, const W* weight, const float* mean,                 \
                                          const float* rstd, T* gx, float* partial, i64 n, i64 width, i64 step) {     \
        norm_gradient<M, true>(g, x, weight, mean, rstd, gx, partial, n, width, step);                                \
    }                                                                                                                 \
    KERNEL rms_norm_gradient_narrow_##M(const Y* g, const T* x, const W* weight, const float* mean,                   \
                                        const float* rstd, T* gx, float* partial, i64 n, i64 width, i64 step) {       \
        norm_gradient<M, false>(g, x, weight, nullptr, rstd, gx, partial, n, width, step);                            \
    }
EVERY_M(NARROW)

#define HELD_KERNEL extern "C" __global__ __launch_bounds__(512) void  // whose threads must have registers enough

#define HELD(M)                                                                                                     \
    HELD_KERNEL layer_norm_gradient_held_##M(const Y* g, const T* x, const W* weight, const float* mean,            \
                                             const float* rstd, T* gx, float* partial, i64 n, i64 width, i64 step) { \
        norm_gradient_held<M / PACK, true>(g, x, weight, mean, rstd, gx, partial, n, width, step);                  \
    }                                                                                                               \
    HELD_KERNEL rms_norm_gradient_held_##M(const Y* g, const T* x, const W* weight, const float* mean,              \
                                           const float* rstd, T* gx, float* partial, i64 n, i64 width, i64 step) {  \
        norm_gradient_held<M / PACK, false>(g, x, weight, nullptr, rstd, gx, partial, n, width, step);              \
    }
HELD(8)
HELD(16)

#define WIDE(name, CENTRED)                                                                                         \
    WIDE_KERNEL name##_wide(const T* x, const W* weight, const W* bias, float eps, Y* y, float* mean, float* rstd,  \
                            i64 n, i64 width) {                                                                     \
        norm_wide<CENTRED>(x, weight, bias, eps, y, mean, rstd, width);                                             \
    }                                                                                                               \
    WIDE_KERNEL name##_gradient_wide(const Y* g, const T* x, const W* weight, const float* mean, const float* rstd, \
                                     T* gx, i64 width) {                                                            \
        norm_gradient_wide<CENTRED>(g, x, weight, mean, rstd, gx, width);                                           \
    }                                                                                                               \
    KERNEL name##_parameters(const Y* g, const T* x, const float* mean, const float* rstd, float* partial, i64 n,   \
                             i64 width, i64 step) {                                                                 \
        norm_parameters<CENTRED>(g, x, mean, rstd, partial, n, width, step);                                        \
    }
WIDE(layer_norm, true)
WIDE(rms_norm, false)
