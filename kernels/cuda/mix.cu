// Weighted sums along one dimension: what `interpolate` and uneven means are made of.
//
//     y[o, i, j] = sum over k of weights[k, i] x[o, places[k, i], j]
//
// Floor: write y, read x once: 8 bytes a number in float32, 4 in the 16-bit types, if both are as long. It should be
// near the floor where 16 bytes or more lie side by side behind the dimension, since a thread takes such a pack and the
// few numbers that neighbours share come from a cache; elsewhere a thread makes one number. Two dimensions are two
// launches: to twice the size in both, 9 numbers are moved where 5 would do. Not yet measured.
// Counted: 1.02 times the floor's bytes (1.03 in 16 bits), 1.00 to 1.02 sectors over the least. Where a thread makes
// one number the lists are 12 bytes a term from a cache.
//
// A weight of 0 is a list's end or a place not wanted: what stands there, NaN or not, is not read.

#include "common.cuh"
#include "channels.cuh"

KERNEL mix_packs(const T* x, const i64* places, const float* weights, T* y, i64 outer, i64 old, i64 fresh, i64 inner,
                 i64 longest) {
    i64 thread = (i64)blockIdx.x * THREADS + threadIdx.x, packs = packs_of(inner);
    i64 row = quotient(thread, packs), first = (thread - row * packs) * PACK, o = quotient(row, fresh);
    if (o >= outer) return;
    i64 i = row - o * fresh;
    float total[PACK] = {};
    for (i64 k = 0; k < longest; k++) {
        float v[PACK], weight = weights[k * fresh + i];
        if (weight == 0) continue;
        load(v, x + (o * old + places[k * fresh + i]) * inner, first, inner);
        #pragma unroll
        for (int c = 0; c < PACK; c++) total[c] += weight * v[c];
    }
    store(y + row * inner, first, inner, total);
}

KERNEL mix_numbers(const T* x, const i64* places, const float* weights, T* y, i64 outer, i64 old, i64 fresh,
                   i64 inner, i64 longest) {
    i64 thread = (i64)blockIdx.x * THREADS + threadIdx.x, row = quotient(thread, inner), o = quotient(row, fresh);
    if (o >= outer) return;
    i64 i = row - o * fresh, j = thread - row * inner;
    float total = 0;
    for (i64 k = 0; k < longest; k++) {
        float weight = weights[k * fresh + i];
        if (weight != 0) total += weight * widen(x[(o * old + places[k * fresh + i]) * inner + j]);
    }
    narrow(total, y[thread]);
}
