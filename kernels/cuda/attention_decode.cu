// Attention of few queries over many keys, as when a text is written symbol by symbol over a cache of which length[b]
// keys are filled. The keys are split among blocks and their results combined (Flash-Decoding: Dao, Haziza, Massa &
// Sizov 2023).
//
// Floor: read the keys and values that are filled once, S (D + E) numbers for each head that has its own; there is an
// operation or two a byte, so memory rules.
//
// It should be near because each block takes SPLIT keys alone, so even one text with few heads keeps the whole card
// reading; a thread has all its reads under way before it uses the first; and the heads that share keys are worked on
// by one block, which finds them in the first cache. The grid is made for a full cache: how much of it is filled is
// read from `length` by the blocks themselves, so that a captured step serves for every length. Not yet measured.

#include "common.cuh"

constexpr int DIM = HEAD, SPLIT = 64, WARPS = 4, WARP_KEYS = SPLIT / WARPS;  // attention_decode.py knows SPLIT
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// A key's row is read by LANES lanes of a warp, a pack each; so a warp has GROUPS keys at a time, and each group of
// lanes takes AT_ONCE in a row. (Of 96 numbers, by as many lanes as of 128.)
constexpr int LANES = DIM == 96 ? 128 / PACK : DIM / PACK, GROUPS = 32 / LANES, STATES = WARPS * GROUPS;
constexpr int AT_ONCE = GROUPS * 4 <= WARP_KEYS ? 4 : WARP_KEYS / GROUPS;

INLINE void finish(T* y, float* logs, float top, float total, float sum, i64 e) {
    narrow(total == 0 ? 0 : sum / total, y[e]);
    if (logs && e == 0) *logs = total == 0 ? INFINITY : (top + log2f(total)) * LN_2;
}

// The rows of a key head are its query heads' queries, ROWS of them at a time. part[row, split] is the sum of the
// weighted values, the largest score and the sum of the weights; where there is but one split, y is written instead.
template <int ROWS>
INLINE void attend(const T* q, const T* k, const T* v, const T* mask, const i64* length, float* part, T* y, float* logs,
                   i64 heads, i64 groups, i64 queries, i64 keys, i64 D, i64 E, i64 splits, float scale,
                   i64 q_b, i64 q_h, i64 q_t, i64 k_b, i64 k_h, i64 k_s, i64 v_b, i64 v_h, i64 v_s, i64 mask_b,
                   i64 mask_h, i64 mask_t, i64 mask_s) {
    __shared__ float sums[STATES][ROWS][DIM], tops[STATES][ROWS], totals[STATES][ROWS];
    i64 split = blockIdx.x % splits, group = blockIdx.x / splits % groups, b = blockIdx.x / splits / groups;
    i64 count = length ? min(length[b], keys) : keys, first = split * SPLIT, sharing = heads / groups;
    if (first >= count && split > 0) return;
    k += b * k_b + group * k_h, v += b * v_b + group * v_h;
    int d = lane() % LANES * PACK, state = warp() * GROUPS + lane() / LANES;
    for (i64 done = 0; done < sharing * queries; done += ROWS) {
        int present = min(sharing * queries - done, (i64)ROWS);
        float query[ROWS][PACK], sum[ROWS][PACK], top[ROWS], total[ROWS];
        const T* added[ROWS];
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            i64 row = done + (r < present ? r : 0), h = group * sharing + row / queries, t = row % queries;
            load(query[r], q + b * q_b + h * q_h + t * q_t, d, D);
            added[r] = mask ? mask + b * mask_b + h * mask_h + t * mask_t : mask;
            top[r] = -INFINITY, total[r] = 0;
            #pragma unroll
            for (int e = 0; e < PACK; e++) query[r][e] *= scale * LOG2_E, sum[r][e] = 0;
        }
        for (int at = 0; at < WARP_KEYS; at += GROUPS * AT_ONCE) {
            i64 from = first + warp() * WARP_KEYS + at + lane() / LANES * AT_ONCE;
            float key[AT_ONCE][PACK], value[AT_ONCE][PACK], score[AT_ONCE][ROWS];
            #pragma unroll
            for (int u = 0; u < AT_ONCE; u++) {
                load(key[u], k + (from + u) * k_s, d, from + u < count ? D : 0);
                load(value[u], v + (from + u) * v_s, d, from + u < count ? E : 0);
            }
            #pragma unroll
            for (int u = 0; u < AT_ONCE; u++)
                #pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    float x = 0;
                    #pragma unroll
                    for (int e = 0; e < PACK; e++) x += key[u][e] * query[r][e];
                    #pragma unroll
                    for (int other = LANES / 2; other > 0; other /= 2) x += __shfl_xor_sync(ALL, x, other);
                    score[u][r] = from + u >= count ? -INFINITY
                                  : mask            ? x + LOG2_E * widen(added[r][(from + u) * mask_s])
                                                    : x;
                }
            #pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float next = top[r];
                #pragma unroll
                for (int u = 0; u < AT_ONCE; u++) next = fmaxf(next, score[u][r]);
                float base = next == -INFINITY ? 0 : next, factor = exp2f(top[r] - base);
                top[r] = next;
                total[r] *= factor;
                #pragma unroll
                for (int e = 0; e < PACK; e++) sum[r][e] *= factor;
                #pragma unroll
                for (int u = 0; u < AT_ONCE; u++) {
                    float weight = exp2f(score[u][r] - base);
                    total[r] += weight;
                    #pragma unroll
                    for (int e = 0; e < PACK; e++) sum[r][e] += weight * value[u][e];
                }
            }
        }
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (d == 0) tops[state][r] = top[r], totals[state][r] = total[r];
            #pragma unroll
            for (int e = 0; e < PACK; e++)
                if (d < DIM) sums[state][r][d + e] = sum[r][e];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < ROWS * DIM; i += blockDim.x) {
            int r = i / DIM, e = i % DIM;
            if (r >= present || e >= E) continue;
            float most = -INFINITY, all = 0, x = 0;
            for (int s = 0; s < STATES; s++) most = fmaxf(most, tops[s][r]);
            float base = most == -INFINITY ? 0 : most;
            for (int s = 0; s < STATES; s++) {
                float weight = exp2f(tops[s][r] - base);
                all += weight * totals[s][r];
                x += weight * sums[s][r][e];
            }
            i64 h = group * sharing + (done + r) / queries, t = (done + r) % queries;
            i64 row = (b * heads + h) * queries + t;
            if (splits == 1) {
                finish(y + ((b * queries + t) * heads + h) * E, logs ? logs + row : logs, most, all, x, e);
            } else {
                float* to = part + (row * splits + split) * (E + 2);
                to[e] = x;
                if (e == 0) to[E] = most, to[E + 1] = all;
            }
        }
        __syncthreads();  // before `sums` is written again
    }
}

