"""The emulator must find the faults it is there for: each kernel here has one."""

import numpy as np
import pytest

from minigen.kernels.cuda import compile

pytestmark = pytest.mark.kernels
F = np.dtype(np.float32)
FAULTS = """
KERNEL sums_without_a_barrier(const float* x, float* y) {
    __shared__ float all[64];
    all[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = all[63 - threadIdx.x];
}
KERNEL sums_with_a_barrier(const float* x, float* y) {
    __shared__ float all[64];
    all[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = all[63 - threadIdx.x];
}
KERNEL reads_shared_memory_unwritten(const float* x, float* y) {
    __shared__ float all[64];
    y[threadIdx.x] = x[threadIdx.x] + all[threadIdx.x];
}
template <class N> INLINE N with_unwritten(N x) {
    __shared__ N all[64];
    return x + all[threadIdx.x];
}
KERNEL reads_shared_memory_of_a_template(const float* x, float* y) { y[threadIdx.x] = with_unwritten(x[threadIdx.x]); }
KERNEL writes_past_the_end(const float* x, float* y) { y[threadIdx.x + 1] = x[threadIdx.x]; }
KERNEL reads_past_the_end(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }
KERNEL shuffles_with_half_a_warp(const float* x, float* y) {
    if (threadIdx.x % 32 < 16) y[threadIdx.x] = warp_sum(x[threadIdx.x]);
}
KERNEL waits_with_half_a_block(const float* x, float* y) {
    if (threadIdx.x < 32) __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}
KERNEL reads_a_pack_from_an_odd_place(const float* x, float* y) {
    if (threadIdx.x == 0) *(Pack<float>*)(y + 4) = *(const Pack<float>*)(x + 1);
}
KERNEL counts_past_its_own_array(const float* x, float* y) {
    float own[4];
    for (int i = 0; i < 4 + (x[1] > 0); i++) own[i] = x[i];
    y[threadIdx.x] = own[3];
}
KERNEL passes_round(const float* x, float* y, u32* arrived) {
    y[64 * blockIdx.x + threadIdx.x] = x[threadIdx.x] + blockIdx.x;
    grid_barrier(arrived, gridDim.x);
    float next = y[64 * ((blockIdx.x + 1) % gridDim.x) + threadIdx.x];
    grid_barrier(arrived, 2 * gridDim.x);
    y[64 * blockIdx.x + threadIdx.x] = next;
}
KERNEL passes_round_too_soon(const float* x, float* y, u32* arrived) {
    y[64 * blockIdx.x + threadIdx.x] = x[threadIdx.x] + blockIdx.x;
    grid_barrier(arrived, gridDim.x - 1);
    float next = y[64 * ((blockIdx.x + 1) % gridDim.x) + threadIdx.x];
    grid_barrier(arrived, 2 * gridDim.x);
    y[64 * blockIdx.x + threadIdx.x] = next;
}
KERNEL waits_for_a_block_more(const float* x, float* y, u32* arrived) { grid_barrier(arrived, gridDim.x + 1); }
KERNEL keeps_its_own_shared_memory(const float* x, float* y, u32* arrived) {
    __shared__ float fixed[64];
    DYNAMIC_SHARED(bytes);
    float* own = (float*)bytes;
    own[threadIdx.x] = x[threadIdx.x] + blockIdx.x, fixed[threadIdx.x] = blockIdx.x;
    grid_barrier(arrived, gridDim.x);
    y[64 * blockIdx.x + threadIdx.x] = own[63 - threadIdx.x] - fixed[63 - threadIdx.x];
}
KERNEL adds_in_the_order_of_blocks(const float* x, float* y) {
    if (threadIdx.x == 0) y[0] = y[0] * 0.5f + x[blockIdx.x];
}
"""


