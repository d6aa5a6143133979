"""Windows as columns and back, channels traded for pixels: against loops, inverses, gradients."""

import itertools
from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right

from minigen import Tensor
from minigen.errors import ArgumentError, ShapeError
from minigen.ops.convolution import conv2d
from minigen.ops.patches import channel_shuffle, fold, pixel_shuffle, pixel_unshuffle, unfold

random = np.random.default_rng(0)


def draw(*shape):
    return random.standard_normal(shape)


# (kernel, dilation, padding, stride)
GEOMETRY = [((2, 3), 1, 0, 1), ((3, 3), 1, 1, 2), ((2, 2), 2, (1, 2), (1, 3)), ((1, 1), 1, 0, 2)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unfold_by_loops(dtype):
    for kernel, dilation, padding, stride in GEOMETRY:
        x = draw(2, 3, 6, 7).astype(dtype)
        p, s = [(v, v) if isinstance(v, int) else v for v in (padding, stride)]
        bordered = np.pad(x, [(0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])])
        columns = []
        for top in range(0, bordered.shape[2] - dilation * (kernel[0] - 1), s[0]):
            for left in range(0, bordered.shape[3] - dilation * (kernel[1] - 1), s[1]):
                rows = slice(top, top + dilation * (kernel[0] - 1) + 1, dilation)
                across = slice(left, left + dilation * (kernel[1] - 1) + 1, dilation)
                columns.append(bordered[:, :, rows, across].reshape(2, -1))
        y = unfold(Tensor(x), kernel, dilation, padding, stride)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), np.stack(columns, 2))
        np.testing.assert_array_equal(unfold(Tensor(x[0]), kernel, dilation, padding, stride).numpy(), y.numpy()[0])


def test_fold_is_the_transpose_of_unfold():
    for kernel, dilation, padding, stride in GEOMETRY:
        x = draw(1, 2, 6, 7)
        columns = unfold(Tensor(x), kernel, dilation, padding, stride)
        y = draw(*columns.shape)
        back = fold(Tensor(y), (6, 7), kernel, dilation, padding, stride)
        np.testing.assert_allclose((columns.numpy() * y).sum(), (x * back.numpy()).sum())
    counts = fold(unfold(Tensor(np.ones((1, 1, 3, 3))), 2), (3, 3), 2)
    np.testing.assert_array_equal(counts.numpy()[0, 0], np.outer([1, 2, 1], [1, 2, 1]))


def test_a_convolution_is_a_product_with_the_columns():
    x, w = Tensor(draw(2, 3, 6, 7)), Tensor(draw(4, 3, 3, 3))
    product = (w.reshape(4, -1) @ unfold(x, 3, padding=1, stride=2)).reshape(2, 4, 3, 4)
    np.testing.assert_allclose(product.numpy(), conv2d(x, w, padding=1, stride=2).numpy(), atol=1e-12)


def test_pixel_shuffle_by_loops():
    x = draw(2, 12, 3, 4)
    y = pixel_shuffle(Tensor(x), 2).numpy()
    for n, c, h, w in itertools.product(range(2), range(3), range(6), range(8)):
        assert y[n, c, h, w] == x[n, c * 4 + h % 2 * 2 + w % 2, h // 2, w // 2]
    np.testing.assert_array_equal(pixel_unshuffle(Tensor(y), 2).numpy(), x)
    assert pixel_shuffle(Tensor(draw(9, 2, 2)), 3).shape == (1, 6, 6)


def test_channel_shuffle():
    x = np.arange(6.0).reshape(1, 6, 1, 1)
    np.testing.assert_array_equal(channel_shuffle(Tensor(x), 2).numpy().ravel(), [0, 3, 1, 4, 2, 5])


def test_gradients():
    for kernel, dilation, padding, stride in GEOMETRY[:3]:
        options = {"dilation": dilation, "padding": padding, "stride": stride}
        x = draw(1, 2, 5, 6)
        gradients_are_right(partial(lambda x, k, o: unfold(x.tanh(), k, **o), k=kernel, o=options), x)
        columns = draw(*unfold(Tensor(x), kernel, **options).shape)
        gradients_are_right(partial(lambda y, k, o: fold(y.tanh(), (5, 6), k, **o), k=kernel, o=options), columns)
    gradients_are_right(lambda x: pixel_shuffle(x.tanh(), 2), draw(1, 4, 2, 2))
    gradients_are_right(lambda x: pixel_unshuffle(x.tanh(), 2), draw(1, 1, 4, 2))
    gradients_are_right(lambda x: channel_shuffle(x.tanh(), 2), draw(1, 4, 2, 2))


def test_empty():
    assert unfold(Tensor(draw(0, 2, 5, 5)), 2).shape == (0, 8, 16)
    assert pixel_shuffle(Tensor(draw(0, 4, 5, 5)), 2).shape == (0, 1, 10, 10)


def test_bad_input():
    x = Tensor(draw(1, 6, 5, 5))
    with pytest.raises(ShapeError, match="does not fit into 5"):
        unfold(x, 6)
    with pytest.raises(ShapeError, match=r"has 16 windows of \(2, 2\): input must be \(N, C \* 4, 16\)"):
        fold(Tensor(draw(1, 8, 15)), (5, 5), 2)
    with pytest.raises(ArgumentError, match="stride must be at least 1"):
        unfold(x, 2, stride=0)
    with pytest.raises(ShapeError, match=r"a multiple of 2\^2"):
        pixel_shuffle(x, 2)
    with pytest.raises(ShapeError, match="multiples of 2"):
        pixel_unshuffle(x, 2)
    with pytest.raises(ArgumentError, match="positive integer"):
        pixel_shuffle(x, 0)
    with pytest.raises(ShapeError, match="multiple of groups=4"):
        channel_shuffle(x, 4)
