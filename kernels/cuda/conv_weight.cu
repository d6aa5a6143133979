// The gradient of a convolution for its weight as one product: rows are outputs, columns are pairs of a tap and a
// channel, and the inner dimension runs over the places of y.
//
// Floor: 2 P O C T operations for P places, C and O channels, T taps, as many as the convolution's. There are few tiles
// and a long sum, so the places are cut into parts by the shapes alone; each part is a block's, and reduce.cu adds the
// parts in order. What should make it fast is what makes the convolution fast (conv.cu): x is read where it lies, by 16
// bytes, three stages deep. Both factors lie with the inner dimension outermost (Across, in tiles.cuh): tensor cores
// get their fragments turned, or take the factors as they are (wgmma), and float sums take outer products of packs. Not
// yet measured.
//
// Forms: wide and small tiles, of warpgroups on 9.0; thin, for up to 16 outputs; each, where the channels or the
// outputs of a group do not fill packs. And a sum of its own where each channel is a group (depthwise).

#include "common.cuh"
#include "mma.cuh"
#include "wgmma.cuh"
#include "tiles.cuh"
#include "conv.cuh"

// The places that y's see by one tap: `corner` gives them.
INLINE View by_tap(int tap, const Geometry& s) {
    View view(s, 0);
    int w = s.w.taps, h = s.h.taps;
    Walk walk = {0, tap / w / h, tap / w % h, tap % w};
    Place ahead = walk.ahead(view);
    view.d.start += ahead.d, view.h.start += ahead.h, view.w.start += ahead.w;
    return view;
}

// ---- the product: partial (parts, groups, outputs, taps, channels), a part being `step` places, a multiple of INNER
// ----

// UNIT_X and UNIT_G numbers of a row of x and of g are copied at a time: PACK, or 1.
template <class Product, int UNIT_X, int UNIT_G>
INLINE void correlation(const T* x, const T* g, float* partial, i64 step, const Geometry& s) {
    typedef typename Product::Left Left;
    typedef typename Product::Right Right;
    constexpr int M = Left::LINES, N = Right::LINES, INNER = Left::INNER, THREADS = Product::THREADS;
    constexpr int UNITS_M = M / UNIT_G, UNITS_N = N / UNIT_X, APART_M = THREADS / UNITS_M, APART_N = THREADS / UNITS_N;
    DYNAMIC_SHARED(memory);

    int across = (s.outputs + M - 1) / M, group = blockIdx.z, part = blockIdx.y / across;
    i64 first_row = (i64)(blockIdx.y % across) * M, first_column = (i64)blockIdx.x * N;
    int channels = s.channels, width = s.groups * channels;
    i64 outputs = s.outputs, width_g = s.groups * outputs, columns = s.d.taps * s.h.taps * s.w.taps * channels;

    // this thread's columns of both tiles, and its first row; the others are APART below one another
    u32 unit_n = threadIdx.x % UNITS_N * UNIT_X, line_n = threadIdx.x / UNITS_N;
    u32 unit_m = threadIdx.x % UNITS_M * UNIT_G, line_m = threadIdx.x / UNITS_M;
    Slots<Right, APART_N> right_slot(line_n, unit_n / PACK);
    Slots<Left, APART_M> left_slot(line_m, unit_m / PACK);
    i64 column = first_column + unit_n, output = first_row + unit_m;
    int tap = column / channels;
    View view = by_tap(tap, s);
    u32 places = view.places(s), now = part * step, end = min(now + (u32)step, places);
    u32 end_n = column < columns ? end : 0, end_m = output < outputs ? end : 0;
    int stages = (end - now + INNER - 1) / INNER;
    const T* x_here = x + group * channels + column - (i64)tap * channels;
    const T* g_now = g + group * outputs + output + (i64)(now + line_m) * width_g;

    auto get = [&](Pack<T>* left, Pack<T>* right) {
        #pragma unroll UNIT_X == 1 ? 4 : INNER
        for (int i = 0; i < INNER / APART_N; i++) {
            u32 place = now + line_n + APART_N * i;
            Place p = view.corner(view.place(place));
            bool inside = place < end_n && view.holds(p.d, p.h, p.w);
            fetch<UNIT_X>(right[right_slot(i)].at + unit_n % PACK, x_here + (i64)view.row_of_x(p) * width, inside);
        }
        const T* from = g_now;
        #pragma unroll UNIT_G == 1 ? 4 : INNER
        for (int i = 0; i < INNER / APART_M; i++, from += APART_M * width_g)
            fetch<UNIT_G>(left[left_slot(i)].at + unit_m % PACK, from, now + line_m + APART_M * i < end_m);
        now += INNER, g_now += INNER * width_g;
    };
    Product product;
    multiply(product, stages, Product::tiles(memory), get);

    partial += ((i64)part * s.groups + group) * outputs * columns;
    product.each([&](int row, int column, float (&v)[Product::COUNT]) {
        i64 output = first_row + row;
        if (output < outputs) store(partial + output * columns, first_column + column, columns, v);
    });
}

