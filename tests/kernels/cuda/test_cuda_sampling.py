"""Draws of the next symbol on the GPU: those that the definition draws by the same generator, in frequency as well."""

import numpy as np
import pytest

from minigen import Tensor
from minigen import kernels as families
from minigen.errors import ArgumentError
from minigen.kernels.cuda import compile, sampling
from minigen.random import Generator
from minigen.sampling import logits as rules
from minigen.sampling.decoding import generate
from minigen.sampling.drawing import draw, never_waits

pytestmark = pytest.mark.kernels
F = np.float32
CUTS = [{}, {"top_k": 7}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 20, "top_p": 0.9, "min_p": 0.02}]


def logits_of(rows, width, dtype=F, scale=3.0, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, width)) * scale).astype(dtype)


def drawn(on_gpu, logits, temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None):
    place = (generator or Generator(5)).reserve(2 * len(logits))
    return on_gpu(sampling.draw, logits, temperature, top_k, top_p, min_p, *place)


@pytest.mark.parametrize("cuts", CUTS, ids=lambda cuts: "-".join(cuts) or "none")
def test_the_symbols_of_the_definition(on_gpu, dtype, cuts):
    for rows, width, temperature in ((3, 1, 1.0), (10, 5, 0.7), (20, 67, 1.5), (5, 700, 1.0)):
        logits = logits_of(rows, width, dtype)
        want = draw(logits.astype(F), temperature, **cuts, generator=Generator(5))
        assert np.array_equal(drawn(on_gpu, logits, temperature, **cuts), want)


def test_a_row_wider_than_a_block(on_gpu):
    logits = logits_of(3, 9001, scale=1.0)
    for cuts in ({}, {"top_k": 300}, {"top_p": 0.5}):
        assert np.array_equal(drawn(on_gpu, logits, **cuts), draw(logits, **cuts, generator=Generator(5)))


def test_which_symbols_are_left(on_gpu):
    """Each symbol that the rules leave, and no other, is drawn by some of many rows."""
    row = np.array([0.0, 2.0, 0.2, 2.0, 1.0, -np.inf, 2.0, 0.5, -0.0, 1.0], F)
    logits = np.tile(row, (150, 1))
    for name, limits in (("top_k", (1, 4, 5, 99)), ("top_p", (1e-9, 0.4, 0.7, 1.0)), ("min_p", (1, 0.3))):
        for limit in limits:
            left = np.isfinite(getattr(rules, name)(row[None], limit)[0])
            found = set(drawn(on_gpu, logits, **{name: limit}).tolist())
            assert found == set(np.flatnonzero(left).tolist()), (name, limit)


def test_level_symbols_are_dropped_from_the_left(on_gpu):
    """The nucleus takes as many of equal symbols as it needs, the last ones: over several packs and warps."""
    for width in (8, 300):
        logits = np.zeros((30, width), F)
        for p in (0.062, 0.502, 0.988):  # of 300: 19, 151 and 297 symbols
            found = drawn(on_gpu, logits, top_p=p)
            assert found.min() >= width - np.ceil(p * width)
            assert np.array_equal(found, draw(logits, top_p=p, generator=Generator(5)))


def test_frequencies(on_gpu):
    """2000 draws of 6 symbols: chi-square with 5 degrees of freedom stays below 20.5 in 999 of 1000 seeds."""
    row = np.array([0.3, -1.0, 2.0, 0.0, 1.0, -0.5], F)
    chances = np.exp(row / 1.3) / np.exp(row / 1.3).sum()
    found = drawn(on_gpu, np.tile(row, (2000, 1)), 1.3, generator=Generator(11))
    counts = np.bincount(found, minlength=6)
    assert ((counts - 2000 * chances) ** 2 / (2000 * chances)).sum() < 20.5


def test_the_place_in_the_stream(on_gpu):
    """The next draw reads the next words; a place that lies on the device is added to the number."""
    logits, generator = logits_of(7, 50), Generator(3)
    pair = [drawn(on_gpu, logits, generator=generator) for _ in range(2)]
    assert not np.array_equal(*pair)
    again = Generator(3)
    for want in pair:
        assert np.array_equal(want, draw(logits, generator=again))
    seed, stream, first = Generator(3).reserve(14)
    place = np.array([3], np.uint64)
    for start, want in ((0, pair[0]), (4, pair[1])):
        place[:] = start
        got = on_gpu(sampling.draw, logits, 1.0, None, None, None, seed, stream, (first, on_gpu.over(place)))
        assert np.array_equal(got, want)


