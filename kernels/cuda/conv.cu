// Convolution and transposed convolution as one product, whose left factor is read from x as it is needed (implicit
// GEMM): rows are places of y, columns are outputs, and the inner dimension runs over taps and channels.
//
// Floor: 2 P O C T operations for P places, C and O channels, T taps; where C and O are small, reading x and writing y.
// What should make it fast: x lies channels-last, so that a tap's channels are one run, copied by 16 bytes without
// waiting, three stages deep, zeros where the image ends; nothing like im2col is written. Tiles of 128 x 128 or 64 x 64
// are multiplied by tensor cores (16 bits, TF32) or in 8 x 8 or 4 x 8 registers a thread (float32). In shared memory
// the four packs of a row change places with the row's number, and rows are read in such an order that loads meet every
// bank once and each thread ends with a whole pack of neighbouring outputs. Not yet measured.
//
// Four forms, which conv.py chooses between: wide and small; thin, for up to 16 outputs; each, where the channels of a
// group do not fill packs (pictures of 1 or 3 channels) and numbers are copied one by one. And a sum of its own where
// each channel is a group (depthwise), which is bound by memory.

#include "common.cuh"
#include "mma.cuh"
#include "conv.cuh"

// Where pack `pack` of a tile's row lies: no two of the rows that a load reads together share banks.
INLINE int slot(int row, int pack) { return 4 * row + (pack ^ ((row >> 1 ^ row >> 3) & 3)); }

// ---- sums of an M x N tile. add: of a stage's tiles, rows (M) and columns (N) of INNER numbers. each: f(row, column,
// v) for the sums v of one row in COUNT neighbouring columns ----

// A warp takes ROWS x COLUMNS of the tile, in fragments of 16 x 8.
template <int M_, int N_, int ROWS, int COLUMNS> struct Fragments {
    static constexpr int M = M_, N = N_, DOWN = ROWS / 16, ALONG = COLUMNS / 8, THREADS = M / ROWS * N / COLUMNS * 32;
    // fragments whose columns take turns, two by two, so that a thread has a pack of neighbours
    static constexpr int TURNS = ALONG < PACK / 2 ? 1 : PACK / 2, COUNT = 2 * TURNS;
    float sum[DOWN][ALONG][4] = {};

    static INLINE int first_row() { return warp() / (N / COLUMNS) * ROWS; }
    static INLINE int column(int fragment, int n) {
        int first = warp() % (N / COLUMNS) * COLUMNS + fragment / TURNS * 8 * TURNS;
        return first + n / 2 * 2 * TURNS + fragment % TURNS * 2 + n % 2;
    }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 left[DOWN][4];
            #pragma unroll
            for (int i = 0; i < DOWN; i++)
                ldmatrix(left[i], rows + slot(first_row() + 16 * i + lane() % 16, 2 * half + lane() / 16));
            #pragma unroll
            for (int j = 0; j < ALONG; j += 2) {
                u32 both[4];
                ldmatrix(both, columns + slot(column(j + lane() / 16, lane() % 8), 2 * half + lane() / 8 % 2));
                u32 right[2][2] = {{both[0], both[1]}, {both[2], both[3]}};
                #pragma unroll
                for (int i = 0; i < DOWN; i++) {
                    mma(sum[i][j], left[i], right[0], T{});
                    mma(sum[i][j + 1], left[i], right[1], T{});
                }
            }
        }
    }

    template <class F> INLINE void each(F f) {
        #pragma unroll
        for (int i = 0; i < DOWN; i++)
            #pragma unroll
            for (int lower = 0; lower < 2; lower++)
                #pragma unroll
                for (int j = 0; j < ALONG; j += TURNS) {
                    float v[COUNT];
                    #pragma unroll
                    for (int k = 0; k < COUNT; k++) v[k] = sum[i][j + k / 2][2 * lower + k % 2];
                    f(first_row() + 16 * i + 8 * lower + lane() / 4, column(j, 2 * (lane() % 4)), v);
                }
    }
};

