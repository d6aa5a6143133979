// Rows of several arrays side by side in the rows of one, and back: what cat and stack come to, and their gradients.
//
// Floor: read and write what is copied: 8 bytes a number in float32, 4 in the 16-bit types. It should be near the floor
// because a thread moves 16 bytes at a time wherever rows begin at a multiple of them, and up to four arrays are one
// launch. Not yet measured.

#include "common.cuh"

constexpr int PARTS = 4;

// do_it(part, row, first, before) for this thread's pack: of which part, in which row, at which number of the part, and
// how many numbers of the row stand before the part
template <class Do> INLINE void my_part(i64 rows, const i64 (&widths)[PARTS], Do do_it) {
    i64 packs = 0, before = 0, i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    #pragma unroll
    for (int part = 0; part < PARTS; part++) packs += (widths[part] + PACK - 1) / PACK;
    i64 row = quotient(i, packs), pack = i - row * packs;
    if (row >= rows) return;
    #pragma unroll
    for (int part = 0; part < PARTS; part++) {
        i64 own = (widths[part] + PACK - 1) / PACK;
        if (pack >= 0 && pack < own) do_it(part, row, pack * PACK, before);
        pack -= own, before += widths[part];
    }
}

// The rows of a, b, c and d from the number `start` on in those of y, which are `step` apart; null pointers have no width.
KERNEL join_rows(const T* a, const T* b, const T* c, const T* d, T* y, i64 rows, i64 width_a, i64 width_b, i64 width_c,
                 i64 width_d, i64 start, i64 step) {
    const T* from[] = {a, b, c, d};
    i64 widths[] = {width_a, width_b, width_c, width_d};
    my_part(rows, widths, [&](int part, i64 row, i64 first, i64 before) {
        float v[PACK];
        load(v, from[part] + row * widths[part], first, widths[part]);
        store(y + row * step + start + before, first, widths[part], v);
    });
}

KERNEL cut_rows(const T* x, T* a, T* b, T* c, T* d, i64 rows, i64 width_a, i64 width_b, i64 width_c, i64 width_d,
                i64 start, i64 step) {
    T* to[] = {a, b, c, d};
    i64 widths[] = {width_a, width_b, width_c, width_d};
    my_part(rows, widths, [&](int part, i64 row, i64 first, i64 before) {
        float v[PACK];
        load(v, x + row * step + start + before, first, widths[part]);
        store(to[part] + row * widths[part], first, widths[part], v);
    });
}
