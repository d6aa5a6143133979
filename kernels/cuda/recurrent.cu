// Recurrent layers over whole sequences, forward and back through time: a plain cell, GRU and LSTM.
//
// At each step the state h (N, H) meets the recurrent weights (G H, H), and the gates follow. A block makes some UNITS
// of the next state for ROWS sequences at a time, product and cell in one: first its 8 warps share the depth of the
// product, 64 bytes of a row each in turn, then the block adds their sums in a fixed order, then each thread has a unit
// or two. What x adds comes from one large product for all steps. Back through time it is the same walk: dL/dh of a
// step is the product of what the later step left, (N, G H), with the weights turned round, and the cell's derivative.
//
// There are two ways to walk, which give the same bits. Step by step, a launch makes one step and reads the weights
// from the second cache. Together, one launch makes all steps: a block keeps its part of the weights in shared memory,
// and the blocks meet at a barrier after each step. That needs all blocks on the card at once, so recurrent.py computes
// their number from the shape, and goes step by step where they, or the weights, do not fit.
//
// Floor: 2 N G H H operations a step, each step behind the other. In practice it is latency: step by step a launch, and
// (G H, H) weights through the cache; together a barrier, and (N, H) numbers to every block. It should be near that
// floor because the weights are packed once in the order in which lanes read them, 16 bytes a lane without conflicts,
// and the state goes straight from the cache to the registers that the tensor cores take, each number once a block.
// float16 and bfloat16 use tensor cores, float32 does too where TF32 is allowed, and otherwise multiplies and adds in
// registers, up to 64 sums a thread. Not yet measured.
// Counted of 4 steps together, of 32 sequences and 64 units: 1.2 to 1.5 times the bytes of gates, states and weights,
// which are packed first; 1.2 to 1.7 sectors over the least (a block has 8 units, 16 or 32 bytes of a row); wavefronts
// of shared memory 1.00.
//
// hs, the gates and gradients are of T, the cell's c and all that is carried back in float.

#include "common.cuh"
#include "scalar.cuh"
#include "mma.cuh"
#include "grid_barrier.cuh"

#ifndef TF32  // recurrent.py defines it where it is allowed, and GATES_OF_CELL, to compile the kernels of one cell
#define TF32 0
#endif

constexpr int WARPS = 8, ROWS = 32;  // 256 threads a block; sequences at a time
constexpr int DEEP = 4 * PACK;       // numbers of a row that a warp multiplies at once: 64 bytes
constexpr bool TENSOR = sizeof(T) == 2 || TF32;

// ---- the product ----

INLINE u32 word_of(const float* x, i64 first, i64 n) { return first < n ? __float_as_uint(x[first]) : 0; }

template <class S> INLINE u32 word_of(const S* x, i64 first, i64 n) {
    return (first < n ? x[first].bits : 0) | (first + 1 < n ? (u32)x[first + 1].bits << 16 : 0);
}

// 16 bytes of a row of n numbers from `first` on, zeros past its end
INLINE Chunk chunk_of(const T* row, i64 first, i64 n) {
    if (whole(row, first, n)) return *(const Chunk*)(row + first);
    Chunk chunk;
    #pragma unroll
    for (int i = 0; i < 4; i++) chunk.at[i] = word_of(row, first + i * PACK / 4, n);
    return chunk;
}

// Which 16 bytes of 8 columns and DEEP rows of the weights a lane holds: those of one column and a quarter of the
// depth, in the order of the tensor cores' fragments, or in the one in which 8 lanes read 128 bytes in a row.
INLINE int column_of(int lane) { return TENSOR ? lane / 4 : lane % 8; }
INLINE int quarter_of(int lane) { return TENSOR ? lane % 4 : lane / 8; }

