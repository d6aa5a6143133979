"""Softmax over rows: x (N, D) -> e**x / (the row's sum of e**x), D at least 1.

Floor: read x, write y: 8 bytes an element. About 20 operations an element, most of them for the exponential.

Every rung subtracts the row's largest element first, which changes nothing in exact arithmetic: without that, e**89 is
inf in float32, and inf / inf is NaN.
"""

import math
from functools import cache

import numpy as np
from numba import float32, prange

from ..cpu import softmax as engine_kernels
from ..cpu.compile import inline_sums, kernel
from ..cpu.vector_math import exp, largest
from . import Ladder, expect_float32, gpu

F = np.float32
OPERATIONS = 20  # an element: a comparison, a subtraction, 16 for exp (eight of them fused in pairs), a sum, a product
TASK = 8  # rows of one task: fixed, whatever the number of threads
THREADS = 256


def check(x):
    expect_float32("softmax", 2, x)
    if x.shape[1] == 0:
        raise ValueError(f"softmax: a row has at least one element, got shape {x.shape}")


LADDER = Ladder("softmax", check, bytes=lambda x: 8 * x.size, operations=lambda x: OPERATIONS * x.size)


@LADDER.rung()
def python(x):
    """Lists and math.exp."""
    rows = []
    for row in x.tolist():
        top = max(row)
        powers = [math.exp(value - top) for value in row]
        total = sum(powers)
        rows.append([power / total for power in powers])
    return np.array(rows, F).reshape(x.shape)


@LADDER.rung(over="python", promise=4)
def numpy(x):
    """Five calls, each fast. But each goes over the whole array, and writes it out for the next one to read."""
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@kernel(parallel=False, exact=True)
def with_library_exp(x, y):
    for i in range(x.shape[0]):
        a, b = x[i], y[i]
        top, total = a[0], F(0)
        for j in range(a.size):
            top = max(top, a[j])
        for j in range(a.size):
            b[j] = math.exp(a[j] - top)
            total += b[j]
        for j in range(a.size):
            b[j] = b[j] / total


@LADDER.rung(over="python", promise=4)
def scalar(x):
    """A row goes through all its steps while it is in the first cache. But exp is a call of a library for each
    element, which nothing can widen, and the sum keeps its order.
    """
    y = np.empty_like(x)
    with_library_exp(x, y)
    return y


@inline_sums
def row(a, b):
    top, total = largest(a), F(0)
    for j in range(a.size):
        e = exp(a[j] - top)
        b[j] = e
        total += e
    scale = F(1) / total
    for j in range(a.size):
        b[j] *= scale


@kernel(parallel=False)
def with_polynomial(x, y):
    for i in range(x.shape[0]):
        row(x[i], y[i])


@LADDER.rung(over="scalar", promise=2)
def vector(x):
    """exp as straight arithmetic, a polynomial and a shift, and sums in any order: 4 to 16 elements at once."""
    y = np.empty_like(x)
    with_polynomial(x, y)
    return y


@kernel
def in_tasks(x, y):
    n = x.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for i in range(task * TASK, min(n, (task + 1) * TASK)):
            row(x[i], y[i])


@LADDER.rung("threads", over="vector")
def parallel(x):
    """Rows are independent, so threads may share them: no sum is cut, and the bits are those of one thread."""
    y = np.empty_like(x)
    in_tasks(x, y)
    return y


@LADDER.rung("threads", over="vector")
def engine(x):
    """What minigen runs: the same loop, with tasks that hold as many rows as make a thread worth its start."""
    return engine_kernels.softmax(x)


# ----------------------------------------------------------------------------------------------------------
# The GPU, through Numba.


