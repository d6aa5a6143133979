// The gradient of attention (Dao 2023, arXiv:2307.08691, algorithm 2), from the logarithm of each row's sum alone. With
// P the weights, K what dropout multiplies them by, P~ = P K, and `inner` the products of the rows of dy and y:
//
//   dP = (dy v^T) K,  dS = P (dP - inner),  dq = scale dS k,  dk = scale dS^T q,  dv = P~^T dy
//
//   attention_gradient_queries   a block has some queries and streams the keys: dq, inner, and dS where it is wanted
//   attention_gradient_keys      a block has some keys and streams the queries of all heads that share them: dk, dv
//
// side: 1, or 3 where dq, dk and dv are one array (B, T, 3, H, D), which is then given three times.
//
// Floor: 10 T S D operations a head (half of that if causal). Here they are 14, since both kernels make the scores and
// dP: the price of sums in a fixed order without atomics, and without room for partial ones. The second kernel has as
// many blocks as there are heads of keys times tiles, which is few where many queries' heads share one. Everything else
// is as in attention.cu. Not yet measured.

#include "attention.cuh"

constexpr int STAGES = BY_PAIRS || DIM <= 32 ? 2 : 1;
constexpr int TILE = BY_PAIRS ? (DIM <= 32 ? 64 : 32) : DIM <= 32 ? 32 : DIM <= 96 ? 16 : 8;  // of keys
constexpr int QUERY_TILE = BY_PAIRS && DIM > 64 ? 16 : TILE;
constexpr int HELD = BY_PAIRS ? 0 : ROWS * PITCH;  // each of the two left sides, which are in registers else
constexpr bool CROWDED = BY_PAIRS && DIM > 96;     // two sums, of keys and of values: one left side stays in memory

KERNEL attention_gradient_queries(const T* g, const T* q, const T* k, const T* v, const T* y, const T* mask,
                                  const float* logs, float* inner, T* dq, T* dmask, i64 side, DROP_NUMBERS, i64 heads,
                                  i64 groups, i64 queries, i64 keys, i64 D, i64 E, float scale, i64 causal,
                                  STRIDES(q, t), STRIDES(k, s), STRIDES(v, s), STRIDES(g, t), STRIDES(y, t),
                                  MARKS_STRIDES) {
    constexpr int N = TILE / 8;
    alignas(16) __shared__ T memory[2 * HELD + STAGES * 2 * TILE * PITCH];
    i64 blocks = over(queries, ROWS), head = blockIdx.x / blocks, b = head / heads, h = head % heads;
    i64 first = (blocks - 1 - blockIdx.x % blocks) * ROWS, own = first + 16 * warp(), group = h / (heads / groups);
    g += b * g_b + h * g_h, q += b * q_b + h * q_h, y += b * y_b + h * y_h;
    k += b * k_b + group * k_h, v += b * v_b + group * v_h;
    Marks marks = MARKS(b, h);
    Drop drop = DROP(b, h);

    Left<> left, left_g;
    left.take(memory, q, q_t, first, queries, D);
    left_g.take(memory + HELD, g, g_t, first, queries, E);
    float sum[DIM / 8][4], less[2], along[2] = {0, 0};
    clear(sum);
    #pragma unroll
    for (int half = 0; half < 2; half++) {
        for (int r = 0; r < 8; r++) {
            i64 i = own + r + 8 * half;
            if (i >= queries) break;
            float part = 0;
            for (i64 e = lane(); e < E; e += 32) part += widen(g[i * g_t + e]) * widen(y[i * y_t + e]);
            part = warp_sum(part);
            if (lane() / 4 == r) along[half] = part;
            if (lane() == 0) inner[head * queries + i] = part;
        }
        i64 i = own + lane() / 4 + 8 * half;
        less[half] = i < queries ? logs[head * queries + i] * LOG2_E : INFINITY;
    }

    auto tile = [&](int stage, int which) { return memory + 2 * HELD + (2 * stage + which) * TILE * PITCH; };
    auto bring = [&](i64 i, int stage) {
        fetch<TILE>(tile(stage, 0), k, k_s, i * TILE, keys, D);
        fetch<TILE>(tile(stage, 1), v, v_s, i * TILE, keys, E);
    };
    i64 seen = causal ? min(keys, first + ROWS) : keys;
    stream<STAGES>(over(seen, TILE), bring, [&](i64 step, int stage) {
        int from = step * TILE;
        if (own >= queries || (causal && from > own + 15)) return;
        float w[N][4], d[N][4];
        scores(w, left, tile(stage, 0));
        scores(d, left_g, tile(stage, 1));
        auto i = [&](int e) { return (int)own + lane() / 4 + e / 2 * 8; };
        auto j = [&](int n, int e) { return from + lane() % 4 * 2 + 8 * n + e % 2; };
        if (!mask && from + TILE <= keys && !(causal && from + TILE - 1 > own))
            each<N>([&](int n, int e) { w[n][e] *= marks.scale; });
        else
            each<N>([&](int n, int e) { w[n][e] = marks.score(w[n][e], i(e), j(n, e)); });
        if (drop.threshold) {
            #pragma unroll
            for (int n = 0; n < N; n++) {
                Words words = drop.down_queries(own, from + 8 * n);
                #pragma unroll
                for (int e = 0; e < 4; e++) d[n][e] = words.at[e] >= drop.threshold ? d[n][e] * drop.factor : 0;
            }
        }
        each<N>([&](int n, int e) { w[n][e] = exp2f(w[n][e] - less[e / 2]) * (d[n][e] - along[e / 2]); });
        if (dmask)
            each<N>([&](int n, int e) {
                if (marks.seen(i(e), j(n, e))) narrow(w[n][e], dmask[(head * queries + i(e)) * keys + j(n, e)]);
            });
        mix(sum, w, tile(stage, 0));
    });
    put(dq + (b * queries * side * heads + h) * D, side * heads * D, own, queries, D, sum, scale, scale);
}

