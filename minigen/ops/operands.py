"""What element-wise ops ask of their operands: which library, and floating-point numbers where the answer is one."""

from ..device import FLOATS, is_array, xp
from ..errors import DtypeError, describe
from ..tensor import float32


def library_of(a, b):
    """numpy or cupy for two operands, of which one may be a number."""
    return xp(a if is_array(a) else b)


def is_floating(x):
    """Whether x, a number, an array or a tensor, is floating-point."""
    return isinstance(x, float) or (hasattr(x, "dtype") and x.dtype.kind in FLOATS)


def floating(x):
    """The array x, as float32 unless it is floating-point already: what exp, sqrt or mean compute with."""
    try:
        return x if x.dtype.kind in FLOATS else x.astype(float32)
    except AttributeError:
        raise DtypeError(f"got {describe(x)} where a tensor or an array belongs\n  write minigen.tensor(...)") from None


def floating_pair(a, b):
    """Two operands of one type as floating-point arrays: integers and booleans as float32, a number like the other."""
    if not is_array(a):
        b = floating(b)
        return xp(b).asarray(a, b.dtype), b
    a = floating(a)
    return a, floating(b) if is_array(b) else xp(a).asarray(b, a.dtype)
