// Attention, forward: y = softmax(scale q k^T + mask) v, without ever holding the weights (FlashAttention-2: Dao 2023,
// arXiv:2307.08691, algorithm 1). The gradient stands in attention_gradient.cu, decoding in attention_decode.cu.
//
// Floor: 4 T S D operations a head (half of that if causal), while T D + 2 S D numbers are read and T D written. At
// T = S = 1024 and D = 64 that is 512 operations a byte in the 16-bit types: the tensor cores rule, and beside them the
// T S exponentials.
//
// It should be near because a block keeps its queries and their results in registers and streams the keys through
// shared memory, the next tile being copied while this one is worked on (8.0 and up); scores never leave the registers;
// a row is scaled once, at its end; tiles wholly in the future are left out; the blocks with most keys start first.
// Dropout stores nothing: a weight's word is drawn by its place, here and again in the gradient, each word once (5
// multiplications of 32 x 32 bits). Not yet measured.

#include "attention.cuh"

constexpr int KEYS = BY_PAIRS ? (DIM <= 64 ? 64 : 32) : DIM <= 64 ? 32 : 16;  // a tile
constexpr int STAGES = BY_PAIRS || DIM <= 32 ? 2 : 1, N = KEYS / 8;
constexpr int HELD = BY_PAIRS ? 0 : ROWS * PITCH;  // in registers else

KERNEL attention(const T* q, const T* k, const T* v, const T* mask, T* y, float* logs, DROP_NUMBERS,
                 i64 heads, i64 groups, i64 queries, i64 keys, i64 D, i64 E, float scale, i64 causal, STRIDES(q, t),
                 STRIDES(k, s), STRIDES(v, s), MARKS_STRIDES) {
    alignas(16) __shared__ T memory[HELD + STAGES * 2 * KEYS * PITCH];
    i64 blocks = over(queries, ROWS), head = blockIdx.x / blocks, b = head / heads, h = head % heads;
    i64 first = (blocks - 1 - blockIdx.x % blocks) * ROWS, own = first + 16 * warp(), group = h / (heads / groups);
    q += b * q_b + h * q_h, k += b * k_b + group * k_h, v += b * v_b + group * v_h;
    Marks marks = MARKS(b, h);
    Drop drop = DROP(b, h);

    Left<> left;
    left.take(memory, q, q_t, first, queries, D);
    float sum[DIM / 8][4], top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    clear(sum);

    auto tile = [&](int stage, int which) { return memory + HELD + (2 * stage + which) * KEYS * PITCH; };
    auto bring = [&](i64 i, int stage) {
        fetch<KEYS>(tile(stage, 0), k, k_s, i * KEYS, keys, D);
        fetch<KEYS>(tile(stage, 1), v, v_s, i * KEYS, keys, E);
    };
    i64 seen = causal ? min(keys, first + ROWS) : keys;
    stream<STAGES>(over(seen, KEYS), bring, [&](i64 i, int stage) {
        int from = i * KEYS, row = own + lane() / 4, column = from + lane() % 4 * 2;
        if (own >= queries || (causal && from > own + 15)) return;
        float w[N][4], most[2] = {-INFINITY, -INFINITY}, factor[2];
        scores(w, left, tile(stage, 0));
        if (!mask && from + KEYS <= keys && !(causal && from + KEYS - 1 > own))
            each<N>([&](int n, int e) { w[n][e] *= marks.scale; });
        else
            each<N>([&](int n, int e) { w[n][e] = marks.score(w[n][e], row + e / 2 * 8, column + 8 * n + e % 2); });
        each<N>([&](int n, int e) { most[e / 2] = fmaxf(most[e / 2], w[n][e]); });
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            most[r] = fmaxf(most[r], __shfl_xor_sync(ALL, most[r], 1));
            most[r] = fmaxf(most[r], __shfl_xor_sync(ALL, most[r], 2));
            float next = fmaxf(top[r], most[r]);
            most[r] = next == -INFINITY ? 0 : next;  // nothing was seen yet: every weight becomes 2**(-inf - 0) = 0
            factor[r] = exp2f(top[r] - most[r]);
            top[r] = next;
            total[r] *= factor[r];
        }
        each<N>([&](int n, int e) {
            w[n][e] = exp2f(w[n][e] - most[e / 2]);
            total[e / 2] += w[n][e];
        });
        if (drop.threshold) {
            #pragma unroll
            for (int n = 0; n < N; n++) {
                Words words = drop.down_queries(own, from + 8 * n);
                #pragma unroll
                for (int e = 0; e < 4; e++) w[n][e] = words.at[e] >= drop.threshold ? w[n][e] : 0;
            }
        }
        each<DIM / 8>([&](int n, int e) { sum[n][e] *= factor[e / 2]; });
        mix(sum, w, tile(stage, 1));
    });

    float share[2];
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(ALL, total[r], 1);
        total[r] += __shfl_xor_sync(ALL, total[r], 2);
        share[r] = total[r] == 0 ? 0 : drop.factor / total[r];
        i64 i = own + lane() / 4 + 8 * r;
        if (i < queries && lane() % 4 == 0)  // infinite: weights of 0 in the gradient
            logs[head * queries + i] = total[r] == 0 ? INFINITY : (top[r] + log2f(total[r])) * LN_2;
    }
    put(y + (b * queries * heads + h) * E, heads * E, own, queries, E, sum, share[0], share[1]);
}
