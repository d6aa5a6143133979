"""Arrays end to end, and an array cut into parts, against NumPy: bit for bit."""

import numpy as np
import pytest

from minigen.kernels.cuda import joining

pytestmark = pytest.mark.kernels
CASES = [
    ((3, 5, 8), (4, 7, 0), 1),  # an empty one
    ((2, 6), (8, 16), 1),  # whole packs
    ((2, 3, 5), (1, 3), 2),  # rows that begin anywhere
    ((4, 3), (2, 5), 0),
    ((2, 8), (8, 1, 3, 4, 16, 2), 1),  # more than one launch
]


def drawn(shape, sizes, axis, dtype):
    draw = np.random.default_rng(0)
    return [draw.standard_normal((*shape[:axis], size, *shape[axis + 1 :])).astype(dtype) for size in sizes]


@pytest.mark.parametrize("shape, sizes, axis", CASES)
def test_end_to_end(on_gpu, dtype, shape, sizes, axis):
    parts = drawn(shape, sizes, axis, dtype)
    got = on_gpu(lambda *xs: joining.concatenate(xs, axis), *parts)
    assert got.dtype == dtype and got.tobytes() == np.concatenate(parts, axis).tobytes()


@pytest.mark.parametrize("shape, sizes, axis", CASES)
def test_cut(on_gpu, dtype, shape, sizes, axis):
    parts = drawn(shape, sizes, axis, dtype)
    got = on_gpu(lambda x: tuple(joining.cut(x, sizes, axis)), np.concatenate(parts, axis))
    assert all(one.shape == part.shape and one.tobytes() == part.tobytes() for one, part in zip(got, parts))


def test_what_is_not_contiguous(on_gpu):
    x = np.arange(48, dtype=np.float32).reshape(4, 12)
    got = on_gpu(lambda x: joining.concatenate([x[:, ::2], x[:, :3]], 1), x)
    np.testing.assert_array_equal(got, np.concatenate([x[:, ::2], x[:, :3]], 1))
    one, other = on_gpu(lambda x: tuple(joining.cut(x.T, (5, 7), 0)), x)
    np.testing.assert_array_equal(one, x.T[:5])
    np.testing.assert_array_equal(other, x.T[5:])