@pytest.fixture(scope="module")
def run(emulator):
    source = compile.Source("faults.cu")
    headers = ("common.cuh", "grid_barrier.cuh")
    source.text = "".join((compile.HERE / name).read_text() for name in headers) + FAULTS
    x = np.arange(64, dtype=np.float32)

    def run(name, grid=1, arguments=None, **options):
        y = np.zeros(64, np.float32)
        with compile.running_on(emulator):
            source.run(name, (F,), grid, 64, *((x, y) if arguments is None else arguments), **options)
        return x, y

    return run


def test_a_kernel_without_fault(run):
    x, y = run("sums_with_a_barrier")
    assert np.array_equal(y, x[::-1])


@pytest.mark.parametrize("name", ["sums_without_a_barrier", "adds_in_the_order_of_blocks"])
def test_the_order_of_the_threads_must_not_matter(run, name):
    with pytest.raises(AssertionError, match=f"{name}: array 1 depends on the order"):
        run(name, 3)


def test_shared_memory_and_margins_hold_nan(run):
    for name in ("reads_shared_memory_unwritten", "reads_shared_memory_of_a_template"):
        assert np.isnan(run(name)[1]).all()
    assert np.isnan(run("reads_past_the_end")[1][-1])


def test_the_gaps_of_an_array_hold_nan_and_it_is_only_read(run):
    x, y = np.arange(128, dtype=np.float32)[::2], np.zeros(64, np.float32)
    run("sums_with_a_barrier", arguments=(x, y))
    assert np.array_equal(y[1::2], np.arange(62, -1, -2)) and np.isnan(y[::2]).all()
    with pytest.raises(AssertionError, match="writes to an array with gaps"):
        run("sums_with_a_barrier", arguments=(y, np.zeros(128, np.float32)[::2]))


def test_a_write_outside_an_array(run):
    with pytest.raises(AssertionError, match=r"writes_past_the_end writes outside an array of shape \(64,\)"):
        run("writes_past_the_end")


@pytest.mark.parametrize(
    "name, what", [("shuffles_with_half_a_warp", "shuffle"), ("waits_with_half_a_block", "__syncthreads")]
)
def test_threads_that_do_not_come_along(run, name, what):
    with pytest.raises(AssertionError, match=what):
        run(name)
    test_a_kernel_without_fault(run)  # the next launch is not harmed


@pytest.mark.parametrize("name", ["reads_a_pack_from_an_odd_place", "counts_past_its_own_array"])
def test_what_g_plus_plus_traps(run, name):
    with pytest.raises(AssertionError, match=r"not aligned .* or an index outside"):
        run(name)
    test_a_kernel_without_fault(run)


@pytest.fixture
def together(run):
    """Run a kernel on blocks of 64 threads that may wait for one another. Returns what they wrote, a row a block."""

    def together(name, blocks=3, **options):
        x, y, arrived = np.arange(64, dtype=np.float32), np.zeros((blocks, 64), np.float32), np.zeros(1, np.uint32)
        run(name, blocks, (x, y, arrived), **options)
        return y

    return together


def test_blocks_that_meet(together):
    place = np.arange(64)
    assert (together("passes_round", together=True) == place + np.array([[1], [2], [0]])).all()
    y = together("keeps_its_own_shared_memory", together=True, shared=256)
    assert (y == 63 - place).all()


def test_blocks_that_do_not_meet(together):
    with pytest.raises(AssertionError, match="depends on the order"):
        together("passes_round_too_soon", together=True)
    with pytest.raises(AssertionError, match="wait for one another for ever"):
        together("waits_for_a_block_more", together=True)
    with pytest.raises(AssertionError, match="waits for others, which do not run with it"):
        together("passes_round")
    with pytest.raises(AssertionError, match="do not fit the card"):
        together("passes_round", 9, together=True)
    test_blocks_that_meet(together)


def test_arguments_of_the_wrong_kind(run):
    with pytest.raises(AssertionError, match="takes pp and is given pq"):
        run("sums_with_a_barrier", arguments=(np.zeros(64, np.float32), 3))
