"""The product of matrices a (M, K) @ b (K, N) -> (M, N).

Floor: 2 M N K operations on only 4 (M K + K N + M N) bytes: for 384 x 384, 64 operations a byte. So arithmetic
decides, provided that each number, once loaded, is used many times. That is what the rungs are about: loads for each
multiply-add, from two down to a half.

|error| <= K * 2**-24 * |a| @ |b| for every order of the additions (Higham 2002, eq. 3.13).
"""

from functools import cache

import numpy as np
from numba import float32, prange

from ..cpu import blas
from ..cpu.compile import inline_sums, kernel
from . import Ladder, expect_float32, gpu

F = np.float32
TILE = 4  # rows and columns computed at once: sixteen sums, each in a register of its own


def check(a, b):
    expect_float32("matmul", 2, a, b)
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: {a.shape} @ {b.shape}: the first has {a.shape[1]} columns, the second must have as "
                         f"many rows")  # fmt: skip


LADDER = Ladder(
    "matmul",
    check,
    bytes=lambda a, b: 4 * (a.size + b.size + len(a) * b.shape[1]),
    operations=lambda a, b: 2 * a.size * b.shape[1],
)


@LADDER.rung()
def python(a, b):
    """Three loops over lists."""
    columns = list(zip(*b.tolist())) if len(b) else [()] * b.shape[1]
    product = [[sum(p * q for p, q in zip(row, column)) for column in columns] for row in a.tolist()]
    return np.array(product, F).reshape(len(a), b.shape[1])


@LADDER.rung(over="python", promise=4)
def numpy(a, b):
    """Multiply all of b by a row of a, then add up: fast calls, but every product is written to memory and read."""
    c = np.empty((len(a), b.shape[1]), F)
    for i in range(len(a)):
        c[i] = (a[i][:, None] * b).sum(0)
    return c


@kernel(parallel=False, exact=True)
def dot_by_dot(a, b, c):
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = F(0)
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@LADDER.rung(over="python", promise=4)
def scalar(a, b):
    """Three loops, compiled. Each addition waits for the last, and b is walked down its columns: every step touches
    another line of memory, and uses 4 bytes of its 64.
    """
    c = np.empty((len(a), b.shape[1]), F)
    dot_by_dot(a, b, c)
    return c


@kernel(parallel=False)
def dot_by_dot_transposed(a, bt, c):
    for i in range(a.shape[0]):
        for j in range(bt.shape[0]):
            p, q, total = a[i], bt[j], F(0)
            for k in range(p.size):
                total += p[k] * q[k]
            c[i, j] = total


@LADDER.rung(over="scalar", promise=2)
def vector(a, b):
    """b is transposed once, so that both are walked along their rows, and sums may be reordered: 4 to 16 products an
    instruction. Two loads for each multiply-add, which is now what it waits for.
    """
    c = np.empty((len(a), b.shape[1]), F)
    dot_by_dot_transposed(a, np.ascontiguousarray(b.T), c)
    return c