// The weights in the order of use: [block][DEEP rows][8 columns][lane]. A block's columns are its units of each gate.
// Row k of gate's unit j stands at w[(gate * H + j) * down + k * along]; there are `depth` rows.
KERNEL pack_weights(const T* w, Chunk* packed, i64 n, i64 gates, i64 H, i64 depth, i64 units, i64 down, i64 along) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    i64 tiles = gates * units / 8, chunks = (depth + DEEP - 1) / DEEP;
    i64 place = i / 32, row = quotient(place, tiles), tile = place - row * tiles;
    i64 block = quotient(row, chunks), chunk = row - block * chunks, gate = quotient(tile * 8, units);
    i64 unit = block * units + tile * 8 - gate * units + column_of(i % 32);
    i64 first = chunk * DEEP + quarter_of(i % 32) * PACK;
    if (along == 1) {
        packed[i] = unit < H ? chunk_of(w + (gate * H + unit) * down, first, depth) : Chunk{};
        return;
    }
    Pack<T> pack;
    #pragma unroll
    for (int k = 0; k < PACK; k++)
        pack.at[k] = unit < H && first + k < depth ? w[(gate * H + unit) * down + (first + k) * along] : T{};
    *(Pack<T>*)(packed + i) = pack;
}

// A warp's part of ROWS rows by 8 TILES columns: at[tile][m][i] is in row_of(m, i) and in column_of(tile), or beside it
// where it is the second of a pair, as tensor cores make them.
template <int TILES> struct Part {
    static constexpr int BESIDE = TENSOR ? 2 : 1;
    float at[TILES][2][4] = {};

    static INLINE int row_of(int m, int i) {
        return TENSOR ? 16 * m + 8 * (i / 2) + lane() / 4 : 16 * m + 4 * i + lane() / 8;
    }
    static INLINE int column_of(int tile) { return 8 * tile + (TENSOR ? lane() % 4 * 2 : lane() % 8); }

    // f(row, column, those numbers that lie beside each other)
    template <class F> INLINE void each(F f) {
        #pragma unroll
        for (int tile = 0; tile < TILES; tile++)
            #pragma unroll
            for (int m = 0; m < 2; m++)
                #pragma unroll
                for (int i = 0; i < 4; i += BESIDE) {
                    Pack<float, BESIDE> own;
                    #pragma unroll
                    for (int e = 0; e < BESIDE; e++) own.at[e] = at[tile][m][i + e];
                    f(row_of(m, i), column_of(tile), own);
                }
    }
};

// part += DEEP numbers, from `first` on, of each of x's `rows` rows, by as many rows of weights. Which of these numbers
// goes to which place of a fragment is free if both sides agree: so a lane's words are 16 bytes in a row, for two
// products.
template <int TILES, bool BY_TENSOR_CORES> struct Multiply {
    static INLINE void add(Part<TILES>& part, const T* x, i64 first, i64 depth, i64 rows, const Chunk* weights) {
        Chunk a[2][2];
        #pragma unroll
        for (int m = 0; m < 2; m++)
            #pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = 16 * m + 8 * half + lane() / 4;
                a[m][half] = row < rows ? chunk_of(x + row * depth, first + lane() % 4 * PACK, depth) : Chunk{};
            }
        __syncwarp();  // lanes without a row, or at its end, went another way
        #pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            Chunk w = weights[32 * tile + lane()];
            #pragma unroll
            for (int m = 0; m < 2; m++) {
                if (16 * m >= rows) break;
                #pragma unroll
                for (int i = 0; i < 4; i += 2) {
                    u32 left[4] = {a[m][0].at[i], a[m][1].at[i], a[m][0].at[i + 1], a[m][1].at[i + 1]};
                    u32 right[2] = {w.at[i], w.at[i + 1]};
                    mma(part.at[tile][m], left, right, T{});
                }
            }
        }
    }
};

template <int TILES> struct Multiply<TILES, false> {  // for float, without TF32
    static INLINE void add(Part<TILES>& part, const T* x, i64 first, i64 depth, i64 rows, const Chunk* weights) {
        #pragma unroll 2
        for (int quarter = 0; quarter < 4; quarter++) {
            Chunk a[8], w[TILES];
            #pragma unroll
            for (int r = 0; r < 8; r++) {
                int row = 4 * r + lane() / 8;
                a[r] = row < rows ? chunk_of(x + row * depth, first + quarter * PACK, depth) : Chunk{};
            }
            #pragma unroll
            for (int tile = 0; tile < TILES; tile++) w[tile] = weights[32 * tile + 8 * quarter + lane() % 8];
            #pragma unroll
            for (int r = 0; r < 8; r++) {
                if (4 * r >= rows) break;
                #pragma unroll
                for (int tile = 0; tile < TILES; tile++)
                    #pragma unroll
                    for (int k = 0; k < 4; k++)
                        part.at[tile][r / 4][r % 4] += __uint_as_float(a[r].at[k]) * __uint_as_float(w[tile].at[k]);
            }
        }
    }
};

