// The gradient of a convolution for its weight as one product: rows are outputs, columns are pairs of a tap and a
// channel, and the inner dimension runs over the places of y.
//
// Floor: 2 P O C T operations for P places, C and O channels, T taps, as many as the convolution's. There are few tiles
// and a long sum, so the places are cut into parts by the shapes alone; each part is a block's, and reduce.cu adds the
// parts in order. What should make it fast is what makes the convolution fast (conv.cu): x is read where it lies, by 16
// bytes, three stages deep. Both factors lie with the inner dimension outermost: tensor cores get their fragments
// turned (ldmatrix.trans), float sums take outer products of packs. Not yet measured.
//
// Forms: wide and small tiles; thin, for up to 16 outputs; each, where the channels or the outputs of a group do not
// fill packs. And a sum of its own where each channel is a group (depthwise).

#include "common.cuh"
#include "mma.cuh"
#include "conv.cuh"

// Where pack `pack` of row `row` of a tile with `packs` a row lies: what a load reads together shares no banks, be it
// one pack of eight rows (ldmatrix), two packs of four rows (TF32) or eight packs of one.
INLINE int slot(int row, int pack, int packs) {
    int period = packs < 8 ? packs : 8, turn = row * period / 8;
    return row * packs + (pack ^ (turn * (sizeof(T) == 2 ? 1 : 2) & (period - 1)));
}

// ---- sums of an M x N tile. add: of a stage's tiles (INNER, M) and (INNER, N). each: f(row, column, v) for the sums v
// of one row in neighbouring columns ----

// A warp takes ROWS x COLUMNS of the tile, in fragments of 16 x 8.
template <int M_, int N_, int ROWS, int COLUMNS> struct Fragments {
    static constexpr int M = M_, N = N_, DOWN = ROWS / 16, ALONG = COLUMNS / 8, THREADS = M / ROWS * N / COLUMNS * 32;
    static constexpr int COUNT = 2;
    float sum[DOWN][ALONG][4] = {};

    static INLINE int first_row() { return warp() / (N / COLUMNS) * ROWS; }
    static INLINE int first_column() { return warp() % (N / COLUMNS) * COLUMNS; }

    static INLINE u32 number(const Pack<T>* tile, int inner, int i, int width) {  // of TF32
        return __float_as_uint(widen(tile[slot(inner, i / PACK, width / PACK)].at[i % PACK]));
    }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 left[DOWN][4];
            #pragma unroll
            for (int i = 0; i < DOWN; i++) {
                int first = first_row() + 16 * i;
                if (sizeof(T) == 2) {
                    int inner = 16 * half + lane() / 16 * 8 + lane() % 8;
                    ldmatrix_transposed(left[i], rows + slot(inner, first / PACK + lane() / 8 % 2, M / PACK));
                } else {
                    #pragma unroll
                    for (int k = 0; k < 4; k++)
                        left[i][k] = number(rows, 8 * half + lane() % 4 + k / 2 * 4, first + lane() / 4 + k % 2 * 8, M);
                }
            }
            #pragma unroll
            for (int j = 0; j < ALONG; j += 2) {
                int first = first_column() + 8 * j;
                u32 both[4];
                if (sizeof(T) == 2) {
                    int inner = 16 * half + lane() % 16;
                    ldmatrix_transposed(both, columns + slot(inner, first / PACK + lane() / 16, N / PACK));
                } else {
                    #pragma unroll
                    for (int k = 0; k < 4; k++)
                        both[k] = number(columns, 8 * half + lane() % 4 + k % 2 * 4, first + lane() / 4 + k / 2 * 8, N);
                }
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
                for (int j = 0; j < ALONG; j++) {
                    float v[COUNT] = {sum[i][j][2 * lower], sum[i][j][2 * lower + 1]};
                    f(first_row() + 16 * i + 8 * lower + lane() / 4, first_column() + 8 * j + 2 * (lane() % 4), v);
                }
    }
};

