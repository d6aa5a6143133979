// Softmax, log-softmax and cross-entropy over rows, and their gradients.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types; 12 and 6 in the gradients. Cross-entropy
// reads x once, and once more for its gradient, from which it makes the probabilities again by the row's log-sum-exp.
// It should be near the floor because a row of up to 1024 numbers stands in a warp's registers between its passes (the
// largest, the sum of exponentials, the result), and sums go by shuffles. A wider row takes two readings, the largest
// and the sum being made in one. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least (1.02 where rows are no multiples of 32 bytes),
// wavefronts of shared memory 1.00.
//
// A row that is all -inf (fully masked) gives NaN, as the mathematics does.

#include "common.cuh"
#include "rows.cuh"

// The largest number of a row, and the sum of e**(x - largest).
struct Exponentials { float most, sum; };

template <int M> INLINE Exponentials exponentials(const Row<M>& a) {
    float most = -INFINITY;
    #pragma unroll
    for (int i = 0; i < a.N; i++)
        #pragma unroll
        for (int k = 0; k < PACK; k++) most = fmaxf(most, a.at[i][k]);
    most = warp_max(most);
    return {most, Row<M>::sum([&](int i, int k) { return expf(a.at[i][k] - most); })};
}

// The same for a block's row in memory. Each thread scales its own sum down whenever it meets a larger number.
INLINE Exponentials exponentials(const T* x, i64 width) {
    float most = -INFINITY, sum = 0;
    each_pack(width, [&](i64 first) {
        float v[PACK], larger = most;
        load(v, x, first, width, -INFINITY);
        #pragma unroll
        for (int k = 0; k < PACK; k++) larger = fmaxf(larger, v[k]);
        if (larger > most) {  // the first time from -inf, whose sum is 0
            sum *= expf(most - larger);
            most = larger;
        }
        #pragma unroll
        for (int k = 0; k < PACK; k++) sum += v[k] == -INFINITY ? 0 : expf(v[k] - most);
    });
    float of_all = block_max(most);
    sum = block_sum(most == -INFINITY && sum == 0 ? 0 : sum * expf(most - of_all));
    return {of_all, of_all == -INFINITY ? NAN : sum};
}

template <int M> INLINE void softmax(const T* x, T* y, i64 n, i64 width) {
    i64 row = my_row();
    if (row >= n) return;
    Row<M> a;
    a.load(x + row * width, width, -INFINITY);
    Exponentials e = exponentials(a);
    float scale = 1 / e.sum;
    a.set([&](int i, int k) { return expf(a.at[i][k] - e.most) * scale; });
    a.store(y + row * width, width);
}

template <int M> INLINE void log_softmax(const T* x, T* y, i64 n, i64 width) {
    i64 row = my_row();
    if (row >= n) return;
    Row<M> a;
    a.load(x + row * width, width, -INFINITY);
    Exponentials e = exponentials(a);
    float log_sum = logf(e.sum);
    a.set([&](int i, int k) { return (a.at[i][k] - e.most) - log_sum; });
    a.store(y + row * width, width);
}

template <int M> INLINE void softmax_gradient(const T* g, const T* y, T* gx, i64 n, i64 width) {
    i64 row = my_row();
    if (row >= n) return;
    Row<M> a, d;
    a.load(y + row * width, width);
    d.load(g + row * width, width);
    float total = Row<M>::sum([&](int i, int k) { return d.at[i][k] * a.at[i][k]; });
    d.set([&](int i, int k) { return a.at[i][k] * (d.at[i][k] - total); });
    d.store(gx + row * width, width);
}

template <int M> INLINE void log_softmax_gradient(const T* g, const T* y, T* gx, i64 n, i64 width) {
    i64 row = my_row();
    if (row >= n) return;
    Row<M> a, d;
    a.load(y + row * width, width);
    d.load(g + row * width, width);
    float total = Row<M>::sum([&](int i, int k) { return d.at[i][k]; });
    d.set([&](int i, int k) { return d.at[i][k] - expf(a.at[i][k]) * total; });
    d.store(gx + row * width, width);
}

#define NARROW(M)                                                                                 \
    KERNEL softmax_narrow_##M(const T* x, T* y, i64 n, i64 width) { softmax<M>(x, y, n, width); } \
    KERNEL log_softmax_narrow_##M(const T* x, T* y, i64 n, i64 width) {                           \
        log_softmax<M>(x, y, n, width);                                                           \
    }                                                                                             \
    KERNEL softmax_gradient_narrow_##M(const T* g, const T* y, T* gx, i64 n, i64 width) {         \
        softmax_gradient<M>(g, y, gx, n, width);                                                  \
    }                                                                                             \
    KERNEL log_softmax_gradient_narrow_##M(const T* g, const T* y, T* gx, i64 n, i64 width) {     \
        log_softmax_gradient<M>(g, y, gx, n, width);                                              \
    }
EVERY_M(NARROW)

