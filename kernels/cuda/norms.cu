// Batch norm and its gradient, and the loops that it shares with group norm.
//
// Batch, group and instance norm differ only in which (sample, channel) pairs share a mean and a variance. So they
// share four loops, between which a small kernel does the algebra of channels (here) or of groups (group_norm.cu):
//
//     moments             mean and squares of the parts of a pair          forward
//     affine              y = (x - k) a + b                                forward
//     gradient_sums       Σg, Σg (x - k - offset) of the parts of a pair   gradient: of weight, bias, mean, variance
//     gradient_affine     dx = α g + β (x - k) + γ                         gradient
//
// An activation may come behind a norm: y = f((x - k) a + b), and g is replaced by f'((x - k) a + b) g as it is read.
// That is computed anew in both passes of the gradient: it costs arithmetic, of which there is plenty, and no bytes.
//
// Floor: read x twice, write y: 12 bytes a number in float32, 6 in the 16-bit types; 20 and 10 in the gradient. What
// fits into the second cache is read from memory once: 8 and 12. It should be near the floor because every access is of
// 16 bytes, in either memory order, and the cut into parts gives enough blocks. Not yet measured.
// Counted: 1.00 to 1.01 times the floor's bytes, 1.00 to 1.09 sectors over the least, wavefronts of shared memory 1.00.
//
// Squares are about the mean, and of x - k, where k is the pair's first number: exact also where the mean is large
// beside the spread. Afterwards k is the mean as float32 has it, and `offset` what it lacks.

#include "common.cuh"
#include "activations.cuh"
#include "channels.cuh"

// ---- moments ----

KERNEL moments_lines(const T* x, float* k, float* mean, float* squares, i64 lines, i64 width, i64 runs, i64 stride,
                     i64 lanes, i64 step) {
    i64 line = my_line(lanes);
    Moments all = {};
    if (line < lines) {
        float shift = widen(x[line * width]);
        if (blockIdx.y == 0 && threadIdx.x % lanes == 0) k[line] = shift;
        each_of_line(line, width, runs, stride, lanes, step, [&](i64 run, i64 first) {
            float v[PACK];
            load(v, x + run, first, width, shift);
            int count = min((i64)PACK, width - first);
            Moments some = {(float)count};
            #pragma unroll
            for (int i = 0; i < PACK; i++) v[i] -= shift, some.mean += v[i];
            some.mean = count == PACK ? some.mean * (1.0f / PACK) : some.mean / count;
            #pragma unroll
            for (int i = 0; i < PACK; i++) {
                float off = i < count ? v[i] - some.mean : 0;
                some.squares += off * off;
            }
            all.add(some);
        });
    }
    add_neighbours(all, lanes);
    if (line >= lines || threadIdx.x % lanes > 0) return;
    mean[blockIdx.y * lines + line] = all.mean;
    squares[blockIdx.y * lines + line] = all.squares;
}

KERNEL moments_columns(const T* x, float* k, float* mean, float* squares, i64 rows, i64 width, i64 tiles, i64 lanes,
                       i64 step) {
    i64 first = my_column(lanes, tiles), slice = my_slice(tiles), sums = my_sums(width, tiles);
    x += slice * rows * width, k += slice * width;
    float shift[PACK], v[PACK], count = 0;
    Moments all[PACK] = {};
    load(shift, x, first, width);
    if (blockIdx.y == 0 && threadIdx.x < lanes) store(k, first, width, shift);
    each_row(rows, lanes, step, [&](i64 row) {
        load(v, x + row * width, first, width);
        float share = 1 / ++count;
        #pragma unroll
        for (int i = 0; i < PACK; i++) all[i].follow(v[i] - shift[i], share);
    });
    #pragma unroll
    for (int i = 0; i < PACK; i++) all[i].count = count;
    add_rows(all, lanes);
    if (threadIdx.x >= lanes) return;
    #pragma unroll
    for (int i = 0; i < PACK; i++) v[i] = all[i].mean, shift[i] = all[i].squares;
    store(mean + sums, first, width, v);
    store(squares + sums, first, width, shift);
}

// ---- sums of the gradient; `slope` and `base` are there if there is an activation ----

