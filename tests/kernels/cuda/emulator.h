// A CUDA block on one CPU thread: what a .cu file needs to be compiled by g++ and run as it would run on a card.
//
// Each CUDA thread is a fiber: a stack of its own (makecontext), between which setjmp and longjmp switch, since
// swapcontext asks the system each time. It runs until a barrier or a shuffle, where it waits for its block or its
// warp; blocks run one after another. What a card leaves to chance is made visible:
//
//   the order of threads   is a choice, `order`: a kernel that lacks a barrier gives other numbers in another order
//   shared memory          is filled with NaN before each block: nobody may count on what stood there
//   addresses              that are not aligned to the size of an access are an error
//   barriers               that only some threads of a block reach, and shuffles that only some lanes of a warp reach,
//                          are an error

#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared")))

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

extern char __start_shared[] __attribute__((weak)), __stop_shared[] __attribute__((weak));

namespace emulator {

enum State { READY, AT_BARRIER, IN_SHUFFLE, DONE };

struct Fiber {
    std::vector<char> stack;  // empty until the fiber first runs
    jmp_buf place_in_code;
    dim3 place;
    State state;
    int shuffles;  // how many this thread has done: neighbours write slots in turn
    uint64_t slot[2];
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current;
static const char* fault;
static void (*body)(void**);
static void** body_arguments;

static void wait(State why) {
    Fiber& fiber = fibers[current];
    fiber.state = why;
    if (_setjmp(fiber.place_in_code) == 0) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {  // a kernel, and when its block is through, the next
        body(body_arguments);
        wait(DONE);
    }
}

static void resume(int i) {
    Fiber& fiber = fibers[i];
    current = i;
    threadIdx = fiber.place;
    if (_setjmp(scheduler)) return;
    if (!fiber.stack.empty()) _longjmp(fiber.place_in_code, 1);
    fiber.stack.resize(65536);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = fiber.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

// Runs the lanes of a warp until each is at the block's barrier or done.
static void run_warp(int first, int last, bool backwards) {
    while (!fault) {
        int lanes = last - first, shuffling = 0, resting = 0;
        for (int i = 0; i < lanes; i++) {
            int lane = backwards ? last - 1 - i : first + i;
            if (fibers[lane].state == READY && !fault) resume(lane);
        }
        for (int lane = first; lane < last; lane++) (fibers[lane].state == IN_SHUFFLE ? shuffling : resting)++;
        if (shuffling == 0 || fault) return;
        if (resting > 0 || lanes < 32) {
            fault = "a shuffle that not all 32 lanes of a warp reach";
            return;
        }
        for (int lane = first; lane < last; lane++) fibers[lane].state = READY;
    }
}

static void run_block(int threads, bool backwards) {
    if (__start_shared) memset(__start_shared, 0xFF, __stop_shared - __start_shared);
    for (int i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.place = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        fiber.state = READY, fiber.shuffles = 0;
    }
    int warps = (threads + 31) / 32;
    while (!fault) {
        for (int i = 0; i < warps; i++) {
            int warp = backwards ? warps - 1 - i : i;
            run_warp(32 * warp, threads < 32 * warp + 32 ? threads : 32 * warp + 32, backwards);
        }
        int waiting = 0, done = 0;
        for (int i = 0; i < threads; i++) (fibers[i].state == DONE ? done : waiting)++;
        if (waiting == 0) return;
        if (done > 0 && !fault) fault = "a __syncthreads that not all threads of a block reach";
        for (int i = 0; i < threads; i++) fibers[i].state = READY;
    }
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_const_t<A>*)arguments[I]...);
}

template <class... A> static void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

// One letter a parameter: p a pointer, f a float, q a long long (or u64), ? anything else.
template <class A> static constexpr char kind_of() {
    if (std::is_pointer_v<A>) return 'p';
    if (std::is_same_v<A, float>) return 'f';
    return std::is_integral_v<A> && sizeof(A) == 8 ? 'q' : '?';
}

template <class... A> static const char* kinds(void (*)(A...)) {
    static const char letters[] = {kind_of<A>()..., 0};
    return letters;
}

// g++ makes a trap, or an illegal instruction, of what a card would stumble over.
static void on_fault(int) {
    fault = "an address that is not aligned to what is read or written there, or an index outside its array";
    _longjmp(scheduler, 1);
}

static const char* run(void (*kernel)(void**), void** arguments, dim3 grid, dim3 block, int backwards) {
    int threads = block.x * block.y * block.z;
    body = kernel, body_arguments = arguments, fault = nullptr, gridDim = grid, blockDim = block;
    if ((int)fibers.size() < threads) fibers.resize(threads);
    struct sigaction action = {}, before[2];
    action.sa_handler = on_fault;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGILL, &action, &before[0]);
    sigaction(SIGTRAP, &action, &before[1]);
    for (unsigned z = 0; z < grid.z && !fault; z++)
        for (unsigned y = 0; y < grid.y && !fault; y++)
            for (unsigned x = 0; x < grid.x && !fault; x++) {
                blockIdx = backwards ? dim3{grid.x - 1 - x, grid.y - 1 - y, grid.z - 1 - z} : dim3{x, y, z};
                run_block(threads, backwards);
            }
    sigaction(SIGILL, &before[0], nullptr);
    sigaction(SIGTRAP, &before[1], nullptr);
    if (fault) fibers.clear();  // they are stuck in the kernel
    return fault;
}

}  // namespace emulator

