// Running sums along a dimension, from either end.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types. Few long chains are cut into pieces, the
// sums of which are made first, and scanned themselves: x is read twice then, 12 and 6 bytes.
//
//   scan_rows      a warp a row, 32 packs at a time: each lane adds up its pack, shuffles add the lanes', and what they
//                  come to goes on to the next 32
//   scan_pieces    the same by a block, of a whole row or of a piece of it; the warps' sums go by shared memory
//   scan_columns   where numbers to be added lie `inner` apart: a thread has a pack of chains beside each other
//
// It should be near the floor because chains are cut where too few run to fill a card, accesses are of 16 bytes where
// rows are whole packs, and the next numbers are on their way while these are added. Sums are in float, each rounded to
// T once, where it is written. The cuts, and so the order of the additions, follow from the shape alone. Where `inner`
// is a few numbers the threads of a warp read far apart, and count on the first cache. Not yet measured.

#include "common.cuh"

constexpr int WARPS = 8;   // rows a block takes in scan_rows
constexpr int AT_ONCE = 4;  // rows whose reading scan_columns has under way

INLINE i64 over(i64 n, i64 size) { return quotient(n + size - 1, size); }

// x[0], x[0] + x[1], ... of the 32 lanes of a warp.
INLINE float warp_scan(float x) {
    #pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        float lower = __shfl_up_sync(ALL, x, by);
        if (lane() >= by) x += lower;
    }
    return x;
}

// The sum of the lanes before this one, where `scanned` is warp_scan's.
INLINE float before_lane(float scanned) {
    float lower = __shfl_up_sync(ALL, scanned, 1);
    return lane() > 0 ? lower : 0;
}

// The running sums of x (n), by a warp or, if WIDE, by the block. `total`: what comes before. Packs and the numbers in
// one are taken from the end if `backwards`.
template <bool WIDE> INLINE void scan(const T* x, T* y, i64 n, bool backwards, float total) {
    __shared__ float sums[2][32];  // of the warps, in turn
    int threads = WIDE ? blockDim.x : 32, own = WIDE ? threadIdx.x : lane(), turn = 0;
    i64 packs = over(n, PACK);
    auto place = [&](i64 pack) { return (backwards ? packs - 1 - pack : pack) * PACK; };
    float next[PACK];
    auto fetch = [&](i64 pack) {
        if (pack < packs) load(next, x, place(pack), n);
        else
            #pragma unroll
            for (int k = 0; k < PACK; k++) next[k] = 0;
    };
    fetch(own);
    for (i64 first = 0; first < packs; first += threads, turn ^= 1) {
        float v[PACK];
        #pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = backwards ? next[PACK - 1 - k] : next[k];
        fetch(first + threads + own);
        #pragma unroll
        for (int k = 1; k < PACK; k++) v[k] += v[k - 1];
        float scanned = warp_scan(v[PACK - 1]), before = before_lane(scanned), all = scanned;
        if (WIDE) {
            if (lane() == 31) sums[turn][warp()] = scanned;
            __syncthreads();
            all = warp_scan(lane() < warps() ? sums[turn][lane()] : 0);
            before += __shfl_sync(ALL, before_lane(all), warp());
        }
        all = __shfl_sync(ALL, all, 31);
        before += total;
        total += all;
        float sum[PACK];
        #pragma unroll
        for (int k = 0; k < PACK; k++) sum[k] = before + (backwards ? v[PACK - 1 - k] : v[k]);
        if (first + own < packs) store(y, place(first + own), n, sum);
    }
}

KERNEL scan_rows(const T* x, T* y, i64 rows, i64 n, i64 backwards) {
    i64 row = (i64)blockIdx.x * WARPS + warp();
    if (row < rows) scan<false>(x + row * n, y + row * n, n, backwards, 0);
}

// Where the running sum of the pieces before this one stands, `apart` from its own at `sum`; null for the first.
INLINE const float* earlier(const float* sum, i64 piece, i64 pieces, i64 backwards, i64 apart) {
    return piece == (backwards ? pieces - 1 : 0) ? nullptr : sum + (backwards ? apart : -apart);
}

// Block (row, piece); before (rows, pieces): the running sums of the pieces' sums, null where there is one piece.
KERNEL scan_pieces(const T* x, const float* before, T* y, i64 n, i64 size, i64 backwards) {
    i64 pieces = over(n, size), row = quotient(blockIdx.x, pieces), piece = blockIdx.x - row * pieces;
    i64 first = row * n + piece * size;
    const float* total = earlier(before + blockIdx.x, piece, pieces, backwards, 1);
    scan<true>(x + first, y + first, min(size, n - piece * size), backwards, total ? *total : 0);
}

// totals (rows, pieces): the sum of each piece.
KERNEL sum_pieces(const T* x, float* totals, i64 n, i64 size) {
    i64 pieces = over(n, size), row = quotient(blockIdx.x, pieces), piece = blockIdx.x - row * pieces;
    i64 end = min(size, n - piece * size);
    x += row * n + piece * size;
    float total = 0;
    #pragma unroll 4
    for (i64 first = threadIdx.x * PACK; first < end; first += blockDim.x * PACK) {
        float v[PACK];
        load(v, x, first, end);
        #pragma unroll
        for (int k = 0; k < PACK; k++) total += v[k];
    }
    total = block_sum(total);
    if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

// A thread's chains in x (outer, n, inner), and its piece of n.
struct Chains {
    i64 column, first, rows, piece, pieces, place;  // place: of totals (outer, pieces, inner)
    bool there;

    INLINE Chains(i64 outer, i64 n, i64 inner, i64 size) {
        i64 packs = over(inner, PACK), id = (i64)blockIdx.x * blockDim.x + threadIdx.x, which = quotient(id, packs);
        pieces = over(n, size), column = (id - which * packs) * PACK;
        i64 o = quotient(which, pieces);
        piece = which - o * pieces, there = o < outer;
        first = (o * n + piece * size) * inner, rows = min(size, n - piece * size), place = which * inner;
    }
};

KERNEL scan_columns(const T* x, const float* before, T* y, i64 outer, i64 n, i64 inner, i64 size, i64 backwards) {
    Chains own(outer, n, inner, size);
    if (!own.there) return;
    const float* start = earlier(before + own.place, own.piece, own.pieces, backwards, inner);
    float total[PACK] = {};
    if (start) load(total, start, own.column, inner);
    x += own.first, y += own.first;
    for (i64 done = 0; done < own.rows; done += AT_ONCE) {
        float v[AT_ONCE][PACK];
        auto place = [&](int u) { return (backwards ? own.rows - 1 - done - u : done + u) * inner; };
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            if (done + u < own.rows) load(v[u], x + place(u), own.column, inner);
        #pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            if (done + u >= own.rows) break;
            #pragma unroll
            for (int k = 0; k < PACK; k++) total[k] += v[u][k];
            store(y + place(u), own.column, inner, total);
        }
    }
}

KERNEL sum_columns(const T* x, float* totals, i64 outer, i64 n, i64 inner, i64 size) {
    Chains own(outer, n, inner, size);
    if (!own.there) return;
    float total[PACK] = {};
    #pragma unroll 4
    for (i64 i = 0; i < own.rows; i++) {
        float v[PACK];
        load(v, x + own.first + i * inner, own.column, inner);
        #pragma unroll
        for (int k = 0; k < PACK; k++) total[k] += v[k];
    }
    store(totals + own.place, own.column, inner, total);
}
