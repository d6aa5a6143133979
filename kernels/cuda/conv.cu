// Convolution and transposed convolution as one product, whose left factor is read from x as it is needed (implicit
// GEMM): rows are places of y, columns are outputs, and the inner dimension runs over taps and channels.
//
// Floor: 2 P O C T operations for P places, C and O channels, T taps; where C and O are small, reading x and writing y.
// What should make it fast: x lies channels-last, so that a tap's channels are one run, copied by 16 bytes without
// waiting, three stages deep, zeros where the image ends; nothing like im2col is written. Tiles of 128 x 128 or 64 x 64
// are multiplied by tensor cores (16 bits, TF32) or in 8 x 8 or 4 x 8 registers a thread (float32). On compute
// capability 9.0 warpgroups multiply 16-bit tiles (-DWARPGROUPS), with the same copies; the largest, 128 x 256 and
// 256 x 128, ask a quarter less of the L2 cache than 128 x 128 for the same work. Each thread ends with a whole pack of
// neighbouring outputs (tiles.cuh). What it adds to its addresses changes with the tap alone, so a copy takes some five
// instructions: the tensor cores, not the addresses, should be what a stage waits for. Not yet measured.
//
// The forms, which conv.py chooses between: wide and small; widest and tall, of warpgroups; thin, for up to 16 outputs;
// each, where the channels of a group do not fill packs (pictures of 1 or 3 channels) and numbers are copied one by
// one. And a sum of its own where each channel is a group (depthwise), which is bound by memory.

#include "common.cuh"
#include "mma.cuh"
#include "wgmma.cuh"
#include "tiles.cuh"
#include "conv.cuh"

// ---- the product; weight (groups, outputs, taps, channels). Where there are few tiles, the inner dimension is cut
// into parts of `step` numbers, a multiple of INNER: partial (parts, places of y, O) then gets the sums, and reduce.cu
// adds them in order. Otherwise partial is a null pointer ----

struct Row { const T* at; int d, h, w; };  // of x: the row of its first tap, and that place

// UNIT numbers of the inner dimension are copied at a time: PACK, or 1.
template <class Product, int UNIT>
INLINE void convolution(const T* x, const T* weight, const T* bias, T* y, float* partial, i64 step, const Geometry& s) {
    typedef typename Product::Left Left;
    typedef typename Product::Right Right;
    constexpr int M = Left::LINES, N = Right::LINES, INNER = Left::INNER;
    constexpr int UNITS = INNER / UNIT, APART = Product::THREADS / UNITS;
    constexpr int ROWS = M / APART, COLUMNS = (N + APART - 1) / APART;  // that a thread copies from, APART apart
    DYNAMIC_SHARED(memory);
    __shared__ Row rows[M];  // where UNIT is 1, and a thread has too many for its registers

    int channels = s.channels, outputs = s.outputs, across = (outputs + N - 1) / N;
    int group = blockIdx.z % s.groups, part = blockIdx.z / s.groups;
    __shared__ View view;  // the same for all, and too much for registers
    if (threadIdx.x == 0) view = View(s, blockIdx.y);
    __syncthreads();
    u32 places = view.places(s), first_row = blockIdx.x / across * M;
    int first_column = blockIdx.x % across * N;  // neighbours in time share rows of x
    if (first_row >= places) return;  // this phase has fewer places than the first

    int width = s.groups * channels;
    auto row_of = [&](int i) -> Row {
        if (first_row + i >= places) return {x, -(1 << 30), 0, 0};  // outside x, whatever the tap
        Place corner = view.corner(view.place(first_row + i));
        return {x + (i64)view.row_of_x(corner) * width + group * channels, corner.d, corner.h, corner.w};
    };
    u32 unit = threadIdx.x % UNITS, line = threadIdx.x / UNITS;
    Row own[ROWS];
    if (UNIT == 1) {
        for (int i = threadIdx.x; i < M; i += Product::THREADS) rows[i] = row_of(i);
        __syncthreads();
    } else {
        #pragma unroll
        for (int i = 0; i < ROWS; i++) own[i] = row_of(line + APART * i);
    }
    auto row = [&](int i) -> const Row& { return UNIT == 1 ? rows[line + APART * i] : own[i]; };

    int length = s.d.taps * s.h.taps * s.w.taps * channels;  // of an output's weight
    weight += (i64)(group * outputs + first_column + (int)line) * length;
    u32 there = 0;  // which columns there are, a bit each
    #pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        there |= (u32)(line + APART * i < N && first_column + (int)line + APART * i < outputs) << i;
    Walk walk = {};
    walk.forward(part * step + unit * UNIT, channels, view);
    u32 pack = unit * UNIT / PACK, rest = unit * UNIT % PACK;
    Slots<Left, APART> left_slot(line, pack);
    Slots<Right, APART> right_slot(line, pack);

    i64 far;              // what the tap and the channel add to the address of a row of x
    const T* factors;     // those of the first column, from there on
    u32 inside, columns;  // which rows see a place of x by this tap, and which columns have the tap
    auto look = [&]() {
        Place ahead = walk.ahead(view);
        far = (i64)view.row_of_x(ahead) * width + walk.c, factors = weight + walk.tap(view, s) * channels + walk.c;
        bool is_tap = walk.inside(view);
        inside = 0, columns = is_tap ? there : 0;
        #pragma unroll UNIT == 1 ? 4 : ROWS
        for (int i = 0; i < ROWS; i++) {
            bool sees = view.holds(row(i).d + ahead.d, row(i).h + ahead.h, row(i).w + ahead.w);
            inside |= (u32)(is_tap && sees) << i;
        }
    };
    auto get = [&](Pack<T>* left, Pack<T>* right) {
        #pragma unroll UNIT == 1 ? 4 : ROWS
        for (int i = 0; i < ROWS; i++)
            fetch<UNIT>(left[left_slot(i)].at + rest, row(i).at + far, inside >> i & 1);
        const T* from = factors;
        #pragma unroll UNIT == 1 ? 4 : COLUMNS
        for (int i = 0; i < COLUMNS; i++, from += (i64)APART * length) {
            if (N % APART && line + APART * i >= N) break;
            fetch<UNIT>(right[right_slot(i)].at + rest, from, columns >> i & 1);
        }
        walk.c += INNER, far += INNER, factors += INNER;
        if (walk.c >= channels) {  // the next tap
            walk.forward(0, channels, view);
            look();
        }
    };
    look();
    Product product;
    i64 inner = min((i64)view.d.taps * view.h.taps * view.w.taps * channels - part * step, step);
    multiply(product, (inner + INNER - 1) / INNER, Product::tiles(memory), get);

    const View own_view = view;  // or it would be read again behind each write
    i64 width_y = s.groups * outputs;
    bias = bias && part == 0 ? bias + group * outputs : nullptr;
    if (partial) partial += part * s.samples * s.d.places * s.h.places * s.w.places * width_y;
    product.each([&](int row, int column, float (&v)[Product::COUNT]) {
        u32 i = first_row + row;
        i64 first = first_column + column;
        if (i >= places || first >= outputs) return;
        float more[Product::COUNT] = {};
        if (bias) load(more, bias, first, outputs);
        #pragma unroll
        for (int k = 0; k < Product::COUNT; k++) v[k] += more[k];
        i64 at = own_view.row_of_y(own_view.place(i), s) * width_y + group * outputs;
        if (partial) store(partial + at, first, outputs, v);
        else store(y + at, first, outputs, v);
    });
}

