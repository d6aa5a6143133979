"""The ladder: every rung gives the definition's numbers, the same bits on any number of threads, and loads lazily."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from minigen.kernels import ladder
from minigen.kernels.ladder import gpu, nvrtc, threads

U = 2.0**-24
SIZES = {
    "sum": [(0,), (1,), (3,), (1003,), (16_387,), (70_001,)],
    "softmax": [(0, 3), (1, 1), (5, 37), (70, 129)],
    "matmul": [(1, 1, 1), (4, 4, 4), (9, 11, 7), (3, 50, 2), (70, 33, 65), (5, 0, 3), (0, 4, 4)],
}
SMALL = {"sum": [(1,), (75,)], "softmax": [(1, 1), (3, 21)], "matmul": [(1, 1, 1), (6, 9, 5)]}  # for the simulator
RUNGS = [(name, rung) for name in ladder.KERNELS for rung in ladder.load(name)]
IDS = [f"{name}-{rung.name}" for name, rung in RUNGS]


def draw(name, size, seed=0):
    random = np.random.default_rng(seed)
    shapes = [size] if name != "matmul" else [size[:2], size[1:]]
    return [random.standard_normal(shape, dtype=np.float32) for shape in shapes]


def truth(name, arrays):
    """(the result in float64, how far a rung may be off: Higham 2002)."""
    wide = [array.astype(np.float64) for array in arrays]
    if name == "sum":
        return wide[0].sum(), wide[0].size * U * np.abs(wide[0]).sum()
    if name == "matmul":
        return wide[0] @ wide[1], wide[0].shape[1] * U * np.abs(wide[0]) @ np.abs(wide[1])
    powers = np.exp(wide[0] - wide[0].max(1, keepdims=True, initial=-np.inf))
    y = powers / powers.sum(1, keepdims=True)
    return y, (np.ptp(wide[0]) if wide[0].size else 0.0) * U * y + (wide[0].shape[1] + 20) * U * y


def agrees(name, rung, arrays):
    found = rung(*arrays)
    found = found.get() if hasattr(found, "get") else np.asarray(found)
    expected, bound = truth(name, arrays)
    assert found.shape == np.shape(expected)
    assert found.dtype == np.float32 or name == "sum"
    assert np.all(np.abs(found - expected) <= bound)


@pytest.mark.parametrize("name, rung", RUNGS, ids=IDS)
def test_every_rung_gives_the_definitions_numbers(name, rung):
    if rung.where == "cuda" and not gpu.available():
        pytest.skip("CUDA C++ runs on a GPU, through CuPy")
    for size in (SMALL if rung.where == "numba.cuda" else SIZES)[name]:
        agrees(name, rung, draw(name, size))


@pytest.mark.gpu
@pytest.mark.parametrize("name, size", [(name, size) for name in SIZES for size in SIZES[name]])
def test_cuda_takes_views_that_begin_anywhere(name, size):
    import cupy

    for rung in ladder.load(name).on("cuda"):
        moved = []
        for array in draw(name, size):
            whole = cupy.zeros(array.size + 1, np.float32)
            whole[1:] = cupy.asarray(array).ravel()
            moved.append(whole[1:].reshape(array.shape))
        expected, bound = truth(name, draw(name, size))
        assert np.all(np.abs(rung(*moved).get() - expected) <= bound)


@pytest.mark.parametrize("rung", ladder.load("softmax").on("cpu", "threads"), ids=lambda rung: rung.name)
def test_softmax_of_large_and_masked_logits(rung):
    x = np.array([[1000, 999, 998], [-1000, -999, -998], [0, -np.inf, 0]], np.float32)
    y = rung(x)
    e = np.exp(np.array([0.0, -1.0, -2.0]))
    np.testing.assert_allclose(y, [e / e.sum(), e[::-1] / e.sum(), [0.5, 0, 0.5]], rtol=1e-6)


def test_one_and_two_threads_give_the_same_bits():
    names = ["sum/parallel", "sum/engine", "softmax/parallel", "matmul/parallel", "sum/careless"]
    for name in names:  # compiled and kept: both processes run the same machine code
        threads.digests(name, 1)
    one, two = (threads.results(count, names, 4) for count in (1, 2))
    careless = one.pop("sum/careless"), two.pop("sum/careless")
    assert one == two
    assert careless[0] != careless[1], "the comparison can tell different bits"
    assert len(set(one["sum/parallel"])) == 4


def test_in_order_is_numpys_running_total():
    x = draw("sum", (5000,))[0]
    assert ladder.load("sum")["scalar"](x) == np.cumsum(x)[-1]


def test_a_rung_improves_on_one_before_it_and_says_why():
    for name in ladder.KERNELS:
        before = set()
        for rung in ladder.load(name):
            assert rung.over is None or rung.over in before
            assert rung.promise is None or (rung.over and rung.promise > 1 and rung.where == "cpu")
            assert len(rung.why) > 15 and rung.where in ladder.PLACES
            before.add(rung.name)


@pytest.mark.parametrize(
    "name, arrays, kind",
    [
        ("sum", [np.zeros(3)], TypeError),
        ("sum", [np.zeros(6, np.float32)[::2]], ValueError),
        ("sum", [np.zeros((2, 2), np.float32)], ValueError),
        ("softmax", [np.zeros((3, 0), np.float32)], ValueError),
        ("softmax", [np.zeros(3, np.float32)], ValueError),
        ("matmul", [np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)], ValueError),
    ],
)
def test_arrays_that_a_loop_without_bounds_checks_must_not_get(name, arrays, kind):
    for rung in ladder.load(name).on("cpu", "threads"):
        with pytest.raises(kind, match=name):
            rung(*arrays)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(KeyError, match="softmax"):
        ladder.load("softmin")
    with pytest.raises(KeyError, match="vector"):
        ladder.load("sum")["simd"]


def test_importing_the_ladder_loads_neither_numba_cuda_nor_cupy():
    code = (
        "import sys; from minigen.kernels import ladder; light = 'numba' not in sys.modules; "
        "[ladder.load(name) for name in ladder.KERNELS]; "
        "print(light, 'numba.cuda' in sys.modules, 'cupy' in sys.modules)"
    )
    settings = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=settings)
    assert done.stdout.split() == ["True", "False", "False"]


@pytest.mark.parametrize("name", ladder.KERNELS)
@pytest.mark.parametrize("architecture", ["compute_75", "compute_90"])
def test_the_cuda_source_compiles(name, architecture):
    if nvrtc.library() is None:
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
    ladder.load(name)
    source = getattr(ladder, name).SOURCE
    ptx = nvrtc.compile(source, architecture)
    (entry,) = [line for line in source.splitlines() if "__global__" in line]
    assert f".entry {entry.split('void ')[1].split('(')[0]}(" in ptx
    with pytest.raises(RuntimeError, match="does not compile"):
        nvrtc.compile(source.replace("float", "flaot", 1), architecture)
