"""The length of a tensor, by any p: `norm`. What linear algebra adds to it stands in minigen.linalg."""

import math

from ..device import FLOATS
from ..errors import ArgumentError, DtypeError, ShapeError, describe
from .arithmetic import _where, sign
from .arithmetic import abs as _abs
from .casting import cast
from .extremes import amax, amin
from .reduction import _root, kept, sum
from .shape import _reshape, check_dims


def norm(x, p="fro", dim=None, keepdim=False, *, dtype=None):
    """The length of x over `dim`: (sum |x|^p)^(1/p).

    p is a number, or "fro" (the same as 2), or "nuc" (the sum of a matrix's singular values); infinity gives the
    largest |x|, minus infinity the smallest, 0 the number of elements that are not 0. Where there is no gradient
    (the 2-norm of zeros) it is 0.
    """
    x = x if dtype is None else cast(x, dtype)
    if x.dtype.kind not in FLOATS:
        raise DtypeError(f"norm: {describe(x)} has no norm of its own type\n  write x.float().norm()")
    if p == "nuc":
        return _nuclear(x, dim, keepdim)
    if p is None or p == "fro":
        p = 2.0
    if not isinstance(p, int | float):
        raise ArgumentError(f'norm: p={p!r}\n  write a number, math.inf, "fro" or "nuc"')
    if p == 2:
        return _root(sum(x * x, dim, keepdim))
    size = _abs(x)
    if p in (math.inf, -math.inf):
        return (amax if p > 0 else amin)(size, dim, keepdim)
    if p == 0:
        return sum(sign(size), dim, keepdim)
    if p == 1:
        return sum(size, dim, keepdim)
    return _power(sum(_power(size, p), dim, keepdim), 1.0 / p)


def _power(x, p):
    """x**p for x >= 0, with all derivatives 0 where x is 0."""
    if p < 0:
        return x**p
    return _where(_where(x, 1.0, x != 0) ** p, 0.0, x != 0)


def _nuclear(x, dim, keepdim):
    from .factoring import svdvals
    from .shape import movedim

    first, second = check_dims("norm", (0, 1) if dim is None and x.ndim == 2 else dim or (), x.ndim) or (None, None)
    if first is None or first == second:
        raise ShapeError(f'norm: p="nuc" needs a matrix, or dim=(rows, columns)\n  got {describe(x)}')
    y = sum(svdvals(movedim(x, (first, second), (-2, -1))), -1)
    return _reshape(y, kept(x.shape, (first, second))) if keepdim else y
