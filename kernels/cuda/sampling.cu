// The next symbol of a text: from a row of logits, after a temperature and cut-offs, drawn by a Philox stream.
//
// Floor: read the logits once: 4 bytes each in float32. But decoding is bound by the model's weights, and what counts
// here is that the draw is one launch, and that the host reads nothing. A block takes a row and goes over it, out of
// the second cache, for the largest logit, for the sum, and for the place of the draw; top-k and top-p search for their
// cut by three passes more each, 11 bits of the number at a time. Not yet measured.
// Counted: 1.00 times the floor's bytes, which come 3 times from a cache and with both cuts 10 times; 1.00 sectors over
// the least. Sums by bins take 1.2 wavefronts of shared memory over the least, as the numbers fall.
//
// Probabilities are whole numbers: e**(x - largest) in units of 2**-40. Whole numbers add up to the same sum in any
// order, so sums by atomics and by threads side by side are exact, and the draw is that of minigen/random.py's
// `categorical`, from the same two words of the stream, but for roundings: 2**-40 of the likeliest symbol here, a
// float32 there.

#include "common.cuh"
#include "rows.cuh"
#include "philox.cuh"

constexpr int BITS = 11, BINS = 1 << BITS;
constexpr float UNITS_OF_ONE = 1099511627776.0f;  // 2**40

struct Logits {
    const T* x;
    i64 width;
    float temperature, largest;

    INLINE float scaled(float v) const { return v / temperature; }
    INLINE u64 mass(float x) const { return (u64)(expf(x - largest) * UNITS_OF_ONE); }

    // f(index, x) for the numbers of a pack
    template <class F> INLINE void pack(i64 first, F f) const {
        float v[PACK];
        load(v, x, first, width);
        #pragma unroll
        for (int k = 0; k < PACK; k++)
            if (first + k < width) f(first + k, scaled(v[k]));
    }

    // f(index, x) for every number that this thread looks at
    template <class F> INLINE void each(F f) const {
        each_pack(width, [&](i64 first) { pack(first, f); });
    }
};

// Whole numbers in the order of floats; -0 and 0 are the same.
INLINE u32 key_of(float x) {
    u32 bits = __float_as_uint(x == 0 ? 0.0f : x);
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

INLINE float number_of(u32 key) { return __uint_as_float(key >> 31 ? key & 0x7FFFFFFF : ~key); }

// The sum of x over the threads before this one, and over all.
struct Before { u64 sum, all; };

INLINE Before sum_before(u64 x) {
    __shared__ u64 part[32];
    u64 sum = x;
    #pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        u64 more = __shfl_up_sync(ALL, sum, by);
        if (lane() >= by) sum += more;
    }
    if (lane() == 31) part[warp()] = sum;
    __syncthreads();
    u64 earlier = warp_sum(lane() < warp() ? part[lane()] : (u64)0);
    u64 all = warp_sum(lane() < warps() ? part[lane()] : (u64)0);
    __syncthreads();  // before the next call writes `part`
    return {earlier + sum - x, all};
}

// Where the sum of weights, from the smallest number upward, first exceeds a limit: at numbers with this key; `below`
// is the weight of all smaller ones. `weigh(key, x)` gives a number's weight; all together must exceed the limit.
struct Cut { u32 key; u64 below; };

struct Bins {  // in shared memory: sums of weights by 11 bits of the key, each in two words
    u32 low[BINS], high[BINS];
    Cut found;

    INLINE u64 sum(int bin) const { return low[bin] | (u64)high[bin] << 32; }
    INLINE void add(int bin, u64 weight) {
        u32 part = (u32)weight, old = atomicAdd(&low[bin], part);
        u32 carry = (u32)(weight >> 32) + (old + part < old);
        if (carry) atomicAdd(&high[bin], carry);
    }
};