KERNEL attention_gradient_keys(const T* g, const T* q, const T* k, const T* v, const T* mask, const float* logs,
                               const float* inner, T* dk, T* dv, i64 side, DROP_NUMBERS, i64 heads, i64 groups, i64 queries,
                               i64 keys, i64 D, i64 E, float scale, i64 causal, STRIDES(q, t),
                               STRIDES(k, s), STRIDES(v, s), STRIDES(g, t), MARKS_STRIDES) {
    constexpr int N = QUERY_TILE / 8;
    constexpr int BEFORE = CROWDED ? ROWS * PITCH : 2 * HELD;
    alignas(16) __shared__ T memory[BEFORE + STAGES * 2 * QUERY_TILE * PITCH];
    __shared__ float less[STAGES][QUERY_TILE], along[STAGES][QUERY_TILE];
    i64 blocks = over(keys, ROWS), b = blockIdx.x / blocks / groups, group = blockIdx.x / blocks % groups;
    i64 first = blockIdx.x % blocks * ROWS, own = first + 16 * warp(), sharing = heads / groups;

    Left<> left;
    Left<BY_PAIRS && !CROWDED> left_v;
    left.take(memory, k + b * k_b + group * k_h, k_s, first, keys, D);
    left_v.take(memory + HELD, v + b * v_b + group * v_h, v_s, first, keys, E);
    float sum[DIM / 8][4], sum_v[DIM / 8][4];
    clear(sum);
    clear(sum_v);

    auto tile = [&](int stage, int which) { return memory + BEFORE + (2 * stage + which) * QUERY_TILE * PITCH; };
    i64 skipped = causal ? first / QUERY_TILE : 0, per_head = max(over(queries, QUERY_TILE) - skipped, (i64)0);
    auto bring = [&](i64 step, int stage) {
        i64 h = group * sharing + (u32)step / (u32)per_head, from = (skipped + (u32)step % (u32)per_head) * QUERY_TILE;
        fetch<QUERY_TILE>(tile(stage, 0), q + b * q_b + h * q_h, q_t, from, queries, D);
        fetch<QUERY_TILE>(tile(stage, 1), g + b * g_b + h * g_h, g_t, from, queries, E);
        for (int c = threadIdx.x; c < QUERY_TILE; c += blockDim.x) {
            bool inside = from + c < queries;
            i64 place = (b * heads + h) * queries + from + c;
            less[stage][c] = inside ? logs[place] * LOG2_E : INFINITY;  // queries that are not there have no weights
            along[stage][c] = inside ? inner[place] : 0;
        }
    };
    stream<STAGES>(sharing * per_head, bring, [&](i64 step, int stage) {
        i64 h = group * sharing + (u32)step / (u32)per_head;
        int from = (skipped + (u32)step % (u32)per_head) * QUERY_TILE, row = own + lane() / 4;
        if (own >= keys || (causal && from + QUERY_TILE - 1 < own)) return;
        Marks marks = MARKS(b, h);
        Drop drop = DROP(b, h);
        float w[N][4], d[N][4];
        scores(w, left, tile(stage, 0));
        scores(d, left_v, tile(stage, 1));
        auto c = [&](int n, int e) { return lane() % 4 * 2 + 8 * n + e % 2; };
        if (!mask && !(causal && from < own + 15))
            each<N>([&](int n, int e) { w[n][e] *= marks.scale; });
        else
            each<N>([&](int n, int e) { w[n][e] = marks.score(w[n][e], from + c(n, e), row + e / 2 * 8); });
        each<N>([&](int n, int e) { w[n][e] = exp2f(w[n][e] - less[stage][c(n, e)]); });
        if (drop.threshold) {
            #pragma unroll
            for (int n = 0; n < N; n++) {
                Words words = drop.down_keys(own, from + 8 * n);
                #pragma unroll
                for (int e = 0; e < 4; e++) {
                    float kept = words.at[e] >= drop.threshold ? drop.factor : 0, p = w[n][e];
                    w[n][e] = p * kept;
                    d[n][e] = p * (d[n][e] * kept - along[stage][c(n, e)]);
                }
            }
        } else
            each<N>([&](int n, int e) { d[n][e] = w[n][e] * (d[n][e] - along[stage][c(n, e)]); });
        mix(sum_v, w, tile(stage, 1));
        mix(sum, d, tile(stage, 0));
    });
    put(dk + ((b * keys * side + side / 2) * groups + group) * D, side * groups * D, own, keys, D, sum, scale, scale);
    put(dv + ((b * keys * side + side - 1) * groups + group) * E, side * groups * E, own, keys, E, sum_v, 1, 1);
}
