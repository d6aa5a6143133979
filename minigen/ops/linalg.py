"""Products of vectors and matrices."""

from ..autograd import op
from ..device import xp
from ..errors import DtypeError, ShapeError, expect
from .shape import _reshape, unsqueeze


@op
def _matmul(a, b):
    if b.ndim == 2 and a.ndim > 2:  # one large product instead of many small ones
        return (a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[-1])
    return xp(a).matmul(a, b)


def _matmul_gradient_b(g, a, b_shape):
    if len(b_shape) == 2 and a.ndim > 2:
        return a.reshape(-1, a.shape[-1]).swapaxes(0, 1) @ g.reshape(-1, g.shape[-1])
    return a.swapaxes(-1, -2) @ g


_matmul.gradient(a=lambda g, b: g @ b.swapaxes(-1, -2), b=_matmul_gradient_b)


def matmul(a, b):
    """a @ b: (..., n, k) @ (..., k, m) -> (..., n, m), the leading dimensions broadcast.

    A vector on the left is a row, on the right a column, and that dimension is dropped again. Raises ShapeError if
    the inner sizes differ.
    """
    m, n = a.ndim, b.ndim
    if m > 1 and n > 1:
        if a.shape[-1] != b.shape[-2] or a.dtype != b.dtype or not (m == n == 2 or _stretches(a.shape, b.shape)):
            _refuse(a, b)
        return _matmul(a, b)
    if m == 0 or n == 0:
        raise ShapeError(f"matmul: {tuple(a.shape)} @ {tuple(b.shape)}\n  a number is multiplied with *")
    if a.shape[-1] != b.shape[-2 if n > 1 else 0] or a.dtype != b.dtype:
        _refuse(a, b)
    left = unsqueeze(a, 0) if m == 1 else a
    right = unsqueeze(b, 1) if n == 1 else b
    y = _matmul(left, right)
    shape = y.shape
    if n == 1:
        shape = shape[:-1]
    if m == 1:
        shape = (*shape[:-2], *shape[-1:]) if n > 1 else shape[:-1]
    return _reshape(y, tuple(shape))


def _stretches(a, b):
    return all(i == j or i == 1 or j == 1 for i, j in zip(a[-3::-1], b[-3::-1]))


def _refuse(a, b):
    sa, sb = tuple(a.shape), tuple(b.shape)
    if a.dtype != b.dtype:
        raise DtypeError(
            f"matmul: {sa} {a.dtype} @ {sb} {b.dtype}\n  both must be of one type\n  write x.float() or x.double() on one of them"
        )
    where = "second-to-last" if len(sb) > 1 else "only"
    inner = sb[-2] if len(sb) > 1 else sb[0]
    lines = [f"matmul: {sa} @ {sb}"]
    if sa[-1] != inner:
        lines.append(f"the last dimension of the first ({sa[-1]}) must equal the {where} of the second ({inner})")
        turned = (*sb[:-2], sb[-1], sb[-2]) if len(sb) > 1 else sb
        fits = _stretches(sa, sb)
        if len(sb) > 1 and sa[-1] == sb[-1] and fits:
            lines.append(f"did you mean  x @ w.mT  ? that is {sa} @ {turned} -> {(*sa[:-1], sb[-2])}")
        elif len(sa) > 1 and sa[-2] == inner and fits:
            other = (*sa[:-2], sa[-1], sa[-2])
            lines.append(f"did you mean  x.mT @ w  ? that is {other} @ {sb}")
    else:
        lines.append(f"the leading dimensions {sa[:-2]} and {sb[:-2]} must be equal, or 1")
    raise ShapeError("\n  ".join(lines))


def rmatmul(b, a):
    """a @ b where a is a plain array."""
    return matmul(a, b)
