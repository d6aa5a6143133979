"""Shape without arithmetic: reshape, permute, expand, and the functions built on them.

What these return are views where NumPy gives views: they share memory with what they were given, and a write into
one is a write into both. `cat`, `stack` and `split` stand in joining.py; `flip`, `roll`, `repeat`, `tril` in
rearranging.py.
"""

import functools
import operator

import numpy as np

from ..autograd import check_dim, op
from ..device import xp
from ..errors import ArgumentError, DimError, DtypeError, ShapeError, describe, expect


def sizes(name, given):
    """A shape written as `(2, 3)`, `[2, 3]` or `2, 3`, as a tuple of integers."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = given[0]
    try:
        return tuple([n if type(n) is int else operator.index(n) for n in given])
    except TypeError:
        raise DtypeError(f"{name}: a shape is made of integers, got {tuple(given)!r}") from None


def check_dims(name, dims, ndim):
    """Several dimensions, counted from the front, each named once."""
    dims = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
    found = tuple([check_dim(name, d, ndim) for d in dims])
    if len({*found}) != len(found):
        raise DimError(f"{name}: dim={dims} names a dimension twice")
    return found


# The ops that everything else is made of


@op
def _reshape(x, shape):
    y = x.reshape(shape)
    if y.size and type(shape) is tuple and min(shape, default=0) < -1:  # which NumPy takes for -1
        raise ValueError
    return y


_reshape.gradient(x=lambda g, x_shape: g.reshape(x_shape))


@op
def _permute(x, dims):
    return x.transpose(dims)


_permute.gradient(x=lambda g, dims: _permute(g, _inverse(dims)))


@op
def _swap(x, dim0, dim1):
    return x.swapaxes(dim0, dim1)


_swap.gradient(x=lambda g, dim0, dim1: g.swapaxes(dim0, dim1))


@op
def _expand(x, shape):
    return xp(x).broadcast_to(x, shape)


_expand.gradient(x=lambda g: g)  # the engine sums over what was stretched


@functools.lru_cache(maxsize=256)
def _inverse(dims):
    back = [0] * len(dims)
    for i, d in enumerate(dims):
        back[d] = i
    return tuple(back)


# Reshaping


def reshape(x, *shape):
    """The same numbers in the same order with another shape; one entry may be -1, to be worked out.

    A view where the memory allows one, else a copy. `view` is the same here: PyTorch's refuses where it would copy.
    Raises ShapeError if the sizes do not multiply to the same number.
    """
    try:
        return _reshape(x, shape[0] if len(shape) == 1 else shape)
    except (ShapeError, DtypeError):
        raise ShapeError(_why_not(tuple(x.shape), sizes("reshape", shape))) from None


view = reshape


def _why_not(old, new):
    count = 1
    for n in old:
        count *= n
    known = 1
    for n in new:
        known *= n if n >= 0 else 1
    text = f"reshape: {tuple(old)} to {new}\n  "
    if any(n < -1 for n in new):
        return text + "a size is at least 0, or -1 to be worked out"
    if new.count(-1) > 1:
        return text + "only one size can be -1"
    if -1 in new:
        if known == 0:
            return text + "any size would do for -1 beside a size of 0: write it out"
        return text + f"{count} numbers do not divide into rows of {known}"
    return text + f"{count} numbers do not fit into {known} places"


def reshape_as(x, other):
    """x with the shape of `other`."""
    return reshape(x, other.shape)


view_as = reshape_as


def flatten(x, start_dim=0, end_dim=-1):
    """Merge the dimensions from `start_dim` to `end_dim`, both included, into one."""
    start = check_dim("flatten", start_dim, x.ndim)
    end = check_dim("flatten", end_dim, x.ndim)
    expect(start <= end, f"flatten: start_dim={start_dim} comes after end_dim={end_dim}", x, error=DimError)
    if x.ndim == 0:
        return _reshape(x, (1,))
    count = 1
    for n in x.shape[start : end + 1]:
        count *= n
    return _reshape(x, (*x.shape[:start], count, *x.shape[end + 1 :]))


def ravel(x):
    """All the numbers in one dimension."""
    return _reshape(x, (-1,))


def unflatten(x, dim, sizes_):
    """Split one dimension into several, of which one may be -1."""
    dim = check_dim("unflatten", dim, x.ndim)
    parts = sizes("unflatten", (sizes_,) if isinstance(sizes_, (tuple, list)) else ((sizes_,),))
    known = 1
    for n in parts:
        known *= n if n != -1 else 1
    if parts.count(-1) == 1 and known > 0:
        parts = tuple([x.shape[dim] // known if n == -1 else n for n in parts])
    total = 1
    for n in parts:
        total *= n
    expect(
        parts and min(parts) >= 0 and total == x.shape[dim],
        f"unflatten: dimension {dim} has size {x.shape[dim]}, which is not the product of {tuple(sizes_)}",
        x,
    )
    return _reshape(x, (*x.shape[:dim], *parts, *x.shape[dim + 1 :]))


def squeeze(x, dim=None):
    """Drop dimensions of size 1: all of them, or those in `dim` (a number or a tuple) that have size 1."""
    if dim is None:
        return _reshape(x, tuple([n for n in x.shape if n != 1]))
    dims = check_dims("squeeze", dim, x.ndim)
    return _reshape(x, tuple([n for i, n in enumerate(x.shape) if n != 1 or i not in dims]))


def unsqueeze(x, dim):
    """A new dimension of size 1 at position `dim`."""
    dim = check_dim("unsqueeze", dim, x.ndim + 1)
    return _reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


# Reordering


def permute(x, *given, dims=None):
    """The dimensions in another order: `x.permute(0, 2, 3, 1)` takes NCHW to NHWC. A view."""
    return _permute(x, _order(sizes("permute", given if dims is None else (dims,)), x.ndim))


@functools.lru_cache(maxsize=256)
def _order(dims, ndim):
    order = check_dims("permute", dims, ndim)
    if len(order) != ndim:
        raise DimError(f"permute: {ndim} dimensions cannot be ordered by {dims}: each must be named once")
    return order


def transpose(x, dim0, dim1):
    """Swap two dimensions. A view."""
    ndim = x.ndim
    dim0, dim1 = check_dim("transpose", dim0, ndim), check_dim("transpose", dim1, ndim)
    return _swap(x, dim0, dim1) if ndim else _permute(x, ())


swapaxes = swapdims = transpose


def movedim(x, source, destination):
    """Move dimensions to new places; the others keep their order."""
    source = check_dims("movedim", source, x.ndim)
    destination = check_dims("movedim", destination, x.ndim)
    expect(
        len(source) == len(destination),
        f"movedim: {len(source)} dimensions to {len(destination)} places",
        x,
        error=ArgumentError,
    )
    rest = iter([d for d in range(x.ndim) if d not in source])
    places = dict(zip(destination, source))
    return _permute(x, tuple([places[i] if i in places else next(rest) for i in range(x.ndim)]))


moveaxis = movedim


def t(x):
    """The transpose of a matrix; a vector or a number is returned as it is."""
    expect(
        x.ndim <= 2, "t: takes at most 2 dimensions\n  did you mean x.mT, which swaps the last two?", x, error=DimError
    )
    return _permute(x, tuple(range(x.ndim))[::-1])


def T(x):
    """All dimensions in reverse order; the transpose of a matrix."""
    return _permute(x, tuple(range(x.ndim))[::-1])


def mT(x):
    """The last two dimensions swapped: the transpose of each matrix in a batch."""
    expect(x.ndim >= 2, "mT: needs at least 2 dimensions", x, error=DimError)
    return _swap(x, -1, -2)


# Stretching


def expand(x, *shape):
    """x stretched to `shape` without a copy: dimensions of size 1 repeat, new ones come in front, -1 keeps a size."""
    shape = sizes("expand", shape)
    old, lead = x.shape, len(shape) - x.ndim
    if -1 in shape[max(lead, 0) :]:
        shape = (*shape[:lead], *[o if n == -1 else n for n, o in zip(shape[lead:], old)])
    fits = lead >= 0 and min(shape, default=0) >= 0 and all([o in (1, n) for n, o in zip(shape[lead:], old)])
    if not fits:
        raise ShapeError(
            f"expand: {tuple(old)} to {shape}: only dimensions of size 1, or new ones in front, can stretch"
        )
    return _expand(x, shape)


def expand_as(x, other):
    """x stretched to the shape of `other`."""
    return expand(x, other.shape)


def broadcast_to(x, shape):
    """x stretched to `shape`, as `expand`."""
    return expand(x, shape)


def broadcast_tensors(*tensors):
    """The tensors stretched to one common shape, as views."""
    tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    try:
        shape = np.broadcast_shapes(*[tuple(x.shape) for x in tensors])
    except ValueError:
        raise ShapeError("broadcast_tensors: no common shape for " + ", ".join(map(describe, tensors))) from None
    return tuple([x if tuple(x.shape) == shape else expand(x, shape) for x in tensors])
