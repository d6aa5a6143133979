// Pooling: windows reduced to their largest number or their sum, and the way back.
//
// x is (outer, D, H, W, inner): channels last, `inner` of them side by side, or channels first, where inner is 1. A
// window's place for tap t is stride q - padding + dilation t in each dimension, where that is inside.
//
// Floor: read x, write y, and 8 bytes a place for where the largest stood; the way back reads y and writes x, each
// once. It should be near the floor where channels are last, since a thread takes 16 bytes of them, and where windows
// overlap their numbers come from a cache. On the way back each place of x adds up, in order, the windows that hold it,
// so nothing is added by atomics and nothing is cleared first. A window of many taps (global pooling) is summed by many
// threads. Only `put`, for places of which nothing else is known, goes through a channel one by one. Not yet measured.
// Counted: 1.00 times the floor's bytes. Sectors over the least: channels last 1.00, but 1.29 with places to write and
// 1.40 with places to read (1.44 and 1.57 in 16 bits), which are 32 or 64 bytes a thread; channels first 1.4 to 1.9
// where windows are two apart, since each thread reads one number.

#include "common.cuh"
#include "channels.cuh"

INLINE int quotient(int a, int b) { return (u32)a / (u32)b; }  // a, b >= 0

// One dimension: its size, the number of windows, and what they are. A plane has less than 2**31 places.
struct Line {
    int size, count, taps, stride, padding, dilation;

    INLINE Line(i64 size, i64 count, i64 taps, i64 stride, i64 padding, i64 dilation)
        : size(size), count(count), taps(taps), stride(stride), padding(padding), dilation(dilation) {}

    INLINE int place(int q, int tap) const { return stride * q - padding + dilation * tap; }

    // The taps of window q that lie inside, from the first to the one before the end.
    INLINE int first_tap(int q) const {
        int outside = padding - stride * q;
        return outside > 0 ? quotient(outside + dilation - 1, dilation) : 0;
    }

    INLINE int end_tap(int q) const {
        int room = size - 1 - place(q, 0);
        return room < 0 ? 0 : min(taps, quotient(room, dilation) + 1);
    }

    // The windows that may hold place p, from the first to the one before the end. With a dilation not all of them do.
    INLINE int first_window(int p) const {
        int behind = p + padding - dilation * (taps - 1);
        return behind > 0 ? quotient(behind + stride - 1, stride) : 0;
    }

    INLINE int end_window(int p) const { return min(count, quotient(p + padding, stride) + 1); }

    INLINE bool holds(int q, int p) const {
        int off = p + padding - stride * q;
        return dilation == 1 || off == quotient(off, dilation) * dilation;
    }
};

struct Lines {
    Line d, h, w;

    INLINE int size() const { return d.size * h.size * w.size; }
    INLINE int count() const { return d.count * h.count * w.count; }
};

#define THREE_LINES                                                                                                 \
    i64 d0, i64 d1, i64 d2, i64 d3, i64 d4, i64 d5, i64 h0, i64 h1, i64 h2, i64 h3, i64 h4, i64 h5, i64 w0, i64 w1, \
        i64 w2, i64 w3, i64 w4, i64 w5
#define LINES Lines{{d0, d1, d2, d3, d4, d5}, {h0, h1, h2, h3, h4, h5}, {w0, w1, w2, w3, w4, w5}}

// ---- what a thread takes: a pack of channels where they are last, else one number ----

template <bool LAST> struct Spot {
    static constexpr int N = LAST ? PACK : 1;
    i64 n, c;  // c: the first of the channels
    int d, h, w;

    // Number i of those that cover (outer, D, H, W, inner); n >= outer past the end.
    INLINE Spot(i64 i, int D, int H, int W, i64 inner) {
        i64 packs = LAST ? packs_of(inner) : 1, rest = quotient(i, packs);
        c = (i - rest * packs) * PACK;
        n = quotient(rest, (i64)D * H * W);
        int place = rest - n * (D * H * W), row = quotient(place, W);
        w = place - row * W, d = quotient(row, H), h = row - d * H;
    }
};

INLINE i64 my_number() { return (i64)blockIdx.x * THREADS + threadIdx.x; }

INLINE void fetch(float (&v)[PACK], const T* x, i64 first, i64 end) { load(v, x, first, end); }
INLINE void fetch(float (&v)[1], const T* x, i64, i64) { v[0] = widen(*x); }
INLINE void give(T* x, i64 first, i64 end, const float (&v)[PACK]) { store(x, first, end, v); }
INLINE void give(T* x, i64, i64, const float (&v)[1]) { narrow(v[0], *x); }

// Places of a pack of channels, `left` of them inside, two at a time where the address allows it.
struct alignas(16) Two { i64 at[2]; };

template <int N> INLINE bool in_pairs(const i64* places, i64 left) {
    return N > 1 && left >= N && (u64)places % 16 == 0;
}

