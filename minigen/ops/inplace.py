"""Writing into a tensor's own memory."""

from ..autograd import is_grad_enabled
from ..errors import GradientError
from ..tensor import value, wrote


def _writable(name, x):
    if x.requires_grad and is_grad_enabled():
        raise GradientError(f"{name}: this tensor is part of a graph\n  write inside minigen.no_grad()")
    return x.data


def copy_(x, source):
    """Write `source` into x."""
    _writable("copy_", x)[...] = value(source)
    wrote(x.data)
    return x


def fill_(x, number):
    """Write a number everywhere."""
    return copy_(x, number)


def zero_(x):
    """Write zeros."""
    return copy_(x, 0)


def _written(name, sign):
    def inplace(x, other):
        array = _writable(name, x)
        array[...] = sign(array, value(other))
        wrote(array)
        return x

    inplace.__name__ = name
    return inplace


add_ = _written("add_", lambda a, b: a + b)
sub_ = _written("sub_", lambda a, b: a - b)
mul_ = _written("mul_", lambda a, b: a * b)
div_ = _written("div_", lambda a, b: a / b)
