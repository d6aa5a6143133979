// What CuPy's own kernels are compiled behind: the emulator, then CUDA's and CuPy's headers as g++ can take them.
#pragma once
#define __CUDACC_VER_MAJOR__ 12
#define LEAVERS_PASS_BARRIERS  // CuPy's scans return early, and cards let that pass
#define dim3 emulator_dim3     // CUDA's headers have another
#include "emulator.h"
#undef dim3

#define __host__
#define __constant__ static
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#undef __device__
#undef __global__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local  // as in emulator.h
#define warpSize 32

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline long long __double_as_longlong(double x) { long long y; memcpy(&y, &x, 8); return y; }
static inline double __longlong_as_double(long long x) { double y; memcpy(&y, &x, 8); return y; }
static inline float rsqrt(float x) { return 1 / std::sqrt(x); }
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
static inline double exp10(double x, int) { return std::pow(10, x); }

// One thread runs at a time, so an atomic is what it says.
#define ATOMIC(name, N, value)             \
    static inline N name(N* p, N x) {      \
        N was = *p;                        \
        *p = value;                        \
        return was;                        \
    }
#define ATOMICS(N)                            \
    ATOMIC(atomicMax, N, x > was ? x : was)   \
    ATOMIC(atomicMin, N, x < was ? x : was)   \
    ATOMIC(atomicAnd, N, was & x)             \
    ATOMIC(atomicOr, N, was | x)              \
    ATOMIC(atomicXor, N, was ^ x)
ATOMICS(int)
ATOMICS(unsigned)
ATOMICS(long long)
ATOMICS(unsigned long long)
ATOMIC(atomicAdd, float, was + x)
ATOMIC(atomicAdd, double, was + x)
template <class N> static inline N atomicExch(N* p, N x) { N was = *p; *p = x; return was; }
template <class N> static inline N atomicCAS(N* p, N from, N to) {
    N was = *p;
    if (was == from) *p = to;
    return was;
}

#include <cupy/complex.cuh>
#include <cupy/carray.cuh>
#include <cupy/atomics.cuh>
#include <cupy/math_constants.h>
#include <cupy/float16.cuh>
#include <cupy/bfloat16.cuh>
