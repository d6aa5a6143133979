"""Taking parts of a tensor and laying them out anew: narrow, flip, roll, repeat, triangles, diagonals, windows."""

import functools

import numpy as np

from ..autograd import check_dim, op
from ..device import xp
from ..errors import ArgumentError, DimError, DtypeError, ShapeError, expect
from ..tensor import reads, value
from .casting import clone
from .indexing import getitem
from .joining import cat
from .picking import index_select
from .shape import _expand, _reshape, check_dims, sizes, unsqueeze

# One part


def narrow(x, dim, start, length):
    """x from `start` on, `length` long, along `dim`. A view."""
    dim = _within("narrow", x, dim)
    whole = not hasattr(start, "dtype") or (start.ndim == 0 and start.dtype.kind in "iu")
    expect(whole, "narrow: start must be an integer", start, error=DtypeError)
    start, length, n = int(start), int(length), x.shape[dim]
    first = start + n if start < 0 else start
    if length < 0 or not 0 <= first <= n - length:
        raise DimError(f"narrow: {length} from {start} on, of dimension {dim} with size {n}, is out of range")
    return getitem(x, (slice(None),) * dim + (slice(first, first + length),))


def select(x, dim, index):
    """x at one `index` along `dim`, without that dimension. A view."""
    dim = _within("select", x, dim)
    return getitem(x, (slice(None),) * dim + (int(index),))


def _within(name, x, dim):
    expect(x.ndim > 0, f"{name}: a 0-d tensor has no dimension to choose from", error=DimError)
    return check_dim(name, dim, x.ndim)


# Reversing and turning


@op
def _flip(x, dims):
    # A copy, so that no tensor of the engine's own making steps backwards.
    return x[tuple([slice(None, None, -1 if i in dims else None) for i in range(x.ndim)])].copy()


_flip.gradient(x=lambda g, dims: _flip(g, dims))


def flip(x, *given, dims=None):
    """x in reverse order along dims: `x.flip(0, 1)` or `x.flip(dims=(0, 1))`. A copy; `x[::-1]` is the view."""
    dims = sizes("flip", given if dims is None else (dims,) if isinstance(dims, (tuple, list)) else ((dims,),))
    return _flip(x, check_dims("flip", dims, x.ndim) if x.ndim else ())


def fliplr(x):
    """x with its second dimension reversed: left and right of a picture."""
    expect(x.ndim >= 2, "fliplr: needs at least 2 dimensions", x, error=DimError)
    return flip(x, 1)


def flipud(x):
    """x with its first dimension reversed: up and down of a picture."""
    expect(x.ndim >= 1, "flipud: needs at least 1 dimension", x, error=DimError)
    return flip(x, 0)


@op
def _roll(x, shifts, dims):
    y = x
    for shift, dim in zip(shifts, dims):
        n = x.shape[dim]
        cut = n - shift % n if n else 0
        before = (slice(None),) * dim
        y = xp(x).concatenate((y[(*before, slice(cut, None))], y[(*before, slice(cut))]), axis=dim)
    return y


_roll.gradient(x=lambda g, shifts, dims: _roll(g, tuple([-s for s in shifts]), dims))


def roll(x, shifts, dims=None):
    """x moved along `dims` by `shifts`, what falls off one end coming in at the other. Without `dims`, flattened."""
    shifts = sizes("roll", (shifts,) if isinstance(shifts, (tuple, list)) else ((shifts,),))
    if dims is None or dims == ():
        expect(len(shifts) == 1, f"roll: {len(shifts)} shifts need as many dims", error=ArgumentError)
        return _reshape(_roll(_reshape(x, (-1,)), shifts, (0,)), tuple(x.shape))
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    expect(len(dims) == len(shifts), f"roll: {len(shifts)} shifts for {len(dims)} dims", error=ArgumentError)
    return _roll(x, shifts, tuple([_within("roll", x, d) for d in dims]))


def rot90(x, k=1, dims=(0, 1)):
    """x turned by k quarter turns, from the first of `dims` towards the second."""
    expect(len(dims) == 2, f"rot90: dims must be two, got {dims!r}", error=ArgumentError)
    a, b = check_dims("rot90", dims, x.ndim)
    k %= 4
    if k == 0:
        return clone(x)
    return _flip(x, (a, b)) if k == 2 else _flip(x.swapaxes(a, b), (a if k == 1 else b,))


# Repeating


def repeat(x, *repeats):
    """x laid out `repeats` times along each dimension: (2, 3).repeat(4, 1) is (8, 3). More repeats add dimensions."""
    repeats = sizes("repeat", repeats)
    if len(repeats) < x.ndim:
        raise ShapeError(
            f"repeat: {len(repeats)} repeats for {x.ndim} dimensions: give one for each\n  or write tile()"
        )
    expect(not repeats or min(repeats) >= 0, f"repeat: repeats must be at least 0, got {repeats}", error=ArgumentError)
    shape = (1,) * (len(repeats) - x.ndim) + tuple(x.shape)
    if all([r == 1 for r in repeats]):
        return _reshape(clone(x), shape)  # always a copy, so that a write into one is never a write into the other
    apart = _reshape(x, tuple([m for n in shape for m in (1, n)]))
    stretched = _expand(apart, tuple([m for r, n in zip(repeats, shape) for m in (r, n)]))
    return _reshape(stretched, tuple([r * n for r, n in zip(repeats, shape)]))