// A thread takes ROWS x COLUMNS of the tile, in packs of each.
template <int M_, int N_, int ROWS, int COLUMNS> struct Registers {
    static constexpr int M = M_, N = N_, DOWN = M / ROWS, ALONG = N / COLUMNS, THREADS = DOWN * ALONG, COUNT = PACK;
    float sum[ROWS][COLUMNS] = {};

    static INLINE int row_pack(int i) { return threadIdx.x / ALONG + DOWN * i; }
    static INLINE int column_pack(int j) { return threadIdx.x % ALONG + ALONG * j; }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        #pragma unroll
        for (int inner = 0; inner < INNER; inner++) {
            Pack<T> a[ROWS / PACK], b[COLUMNS / PACK];
            #pragma unroll
            for (int i = 0; i < ROWS / PACK; i++) a[i] = rows[slot(inner, row_pack(i), M / PACK)];
            #pragma unroll
            for (int j = 0; j < COLUMNS / PACK; j++) b[j] = columns[slot(inner, column_pack(j), N / PACK)];
            #pragma unroll
            for (int i = 0; i < ROWS; i++)
                #pragma unroll
                for (int j = 0; j < COLUMNS; j++)
                    sum[i][j] += widen(a[i / PACK].at[i % PACK]) * widen(b[j / PACK].at[j % PACK]);
        }
    }

    template <class F> INLINE void each(F f) {
        #pragma unroll
        for (int i = 0; i < ROWS; i++)
            #pragma unroll
            for (int j = 0; j < COLUMNS; j += PACK) {
                float v[COUNT];
                #pragma unroll
                for (int k = 0; k < COUNT; k++) v[k] = sum[i][j + k];
                f(row_pack(i / PACK) * PACK + i % PACK, column_pack(j / PACK) * PACK, v);
            }
    }
};

INLINE Walk tap_of(int tap, const Geometry& s) {
    int w = s.w.taps, h = s.h.taps;
    return {0, tap / w / h, tap / w % h, tap % w};
}

// ---- the product: partial (parts, groups, outputs, taps, channels), a part being `step` places, a multiple of INNER
// ----

// UNIT_X and UNIT_G numbers of a row of x and of g are copied at a time: PACK, or 1.
template <class Product, int UNIT_X, int UNIT_G>
INLINE void correlation(const T* x, const T* g, float* partial, i64 step, const Geometry& s) {
    constexpr int M = Product::M, N = Product::N, THREADS = Product::THREADS;
    constexpr int UNITS_M = M / UNIT_G, UNITS_N = N / UNIT_X, APART_M = THREADS / UNITS_M, APART_N = THREADS / UNITS_N;
    __shared__ Pack<T> tiles[STAGES][INNER * (M + N) / PACK];

    int across = (s.outputs + M - 1) / M, group = blockIdx.z, part = blockIdx.y / across;
    i64 first_row = (i64)(blockIdx.y % across) * M, first_column = (i64)blockIdx.x * N;
    View view(s, 0);
    i64 places = view.places(s), begin = part * step, end = min(begin + step, places), now = begin;
    i64 channels = s.channels, width = s.groups * channels, outputs = s.outputs, width_g = s.groups * outputs;
    i64 columns = s.d.taps * s.h.taps * s.w.taps * channels;

    // this thread's columns of both tiles
    int unit_n = threadIdx.x % UNITS_N, unit_m = threadIdx.x % UNITS_M;
    i64 column = first_column + unit_n * UNIT_X, output = first_row + unit_m * UNIT_G;
    int tap = column / channels;
    Place ahead = tap_of(tap, s).ahead(view);
    const T* x_here = x + group * channels + column - tap * channels;
    const T* g_here = g + group * outputs + output;

    auto get = [&](int stage) {
        #pragma unroll UNIT_X == 1 ? 4 : INNER
        for (int i = 0; i < INNER / APART_N; i++) {
            int k = threadIdx.x / UNITS_N + APART_N * i;
            Place p = view.corner(view.place(min(now + k, places - 1)));
            p.d += ahead.d, p.h += ahead.h, p.w += ahead.w;
            bool inside = now + k < end && column < columns && view.holds(p.d, p.h, p.w);
            T* to = tiles[stage][INNER * M / PACK + slot(k, unit_n * UNIT_X / PACK, N / PACK)].at;
            fetch<UNIT_X>(to + unit_n * UNIT_X % PACK, x_here + view.row_of_x(p) * width, inside);
        }
        #pragma unroll UNIT_G == 1 ? 4 : INNER
        for (int i = 0; i < INNER / APART_M; i++) {
            int k = threadIdx.x / UNITS_M + APART_M * i;
            T* to = tiles[stage][slot(k, unit_m * UNIT_G / PACK, M / PACK)].at;
            fetch<UNIT_G>(to + unit_m * UNIT_G % PACK, g_here + (now + k) * width_g, now + k < end && output < outputs);
        }
        now += INNER;
    };
    Product product;
    pipeline((end - begin + INNER - 1) / INNER, get,
             [&](int stage) { product.add(tiles[stage], tiles[stage] + INNER * M / PACK); });

    partial += ((i64)part * s.groups + group) * outputs * columns;
    product.each([&](int row, int column, float (&v)[Product::COUNT]) {
        i64 output = first_row + row;
        if (output < outputs) put(partial + output * columns, first_column + column, columns, v);
    });
}

