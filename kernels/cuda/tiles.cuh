// Products of tiles in shared memory, which gemm.cu, conv.cu and conv_weight.cu are made of: how the tile of a factor
// lies there, three ways to multiply two of them, and the loop over their stages. The kernels differ in what they fetch
// into a tile and in what becomes of the sums.
//
// The left factor has lines which are rows of the result, the right one's are its columns. A stage holds INNER numbers
// of each line. A tile is made of packs of 16 bytes:
//
//   Along    a line's numbers are neighbours, as a row of 4 packs
//   Across   the lines' numbers of one place in the inner dimension are neighbours; a row is one such place
//
// `slot` says where a pack of a row lies: packs change places with the row's number, so that what a load reads together
// has no bank twice.
//
// A product holds its thread's sums. `add` takes the tiles of a stage; `each` calls f(row, column, v) with the sums v
// of one row in neighbouring columns.
//
//   Fragments    by tensor cores, a warp at a time: 16-bit numbers, and floats as TF32
//   Registers    by float arithmetic
//   Warpgroups   by the tensor cores of compute capability 9.0, which read the tiles by themselves (wgmma.cuh)

#ifdef TF32
constexpr bool TENSOR = true;  // float32 rounded to TF32
#else
constexpr bool TENSOR = sizeof(T) == 2;
#endif

template <bool first, class A, class B> struct Either { typedef A Type; };
template <class A, class B> struct Either<false, A, B> { typedef B Type; };

// ---- tiles of PACKS packs, ROW in a row; RUN neighbouring columns are a thread's sums by tensor cores ----

// Neighbouring sums of a thread are of columns 2t and 2t + 1 in each eight. Lines that are dealt to the eights in turn,
// by pairs, make RUN of them neighbours: line RUN t + 2f + e of 4 RUN is given place 8f + 2t + e.
template <int RUN> INLINE u32 dealt(u32 line) {
    return line / (4 * RUN) * (4 * RUN) + line % RUN / 2 * 8 + line / RUN % 4 * 2 + line % 2;
}

template <int LINES_, int RUN_ = 2> struct Along {
    static constexpr int LINES = LINES_, RUN = RUN_, INNER = 4 * PACK, PACKS = 4 * LINES, ROW = 4;
    static constexpr int PERIOD = 4 * RUN;  // of slots, in rows
    static constexpr int TOGETHER = 1;      // neighbouring lines that a thread of Registers has
    static constexpr bool IS_ACROSS = false;

    static INLINE u32 place(u32 line, u32 pack) { return 4 * line + (pack ^ line / 2 % 4); }
    static INLINE u32 slot(u32 line, u32 pack) { return place(dealt<RUN>(line), pack); }

    // Two packs of 16 lines in a row as four matrices of 8 x 8, the lines of the left factor first.
    static INLINE void fragment(u32 (&r)[4], const Pack<T>* tile, int line, int part, bool left) {
        int down = left ? lane() % 16 : lane() / 16 * 8 + lane() % 8, along = left ? lane() / 16 : lane() / 8 % 2;
        ldmatrix(r, tile + place(line + down, 2 * part + along));
    }

    // Four numbers, those of a pack of floats, of COUNT lines.
    static INLINE int line(int thread, int threads, int i) { return thread + threads * i; }
    template <int COUNT>
    static INLINE void quads(float (&v)[COUNT][4], const Pack<T>* tile, int thread, int threads, int first, int pack) {
        #pragma unroll
        for (int i = 0; i < COUNT; i++) {
            Pack<T> own = tile[slot(line(thread, threads, first + i), pack)];
            #pragma unroll
            for (int e = 0; e < 4; e++) v[i][e] = widen(own.at[e]);
        }
    }
};

template <int LINES_> struct Across {
    static constexpr int LINES = LINES_, RUN = 2, INNER = 4 * PACK, PACKS = 4 * LINES;
    static constexpr int ROW = LINES / PACK, PERIOD = 8, TOGETHER = 4;
    static constexpr bool IS_ACROSS = true;

    static INLINE u32 slot(u32 inner, u32 pack) {
        constexpr u32 TURNS = ROW < 8 ? ROW : 8;
        return inner * ROW + (pack ^ inner * TURNS / 8 * (sizeof(T) == 2 ? 1 : 2) % TURNS);
    }

    static INLINE void fragment(u32 (&r)[4], const Pack<T>* tile, int line, int part, bool left) {
        if (sizeof(T) == 2) {
            int down = left ? lane() / 16 * 8 + lane() % 8 : lane() % 16, along = left ? lane() / 8 % 2 : lane() / 16;
            ldmatrix_transposed(r, tile + slot(16 * part + down, line / PACK + along));
        } else {
            #pragma unroll
            for (int k = 0; k < 4; k++) {
                int own = line + lane() / 4 + 8 * (left ? k % 2 : k / 2);
                int inner = 8 * part + lane() % 4 + 4 * (left ? k / 2 : k % 2);
                r[k] = __float_as_uint(widen(tile[slot(inner, own / PACK)].at[own % PACK]));
            }
        }
    }

    static INLINE int line(int thread, int threads, int i) { return 4 * (thread + threads * (i / 4)) + i % 4; }
    template <int COUNT>
    static INLINE void quads(float (&v)[COUNT][4], const Pack<T>* tile, int thread, int threads, int first, int pack) {
        #pragma unroll
        for (int i = 0; i < COUNT; i += 4)
            #pragma unroll
            for (int e = 0; e < 4; e++) {
                Pack<T> own = tile[slot(4 * pack + e, line(thread, threads, first + i) / 4)];
                #pragma unroll
                for (int k = 0; k < 4; k++) v[i + k][e] = widen(own.at[k]);
            }
    }
};

