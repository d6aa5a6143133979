"""Activations that kernels apply on their way: behind group norm, and behind the linear layer, beside float64."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cublas import Host
from test_cuda_kernels import check, draw, wide
from test_cuda_norms import exact, lies_like, orders

import minigen
from minigen import Tensor, autograd, kernels
from minigen.kernels.cuda import activations, compile, gemm, group_norm, linear, linear_activation, norms
from minigen.kernels.ladder import nvrtc
from minigen.nn import functional
from minigen.ops.activations import BEHIND

pytestmark = pytest.mark.kernels
F = np.float32
NAMES = activations.BEHIND


def others(*quick):
    """The activations but these; they differ in a function only, which test_cuda_kernels.py tests, so once will do."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in quick]


def with_each(cases, *quick):
    """(activation, *case): each case with those named, the first one with all."""
    every = [pytest.param(name, *case) for name in quick for case in cases]
    return every + [pytest.param(*name.values, *cases[0], marks=name.marks) for name in others(*quick)]


def activated(name, z, g=None):
    """An activation of z in float64; with g, the gradient of its input."""
    z = Tensor(np.asarray(z, np.float64), requires_grad=True)
    with kernels.disabled():
        y = BEHIND[name](z)
        if g is None:
            return y.detach().numpy()
        return autograd.grad(y, [z], [Tensor(np.asarray(g, np.float64))])[0].numpy()


def test_the_devices_know_the_same_activations():
    from minigen.kernels.cpu import activations as cpu

    assert set(NAMES) == set(BEHIND) and set(NAMES) <= set(cpu.VALUES)


# ---- group norm ----


PICTURES = [((2, 6, 3, 5), 3), ((3, 4, 2, 4), 1), ((1, 4, 700), 2)]


@pytest.mark.parametrize("name, shape, groups", with_each(PICTURES, "silu"))
def test_group_norm(on_gpu, dtype, name, shape, groups):
    weight, bias = draw(shape[1], seed=2), draw(shape[1], seed=3)
    for x, g in zip(orders(draw(shape, dtype, 2.0)), orders(draw(shape, dtype, 1.0, 1))):
        z, _, _, gradient = exact(x, weight, bias, 1e-5, None, groups)
        y, *saved = on_gpu(group_norm.group_norm, x, groups, weight, bias, 1e-5, name)
        assert y.dtype == dtype and lies_like(y, x)
        check(y, activated(name, z), absolute=1e-6)
        made = on_gpu(group_norm.group_norm_gradient, g, x, groups, weight, *saved, name)
        assert made[0].dtype == dtype and made[1].dtype == F and lies_like(made[0], x)
        for got, wanted in zip(made, gradient(activated(name, z, wide(g)))):
            check(got, wanted, absolute=2e-5)


def test_group_norm_without_weight_and_with_a_large_mean(on_gpu):
    given = draw((4, 4, 42)) + F(3e5)
    for x in list(orders(given))[:2]:
        z, _, _, gradient = exact(x, None, None, 1e-5, None, 2)
        y, *saved = on_gpu(group_norm.group_norm, x, 2, None, None, 1e-5, "silu")
        check(y, activated("silu", z), absolute=1e-5)
        g = draw(x.shape, seed=1)
        made = on_gpu(group_norm.group_norm_gradient, g, x, 2, None, *saved, "silu")
        check(made[0], gradient(activated("silu", z, g))[0], absolute=2e-5)


# ---- the linear layer ----


@pytest.fixture(params=["cuBLAS", "cuBLAS, large", "our kernel"])
def any_way(request, emulator, monkeypatch):
    host = Host(emulator)
    if request.param == "our kernel":
        host.cublas = None
    if request.param == "cuBLAS, large":
        monkeypatch.setattr(linear, "SMALL", 0)
    with compile.running_on(host):
        yield request.param


LAYERS = [((3, 5), 4), ((2, 9, 13), 70), ((0, 3), 2), ((4, 0), 3), ((2, 3), 0)]


