"""bfloat16 in, bfloat16 out, for every op of one output.

To NumPy and CuPy it is a type from outside: they store and convert it, but for many functions (`where`, `clip`,
`x * 0.5`) they have no version of their own and answer in a wider type. So after each op the engine asks `kept`, and
before a definition `widened`: what has no kernel for this type is computed in float32 and rounded once. Nothing is
asked before the first number of this type is made (`use_bfloat16`, called by `floating_dtype`, `Tensor` and `cast`).
"""

import numpy as np

from ..device import FLOATS, is_array
from ..tensor import Tensor, float32, value, wrap
from . import modes
from .order import in_type

CONVERSIONS = ("cast", "count", "move", "cross_entropy")  # ops that are told the type of their result


def kept(op, arrays, y):
    """The result y of an op on `arrays`, in bfloat16 if all of these that are floating-point are."""
    first = arrays[0]
    if type(first) is np.ndarray and first.dtype is float32:  # most of what there is, on the CPU
        return y
    if not hasattr(y, "dtype") or y.dtype.kind != "f" or op.name in CONVERSIONS:
        return y
    dtype = None
    for x in arrays:
        if is_array(x) and x.dtype.kind in FLOATS:
            if x.dtype.kind == "f":
                return y
            dtype = x.dtype
    return y if dtype is None else y.astype(dtype)


def watch(node, y):
    """Let the gradient of y come to its node in bfloat16 if y is: rules widen it as functions do.

    Not to a cast: what is wider already need not be rounded on its way back.
    """
    if type(y) is not tuple and y.dtype.kind == "V" and node.op.name != "cast":
        node.hooks = [(None, _to(y.dtype))]


def _to(dtype):
    def hook(g):
        return None if g.dtype == dtype or g.requires_grad else wrap(_narrowed(g.data, dtype))

    return hook


def _narrowed(array, dtype):
    if modes.tape_here() is not None:
        return modes.tape.perform(_narrowed, array, dtype)
    return in_type(array, dtype)


def widened(define, args):
    """define(*args), computed in float32 and given back in bfloat16, where any of the tensors or arrays is of it."""
    narrow = next((x.dtype for x in args if _is_narrow(x)), None)
    if narrow is None:
        return define(*args)
    y = define(*[_cast(x, float32) if _is_narrow(x) else x for x in args])
    back = lambda y: _cast(y, narrow) if y.dtype == float32 else y
    return tuple(map(back, y)) if isinstance(y, tuple) else back(y)


def _cast(x, dtype):
    return x.to(dtype) if isinstance(x, Tensor) else x.astype(dtype)


def _is_narrow(x):
    return (isinstance(x, Tensor) or is_array(x)) and value(x).dtype.kind == "V"
