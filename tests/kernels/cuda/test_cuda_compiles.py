"""Every CUDA kernel compiles, for cards of compute capability 7.5, 8.0, 9.0, 10.0 and 12.0, by NVRTC, without a GPU.

Beyond that, its rows stay in registers: an array that the compiler cannot unroll would lie in `.local` memory.
"""

import importlib
from itertools import product
from types import SimpleNamespace

import pytest

from minigen.kernels.cuda import compile
from minigen.kernels.ladder import nvrtc

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc-cu12"),
]
FAMILIES = sorted(path.stem for path in compile.HERE.glob("*.cu"))
CARDS, TYPES = ("75", "80", "90", "100", "120"), compile.FLOATS
CASES = list(product(FAMILIES, CARDS, TYPES))
QUICK = {("75", "float32"), ("90", "bfloat16")}  # the others are much the same
# a second or two each: once will do
LONG = {
    "layer_norm": ("90", "bfloat16"),
    "softmax": ("75", "float32"),
    "recurrent": ("90", "bfloat16"),
    "conv": ("90", "bfloat16"),
    "attention_gradient": ("90", "bfloat16"),
}


# kernels that read and write 16 bytes at a time: of an assignment the compiler may make one access for each number
PACKED = {
    "activations": ["gelu_value", "mish_gradient"],
    "dropout": ["dropout"],
    "embedding": ["gather_rows", "add_rows"],
    "joining": ["join_rows", "cut_rows"],
    "layer_norm": ["layer_norm_narrow_16", "layer_norm_wide", "layer_norm_gradient_narrow_8"],
    "losses": ["mse_gradient"],
    "mix": ["mix_packs"],
    "norms": ["affine", "affine_columns", "gradient_affine_columns"],
    "optim": ["sgd", "adam", "lerp"],
    "pool": ["largest_last", "sums_last", "many_sums_last", "spread_last", "spread_chosen_last"],
    "softmax": ["softmax_narrow_16", "softmax_wide", "softmax_gradient_wide"],
}


def quick(family, *case):
    return case == LONG.get(family, case) and (case in QUICK or family in ("dropout", "optim"))


def source(family):
    return importlib.import_module(f"minigen.kernels.cuda.{family}").KERNELS


def options(family, *names):
    """What CuPy gives NVRTC, beside the architecture: our options and its own."""
    return (*source(family).options(tuple(SimpleNamespace(name=name) for name in names)), "-ftz=true")


@pytest.mark.parametrize(
    "family, card, name",
    [pytest.param(*case, marks=[] if quick(*case) else pytest.mark.slow) for case in CASES],
)
def test_it_compiles(family, card, name):
    ptx = nvrtc.compile(source(family).text, f"compute_{card}", options(family, name, name))
    assert ptx.count(".visible .entry") >= 1
    assert ".local" not in ptx
    for kernel in PACKED.get(family, ()):
        body = ptx.partition(f".entry {kernel}(")[2].partition("\n}")[0]
        assert "ld.global.v4" in body and "st.global.v4" in body, kernel


@pytest.mark.parametrize("name", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
@pytest.mark.parametrize("family", ["conv", "conv_weight"])
def test_products_by_warpgroups_compile(family, name):
    source = importlib.import_module(f"minigen.kernels.cuda.{family}").BY_WAY["WARPGROUPS"]
    options = (*source.options((SimpleNamespace(name=name),)), *compile.AS_CUPY)
    ptx = nvrtc.compile(source.text, f"compute_{source.architecture}", options)
    assert "wgmma.mma_async" in ptx and "fence.proxy.async" in ptx and ".local" not in ptx


@pytest.mark.parametrize("size, name", [pytest.param(16, "float32", marks=pytest.mark.slow), (64, "bfloat16")])
def test_blocks_that_decode_alone_are_assembled(size, name):
    source = importlib.import_module("minigen.kernels.cuda.attention_decode").LONG_FILES[size]
    ptx = nvrtc.compile(source.text, "sm_80", (*source.options((SimpleNamespace(name=name),)), *compile.AS_CUPY))
    assert ".maxntid 512" in ptx and ".local" not in ptx


@pytest.mark.slow
@pytest.mark.parametrize("name, weight", [pair for pair in product(TYPES, TYPES) if pair[0] != pair[1]])
@pytest.mark.parametrize("family", ["arithmetic", "gemm", "group_norm", "layer_norm", "losses", "norms"])
def test_it_compiles_for_two_types(family, name, weight):
    assert ".local" not in nvrtc.compile(source(family).text, "compute_80", options(family, name, weight))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_a_norm_compiles_for_a_result_of_another_type(name):
    types = options("layer_norm", "float32", "float32", name)
    assert ".local" not in nvrtc.compile(source("layer_norm").text, "compute_80", types)


def test_each_cu_file_belongs_to_a_family():
    for family in FAMILIES:
        assert source(family).file == f"{family}.cu"


def test_an_error_names_the_header_and_its_line():
    broken = source("dropout").text.replace("constexpr u32 ALL = 0xFFFFFFFF;", "constexpr u32 ALL = nothing;")
    with pytest.raises(RuntimeError, match=r"common\.cuh\(\d+\)"):
        nvrtc.compile(broken, "compute_75", options("dropout", "float32"))


def test_the_newest_path_is_used_where_the_card_has_it():
    text = source("optim").text
    assert "cvt.rn.bf16.f32" in nvrtc.compile(text, "compute_80", options("optim", "bfloat16"))
    assert "cvt.rn.bf16.f32" not in nvrtc.compile(text, "compute_75", options("optim", "bfloat16"))


@pytest.mark.parametrize(
    "card", [pytest.param("75", marks=pytest.mark.slow), "80", pytest.param("90", marks=pytest.mark.slow)]
)
def test_products_in_tf32_compile(card):
    from minigen.kernels.cuda.gemm import TF32_KERNELS as tf32

    options = (*tf32.options(2 * (SimpleNamespace(name="float32"),)), "-ftz=true")
    ptx = nvrtc.compile(tf32.text, f"compute_{card}", options)
    assert ".local" not in ptx and ("mma.sync.aligned.m16n8k8.row.col.f32.tf32" in ptx) == (card != "75")
