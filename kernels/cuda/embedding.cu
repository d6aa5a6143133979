// Rows of a table by index, and the gradient: rows added back into the table.
//
// Floor: read a row, write a row: 8 bytes a number in float32, 4 in the 16-bit types; the gradient also writes the
// whole table once. The rows should move near the floor, since every access is of 16 bytes. Not yet measured.
//
// In the gradient an index may occur twice, and adding by atomics would sum in a new order each time. So the places of
// the indices are sorted first, by a stable radix sort of 8 bits a pass; then a block adds up the rows of one index, in
// the order of their places. The sort is three small launches a pass and two passes for a table of up to 65536 rows; it
// is made for some 100,000 indices. Nothing waits for the card, as a library's sort would.

#include "common.cuh"

KERNEL gather_rows(const T* table, const i64* index, T* out, i64 n, i64 width) {
    i64 row = (i64)blockIdx.x * warps() + warp();
    if (row >= n) return;
    const T* from = table + index[row] * width;
    for (i64 first = lane() * PACK; first < width; first += 32 * PACK) {
        float v[PACK];
        load(v, from, first, width);
        store(out + row * width, first, width, v);
    }
}

// ---- the sort; a tile is the TILE places that one block takes ----

constexpr int TILE = 256, DIGITS = 256;

// order[i], or i before the first pass
INLINE int place(const int* order, i64 i) { return order ? order[i] : (int)i; }

INLINE int digit_of(const i64* index, const int* order, i64 i, i64 shift) {
    return index[place(order, i)] >> shift & (DIGITS - 1);
}

// counts[digit, tile]: how often the digit occurs in the tile
KERNEL count_digits(const i64* index, const int* order, int* counts, i64 n, i64 shift) {
    __shared__ int count[DIGITS];
    i64 i = (i64)blockIdx.x * TILE + threadIdx.x;
    count[threadIdx.x] = 0;
    __syncthreads();
    if (i < n) atomicAdd(&count[digit_of(index, order, i, shift)], 1);
    __syncthreads();
    counts[(i64)threadIdx.x * gridDim.x + blockIdx.x] = count[threadIdx.x];
}

// counts[i] = the sum of those before it: one block, whose threads take a stretch each
WIDE_KERNEL sum_before(int* counts, i64 n) {
    __shared__ int total[1024];
    i64 size = (n + blockDim.x - 1) / blockDim.x, begin = min(threadIdx.x * size, n), end = min(begin + size, n);
    int sum = 0;
    for (i64 i = begin; i < end; i++) sum += counts[i];
    total[threadIdx.x] = sum;
    __syncthreads();
    for (int back = 1; back < blockDim.x; back *= 2) {
        int more = threadIdx.x >= back ? total[threadIdx.x - back] : 0;
        __syncthreads();
        total[threadIdx.x] += more;
        __syncthreads();
    }
    int before = total[threadIdx.x] - sum;
    for (i64 i = begin; i < end; i++) {
        int own = counts[i];
        counts[i] = before;
        before += own;
    }
}

// Each place goes behind those of smaller digits, and of its own digit in earlier tiles and earlier in its tile.
KERNEL move_places(const i64* index, const int* order, const int* starts, int* moved, i64 n, i64 shift) {
    __shared__ int digits[TILE];
    i64 i = (i64)blockIdx.x * TILE + threadIdx.x;
    int own = i < n ? digit_of(index, order, i, shift) : DIGITS, earlier = 0;
    digits[threadIdx.x] = own;
    __syncthreads();
    if (i >= n) return;
    for (int other = 0; other < threadIdx.x; other++) earlier += digits[other] == own;
    moved[starts[(i64)own * gridDim.x + blockIdx.x] + earlier] = place(order, i);
}

// ---- the sum: a block for each index, at the first of its places, and each tile of columns ----

KERNEL add_rows(const T* g, const i64* index, const int* order, i64 skipped, T* table, i64 n, i64 width) {
    i64 start = blockIdx.x, own = index[order[start]];
    if (own == skipped || (start > 0 && index[order[start - 1]] == own)) return;
    i64 first = ((i64)blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    float total[PACK] = {};
    int count = 32;
    for (i64 base = start; count == 32; base += 32) {  // a warp looks at 32 places at once
        i64 i = base + lane();
        int at = i < n ? order[i] : 0;
        count = warp_sum(i < n && index[at] == own ? 1 : 0);
        #pragma unroll 8
        for (int k = 0; k < count; k++) {
            float v[PACK];
            load(v, g + (i64)__shfl_sync(ALL, at, k) * width, first, width);
            #pragma unroll
            for (int c = 0; c < PACK; c++) total[c] += v[c];
        }
    }
    store(table + own * width, first, width, total);
}
