// Rows of a matrix (n, width), in two forms, which rows.py chooses between:
//
//   narrow   a warp a row, WARPS rows a block; the row stands in registers, M numbers a thread (width <= 32 M)
//   wide     a block a row; it is read again for each pass, from the first cache or the second, not from memory

constexpr int WARPS = 8;

#define EVERY_M(MAKE) MAKE(4) MAKE(8) MAKE(16) MAKE(32)

// This warp's row, if it is not past the end.
INLINE i64 my_row() { return (i64)blockIdx.x * WARPS + warp(); }

// A warp's row: pack i of lane l is the row's pack 32 i + l.
template <int M> struct Row {
    static constexpr int N = M < PACK ? 1 : M / PACK;
    float at[N][PACK];

    static INLINE i64 place(int i) { return (i64)(32 * i + lane()) * PACK; }

    template <class S> INLINE void load(const S* x, i64 width, float rest = 0) {
        #pragma unroll
        for (int i = 0; i < N; i++) ::load(at[i], x, place(i), width, rest);
    }

    template <class S> INLINE void store(S* x, i64 width) const {
        #pragma unroll
        for (int i = 0; i < N; i++) ::store(x, place(i), width, at[i]);
    }

    // The sum of f(i, k) over the numbers of the row; past its end f must be 0.
    template <class F> static INLINE float sum(F f) {
        float total = 0;
        #pragma unroll
        for (int i = 0; i < N; i++)
            #pragma unroll
            for (int k = 0; k < PACK; k++) total += f(i, k);
        return warp_sum(total);
    }

    // at[i][k] = f(i, k)
    template <class F> INLINE void set(F f) {
        #pragma unroll
        for (int i = 0; i < N; i++)
            #pragma unroll
            for (int k = 0; k < PACK; k++) at[i][k] = f(i, k);
    }
};

// For a block's row: f(first) for each pack of this thread.
template <class F> INLINE void each_pack(i64 width, F f) {
    for (i64 first = threadIdx.x * PACK; first < width; first += blockDim.x * PACK) f(first);
}
