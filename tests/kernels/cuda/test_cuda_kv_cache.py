"""The kernel that writes a key-value cache, against the CPU's; and a GPT that decodes on the CUDA kernels."""

import importlib
import importlib.util

import numpy as np
import pytest

import minigen
from minigen import kernels
from minigen.kernels.cpu import kv_cache as cpu_kv_cache
from minigen.kernels.cuda import compile, kv_cache
from minigen.models.transformer.gpt import GPT
from minigen.sampling.decoding import generate

pytestmark = pytest.mark.kernels


def written(keys, values, *arguments):
    """The cache after the call."""
    keys, values = keys.copy(), values.copy()
    kv_cache.cache_write(keys, values, *arguments)
    return keys, values


def projection(draw, N, T, G, D, dtype):
    """Keys and values as a layer has them: views of one product (N, T, 2, G, D)."""
    return draw.standard_normal((N, T, 2, G, D)).astype(dtype).transpose(2, 0, 3, 1, 4)


SIZES = [(1, 1, 12, 20, 64), (3, 1, 4, 9, 16), (2, 5, 3, 8, 5), (1, 2, 1, 3, 300), (0, 1, 2, 3, 4)]


@pytest.mark.parametrize("N, T, G, S, D", SIZES)
def test_new_keys_go_to_their_places(on_gpu, dtype, N, T, G, S, D):
    draw = np.random.default_rng(0)
    k, v = projection(draw, N, T, G, D, dtype)
    keys, values = (draw.standard_normal((N, G, S, D)).astype(dtype) for _ in range(2))
    places = np.array([draw.permutation(S)[:T] for _ in range(N)], np.int64).reshape(N, T)
    if T > 1:
        places[:, 1] = -1  # not stored
    got = on_gpu(written, keys, values, k, v, places)
    want = [x.astype(np.float32) for x in (keys, values)]
    cpu_kv_cache.cache_write(*want, k.astype(np.float32), v.astype(np.float32), places)
    for one, other in zip(got, want):
        np.testing.assert_array_equal(one.astype(np.float32), other)


@pytest.mark.parametrize("places_type", [np.int32, np.int64])
def test_rows_that_are_not_dense_and_widths_of_their_own(on_gpu, places_type):
    draw = np.random.default_rng(1)
    k = draw.standard_normal((2, 3, 8, 4)).astype(np.float32).swapaxes(2, 3)[:, :, :, ::2]
    v = draw.standard_normal((2, 3, 4, 7)).astype(np.float32)
    keys, values = np.zeros((2, 3, 6, 4), np.float32), np.zeros((2, 3, 6, 7), np.float32)
    places = np.array([[0, 5, 2, 1], [3, 1, -1, 4]], places_type)
    for new in (k, k[:, :, ::-1]):
        got = on_gpu(written, keys, values, new, v, places)
        want = keys.copy(), values.copy()
        cpu_kv_cache.cache_write(*want, np.ascontiguousarray(new), v, places.astype(np.int64))
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_a_gpt_writes_the_same_on_the_emulated_kernels(emulator, monkeypatch):
    minigen.manual_seed(0)
    model = GPT(vocab_size=11, n_positions=20, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3).eval()
    want = generate(model, [[1], [2, 3, 4]], 8, temperature=0)

    def find(array, family):
        name = f"minigen.kernels.cuda.{family}"
        known = array.dtype == np.float32 and importlib.util.find_spec(name)
        return importlib.import_module(name) if known else None

    earlier, emulator.launched = emulator.launched, set()
    monkeypatch.setattr(kernels, "find", find)
    with compile.running_on(emulator):
        got = generate(model, [[1], [2, 3, 4]], 8, temperature=0, cache="static")
    files = {file for file, _ in emulator.launched}
    emulator.launched |= earlier
    assert all(np.array_equal(one, other) for one, other in zip(got, want))
    assert {"kv_cache.cu", "attention_decode.cu", "layer_norm.cu", "embedding.cu"} <= files
