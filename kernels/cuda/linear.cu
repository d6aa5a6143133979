// The bias of a linear layer, written to every row of its output, where cuBLAS then adds the product: so the sum is
// rounded once, and cuBLAS, which knows no bias, needs no pass behind it.
//
// Floor: write y, 4 bytes a number in float32, 2 in the 16-bit types. It should be near the floor because every access
// is of 16 bytes, and a thread keeps its pack of the bias in registers for all its rows. Not yet measured.

#include "common.cuh"

// y (n, width) = bias in every row: block (tile of packs, part of the rows).
KERNEL bias_rows(const T* bias, T* y, i64 n, i64 width, i64 step) {
    float v[PACK];
    i64 first = my_pack(), end = min((blockIdx.y + 1) * step, n);
    if (first >= width) return;
    load(v, bias, first, width);
    for (i64 row = blockIdx.y * step; row < end; row++) store(y + row * width, first, width, v);
}
