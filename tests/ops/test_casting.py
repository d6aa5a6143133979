"""Types, copies and memory order."""

import numpy as np
import pytest
from agreement import gradients_are_right

import minigen
from minigen import Tensor
from minigen.errors import DeviceError, DtypeError

NAMES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "byte": "uint8",
    "char": "int8",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "bool": "bool",
}


@pytest.mark.parametrize("name", NAMES)
def test_by_name(name):
    x = minigen.tensor([0.0, 1.5, 3.0])
    y = getattr(x, name)()
    assert y.dtype == NAMES[name]
    assert (y.data == np.array([0.0, 1.5, 3.0], "float32").astype(NAMES[name])).all()
    assert x.to(NAMES[name]).dtype == x.to(dtype=np.dtype(NAMES[name])).dtype == y.dtype
    assert x.type_as(y).dtype == y.dtype and x.to(y).dtype == y.dtype


def test_the_gradient_comes_back_in_the_type_that_went_in():
    x = minigen.ones(3, requires_grad=True)
    (x.double() * 2).sum().backward()
    assert x.grad.dtype == minigen.float32 and x.grad.tolist() == [2, 2, 2]
    gradients_are_right(lambda x: x.to(minigen.float64).clone().contiguous() ** 2, np.arange(3.0))
    assert not x.long().requires_grad and not (x.bool()).requires_grad


def test_nothing_to_do_gives_x_itself():
    x = minigen.ones(2, 3)
    assert x.to("cpu") is x and x.float() is x and x.to(minigen.float32) is x and x.contiguous() is x
    assert x.to(minigen.float32, copy=True) is not x and x.cpu() is x


def test_clone_owns_its_memory_in_the_same_order():
    x = Tensor(np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1), requires_grad=True)
    y = x.clone()
    assert y.data.strides == x.data.strides and not np.shares_memory(x.data, y.data)
    assert x.contiguous().is_contiguous() and (x.contiguous().data == x.data).all()
    y.sum().backward()
    assert (x.grad.data == 1).all()


def test_refused():
    x = minigen.ones(2)
    with pytest.raises(DtypeError, match="float32"):
        x.to("flaot32")
    with pytest.raises(DeviceError):
        x.to(device="tpu")
    with pytest.raises(DtypeError):
        x.to(3.5)


@pytest.mark.gpu
def test_to_the_gpu_and_back():
    x = minigen.ones(3, requires_grad=True)
    y = x.to("cuda")
    assert y.device == "cuda" and y.to("cuda:0") is y and x.to("cuda", minigen.float64).dtype == minigen.float64
    (y * 2).sum().backward()
    assert x.grad.device == "cpu" and x.grad.tolist() == [2, 2, 2]
    assert y.cpu().tolist() == [1, 1, 1]
