"""Drawing a symbol: the rules in their order, then the generator's words. The kernel: tests/kernels/cuda."""

import numpy as np
import pytest

from minigen.errors import ArgumentError
from minigen.ops.softmax import softmax
from minigen.random import Generator
from minigen.sampling import logits as rules
from minigen.sampling.drawing import draw, never_waits


def test_it_is_what_the_rules_and_the_generator_make():
    logits = np.random.default_rng(0).standard_normal((50, 20)).astype(np.float32)
    got = draw(logits, 0.7, top_k=9, top_p=0.9, min_p=0.05, generator=Generator(3))
    left = rules.min_p(rules.top_p(rules.top_k(rules.temperature(logits, 0.7), 9), 0.9), 0.05)
    want = Generator(3).categorical(softmax(left, -1))
    assert got.dtype == np.int64 and np.array_equal(got, want)
    assert np.array_equal(draw(logits, 0), logits.argmax(-1))


def test_each_cut_alone():
    logits = np.tile(np.array([0.0, 1.0, 2.0, 3.0], np.float32), (400, 1))
    for cut, symbols in (({}, {0, 1, 2, 3}), ({"top_k": 2}, {2, 3}), ({"top_p": 0.7}, {2, 3}), ({"min_p": 0.9}, {3})):
        assert set(draw(logits, **cut, generator=Generator(1)).tolist()) == symbols


def test_refused():
    logits = np.zeros((1, 4), np.float32)
    for limits in ({"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"min_p": 2}):
        for temperature in (0, 1.0):
            with pytest.raises(ArgumentError, match=next(iter(limits))):
                draw(logits, **{"temperature": temperature, **limits})
    with pytest.raises(ArgumentError, match="finite"):
        draw(logits - np.inf)


def test_on_the_cpu_only_greedy_decoding_never_waits():
    logits = np.zeros((1, 4), np.float32)
    assert never_waits(logits, 0) and not never_waits(logits, 1.0)
