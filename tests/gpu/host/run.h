// How compiled.py runs a kernel: put after the source, RUNNABLE once for each.
#include "harsh.h"
#include <cstddef>

// How many parameters there are, and the bytes of each.
template <class... A> static const size_t* sizes_of(void (*)(A...)) {
    static const size_t sizes[] = {sizeof...(A), sizeof(A)...};
    return sizes;
}

#define RUNNABLE(name)                                                                                             \
    static void body_##name(void** a) { emulator::call(name, a); }                                                 \
    extern "C" const size_t* sizes_##name() { return sizes_of(name); }                                             \
    extern "C" const char* run_##name(void** a, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,   \
                                      unsigned bz, int bytes, int alone, int together) {                           \
        Arithmetic arithmetic;                                                                                     \
        if (!alone) return emulator::run(body_##name, a, {gx, gy, gz}, {bx, by, bz}, 0, bytes, together);          \
        gridDim = blockDim = {1, 1, 1}, blockIdx = threadIdx = {0, 0, 0};                                          \
        body_##name(a);                                                                                            \
        return nullptr;                                                                                            \
    }
