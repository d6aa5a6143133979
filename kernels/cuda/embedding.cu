// Rows of a table by index, and the gradient: rows added back into the table.
//
// Floor: read a row, write a row: 8 bytes a number in float32, 4 in the 16-bit types; the gradient also writes the
// whole table once. The rows should move near the floor, since every access is of 16 bytes. Not yet measured.
// Counted: 1.00 times the floor's bytes and 1.00 sectors over the least for rows; in the gradient, with the sort, 1.04
// times for rows of 256 numbers and 1.26 for rows of 64 (1.08 and 1.51 in 16 bits), 1.03 to 1.13 sectors.
//
// In the gradient an index may occur twice, and adding by atomics would sum in a new order each time. So the indices
// are sorted first, with their places, by a stable radix sort of 8 bits a pass; then a block adds up the rows of one
// index, in the order of their places. The sort is three small launches a pass and two passes for a table of up to
// 65536 rows; it is made for some 100,000 indices. Nothing waits for the card, as a library's sort would.

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

// What is sorted: an index in the upper half, its place in the lower. Before the first pass there are no pairs yet.
INLINE u64 pair_at(const i64* index, const u64* pairs, i64 i) {
    return pairs ? pairs[i] : (u64)index[i] << 32 | (u32)i;
}

INLINE int index_of(u64 pair) { return pair >> 32; }

INLINE int digit_of(u64 pair, i64 shift) { return index_of(pair) >> shift & (DIGITS - 1); }

// counts[tile, digit]: how often the digit occurs in the tile
KERNEL count_digits(const i64* index, const u64* pairs, int* counts, i64 n, i64 shift) {
    __shared__ int count[DIGITS];
    i64 i = (i64)blockIdx.x * TILE + threadIdx.x;
    count[threadIdx.x] = 0;
    __syncthreads();
    if (i < n) atomicAdd(&count[digit_of(pair_at(index, pairs, i), shift)], 1);
    __syncthreads();
    counts[(i64)blockIdx.x * DIGITS + threadIdx.x] = count[threadIdx.x];
}

// counts[tile, digit] = the sum of those of smaller digits, and of the same digit in earlier tiles: one block, of which
// GROUPS threads take a digit, each its part of the tiles
WIDE_KERNEL sum_before(int* counts, i64 tiles) {
    constexpr int GROUPS = 1024 / DIGITS;
    __shared__ int total[1024];
    int digit = threadIdx.x % DIGITS, group = threadIdx.x / DIGITS, own_place = digit * GROUPS + group;
    i64 size = (tiles + GROUPS - 1) / GROUPS, begin = min(group * size, tiles), end = min(begin + size, tiles);
    counts += digit;
    int sum = 0;
    #pragma unroll 4
    for (i64 tile = begin; tile < end; tile++) sum += counts[tile * DIGITS];
    total[own_place] = sum;
    __syncthreads();
    for (int back = 1; back < blockDim.x; back *= 2) {
        int more = threadIdx.x >= back ? total[threadIdx.x - back] : 0;
        __syncthreads();
        total[threadIdx.x] += more;
        __syncthreads();
    }
    int before = total[own_place] - sum;
    #pragma unroll 4
    for (i64 tile = begin; tile < end; tile++) {
        int own = counts[tile * DIGITS];
        counts[tile * DIGITS] = before;
        before += own;
    }
}

// Each pair goes behind those of smaller digits, and of its own digit in earlier tiles and earlier in its tile.
KERNEL move_pairs(const i64* index, const u64* pairs, const int* starts, u64* moved, i64 n, i64 shift) {
    __shared__ int digits[TILE];
    i64 i = (i64)blockIdx.x * TILE + threadIdx.x;
    u64 pair = i < n ? pair_at(index, pairs, i) : 0;
    int own = i < n ? digit_of(pair, shift) : DIGITS, earlier = 0;
    digits[threadIdx.x] = own;
    __syncthreads();
    if (i >= n) return;
    for (int other = 0; other < threadIdx.x; other++) earlier += digits[other] == own;
    moved[starts[(i64)blockIdx.x * DIGITS + own] + earlier] = pair;
}

// ---- the sum: a block for each index, at the first of its places, and each tile of columns ----

KERNEL add_rows(const T* g, const u64* pairs, i64 skipped, T* table, i64 n, i64 width) {
    i64 start = blockIdx.x, own = index_of(pairs[start]);
    if (own == skipped || (start > 0 && index_of(pairs[start - 1]) == own)) return;
    i64 first = ((i64)blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    float total[PACK] = {};
    int count = 32;
    for (i64 base = start; count == 32; base += 32) {  // a warp looks at 32 places at once
        i64 i = base + lane();
        u64 pair = i < n ? pairs[i] : 0;
        int at = (u32)pair;
        count = warp_sum(i < n && index_of(pair) == own ? 1 : 0);
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
