// Losses between two arrays of one shape, summed or element by element, and their gradients, in one pass each.
//
// Floor: read x and t: 8 bytes a number in float32, 4 in the 16-bit types; 12 and 6 in the gradient. It should be near
// the floor because every access is of 16 bytes, and a sum makes no array of errors. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least.
//
// A sum is made as in reduce.cu, in parts that follow from the size alone. g, the gradient of a sum (one number, read
// where it lies) or of each number, is of type W.

#include "common.cuh"
#include "scalar.cuh"

// Kernels for a loss of x, t, d = x - t and its parameter p (beta of smooth_l1, delta of huber), and its slope in x.
#define LOSS(name, VALUE, SLOPE)                                                                                      \
    INLINE float name##_of(float x, float t, float p) {                                                               \
        float d = x - t;                                                                                              \
        return VALUE;                                                                                                 \
    }                                                                                                                 \
    KERNEL name##_sum(const T* x, const T* t, float p, float* partial, i64 n, i64 step) {                             \
        i64 end = min((blockIdx.x + 1) * step, n);                                                                    \
        float total = 0;                                                                                              \
        for (i64 first = blockIdx.x * step + threadIdx.x * PACK; first < end; first += blockDim.x * PACK) {           \
            float a[PACK], b[PACK];                                                                                   \
            load(a, x, first, end);                                                                                   \
            load(b, t, first, end);                                                                                   \
            _Pragma("unroll") for (int k = 0; k < PACK; k++) total += first + k < end ? name##_of(a[k], b[k], p) : 0; \
        }                                                                                                             \
        total = block_sum(total);                                                                                     \
        if (threadIdx.x == 0) partial[blockIdx.x] = total;                                                            \
    }                                                                                                                 \
    KERNEL name##_each(const T* x, const T* t, float p, T* y, i64 n) {                                                \
        float a[PACK], b[PACK];                                                                                       \
        load(a, x, my_pack(), n);                                                                                     \
        load(b, t, my_pack(), n);                                                                                     \
        _Pragma("unroll") for (int k = 0; k < PACK; k++) a[k] = name##_of(a[k], b[k], p);                             \
        store(y, my_pack(), n, a);                                                                                    \
    }                                                                                                                 \
    KERNEL name##_gradient(const W* g, i64 of_each, const T* xs, const T* ts, float p, T* y, i64 n) {                 \
        float a[PACK], b[PACK], up[PACK], of_sum = widen(*g);                                                         \
        load(a, xs, my_pack(), n);                                                                                    \
        load(b, ts, my_pack(), n);                                                                                    \
        if (of_each) load(up, g, my_pack(), n);                                                                       \
        _Pragma("unroll") for (int k = 0; k < PACK; k++) {                                                            \
            float x = a[k], t = b[k], d = x - t;                                                                      \
            a[k] = (of_each ? up[k] : of_sum) * (SLOPE);                                                              \
        }                                                                                                             \
        store(y, my_pack(), n, a);                                                                                    \
    }

LOSS(mse, d * d, 2 * d)
LOSS(l1, fabsf(d), sign(d))
LOSS(smooth_l1, fabsf(d) < p ? 0.5f * d * d / p : fabsf(d) - 0.5f * p, fabsf(d) < p ? d / p : sign(d))
LOSS(huber, fabsf(d) <= p ? 0.5f * d * d : p * (fabsf(d) - 0.5f * p), fabsf(d) <= p ? d : p * sign(d))
LOSS(bce, softplus(x) - x * t, sigmoid(x) - t)

// This thread's pack of numbers that repeat after `period`; 1 of a null pointer.
INLINE void load_repeated(float (&v)[PACK], const T* x, i64 period, i64 n) {
    i64 first = my_pack(), at = x ? first - quotient(first, period) * period : 0;
    if (x && (at + PACK <= period || period == n)) return load(v, x, at, period);
    #pragma unroll
    for (int k = 0; k < PACK; k++) {
        v[k] = x && first + k < n ? widen(x[at]) : 1;
        if (++at == period) at = 0;
    }
}

// Binary cross-entropy with its first term times pos_weight, all times weight.
KERNEL weighted_bce_each(const T* x, const T* t, const T* weight, i64 period, const T* pos_weight, i64 pos_period, T* y,
                         i64 n) {
    float a[PACK], b[PACK], w[PACK], pos[PACK];
    load(a, x, my_pack(), n);
    load(b, t, my_pack(), n);
    load_repeated(w, weight, period, n);
    load_repeated(pos, pos_weight, pos_period, n);
    #pragma unroll
    for (int k = 0; k < PACK; k++) {
        float factor = 1 + (pos[k] - 1) * b[k];
        a[k] = w[k] * ((1 - b[k]) * a[k] + factor * softplus(-a[k]));
    }
    store(y, my_pack(), n, a);
}

KERNEL weighted_bce_gradient(const T* g, i64 g_period, const T* x, const T* t, const T* weight, i64 period,
                             const T* pos_weight, i64 pos_period, T* y, i64 n) {
    float a[PACK], b[PACK], w[PACK], pos[PACK], d[PACK];
    load_repeated(d, g, g_period, n);
    load(a, x, my_pack(), n);
    load(b, t, my_pack(), n);
    load_repeated(w, weight, period, n);
    load_repeated(pos, pos_weight, pos_period, n);
    #pragma unroll
    for (int k = 0; k < PACK; k++) {
        float factor = 1 + (pos[k] - 1) * b[k];
        a[k] = d[k] * (w[k] * ((1 - b[k]) - factor * sigmoid(-a[k])));
    }
    store(y, my_pack(), n, a);
}