template <int N> INLINE void fetch(i64 (&v)[N], const i64* places, i64 left) {
    if (in_pairs<N>(places, left)) {
        #pragma unroll
        for (int k = 0; k < N; k += 2) {
            Two pair = *(const Two*)(places + k);
            v[k] = pair.at[0], v[k + 1] = pair.at[1];
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++) v[k] = k < left ? places[k] : -1;
    }
}

template <int N> INLINE void give(i64* places, i64 left, const int (&v)[N]) {
    if (in_pairs<N>(places, left)) {
        #pragma unroll
        for (int k = 0; k < N; k += 2) {
            Two pair = {v[k], v[k + 1]};
            write_pack((Two*)(places + k), pair);
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++)
            if (k < left) places[k] = v[k];
    }
}

// f(place in the plane) for the taps of a window that lie inside, in order
template <class F> INLINE void each_tap(const Lines& l, int q_d, int q_h, int q_w, F f) {
    int end_d = l.d.end_tap(q_d), first_h = l.h.first_tap(q_h), end_h = l.h.end_tap(q_h);
    int first_w = l.w.first_tap(q_w), end_w = l.w.end_tap(q_w);
    for (int t_d = l.d.first_tap(q_d); t_d < end_d; t_d++)
        for (int t_h = first_h; t_h < end_h; t_h++) {
            int row = (l.d.place(q_d, t_d) * l.h.size + l.h.place(q_h, t_h)) * l.w.size;
            for (int t_w = first_w; t_w < end_w; t_w++) f(row + l.w.place(q_w, t_w));
        }
}

// f(window) for the windows that hold a place, in order
template <class F> INLINE void each_window(const Lines& l, int d, int h, int w, F f) {
    int end_d = l.d.end_window(d), first_h = l.h.first_window(h), end_h = l.h.end_window(h);
    int first_w = l.w.first_window(w), end_w = l.w.end_window(w);
    for (int q_d = l.d.first_window(d); q_d < end_d; q_d++)
        for (int q_h = first_h; q_h < end_h; q_h++) {
            int row = (q_d * l.h.count + q_h) * l.w.count;
            for (int q_w = first_w; q_w < end_w; q_w++)
                if (l.d.holds(q_d, d) && l.h.holds(q_h, h) && l.w.holds(q_w, w)) f(row + q_w);
        }
}

// ---- windows to numbers ----

// Of equals the first; a NaN counts as the largest. Of no taps (between the padding and a dilated one) it is -inf.
template <bool LAST> INLINE void largest(const T* x, T* y, i64* places, i64 outer, i64 inner, Lines l) {
    constexpr int N = Spot<LAST>::N;
    Spot<LAST> s(my_number(), l.d.count, l.h.count, l.w.count, inner);
    if (s.n >= outer) return;
    x += s.n * l.size() * inner;
    float best[N];
    int where[N] = {};
    #pragma unroll
    for (int k = 0; k < N; k++) best[k] = -INFINITY;
    bool fresh = true;
    each_tap(l, s.d, s.h, s.w, [&](int place) {
        float v[N];
        fetch(v, x + place * inner, s.c, inner);
        #pragma unroll
        for (int k = 0; k < N; k++) {
            bool better = fresh || v[k] > best[k] || v[k] != v[k];
            best[k] = better ? v[k] : best[k];
            where[k] = better ? place : where[k];
        }
        fresh = false;
    });
    i64 at = (s.n * l.count() + (s.d * l.h.count + s.h) * l.w.count + s.w) * inner;
    give(y + at, s.c, inner, best);
    give(places + at + (LAST ? s.c : 0), LAST ? inner - s.c : 1, where);
}

template <bool LAST> INLINE void sums(const T* x, T* y, float scale, i64 outer, i64 inner, Lines l) {
    constexpr int N = Spot<LAST>::N;
    Spot<LAST> s(my_number(), l.d.count, l.h.count, l.w.count, inner);
    if (s.n >= outer) return;
    x += s.n * l.size() * inner;
    float total[N] = {};
    each_tap(l, s.d, s.h, s.w, [&](int place) {
        float v[N];
        fetch(v, x + place * inner, s.c, inner);
        #pragma unroll
        for (int k = 0; k < N; k++) total[k] += v[k];
    });
    #pragma unroll
    for (int k = 0; k < N; k++) total[k] *= scale;
    i64 at = (s.n * l.count() + (s.d * l.h.count + s.h) * l.w.count + s.w) * inner;
    give(y + at, s.c, inner, total);
}

// A window of many taps. Channels first: `lanes` threads a window. Channels last: a block a window and `lanes` packs of
// channels, each 256 / lanes threads.
struct Sum {
    float all;
    INLINE void add(const Sum& other) { all += other.all; }
    INLINE Sum from(int below) const { return {__shfl_down_sync(ALL, all, below)}; }
};

