// Arithmetic as unlike the host's as a card's may be, under -DHARSH: denormals are zero, and exp, log, tanh and erf are
// off by up to two units in the last place (CUDA C++ Programming Guide, mathematical functions). g++ fuses products
// and sums itself. Included where the functions of the C library have been declared.
#pragma once

#ifdef HARSH
#include <xmmintrin.h>

struct Arithmetic {  // of a launch
    unsigned before;
    Arithmetic() : before(_mm_getcsr()) { _mm_setcsr(before | 0x8040); }  // flush results, and read denormals as zero
    ~Arithmetic() { _mm_setcsr(before); }
};

static inline float shaken(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    unsigned exponent = bits >> 23 & 255;
    if (exponent < 4 || exponent > 252 || (bits & 0x7FFFFF) == 0) return x;  // powers of two, 1 above all, are exact
    static const int by[4] = {-1, 1, 0, 2};
    bits += by[bits * 2654435761u >> 30];
    memcpy(&x, &bits, 4);
    return x;
}

#define expf(x) shaken((expf)(x))
#define exp2f(x) shaken((exp2f)(x))
#define expm1f(x) shaken((expm1f)(x))
#define logf(x) shaken((logf)(x))
#define log2f(x) shaken((log2f)(x))
#define log1pf(x) shaken((log1pf)(x))
#define tanhf(x) shaken((tanhf)(x))
#define erff(x) shaken((erff)(x))
#else
struct Arithmetic {
    Arithmetic() {}
};
#endif