// The slots of a pack in every APART-th row, from a first row on. After PERIOD rows they repeat, which the compiler
// does not find out.
template <class Tile, int APART> struct Slots {
    u32 first, row, pack;

    INLINE Slots(u32 row, u32 pack) : first(Tile::slot(row, pack)), row(row), pack(pack) {}
    INLINE u32 operator()(u32 i) const {
        return APART % Tile::PERIOD == 0 ? first + i * APART * Tile::ROW : Tile::slot(row + APART * i, pack);
    }
};

// ---- products. They have STAGES tiles of each factor: one is multiplied, BEHIND may still be read by products that
// run on, and the others are on their way ----

template <int RUN, int EIGHTS, class F> INLINE void each_run(const float (&sum)[EIGHTS][4], int row, int column, F f) {
    #pragma unroll
    for (int lower = 0; lower < 2; lower++)
        #pragma unroll
        for (int j = 0; j < EIGHTS; j += RUN / 2) {
            float v[RUN];
            #pragma unroll
            for (int k = 0; k < RUN; k++) v[k] = sum[j + k / 2][2 * lower + k % 2];
            f(row + 8 * lower + lane() / 4, column + 8 * j + RUN * (lane() % 4), v);
        }
}

// Products that are done when `add` returns.
template <class Left_, class Right_, int STAGES_> struct AtOnce {
    typedef Left_ Left;
    typedef Right_ Right;
    static constexpr int STAGES = STAGES_, BEHIND = 0;

    static INLINE Pack<T>* tiles(char* memory) { return (Pack<T>*)memory; }
    static INLINE void arrive() {}
    template <int K> INLINE void wait() {}
};

// A warp takes ROWS x COLUMNS of the tile, in fragments of 16 x 8.
template <class Left, class Right, int ROWS, int COLUMNS, int STAGES = 3>
struct Fragments : AtOnce<Left, Right, STAGES> {
    static constexpr int M = Left::LINES, N = Right::LINES, THREADS = M / ROWS * N / COLUMNS * 32, COUNT = Right::RUN;
    float sum[ROWS / 16][COLUMNS / 8][4] = {};

    static INLINE int first_row() { return warp() / (N / COLUMNS) * ROWS; }
    static INLINE int first_column() { return warp() % (N / COLUMNS) * COLUMNS; }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        #pragma unroll
        for (int part = 0; part < 2; part++) {
            u32 left[ROWS / 16][4];
            #pragma unroll
            for (int i = 0; i < ROWS / 16; i++) Left::fragment(left[i], rows, first_row() + 16 * i, part, true);
            #pragma unroll
            for (int j = 0; j < COLUMNS / 8; j += 2) {
                u32 both[4];
                Right::fragment(both, columns, first_column() + 8 * j, part, false);
                u32 right[2][2] = {{both[0], both[1]}, {both[2], both[3]}};
                #pragma unroll
                for (int i = 0; i < ROWS / 16; i++) {
                    mma(sum[i][j], left[i], right[0], T{});
                    mma(sum[i][j + 1], left[i], right[1], T{});
                }
            }
        }
    }

    template <class F> INLINE void each(F f) const {
        #pragma unroll
        for (int i = 0; i < ROWS / 16; i++) each_run<COUNT>(sum[i], first_row() + 16 * i, first_column(), f);
    }
};

// A thread takes ROWS x COLUMNS of the tile.
template <class Left, class Right, int ROWS, int COLUMNS, int STAGES = 3>
struct Registers : AtOnce<Left, Right, STAGES> {
    static constexpr int DOWN = Left::LINES / ROWS, ACROSS = Right::LINES / COLUMNS, THREADS = DOWN * ACROSS;
    static constexpr int COUNT = Right::TOGETHER;
    float sum[ROWS][COLUMNS] = {};

