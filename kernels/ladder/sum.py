"""The sum of x (N,), a number.

Floor: read x once and add once an element: 4 bytes and one operation. So memory decides, if anything does.

The rungs differ in the order of the additions, and floating-point addition is not associative: their results differ
in the last digits. |error| <= (additions in a row) * 2**-24 * sum |x| for each of them (Higham 2002, eq. 4.4).
"""

from functools import cache

import numpy as np
from numba import float32, prange

from ..cpu import reduce
from ..cpu.compile import kernel
from . import Ladder, expect_float32, gpu

F = np.float32
CHUNK = 16384  # elements of one partial sum: fixed, whatever the number of threads
BLOCKS, THREADS = 256, 256  # on the GPU: fixed as well, whatever the card


def check(x):
    expect_float32("sum", 1, x)


LADDER = Ladder("sum", check, bytes=lambda x: 4 * x.size, operations=lambda x: x.size)


@LADDER.rung()
def python(x):
    """A loop in Python. Each turn looks up what `+` means for these two objects and makes a new one."""
    total = 0.0
    for value in x.tolist():
        total += value
    return total


@LADDER.rung(over="python", promise=4)
def numpy(x):
    """One call for the whole array: the type is looked up once. It adds in eight columns, then pairs of blocks."""
    return x.sum()


@kernel(parallel=False, exact=True)
def in_order(x):
    total = F(0)
    for i in range(x.size):
        total += x[i]
    return total


@LADDER.rung(over="python", promise=4)
def scalar(x):
    """The loop compiled. Each addition waits for the one before it, some four cycles, and the order is a promise."""
    return in_order(x)


@kernel(parallel=False)
def in_any_order(x):
    total = F(0)
    for i in range(x.size):
        total += x[i]
    return total


@LADDER.rung(over="scalar", promise=2)
def vector(x):
    """The same loop, and leave to reorder. Now it keeps dozens of sums, 4 to 16 in a register, and none waits."""
    return in_any_order(x)


@kernel
def by_threads(x):
    total = F(0)
    for i in prange(x.size):
        total += x[i]
    return total


@LADDER.rung("threads", over="vector")
def careless(x):
    """Numba's own parallel sum: one part for each thread. Fast, and the last bits depend on how many there are."""
    return by_threads(x)


@kernel
def by_chunks(x, partial):
    for chunk in prange(partial.size):
        part = x[chunk * CHUNK : (chunk + 1) * CHUNK]
        total = F(0)
        for i in range(part.size):
            total += part[i]
        partial[chunk] = total


@LADDER.rung("threads", over="vector")
def parallel(x):
    """Threads on chunks of a fixed size, whose sums are added in order: the same bits on any number of threads."""
    partial = np.empty(-(-x.size // CHUNK), F)
    by_chunks(x, partial)
    return partial.sum()


@LADDER.rung("threads", over="vector")
def engine(x):
    """What minigen runs: fixed chunks too, no threads for short arrays, partial sums added in float64."""
    return F(reduce.sum_all(x))


# ----------------------------------------------------------------------------------------------------------
# The GPU, through Numba: a kernel is the program of one thread, and thousands run it.


@cache
def on_numba():
    """The two kernels, and how many blocks and threads: few in the simulator, where each is a thread of Python."""
    global cuda  # where the simulator looks for it
    cuda, simulated = gpu.numba_cuda()
    blocks, threads = (2, 16) if simulated else (BLOCKS, THREADS)

    @cuda.jit
    def atomic(x, total):
        i = cuda.grid(1)
        if i < x.size:
            cuda.atomic.add(total, 0, x[i])

    @cuda.jit
    def tree(x, partial):
        shared = cuda.shared.array(threads, float32)
        thread, total = cuda.threadIdx.x, F(0)
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):  # neighbouring threads read neighbouring numbers
            total += x[i]
        shared[thread] = total
        cuda.syncthreads()
        half = threads // 2
        while half > 0:  # 256 sums become 128, 64, ..., 1
            if thread < half:
                shared[thread] += shared[thread + half]
            cuda.syncthreads()
            half //= 2
        if thread == 0:
            partial[cuda.blockIdx.x] = shared[0]

    return atomic, tree, blocks, threads


@LADDER.rung("numba.cuda")
def cuda_atomic(x):
    """One thread an element, all adding to one number. Only one can at a time: a queue of N, in any order."""
    atomic, _, _, threads = on_numba()
    total = np.zeros(1, F)
    if x.size:
        atomic[-(-x.size // threads), threads](x, total)
    return total[0]


@LADDER.rung("numba.cuda", over="cuda_atomic")
def cuda_tree(x):
    """Each thread sums a column, each block its threads' sums as a tree in shared memory: log2(256) = 8 steps."""
    _, tree, blocks, threads = on_numba()
    partial = np.empty(blocks, F)
    tree[blocks, threads](x, partial)
    return partial.sum()


# ----------------------------------------------------------------------------------------------------------
# The GPU, in CUDA C++.

SOURCE = r"""
// The sum of x over all threads of a block; right in thread 0. Within a warp, 32 threads in step, a number goes from
// register to register ("shuffle"), with neither shared memory nor barrier. Then the first warp adds the warps' sums.
__device__ float block_sum(float total)
{
    __shared__ float warps[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int step = 16; step > 0; step /= 2)
        total += __shfl_down_sync(0xffffffff, total, step);
    if (lane == 0)
        warps[warp] = total;
    __syncthreads();
    if (warp == 0) {
        total = lane < blockDim.x / 32 ? warps[lane] : 0.0f;
        for (int step = 16; step > 0; step /= 2)
            total += __shfl_down_sync(0xffffffff, total, step);
    }
    return total;
}

// partial[block] is the sum of the block's share of x, which begins at a multiple of 16 bytes. A load of four numbers
// is one instruction where four loads are four; 512 bytes a warp, side by side.
extern "C" __global__ void block_sums(const float* x, float* partial, long long n)
{
    const float4* fours = reinterpret_cast<const float4*>(x);
    long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x, threads = gridDim.x * (long long)blockDim.x;
    float total = 0.0f;
    for (long long i = thread; i < n / 4; i += threads) {
        float4 v = fours[i];
        total += (v.x + v.y) + (v.z + v.w);
    }
    if (thread < n % 4)
        total += x[n / 4 * 4 + thread];
    total = block_sum(total);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = total;
}
"""


@LADDER.rung("cuda", over="cuda_tree")
def cuda_cpp(x):
    """16-byte loads, shuffles in place of most of the tree, and a second launch for the blocks' sums."""
    cupy, block_sums = gpu.function(SOURCE, "block_sums")
    x = gpu.aligned(x)
    partial, total = cupy.empty(BLOCKS, F), cupy.empty(1, F)
    block_sums((BLOCKS,), (THREADS,), (x, partial, np.int64(x.size)))
    block_sums((1,), (THREADS,), (partial, total, np.int64(BLOCKS)))
    return total[0]
