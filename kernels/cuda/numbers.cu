// The few numbers that change from step to step, made on the card: step counts, bias corrections, the factor of
// gradient clipping, the scale of mixed precision. A captured step is the same launches with the same arguments each
// time, so whatever changes must stand in memory, and nobody may ask the host.
//
// Floor: the launch. Each kernel but `unscale` is one thread that touches some ten numbers; they are in double where
// the host computes in double. `unscale` reads and writes each gradient once, in packs of 16 bytes: 8 bytes a number
// in float32. Not yet measured.
// Counted of `unscale`: 1.00 times the floor's bytes, 1.00 sectors over the least.

#include "common.cuh"

KERNEL advance_place(u64* place, u64 by) { *place += by; }

// One more step, unless this one is left out: *skip is not 0.
KERNEL count(double* step, const float* skip) {
    if (!skip || *skip == 0) *step += 1;
}

// numbers = lr, what of the gradient goes into the buffer (all of it in the first step), momentum
KERNEL sgd_numbers(const double* step, const double* lr, const double* momentum, float usual, float dampening,
                   float* numbers) {
    numbers[0] = *lr;
    numbers[1] = *step <= 1 ? 1 : 1 - dampening;
    numbers[2] = momentum ? *momentum : usual;
}

// numbers = lr / (1 - beta1**t), 1 / sqrt(1 - beta2**t), 1 - lr weight_decay, beta1, 1 - beta1. The betas come as
// rest = 1 - beta, which a float holds to its last digit.
KERNEL adam_numbers(const double* step, const double* lr, const double* beta1, float rest1, float rest2,
                    float weight_decay, float* numbers) {
    double rest = beta1 ? 1 - *beta1 : rest1;
    numbers[0] = *lr / -expm1(*step * log1p(-rest));
    numbers[1] = 1 / sqrt(-expm1(*step * log1p(-(double)rest2)));
    numbers[2] = 1 - *lr * weight_decay;
    numbers[3] = 1 - rest;
    numbers[4] = rest;
}

// norm = sqrt(sum of squares), factor = most / norm, at most 1 (NaN of a NaN)
KERNEL clip_factor(const double* squares, i64 n, float most, float* norm, float* factor) {
    double sum = 0;
    for (i64 i = 0; i < n; i++) sum += squares[i];
    *norm = sqrt(sum);
    float share = most / (*norm + 1e-6f);
    *factor = share >= 1 ? 1 : share;
}

// ---- mixed precision ----

// g /= scale; *found = 1 if one of them is not finite: threads that write it all write the same
KERNEL unscale(T* g, i64 n, const float* scale, float* found) {
    float x[PACK], inverse = 1 / *scale;
    bool bad = false;
    load(x, g, my_pack(), n);
    #pragma unroll
    for (int k = 0; k < PACK; k++) {
        bad |= !(fabsf(x[k]) < INFINITY);
        x[k] *= inverse;
    }
    store(g, my_pack(), n, x);
    if (bad) *found = 1;
}

// After a step: back off where something was not finite, grow after `interval` good steps in a row. found = 0.
KERNEL rescale(float* scale, i64* good, float* found, i64 others, float growth, float backoff, i64 interval) {
    bool bad = false;
    for (i64 i = 0; i < others; i++) {
        bad |= found[i] != 0;
        found[i] = 0;
    }
    if (bad) {
        *scale *= backoff;
        *good = 0;
    } else if (++*good == interval) {
        if (*scale * growth < INFINITY) *scale *= growth;
        *good = 0;
    }
}
