// Random words and standard normal numbers: the very bits of minigen/random.py.
//
// Floor: 4 bytes written a number, and 5 multiplications of 32 x 32 bits a word. It should be near the floor because a
// thread makes one block of four numbers, which depends on its number alone, and writes it at once. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least.
//
// Each line of `log_unit` and `box_muller` is one rounding, as on the CPU: this file is compiled without fused
// multiply-adds, and with a square root that is rounded correctly.

#include "common.cuh"
#include "philox.cuh"

struct alignas(16) Four { u32 at[4]; };

INLINE i64 my_block() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

// The first block is `first`, or so many after *place, if that is not null: a captured step knows no other place.
KERNEL bits(u64 seed, u64 stream, u64 first, const u64* place, Four* out, i64 blocks) {
    i64 i = my_block();
    if (i >= blocks) return;
    if (place) first += *place;
    Words w = philox(seed, stream, first + i);
    Four words = {w.at[0], w.at[1], w.at[2], w.at[3]};
    out[i] = words;
}

// log of (word + 1/2) / 2**32
INLINE float log_unit(u32 word) {
    float u = (float)word * 2.3283064365386963e-10f + 1.1641532182693481e-10f;  // 2**-32, 2**-33
    int bits = __float_as_int(u) - 0x3F3504F3;
    float e = bits >> 23, f = __int_as_float((bits & 0x007FFFFF) + 0x3F3504F3) - 1;
    float z = f * f, p = f * 7.0376836292e-2f + -1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f + -1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f + -1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f + -2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    p = p * f;
    p = p * z + e * -2.12194440e-4f;
    p = p - z * 0.5f;
    return (f + p) + e * 0.693359375f;
}

// Two words to two standard normal numbers.
INLINE void box_muller(u32 w0, u32 w1, u32* out) {
    float radius = sqrtf(log_unit(w0) * -2);
    u32 quadrant = w1 >> 30, rest = w1 & 0x3FFFFFFF;
    float a = (float)rest * 1.462918119976564e-09f - 0.78539818525314331f, z = a * a;
    float sine = z * -1.9515295891e-4f + 8.3321608736e-3f;
    sine = sine * z + -1.6666654611e-1f;
    sine = sine * z;
    sine = sine * a + a;
    float cosine = z * 2.443315711809948e-5f + -1.388731625493765e-3f;
    cosine = cosine * z + 4.166664568298827e-2f;
    cosine = cosine * z;
    cosine = cosine * z - z * 0.5f;
    cosine = cosine + 1;
    float one = quadrant & 1 ? sine : cosine, two = quadrant & 1 ? cosine : sine;
    out[0] = __float_as_uint(radius * (quadrant + 1 & 2 ? -one : one));
    out[1] = __float_as_uint(radius * (quadrant & 2 ? -two : two));
}

KERNEL normal(u64 seed, u64 stream, u64 first, const u64* place, Four* out, i64 blocks) {
    i64 i = my_block();
    if (i >= blocks) return;
    if (place) first += *place;
    Words w = philox(seed, stream, first + i);
    Four z;
    box_muller(w.at[0], w.at[1], z.at);
    box_muller(w.at[2], w.at[3], z.at + 2);
    out[i] = z;
}