// The sums of a block, in WARPS / 2 layers of two warps' parts each, which are added in order when they are read. Lanes
// write 8 columns of 4 rows together, which begin in banks 8 apart: of themselves if there are an odd number of tiles,
// and else 8 columns more are left empty, or columns change places.
template <int TILES> struct Sums {
    static constexpr bool TURNED = TILES % 4 == 0;
    alignas(16) float numbers[WARPS / 2][ROWS][8 * TILES + (TILES % 4 == 2 ? 8 : 0)];

    INLINE float& at(int layer, int row, int column) {
        return numbers[layer][row][TURNED ? column ^ row % 4 * 8 : column];
    }
    INLINE float all(int row, int column) {
        return (at(0, row, column) + at(1, row, column)) + (at(2, row, column) + at(3, row, column));
    }
};

// sums = x (rows, depth) @ the block's weights. All threads call it; afterwards each may read all sums.
template <int TILES> INLINE void multiply(const T* x, i64 depth, i64 rows, const Chunk* weights, Sums<TILES>& sums) {
    Part<TILES> part;
    i64 chunks = (depth + DEEP - 1) / DEEP;
    for (i64 chunk = warp(); chunk < chunks; chunk += WARPS)
        Multiply<TILES, TENSOR>::add(part, x, chunk * DEEP, depth, rows, weights + chunk * TILES * 32);
    __syncthreads();  // the sums of the rows before have been read
    typedef Pack<float, Part<TILES>::BESIDE> Few;
    if (warp() >= WARPS / 2)
        part.each([&](int row, int column, Few own) { *(Few*)&sums.at(warp() - WARPS / 2, row, column) = own; });
    __syncthreads();
    if (warp() < WARPS / 2)
        part.each([&](int row, int column, Few own) {
            Few* sum = (Few*)&sums.at(warp(), row, column);
            Few other = *sum;
            #pragma unroll
            for (int e = 0; e < Part<TILES>::BESIDE; e++) own.at[e] += other.at[e];
            *sum = own;
        });
    __syncthreads();
}

// ---- the walk through time ----

struct Layer {
    T* gates;                                  // (steps, N, G H): forward first what x adds; r z n, or i f g o
    T* hs;                                     // (steps + 1, N, H), the first state at the end it starts from
    float* cs;                                 // LSTM: the same of c
    T* us;                                     // GRU: what h adds to n, (steps, N, H)
    const T *b_ih, *b_hh;                      // null: none
    const T* g;                                // dL/dout (steps, N, H), or null
    T *da, *du;                                // dL/d what x and what h add, (steps, N, G H)
    float *dh, *dc;                            // (N, H): dL/d the last states, in the end the first ones
    i64 steps, N, H, back, relu;               // back: 1 from the last step to the first

    INLINE i64 forward(i64 step) const { return back ? steps - 1 - step : step; }
    INLINE i64 backward(i64 step) const { return back ? step : steps - 1 - step; }
    INLINE i64 state(i64 t, i64 n, i64 j) const { return (t * N + n) * H + j; }
    INLINE float x_bias(i64 i) const { return b_ih ? widen(b_ih[i]) : 0; }
    INLINE float h_bias(i64 i) const { return b_hh ? widen(b_hh[i]) : 0; }
};

// A cell has GATES columns a unit in the product with x(step), which is null where there is none, numbers that it reads
// before the product, and what it makes of both at a step for sequence n and unit j.

struct Forward {
    Layer l;
    INLINE const T* x(i64 step) const { return l.hs + (l.forward(step) + l.back) * l.N * l.H; }
};

template <int G> struct Backward {
    Layer l;
    static constexpr int GATES = 1, DEPTH = G;
    INLINE const T* x(i64 step) const { return step == 0 ? nullptr : l.du + l.backward(step - 1) * l.N * G * l.H; }
    // dL/dh at this step, but for the product
    INLINE float arriving(i64 step, i64 n, i64 j, bool carried) const {
        float d = carried ? l.dh[l.state(0, n, j)] : 0;
        return l.g && step < l.steps ? d + widen(l.g[l.state(l.backward(step), n, j)]) : d;
    }
};

