// Sums of two arrays, and arrays in another type, elementwise: what CuPy has too, at half the bandwidth.
//
// Floor: read a and b, write y: 12 bytes a number in float32, 6 in the 16-bit types; 10 where a residual stream of
// float32 takes what a product left in 16 bits, which needs no copy in float32 first. A copy from float32 to 16 bits or
// back: 6. It should be near the floor because the wider side is moved by 16 bytes. Not yet measured.

#include "common.cuh"

KERNEL add(const T* a, const W* b, T* y, i64 n) {
    float u[PACK], v[PACK];
    load(u, a, my_pack(), n);
    load(v, b, my_pack(), n);
    #pragma unroll
    for (int k = 0; k < PACK; k++) u[k] += v[k];
    store(y, my_pack(), n, u);
}

KERNEL convert(const T* x, W* y, i64 n) {
    float v[PACK];
    load(v, x, my_pack(), n);
    store(y, my_pack(), n, v);
}
