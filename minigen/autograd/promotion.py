"""Operands of one type, and dimensions counted from the front."""

import numpy as np

from ..device import FLOATS, is_array
from ..errors import DimError, DtypeError, describe


def promote(name, arrays):
    """Operands of one type: a tensor's type wins over Python numbers and NumPy constants, floats over integers.

    float32 beside float64 raises: in PyTorch the answer is silently float64 and twice as slow from there on.
    """
    first, second = arrays[0], arrays[1]
    kinds = [x for x in (first, second) if is_array(x)]
    if not kinds:
        if isinstance(first, np.generic) or isinstance(second, np.generic):  # 0-d arrays inside gradient rules
            return arrays
        raise DtypeError(f"{name}: {describe(first)} and {describe(second)}: one of them must be a tensor")
    floats = [x.dtype for x in kinds if x.dtype.kind in FLOATS]
    scalars = [x for x in (first, second) if not is_array(x)]
    for x in scalars:
        if not isinstance(x, (bool, int, float, np.generic)):
            raise DtypeError(
                f"{name}: {describe(first)} and {describe(second)}\n  an operand must be a tensor, an array or a number"
            )
    if floats and len({*floats}) > 1:
        wide = max(floats, key=lambda dtype: dtype.itemsize)
        if all(x.ndim and x.dtype.kind in FLOATS for x in kinds):
            raise DtypeError(
                f"{name}: {describe(first)} and {describe(second)} are of two types\n"
                f"  write x.float() or x.double() on one of them: minigen never widens silently"
            )
        target = next((x.dtype for x in kinds if x.ndim and x.dtype.kind in FLOATS), wide)
    elif floats:
        target = floats[0]
    elif any(isinstance(x, (float, np.floating)) for x in scalars):
        target = np.dtype("float32")
    else:
        target = None
    if target is None:  # integers and booleans: NumPy's own rule is PyTorch's
        return [x.item() if isinstance(x, np.generic) else x for x in (first, second)] + list(arrays[2:])
    if target.kind == "V":  # beside a Python number array libraries would widen bfloat16
        first, second = [target.type(x) if not is_array(x) else x for x in (first, second)]
        return [first.astype(target, copy=False), second.astype(target, copy=False), *arrays[2:]]
    return [
        x.astype(target, copy=False) if is_array(x) else x.item() if isinstance(x, np.generic) else x
        for x in (first, second)
    ] + list(arrays[2:])


def check_dim(name, dim, ndim):
    """`dim` counted from the front. Raises DimError if there is no such dimension."""
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise DimError(f"{name}: dim must be an integer, got {describe(dim)}")
    size = max(ndim, 1)
    if not -size <= dim < size:
        raise DimError(f"{name}: dim={dim} of a tensor with {ndim} dimensions\n  it must be from {-size} to {size - 1}")
    return int(dim % size)