KERNEL gradient_sums_lines(const T* g, const T* x, const float* k, const float* offset, const float* slope,
                           const float* base, float* one, float* two, i64 lines, i64 width, i64 runs, i64 stride,
                           i64 lanes, i64 step) {
    i64 line = my_line(lanes);
    Sums all = {};
    if (line < lines) {
        float shift = k[line], rest = offset ? offset[line] : 0;
        float a = ACTIVATES ? slope[line] : 0, b = ACTIVATES ? base[line] : 0;
        each_of_line(line, width, runs, stride, lanes, step, [&](i64 run, i64 first) {
            float d[PACK], v[PACK];
            load(d, g + run, first, width);
            load(v, x + run, first, width, shift);
            #pragma unroll
            for (int i = 0; i < PACK; i++) {
                float off = v[i] - shift, u = inner_gradient(d[i], off * a + b);
                all.add({u, u * (off - rest)});  // past the end they are 0
            }
        });
    }
    add_neighbours(all, lanes);
    if (line >= lines || threadIdx.x % lanes > 0) return;
    one[blockIdx.y * lines + line] = all.one;
    two[blockIdx.y * lines + line] = all.two;
}

KERNEL gradient_sums_columns(const T* g, const T* x, const float* k, const float* offset, const float* slope,
                             const float* base, float* one, float* two, i64 rows, i64 width, i64 tiles, i64 lanes,
                             i64 step) {
    i64 first = my_column(lanes, tiles), slice = my_slice(tiles), sums = my_sums(width, tiles);
    g += slice * rows * width, x += slice * rows * width;
    float d[PACK], v[PACK], shift[PACK], rest[PACK] = {}, a[PACK] = {}, b[PACK] = {};
    Sums all[PACK] = {};
    load(shift, k + slice * width, first, width);
    if (offset) load(rest, offset + slice * width, first, width);
    if (ACTIVATES) load(a, slope + slice * width, first, width), load(b, base + slice * width, first, width);
    each_row(rows, lanes, step, [&](i64 row) {
        load(d, g + row * width, first, width);
        load(v, x + row * width, first, width);
        #pragma unroll
        for (int i = 0; i < PACK; i++) {
            float off = v[i] - shift[i], u = inner_gradient(d[i], off * a[i] + b[i]);
            all[i].add({u, u * (off - rest[i])});
        }
    });
    add_rows(all, lanes);
    if (threadIdx.x >= lanes) return;
    #pragma unroll
    for (int i = 0; i < PACK; i++) v[i] = all[i].one, d[i] = all[i].two;
    store(one + sums, first, width, v);
    store(two + sums, first, width, d);
}

// ---- element by element, in any order; `count` coefficients ----

KERNEL affine(const T* x, const float* k, const float* slope, const float* base, T* y, i64 n, i64 inner, i64 channels,
              i64 period, i64 count) {
    i64 first = my_pack();
    if (first >= n) return;
    Places places(first, inner, channels, period);
    float v[PACK], shift[PACK], a[PACK], b[PACK];
    load(v, x, first, n);
    places.load(shift, k, count);
    places.load(a, slope, count);
    places.load(b, base, count);
    #pragma unroll
    for (int i = 0; i < PACK; i++) v[i] = activated((v[i] - shift[i]) * a[i] + b[i]);
    store(y, first, n, v);
}

KERNEL gradient_affine(const T* g, const T* x, const float* k, const float* slope, const float* base,
                       const float* alpha, const float* beta, const float* gamma, T* gx, i64 n, i64 inner,
                       i64 channels, i64 period, i64 count) {
    i64 first = my_pack();
    if (first >= n) return;
    Places places(first, inner, channels, period);
    float d[PACK], v[PACK], shift[PACK], a[PACK], b[PACK], c[PACK];
    load(d, g, first, n);
    load(v, x, first, n);
    places.load(shift, k, count);
    if (ACTIVATES) {
        places.load(a, slope, count);
        places.load(b, base, count);
        #pragma unroll
        for (int i = 0; i < PACK; i++) d[i] = inner_gradient(d[i], (v[i] - shift[i]) * a[i] + b[i]);
    }
    places.load(a, alpha, count);
    places.load(b, beta, count);
    places.load(c, gamma, count);
    #pragma unroll
    for (int i = 0; i < PACK; i++) v[i] = a[i] * d[i] + (b[i] * (v[i] - shift[i]) + c[i]);
    store(gx, first, n, v);
}

// ---- the same where channels lie last, in whole packs: a thread keeps their coefficients for all its rows ----

KERNEL affine_columns(const T* x, const float* k, const float* slope, const float* base, T* y, i64 rows, i64 width,
                      i64 tiles, i64 lanes, i64 step) {
    i64 first = my_column(lanes, tiles), slice = my_slice(tiles);
    if (first >= width) return;
    x += slice * rows * width, y += slice * rows * width;
    float v[PACK], shift[PACK], a[PACK], b[PACK];
    load(shift, k + slice * width, first, width);
    load(a, slope + slice * width, first, width);
    load(b, base + slice * width, first, width);
    each_row(rows, lanes, step, [&](i64 row) {
        load(v, x + row * width, first, width);
        #pragma unroll
        for (int i = 0; i < PACK; i++) v[i] = activated((v[i] - shift[i]) * a[i] + b[i]);
        store(y + row * width, first, width, v);
    });
}

