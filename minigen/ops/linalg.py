"""Products of vectors and matrices: matmul and its strict kin, dot, outer, tensordot, kron, cross.

einsum stands in einsum.py; factorisations, solvers and norms in `minigen.linalg`.
"""

import math

import numpy as np

from .. import kernels
from ..autograd import check_dim, op
from ..autograd.modes import mode
from ..errors import ArgumentError, DimError, DtypeError, ShapeError, describe, expect
from ..tensor import Tensor, value
from .rearranging import _diagonal, roll
from .reduction import sum
from .shape import _permute, _reshape, unsqueeze

SMALL, SMALL_VECTOR = 262144, 9216  # multiply-adds up to which OpenBLAS keeps to one thread, with matrices and vectors


@op
def _matmul(a, b):
    if a.dtype is not b.dtype and a.dtype != b.dtype:
        raise DtypeError("both must be of one type\n  write x.float() or x.double() on one of them")
    if b.ndim == 2 and a.ndim > 2:  # one large product instead of many small ones
        return _product(a.reshape(_rows(a), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return _product(a, b)


def _product(a, b):
    """a @ b by the kernel, unless NumPy's BLAS would use one thread anyhow, and so not fight with our pool of threads.

    The 16-bit types are summed in float32, with a kernel or without: array libraries have no product for some of them.
    """
    here, work, M, N = type(a) is np.ndarray, a.size * b.shape[-1], a.shape[-2], b.shape[-1]
    small = here and work <= (SMALL if M > 1 < N else SMALL_VECTOR)
    family = None if small else kernels.find(a, "blas")
    if family is not None:
        return family.matmul(a, b)
    if a.itemsize == 2 and a.dtype.name in ("float16", "bfloat16"):
        return _product(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    return a @ b


def _rows(x):
    return math.prod(x.shape[:-1])


def _times(a, b):
    """a @ b in a rule: straight to the product where nothing is recorded."""
    return _matmul(a, b) if isinstance(a, Tensor) else _matmul.forward(a, b)


def _matmul_gradient_b(g, a, b_shape):
    if len(b_shape) == 2 and a.ndim > 2:
        return _times(a.reshape(_rows(a), a.shape[-1]).swapaxes(0, 1), g.reshape(_rows(g), g.shape[-1]))
    return _times(a.swapaxes(-1, -2), g)


_matmul.gradient(a=lambda g, b: _times(g, b.swapaxes(-1, -2)), b=_matmul_gradient_b)


@op
def _dot(a, b):
    if a.dtype != b.dtype:
        raise DtypeError("both must be of one type")
    if type(a) is np.ndarray and a.itemsize > 2:
        return np.dot(a, b)
    return _product(a[None], b[:, None]).reshape(())


_dot.gradient(a=lambda g, b: g * b, b=lambda g, a: g * a)


def matmul(a, b):
    """a @ b: (..., n, k) @ (..., k, m) -> (..., n, m), the leading dimensions broadcast.

    A vector on the left is a row, on the right a column, and that dimension is dropped again. Raises
    ShapeError if the inner sizes differ.
    """
    try:
        if a.ndim > 1 and b.ndim > 1:
            return _matmul(a, b)
        return _with_vectors(a, b)
    except (ShapeError, DtypeError):
        _refuse("matmul", a, b)
    except AttributeError:
        if hasattr(a, "ndim") and hasattr(b, "ndim"):
            raise
        wrong = describe(b if hasattr(a, "ndim") else a)
        raise DtypeError(f"matmul: takes two tensors, got {wrong}\n  write minigen.tensor(...)") from None


def _with_vectors(a, b):
    m, n = a.ndim, b.ndim
    if m == n == 1:
        return _dot(a, b)
    y = _matmul(unsqueeze(a, 0) if m == 1 else a, unsqueeze(b, 1) if n == 1 else b)
    shape = tuple(y.shape)
    return _reshape(y, shape[:-1] if n == 1 else (*shape[:-2], shape[-1]))


def rmatmul(b, a):
    """a @ b where a is a plain array."""
    return matmul(a, b)


def _stretches(a, b):
    return all(i == j or i == 1 or j == 1 for i, j in zip(a[-3::-1], b[-3::-1]))


def _refuse(name, a, b):
    """Say why a @ b cannot be, and what was probably meant."""
    sa, sb = tuple(a.shape), tuple(b.shape)
    if not sa or not sb:
        raise ShapeError(f"{name}: {sa} @ {sb}\n  a number is multiplied with *") from None
    if a.dtype != b.dtype:
        raise DtypeError(
            f"{name}: {sa} {a.dtype} @ {sb} {b.dtype}\n"
            f"  both must be of one type\n  write x.float() or x.double() on one of them"
        ) from None
    lines = [f"{name}: {sa} @ {sb}"]
    where, inner = ("second-to-last", sb[-2]) if len(sb) > 1 else ("only", sb[0])
    if sa[-1] == inner:
        lines.append(f"the leading dimensions {sa[:-2]} and {sb[:-2]} must be equal, or 1")
        raise ShapeError("\n  ".join(lines)) from None
    lines.append(f"the last dimension of the first ({sa[-1]}) must equal the {where} of the second ({inner})")
    if len(sb) > 1 and sa[-1] == sb[-1] and _stretches(sa, sb):
        turned = (*sb[:-2], sb[-1], sb[-2])
        lines.append(f"did you mean  x @ w.mT  ? that is {sa} @ {turned} -> {(*sa[:-1], sb[-2])}")
    elif len(sa) > 1 and sa[-2] == inner and _stretches(sa, sb):
        lines.append(f"did you mean  x.mT @ w  ? that is {(*sa[:-2], sa[-1], sa[-2])} @ {sb}")
    raise ShapeError("\n  ".join(lines)) from None


def _strict(name, a, b, m, n):
    """Raise ShapeError unless a has m and b n dimensions; then the product."""
    if a.ndim != m or b.ndim != n:
        raise ShapeError(
            f"{name}: takes {m} and {n} dimensions, got {tuple(a.shape)} and {tuple(b.shape)}\n"
            f"  matmul (or @) takes any number, and broadcasts"
        )
    fits = a.shape[-1] == b.shape[-2 if n > 1 else 0] and (m < 3 or n < 3 or a.shape[0] == b.shape[0])
    if not fits or (a.dtype != b.dtype and mode.autocast is None):
        _refuse(name, a, b)
    return matmul(a, b)


def mm(a, b):
    """(n, k) @ (k, m) -> (n, m): `matmul` of two matrices and nothing else."""
    return _strict("mm", a, b, 2, 2)


def bmm(a, b):
    """(batch, n, k) @ (batch, k, m) -> (batch, n, m): `matmul` of two batches and nothing else."""
    return _strict("bmm", a, b, 3, 3)


def mv(a, v):
    """(n, k) @ (k,) -> (n,): a matrix times a vector."""
    return _strict("mv", a, v, 2, 1)


def dot(a, b):
    """The sum of the products of two vectors of one length."""
    return _strict("dot", a, b, 1, 1)


vdot = dot


def inner(a, b):
    """Products summed over the last dimension of both: (..., k), (***, k) -> (..., ***)."""
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    expect(a.shape[-1] == b.shape[-1], "inner: the last dimensions must be equal", a, b)
    return tensordot(a, b, ((-1,), (-1,)))


def outer(a, b):
    """(n,), (m,) -> (n, m): every product of two elements."""
    expect(a.ndim == 1 and b.ndim == 1, "outer: takes two vectors", a, b)
    return unsqueeze(a, 1) * b


ger = outer


def tensordot(a, b, dims=2):
    """Products summed over the last `dims` dimensions of a and the first of b, or over the two lists
    `dims`.
    """
    dims = value(dims)
    dims = dims.tolist() if hasattr(dims, "tolist") else dims
    if isinstance(dims, (int, np.integer)):
        expect(0 <= dims <= min(a.ndim, b.ndim), f"tensordot: dims={dims}", a, b, error=ArgumentError)
        over_a, over_b = range(a.ndim - dims, a.ndim), range(dims)
    else:
        over_a, over_b = ([d] if isinstance(d, int) else d for d in dims)
    over_a = [check_dim("tensordot", d, a.ndim) for d in over_a]
    over_b = [check_dim("tensordot", d, b.ndim) for d in over_b]
    sizes_a, sizes_b = [a.shape[d] for d in over_a], [b.shape[d] for d in over_b]
    if sizes_a != sizes_b and len(sizes_a) == len(sizes_b):  # a size of 1 stretches: the other is summed by itself
        a = _summed(a, [d for d, n, m in zip(over_a, sizes_a, sizes_b) if m == 1 != n])
        b = _summed(b, [d for d, n, m in zip(over_b, sizes_b, sizes_a) if m == 1 != n])
    shown = f"tensordot: sizes {sizes_a} and {sizes_b} of dims={dims} must be equal, or 1"
    sizes_a, sizes_b = [a.shape[d] for d in over_a], [b.shape[d] for d in over_b]
    expect(sizes_a == sizes_b, shown, a, b)
    kept_a = [d for d in range(a.ndim) if d not in over_a]
    kept_b = [d for d in range(b.ndim) if d not in over_b]
    count = math.prod(sizes_a)
    shape_a, shape_b = [a.shape[d] for d in kept_a], [b.shape[d] for d in kept_b]
    rows = math.prod(shape_a)
    columns = math.prod(shape_b)
    left = _reshape(_permute(a, (*kept_a, *over_a)), (rows, count))
    right = _reshape(_permute(b, (*over_b, *kept_b)), (count, columns))
    return _reshape(matmul(left, right), (*shape_a, *shape_b))


def _summed(x, dims):
    return sum(x, tuple(dims), keepdim=True) if dims else x


# With a term added


def _plus(x, product, beta, alpha):
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # then x is not read: a NaN in it does not come through
        return product
    expect(
        x.ndim <= product.ndim and all([m in (1, n) for m, n in zip(tuple(x.shape)[::-1], tuple(product.shape)[::-1])]),
        "the term added must stretch to the product's shape",
        x,
        product,
    )
    return (x if beta == 1 else x * beta) + product


def addmm(x, a, b, beta=1, alpha=1):
    """beta x + alpha (a @ b), for matrices a and b."""
    return _plus(x, mm(a, b), beta, alpha)


def addmv(x, a, v, beta=1, alpha=1):
    """beta x + alpha (a @ v), for a matrix a and a vector v."""
    return _plus(x, mv(a, v), beta, alpha)


def addr(x, a, b, beta=1, alpha=1):
    """beta x + alpha outer(a, b)."""
    return _plus(x, outer(a, b), beta, alpha)


def baddbmm(x, a, b, beta=1, alpha=1):
    """beta x + alpha (a @ b), for batches of matrices a and b."""
    return _plus(x, bmm(a, b), beta, alpha)


def addbmm(x, a, b, beta=1, alpha=1):
    """beta x + alpha times the sum over the batch of a @ b."""
    return _plus(x, bmm(a, b).sum(0), beta, alpha)


# Others


def kron(a, b):
    """The Kronecker product: each element of a times the whole of b, as blocks."""
    n = max(a.ndim, b.ndim)
    sa = (1,) * (n - a.ndim) + tuple(a.shape)
    sb = (1,) * (n - b.ndim) + tuple(b.shape)
    blocks = _reshape(a, tuple([m for i in sa for m in (i, 1)])) * _reshape(b, tuple([m for i in sb for m in (1, i)]))
    return _reshape(blocks, tuple([i * j for i, j in zip(sa, sb)]))


def trace(x):
    """The sum of the main diagonal of a matrix."""
    expect(x.ndim == 2, "trace: takes a matrix\n  for a batch write x.diagonal(0, -2, -1).sum(-1)", x)
    return _diagonal(x, 0, 0, 1).sum()


def cross(a, b, dim=-1):
    """The vector product, along a dimension of size 3; the others broadcast."""
    expect(a.ndim == b.ndim, "cross: both need as many dimensions", a, b)
    expect(a.ndim > 0, "cross: takes vectors", a, error=DimError)
    dim = check_dim("cross", dim, a.ndim)
    expect(a.shape[dim] == b.shape[dim] == 3, f"cross: dimension {dim} must have size 3", a, b)
    dim -= a.ndim
    return roll(a, -1, dim) * roll(b, -2, dim) - roll(a, -2, dim) * roll(b, -1, dim)
