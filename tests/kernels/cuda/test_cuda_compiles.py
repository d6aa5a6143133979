"""Every CUDA kernel compiles, for cards of compute capability 7.5, 8.0 and 9.0, by NVRTC, which needs no GPU.

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
CARDS, TYPES = ("75", "80", "90"), compile.FLOATS
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


@pytest.mark.slow
@pytest.mark.parametrize("name, weight", [pair for pair in product(TYPES, TYPES) if pair[0] != pair[1]])
@pytest.mark.parametrize("family", ["gemm", "group_norm", "layer_norm", "losses", "norms"])
def test_it_compiles_for_two_types(family, name, weight):
    assert ".local" not in nvrtc.compile(source(family).text, "compute_80", options(family, name, weight))


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