// ---- depthwise: as many groups as channels. A thread takes a pack of channels of one place; weight (taps, C) ----

KERNEL convolve_channels(const T* x, const T* weight, const T* bias, T* y, const Geometry s) {
    View view(s, blockIdx.y);
    i64 channels = s.groups, packs = (channels + PACK - 1) / PACK, i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs * view.places(s)) return;
    i64 first = i % packs * PACK;
    Place q = view.place(i / packs), corner = view.corner(q);
    float sum[PACK] = {}, v[PACK], factor[PACK];
    if (bias) load(sum, bias, first, channels);
    for (Walk walk = {}; walk.d < view.d.taps && view.h.taps * view.w.taps > 0; walk.forward(1, 1, view)) {
        Place p = walk.ahead(view);
        p = {corner.n, corner.d + p.d, corner.h + p.h, corner.w + p.w};
        if (!view.holds(p.d, p.h, p.w)) continue;
        load(v, x + view.row_of_x(p) * channels, first, channels);
        load(factor, weight + walk.tap(view, s) * channels, first, channels);
        #pragma unroll
        for (int k = 0; k < PACK; k++) sum[k] += v[k] * factor[k];
    }
    store(y + view.row_of_y(q, s) * channels, first, channels, sum);
}

// ---- what Python calls ----

#define CONVOLVE(form, PRODUCT, UNIT)                                                                               \
    convolve_##form(const T* x, const T* weight, const T* bias, T* y, float* partial, i64 step, const Geometry s) { \
        convolution<PRODUCT, UNIT>(x, weight, bias, y, partial, step, s);                                           \
    }

constexpr int THIN_RUN = sizeof(T) == 2 ? 2 : PACK;
typedef Fragments<Along<128>, Along<128, PACK>, 32, 64> WideTensors;
typedef Fragments<Along<64>, Along<64, PACK>, 32, 32> SmallTensors;
typedef Fragments<Along<128>, Along<16, THIN_RUN>, 32, 16> ThinTensors;
typedef Either<TENSOR, WideTensors, Registers<Along<128>, Along<128>, 8, 8>>::Type Wide;
typedef Either<TENSOR, SmallTensors, Registers<Along<64>, Along<64>, 4, 8>>::Type Small;
typedef Either<TENSOR, ThinTensors, Registers<Along<128>, Along<16>, 4, 4>>::Type Thin;

#ifdef WARPGROUPS
typedef Warpgroups<SwizzledAlong<128>, SwizzledAlong<256, PACK>, 4, 1> WidestOfGroups;
typedef Warpgroups<SwizzledAlong<256>, SwizzledAlong<128, PACK>, 4, 1> TallOfGroups;
typedef Warpgroups<SwizzledAlong<128>, SwizzledAlong<128, PACK>, 3> WideOfGroups;
typedef Warpgroups<SwizzledAlong<128>, SwizzledAlong<64, PACK>, 4> SmallOfGroups;

TILE_KERNEL(256, 1) CONVOLVE(widest, WidestOfGroups, PACK)
TILE_KERNEL(512, 1) CONVOLVE(tall, TallOfGroups, PACK)
TILE_KERNEL(256, 2) CONVOLVE(wide, WideOfGroups, PACK)
TILE_KERNEL(256, 2) CONVOLVE(small, SmallOfGroups, PACK)
#else
TILE_KERNEL(256, WIDE_BLOCKS) CONVOLVE(wide, Wide, PACK)
TILE_KERNEL(128, SMALL_BLOCKS) CONVOLVE(small, Small, PACK)
#endif
TILE_KERNEL(128, SMALL_BLOCKS) CONVOLVE(thin, Thin, PACK)
TILE_KERNEL(128, SMALL_BLOCKS) CONVOLVE(each, Small, 1)
