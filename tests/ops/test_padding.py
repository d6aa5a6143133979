"""`pad`: against NumPy's, negative widths, gradients, memory order."""

from functools import partial

import numpy as np
import pytest
from agreement import gradients_are_right

from minigen import Tensor
from minigen.errors import ArgumentError, DtypeError, ShapeError
from minigen.ops.padding import pad

random = np.random.default_rng(0)
NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def draw(*shape):
    return random.standard_normal(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", NUMPY)
def test_equals_numpy(mode, dtype):
    for dims, widths in [(1, (2, 1)), (2, (0, 3, 2, 2)), (3, (1, 0, 2, 1, 1, 2))]:
        x = draw(2, 3, *(4, 5, 4)[-dims:]).astype(dtype)
        y = pad(Tensor(x), widths, mode)
        pairs = [(0, 0)] * 2 + [widths[i : i + 2] for i in range(0, len(widths), 2)][::-1]
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), np.pad(x, pairs, NUMPY[mode]))
        np.testing.assert_array_equal(pad(Tensor(x[0]), widths, mode).numpy(), y.numpy()[0])


def test_constants_of_any_kind_in_any_dimension():
    x = draw(2, 3)
    y = pad(Tensor(x), (1, 2, 3, 4), value=7.5)
    np.testing.assert_array_equal(y.numpy(), np.pad(x, [(3, 4), (1, 2)], constant_values=7.5))
    assert pad(Tensor(np.arange(3)), (1, 1), value=9).tolist() == [9, 0, 1, 2, 9]
    assert pad(Tensor(np.ones(2, bool)), (0, 1)).tolist() == [True, True, False]


@pytest.mark.parametrize("mode", NUMPY)
def test_negative_widths_cut(mode):
    x = draw(1, 2, 6, 7)
    y = pad(Tensor(x), (-2, 1, 1, -3), mode)
    border = [(0, 0), (0, 0), (1, 0), (0, 1)]
    if mode == "circular":  # what is left after the cut goes round
        expected = np.pad(x[:, :, :-3, 2:], border, "wrap")
    else:
        expected = np.pad(x, border, NUMPY[mode])[:, :, :-3, 2:]
    np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("mode", NUMPY)
def test_gradients(mode):
    gradients_are_right(partial(lambda x, mode: pad(x.tanh(), (2, 1, 0, -1), mode), mode=mode), draw(1, 2, 4, 4))


def test_channels_last_stay_so():
    x = Tensor(np.moveaxis(draw(2, 4, 4, 3), -1, 1).astype(np.float32))
    assert pad(x, (1, 1, 2, 0)).permute(0, 2, 3, 1).is_contiguous()


def test_bad_input():
    x = Tensor(draw(1, 2, 4, 4))
    with pytest.raises(ShapeError, match="can add at most 3"):
        pad(x[0], (4, 0), "reflect")
    with pytest.raises(ShapeError, match="can add at most 4"):
        pad(x[0], (5, 0), "circular")
    with pytest.raises(ShapeError, match="in pairs"):
        pad(x, (1, 2, 3))
    with pytest.raises(ShapeError, match="negative size"):
        pad(x, (-3, -3))
    with pytest.raises(ArgumentError, match="mode is"):
        pad(x, (1, 1), "mirror")
    with pytest.raises(DtypeError, match="integers"):
        pad(x, (0.5, 1))
    with pytest.raises(ArgumentError, match="takes no value"):
        pad(x, (1, 1), "reflect", 3.0)
    with pytest.raises(ShapeError, match="pads the last 1 dimensions"):
        pad(x, (1, 1), "replicate")