struct RnnForward : Forward {
    static constexpr int GATES = 1, DEPTH = 1;
    struct Kept { float a; };

    INLINE Kept read(i64 step, i64 n, i64 j) const {
        return {widen(l.gates[l.state(l.forward(step), n, j)]) + (l.x_bias(j) + l.h_bias(j))};
    }
    INLINE void write(i64 step, i64 n, i64 j, const Kept& kept, const float* u) const {
        float a = kept.a + u[0];
        narrow(l.relu ? (a < 0 ? 0 : a) : tanhf(a), l.hs[l.state(l.forward(step) + 1 - l.back, n, j)]);
    }
};

struct RnnBackward : Backward<1> {
    struct Kept { float d, h; };

    INLINE Kept read(i64 step, i64 n, i64 j) const {
        float h = step < l.steps ? widen(l.hs[l.state(l.backward(step) + 1 - l.back, n, j)]) : 0;
        return {arriving(step, n, j, step == 0), h};
    }
    INLINE void write(i64 step, i64 n, i64 j, const Kept& kept, const float* u) const {
        float d = kept.d + u[0], h = kept.h;
        if (step == l.steps)
            l.dh[l.state(0, n, j)] = d;
        else
            narrow(l.relu ? (h > 0 ? d : 0) : d * (1 - h * h), l.da[l.state(l.backward(step), n, j)]);
    }
};

struct GruForward : Forward {
    static constexpr int GATES = 3, DEPTH = 1;
    struct Kept { float a[3], c[3], before; };

    INLINE Kept read(i64 step, i64 n, i64 j) const {
        Kept kept;
        i64 t = l.forward(step);
        #pragma unroll
        for (int k = 0; k < 3; k++) {
            kept.a[k] = widen(l.gates[l.state(t, n, 0) * 3 + k * l.H + j]) + l.x_bias(k * l.H + j);
            kept.c[k] = l.h_bias(k * l.H + j);
        }
        kept.before = widen(l.hs[l.state(t + l.back, n, j)]);
        return kept;
    }
    INLINE void write(i64 step, i64 n, i64 j, const Kept& kept, const float* u) const {
        i64 t = l.forward(step);
        T* gate = l.gates + l.state(t, n, 0) * 3 + j;
        float r = sigmoid(kept.a[0] + (u[0] + kept.c[0])), z = sigmoid(kept.a[1] + (u[1] + kept.c[1]));
        float u_n = u[2] + kept.c[2], fresh = tanhf(kept.a[2] + r * u_n);
        narrow(r, gate[0]), narrow(z, gate[l.H]), narrow(fresh, gate[2 * l.H]);
        narrow(u_n, l.us[l.state(t, n, j)]);
        narrow(fresh + z * (kept.before - fresh), l.hs[l.state(t + 1 - l.back, n, j)]);
    }
};

struct GruBackward : Backward<3> {
    struct Kept { float d, r, z, n, u, before; };

    INLINE Kept read(i64 step, i64 n, i64 j) const {
        Kept kept = {arriving(step, n, j, true), 0, 0, 0, 0, 0};
        if (step == l.steps) return kept;
        i64 t = l.backward(step);
        const T* gate = l.gates + l.state(t, n, 0) * 3 + j;
        kept.r = widen(gate[0]), kept.z = widen(gate[l.H]), kept.n = widen(gate[2 * l.H]);
        kept.u = widen(l.us[l.state(t, n, j)]), kept.before = widen(l.hs[l.state(t + l.back, n, j)]);
        return kept;
    }
    INLINE void write(i64 step, i64 n, i64 j, const Kept& kept, const float* u) const {
        float d = kept.d + u[0], r = kept.r, z = kept.z;
        l.dh[l.state(0, n, j)] = step == l.steps ? d : d * z;
        if (step == l.steps) return;
        i64 i = l.state(l.backward(step), n, 0) * 3 + j;
        float to_n = d * (1 - z) * (1 - kept.n * kept.n), to_r = to_n * kept.u * r * (1 - r);
        float to_z = d * (kept.before - kept.n) * z * (1 - z);
        narrow(to_r, l.da[i]), narrow(to_z, l.da[i + l.H]), narrow(to_n, l.da[i + 2 * l.H]);
        narrow(to_r, l.du[i]), narrow(to_z, l.du[i + l.H]), narrow(to_n * r, l.du[i + 2 * l.H]);
    }
};