// Put after the source, once for each kernel.
#define EMULATED(name)                                                                                          \
    static void emulator_body_##name(void** a) { emulator::call(name, a); }                                     \
    extern "C" const char* emulator_kinds_##name() { return emulator::kinds(name); }                            \
    extern "C" const char* emulator_run_##name(void** a, unsigned gx, unsigned gy, unsigned gz, unsigned bx,    \
                                               unsigned by, unsigned bz, int backwards) {                       \
        return emulator::run(emulator_body_##name, a, {gx, gy, gz}, {bx, by, bz}, backwards);                   \
    }

// ---- CUDA's own functions ----

static inline void __syncthreads() { emulator::wait(emulator::AT_BARRIER); }

template <class N> static N emulator_shuffle(N x, int from) {
    using namespace emulator;
    Fiber& own = fibers[current];
    int turn = own.shuffles++ % 2;
    memcpy(&own.slot[turn], &x, sizeof x);
    wait(IN_SHUFFLE);  // until all lanes have written; the one after next writes this slot again, behind the next wait
    memcpy(&x, &fibers[current / 32 * 32 + from].slot[turn], sizeof x);
    return x;
}

template <class N> static N __shfl_xor_sync(unsigned, N x, int mask) {
    return emulator_shuffle(x, emulator::current % 32 ^ mask);
}
template <class N> static N __shfl_sync(unsigned, N x, int from) { return emulator_shuffle(x, from); }
template <class N> static N __shfl_down_sync(unsigned, N x, int by) {
    int lane = emulator::current % 32;
    return emulator_shuffle(x, lane + by < 32 ? lane + by : lane);
}
template <class N> static N __shfl_up_sync(unsigned, N x, int by) {
    int lane = emulator::current % 32;
    return emulator_shuffle(x, lane >= by ? lane - by : lane);
}
static inline void __syncwarp(unsigned = 0) { emulator_shuffle(0, 0); }

static inline int atomicAdd(int* p, int x) { return *p += x, *p - x; }
static inline unsigned atomicAdd(unsigned* p, unsigned x) { return *p += x, *p - x; }

static inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static inline int __float_as_int(float x) { return (int)__float_as_uint(x); }
static inline float __int_as_float(int x) { return __uint_as_float((unsigned)x); }
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }

template <class N> static N min(N x, N y) { return y < x ? y : x; }
template <class N> static N max(N x, N y) { return x < y ? y : x; }

// ---- float16: to the nearest, a tie to the even one, as the card's conversion rounds ----

static inline float emulator_from_half(unsigned short bits) {
    unsigned exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float x = exponent == 31 ? (mantissa ? NAN : INFINITY)
              : exponent     ? std::ldexp(1.0f + mantissa / 1024.0f, (int)exponent - 15)
                             : std::ldexp((float)mantissa, -24);
    return bits >> 15 ? -x : x;
}

static inline unsigned short emulator_to_half(float x) {
    unsigned sign = __float_as_uint(x) >> 31 << 15;
    if (x != x) return 0x7FFF;
    double size = std::fabs((double)x);
    if (size >= 65520) return sign | 0x7C00;
    int exponent = -14;
    if (size >= std::ldexp(1.0, -14)) std::frexp(size, &exponent), exponent--;
    double units = std::nearbyint(std::ldexp(size, 10 - exponent));  // of the last place; 2048 goes into the exponent
    return sign | (unsigned short)(size >= std::ldexp(1.0, -14) ? (exponent + 14) * 1024 + (int)units : (int)units);
}
