"""Element-wise results on the GPU: in the memory order of their operands, and sums and types by kernels of our own.

NumPy keeps channels-last by itself. What CuPy computes element by element is C-contiguous whatever its operands are,
and the layers behind would copy it back. So CuPy is given its operands with their dimensions in the order of memory.
"""

import operator

import numpy as np

from .. import kernels
from ..device import is_array
from ..kernels.strides import is_dense


def in_order(function, *operands):
    """function(*operands), element by element, for arrays of CuPy and what is no array."""
    model = max([x for x in operands if is_array(x)], key=lambda x: x.ndim, default=None)
    if model is None or model.flags.c_contiguous or not is_dense(model):
        return function(*operands)
    order = sorted(range(model.ndim), key=model.strides.__getitem__, reverse=True)
    back = sorted(range(model.ndim), key=order.__getitem__)
    return function(*[_permuted(x, order) for x in operands]).transpose(back)


def _permuted(x, order):
    if not is_array(x) or x.ndim == 0:
        return x
    return x.reshape((1,) * (len(order) - x.ndim) + x.shape).transpose(order)


def added(a, b):
    """a + b on the GPU, arrays or an array and a number."""
    if is_array(a) and is_array(b):
        family = kernels.find(a, "arithmetic")
        if family is not None and family.fits(a, b):
            return family.add(a, b)
    return in_order(operator.add, a, b)


def added_to(x, g):
    """x, in whose memory g has been added."""
    family = kernels.find(x, "arithmetic") if type(x) is not np.ndarray else None
    if family is not None and is_array(g) and x.itemsize >= g.itemsize and family.fits(x, g):
        return family.add(x, g, x)
    x += g
    return x


def in_type(x, dtype):
    """A copy of x in another type."""
    family = kernels.find(x, "arithmetic") if type(x) is not np.ndarray else None
    return x.astype(dtype) if family is None or dtype.name not in family.TYPES else family.convert(x, dtype)
