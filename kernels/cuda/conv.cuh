// The geometry of a convolution, which both of its products share.
//
// Memory is channels-last: x (N, D, H, W, C), y (N, D, H, W, O). For each dimension, a place q of y sees the places
//
//     stride q + start + step j      of x, by the taps   first + apart j,    j < taps
//
// and is the place  phase + jump q  of y. A convolution is that with start = -padding, step = dilation and every tap.
// The transposed one has as many phases as its stride: the places of y of the same remainder see the same taps.

// ---- what Python gives ----

struct Line { i64 size, places, taps, stride, padding, dilation; };  // one dimension: of x, of y, of the kernel

struct Geometry {
    i64 samples, groups, channels, outputs, transposed;  // channels and outputs of one group
    Line d, h, w;
};

// ---- one dimension of one phase ----

struct Sight { int places, stride, start, step, taps, first, apart, phase, jump, size; };

INLINE int phases(const Line& line, bool transposed) { return transposed ? min(line.stride, line.places) : 1; }

INLINE Sight sight(const Line& line, bool transposed, int phase) {
    int stride = line.stride, dilation = line.dilation, taps = line.taps, size = line.size, first = 0;
    if (!transposed) return {(int)line.places, stride, -(int)line.padding, dilation, taps, 0, 1, 0, 1, size};
    int common = stride, rest = dilation;
    while (rest) {
        int next = common % rest;
        common = rest, rest = next;
    }
    // tap t sees a place of x if the stride divides phase + padding - dilation t
    int apart = stride / common, from = phase + (int)line.padding;
    while (first < apart && (from - dilation * first) % stride) first++;
    int seen = first < apart && first < taps ? (taps - 1 - first) / apart + 1 : 0;
    int places = ((int)line.places - phase + stride - 1) / stride;
    return {places, 1, (from - dilation * first) / stride, -dilation / common, seen, first, apart, phase, stride, size};
}

// ---- places by number ----

// Division of numbers below 2**31 by one that stays, as a product (Granlund and Montgomery 1994, figure 4.1).
struct Divisor {
    u32 by, factor, shift;

    Divisor() = default;
    INLINE Divisor(u32 d) : by(d), shift(0) {
        while (((u64)1 << shift) < d) shift++;
        factor = ((((u64)1 << shift) - d) << 32) / d + 1;
    }
    INLINE u32 operator()(u32 n) const { return (__umulhi(n, factor) + n) >> shift; }
};

struct Place { int n, d, h, w; };

struct View {  // all dimensions of one phase
    Sight d, h, w;
    Divisor by_d, by_h, by_w;

    View() = default;
    INLINE View(const Geometry& s, int phase)
        : d(sight(s.d, s.transposed, phase / (phases(s.w, s.transposed) * phases(s.h, s.transposed)))),
          h(sight(s.h, s.transposed, phase / phases(s.w, s.transposed) % phases(s.h, s.transposed))),
          w(sight(s.w, s.transposed, phase % phases(s.w, s.transposed))),
          by_d(d.places), by_h(h.places), by_w(w.places) {}

    INLINE i64 places(const Geometry& s) const { return s.samples * d.places * h.places * w.places; }

    INLINE Place place(u32 i) const {
        u32 line = by_w(i), plane = by_h(line), n = by_d(plane);
        return {(int)n, (int)(plane - n * by_d.by), (int)(line - plane * by_h.by), (int)(i - line * by_w.by)};
    }

    // The place of x that a place of y sees at its first tap, and the place of y itself, as row numbers.
    INLINE Place corner(const Place& q) const {
        return {q.n, q.d * d.stride + d.start, q.h * h.stride + h.start, q.w * w.stride + w.start};
    }
    INLINE int row_of_x(const Place& p) const { return ((p.n * d.size + p.d) * h.size + p.h) * w.size + p.w; }
    INLINE i64 row_of_y(const Place& q, const Geometry& s) const {
        i64 line = (q.n * s.d.places + d.phase + d.jump * q.d) * s.h.places + h.phase + h.jump * q.h;
        return line * s.w.places + w.phase + w.jump * q.w;
    }
    INLINE bool holds(int pd, int ph, int pw) const {
        return (u32)pd < (u32)d.size && (u32)ph < (u32)h.size && (u32)pw < (u32)w.size;
    }
};

// Where one is in a row of the product's inner dimension: runs over taps and, within a tap, over channels.
struct Walk {
    int c, d, h, w;

    INLINE void forward(int by, int channels, const View& view) {
        for (c += by; c >= channels; c -= channels)
            if (++w == view.w.taps) {
                w = 0;
                if (++h == view.h.taps) h = 0, d++;
            }
    }
    INLINE bool inside(const View& view) const { return d < view.d.taps; }
    // The place of x, counted from that of the first tap, and its distance in rows.
    INLINE Place ahead(const View& view) const { return {0, d * view.d.step, h * view.h.step, w * view.w.step}; }
    INLINE int tap(const View& view, const Geometry& s) const {
        int line = (view.d.first + view.d.apart * d) * (int)s.h.taps + view.h.first + view.h.apart * h;
        return line * (int)s.w.taps + view.w.first + view.w.apart * w;
    }
};

// ---- what both products are made of ----

// So many threads a block, and so many blocks at one time: as many as have registers enough.
#define TILE_KERNEL(threads, blocks) extern "C" __global__ __launch_bounds__(threads, blocks) void
constexpr int WIDE_BLOCKS = AMPERE && sizeof(T) == 2 ? 2 : 1, SMALL_BLOCKS = !AMPERE ? 2 : TENSOR ? 4 : 3;

// COUNT numbers to shared memory, or zeros where not inside: a whole pack, whose copy runs on, or one number.
template <int COUNT> INLINE void fetch(T* to, const T* from, bool inside) {
    if (COUNT == PACK) copy_async(to, from, inside);
    else *to = inside ? *from : T{};
}