struct LstmForward : Forward {
    static constexpr int GATES = 4, DEPTH = 1;
    struct Kept { float a[4], before; };

    INLINE Kept read(i64 step, i64 n, i64 j) const {
        Kept kept;
        i64 t = l.forward(step);
        #pragma unroll
        for (int k = 0; k < 4; k++) {
            i64 i = k * l.H + j;
            kept.a[k] = widen(l.gates[l.state(t, n, 0) * 4 + i]) + (l.x_bias(i) + l.h_bias(i));
        }
        kept.before = l.cs[l.state(t + l.back, n, j)];
        return kept;
    }
    INLINE void write(i64 step, i64 n, i64 j, const Kept& kept, const float* u) const {
        i64 t = l.forward(step), next = l.state(t + 1 - l.back, n, j);
        T* gate = l.gates + l.state(t, n, 0) * 4 + j;
        float i = sigmoid(kept.a[0] + u[0]), f = sigmoid(kept.a[1] + u[1]);
        float fresh = tanhf(kept.a[2] + u[2]), o = sigmoid(kept.a[3] + u[3]);
        float cell = f * kept.before + i * fresh;
        narrow(i, gate[0]), narrow(f, gate[l.H]), narrow(fresh, gate[2 * l.H]), narrow(o, gate[3 * l.H]);
        l.cs[next] = cell;
        narrow(o * tanhf(cell), l.hs[next]);
    }
};

struct LstmBackward : Backward<4> {
    struct Kept { float d, dc, i, f, fresh, o, before, c; };

    INLINE Kept read(i64 step, i64 n, i64 j) const {
        Kept kept = {arriving(step, n, j, step == 0), 0, 0, 0, 0, 0, 0, 0};
        if (step == l.steps) return kept;
        i64 t = l.backward(step);
        const T* gate = l.gates + l.state(t, n, 0) * 4 + j;
        kept.dc = l.dc[l.state(0, n, j)];
        kept.i = widen(gate[0]), kept.f = widen(gate[l.H]);
        kept.fresh = widen(gate[2 * l.H]), kept.o = widen(gate[3 * l.H]);
        kept.before = l.cs[l.state(t + l.back, n, j)], kept.c = l.cs[l.state(t + 1 - l.back, n, j)];
        return kept;
    }
    INLINE void write(i64 step, i64 n, i64 j, const Kept& kept, const float* u) const {
        float d = kept.d + u[0], i = kept.i, f = kept.f, fresh = kept.fresh, o = kept.o, squashed = tanhf(kept.c);
        if (step == l.steps) {
            l.dh[l.state(0, n, j)] = d;
            return;
        }
        T* da = l.da + l.state(l.backward(step), n, 0) * 4 + j;
        float cell = kept.dc + d * o * (1 - squashed * squashed);
        narrow(cell * fresh * i * (1 - i), da[0]), narrow(cell * kept.before * f * (1 - f), da[l.H]);
        narrow(cell * i * (1 - fresh * fresh), da[2 * l.H]), narrow(d * squashed * o * (1 - o), da[3 * l.H]);
        l.dc[l.state(0, n, j)] = cell * f;
    }
};