def test_rows_that_are_no_distribution(on_gpu):
    logits = logits_of(6, 40)
    logits[1, 3], logits[2, :], logits[3, 7], logits[4, 8] = np.nan, -np.inf, np.inf, -np.inf
    for cuts in CUTS:
        assert (drawn(on_gpu, logits, **cuts)[[1, 2, 3]] == -1).all()
        good = draw(logits[[0, 4]], **cuts, generator=Generator(5))
        assert drawn(on_gpu, logits[[0, 4]], **cuts).tolist() == good.tolist()
    assert drawn(on_gpu, logits[:0]).shape == (0,)


def test_the_largest(on_gpu, dtype):
    for rows, width in ((3, 1), (5, 67), (2, 5000)):
        logits = logits_of(rows, width, dtype)
        assert np.array_equal(on_gpu(sampling.largest, logits), logits.astype(F).argmax(-1))
    strange = np.array(
        [[1, 3, 3, 2], [-0.0, 0.0, -1, 0], [1, np.nan, np.inf, np.nan], [-np.inf] * 4, [-3, -2, -np.inf, -2]], dtype
    )
    assert on_gpu(sampling.largest, strange).tolist() == [1, 0, 1, 0, 1]


def test_repetition_penalty(on_gpu, dtype):
    logits = logits_of(4, 30, dtype)
    ids = np.random.default_rng(1).integers(-30, 30, (4, 300))
    ids[:, 100:] %= 7
    got = on_gpu(sampling.repetition_penalty, logits, ids, 1.5)
    want = rules.repetition_penalty(logits.astype(F), ids, 1.5)
    assert np.array_equal(got, want.astype(dtype))
    assert np.array_equal(on_gpu(sampling.repetition_penalty, logits, ids[:, :0], 1.5), logits)


def test_a_text_is_read_and_written_in_memory(on_gpu):
    text = np.array([[3, -1, -1, -1], [5, 6, 7, -1], [-1, 2, -1, -1]])
    np.testing.assert_array_equal(on_gpu(sampling.read_symbols, text, np.array([0])), [[3], [5], [0]])
    text, place, _ = on_gpu.in_place(sampling.write_symbols, text, np.array([1]), np.array([9, 8, 4]))
    np.testing.assert_array_equal(text, [[3, -1, 9, -1], [5, 6, 7, -1], [-1, 2, 4, -1]])
    assert place.tolist() == [2]


def test_strided_logits(on_gpu):
    logits = logits_of(5, 40)
    wide = np.repeat(logits, 2, axis=1)[:, ::2]
    assert np.array_equal(drawn(on_gpu, wide, top_k=5), drawn(on_gpu, logits, top_k=5))


def test_the_library_draws_by_it(emulator, monkeypatch):
    logits, ids = logits_of(5, 40), np.arange(10).reshape(5, 2)
    options = {"temperature": 0.8, "top_k": 9, "top_p": 0.9}
    want = [draw(logits, **options, generator=g) for g in [Generator(1)] * 2], draw(logits, 0)
    penalised = rules.repetition_penalty(logits, ids, 2.0)
    assert never_waits(logits, 0) and not never_waits(logits, 1.0)
    monkeypatch.setattr(families, "find", lambda x, family: sampling if family == "sampling" else None)
    generator = Generator(1)
    with compile.running_on(emulator):
        got = [draw(logits, **options, generator=generator) for _ in range(2)], draw(logits, 0)
        assert np.array_equal(rules.repetition_penalty(logits, ids, 2.0), penalised)
        assert never_waits(logits, 1.0) and generator.counter == 6
        for limits in ({"top_k": 0}, {"top_p": 1.5}, {"min_p": -1}, {"temperature": -1}):
            with pytest.raises(ArgumentError):
                draw(logits, **limits)
    for one, other in zip((*got[0], got[1]), (*want[0], want[1])):
        assert np.array_equal(one, other)


class Bigrams:
    """A language model that looks one symbol back."""

    def __init__(self, table):
        self.table = table

    def step(self, ids, state=None):
        return Tensor(self.table[ids.data]), state


def test_texts_are_written_by_it(emulator, monkeypatch):
    table, prompts = logits_of(12, 12, scale=2.0), np.array([[1, 2], [3, 4], [5, 6]])
    write = lambda table: generate(
        Bigrams(table), prompts, 6, temperature=0.9, top_p=0.95, generator=Generator(2), eos=0
    )
    want = write(table)
    monkeypatch.setattr(families, "find", lambda x, family: sampling if family == "sampling" else None)
    emulator.launched, earlier = set(), emulator.launched
    with compile.running_on(emulator):
        assert np.array_equal(write(table), want)
        with pytest.raises(ArgumentError, match="no distribution"):
            write(table * np.nan)
    names = emulator.launched
    emulator.launched = earlier | names
    assert names == {("sampling.cu", "draw")}


def test_too_many_symbols(on_gpu):
    with pytest.raises(ValueError, match="from 1 to 8388608 symbols, not 0"):
        on_gpu(sampling.largest, np.zeros((1, 0), F))