@inline_sums
def four_rows(a, bt, c, i):
    """c[i : i + 4] = a[i : i + 4] @ bt.T: 4 x 4 dot products at a time, in sixteen registers."""
    a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
    columns = bt.shape[0]
    whole = columns - columns % TILE
    for j in range(0, whole, TILE):
        b0, b1, b2, b3 = bt[j], bt[j + 1], bt[j + 2], bt[j + 3]
        c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = F(0)
        c20 = c21 = c22 = c23 = c30 = c31 = c32 = c33 = F(0)
        for k in range(a0.size):  # eight loads, sixteen multiply-adds
            p0, p1, p2, p3 = a0[k], a1[k], a2[k], a3[k]
            q0, q1, q2, q3 = b0[k], b1[k], b2[k], b3[k]
            c00 += p0 * q0
            c01 += p0 * q1
            c02 += p0 * q2
            c03 += p0 * q3
            c10 += p1 * q0
            c11 += p1 * q1
            c12 += p1 * q2
            c13 += p1 * q3
            c20 += p2 * q0
            c21 += p2 * q1
            c22 += p2 * q2
            c23 += p2 * q3
            c30 += p3 * q0
            c31 += p3 * q1
            c32 += p3 * q2
            c33 += p3 * q3
        c[i, j], c[i, j + 1], c[i, j + 2], c[i, j + 3] = c00, c01, c02, c03
        c[i + 1, j], c[i + 1, j + 1], c[i + 1, j + 2], c[i + 1, j + 3] = c10, c11, c12, c13
        c[i + 2, j], c[i + 2, j + 1], c[i + 2, j + 2], c[i + 2, j + 3] = c20, c21, c22, c23
        c[i + 3, j], c[i + 3, j + 1], c[i + 3, j + 2], c[i + 3, j + 3] = c30, c31, c32, c33
    for j in range(whole, columns):
        rest(a, bt, c, i, i + TILE, j)


@inline_sums
def rest(a, bt, c, first, last, j):
    """Column j of rows first to last, one dot product at a time: what no tile covers."""
    for i in range(first, last):
        p, q, total = a[i], bt[j], F(0)
        for k in range(p.size):
            total += p[k] * q[k]
        c[i, j] = total


@kernel(parallel=False)
def tile_by_tile(a, bt, c):
    whole = a.shape[0] - a.shape[0] % TILE
    for i in range(0, whole, TILE):
        four_rows(a, bt, c, i)
    for j in range(bt.shape[0]):
        rest(a, bt, c, whole, a.shape[0], j)


@LADDER.rung(over="vector", promise=1.2)
def tiled(a, b):
    """4 x 4 dot products at once. Each number loaded is used four times: half a load for each multiply-add."""
    c = np.empty((len(a), b.shape[1]), F)
    tile_by_tile(a, np.ascontiguousarray(b.T), c)
    return c


@LADDER.rung(over="scalar", promise=4)
def library(a, b):
    """NumPy's BLAS on one thread: the same idea with blocks for every level of cache, in assembly."""
    with blas.single_threaded_blas:
        return a @ b


@kernel
def tiles_in_tasks(a, bt, c):
    tasks = a.shape[0] // TILE
    for task in prange(tasks + 1):
        if task < tasks:
            four_rows(a, bt, c, task * TILE)
        else:
            for j in range(bt.shape[0]):
                rest(a, bt, c, tasks * TILE, a.shape[0], j)


@LADDER.rung("threads", over="tiled")
def parallel(a, b):
    """Threads share the rows, four to a task. No dot product is cut, so the bits are those of one thread."""
    c = np.empty((len(a), b.shape[1]), F)
    tiles_in_tasks(a, np.ascontiguousarray(b.T), c)
    return c


@LADDER.rung("threads", over="library")
def engine(a, b):
    """What minigen runs: BLAS on blocks of the product, called from Numba's threads."""
    return blas.matmul(a, b)


# ----------------------------------------------------------------------------------------------------------
# The GPU, through Numba.


@cache
def on_numba():
    global cuda  # where the simulator looks for it
    cuda, simulated = gpu.numba_cuda()
    side = 4 if simulated else 16

    @cuda.jit
    def a_thread_an_element(a, b, c):
        j, i = cuda.grid(2)  # x, the fastest, along a row: neighbours read and write neighbours
        if i < c.shape[0] and j < c.shape[1]:
            total = F(0)
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total

    @cuda.jit
    def in_shared_tiles(a, b, c):
        a_tile = cuda.shared.array((side, side), float32)
        b_tile = cuda.shared.array((side, side), float32)
        j, i = cuda.grid(2)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        total = F(0)
        for start in range(0, a.shape[1], side):  # all threads go round, those outside the matrix too: they load
            inside_a = i < a.shape[0] and start + x < a.shape[1]
            inside_b = start + y < b.shape[0] and j < b.shape[1]
            a_tile[y, x] = a[i, start + x] if inside_a else F(0)
            b_tile[y, x] = b[start + y, j] if inside_b else F(0)
            cuda.syncthreads()
            for k in range(side):
                total += a_tile[y, k] * b_tile[k, x]
            cuda.syncthreads()  # before the next tile is written over this one
        if i < c.shape[0] and j < c.shape[1]:
            c[i, j] = total

    return a_thread_an_element, in_shared_tiles, side


