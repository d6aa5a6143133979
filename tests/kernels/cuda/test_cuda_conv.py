"""Convolution, transposed convolution and their gradients on the CUDA kernels, beside the ops' definitions in float64.

Results must be the exact ones, rounded to the type of the array, over channels-last memory.
"""

import importlib
import importlib.util
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from test_cuda_kernels import check, draw, layouts

import minigen
from minigen import kernels, nn, optim
from minigen.kernels.cuda import compile, conv, conv_weight, layout, places, precision, tiles
from minigen.kernels.ladder import nvrtc
from minigen.nn import functional
from minigen.ops.convolution import _convolve, _correlate, _spread
from minigen.ops.windows import Window

pytestmark = pytest.mark.kernels
F = np.float32
TF32 = 2.0**-10  # twice the rounding of one factor, relative to the largest result
# samples, channels, outputs, size, kernel, stride, padding, dilation, groups
CASES = {
    "3 x 3": (2, 8, 16, (5, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "wide": (1, 16, 72, (7, 5), (3, 2), (1, 1), (1, 0), (1, 1), 1),
    "odd channels": (1, 5, 33, (6, 5), (3, 3), (2, 1), (1, 2), (1, 2), 1),
    "one picture channel": (3, 1, 8, (7, 7), (4, 4), (2, 2), (1, 1), (1, 1), 1),
    "three picture channels": (2, 3, 8, (6, 5), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "one output": (2, 24, 1, (4, 5), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "strided": (2, 8, 24, (8, 7), (4, 3), (2, 3), (1, 1), (1, 1), 1),
    "dilated and strided": (1, 8, 8, (11, 9), (3, 3), (2, 4), (3, 2), (3, 2), 1),
    "groups": (2, 16, 48, (4, 5), (3, 3), (1, 2), (1, 1), (1, 1), 2),
    "groups of odd channels": (2, 6, 9, (4, 5), (2, 3), (2, 1), (1, 1), (1, 1), 3),
    "depthwise": (2, 11, 11, (5, 6), (3, 3), (2, 1), (1, 1), (1, 2), 11),
    "depthwise of packs": (3, 40, 40, (5, 4), (3, 2), (1, 2), (1, 1), (1, 1), 40),
    "one tap": (2, 8, 5, (4, 3), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "one tap, strided": (1, 8, 8, (7, 5), (1, 1), (3, 2), (0, 0), (1, 1), 1),
    "1-D": (3, 8, 5, (19,), (5,), (2,), (2,), (2,), 1),
    "3-D": (1, 4, 8, (5, 4, 3), (2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1), 1),
    "no padding at all": (1, 8, 8, (3, 3), (3, 3), (1, 1), (0, 0), (1, 1), 1),
}


def arrays(N, C, O, size, kernel, stride, padding, dilation, groups, dtype=F):
    """x, weight, bias, g (like y), a bias like x's channels; the window and y's size."""
    lines = zip(size, kernel, stride, padding, dilation)
    count = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in lines)
    shapes = (N, C, *size), (O, C // groups, *kernel), (O,), (N, O, *count), (C,)
    made = [draw(shape, dtype, 1.0, seed) for seed, shape in enumerate(shapes)]
    return *made, Window(stride, padding, dilation, groups), count


def exact(op, *arguments):
    return op(*[x.astype(np.float64) if isinstance(x, np.ndarray) else x for x in arguments])


def last(x):
    """The same numbers over channels-last memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def are_last(x):
    return np.moveaxis(x, 1, -1).flags.c_contiguous


def check_all(on_gpu, case, dtype, **room):
    x, weight, bias, g, other, window, count = arrays(*case, dtype)
    size, kernel = x.shape[2:], weight.shape[2:]
    y = on_gpu(conv.convolve, last(x), weight, bias, count, window)
    check(y, exact(_convolve, x, weight, bias, count, window), **room)
    gx = on_gpu(conv.spread, g, weight, other, size, window)
    check(gx, exact(_spread, g, weight, other, size, window), **room)
    dw, db = on_gpu(conv.parameter_gradients, x, last(g), kernel, window, True)
    check(dw, exact(_correlate, x, g, kernel, window), **room)
    check(db, g.astype(np.float64).sum((0, *range(2, g.ndim))))
    assert y.dtype == gx.dtype == dw.dtype == db.dtype == dtype and are_last(y) and are_last(gx)


@pytest.mark.parametrize("case", list(CASES))
def test_convolution_and_its_gradients(on_gpu, dtype, case):
    check_all(on_gpu, CASES[case], dtype)


def test_every_remainder_of_a_transposed_convolution(on_gpu):
    """Taps reach a place of the result if they leave its remainder modulo the stride, by one rule for all of them."""
    for size, taps, stride, padding, dilation in itertools.product((1, 7), (1, 2, 5), (1, 2, 3, 6), (0, 2), (1, 2, 4)):
        count = (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        if count < 1:
            continue
        window = Window((stride,), (padding,), (dilation,), 1)
        g, weight = draw((1, 8, count), seed=1), draw((8, 1, taps), seed=2)
        check(on_gpu(conv.spread, g, weight, None, (size,), window), exact(_spread, g, weight, None, (size,), window))


def test_output_padding_lengthens_the_end(on_gpu, dtype):
    g, weight, bias = draw((2, 8, 3, 4), dtype), draw((8, 5, 3, 3), dtype, seed=1), draw((5,), dtype, seed=2)
    window = Window((2, 3), (1, 0), (1, 1), 1)
    for extra in [(0, 0), (1, 2)]:
        size = (2 * 2 - 2 + 2 + extra[0] + 1, 3 * 3 + 2 + extra[1] + 1)
        check(on_gpu(conv.spread, g, weight, bias, size, window), exact(_spread, g, weight, bias, size, window))


# ---- forms ----


def launched(emulator, call):
    """The names of the kernels that the call launches in the emulator."""
    before, emulator.launched = emulator.launched, set()
    call()
    names, emulator.launched = {name for _, name in emulator.launched}, before | emulator.launched
    return names


def test_the_form_follows_from_the_shapes(emulator, monkeypatch):
    here = lambda function, *arguments: function(*arguments)
    with compile.running_on(emulator):
        names = lambda case: launched(emulator, lambda: check_all(here, CASES[case], np.dtype(F)))
        assert {"convolve_thin", "correlate_thin"} <= names("3 x 3")
        assert {"convolve_each", "correlate_each"} <= names("odd channels")
        assert {"convolve_small", "correlate_small"} <= names("groups")
        assert {"convolve_channels", "correlate_channels"} <= names("depthwise")
        assert {"gemm_nt", "gemm_nn", "gemm_tn"} <= names("one tap")
        assert {"convolve_small", "correlate_wide"} <= names("wide")
        monkeypatch.setattr(conv, "MANY", 1)
        assert "convolve_wide" in names("wide")


@pytest.mark.parametrize("many", [1, 128])
def test_more_than_one_tile_in_each_direction(on_gpu, dtype, monkeypatch, many):
    monkeypatch.setattr(conv, "MANY", many)  # 1: wide tiles
    check_all(on_gpu, (2, 16, 136, (9, 8), (2, 1), (1, 1), (1, 0), (1, 1), 1), dtype)


def test_a_long_sum_over_few_tiles_is_cut_into_parts(on_gpu, dtype, monkeypatch):
    monkeypatch.setattr(conv, "LEAST", 40)
    monkeypatch.setattr(conv_weight, "LEAST", 5)
    assert conv.parts_of(1, 200) == (4, 64) and conv.parts_of(500, 200) == (1, 256)
    assert conv_weight.parts_of(162, 2) == (3, 64)
    for C, O, groups in [(8, 24, 1), (24, 2, 1), (3, 5, 1), (16, 48, 2), (11, 11, 11)]:
        check_all(on_gpu, (2, C, O, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), groups), dtype)
    check_all(on_gpu, CASES["strided"], dtype)
    check_all(on_gpu, CASES["dilated and strided"], dtype)


# ---- compute capability 9.0: products by warpgroups ----

LARGE = {
    "two tiles each way": (3, 16, 72, (7, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "strided": (2, 24, 40, (9, 8), (4, 3), (2, 3), (1, 1), (1, 1), 1),
    "dilated": (1, 40, 24, (9, 8), (2, 3), (1, 1), (2, 3), (2, 3), 1),
    "groups": (2, 48, 80, (4, 5), (3, 3), (1, 2), (1, 1), (1, 1), 2),
    "1-D": (3, 24, 72, (19,), (5,), (2,), (2,), (2,), 1),
}


@pytest.fixture
def half():
    return np.dtype(pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes").bfloat16)


@pytest.mark.parametrize("case", list(LARGE))
def test_warpgroups(on_hopper, half, case):
    check_all(on_hopper, LARGE[case], half)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_every_case_by_warpgroups(on_hopper, dtype, case):
    check_all(on_hopper, CASES[case], dtype)


@pytest.mark.parametrize(
    "name, case",
    [
        ("widest", (1, 16, 136, (13, 12), (2, 2), (1, 1), (0, 0), (1, 1), 1)),
        ("tall", (2, 16, 72, (14, 12), (2, 2), (1, 1), (0, 0), (1, 1), 1)),
        ("wide", (1, 16, 72, (13, 12), (2, 2), (1, 1), (0, 0), (1, 1), 1)),
    ],
)
def test_large_tiles_of_warpgroups(on_hopper, half, monkeypatch, name, case):
    monkeypatch.setattr(conv, "MANY", 2)
    x, weight, bias, _, _, window, count = arrays(*case, half)
    check(
        on_hopper(conv.convolve, last(x), weight, bias, count, window), exact(_convolve, x, weight, bias, count, window)
    )
    forms = conv.FORMS[conv.way(x)]
    assert conv.form_of(x, forms, case[0] * np.prod(count), case[1], case[2], 1) == name


def test_the_tiles_follow_from_the_shapes(emulator, half):
    x = np.empty(8, half)
    with compile.running_on(emulator):
        names = [conv.form_of(x, conv.FORMS["WARPGROUPS"], 2**17, 64, O, 1) for O in (8, 64, 128, 256, 384, 520)]
        assert names == ["thin", "small", "tall", "widest", "tall", "tall"]
        names = [conv.form_of(x, conv.FORMS["WARPGROUPS"], places, 64, 256, 1) for places in (2**10, 2**13, 2**14)]
        assert names == ["small", "wide", "widest"]
        assert conv.form_of(x, conv.FORMS[None], 2**17, 64, 256, 1) == "wide"


def test_parts_by_warpgroups(on_hopper, half, monkeypatch):
    monkeypatch.setattr(conv, "LEAST", 40)
    monkeypatch.setattr(conv_weight, "LEAST", 5)
    check_all(on_hopper, (2, 24, 24, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), 1), half)


def test_warpgroups_are_for_16_bits_on_9_0_alone(monkeypatch, half, emulator):
    with compile.running_on(emulator):
        for capability in (75, 80, 86, 89, 90, 100, 120):
            monkeypatch.setattr(emulator, "capability", capability)
            want = "WARPGROUPS" if capability == 90 else None
            assert [tiles.way(np.empty(1, kind)) for kind in (F, np.float16, half)] == [None, want, want]


def test_tf32_is_used_where_it_is_allowed(on_gpu, monkeypatch):
    case = CASES["groups"]
    x, weight, bias, _, _, window, count = arrays(*case)
    exactly = on_gpu(conv.convolve, x, weight, bias, count, window)
    monkeypatch.setattr(precision, "_on", True)
    for name in ("groups", "odd channels", "one output", "wide"):
        check_all(on_gpu, CASES[name], np.dtype(F), absolute=TF32)
    rounded = on_gpu(conv.convolve, x, weight, bias, count, window)
    assert not np.array_equal(exactly, rounded)


# ---- memory ----


def test_every_layout_and_address(on_gpu, dtype):
    x, weight, bias, g, _, window, count = arrays(*CASES["3 x 3"], dtype)
    want, want_dw = exact(_convolve, x, weight, bias, count, window), exact(_correlate, x, g, (3, 3), window)
    for given, factors, d in zip(layouts(x), layouts(weight), layouts(g)):
        check(on_gpu(conv.convolve, given, factors, bias, count, window), want)
        check(on_gpu(conv.correlate, given, d, (3, 3), window), want_dw)


@pytest.mark.parametrize("case", ["3 x 3", "depthwise", "one tap", "1-D"])
def test_gradients_go_into_the_arrays_that_are_given(on_gpu, dtype, case):
    x, weight, bias, g, _, window, _ = arrays(*CASES[case], dtype)
    kernel = weight.shape[2:]

    def fill(x, g, *into):
        dw, db = conv.parameter_gradients(x, g, kernel, window, True, into)
        assert dw is into[0] and db is into[1]

    for kind in (dtype, np.dtype(F)):
        empty = np.full(weight.shape, np.nan, kind), np.full(bias.shape, np.nan, kind)
        _, _, dw, db = on_gpu.in_place(fill, x, g, *empty)
        check(dw, exact(_correlate, x, g, kernel, window))
        check(db, g.astype(np.float64).sum((0, *range(2, g.ndim))))


def test_matrices_are_turned(on_gpu, dtype):
    for shape in [(1, 2, 3), (3, 33, 31), (2, 64, 5), (2, 1, 9), (2, 9, 1), (1, 70, 40)]:
        x = draw(shape, dtype)
        got = on_gpu(layout.turned, x)
        assert np.array_equal(got, x.swapaxes(1, 2)) and got.flags.c_contiguous
    for shape in [(2, 3, 4, 5), (2, 3, 6), (1, 3, 2, 3, 2)]:
        for x in layouts(draw(shape, dtype)):
            inside = on_gpu(layout.inside, x)
            assert inside.shape == (shape[0], *(1,) * (5 - len(shape)), *shape[2:], shape[1])
            assert np.array_equal(layout.outside(inside, len(shape) - 2), x) and inside.flags.c_contiguous


def test_too_many_places_are_an_error():
    x, y = np.broadcast_to(F(0), (2**11, 1, 2**10, 2**10, 1)), np.broadcast_to(F(0), (2**11, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="split the batch"):
        places.geometry(x, y, 1, 1, (3, 3), Window((1, 1), (1, 1), (1, 1), 1))


# ---- the compiler ----


@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
@pytest.mark.parametrize(
    "card, name, instruction",
    [
        ("80", "float32", "mma.sync.aligned.m16n8k8.row.col.f32.tf32"),
        pytest.param("80", "bfloat16", "mma.sync.aligned.m16n8k16.row.col.f32.bf16", marks=pytest.mark.slow),
        pytest.param("75", "float16", "mma.sync.aligned.m16n8k8.row.col.f32.f16", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("family", [conv, conv_weight])
def test_tensor_cores_multiply_where_the_card_has_them(family, card, name, instruction):
    source = family.BY_WAY["TF32"] if name == "float32" else family.KERNELS
    options = (*source.options((SimpleNamespace(name=name),)), "-ftz=true")
    ptx = nvrtc.compile(source.text, f"compute_{card}", options)
    assert instruction in ptx and ".local" not in ptx


# ---- the engine ----


class Network(nn.Module):
    """Down and up again: few channels, a stride, depthwise and one tap, groups, and the way back."""

    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.depthwise, self.point = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 16, 1)
        self.groups = nn.Conv2d(16, 8, 3, padding=2, dilation=2, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        x = functional.silu(self.down(functional.silu(self.first(x))))
        x = functional.silu(self.groups(functional.silu(self.point(self.depthwise(x)))))
        return self.up(x)


def train(steps=3):
    """The losses, the result and the weights after some steps."""
    minigen.manual_seed(3)
    network, x = Network(), minigen.tensor(draw((2, 1, 8, 8)))
    optimiser, found = optim.AdamW(network.parameters(), lr=1e-2), []
    for _ in range(steps):
        y = network(x)
        loss = functional.mse_loss(y, x * 0.5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found, y.data, [p.data.copy() for p in network.parameters()]


@pytest.fixture
def emulated_arrays(emulator, monkeypatch):
    """Inside, NumPy arrays of float32 find the CUDA families."""

    def find(array, family):
        name = f"minigen.kernels.cuda.{family}"
        if array.dtype != np.float32 or importlib.util.find_spec(name) is None:
            return None
        return importlib.import_module(name)

    def enter():
        monkeypatch.setattr(kernels, "find", find)
        return compile.running_on(emulator)

    return enter


def test_a_network_learns_the_same(emulator, emulated_arrays):
    want = train()
    with emulated_arrays():
        got = []
        names = launched(emulator, lambda: got.extend(train()))
    assert np.allclose(got[0], want[0], rtol=1e-5)
    assert np.allclose(got[1], want[1], atol=1e-5) and are_last(got[1])
    for one, other in zip(got[2], want[2]):
        assert np.allclose(one, other, rtol=1e-3, atol=2e-5)
    assert {"convolve_each", "convolve_thin", "convolve_channels", "correlate_thin", "correlate_channels"} <= names


def test_the_ops_take_empty_batches_and_second_gradients(emulated_arrays):
    x, weight = minigen.tensor(draw((2, 3, 5, 4))), minigen.tensor(draw((4, 3, 3, 3), seed=1))

    def second():
        x.requires_grad = weight.requires_grad = True
        y = functional.conv2d(x, weight, stride=2, padding=1)
        (gx,) = minigen.autograd.grad((y * y).sum(), [x], create_graph=True)
        return [g.data for g in minigen.autograd.grad((gx * gx).sum(), [x, weight])]

    want = second()
    with emulated_arrays():
        for one, other in zip(second(), want):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * abs(other).max())
        y = functional.conv2d(minigen.tensor(draw((0, 3, 5, 4))), weight, padding=1)
        up = functional.conv_transpose2d(minigen.tensor(draw((0, 4, 5, 4))), weight, stride=2, output_padding=1)
    assert y.shape == (0, 4, 5, 4) and up.shape == (0, 3, 12, 10)
