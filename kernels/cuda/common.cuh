// What every kernel shares: the types of numbers in memory, 16-byte accesses, and sums over warps and blocks.
//
// T is the type in memory (float, float16 or bfloat16), as TYPE_T says, W and Y a second and a third one; arithmetic is
// in float. A thread moves PACK numbers at a time, 16 bytes, where the address allows it and the array goes on so far;
// otherwise one at a time. `load` and `store` see to that, so kernels are written for packs alone, and the tail of an
// array is nothing special.
//
// The 16-bit types are converted here rather than by cuda_fp16.h: then a kernel needs no header and no CUDA toolkit.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define INLINE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define WIDE_KERNEL extern "C" __global__ __launch_bounds__(1024, 1) void  // its blocks may have so many threads

// Shared memory of as many bytes as the launch says (shared=), at a multiple of 16.
#ifdef __CUDA_ARCH__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) char name[]
#else
#define DYNAMIC_SHARED(name) char* name = emulator::dynamic_shared()
#endif

struct float16 { unsigned short bits; };
struct bfloat16 { unsigned short bits; };  // the upper half of a float

#ifdef __CUDA_ARCH__
INLINE float widen(const float16& x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

INLINE void narrow(float x, float16& y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
#else  // the tests' emulator
INLINE float widen(const float16& x) { return emulator_from_half(x.bits); }
INLINE void narrow(float x, float16& y) { y.bits = emulator_to_half(x); }
#endif

INLINE float widen(const float& x) { return x; }
INLINE float widen(const bfloat16& x) { return __uint_as_float((u32)x.bits << 16); }

INLINE void narrow(float x, float& y) { y = x; }

INLINE void narrow(float x, bfloat16& y) {  // to the nearest, a tie to the even one
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    u32 bits = __float_as_uint(x);
    y.bits = x != x ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
#endif
}

#ifndef INFINITY
#define INFINITY __int_as_float(0x7F800000)
#define NAN __int_as_float(0x7FFFFFFF)
#endif

typedef TYPE_T T;
#ifdef TYPE_W
typedef TYPE_W W;
#endif
#ifdef TYPE_Y
typedef TYPE_Y Y;
#else
typedef T Y;
#endif

// ---- packs ----

constexpr int PACK = 16 / sizeof(T);

template <class S, int N = PACK> struct alignas(sizeof(S) * N < 16 ? sizeof(S) * N : 16) Pack { S at[N]; };

template <int N = PACK, class S> INLINE bool whole(const S* x, i64 first, i64 n) {
    return first + N <= n && (u64)(x + first) % alignof(Pack<S, N>) == 0;
}

// *to = pack, in global memory, in one instruction for each 16 bytes (or 8): of an assignment the compiler sometimes
// makes one for each number.
template <class P> INLINE void write_pack(P* to, const P& pack) {
#ifdef __CUDA_ARCH__
    u64 place = (u64)__cvta_generic_to_global(to);
    const u32* word = (const u32*)&pack;
    if constexpr (sizeof(P) % 16 == 0)
        #pragma unroll
        for (int i = 0; i < sizeof(P) / 4; i += 4)
            asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(place + 4 * i), "r"(word[i]),
                         "r"(word[i + 1]), "r"(word[i + 2]), "r"(word[i + 3])
                         : "memory");
    else if constexpr (sizeof(P) == 8)
        asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(place), "r"(word[0]), "r"(word[1]) : "memory");
    else *to = pack;
#else
    *to = pack;
#endif
}

// v = x[first : first + N]; past the end, n, it is `rest`
template <class S, int N> INLINE void load(float (&v)[N], const S* x, i64 first, i64 n, float rest = 0) {
    if (whole<N>(x, first, n)) {
        Pack<S, N> pack = *(const Pack<S, N>*)(x + first);
        #pragma unroll
        for (int k = 0; k < N; k++) v[k] = widen(pack.at[k]);
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++) v[k] = first + k < n ? widen(x[first + k]) : rest;
    }
}

// x[first : first + N] = v, up to the end, n
template <class S, int N> INLINE void store(S* x, i64 first, i64 n, const float (&v)[N]) {
    if (whole<N>(x, first, n)) {
        Pack<S, N> pack;
        #pragma unroll
        for (int k = 0; k < N; k++) narrow(v[k], pack.at[k]);
        write_pack((Pack<S, N>*)(x + first), pack);
    } else {
        #pragma unroll
        for (int k = 0; k < N; k++)
            if (first + k < n) narrow(v[k], x[first + k]);
    }
}

// a / b for a, b >= 0. One of 64 bits takes a hundred instructions, and is seldom needed.
INLINE i64 quotient(i64 a, i64 b) { return (a | b) >> 32 ? a / b : (i64)((u32)a / (u32)b); }

// The first number of this thread's pack, where each thread of the grid has one.
INLINE i64 my_pack() { return ((i64)blockIdx.x * blockDim.x + threadIdx.x) * PACK; }

// ---- sums over the 32 threads of a warp, and over the warps of a block (at most 32), in an order that never changes;
// every thread of the warp or block calls them, and every thread gets the sum ----

constexpr u32 ALL = 0xFFFFFFFF;

INLINE int lane() { return threadIdx.x % 32; }
INLINE int warp() { return threadIdx.x / 32; }
INLINE int warps() { return blockDim.x / 32; }

template <class N> INLINE N warp_sum(N x) {
    #pragma unroll
    for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(ALL, x, other);
    return x;
}

INLINE float warp_max(float x) {  // passes over NaN, which a sum that follows will show
    #pragma unroll
    for (int other = 16; other > 0; other /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, other));
    return x;
}

template <class N> INLINE N block_sum(N x) {
    __shared__ N part[32];
    x = warp_sum(x);
    if (lane() == 0) part[warp()] = x;
    __syncthreads();
    x = warp_sum(lane() < warps() ? part[lane()] : N(0));
    __syncthreads();  // before the next call writes `part`
    return x;
}

INLINE float block_max(float x) {
    __shared__ float part[32];
    x = warp_max(x);
    if (lane() == 0) part[warp()] = x;
    __syncthreads();
    x = warp_max(part[lane() < warps() ? lane() : 0]);
    __syncthreads();
    return x;
}

// ---- a pack of floats of each lane of a warp, in shared memory from a multiple of 16 bytes on. Number k of lane
// l stands at spot(l, k): neither lanes that write 16 bytes each nor lanes that read one by one meet a bank twice ----

INLINE int spot(int lane, int k) { return (k / 4 * 32 + (lane + k / 4 * 4) % 32) * 4 + k % 4; }

template <bool ADD = false, int N> INLINE void put_pack(float* packs, const float (&v)[N]) {
    #pragma unroll
    for (int k = 0; k < N; k += 4) {
        Pack<float, 4>* to = (Pack<float, 4>*)(packs + spot(lane(), k));
        Pack<float, 4> quad = {};
        if (ADD) quad = *to;
        #pragma unroll
        for (int e = 0; e < 4; e++) quad.at[e] += v[k + e];
        *to = quad;
    }
}
