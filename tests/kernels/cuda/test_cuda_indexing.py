"""The gradient of picking on the GPU: what goes to one place is added in one order, for any index."""

import numpy as np
import pytest
from test_cuda_kernels import check, draw, wide

from minigen.kernels.cuda import embedding
from minigen.ops.indexing import _add_sorted

pytestmark = pytest.mark.kernels
i, j = np.array([[0, 2, 2], [-1, 0, 2]]), np.array([1, 3, 3])
CASES = [  # the shape of x, an index that names places more than once
    ((5,), (i,)),
    ((4, 6), (i,)),
    ((4, 6), (slice(None), i)),
    ((3, 4, 5), (slice(None), i, j)),
    ((3, 4, 5), (slice(None), slice(None), i)),
    ((3, 4, 2), (i, j)),
    ((3, 4, 5), (i, slice(1, 4), j)),
    ((3, 4), (i, 1)),
    ((3, 4), (None, i, slice(None, None, 2))),
    ((3, 4), (np.array([True, False, True]), np.array([2, 2]))),
    ((3, 4), (Ellipsis, i)),
]


@pytest.mark.parametrize("shape, index", CASES)
def test_what_is_picked_goes_back(on_gpu, dtype, shape, index):
    g = draw(np.empty(shape)[index].shape, dtype)
    want = np.zeros(shape)
    np.add.at(want, index, wide(g))
    moved = tuple([on_gpu.over(x) for x in index])
    got = on_gpu(lambda g: _add_sorted(embedding, g, shape, moved), g)
    assert got.dtype == dtype
    check(got, want)
