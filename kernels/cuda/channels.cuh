// Arrays (N, C, ...) in either memory order: sums over each channel, and coefficients that belong to channels.
//
// What is summed together is called a pair: a channel of one sample, or a channel of all samples. Its numbers lie
//
//   in lines     runs of `width` numbers, `stride` apart; pair i begins at i * width (channels first)
//   in columns   one of `width` columns of a matrix of `rows` rows, one after another (channels last); there are as
//                many such matrices, `slices`, as blockIdx.x counts up to, in steps of `tiles`
//
// and are cut into parts. A block of 256 threads takes a part of a pair, `lanes` threads for each line, or for each 256
// / lanes rows of `lanes` packs of columns; `lanes` is a power of two up to 256. A part's sums go to [part, pair].

constexpr int THREADS = 256;

// ---- what is summed ----

// Mean and squares about it of `count` numbers. Two are joined by the rule of Chan, Golub and LeVeque (1979).
struct Moments {
    float count, mean, squares;

    INLINE void add(const Moments& other) {
        if (other.count == 0) return;
        float all = count + other.count, off = other.mean - mean, share = other.count / all;
        mean += off * share;
        squares += other.squares + off * off * count * share;
        count = all;
    }

    // One number more; share is 1 over how many there are then. `count` is set when all are in.
    INLINE void follow(float x, float share) {
        float off = x - mean;
        mean += off * share;
        squares += off * (x - mean);
    }

    INLINE Moments from(int below) const {
        return {__shfl_down_sync(ALL, count, below), __shfl_down_sync(ALL, mean, below),
                __shfl_down_sync(ALL, squares, below)};
    }
};

struct Sums {
    float one, two;

    INLINE void add(const Sums& other) { one += other.one, two += other.two; }

    INLINE Sums from(int below) const {
        return {__shfl_down_sync(ALL, one, below), __shfl_down_sync(ALL, two, below)};
    }
};

// ---- sums over threads, in a fixed order; every thread of the block calls them ----

// The first of each `lanes` neighbours gets the sum.
template <class A> INLINE void add_neighbours(A& a, int lanes) {
    __shared__ A part[THREADS / 32];
    for (int below = min(lanes, 32) / 2; below > 0; below /= 2) a.add(a.from(below));
    if (lanes <= 32) return;
    if (lane() == 0) part[warp()] = a;
    __syncthreads();
    if (threadIdx.x % lanes == 0)
        for (int other = 1; other < lanes / 32; other++) a.add(part[warp() + other]);
}

// The first `lanes` threads get the sums over those that are a multiple of `lanes` further on.
template <class A> INLINE void add_rows(A (&a)[PACK], int lanes) {
    __shared__ A part[PACK][THREADS / 2];
    int row = threadIdx.x / lanes;
    for (int half = THREADS / lanes / 2; half > 0; half /= 2) {
        if (row >= half && row < 2 * half)
            #pragma unroll
            for (int k = 0; k < PACK; k++) part[k][threadIdx.x - half * lanes] = a[k];
        __syncthreads();
        if (row < half)
            #pragma unroll
            for (int k = 0; k < PACK; k++) {
                A other = part[k][threadIdx.x];
                a[k].add(other);
            }
        __syncthreads();
    }
}

// ---- the ways through a part ----

// The line of this thread; it may be past the end.
INLINE i64 my_line(int lanes) { return (i64)blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes; }

INLINE i64 packs_of(i64 width) { return (width + PACK - 1) / PACK; }

// f(run, first) for each of this thread's packs: the beginning of its run, and its place there. A part is `step` packs.
template <class F> INLINE void each_of_line(i64 line, i64 width, i64 runs, i64 stride, int lanes, i64 step, F f) {
    i64 packs = packs_of(width), end = min((blockIdx.y + 1) * step, runs * packs);
    #pragma unroll 4
    for (i64 i = blockIdx.y * step + threadIdx.x % lanes; i < end; i += lanes) {
        i64 run = quotient(i, packs);
        f(line * width + run * stride, (i - run * packs) * PACK);
    }
}

INLINE i64 my_slice(int tiles) { return blockIdx.x / tiles; }

// The first of this thread's columns.
INLINE i64 my_column(int lanes, int tiles) {
    return ((i64)(blockIdx.x % tiles) * lanes + threadIdx.x % lanes) * PACK;
}

// f(row) for each of this thread's rows. A part is `step` rows.
template <class F> INLINE void each_row(i64 rows, int lanes, i64 step, F f) {
    i64 end = min((blockIdx.y + 1) * step, rows);
    #pragma unroll 4
    for (i64 row = blockIdx.y * step + threadIdx.x / lanes; row < end; row += THREADS / lanes) f(row);
}

// Where a block of columns writes its sums: [part, slice, column].
INLINE i64 my_sums(i64 width, int tiles) { return (blockIdx.y * (gridDim.x / tiles) + my_slice(tiles)) * width; }

// How many numbers a part of a pair has. For columns `width` is 1 and `runs` the number of rows.
INLINE float numbers_in(i64 part, i64 width, i64 runs, i64 step) {
    i64 packs = packs_of(width);
    auto before = [&](i64 i) {
        i64 run = quotient(i, packs);
        return run * width + min((i - run * packs) * PACK, width);
    };
    return before(min((part + 1) * step, runs * packs)) - before(part * step);
}

// ---- coefficients: one a channel, or one a channel of each sample ----

#ifdef TYPE_W
INLINE float number(const W* values, i64 i, float rest) { return values ? widen(values[i]) : rest; }
#endif

// Where the coefficients of a pack's numbers stand, for numbers that lie as (samples, C, P) or (samples, P, C).
struct Places {
    i64 at[PACK];
    bool same, next;  // all one place; one after another

    // inner: how many numbers in a row belong to one channel; period: how many such runs share their coefficients
    INLINE Places(i64 first, i64 inner, i64 channels, i64 period) {
        i64 run = quotient(first, inner), within = first - run * inner;
        i64 sample = quotient(run, period), c = run - quotient(run, channels) * channels;
        same = within + PACK <= inner;
        next = inner == 1 && c + PACK <= channels;
        i64 rest = run - sample * period;
        #pragma unroll
        for (int k = 0; k < PACK; k++) {
            at[k] = sample * channels + c;
            if (++within < inner) continue;
            within = 0;
            if (++c == channels) c = 0;
            if (++rest == period) rest = 0, sample++;
        }
    }

    INLINE void load(float (&v)[PACK], const float* values, i64 end) const {
        if (same) {
            float value = values[at[0]];
            #pragma unroll
            for (int k = 0; k < PACK; k++) v[k] = value;
        } else if (next) {
            ::load(v, values, at[0], end);
        } else {
            #pragma unroll
            for (int k = 0; k < PACK; k++) v[k] = at[k] < end ? values[at[k]] : 0;
        }
    }
};
