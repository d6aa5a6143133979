"""Running sums on the GPU: against float64 and the CPU's kernel, cut and whole, from either end, in each type."""

import numpy as np
import pytest

from minigen import Tensor, autograd, kernels
from minigen.kernels.cpu import scan as cpu
from minigen.kernels.cuda import compile, scan
from minigen.ops import scans

pytestmark = pytest.mark.kernels
F = np.float32
CLOSE = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}  # of the largest sum: half a last place, and float's own


def draw(shape, dtype=F, seed=0):
    return (np.random.default_rng(seed).random(shape) - 0.4).astype(dtype)


def right(x, dim, backwards):
    x = x.astype(np.float64)
    return np.flip(np.flip(x, dim).cumsum(dim), dim) if backwards else x.cumsum(dim)


def check(on_gpu, x, dim, backwards):
    want, found = right(x, dim, backwards), on_gpu(scan.cumsum, x, dim, backwards)
    assert found.dtype == x.dtype and found.shape == x.shape and found.flags.c_contiguous
    size = abs(want).max(initial=1e-6)
    assert abs(found.astype(np.float64) - want).max(initial=0) <= CLOSE[x.dtype.name] * size
    return found


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "shape, dim",
    [((5,), 0), ((1, 1), 1), ((9, 40), 1), ((3, 1024), 1), ((9, 130), 0), ((3, 6, 7), 1), ((2, 3, 70, 8), 2),
     ((7, 1), 0)],
)  # fmt: skip
def test_each_dimension(on_gpu, dtype, shape, dim, backwards):
    check(on_gpu, draw(shape, dtype), dim, backwards)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("shape, dim", [((2, 1031), 1), ((1, 2100), 1), ((1, 301, 5), 1), ((2, 257, 9), 1)])
def test_long_chains_are_cut(on_gpu, dtype, shape, dim, backwards, monkeypatch):
    """At every number of pieces, and with pieces of the pieces."""
    x = draw(shape, dtype)
    check(on_gpu, x, dim, backwards)
    monkeypatch.setattr(scan, "PIECE", 512)
    check(on_gpu, x, dim, backwards)
    monkeypatch.setattr(scan, "STEP", 4)
    monkeypatch.setattr(scan, "SHORT", 2)
    check(on_gpu, x, dim, backwards)


def test_rows_of_a_block_are_whole_when_there_are_many(on_gpu, monkeypatch):
    monkeypatch.setattr(scan, "ROWS", 3)
    monkeypatch.setattr(scan, "PIECE", 64)
    check(on_gpu, draw((3, 1100)), 1, True)


@pytest.mark.parametrize("shape", [(4, 50), (2, 3, 300), (3, 1200)])
def test_equals_the_cpu(on_gpu, shape):
    for dim in range(len(shape)):
        for x in (draw(shape), np.asfortranarray(draw(shape)), draw((*shape[:-1], 2 * shape[-1]))[..., ::2]):
            for backwards in (False, True):
                found = check(on_gpu, x, dim, backwards)
                np.testing.assert_allclose(found, cpu.cumsum(x, dim, backwards), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape, dim", [((0, 4), 1), ((4, 0), 1), ((4, 0), 0), ((2, 0, 3), 1), ((2, 3, 0), 1)])
def test_nothing(on_gpu, shape, dim):
    check(on_gpu, draw(shape), dim, False)


def test_numbers_that_are_not_finite_show_from_where_they_stand(on_gpu):
    for shape, dim in (((2, 1200), 1), ((2, 300, 3), 1)):
        x = draw(shape)
        x[1, 200], x[0, 100] = np.inf, np.nan
        for backwards in (False, True):
            found, want = on_gpu(scan.cumsum, x, dim, backwards), right(x, dim, backwards)
            assert np.array_equal(np.isnan(found), np.isnan(want)) and np.array_equal(found == np.inf, want == np.inf)


def test_sums_are_in_float(on_gpu, dtype):
    """4096 ones: in float16 or bfloat16 itself a sum would stay at 2048 or 256."""
    ones = np.ones((1, 4096), dtype)
    found = on_gpu(scan.cumsum, ones, 1, False).astype(F)
    assert np.array_equal(found, np.arange(1, 4097, dtype=F).astype(dtype).astype(F)[None])
    found = on_gpu(scan.cumsum, ones.reshape(1, 2048, 2), 1, False).astype(F)
    assert np.array_equal(found[0, :, 1], np.arange(1, 2049, dtype=F).astype(dtype).astype(F))


def test_the_op_and_its_gradients(emulator, monkeypatch):
    def run(dtype):
        x = Tensor(draw((3, 40)).astype(dtype), requires_grad=True)
        y = x.cumsum(1)
        (g,) = autograd.grad((y * y).sum(), [x], create_graph=True)
        (second,) = autograd.grad((g * g).sum(), [x])
        return [t.detach().numpy() for t in (y, g, second)]

    want = run(np.float64)
    earlier, emulator.launched = emulator.launched, set()
    monkeypatch.setattr(kernels, "find", lambda array, family: scan if family == "scan" else None)
    monkeypatch.setattr(scans, "SMALL", 0)
    with compile.running_on(emulator):
        found = run(F)
    assert emulator.launched == {("scan.cu", "scan_rows")}
    emulator.launched |= earlier
    for ours, theirs in zip(found, want):
        assert ours.dtype == F
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