template <class F> INLINE Cut find_cut(const Logits& row, u64 limit, F weigh, Bins& bins) {
    Cut cut = {0, 0};
    for (int top = 32; top > 0; top -= BITS) {  // the bits from `top` on are known
        int bottom = top > BITS ? top - BITS : 0;
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) bins.low[i] = bins.high[i] = 0;
        __syncthreads();
        row.each([&](i64, float x) {
            u32 key = key_of(x);
            if (top < 32 && (key ^ cut.key) >> top) return;
            u64 weight = weigh(key, x);
            if (weight > 0) bins.add(key >> bottom & (BINS - 1), weight);
        });
        __syncthreads();
        int stretch = (BINS + blockDim.x - 1) / blockDim.x, begin = min((int)threadIdx.x * stretch, BINS);
        int end = min(begin + stretch, BINS);
        u64 sum = 0;
        for (int i = begin; i < end; i++) sum += bins.sum(i);
        u64 below = cut.below + sum_before(sum).sum;
        if (below <= limit && below + sum > limit) {
            int bin = begin;
            for (; below + bins.sum(bin) <= limit; bin++) below += bins.sum(bin);
            bins.found = {cut.key | (u32)bin << bottom, below};
        }
        __syncthreads();
        cut = bins.found;
    }
    return cut;
}

// f(first, before, own) for the packs in the order of the row, with the sum of `value` over those before, and its own;
// until the sum is enough.
template <class V, class F> INLINE void in_order(i64 width, u64 enough, V value, F f) {
    u64 passed = 0;
    for (i64 begin = 0; begin < width && passed < enough; begin += blockDim.x * PACK) {
        i64 first = begin + threadIdx.x * PACK;
        u64 own = first < width ? value(first) : 0;
        Before before = sum_before(own);
        f(first, passed + before.sum, own);
        passed += before.all;
    }
}

// ids[row] = a symbol drawn with the probabilities softmax(logits / temperature), cut off by
//   k       the k largest, and what is level with the k-th; 0: no cut
//   rest    1 - p: the unlikeliest symbols are dropped whose probabilities add up to no more; negative: no cut
//   least   symbols are dropped that are less likely than the likeliest by this factor; 0: no cut
// in this order, or -1 where a logit is NaN, none is finite, or one is infinite. Row i takes words 2 i and 2 i + 1 of
// the stream from block `first` on, or so many after *place, if that is not null (see random.cu).
WIDE_KERNEL draw(const T* logits, i64* ids, i64 width, float temperature, i64 k, float rest, float least, u64 seed,
                 u64 stream, u64 first, const u64* place) {
    __shared__ Bins bins;
    __shared__ i64 from;
    Logits row = {logits + blockIdx.x * width, width, temperature, -INFINITY};
    int strange = 0;
    row.each([&](i64, float x) {
        row.largest = fmaxf(row.largest, x);
        strange += x != x;
    });
    row.largest = block_max(row.largest);
    strange = block_sum(strange);
    if (strange || row.largest == INFINITY || row.largest == -INFINITY) {
        if (threadIdx.x == 0) ids[blockIdx.x] = -1;
        return;
    }
    u32 cut = 0;  // numbers with a smaller key are dropped, and so are those with this one before the place `from`
    if (threadIdx.x == 0) from = 0;
    if (k > 0 && k < width) cut = find_cut(row, width - k, [](u32, float) { return (u64)1; }, bins).key;
    auto mass_above = [&](u32 key, float x) { return key >= cut ? row.mass(x) : 0; };
    if (rest >= 0) {
        u64 all = 0;
        row.each([&](i64, float x) { all += mass_above(key_of(x), x); });
        all = block_sum(all);
        u64 limit = min((u64)((double)rest * (double)all), all - 1);  // the likeliest stays
        Cut found = find_cut(row, limit, mass_above, bins);
        u64 level = (limit - found.below) / row.mass(number_of(found.key));  // so many that are level are dropped, too
        cut = found.key;
        if (level > 0) {
            auto count = [&](i64 at) {
                u64 n = 0;
                row.pack(at, [&](i64, float x) { n += key_of(x) == cut; });
                return n;
            };
            in_order(width, level, count, [&](i64 at, u64 before, u64 own) {
                if (before >= level || before + own < level) return;  // the last to be dropped is in another pack
                for (int i = 0; i < PACK && at + i < width; i++)
                    if (key_of(row.scaled(widen(row.x[at + i]))) == cut && ++before == level) from = at + i + 1;
            });
        }
    }
    __syncthreads();
    i64 start = from;
    auto mass = [&](i64 i, float x) {
        u32 key = key_of(x);
        bool kept = key > cut || (key == cut && i >= start);
        return kept && expf(x - row.largest) >= least ? row.mass(x) : (u64)0;
    };
    u64 all = 0;
    row.each([&](i64 i, float x) { all += mass(i, x); });
    all = block_sum(all);
    Words words = philox(seed, stream, first + (place ? *place : 0) + blockIdx.x / 2);
    int odd = blockIdx.x % 2;
    u64 high = odd ? words.at[2] : words.at[0], low = odd ? words.at[3] : words.at[1];
    u64 target = __umul64hi((high >> 5 << 26 | low >> 6) << 11, all);  // 53 random bits, a part of all
    auto pack_mass = [&](i64 at) {
        u64 sum = 0;
        row.pack(at, [&](i64 i, float x) { sum += mass(i, x); });
        return sum;
    };
    in_order(width, target + 1, pack_mass, [&](i64 at, u64 before, u64 own) {
        if (before > target || before + own <= target) return;
        int i = 0;
        for (;; i++) {
            before += mass(at + i, row.scaled(widen(row.x[at + i])));
            if (before > target) break;
        }
        ids[blockIdx.x] = at + i;
    });
}