@cache
def on_numba():
    global cuda  # where the simulator looks for it
    cuda, simulated = gpu.numba_cuda()
    threads = 16 if simulated else THREADS

    @cuda.jit
    def a_thread_a_row(x, y):
        i = cuda.grid(1)
        if i < x.shape[0]:
            top, total = x[i, 0], F(0)
            for j in range(x.shape[1]):
                top = max(top, x[i, j])
            for j in range(x.shape[1]):
                total += math.exp(x[i, j] - top)
            for j in range(x.shape[1]):
                y[i, j] = math.exp(x[i, j] - top) / total

    @cuda.jit
    def a_block_a_row(x, y):
        shared = cuda.shared.array(threads, float32)
        i, thread = cuda.blockIdx.x, cuda.threadIdx.x
        top = F(-math.inf)
        for j in range(thread, x.shape[1], threads):
            top = max(top, x[i, j])
        shared[thread] = top
        cuda.syncthreads()
        half = threads // 2
        while half > 0:
            if thread < half:
                shared[thread] = max(shared[thread], shared[thread + half])
            cuda.syncthreads()
            half //= 2
        top = shared[0]
        cuda.syncthreads()  # all have read it before it is written over
        total = F(0)
        for j in range(thread, x.shape[1], threads):
            total += math.exp(x[i, j] - top)
        shared[thread] = total
        cuda.syncthreads()
        half = threads // 2
        while half > 0:
            if thread < half:
                shared[thread] += shared[thread + half]
            cuda.syncthreads()
            half //= 2
        for j in range(thread, x.shape[1], threads):
            y[i, j] = math.exp(x[i, j] - top) / shared[0]

    return a_thread_a_row, a_block_a_row, threads


@LADDER.rung("numba.cuda")
def cuda_rows(x):
    """One thread a row. At each step the 32 threads of a warp read from 32 rows: 32 pieces of memory, 4 bytes each."""
    a_thread_a_row, _, threads = on_numba()
    y = np.empty_like(x)
    if len(x):
        a_thread_a_row[-(-len(x) // threads), threads](x, y)
    return y


@LADDER.rung("numba.cuda", over="cuda_rows")
def cuda_tree(x):
    """One block a row: neighbours read neighbours, and the maximum and the sum are trees in shared memory."""
    _, a_block_a_row, threads = on_numba()
    y = np.empty_like(x)
    if len(x):
        a_block_a_row[len(x), threads](x, y)
    return y


# ----------------------------------------------------------------------------------------------------------
# The GPU, in CUDA C++.

SOURCE = r"""
// One warp a row, so that no barrier is needed: `__shfl_xor_sync` exchanges registers between lanes that differ in one
// bit, and after five exchanges every lane has the maximum, or the sum, of all 32.
extern "C" __global__ void softmax_rows(const float* x, float* y, long long rows, int width)
{
    long long row = blockIdx.x * (long long)(blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= rows)
        return;  // a whole warp
    x += row * width;
    y += row * width;

    float top = __int_as_float(0xff800000);  // -inf
    for (int j = lane; j < width; j += 32)
        top = fmaxf(top, x[j]);
    for (int bit = 16; bit > 0; bit /= 2)
        top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, bit));

    float total = 0.0f;
    for (int j = lane; j < width; j += 32)
        total += expf(x[j] - top);
    for (int bit = 16; bit > 0; bit /= 2)
        total += __shfl_xor_sync(0xffffffff, total, bit);

    float scale = 1.0f / total;
    for (int j = lane; j < width; j += 32)
        y[j] = expf(x[j] - top) * scale;  // once more: cheaper than to have written it and read it back
}
"""


@LADDER.rung("cuda", over="cuda_tree")
def cuda_cpp(x):
    """One warp a row: shuffles in place of shared memory, no barriers, and eight rows in flight in a block."""
    cupy, softmax_rows = gpu.function(SOURCE, "softmax_rows")
    x = gpu.aligned(x)
    y = cupy.empty_like(x)
    if len(x):
        warps = THREADS // 32
        softmax_rows((-(-len(x) // warps),), (THREADS,), (x, y, np.int64(len(x)), np.int32(x.shape[1])))
    return y