    static INLINE int down() { return threadIdx.x / ACROSS; }
    static INLINE int across() { return threadIdx.x % ACROSS; }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        #pragma unroll 1  // or all packs would be read at once, into too many registers
        for (int pack = 0; pack < Left::INNER / 4; pack++) {
            float a[ROWS][4];
            Left::quads(a, rows, down(), DOWN, 0, pack);
            #pragma unroll
            for (int j = 0; j < COLUMNS; j += 4) {
                float b[4][4];
                Right::quads(b, columns, across(), ACROSS, j, pack);
                #pragma unroll
                for (int e = 0; e < 4; e++)
                    #pragma unroll
                    for (int i = 0; i < ROWS; i++)
                        #pragma unroll
                        for (int k = 0; k < 4; k++) sum[i][j + k] += a[i][e] * b[k][e];
            }
        }
    }

    template <class F> INLINE void each(F f) const {
        #pragma unroll
        for (int i = 0; i < ROWS; i++)
            #pragma unroll
            for (int j = 0; j < COLUMNS; j += COUNT) {
                float v[COUNT];
                #pragma unroll
                for (int k = 0; k < COUNT; k++) v[k] = sum[i][j + k];
                f(Left::line(down(), DOWN, i), Right::line(across(), ACROSS, j), v);
            }
    }
};

// ---- for compute capability 9.0: tiles as wgmma.cuh wants them, four products deep ----

#ifdef WARPGROUPS
template <int LINES_, int RUN_ = 2> struct SwizzledAlong {
    static constexpr int LINES = LINES_, RUN = RUN_, INNER = SWIZZLED, PACKS = 8 * LINES, ROW = 8, PERIOD = 4 * RUN;
    static constexpr int STEP = 2;  // from 16 of the inner dimension to the next, in packs
    static constexpr bool IS_ACROSS = false;

    static INLINE u32 slot(u32 line, u32 pack) { return 8 * dealt<RUN>(line) + (pack ^ dealt<RUN>(line) % 8); }
    static INLINE u32 factor(const Pack<T>* tile, u32 line) { return factor_at(tile + 8 * line, 16); }
};

template <int LINES_> struct SwizzledAcross {
    static constexpr int LINES = LINES_, RUN = 2, INNER = SWIZZLED, PACKS = 8 * LINES, ROW = 8, PERIOD = 8;
    static constexpr int STEP = 8 * 16, PIECE = 8 * INNER;  // a piece has 64 lines
    static constexpr bool IS_ACROSS = true;

    static INLINE u32 slot(u32 inner, u32 pack) { return pack / 8 * PIECE + 8 * inner + (pack % 8 ^ inner % 8); }
    static INLINE u32 factor(const Pack<T>* tile, u32 line) { return factor_at(tile + line / 64 * PIECE, 16 * PIECE); }
};

// A warpgroup takes 64 rows of the tile.
template <class Left_, class Right_, int STAGES_, int BEHIND_ = 0> struct Warpgroups {
    typedef Left_ Left;
    typedef Right_ Right;
    static constexpr int N = Right::LINES, THREADS = 2 * Left::LINES, STAGES = STAGES_, BEHIND = BEHIND_;
    static constexpr int COUNT = Right::RUN;
    float sum[N / 8][4] = {};

    static INLINE Pack<T>* tiles(char* memory) { return (Pack<T>*)swizzle_aligned(memory); }
    static INLINE void arrive() { reach_products(); }

    INLINE void add(const Pack<T>* rows, const Pack<T>* columns) {
        u32 left = Left::factor(rows, warp() / 4 * 64), right = Right::factor(columns, 0);
        wgmma_fence();
        #pragma unroll
        for (int part = 0; part < SWIZZLED / 16; part++) {
            u32 a = left + part * Left::STEP, b = right + part * Right::STEP;
            wgmma<N, Left::IS_ACROSS, Right::IS_ACROSS>(sum, a, b, T{});
        }
        wgmma_commit();
    }

    template <int K> INLINE void wait() { wgmma_wait<K>(sum); }

    template <class F> INLINE void each(F f) const { each_run<COUNT>(sum, 16 * warp(), 0, f); }
};
#endif

// ---- the loop over `count` tiles of each factor, in shared memory: get(left, right) starts the copies of the next
// ones, or writes them ----

template <class Product, class G> INLINE void multiply(Product& product, int count, Pack<T>* tiles, G get) {
    constexpr int STAGES = Product::STAGES, AHEAD = STAGES - 1 - Product::BEHIND;
    auto left = [&](int stage) { return tiles + stage * (Product::Left::PACKS + Product::Right::PACKS); };
    auto right = [&](int stage) { return left(stage) + Product::Left::PACKS; };
    #pragma unroll 1  // `get` is long
    for (int stage = 0; stage < AHEAD; stage++) {
        if (stage < count) get(left(stage), right(stage));
        copy_async_commit();
    }
    int now = 0;
    for (int i = 0; i < count; i++) {
        copy_async_wait<AHEAD - 1>();
        Product::arrive();
        __syncthreads();  // the tiles of this stage are there, and everyone is through with those to be overwritten
        int next = now > Product::BEHIND ? now - Product::BEHIND - 1 : now + AHEAD;
        if (i + AHEAD < count) get(left(next), right(next));
        copy_async_commit();  // an empty group too: the waits count groups
        __syncwarp();         // in `get` each thread goes its own way
        product.add(left(now), right(now));
        product.template wait<Product::BEHIND>();
        now = now == STAGES - 1 ? 0 : now + 1;
    }
    product.template wait<0>();
}
