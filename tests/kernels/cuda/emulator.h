// A CUDA block on one CPU thread: what a .cu file needs to be compiled by g++ and run as it would run on a card.
//
// Each CUDA thread is a fiber: a stack of its own (makecontext), between which setjmp and longjmp switch, since
// swapcontext asks the system each time. It runs until a barrier or a shuffle, where it waits for its block or its
// warp; blocks run one after another, but for those of a launch that wants them together: they take turns, each until
// its threads wait for what another block will write. What a card leaves to chance is made visible:
//
//   the order of threads   is a choice, `order`: a kernel that lacks a barrier gives other numbers in another order
//   shared memory          is filled with NaN before each block: nobody may count on what stood there
//   addresses              that are not aligned to the size of an access are an error
//   barriers               that only some threads of a block reach, and shuffles that only some lanes of a warp reach,
//                          are an error
//   blocks                 that wait for one another for ever, or wait in a launch whose blocks are not together, too
//   copies that run on     (copy_async) leave NaN in shared memory until their thread waits for them
//
// With -DCOUNTED, -fsanitize=thread and traffic.cpp it also counts what each access asks of memory.

#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <link.h>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local  // nothing else is: so it lies together, what templates have too

// traffic.cpp, which counts what kernels ask of memory, is told who runs where, and when the lanes of a warp have met.
// UNSEEN: accesses in this function are not a kernel's; it says itself what a card would see of them.
#define UNSEEN __attribute__((no_sanitize("thread")))
#ifdef COUNTED
extern "C" {
void traffic_shared(const void* begin, size_t bytes);
void traffic_thread(int thread, const void* stack, size_t bytes);
void traffic_meet();
void traffic_sees(const void* at, int size, int written);
}
#else
static inline void traffic_shared(const void*, size_t) {}
static inline void traffic_thread(int, const void*, size_t) {}
static inline void traffic_meet() {}
static inline void traffic_sees(const void*, int, int) {}
#endif

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

enum State { READY, AT_BARRIER, IN_SHUFFLE, WATCHING, DONE };  // WATCHING: for what another block will write

struct Copy {
    void* to;
    const void* from;  // null: zeros
    int group;
};

constexpr int STACK = 65536;

struct Fiber {
    std::unique_ptr<char[]> stack;  // null until the fiber first runs
    jmp_buf place_in_code;
    dim3 place;
    State state;
    int shuffles;  // how many this thread has done: neighbours write slots in turn
    uint64_t slot[2];
    std::vector<Copy> copies;  // under way
    int groups;                // of copies, committed
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current;
static const char* fault;
static bool moved;  // whether a thread came further than to watching again
static std::vector<char> dynamic;  // shared memory, as much as the launch says, for each block that is running
static char* own_dynamic;
static char* fixed;  // shared memory of the kernels' own: this library's thread-local variables
static size_t fixed_size;
static thread_local volatile char anchor;  // so that there is at least one
static void (*body)(void**);
static void** body_arguments;

// of emulator_wgmma.h
static void begin_products(int first, int threads);
static void copy_has_come(const void* to);

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
    bool fresh = !fiber.stack;
    if (fresh) fiber.stack.reset(new char[STACK]);
    traffic_thread(i, fiber.stack.get(), STACK);
    if (!fresh) _longjmp(fiber.place_in_code, 1);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

static char* dynamic_shared() { return own_dynamic; }

static int find_fixed(dl_phdr_info* library, size_t, void*) {
    bool own = false;
    size_t size = 0;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr)& part = library->dlpi_phdr[i];
        if (part.p_type == PT_TLS) size = part.p_memsz;
        if (part.p_type == PT_LOAD) own |= (uintptr_t)&fault - library->dlpi_addr - part.p_vaddr < part.p_memsz;
    }
    if (own) fixed = (char*)library->dlpi_tls_data, fixed_size = size;
    return own;
}

// Runs the lanes of a warp until each is at the block's barrier, watching or done.
static void run_warp(int first, int last, bool backwards) {
    while (!fault) {
        int lanes = last - first, shuffling = 0, resting = 0;
        for (int i = 0; i < lanes; i++) {
            int lane = backwards ? last - 1 - i : first + i;
            if (fibers[lane].state != READY || fault) continue;
            resume(lane);
            moved |= fibers[lane].state != WATCHING;
        }
        traffic_meet();
        for (int lane = first; lane < last; lane++) (fibers[lane].state == IN_SHUFFLE ? shuffling : resting)++;
        if (shuffling == 0 || fault) return;
        if (resting > 0 || lanes < 32) {
            fault = "a shuffle that not all 32 lanes of a warp reach";
            return;
        }
        for (int lane = first; lane < last; lane++) fibers[lane].state = READY;
    }
}