def launch(kernel, side, a, b):
    c = np.empty((len(a), b.shape[1]), F)
    if c.size:
        kernel[(-(-c.shape[1] // side), -(-c.shape[0] // side)), (side, side)](a, b, c)
    return c


@LADDER.rung("numba.cuda")
def cuda_elements(a, b):
    """One thread an element: 2 K loads from memory for K multiply-adds."""
    a_thread_an_element, _, side = on_numba()
    return launch(a_thread_an_element, side, a, b)


@LADDER.rung("numba.cuda", over="cuda_elements")
def cuda_tiles(a, b):
    """A block loads a 16 x 16 tile of each into shared memory, where each number is used 16 times."""
    _, in_shared_tiles, side = on_numba()
    return launch(in_shared_tiles, side, a, b)


# ----------------------------------------------------------------------------------------------------------
# The GPU, in CUDA C++.

SOURCE = r"""
// A block of 16 x 16 threads computes 64 x 64 elements of c, each thread 4 x 4 of them, in registers. Of every 16
// columns of a, and rows of b, the block keeps a tile in shared memory: a number is loaded from memory once for 64
// multiply-adds, and from shared memory once for four.
#define SIDE 64
#define DEPTH 16

extern "C" __global__ void matmul_tiles(const float* a, const float* b, float* c, int M, int N, int K)
{
    __shared__ float a_tile[DEPTH][SIDE + 1];  // transposed; the odd width puts a column into different banks
    __shared__ float b_tile[DEPTH][SIDE];
    int x = threadIdx.x, y = threadIdx.y, thread = y * 16 + x;
    int row = blockIdx.y * SIDE, column = blockIdx.x * SIDE;
    float total[4][4] = {};

    for (int start = 0; start < K; start += DEPTH) {
        for (int i = thread; i < SIDE * DEPTH; i += 256) {  // four elements of each tile a thread
            int m = i / DEPTH, k = i % DEPTH;
            a_tile[k][m] = row + m < M && start + k < K ? a[(long long)(row + m) * K + start + k] : 0.0f;
        }
        for (int i = thread; i < DEPTH * SIDE; i += 256) {
            int k = i / SIDE, n = i % SIDE;
            b_tile[k][n] = start + k < K && column + n < N ? b[(long long)(start + k) * N + column + n] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            float p[4], q[4];
            for (int i = 0; i < 4; i++) {
                p[i] = a_tile[k][y * 4 + i];
                q[i] = b_tile[k][x + 16 * i];  // neighbours read neighbours
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    total[i][j] += p[i] * q[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int m = row + y * 4 + i, n = column + x + 16 * j;
            if (m < M && n < N)
                c[(long long)m * N + n] = total[i][j];
        }
}
"""


@LADDER.rung("cuda", over="cuda_tiles")
def cuda_cpp(a, b):
    """Tiles in shared memory, and in each thread a tile of 4 x 4 in registers, as on the CPU."""
    cupy, matmul_tiles = gpu.function(SOURCE, "matmul_tiles")
    a, b = cupy.asarray(a), cupy.asarray(b)
    (M, K), N = a.shape, b.shape[1]
    c = cupy.empty((M, N), F)
    if c.size:
        matmul_tiles((-(-N // 64), -(-M // 64)), (16, 16), (a, b, c, np.int32(M), np.int32(N), np.int32(K)))
    return c