@pytest.mark.parametrize("name, shape, outputs", with_each(LAYERS, "relu", "gelu"))
def test_linear(any_way, dtype, name, shape, outputs):
    x, w, b = draw(shape, dtype), draw((outputs, shape[-1]), dtype, 1.0, 1), draw(outputs, dtype, 1.0, 2)
    gaps, g = np.repeat(x, 2, axis=-1)[..., ::2], draw((*shape[:-1], outputs), dtype, 1.0, 3)
    near = {2: 2e-2, 4: 1e-5}[dtype.itemsize]  # the product is kept in 16 bits, once more rounded
    for bias in (b, None):
        z = wide(x).astype(np.float64) @ wide(w).astype(np.float64).T + (0 if bias is None else wide(bias))
        for one in (x, gaps):
            y, before = linear_activation.linear_activation(one, w, bias, name)
            assert y.dtype == before.dtype == dtype and y.shape == z.shape
            assert np.shares_memory(y, before) == (name == "relu" and y.size > 0)
            check(y, activated(name, z), near, near)
        # a product near -bias, rounded, may fall on the other side of relu's kink
        d = wide(g) * (wide(y) > 0) if name == "relu" else activated(name, z, wide(g))
        n = math.prod(shape[:-1])
        rows = d.reshape(n, outputs)
        want = d @ wide(w), rows.T @ wide(x).reshape(n, shape[-1]), rows.sum(0)
        got = linear_activation.linear_activation_gradient(g, x, w, bias, before, name)
        for part, wanted in zip(got, want):
            assert part.dtype == dtype
            check(part, wanted, near, 4 * near)
    into = np.full(w.shape, np.nan, F), np.full(b.shape, np.nan, F)
    needs = False, True, True
    gx, gw, gb = linear_activation.linear_activation_gradient(g, x, w, None, before, name, needs, (None, *into))
    assert gx is None and gw is into[0] and gb is into[1]
    check(gw, want[1], near, 4 * near)
    check(gb, want[2], near, 4 * near)
    assert linear_activation.linear_activation_gradient(g, x, w, None, before, name, (False,) * 3) == (None,) * 3


def test_a_small_layer_is_one_launch_and_a_large_one_two(emulator, monkeypatch):
    host, launched = Host(emulator), []
    run = compile.Source.run
    monkeypatch.setattr(
        compile.Source,
        "run",
        lambda self, name, *rest, **named: (launched.append(name), run(self, name, *rest, **named))[1],
    )
    x, w, b = draw((5, 6)), draw((7, 6)), draw(7)
    with compile.running_on(host):
        linear_activation.linear_activation(x, w, b, "gelu")
        assert launched == ["gemm_nt"] and host.cublas.calls == []
        monkeypatch.setattr(linear, "SMALL", 0)
        y, before = linear_activation.linear_activation(x, w, b, "gelu")
        assert launched == ["gemm_nt", "activated_rows"] and len(host.cublas.calls) == 1
        linear_activation.linear_activation_gradient(y, x, w, b, before, "gelu")
        assert launched[2:] == ["inner_gradient_rows", "add_parts"] and len(host.cublas.calls) == 3


def test_rows_of_many_parts(on_gpu, dtype):
    g, before, b = draw((1300, 19), dtype, 1.0, 1), draw((1300, 19), dtype), draw(19, dtype, 1.0, 2)
    z = wide(before).astype(np.float64) + wide(b)

    def run(before, b, g):
        y, d = np.empty_like(before), None
        grid, sizes = linear.down_the_rows(before)
        y, d, sums = (compile.library(before).empty(shape, kind) for shape, kind in
                      ((before.shape, before.dtype), (before.shape, before.dtype), ((grid[1], 19), F)))  # fmt: skip
        kernel = linear.BY_ACTIVATION["gelu"]
        kernel.run("activated_rows", (y.dtype,), grid, linear.BLOCK, before, b, y, *sizes)
        kernel.run("inner_gradient_rows", (y.dtype,), grid, linear.BLOCK, g, before, b, d, sums, *sizes)
        return y, d, sums

    y, d, sums = on_gpu(run, before, b, g)
    want = activated("gelu", z, wide(g))
    check(y, activated("gelu", z), absolute=1e-6)
    check(d, want, absolute=1e-6)
    check(sums.sum(0), want.sum(0), absolute=1e-4)