// Puts a block at its start; its threads are the fibers from `first` on.
static void begin_block(int first, int threads) {
    for (int i = 0; i < threads; i++) {
        Fiber& fiber = fibers[first + i];
        fiber.place = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        fiber.state = READY, fiber.shuffles = fiber.groups = 0;
        fiber.copies.clear();
    }
    begin_products(first, threads);
}

// Runs a block until it is done, or all that can go on is watching. Returns whether it is done.
static bool run_block(int first, int threads, bool backwards) {
    int warps = (threads + 31) / 32, last = first + threads;
    while (!fault) {
        for (int i = 0; i < warps; i++) {
            int begin = first + 32 * (backwards ? warps - 1 - i : i);
            run_warp(begin, last < begin + 32 ? last : begin + 32, backwards);
        }
        int waiting = 0, watching = 0, done = 0;
        for (int i = first; i < last; i++) {
            State state = fibers[i].state;
            (state == DONE ? done : state == WATCHING ? watching : waiting)++;
        }
        if (waiting == 0 && watching == 0) return true;
        if (watching > 0) return false;
#ifndef LEAVERS_PASS_BARRIERS  // as threads that have returned do on a card, whatever CUDA says of it
        if (done > 0 && !fault) fault = "a __syncthreads that not all threads of a block reach";
#endif
        for (int i = first; i < last; i++) fibers[i].state = READY;
    }
    return true;
}

static dim3 place_of(int block, bool backwards) {
    int blocks = gridDim.x * gridDim.y * gridDim.z, i = backwards ? blocks - 1 - block : block;
    return {i % gridDim.x, i / gridDim.x % gridDim.y, i / (gridDim.x * gridDim.y)};
}

static void run_in_turn(int blocks, int threads, int bytes, bool backwards) {
    if ((int)fibers.size() < threads) fibers.resize(threads);
    for (int i = 0; i < blocks && !fault; i++) {
        memset(fixed, 0xFF, fixed_size);
        dynamic.assign(bytes, -1), own_dynamic = dynamic.data();
        traffic_shared(own_dynamic, bytes);
        blockIdx = place_of(i, backwards);
        begin_block(0, threads);
        if (!run_block(0, threads, backwards)) fault = "a block that waits for others, which do not run with it";
    }
}

static void run_together(int blocks, int threads, int bytes, bool backwards) {
    int apart = (threads + 31) / 32 * 32, left = blocks;
    if ((int)fibers.size() < blocks * apart) fibers.resize(blocks * apart);
    bytes = (bytes + 15) / 16 * 16;
    dynamic.assign(blocks * bytes, -1);
    traffic_shared(dynamic.data(), dynamic.size());
    std::vector<std::vector<char>> shared(blocks, std::vector<char>(fixed_size, -1));  // of blocks that are not running
    std::vector<char> through(blocks);
    for (int i = 0; i < blocks; i++) begin_block(i * apart, threads);
    while (left > 0 && !fault) {
        moved = false;
        for (int i = 0; i < blocks && !fault; i++) {
            if (through[i]) continue;
            memcpy(fixed, shared[i].data(), fixed_size);
            own_dynamic = dynamic.data() + i * bytes, blockIdx = place_of(i, backwards);
            for (int k = 0; k < threads; k++) {
                Fiber& fiber = fibers[i * apart + k];
                if (fiber.state == WATCHING) fiber.state = READY;
            }
            if (run_block(i * apart, threads, backwards)) through[i] = 1, left--;
            memcpy(shared[i].data(), fixed, fixed_size);
        }
        if (!moved && left > 0 && !fault) fault = "blocks that wait for one another for ever";
    }
    if (fibers.size() > 4096) fibers.resize(4096);
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_const_t<A>*)arguments[I]...);
}

template <class... A> static void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

// One letter a parameter: p a pointer, f a float, q a long long (or u64), ? anything else; a struct is so many q.
template <class A> static std::string kind_of() {
    if (std::is_class_v<A>) return std::string(sizeof(A) / 8, 'q');
    if (std::is_pointer_v<A>) return "p";
    if (std::is_same_v<A, float>) return "f";
    return std::is_integral_v<A> && sizeof(A) == 8 ? "q" : "?";
}