// ---- depthwise: partial (parts, taps, C). A block takes a tap, a part and `lanes` packs of channels; its threads are
// 256 / lanes places at a time ----

KERNEL correlate_channels(const T* x, const T* g, float* partial, i64 step, i64 lanes, const Geometry s) {
    __shared__ float sums[256 * PACK];
    View view(s, 0);
    i64 channels = s.groups, places = view.places(s), end = min((blockIdx.y + 1) * step, places);
    i64 first = (blockIdx.x * lanes + threadIdx.x % lanes) * PACK;
    int tap = blockIdx.z;
    Place ahead = tap_of(tap, s).ahead(view);
    float sum[PACK] = {};
    for (i64 i = blockIdx.y * step + threadIdx.x / lanes; i < end; i += blockDim.x / lanes) {
        Place p = view.corner(view.place(i));
        p.d += ahead.d, p.h += ahead.h, p.w += ahead.w;
        if (!view.holds(p.d, p.h, p.w)) continue;
        float v[PACK], d[PACK];
        load(v, x + view.row_of_x(p) * channels, first, channels);
        load(d, g + i * channels, first, channels);
        #pragma unroll
        for (int k = 0; k < PACK; k++) sum[k] += v[k] * d[k];
    }
    #pragma unroll
    for (int k = 0; k < PACK; k++) sums[threadIdx.x * PACK + k] = sum[k];
    __syncthreads();
    for (i64 c = threadIdx.x; c < lanes * PACK; c += blockDim.x) {
        i64 channel = blockIdx.x * lanes * PACK + c;
        if (channel >= channels) break;
        float total = 0;
        for (i64 row = 0; row < blockDim.x / lanes; row++) total += sums[row * lanes * PACK + c];
        partial[(blockIdx.y * gridDim.z + tap) * channels + channel] = total;
    }
}

// ---- what Python calls ----

typedef Either<TENSOR, Fragments<128, 128, 32, 64>, Registers<128, 128, 8, 8>>::Type Wide;
typedef Either<TENSOR, Fragments<64, 64, 32, 32>, Registers<64, 64, 4, 8>>::Type Small;
typedef Either<TENSOR, Fragments<16, 128, 16, 32>, Registers<16, 128, 4, 4>>::Type Thin;

#define CORRELATE(form, PRODUCT, UNIT_X, UNIT_G)                                           \
    correlate_##form(const T* x, const T* g, float* partial, i64 step, const Geometry s) { \
        correlation<PRODUCT, UNIT_X, UNIT_G>(x, g, partial, step, s);                      \
    }
WIDE_TILE_KERNEL CORRELATE(wide, Wide, PACK, PACK)
TILE_KERNEL CORRELATE(small, Small, PACK, PACK)
TILE_KERNEL CORRELATE(thin, Thin, PACK, 1)
TILE_KERNEL CORRELATE(each, Small, 1, 1)
