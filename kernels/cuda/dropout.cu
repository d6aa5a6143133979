// Dropout: numbers set to zero by the random words of a Philox stream, and the others scaled, in one pass.
//
// No mask is stored: the words are drawn again in the gradient, which is the same function of g. Number i, in row-major
// order, belongs to word i of the stream from block `first` on: the very choice that the CPU makes.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types, and 5 multiplications of 32 x 32 bits.
// It should be near the floor because a thread draws just the words of its own pack of 16 bytes. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least.

#include "common.cuh"
#include "philox.cuh"

KERNEL dropout(const T* x, T* y, i64 n, u64 threshold, float scale, u64 seed, u64 stream, u64 first,
               const u64* place) {
    i64 start = my_pack();
    if (start >= n) return;
    if (place) first += *place;  // see random.cu
    float v[PACK];
    load(v, x, start, n);
    #pragma unroll
    for (int block = 0; block < PACK / 4; block++) {
        Words w = philox(seed, stream, first + start / 4 + block);
        #pragma unroll
        for (int k = 0; k < 4; k++) v[4 * block + k] = w.at[k] >= threshold ? v[4 * block + k] * scale : 0;
    }
    store(y, start, n, v);
}
