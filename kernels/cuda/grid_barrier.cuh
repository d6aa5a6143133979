// A barrier for blocks of a launch, which run at the same time: it must be launched with together=True.
//
// `arrived`, in global memory, counts from 0: at the k-th barrier each of the blocks adds one and waits until it is k
// times their number. What a block wrote before the barrier every block sees after it: the block's barrier, the fence
// and the sum publish it, the acquiring load and the second barrier take it over. The emulator of the tests shows
// whether the blocks meet, and in any order of theirs; the ordering of memory it cannot show. Not yet measured.

// *p, and with it all that was written before another block put it there.
INLINE u32 look(const u32* p) {
#ifdef __CUDA_ARCH__
    u32 x;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
    return x;
#else
    return *p;
#endif
}

INLINE void let_others_run() {
#ifndef __CUDA_ARCH__
    emulator_watch();  // on a card they do
#endif
}

INLINE void grid_barrier(u32* arrived, u32 wanted) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (look(arrived) < wanted) let_others_run();
    }
    __syncthreads();
}