def test_our_product_in_tf32_may_be_activated(emulator, monkeypatch):
    a, b, bias = draw((67, 21)), draw((66, 21), F, 1.0, 1), draw(66, F, 1.0, 2)
    c, before = np.empty((67, 66), F), np.empty((67, 66), F)
    monkeypatch.setattr(gemm, "tf32", lambda: True)
    with compile.running_on(emulator):
        gemm.product(a, b.T, c, bias, activation="gelu", before=before)
    assert abs(before - a @ b.T).max() < 0.05
    check(c, activated("gelu", before + bias), absolute=1e-5)


# ---- the ops ----


@pytest.fixture
def ops_on_gpu(emulator, monkeypatch):
    """Ops take the CUDA families for NumPy arrays."""
    families = {"linear": linear, "linear_activation": linear_activation, "group_norm": group_norm, "norms": norms}
    take = lambda array, family: families.get(family) if array.dtype.name in compile.FLOATS else None
    monkeypatch.setattr(kernels, "find", take)
    host = Host(emulator)
    with compile.running_on(host):
        yield host


def through(function, arrays, dtype):
    """The value, the gradients, and those of the gradients' squares."""
    tensors = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    y = function(*tensors)
    first = autograd.grad(y.square().sum(), tensors, create_graph=True)
    plain = autograd.grad(function(*tensors).square().sum(), tensors)
    return [
        x.detach().numpy() for x in (y, *first, *plain, *autograd.grad(sum(g.square().sum() for g in first), tensors))
    ]


@pytest.mark.parametrize("name", ["relu", pytest.param("gelu", marks=pytest.mark.slow)])
def test_the_ops_use_the_kernels_to_the_second_derivative(ops_on_gpu, emulator, name):
    layer = lambda x, w, b: functional.linear_activation(x, w, b, name)
    norm = lambda x, w, b: functional.group_norm_activation(x, 2, w, b, activation=name)
    cases = [(layer, [(2, 3, 5), (4, 5), (4,)]), (norm, [(2, 4, 3, 3), (4,), (4,)])]
    for function, shapes in cases:
        arrays = [draw(shape, F, 1.0, seed) for seed, shape in enumerate(shapes)]
        for got, want in zip(through(function, arrays, F), through(function, arrays, np.float64)):
            assert got.dtype == F
            check(got, want, 1e-4, 1e-4)
    ran = {file for file, _ in emulator.launched}
    assert {"gemm.cu", "linear.cu", "norms.cu", "group_norm.cu"} <= ran


def test_under_autocast_the_layer_computes_in_16_bits(ops_on_gpu):
    x, w = (Tensor(draw(shape), requires_grad=True) for shape in ((3, 5), (4, 5)))
    with minigen.amp.autocast("float16"):
        y = functional.linear_activation(x, w, activation="relu")
        assert y.dtype == np.float16
    y.float().sum().backward()
    assert x.grad.dtype == w.grad.dtype == F


# ---- the compiler ----


@pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "silu" else pytest.mark.slow) for name in NAMES]
)
@pytest.mark.parametrize("family", [norms, linear, pytest.param(gemm, marks=pytest.mark.slow)])
@pytest.mark.parametrize("card", [*(pytest.param(card, marks=pytest.mark.slow) for card in ("75", "80")), "90"])
@pytest.mark.parametrize(
    "dtype", [pytest.param(kind, marks=[] if kind == "bfloat16" else pytest.mark.slow) for kind in compile.FLOATS]
)
def test_they_compile(name, family, card, dtype):
    source = family.BY_ACTIVATION[name]
    options = (*source.options(2 * (SimpleNamespace(name=dtype),)), "-ftz=true")
    assert ".local" not in nvrtc.compile(source.text, f"compute_{card}", options)