// A thread takes ROWS x COLUMNS of the tile, every (M / ROWS)-th row and every (N / COLUMNS)-th column.
template <int M_, int N_, int ROWS, int COLUMNS> struct Registers {
    static constexpr int M = M_, N = N_, DOWN = M / ROWS, ALONG = N / COLUMNS, THREADS = DOWN * ALONG, COUNT = 1;
    float sum[ROWS][COLUMNS] = {};

    static INLINE int row(int i) { return threadIdx.x / ALONG + DOWN * i; }
    static INLINE int column(int j) { return threadIdx.x % ALONG + ALONG * j; }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        #pragma unroll 1  // or all packs would be read at once, into too many registers
        for (int pack = 0; pack < 4; pack++) {
            Pack<T> a[ROWS];
            #pragma unroll
            for (int i = 0; i < ROWS; i++) a[i] = rows[slot(row(i), pack)];
            #pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                Pack<T> b = columns[slot(column(j), pack)];
                #pragma unroll
                for (int i = 0; i < ROWS; i++)
                    #pragma unroll
                    for (int k = 0; k < PACK; k++) sum[i][j] += widen(a[i].at[k]) * widen(b.at[k]);
            }
        }
    }

    template <class F> INLINE void each(F f) {
        #pragma unroll
        for (int i = 0; i < ROWS; i++)
            #pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                float v[COUNT] = {sum[i][j]};
                f(row(i), column(j), v);
            }
    }
};

// ---- the product; weight (groups, outputs, taps, channels). Where there are few tiles, the inner dimension is cut
// into parts of `step` numbers, a multiple of INNER: partial (parts, places of y, O) then gets the sums, and reduce.cu
// adds them in order. Otherwise partial is a null pointer ----

struct Row { i64 at; int d, h, w; };  // of x: where the row of its first tap begins, and that place

