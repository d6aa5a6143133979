"""Tests written for the CPU, run with their tensors on the device.

Inside `transplanted(module)` a tensor that a test of the module makes lies on the stand-in: by `Tensor(...)` and the
creation functions, in the constructor of a layer, and of an array that it gives a function of the engine. What it reads
of a tensor's `data` is NumPy's. Only what crosses from the test's own lines to the engine's and back is treated so:
inside the engine nothing is moved.
"""

import sys
from contextlib import contextmanager
from types import FunctionType, ModuleType

import numpy as np

from minigen import nn
from minigen.autograd.op import Op
from minigen.device import to_device
from minigen.tensor import Tensor

from .arrays import ndarray

PASSED = ("minigen.ops.creation", "minigen.tensor", "minigen.autograd.tape", "minigen.errors", __name__)
HOST_ONLY = {"from_numpy", "Generator", "manual_seed", "save", "load"}  # what wants the host's arrays


def of_engine(name):
    return name.split(".")[0] in ("minigen", "standin")


def by_a_test(depth=2, through=()):
    """Whether the caller's caller is outside minigen, not counting the modules `through` nor constructors of layers."""
    frame = sys._getframe(depth)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in through and not (through and of_engine(name) and is_made(frame)):
            return not of_engine(name)
        frame = frame.f_back
    return False


def is_made(frame):
    """Whether the engine's function in this frame makes a layer: its constructor, or what one calls."""
    while frame is not None and of_engine(frame.f_globals.get("__name__", "")):
        if frame.f_code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), nn.Module):
            return True
        frame = frame.f_back
    return False


def there(x):
    """x with the NumPy arrays in its tuples, lists and dictionaries on the device."""
    if type(x) is np.ndarray and (x.dtype.kind in "biuf" or x.dtype.name == "bfloat16"):
        return to_device(x, "cuda")
    if type(x) in (tuple, list):
        return type(x)(there(one) for one in x)
    return {name: there(one) for name, one in x.items()} if type(x) is dict else x


def here(x):
    """x with the device's arrays in its tuples and lists as NumPy's, over the same memory."""
    if type(x) is ndarray:
        return x._host
    return type(x)(here(one) for one in x) if type(x) in (tuple, list) else x


def is_there(x):
    """Whether x, or something in its tuples and lists, is a tensor or an array of the device."""
    return any(map(is_there, x)) if type(x) in (tuple, list) else isinstance(x, (Tensor, ndarray))


class Function:
    """A function of the engine as a test calls it: beside a tensor it is given arrays of the device; it gives NumPy's.

    Where all are NumPy's, so is the work: ops compute on arrays, too.
    """

    def __init__(self, function):
        self.__dict__["__wrapped__"] = function

    def __call__(self, *arguments, **named):
        if is_there([*arguments, *named.values()]):
            arguments, named = there(arguments), there(named)
        return here(self.__wrapped__(*arguments, **named))

    def __getattr__(self, name):
        return getattr(self.__wrapped__, name)


class Module:
    """A module of the engine as a test sees it."""

    __slots__ = ("module",)
    __dict__ = property(lambda self: vars(self.module))  # where pytest's monkeypatch looks

    def __init__(self, module):
        object.__setattr__(self, "module", module)

    def __getattr__(self, name):
        return seen_by_a_test(getattr(self.module, name), name)

    def __setattr__(self, name, x):
        setattr(self.module, name, x.__wrapped__ if isinstance(x, Function) else x)

    def __delattr__(self, name):
        delattr(self.module, name)

    def __call__(self, *arguments, **named):
        return self.module(*arguments, **named)


def seen_by_a_test(x, name):
    module = x.__name__ if isinstance(x, ModuleType) else getattr(x, "__module__", None) or ""
    if name in HOST_ONLY or not (isinstance(x, Op) or of_engine(module)):
        return x
    if isinstance(x, (FunctionType, Op)):
        return Function(x)
    return Module(x) if isinstance(x, ModuleType) else x


class Data:
    """`Tensor.data` for whom the numbers may be read without a word."""

    def __init__(self, slot):
        self.slot = slot

    def __get__(self, tensor, owner=None):
        array = self.slot.__get__(tensor, owner)
        if tensor is not None and type(array) is ndarray and by_a_test():
            return array._host
        return array

    def __set__(self, tensor, array):
        if isinstance(array, np.ndarray) and by_a_test():
            array = to_device(array, "cuda")
        self.slot.__set__(tensor, array)


@contextmanager
def transplanted(module):
    """module: the test's, whose names for the engine's functions and modules are seen through inside the block."""
    import against_numpy

    slot, make, numpy = Tensor.__dict__["data"], Tensor.__init__, Tensor.numpy
    kept = {"__new__", "__init__", "__getattribute__", "__setattr__", "numpy"}
    methods = {name: x for name, x in vars(Tensor).items() if isinstance(x, (FunctionType, Op)) and name not in kept}
    names = {name: x for name, x in vars(module).items() if not name.startswith("__")}

    def made(self, data, *arguments, **named):
        outside = by_a_test(through=PASSED)
        make(self, data, *arguments, **named)
        if outside and isinstance(slot.__get__(self), np.ndarray):
            slot.__set__(self, to_device(slot.__get__(self), "cuda"))

    def read(self):
        return slot.__get__(self) if type(slot.__get__(self)) is np.ndarray else slot.__get__(self)._host

    def as_called(method):
        """A method of tensors: what a test gives it is on the device, too."""

        def call(self, *arguments, **named):
            if by_a_test():
                arguments, named = there(arguments), there(named)
            return method(self, *arguments, **named)

        return call

    Tensor.data, Tensor.__init__, Tensor.numpy = Data(slot), made, read
    for name, x in methods.items():
        setattr(Tensor, name, as_called(x))
    vars(module).update({name: seen_by_a_test(x, name) for name, x in names.items()})
    against_numpy.DEVICE = "cuda"
    try:
        yield
    finally:
        Tensor.data, Tensor.__init__, Tensor.numpy = slot, make, numpy
        for name, x in methods.items():
            setattr(Tensor, name, x)
        for name, x in names.items():
            if isinstance(vars(module).get(name), (Function, Module)):
                setattr(module, name, x)
        against_numpy.DEVICE = "cpu"