// ids[row] = where the largest logit stands, the first of several; the first NaN, if there is one
WIDE_KERNEL largest(const T* logits, i64* ids, i64 width) {
    __shared__ u64 part[32];
    Logits row = {logits + blockIdx.x * width, width, 1, 0};
    u64 best = 0;
    row.each([&](i64 i, float x) {
        u32 key = x != x ? 0xFFFFFFFF : key_of(x);
        best = max(best, (u64)key << 32 | (0xFFFFFFFF - (u64)i));
    });
    for (int stage = 0; stage < 2; stage++) {
        #pragma unroll
        for (int other = 16; other > 0; other /= 2) best = max(best, __shfl_xor_sync(ALL, best, other));
        if (stage == 0) {
            if (lane() == 0) part[warp()] = best;
            __syncthreads();
            best = lane() < warps() ? part[lane()] : 0;
        }
    }
    if (threadIdx.x == 0) ids[blockIdx.x] = 0xFFFFFFFF - (best & 0xFFFFFFFF);
}

// out[row, id] = logits[row, id] divided by the penalty, or multiplied where it is negative, for the ids of each row.
// An id that occurs twice is written twice, with the same number.
KERNEL penalize(const T* logits, const i64* ids, T* out, i64 length, i64 width, float penalty) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= length) return;
    i64 id = ids[blockIdx.y * length + i];
    i64 place = blockIdx.y * width + (id < 0 ? id + width : id);
    float x = widen(logits[place]);
    narrow(x < 0 ? x * penalty : x / penalty, out[place]);
}

// ---- a text (rows, width) that is written while the host looks away; place: one number, where it is ----

// The symbols at `place`; of none, -1, the first.
KERNEL read_symbols(const i64* text, const i64* place, i64* ids, i64 rows, i64 width) {
    i64 row = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row < rows) ids[row] = max(text[row * width + *place], (i64)0);
}

// One block: place is one further, and what nobody knows there, -1, is what was chosen.
KERNEL write_symbols(i64* text, i64* place, const i64* chosen, i64 rows, i64 width) {
    i64 at = *place + 1;
    __syncthreads();  // all have read it
    for (i64 row = threadIdx.x; row < rows; row += blockDim.x)
        if (text[row * width + at] < 0) text[row * width + at] = chosen[row];
    if (threadIdx.x == 0) *place = at;
}