template <bool LAST> INLINE void many_sums(const T* x, T* y, float scale, i64 outer, i64 inner, i64 lanes, Lines l) {
    constexpr int N = Spot<LAST>::N;
    i64 window = LAST ? blockIdx.x : my_line(lanes);
    i64 first = LAST ? ((i64)blockIdx.y * lanes + threadIdx.x % lanes) * PACK : 0;
    int own = LAST ? threadIdx.x / lanes : threadIdx.x % lanes, threads = LAST ? THREADS / lanes : lanes;
    Spot<false> s(window, l.d.count, l.h.count, l.w.count, 1);
    Sum total[N] = {};
    if (s.n < outer) {
        x += s.n * l.size() * inner;
        int t_d = l.d.first_tap(s.d), t_h = l.h.first_tap(s.h), t_w = l.w.first_tap(s.w);
        int high = l.h.end_tap(s.h) - t_h, wide = l.w.end_tap(s.w) - t_w;
        int taps = (l.d.end_tap(s.d) - t_d) * high * wide;
        #pragma unroll 4
        for (int i = own; i < taps; i += threads) {
            int row = quotient(i, wide), plane = quotient(row, high);
            int h = l.h.place(s.h, t_h + row - plane * high), w = l.w.place(s.w, t_w + i - row * wide);
            float v[N];
            i64 place = (l.d.place(s.d, t_d + plane) * l.h.size + h) * l.w.size + w;
            fetch(v, x + place * inner, first, inner);
            #pragma unroll
            for (int k = 0; k < N; k++) total[k].all += v[k];
        }
    }
    if constexpr (LAST) add_rows(total, lanes);
    else add_neighbours(total[0], lanes);
    if (s.n >= outer || (LAST ? threadIdx.x >= lanes : threadIdx.x % lanes > 0)) return;
    float v[N];
    #pragma unroll
    for (int k = 0; k < N; k++) v[k] = scale * total[k].all;
    give(y + window * inner, first, inner, v);
}

// ---- and back ----

// Each window's number added to all its places; or, where `places` is given, to the one of its places that this says.
template <bool LAST, bool CHOSEN>
INLINE void spread(const T* y, const i64* places, T* x, float scale, i64 outer, i64 inner, Lines l) {
    constexpr int N = Spot<LAST>::N;
    Spot<LAST> s(my_number(), l.d.size, l.h.size, l.w.size, inner);
    if (s.n >= outer) return;
    int own = (s.d * l.h.size + s.h) * l.w.size + s.w;
    float total[N] = {};
    each_window(l, s.d, s.h, s.w, [&](int window) {
        float v[N];
        i64 at = (s.n * l.count() + window) * inner, chosen[N];
        fetch(v, y + at, s.c, inner);
        if (CHOSEN) fetch(chosen, places + at + (LAST ? s.c : 0), LAST ? inner - s.c : 1);
        #pragma unroll
        for (int k = 0; k < N; k++) total[k] += !CHOSEN || chosen[k] == own ? v[k] : 0;
    });
    #pragma unroll
    for (int k = 0; k < N; k++) total[k] *= scale;
    give(x + (s.n * l.size() + own) * inner, s.c, inner, total);
}

// ---- at places: x (outer, P, inner), places and y (outer, Q, inner) ----

KERNEL take(const T* x, const i64* places, T* y, i64 n, i64 P, i64 Q, i64 inner) {
    i64 i = my_number();
    if (i >= n) return;
    i64 row = quotient(i, inner), plane = quotient(row, Q);
    y[i] = x[(plane * P + places[i]) * inner + i - row * inner];
}

// y added to x, float32 and zeros before, at places that may be named twice: a thread a channel, one after another
KERNEL put(const T* y, const i64* places, float* x, i64 n, i64 P, i64 Q, i64 inner) {
    i64 i = my_number();
    if (i >= n) return;
    i64 plane = quotient(i, inner), c = i - plane * inner;
    for (i64 q = 0; q < Q; q++) {
        i64 at = (plane * Q + q) * inner + c;
        x[(plane * P + places[at]) * inner + c] += widen(y[at]);
    }
}

// ---- what Python calls ----

#define BOTH_ORDERS(order, LAST)                                                                                     \
    KERNEL largest_##order(const T* x, T* y, i64* places, i64 outer, i64 inner, THREE_LINES) {                       \
        largest<LAST>(x, y, places, outer, inner, LINES);                                                            \
    }                                                                                                                \
    KERNEL sums_##order(const T* x, T* y, float scale, i64 outer, i64 inner, THREE_LINES) {                          \
        sums<LAST>(x, y, scale, outer, inner, LINES);                                                                \
    }                                                                                                                \
    KERNEL many_sums_##order(const T* x, T* y, float scale, i64 outer, i64 inner, i64 lanes, THREE_LINES) {          \
        many_sums<LAST>(x, y, scale, outer, inner, lanes, LINES);                                                    \
    }                                                                                                                \
    KERNEL spread_##order(const T* y, T* x, float scale, i64 outer, i64 inner, THREE_LINES) {                        \
        spread<LAST, false>(y, nullptr, x, scale, outer, inner, LINES);                                              \
    }                                                                                                                \
    KERNEL spread_chosen_##order(const T* y, const i64* places, T* x, i64 outer, i64 inner, THREE_LINES) {           \
        spread<LAST, true>(y, places, x, 1, outer, inner, LINES);                                                    \
    }
BOTH_ORDERS(first, false)
BOTH_ORDERS(last, true)