// ---- depthwise: partial (parts, taps, C). A block takes a tap, a part and `lanes` packs of channels; its threads are
// 256 / lanes places at a time ----

KERNEL correlate_channels(const T* x, const T* g, float* partial, i64 step, i64 lanes, const Geometry s) {
    constexpr int APART = PACK + 1;  // of two threads' sums: no bank twice
    __shared__ float sums[256 * APART];
    int tap = blockIdx.z;
    View view = by_tap(tap, s);
    i64 channels = s.groups, places = view.places(s), end = min((blockIdx.y + 1) * step, places);
    i64 first = (blockIdx.x * lanes + threadIdx.x % lanes) * PACK;
    float sum[PACK] = {};
    for (i64 i = blockIdx.y * step + threadIdx.x / lanes; i < end; i += blockDim.x / lanes) {
        Place p = view.corner(view.place(i));
        if (!view.holds(p.d, p.h, p.w)) continue;
        float v[PACK], d[PACK];
        load(v, x + view.row_of_x(p) * channels, first, channels);
        load(d, g + i * channels, first, channels);
        #pragma unroll
        for (int k = 0; k < PACK; k++) sum[k] += v[k] * d[k];
    }
    #pragma unroll
    for (int k = 0; k < PACK; k++) sums[threadIdx.x * APART + k] = sum[k];
    __syncthreads();
    for (i64 c = threadIdx.x; c < lanes * PACK; c += blockDim.x) {
        i64 channel = blockIdx.x * lanes * PACK + c;
        if (channel >= channels) break;
        float total = 0;
        for (i64 row = 0; row < blockDim.x / lanes; row++) total += sums[(row * lanes + c / PACK) * APART + c % PACK];
        partial[(blockIdx.y * gridDim.z + tap) * channels + channel] = total;
    }
}

// ---- what Python calls ----

#define CORRELATE(form, PRODUCT, UNIT_X, UNIT_G)                                           \
    correlate_##form(const T* x, const T* g, float* partial, i64 step, const Geometry s) { \
        correlation<PRODUCT, UNIT_X, UNIT_G>(x, g, partial, step, s);                      \
    }

typedef Fragments<Across<128>, Across<128>, 32, 64> WideTensors;
typedef Fragments<Across<64>, Across<64>, 32, 32> SmallTensors;
typedef Fragments<Across<16>, Across<128>, 16, 32> ThinTensors;
typedef Either<TENSOR, WideTensors, Registers<Across<128>, Across<128>, 8, 8>>::Type Wide;
typedef Either<TENSOR, SmallTensors, Registers<Across<64>, Across<64>, 4, 8>>::Type Small;
typedef Either<TENSOR, ThinTensors, Registers<Across<16>, Across<128>, 4, 4>>::Type Thin;

#ifdef WARPGROUPS
typedef Warpgroups<SwizzledAcross<128>, SwizzledAcross<128>, 3> WideOfGroups;
typedef Warpgroups<SwizzledAcross<64>, SwizzledAcross<128>, 4> SmallOfGroups;

TILE_KERNEL(256, 2) CORRELATE(wide, WideOfGroups, PACK, PACK)
TILE_KERNEL(128, 2) CORRELATE(small, SmallOfGroups, PACK, PACK)
#else
TILE_KERNEL(256, WIDE_BLOCKS) CORRELATE(wide, Wide, PACK, PACK)
TILE_KERNEL(128, SMALL_BLOCKS) CORRELATE(small, Small, PACK, PACK)
#endif
TILE_KERNEL(128, SMALL_BLOCKS) CORRELATE(thin, Thin, PACK, 1)
TILE_KERNEL(128, SMALL_BLOCKS) CORRELATE(each, Small, 1, 1)