def tile(x, *repeats, dims=None):
    """`repeat`, with 1 for the leading dimensions that are not named."""
    repeats = sizes("tile", repeats if dims is None else (dims,))
    return repeat(x, (1,) * (x.ndim - len(repeats)) + repeats)


def repeat_interleave(x, repeats, dim=None, *, output_size=None):
    """Each element along `dim` (each of all, without it) `repeats` times in a row; repeats may be one for each.

    output_size   the sum of the repeats, which is checked where it is given
    """
    if dim is None:
        x, dim = _reshape(x, (-1,)), 0
    dim = _within("repeat_interleave", x, dim)
    n, lib = x.shape[dim], xp(value(x))
    counts = value(repeats)
    if not hasattr(counts, "shape") or counts.size == 1:
        count = int(counts)
        expect(count >= 0, f"repeat_interleave: repeats must be at least 0, got {count}", error=ArgumentError)
        if count == 1:
            return clone(x)
        shape = tuple(x.shape)
        stretched = _expand(unsqueeze(x, dim + 1), (*shape[: dim + 1], count, *shape[dim + 1 :]))
        return _reshape(stretched, (*shape[:dim], n * count, *shape[dim + 1 :]))
    expect(counts.shape == (n,), f"repeat_interleave: repeats must be one number or {n} of them", counts)
    expect(counts.dtype.kind in "iu", "repeat_interleave: repeats must be integers", counts, error=ArgumentError)
    expect(not (counts < 0).any(), "repeat_interleave: repeats must be at least 0", error=ArgumentError)
    reads("repeat_interleave with a tensor of repeats")
    total = int(counts.sum())
    expect(
        output_size in (None, total), f"repeat_interleave: output_size={output_size}, not {total}", error=ArgumentError
    )
    return index_select(x, dim, lib.repeat(lib.arange(n), counts.tolist()))


# Triangles and diagonals of matrices


@functools.lru_cache(maxsize=64)
def _corner(rows, columns, diagonal):
    return np.tri(rows, columns, diagonal, dtype=bool)


@op
def _tril(x, diagonal):
    if xp(x) is not np:
        return xp(x).tril(x, diagonal)
    return np.where(_corner(*x.shape[-2:], diagonal), x, x.dtype.type(0))


@op
def _triu(x, diagonal):
    if xp(x) is not np:
        return xp(x).triu(x, diagonal)
    return np.where(_corner(*x.shape[-2:], diagonal - 1), x.dtype.type(0), x)


_tril.gradient(x=lambda g, diagonal: _tril(g, diagonal))
_triu.gradient(x=lambda g, diagonal: _triu(g, diagonal))


def tril(x, diagonal=0):
    """The lower triangle of each matrix, up to and with a diagonal (0 the main one, 1 above it); 0 elsewhere."""
    expect(x.ndim >= 2, "tril: needs at least 2 dimensions", x)
    return _tril(x, diagonal)


def triu(x, diagonal=0):
    """The upper triangle of each matrix, from the given diagonal on; 0 elsewhere."""
    expect(x.ndim >= 2, "triu: needs at least 2 dimensions", x)
    return _triu(x, diagonal)


@op
def _diagonal(x, offset, dim1, dim2):
    y = x.diagonal(offset, dim1, dim2)
    if xp(x) is np and x.flags.writeable:
        y.flags.writeable = True  # NumPy hands the view out read-only
    return y


_diagonal.gradient(
    x=lambda g, x_shape, offset, dim1, dim2: _place_diagonal(g, x_shape, offset, dim1, dim2),
)


@op
def _place_diagonal(g, shape, offset, dim1, dim2):
    """Zeros of `shape`, but g on a diagonal."""
    y = xp(g).zeros(shape, g.dtype)
    _diagonal.forward(y, offset, dim1, dim2)[...] = g
    return y


_place_diagonal.gradient(g=lambda gg, offset, dim1, dim2: _diagonal(gg, offset, dim1, dim2))


def diagonal(x, offset=0, dim1=0, dim2=1):
    """The diagonal of the matrices in dimensions dim1 and dim2, as a new last dimension. A view."""
    dim1, dim2 = check_dims("diagonal", (_within("diagonal", x, dim1), _within("diagonal", x, dim2)), x.ndim)
    return _diagonal(x, offset, dim1, dim2)


