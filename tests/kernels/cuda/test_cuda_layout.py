"""Sums over parts that are turned on the way, against NumPy."""

import numpy as np
import pytest

from minigen.kernels.cuda import layout

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("shape", [(3, 2, 9, 40), (1, 1, 33, 7), (6, 3, 4, 32), (2, 5, 1, 8), (4, 2, 6, 1)])
@pytest.mark.parametrize("given", [False, True])
def test_the_sum_of_parts_is_turned(on_gpu, dtype, shape, given):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    _, N, C, P = shape
    into = np.full((N, P, C), np.nan, np.float32) if given else None  # a master's gradient
    got = on_gpu(layout.turned_sums, x, dtype, into)
    total = np.zeros(shape[1:], np.float32)
    for part in x:
        total += part
    want = total.swapaxes(1, 2).astype(np.float32 if given else dtype)
    np.testing.assert_array_equal(got, want)