template <class... A> static const char* kinds(void (*)(A...)) {
    static const std::string letters = (kind_of<A>() + ... + "");
    return letters.c_str();
}

// g++ makes a trap, or an illegal instruction, of what a card would stumble over.
static void on_fault(int) {
    fault = "an address that is not aligned to what is read or written there, or an index outside its array";
    _longjmp(scheduler, 1);
}

static const char* run(void (*kernel)(void**), void** arguments, dim3 grid, dim3 block, int backwards, int bytes,
                       int together) {
    int threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
    anchor = 0;  // this thread's variables are made when one is first used
    dl_iterate_phdr(find_fixed, nullptr);
    traffic_shared(fixed, fixed_size);
    body = kernel, body_arguments = arguments, fault = nullptr, gridDim = grid, blockDim = block;
    struct sigaction action = {}, before[2];
    action.sa_handler = on_fault;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGILL, &action, &before[0]);
    sigaction(SIGTRAP, &action, &before[1]);
    (together ? run_together : run_in_turn)(blocks, threads, bytes, backwards);
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
                                               unsigned by, unsigned bz, int backwards, int bytes,              \
                                               int together) {                                                  \
        return emulator::run(emulator_body_##name, a, {gx, gy, gz}, {bx, by, bz}, backwards, bytes, together);  \
    }

// ---- CUDA's own functions ----

static inline void __threadfence() {}  // every thread sees what another has written at once
static inline void emulator_watch() { emulator::wait(emulator::WATCHING); }
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

// What mma.cuh makes its asynchronous copies of.
template <class C> UNSEEN static void emulator_copy_async(C* to, const C* from, bool inside) {
    using namespace emulator;
    if (inside) traffic_sees(from, sizeof(C), 0);
    traffic_sees(to, sizeof(C), 1);
    C nothing;
    memset(&nothing, 0xFF, sizeof nothing);
    *to = nothing;  // by assignment, which sees whether the addresses are aligned
    if (inside) nothing = *from;
    fibers[current].copies.push_back({to, inside ? from : nullptr, fibers[current].groups});
}
static inline void emulator_commit() { emulator::fibers[emulator::current].groups++; }
UNSEEN static inline void emulator_wait(int newest) {
    emulator::Fiber& own = emulator::fibers[emulator::current];
    size_t done = 0;
    for (; done < own.copies.size() && own.copies[done].group < own.groups - newest; done++) {
        emulator::Copy& copy = own.copies[done];
        copy.from ? (void)memcpy(copy.to, copy.from, 16) : (void)memset(copy.to, 0, 16);
        emulator::copy_has_come(copy.to);
    }
    own.copies.erase(own.copies.begin(), own.copies.begin() + done);
}

// ldmatrix: four matrices of 8 rows; lane 8i + j points at row j of matrix i, and `row` tells where it begins.
template <class C> UNSEEN static void emulator_ldmatrix(unsigned (&r)[4], const C* row, bool transposed) {
    traffic_sees(row, sizeof(C), 0);
    C own = *row;  // by assignment, which sees whether the address is aligned
    (void)own;
    int lane = emulator::current % 32, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        if (!transposed) {
            r[i] = ((const unsigned*)emulator_shuffle((uint64_t)row, 8 * i + g))[t];
            continue;
        }
        const unsigned short* upper = (const unsigned short*)emulator_shuffle((uint64_t)row, 8 * i + 2 * t);
        const unsigned short* lower = (const unsigned short*)emulator_shuffle((uint64_t)row, 8 * i + 2 * t + 1);
        r[i] = upper[g] | (unsigned)lower[g] << 16;
    }
}

template <class N> UNSEEN static N emulator_add(N* p, N x) {
    traffic_sees(p, sizeof(N), 1);
    return *p += x, *p - x;
}
static inline int atomicAdd(int* p, int x) { return emulator_add(p, x); }
static inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long x) { return emulator_add(p, x); }
static inline unsigned atomicAdd(unsigned* p, unsigned x) { return emulator_add(p, x); }

static inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static inline int __float_as_int(float x) { return (int)__float_as_uint(x); }
static inline float __int_as_float(int x) { return __uint_as_float((unsigned)x); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
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

#include "emulator_wgmma.h"
