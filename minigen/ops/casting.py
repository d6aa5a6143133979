"""Changing the type of a tensor's elements, its device, or only its memory.

    x.to("cuda"), x.to(float64), x.float(), x.long(), x.clone(), x.contiguous()

Between floating types the gradient comes back in the type that went in. Integers and booleans have none.
"""

import numpy as np

from ..autograd import op
from ..autograd.order import in_type
from ..device import FLOATS, device_of, is_array, to_device, xp
from ..errors import DtypeError, describe
from ..tensor import Tensor, bool_, float16, float32, float64, int8, int16, int32, int64, uint8, use_bfloat16


@op
def _cast(x, dtype, before, done=None):  # done: an array that is x in that type already
    return in_type(x, dtype) if done is None else done


_cast.gradient(x=lambda g, dtype, before: g if g.dtype == before else _cast(g, before, g.dtype))


@op
def _count(x, dtype):
    """x as integers or booleans: no gradient goes through."""
    return x.astype(dtype)


@op
def _move(x, device, before):
    return to_device(x, device)


_move.gradient(x=lambda g, device, before: _move(g, before, device))


@op
def _copy(x, order):
    return xp(x).array(x, order=order)


_copy.gradient(x=lambda g: g)


def cast(x, dtype):
    """x with elements of `dtype` (a NumPy dtype, or anything that names one); x itself if they are that already."""
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise DtypeError(
            f"{describe(dtype)} is not a type of number\n  write minigen.float32, minigen.int64, ..."
        ) from None
    if x.dtype == dtype:
        return x
    if dtype.kind == "V":
        use_bfloat16()
    return _cast(x, dtype, x.dtype) if dtype.kind in FLOATS else _count(x, dtype)


def to(x, *args, dtype=None, device=None, copy=False):
    """x in another type, on another device, or both: x.to(float64), x.to("cuda"), x.to("cuda", float16), x.to(other).

    Returns x itself where nothing changes, unless `copy`.
    """
    for given in args:
        if isinstance(given, Tensor) or is_array(given):
            dtype, device = given.dtype, device_of(given.data if isinstance(given, Tensor) else given)
        elif isinstance(given, str) and given.split(":")[0] in ("cpu", "cuda"):
            device = given
        elif given is not None:
            dtype = given
    y = x if dtype is None else cast(x, dtype)
    array = y.data if isinstance(y, Tensor) else y
    if device is not None and device_of(array) != device.split(":")[0]:
        y = _move(y, device, device_of(array))
    return clone(x) if copy and y is x else y


def clone(x):
    """A copy of x in memory of its own, laid out in the same order. The gradient flows through."""
    return _copy(x, "K")


def contiguous(x):
    """x in row-major memory: itself if it is that already, a copy otherwise."""
    array = x.data if isinstance(x, Tensor) else x
    return x if array.flags.c_contiguous else _copy(x, "C")


def type_as(x, other):
    """x with the type and on the device of `other`."""
    return to(x, other)


def half(x):
    """x as float16."""
    return cast(x, float16)


def float(x):
    """x as float32."""
    return cast(x, float32)


def double(x):
    """x as float64."""
    return cast(x, float64)


def byte(x):
    """x as uint8."""
    return cast(x, uint8)


def char(x):
    """x as int8."""
    return cast(x, int8)


def short(x):
    """x as int16."""
    return cast(x, int16)


def int(x):
    """x as int32."""
    return cast(x, int32)


def long(x):
    """x as int64."""
    return cast(x, int64)


def bool(x):
    """x as booleans: whether each element differs from zero."""
    return cast(x, bool_)


def cpu(x):
    """x in the computer's memory, as a NumPy array underneath."""
    return to(x, device="cpu")


def cuda(x):
    """x on the GPU, as a CuPy array underneath."""
    return to(x, device="cuda")