KERNEL gradient_affine_columns(const T* g, const T* x, const float* k, const float* slope, const float* base,
                               const float* alpha, const float* beta, const float* gamma, T* gx, i64 rows, i64 width,
                               i64 tiles, i64 lanes, i64 step) {
    i64 first = my_column(lanes, tiles), slice = my_slice(tiles), lead = slice * width;
    if (first >= width) return;
    g += slice * rows * width, x += slice * rows * width, gx += slice * rows * width;
    float d[PACK], v[PACK], shift[PACK], s[PACK] = {}, t[PACK] = {}, a[PACK], b[PACK], c[PACK];
    load(shift, k + lead, first, width);
    if (ACTIVATES) load(s, slope + lead, first, width), load(t, base + lead, first, width);
    load(a, alpha + lead, first, width);
    load(b, beta + lead, first, width);
    load(c, gamma + lead, first, width);
    each_row(rows, lanes, step, [&](i64 row) {
        load(d, g + row * width, first, width);
        load(v, x + row * width, first, width);
        #pragma unroll
        for (int i = 0; i < PACK; i++) {
            float off = v[i] - shift[i];
            v[i] = a[i] * inner_gradient(d[i], off * s[i] + t[i]) + (b[i] * off + c[i]);
        }
        store(gx + row * width, first, width, v);
    });
}

// ---- the algebra of a channel, a warp each: weight and bias are of type W, or null pointers ----

// out: k, offset, rstd, mean, variance, slope, base, one row each
KERNEL batch_statistics(const float* k, const float* mean, const float* squares, const W* weight, const W* bias,
                        float eps, float* out, i64 channels, i64 parts, i64 width, i64 runs, i64 step) {
    i64 c = (i64)blockIdx.x * warps() + warp();
    if (c >= channels) return;
    Moments all = {};
    for (i64 part = lane(); part < parts; part += 32)
        all.add({numbers_in(part, width, runs, step), mean[part * channels + c], squares[part * channels + c]});
    for (int below = 16; below > 0; below /= 2) all.add(all.from(below));
    if (lane() > 0) return;
    float centre = k[c] + all.mean, offset = all.mean - (centre - k[c]), variance = all.squares / all.count;
    float rstd = 1 / sqrtf(variance + eps), slope = rstd * number(weight, c, 1);
    float row[7] = {centre, offset, rstd, centre, variance, slope, number(bias, c, 0) - offset * slope};
    #pragma unroll
    for (int i = 0; i < 7; i++) out[i * channels + c] = row[i];
}

// running = (1 - momentum) running + momentum times the batch's, the variance corrected for its bias; either may be null
KERNEL follow(float* running_mean, float* running_variance, const float* mean, const float* variance, float momentum,
              float correction, i64 channels) {
    i64 c = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    float keep = 1 - momentum;
    if (running_mean) running_mean[c] = keep * running_mean[c] + momentum * mean[c];
    if (running_variance) running_variance[c] = keep * running_variance[c] + momentum * (variance[c] * correction);
}

// With h = (x - k - offset) rstd and v = g weight:   dx = rstd (v - average(v) - h average(v h))
// `count` numbers a channel, or 0 where mean and variance are constants, and nothing is averaged. offset may be null.
KERNEL batch_gradient(const float* one, const float* two, const W* weight, const float* offset, const float* rstd,
                      W* gweight, W* gbias, float* alpha, float* beta, float* gamma, i64 channels, i64 parts,
                      i64 count) {
    i64 c = (i64)blockIdx.x * warps() + warp();
    if (c >= channels) return;
    Sums all = {};
    for (i64 part = lane(); part < parts; part += 32) all.add({one[part * channels + c], two[part * channels + c]});
    for (int below = 16; below > 0; below /= 2) all.add(all.from(below));
    if (lane() > 0) return;
    float r = rstd[c], of_h = all.two * r, w = number(weight, c, 1);
    float v = count ? w * all.one / count : 0, vh = count ? w * of_h / count : 0, slope = -r * r * vh;
    narrow(of_h, gweight[c]);
    narrow(all.one, gbias[c]);
    alpha[c] = r * w;
    beta[c] = slope;
    gamma[c] = -r * v - slope * (offset ? offset[c] : 0);
}

// rstd, slope, base of a given mean and variance, one row each
KERNEL evaluation(const W* weight, const W* bias, const float* variance, float eps, float* out, i64 channels) {
    i64 c = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    float rstd = 1 / sqrtf(variance[c] + eps);
    out[c] = rstd;
    out[channels + c] = rstd * number(weight, c, 1);
    out[2 * channels + c] = number(bias, c, 0);
}
