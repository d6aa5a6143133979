// What a linear layer does beside the product, which cuBLAS makes, that knows neither bias nor activation.
//
//     bias_rows             the bias in every row of y, where cuBLAS then adds the product: so the sum is rounded once,
//                           and needs no pass behind it
//     activated_rows        y = f(product + bias)
//     inner_gradient_rows   d = f'(product + bias) g, and the sums of d's columns, the bias's gradient, on the way
//
// Floor, in numbers of 4 bytes, or of 2 in the 16-bit types: write y; read the product and write y; read g and the
// product and write d. (With cuBLAS's own accesses there are three to a number on the way to f; with the bias written
// first and f in a pass of its own there would be five.) They should be near the floor because every access is of 16
// bytes, and a thread keeps its pack of the bias in registers for all its rows. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.04 in the gradient of 1024 rows (1.08 in 16 bits) for the sums; 1.00 sectors
// over the least, 1.07 in the gradient in 16 bits.

#include "common.cuh"
#include "activations.cuh"

// y (n, width) = bias in every row: block (tile of packs, part of the rows).
KERNEL bias_rows(const T* bias, T* y, i64 n, i64 width, i64 step) {
    float v[PACK];
    i64 first = my_pack(), end = min((blockIdx.y + 1) * step, n);
    if (first >= width) return;
    load(v, bias, first, width);
    for (i64 row = blockIdx.y * step; row < end; row++) store(y + row * width, first, width, v);
}

// y (n, width), which may be the product itself. The bias may be a null pointer, here and below.
KERNEL activated_rows(const T* product, const T* bias, T* y, i64 n, i64 width, i64 step) {
    float v[PACK], b[PACK] = {};
    i64 first = my_pack(), end = min((blockIdx.y + 1) * step, n);
    if (first >= width) return;
    if (bias) load(b, bias, first, width);
    for (i64 row = blockIdx.y * step; row < end; row++) {
        load(v, product + row * width, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = activated(v[k] + b[k]);
        store(y + row * width, first, width, v);
    }
}

// sums (parts, width): of each part of the rows; a null pointer if nobody wants them
KERNEL inner_gradient_rows(const T* g, const T* product, const T* bias, T* d, float* sums, i64 n, i64 width, i64 step) {
    float u[PACK], v[PACK], b[PACK] = {}, total[PACK] = {};
    i64 first = my_pack(), end = min((blockIdx.y + 1) * step, n);
    if (first >= width) return;
    if (bias) load(b, bias, first, width);
    for (i64 row = blockIdx.y * step; row < end; row++) {
        load(u, g + row * width, first, width);
        load(v, product + row * width, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++) {
            u[k] = inner_gradient(u[k], v[k] + b[k]);
            total[k] += u[k];
        }
        store(d + row * width, first, width, u);
    }
    if (sums) store(sums + blockIdx.y * width, first, width, total);
}