// y = f(x) for a block's row
template <class F> INLINE void map_row(const T* x, T* y, i64 width, F f) {
    each_pack(width, [&](i64 first) {
        float v[PACK];
        load(v, x, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = f(v[k]);
        store(y, first, width, v);
    });
}

WIDE_KERNEL softmax_wide(const T* x, T* y, i64 n, i64 width) {
    x += blockIdx.x * width, y += blockIdx.x * width;
    Exponentials e = exponentials(x, width);
    float scale = 1 / e.sum;
    map_row(x, y, width, [&](float v) { return expf(v - e.most) * scale; });
}

WIDE_KERNEL log_softmax_wide(const T* x, T* y, i64 n, i64 width) {
    x += blockIdx.x * width, y += blockIdx.x * width;
    Exponentials e = exponentials(x, width);
    float log_sum = logf(e.sum);
    map_row(x, y, width, [&](float v) { return (v - e.most) - log_sum; });
}

// gx = f(g, y, total), where total is the sum of term(g, y), for a block's row
template <class F, class G>
INLINE void gradient_wide(const T* g, const T* y, T* gx, i64 width, F term, G f) {
    g += blockIdx.x * width, y += blockIdx.x * width, gx += blockIdx.x * width;
    float total = 0;
    each_pack(width, [&](i64 first) {
        float d[PACK], a[PACK];
        load(d, g, first, width);
        load(a, y, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) total += term(d[k], a[k]);
    });
    total = block_sum(total);
    each_pack(width, [&](i64 first) {
        float d[PACK], a[PACK];
        load(d, g, first, width);
        load(a, y, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) d[k] = f(d[k], a[k], total);
        store(gx, first, width, d);
    });
}

WIDE_KERNEL softmax_gradient_wide(const T* g, const T* y, T* gx, i64 n, i64 width) {
    gradient_wide(
        g, y, gx, width, [](float d, float a) { return d * a; },
        [](float d, float a, float total) { return a * (d - total); });
}

WIDE_KERNEL log_softmax_gradient_wide(const T* g, const T* y, T* gx, i64 n, i64 width) {
    gradient_wide(
        g, y, gx, width, [](float d, float a) { return d; },
        [](float d, float a, float total) { return d - expf(a) * total; });
}

// ---- cross-entropy of a row at the class t = target, with class weights w (a null pointer where there are none):
//     (1 - smoothing) w_t (lse - x_t) + smoothing / width Σ w_j (lse - x_j)
// Losses and log-sum-exps are float32. ----

INLINE float weight_of(const float* weight, i64 j) { return weight ? weight[j] : 1; }

template <int M>
INLINE void cross_entropy(const T* x, const i64* target, const float* weight, i64 ignored, float smoothing, float* loss,
                          float* lse, i64 n, i64 width) {
    i64 row = my_row();
    if (row >= n) return;
    Row<M> a;
    a.load(x + row * width, width, -INFINITY);
    Exponentials e = exponentials(a);
    float log_sum = logf(e.sum), every = 0;
    i64 t = target[row];
    if (smoothing > 0)
        every = Row<M>::sum([&](int i, int k) {
            i64 j = a.place(i) + k;
            return j < width ? weight_of(weight, j) * (log_sum - (a.at[i][k] - e.most)) : 0;
        });
    if (lane() > 0) return;
    lse[row] = e.most + log_sum;
    if (t == ignored) {
        loss[row] = 0;
        return;
    }
    float own = weight_of(weight, t) * (log_sum - (widen(x[row * width + t]) - e.most));  // not lse - x: both large
    loss[row] = smoothing > 0 ? (1 - smoothing) * own + smoothing / width * every : own;
}

#define CROSS_ENTROPY(M)                                                                                              \
    KERNEL cross_entropy_narrow_##M(const T* x, const i64* target, const float* weight, i64 ignored, float smoothing, \
                                    float* loss, float* lse, i64 n, i64 width) {                                      \
        cross_entropy<M>(x, target, weight, ignored, smoothing, loss, lse, n, width);                                 \
    }
EVERY_M(CROSS_ENTROPY)

WIDE_KERNEL cross_entropy_wide(const T* x, const i64* target, const float* weight, i64 ignored, float smoothing,
                               float* loss, float* lse, i64 n, i64 width) {
    i64 row = blockIdx.x, t = target[row];
    x += row * width;
    Exponentials e = exponentials(x, width);
    float log_sum = logf(e.sum), every = 0;
    if (smoothing > 0) {
        each_pack(width, [&](i64 first) {
            float v[PACK];
            load(v, x, first, width);
            #pragma unroll
            for (int k = 0; k < PACK; k++)
                if (first + k < width) every += weight_of(weight, first + k) * (log_sum - (v[k] - e.most));
        });
        every = block_sum(every);
    }
    if (threadIdx.x > 0) return;
    lse[row] = e.most + log_sum;
    if (t == ignored) {
        loss[row] = 0;
        return;
    }
    float own = weight_of(weight, t) * (log_sum - (widen(x[t]) - e.most));
    loss[row] = smoothing > 0 ? (1 - smoothing) * own + smoothing / width * every : own;
}

// With c_j = smoothing / width w_j, and (1 - smoothing) w_t more at the target:
//     gx_j = g ((sum of c) e**(x_j - lse) - c_j)
// A block takes a row, whatever its width: nothing is summed but the class weights, once a row.
WIDE_KERNEL cross_entropy_gradient(const float* g, const T* x, const i64* target, const float* weight, i64 ignored,
                                   float smoothing, const float* lse, T* gx, i64 width) {
    i64 row = blockIdx.x, t = target[row];
    x += row * width, gx += row * width;
    float share = smoothing / width, d = g[row], m = lse[row], total = width;
    if (t == ignored) {
        map_row(x, gx, width, [](float) { return 0.0f; });
        return;
    }
    if (weight && smoothing > 0) {
        total = 0;
        for (i64 j = threadIdx.x; j < width; j += blockDim.x) total += weight[j];
        total = block_sum(total);
    }
    float at_target = (1 - smoothing) * weight_of(weight, t), scale = at_target + share * total;
    each_pack(width, [&](i64 first) {
        float v[PACK];
        load(v, x, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) {
            i64 j = first + k;
            float c = (j == t ? at_target : 0) + (smoothing > 0 && j < width ? share * weight_of(weight, j) : 0);
            v[k] = d * (scale * expf(v[k] - m) - c);
        }
        store(gx, first, width, v);
    });
}
