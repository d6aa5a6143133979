// Attention of few queries over many keys, as when a text is written symbol by symbol over a cache of which length[b]
// keys are filled. The keys are split among blocks and their results combined (Flash-Decoding: Dao, Haziza, Massa &
// Sizov 2023).
//
// Floor: read the keys and values that are filled once, S (D + E) numbers for each head that has its own; there is an
// operation or two a byte, so memory rules.
//
// It should be near because each block takes SPLIT keys alone, so even one text with few heads keeps the whole card
// reading (of up to 512 keys it takes all: the card is then read by fewer blocks, but the second launch, which adds the
// parts, costs more than that); a thread has all its reads under way before it uses the first; and the heads that share keys are worked on
// by one block, which finds them in the first cache. The grid is made for a full cache: how much of it is filled is
// read from `length` by the blocks themselves, so that a captured step serves for every length. The last key and value may
// come from elsewhere, and are then written to the cache by the block that reads them: a launch less. Not yet measured.
// Counted, 64 numbers a head: 1.02 times the floor's bytes, 1.08 where four heads share (1.04 and 1.14 in 16 bits), for
// the parts; 1.00 to 1.02 sectors and 1.00 wavefronts of shared memory over the least.

#include "common.cuh"

#ifdef LONG  // a block takes so many keys that most texts need but one, and no second launch
constexpr int DIM = HEAD, WARPS = 16, SPLIT = 512;
#else
constexpr int DIM = HEAD, WARPS = 4, SPLIT = 64;
#endif
constexpr int WARP_KEYS = SPLIT / WARPS, THREADS = 32 * WARPS;  // attention_decode.py knows SPLIT and THREADS
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// A key's row is read by LANES lanes of a warp, a pack each; so a warp has GROUPS keys at a time, and each group of
// lanes takes AT_ONCE in a row. (Of 96 numbers, by as many lanes as of 128.)
constexpr int LANES = DIM == 96 ? 128 / PACK : DIM / PACK, GROUPS = 32 / LANES, STATES = WARPS * GROUPS;
constexpr int AT_ONCE = GROUPS * 4 <= WARP_KEYS ? 4 : WARP_KEYS / GROUPS;

// Where number d of a head stands in shared memory. A lane writes its pack in pieces of 4: all first ones stand
// together, then all second ones, 4 lanes further on: no bank is met twice, in writing or in reading them one by one.
INLINE int place_of(int d) {
    int own = d / PACK, piece = d % PACK / 4;
    return (piece * (DIM / PACK) + (own + 4 * piece) % (DIM / PACK)) * 4 + d % 4;
}

INLINE void finish(T* y, float* logs, float top, float total, float sum, i64 e) {
    narrow(total == 0 ? 0 : sum / total, y[e]);
    if (logs && e == 0) *logs = total == 0 ? INFINITY : (top + log2f(total)) * LN_2;
}

// The rows of a key head are its query heads' queries, ROWS of them at a time. part[row, split] is the sum of the
// weighted values, the largest score and the sum of the weights; where there is but one split, y is written instead.
// new_k (B, G, 1, D) and new_v: the last key and value of each row, which k and v, caches without gaps, do not have yet;
// or null pointers.
template <int ROWS>
INLINE void attend(const T* q, T* k, T* v, const T* new_k, const T* new_v, const T* mask, const i64* length, float* part,
                   T* y, float* logs, i64 heads, i64 groups, i64 queries, i64 keys, i64 D, i64 E, i64 splits, float scale,
                   i64 q_b, i64 q_h, i64 q_t, i64 k_b, i64 k_h, i64 k_s, i64 v_b, i64 v_h, i64 v_s, i64 new_k_b,
                   i64 new_k_h, i64 new_v_b, i64 new_v_h, i64 mask_b, i64 mask_h, i64 mask_t, i64 mask_s) {
    alignas(16) __shared__ float sums[STATES][ROWS][DIM];
    __shared__ float tops[STATES][ROWS], totals[STATES][ROWS];
    i64 head = quotient(blockIdx.x, splits), split = blockIdx.x - head * splits;
    i64 b = quotient(head, groups), group = head - b * groups, sharing = quotient(heads, groups);
    i64 count = length ? min(length[b], keys) : keys, first = split * SPLIT;
    if (first >= count && split > 0) return;
    i64 fresh = new_k ? count - 1 : -1;
    k += b * k_b + group * k_h, v += b * v_b + group * v_h;
    new_k += b * new_k_b + group * new_k_h, new_v += b * new_v_b + group * new_v_h;
    int d = lane() % LANES * PACK, state = warp() * GROUPS + lane() / LANES;
    for (i64 done = 0; done < sharing * queries; done += ROWS) {
        int present = min(sharing * queries - done, (i64)ROWS);
        float query[ROWS][PACK], sum[ROWS][PACK], top[ROWS], total[ROWS];
        const T* added[ROWS];
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            i64 row = done + (r < present ? r : 0), own = quotient(row, queries), h = group * sharing + own;
            i64 t = row - own * queries;
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
                bool known = from + u != fresh;
                load(key[u], known ? k + (from + u) * k_s : new_k, d, from + u < count ? D : 0);
                load(value[u], known ? v + (from + u) * v_s : new_v, d, from + u < count ? E : 0);
                if (known || done > 0) continue;
                store(k + fresh * k_s, d, D, key[u]);
                store(v + fresh * v_s, d, E, value[u]);
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
            for (int e = 0; e < PACK; e += 4) {
                Pack<float, 4> quad = {sum[r][e], sum[r][e + 1], sum[r][e + 2], sum[r][e + 3]};
                if (d < DIM) *(Pack<float, 4>*)&sums[state][r][place_of(d + e)] = quad;
            }
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
                x += weight * sums[s][r][place_of(e)];
            }
            i64 own = quotient(done + r, queries), h = group * sharing + own, t = done + r - own * queries;
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

#define DECODE(ROWS)                                                                                                  \
    extern "C" __global__ __launch_bounds__(THREADS) void attention_decode_##ROWS(                                    \
        const T* q, T* k, T* v, const T* new_k, const T* new_v, const T* mask, const i64* length, float* part, T* y,  \
        float* logs, i64 heads, i64 groups, i64 queries, i64 keys, i64 D, i64 E, i64 splits, float scale, i64 q_b,    \
        i64 q_h, i64 q_t, i64 k_b, i64 k_h, i64 k_s, i64 v_b, i64 v_h, i64 v_s, i64 new_k_b, i64 new_k_h,             \
        i64 new_v_b, i64 new_v_h, i64 mask_b, i64 mask_h, i64 mask_t, i64 mask_s) {                                   \
        attend<ROWS>(q, k, v, new_k, new_v, mask, length, part, y, logs, heads, groups, queries, keys, D, E, splits,  \
                     scale, q_b, q_h, q_t, k_b, k_h, k_s, v_b, v_h, v_s, new_k_b, new_k_h, new_v_b, new_v_h, mask_b,  \
                     mask_h, mask_t, mask_s);                                                                         \
    }
DECODE(1)
#ifndef LONG  // there sums of four rows would not fit shared memory
DECODE(4)
#endif

// y[b, h, t] from the parts of all splits that hold filled keys: a block a row.
KERNEL attention_combine(const float* part, const i64* length, T* y, float* logs, i64 heads, i64 queries, i64 keys,
                         i64 E, i64 splits) {
    i64 row = blockIdx.x, head = quotient(row, queries), t = row - head * queries;
    i64 b = quotient(head, heads), h = head - b * heads;
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
