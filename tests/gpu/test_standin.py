"""The stand-in for CuPy keeps CuPy's rules: what it refuses, its types, its memory, and when the host waits."""

import numpy as np
import pytest
import standin

import minigen
from minigen.errors import DeviceError


@pytest.fixture
def x(in_place):
    return in_place.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, cupy: np.asarray(x),
        lambda x, cupy: x + np.ones(4, np.float32),
        lambda x, cupy: x * np.array(2.0),
        lambda x, cupy: np.ones(4, np.float32) + x,
        lambda x, cupy: x @ np.ones(4, np.float32),
        lambda x, cupy: cupy.where(x > 0, x, np.zeros(4)),
        lambda x, cupy: cupy.stack([x, np.zeros((3, 4))]),
        lambda x, cupy: x.max(initial=0),
        lambda x, cupy: cupy.argsort(x, dim=1),
        lambda x, cupy: range(x[0, 0]),
        lambda x, cupy: ~x,
        lambda x, cupy: cupy.linalg.det(x.astype(np.float16)),
    ],
)
def test_what_is_a_type_error(in_place, x, wrong):
    with pytest.raises(TypeError):
        wrong(x, in_place)


def test_what_cupy_has_not(in_place, x):
    for name in ("maximum", "multiply"):
        with pytest.raises(NotImplementedError):
            (in_place.multiply.at(x, 0, x) if name == "multiply" else in_place.maximum.accumulate(x))
    with pytest.raises(AttributeError):
        in_place.frompyfunc  # noqa: B018
    with pytest.raises(ValueError, match="fill"):
        x[...] = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="stable"):
        in_place.argsort(x, kind="quicksort")
    with pytest.raises(np.exceptions.AxisError):
        x[0, 0].sum(axis=0)


def test_results_are_arrays_on_the_device_and_c_contiguous(in_place, x):
    for y in (x.sum(), x.max(), x.argmax(), x[0, 0], in_place.sqrt(x[0, 0])):
        assert type(y) is in_place.ndarray and y.shape == ()
    assert (x.T + x.T).flags.c_contiguous and x.T.astype(np.float64).strides == (8, 32)
    assert in_place.empty_like(x.T).strides == (4, 16) and x.T.copy().flags.c_contiguous
    turned = np.zeros((2, 3, 4)).transpose(0, 2, 1)
    assert in_place.asarray(turned).flags.c_contiguous and in_place.asarray(turned.T[:, 0]).flags.c_contiguous
    assert in_place.asarray(np.zeros((2, 3)).T).flags.f_contiguous and x.T.get().flags.c_contiguous


def test_views(in_place, x):
    assert x[1:].base is x and x[1:][:, ::2].base is x and x.T.base is x and (x + 1).base is None
    x[1:][0, 0] = 50.0
    assert x[1, 0].item() == 50.0 and x.reshape(-1)[4].item() == 50.0
    assert in_place.broadcast_to(x, (2, 3, 4)).strides == (0, 16, 4)
    assert x[1].data.ptr == x.data.ptr + 16


@pytest.mark.parametrize(
    "function, wanted",
    [
        (lambda x, cupy: x * 2, "bfloat16"),
        (lambda x, cupy: x * 2.0, "float32"),
        (lambda x, cupy: x**0.5, "float64"),
        (lambda x, cupy: x.sum(0), "bfloat16"),
        (lambda x, cupy: x.mean(0), "bfloat16"),
        (lambda x, cupy: x.var(0), "float64"),
        (lambda x, cupy: cupy.where(x > 0, x, x), "float32"),
        (lambda x, cupy: x.clip(0, 1), "float32"),
        (lambda x, cupy: cupy.exp(x), "bfloat16"),
        (lambda x, cupy: x + x.astype(np.float16), "float32"),
        (lambda x, cupy: x.astype(np.float16) * 2.0, "float16"),
        (lambda x, cupy: x.astype(np.int32) * 2.0, "float64"),
        (lambda x, cupy: x.astype(np.int32) * np.float32(2), "float64"),
        (lambda x, cupy: (x > 0) * 2, "int64"),
        (lambda x, cupy: x.astype(np.float32) * np.float64(2), "float64"),
    ],
)
def test_types_are_cupys(in_place, x, function, wanted):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert function(x.astype(ml_dtypes.bfloat16), in_place).dtype.name == wanted


def test_when_the_host_waits(x):
    with standin.no_reads():
        y = (x @ x.T).sum() * 2
    for read in (float, int, bool, lambda y: y.item(), lambda y: y.get(), lambda y: y.tolist(), lambda y: x[x > y]):
        with pytest.raises(standin.HostRead), standin.no_reads():
            read(y)


def test_writes_that_a_card_leaves_open(in_place, x):
    i = in_place.asarray(np.array([0, 1, 1]))
    x[i] = 3.0
    with pytest.raises(standin.Undefined):
        x[i] = in_place.arange(3.0, dtype=np.float32)[:, None]
    assert x[in_place.asarray(np.array([4]))].tolist() == x[1:2].tolist()  # an index out of range wraps


def test_arrays_of_two_devices_are_named(in_place):
    with pytest.raises(DeviceError, match=r"mul: \(3,\) float32 on cuda, \(3,\) float32 on cpu\n.*to\(.cuda.\)"):
        minigen.ones(3, device="cuda") * minigen.ones(3)
    x = minigen.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(DeviceError, match="the gradient given is on cpu"):
        (x * 2).backward(minigen.ones(3))