// The steps from `begin` to `end`. Block x takes its UNITS, block y every gridDim.y-th ROWS sequences. TOGETHER: the
// blocks of the same sequences meet after each step, at their own counter in `arrived`, 128 bytes from the next; the
// weights stand in shared memory.
template <class Cell, int UNITS, bool TOGETHER>
INLINE void walk(const Cell& cell, const Chunk* packed, i64 begin, i64 end, u32* arrived) {
    constexpr int TILES = Cell::GATES * UNITS / 8, EACH = ROWS * UNITS / (32 * WARPS);
    __shared__ Sums<TILES> sums;
    i64 N = cell.l.N, H = cell.l.H, depth = Cell::DEPTH * H, size = (depth + DEEP - 1) / DEEP * TILES * 32;
    const Chunk* weights = packed + blockIdx.x * size;
    DYNAMIC_SHARED(own);
    if (TOGETHER) {
        for (i64 i = threadIdx.x; i < size; i += blockDim.x) ((Chunk*)own)[i] = weights[i];
        weights = (const Chunk*)own;
        __syncthreads();
    }
    for (i64 step = begin; step < end; step++) {
        const T* x = cell.x(step);
        for (i64 first = (i64)blockIdx.y * ROWS; first < N; first += (i64)gridDim.y * ROWS) {
            typename Cell::Kept kept[EACH];
            #pragma unroll
            for (int k = 0; k < EACH; k++) {
                int place = threadIdx.x + k * 32 * WARPS;
                i64 n = first + place / UNITS, j = (i64)blockIdx.x * UNITS + place % UNITS;
                if (n < N && j < H) kept[k] = cell.read(step, n, j);
            }
            if (x) multiply(x + first * depth, depth, min(N - first, (i64)ROWS), weights, sums);
            #pragma unroll
            for (int k = 0; k < EACH; k++) {
                int place = threadIdx.x + k * 32 * WARPS, row = place / UNITS, unit = place % UNITS;
                i64 n = first + row, j = (i64)blockIdx.x * UNITS + unit;
                float u[Cell::GATES];
                #pragma unroll
                for (int gate = 0; gate < Cell::GATES; gate++) u[gate] = x ? sums.all(row, gate * UNITS + unit) : 0;
                if (n < N && j < H) cell.write(step, n, j, kept[k], u);
            }
        }
        if (TOGETHER && step + 1 < end) grid_barrier(arrived + 32 * blockIdx.y, (u32)(step + 1 - begin) * gridDim.x);
    }
}

#define FORWARD(name, Cell, UNITS, TOGETHER)                                                                       \
    extern "C" __global__ __launch_bounds__(256, 1) void name(                                                     \
        const Chunk* packed, T* gates, const T* b_ih, const T* b_hh, T* hs, float* cs, T* us, i64 relu, i64 steps, \
        i64 N, i64 H, i64 back, i64 begin, i64 end, u32* arrived) {                                                \
        Layer l = {};                                                                                              \
        l.gates = gates, l.b_ih = b_ih, l.b_hh = b_hh, l.hs = hs, l.cs = cs, l.us = us, l.relu = relu;             \
        l.steps = steps, l.N = N, l.H = H, l.back = back;                                                          \
        walk<Cell, UNITS, TOGETHER>(Cell{l}, packed, begin, end, arrived);                                         \
    }

#define BACKWARD(name, Cell, UNITS, TOGETHER)                                                                    \
    extern "C" __global__ __launch_bounds__(256, 1) void name(                                                   \
        const Chunk* packed, T* gates, T* hs, float* cs, T* us, const T* g, T* da, T* du, float* dh, float* dc,  \
        i64 relu, i64 steps, i64 N, i64 H, i64 back, i64 begin, i64 end, u32* arrived) {                         \
        Layer l = {};                                                                                            \
        l.gates = gates, l.hs = hs, l.cs = cs, l.us = us, l.g = g, l.da = da, l.du = du, l.dh = dh, l.dc = dc;   \
        l.relu = relu, l.steps = steps, l.N = N, l.H = H, l.back = back;                                         \
        walk<Cell, UNITS, TOGETHER>(Cell{l}, packed, begin, end, arrived);                                       \
    }

#define EVERY_WAY(MAKE, name, Cell)         \
    MAKE(name##_8, Cell, 8, false)          \
    MAKE(name##_16, Cell, 16, false)        \
    MAKE(name##_together_8, Cell, 8, true)  \
    MAKE(name##_together_16, Cell, 16, true)

#if !defined(GATES_OF_CELL) || GATES_OF_CELL == 1
EVERY_WAY(FORWARD, rnn_forward, RnnForward)
EVERY_WAY(BACKWARD, rnn_backward, RnnBackward)
#endif
#if !defined(GATES_OF_CELL) || GATES_OF_CELL == 3
EVERY_WAY(FORWARD, gru_forward, GruForward)
EVERY_WAY(BACKWARD, gru_backward, GruBackward)
#endif
#if !defined(GATES_OF_CELL) || GATES_OF_CELL == 4
EVERY_WAY(FORWARD, lstm_forward, LstmForward)
EVERY_WAY(BACKWARD, lstm_backward, LstmBackward)
#endif
