"""Element-wise results in the memory order of their operands, on the GPU.

NumPy keeps channels-last by itself. What CuPy computes element by element is C-contiguous whatever its operands are,
and the layers behind would copy it back. So CuPy is given its operands with their dimensions in the order of memory.
"""

from ..device import is_array
from ..kernels.strides import is_dense


def in_order(function, a, b):
    """function(a, b), element by element, for arrays of CuPy or an array and a number."""
    model = a if is_array(a) and (not is_array(b) or a.ndim >= b.ndim) else b
    if model.flags.c_contiguous or not is_dense(model):
        return function(a, b)
    order = sorted(range(model.ndim), key=model.strides.__getitem__, reverse=True)
    back = sorted(range(model.ndim), key=order.__getitem__)
    return function(_permuted(a, order), _permuted(b, order)).transpose(back)


def _permuted(x, order):
    if not is_array(x) or x.ndim == 0:
        return x
    return x.reshape((1,) * (len(order) - x.ndim) + x.shape).transpose(order)