// UNIT numbers of the inner dimension are copied at a time: PACK, or 1.
template <class Product, int UNIT>
INLINE void convolution(const T* x, const T* weight, const T* bias, T* y, float* partial, i64 step, const Geometry& s) {
    constexpr int M = Product::M, N = Product::N, UNITS = INNER / UNIT, APART = Product::THREADS / UNITS;
    constexpr int OWN = M / APART;  // rows of x that a thread copies from
    __shared__ Pack<T> tiles[STAGES][4 * (M + N)];
    __shared__ Row rows[M];  // where UNIT is 1, and a thread has too many for its registers

    int channels = s.channels, outputs = s.outputs, across = (outputs + N - 1) / N;
    int group = blockIdx.z % s.groups, part = blockIdx.z / s.groups;
    View view(s, blockIdx.y);
    u32 places = view.places(s), first_row = blockIdx.x / across * M;
    int first_column = blockIdx.x % across * N;  // neighbours in time share rows of x
    if (first_row >= places) return;  // this phase has fewer places than the first

    i64 width = s.groups * channels;
    auto row_of = [&](int i) -> Row {
        if (first_row + i >= places) return {0, -(1 << 30), 0, 0};  // outside x, whatever the tap
        Place corner = view.corner(view.place(first_row + i));
        return {view.row_of_x(corner) * width, corner.d, corner.h, corner.w};
    };
    int unit = threadIdx.x % UNITS, line = threadIdx.x / UNITS;
    Row own[OWN];
    if (UNIT == 1) {
        for (int i = threadIdx.x; i < M; i += Product::THREADS) rows[i] = row_of(i);
        __syncthreads();
    } else {
        #pragma unroll
        for (int i = 0; i < OWN; i++) own[i] = row_of(line + APART * i);
    }

    i64 taps = s.d.taps * s.h.taps * s.w.taps;
    x += group * channels, weight += (i64)group * outputs * taps * channels;
    Walk walk = {};
    walk.forward(part * step + unit * UNIT, channels, view);
    int pack = unit * UNIT / PACK, rest = unit * UNIT % PACK;

    i64 far, in_weight;  // what the tap and the channel add to the addresses
    u32 inside;          // which rows see a place of x by this tap, a bit each
    auto sees = [&](const Row& row, const Place& ahead) {
        return walk.inside(view) && view.holds(row.d + ahead.d, row.h + ahead.h, row.w + ahead.w);
    };
    auto look = [&]() {
        Place ahead = walk.ahead(view);
        far = view.row_of_x(ahead) * width + walk.c, in_weight = walk.tap(view, s) * channels + walk.c, inside = 0;
        #pragma unroll UNIT == 1 ? 4 : OWN
        for (int i = 0; i < OWN; i++) inside |= (u32)sees(UNIT == 1 ? rows[line + APART * i] : own[i], ahead) << i;
    };
    auto get = [&](int stage) {
        #pragma unroll UNIT == 1 ? 4 : OWN
        for (int i = 0; i < OWN; i++) {
            i64 at = UNIT == 1 ? rows[line + APART * i].at : own[i].at;
            fetch<UNIT>(tiles[stage][slot(line + APART * i, pack)].at + rest, x + at + far, inside >> i & 1);
        }
        #pragma unroll UNIT == 1 ? 4 : N
        for (int i = 0; i < (N + APART - 1) / APART; i++) {
            int column = line + APART * i;
            if (N % APART && column >= N) break;
            i64 output = first_column + column;
            T* to = tiles[stage][4 * M + slot(column, pack)].at + rest;
            fetch<UNIT>(to, weight + output * taps * channels + in_weight, walk.inside(view) && output < outputs);
        }
        walk.c += INNER, far += INNER, in_weight += INNER;
        if (walk.c >= channels) {  // the next tap
            walk.forward(0, channels, view);
            look();
        }
    };
    look();
    Product product;
    i64 inner = min((i64)view.d.taps * view.h.taps * view.w.taps * channels - part * step, step);
    pipeline((inner + INNER - 1) / INNER, get, [&](int stage) { product.add(tiles[stage], tiles[stage] + 4 * M); });

    i64 width_y = s.groups * outputs;
    bias = bias && part == 0 ? bias + group * outputs : nullptr;
    if (partial) partial += part * s.samples * s.d.places * s.h.places * s.w.places * width_y;
    product.each([&](int row, int column, float (&v)[Product::COUNT]) {
        u32 i = first_row + row;
        i64 first = first_column + column;
        if (i >= places || first >= outputs) return;
        if (bias)
            #pragma unroll
            for (int k = 0; k < Product::COUNT; k++)
                if (first + k < outputs) v[k] += widen(bias[first + k]);
        i64 at = view.row_of_y(view.place(i), s) * width_y + group * outputs;
        if (partial) put(partial + at, first, outputs, v);
        else put(y + at, first, outputs, v);
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

typedef Either<TENSOR, Fragments<128, 128, 32, 64>, Registers<128, 128, 8, 8>>::Type Wide;
typedef Either<TENSOR, Fragments<64, 64, 32, 32>, Registers<64, 64, 4, 8>>::Type Small;
typedef Either<TENSOR, Fragments<128, 16, 32, 16>, Registers<128, 16, 4, 4>>::Type Thin;

#define CONVOLVE(form, PRODUCT, UNIT)                                                                               \
    convolve_##form(const T* x, const T* weight, const T* bias, T* y, float* partial, i64 step, const Geometry s) { \
        convolution<PRODUCT, UNIT>(x, weight, bias, y, partial, step, s);                                           \
    }
WIDE_TILE_KERNEL CONVOLVE(wide, Wide, PACK)
TILE_KERNEL CONVOLVE(small, Small, PACK)
TILE_KERNEL CONVOLVE(thin, Thin, PACK)
TILE_KERNEL CONVOLVE(each, Small, 1)
