"""The determinism table of the scorecard, and row 19: training without Numba."""

import pytest

from minigen.faults import determinism


@pytest.fixture(scope="module")
def here():
    return determinism.elsewhere()


@pytest.mark.parametrize("change", determinism.CHANGES)
def test_same_bits(here, change):
    assert determinism.elsewhere(determinism.CHANGES[change])[1] == here[1]


def test_same_process_and_another_seed():
    _, first = determinism.train(determinism.STEPS)
    assert determinism.train(determinism.STEPS)[1] == first
    assert determinism.train(determinism.STEPS, seed=1)[1] != first


@pytest.mark.parametrize("check", [determinism.same_numbers, determinism.without_numba])
def test_same_numbers_without_kernels(check):
    finding = check()
    assert finding.passed, finding.text