#define DECODE(ROWS)                                                                                                 \
    KERNEL attention_decode_##ROWS(                                                                                  \
        const T* q, const T* k, const T* v, const T* mask, const i64* length, float* part, T* y, float* logs,        \
        i64 heads, i64 groups, i64 queries, i64 keys, i64 D, i64 E, i64 splits, float scale, i64 q_b,                \
        i64 q_h, i64 q_t, i64 k_b, i64 k_h, i64 k_s, i64 v_b, i64 v_h, i64 v_s, i64 mask_b, i64 mask_h, i64 mask_t,  \
        i64 mask_s) {                                                                                                \
        attend<ROWS>(q, k, v, mask, length, part, y, logs, heads, groups, queries, keys, D, E, splits, scale,        \
                     q_b, q_h, q_t, k_b, k_h, k_s, v_b, v_h, v_s, mask_b, mask_h, mask_t, mask_s);                   \
    }
DECODE(1)
DECODE(4)

// y[b, h, t] from the parts of all splits that hold filled keys: a block a row.
KERNEL attention_combine(const float* part, const i64* length, T* y, float* logs, i64 heads, i64 queries, i64 keys,
                         i64 E, i64 splits) {
    i64 row = blockIdx.x, t = row % queries, h = row / queries % heads, b = row / queries / heads;
    i64 count = length ? min(length[b], keys) : keys, filled = max((count + SPLIT - 1) / SPLIT, (i64)1);
    part += row * splits * (E + 2);
    float top = -INFINITY;
    for (i64 s = 0; s < filled; s++) top = fmaxf(top, part[s * (E + 2) + E]);
    float base = top == -INFINITY ? 0 : top;
    for (i64 e = threadIdx.x; e < E; e += blockDim.x) {
        float total = 0, sum = 0;
        for (i64 s = 0; s < filled; s++) {
            const float* from = part + s * (E + 2);
            float weight = exp2f(from[E] - base);
            total += weight * from[E + 1];
            sum += weight * from[e];
        }
        finish(y + ((b * queries + t) * heads + h) * E, logs ? logs + row : logs, top, total, sum, e);
    }
}