def diag_embed(x, offset=0, dim1=-2, dim2=-1):
    """Matrices with the last dimension of x on the given diagonal and zeros elsewhere."""
    expect(x.ndim >= 1, "diag_embed: needs at least 1 dimension", x, error=DimError)
    dim1, dim2 = check_dims("diag_embed", (dim1, dim2), x.ndim + 1)
    n = x.shape[-1] + abs(offset)
    shape = list(x.shape[:-1])
    for d in sorted((dim1, dim2)):
        shape.insert(d, n)
    return _place_diagonal(x, tuple(shape), offset, dim1, dim2)


def diag(x, diagonal=0):
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    expect(1 <= x.ndim <= 2, "diag: takes a vector or a matrix\n  did you mean diagonal() or diag_embed()?", x)
    return diag_embed(x, diagonal) if x.ndim == 1 else _diagonal(x, diagonal, 0, 1)


# Windows


@op
def _windows(x, dim, size, step):
    shape, strides = list(x.shape), list(x.strides)
    shape[dim] = (shape[dim] - size) // step + 1
    strides[dim] *= step
    return xp(x).lib.stride_tricks.as_strided(x, (*shape, size), (*strides, x.strides[dim]))


@op
def _overlap_add(g, shape, dim, size, step):
    """Windows added up where they stood: the adjoint of `_windows`."""
    y = xp(g).zeros(shape, g.dtype)
    before, count = (slice(None),) * dim, g.shape[dim]
    for j in range(size if count else 0):
        y[(*before, slice(j, j + (count - 1) * step + 1, step))] += g[..., j]
    return y


_windows.gradient(x=lambda g, x_shape, dim, size, step: _overlap_add(g, x_shape, dim, size, step))
_overlap_add.gradient(g=lambda gg, dim, size, step: _windows(gg, dim, size, step))


def unfold(x, dimension, size, step):
    """All windows of `size` along a dimension, `step` apart, as a new last dimension. A view."""
    dim = check_dim("unfold", dimension, x.ndim)
    expect(step > 0, f"unfold: step must be positive, not {step}", error=ArgumentError)
    expect(size >= 0, f"unfold: size must be at least 0, not {size}", error=ArgumentError)
    if x.ndim == 0:
        expect(size <= 1, f"unfold: a window of {size} over one number", x)
        return _reshape(x, (1,))[:size]
    expect(size <= x.shape[dim], f"unfold: a window of {size} along dimension {dim} of size {x.shape[dim]}", x)
    return _windows(x, dim, size, step)


# Several tensors at once


def meshgrid(*tensors, indexing="ij"):
    """Coordinates of a grid from one vector for each dimension. "ij": the first vector runs along dimension 0.

    "xy" swaps the first two dimensions, as in a picture's (x, y).
    """
    tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    expect(indexing in ("ij", "xy"), f'meshgrid: indexing is "ij" or "xy", not {indexing!r}', error=ArgumentError)
    expect(len(tensors) > 0, "meshgrid: needs at least one vector", error=ArgumentError)
    expect(all([x.ndim <= 1 for x in tensors]), "meshgrid: takes vectors", *tensors)
    expect(
        len({x.dtype for x in tensors}) == 1, "meshgrid: all vectors must be of one type", *tensors, error=ArgumentError
    )
    shape = tuple([x.shape[0] if x.ndim else 1 for x in tensors])
    grids = []
    for i, x in enumerate(tensors):
        along = _reshape(x, (1,) * i + (-1 if shape[i] else 0,) + (1,) * (len(tensors) - i - 1))
        grid = _expand(along, shape)
        grids.append(grid.swapaxes(0, 1) if indexing == "xy" and len(tensors) > 1 else grid)
    return tuple(grids)


def _each(function, tensors):
    tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    found = tuple([function(x) for x in tensors])
    return found[0] if len(found) == 1 else found


def atleast_1d(*tensors):
    """A number becomes a vector of one; anything else is returned as it is."""
    return _each(lambda x: _reshape(x, (1,)) if x.ndim == 0 else x, tensors)


def atleast_2d(*tensors):
    """A vector becomes a matrix of one row."""
    return _each(lambda x: _reshape(x, (1, *(x.shape or (1,)))) if x.ndim < 2 else x, tensors)


def atleast_3d(*tensors):
    """A vector (n,) becomes (1, n, 1), a matrix (n, m) becomes (n, m, 1)."""
    shapes = {0: lambda s: (1, 1, 1), 1: lambda s: (1, *s, 1), 2: lambda s: (*s, 1)}
    return _each(lambda x: _reshape(x, shapes[x.ndim](x.shape)) if x.ndim < 3 else x, tensors)


def hstack(tensors):
    """Tensors side by side: along dimension 1, vectors along dimension 0."""
    tensors = [atleast_1d(x) for x in tensors]
    return cat(tensors, 0 if tensors and tensors[0].ndim == 1 else 1)


def vstack(tensors):
    """Tensors below each other: along dimension 0, vectors as rows."""
    return cat([atleast_2d(x) for x in tensors], 0)


def dstack(tensors):
    """Tensors behind each other: along dimension 2."""
    return cat([atleast_3d(x) for x in tensors], 2)
