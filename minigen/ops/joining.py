"""Joining tensors and cutting them up: cat, stack, split, chunk, unbind."""

import functools
import itertools

from ..autograd import Op, check_dim, op
from ..autograd.modes import mode
from ..device import FLOATS, xp
from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from ..tensor import reads, value
from .shape import sizes


@op
def _cat(*xs, dim):
    return xp(xs[0]).concatenate(xs, axis=dim)


@_cat.gradient
def _(g, shapes, dim):
    parts, start = [], 0
    for shape in shapes:
        stop = start + shape[dim]
        parts.append(g[(slice(None),) * dim + (slice(start, stop),)])
        start = stop
    return parts


@op
def _stack(*xs, dim):
    return xp(xs[0]).stack(xs, axis=dim)


@_stack.gradient
def _(g, shapes, dim):
    before = (slice(None),) * dim
    return [g[(*before, i)] for i in range(len(shapes))]


def cat(tensors, dim=0):
    """Tensors end to end along `dim`; their other sizes must be equal. Raises ShapeError otherwise.

    An empty vector, (0,), joins anything: a loop may start from it.
    """
    tensors = _several("cat", tensors)
    first = next((x for x in tensors if tuple(x.shape) != (0,)), tensors[0])
    if first.ndim > 1:
        tensors = [x for x in tensors if tuple(x.shape) != (0,)]
    dim = check_dim("cat", dim, first.ndim)
    before, after = first.shape[:dim], first.shape[dim + 1 :]
    for x in tensors:
        shape = x.shape
        if not shape:
            raise ShapeError("cat: a 0-d tensor has no dimension to join along\n  did you mean stack()?")
        if shape[:dim] != before or shape[dim + 1 :] != after or len(shape) != first.ndim:
            raise ShapeError(
                f"cat: shapes must be equal but in dimension {dim}\n  got {describe(first)}, {describe(x)}"
            )
    return _cat(*tensors, dim=dim)


concat = concatenate = cat


def stack(tensors, dim=0):
    """Tensors of one shape side by side, along a new dimension `dim`."""
    tensors = _several("stack", tensors)
    first = tensors[0]
    for x in tensors:
        if x.shape != first.shape:
            raise ShapeError(
                f"stack: all shapes must be equal\n  got {describe(first)}, {describe(x)}\n  did you mean cat()?"
            )
    return _stack(*tensors, dim=check_dim("stack", dim, first.ndim + 1))


def _several(name, tensors):
    """The list of tensors, all of one type."""
    if hasattr(tensors, "shape") or not hasattr(tensors, "__iter__"):
        raise ArgumentError(f"{name}: takes a list of tensors\n  write {name}([a, b])")
    tensors = tuple(tensors)
    try:
        kinds = {x.dtype for x in tensors}
    except AttributeError:
        wrong = next(x for x in tensors if not hasattr(x, "dtype"))
        raise DtypeError(f"{name}: every entry must be a tensor, got {describe(wrong)}") from None
    if len(kinds) == 1 or mode.autocast is not None:
        return tensors
    floats = {kind for kind in kinds if kind.kind in FLOATS}
    expect(kinds, f"{name}: the list of tensors is empty", error=ArgumentError)
    hint = f"{name}: tensors of two types; write x.float() or x.double() on one of them"
    expect(len(floats) < 2, hint, *tensors, error=DtypeError)
    if floats:  # integers beside floats take their type, as in arithmetic
        (kind,) = floats
        tensors = tuple([x if x.dtype == kind else value(x).astype(kind) for x in tensors])
    return tensors


# One node for all pieces of a cut: its gradient is one concatenation, whatever their number


def _missing(gs, shape_of):
    """The gradients of the pieces, with zeros for those that had none."""
    some = next(value(g) for g in gs if g is not None)
    return [xp(some).zeros(shape_of(i), some.dtype) if g is None else g for i, g in enumerate(gs)]


@functools.lru_cache(maxsize=256)
def _splitter(outputs):
    def split(x, sections, dim):
        before, pieces, start = (slice(None),) * dim, [], 0
        for n in sections:
            pieces.append(x[(*before, slice(start, start + n))])
            start += n
        return tuple(pieces) if outputs > 1 else pieces[0]

    def gradient(gs, x_shape, sections, dim):
        gs = gs if outputs > 1 else (gs,)
        return (_cat(*_missing(gs, lambda i: (*x_shape[:dim], sections[i], *x_shape[dim + 1 :])), dim=dim),)

    cut = Op(split, outputs=outputs)
    cut.gradient(gradient)
    return cut


@functools.lru_cache(maxsize=256)
def _unbinder(outputs):
    def unbind(x, dim):
        before = (slice(None),) * dim
        slices = tuple([x[(*before, i, ...)] for i in range(outputs)])
        return slices if outputs > 1 else slices[0]

    def gradient(gs, x_shape, dim):
        gs = gs if outputs > 1 else (gs,)
        return (_stack(*_missing(gs, lambda i: (*x_shape[:dim], *x_shape[dim + 1 :])), dim=dim),)

    cut = Op(unbind, outputs=outputs)
    cut.gradient(gradient)
    return cut


def _cut(x, sections, dim):
    pieces = _splitter(len(sections))(x, tuple(sections), dim)
    return pieces if len(sections) > 1 else (pieces,)


def split(x, split_size_or_sections, dim=0):
    """x cut along `dim` into views: of one size (the last may be smaller), or of the sizes listed."""
    expect(x.ndim > 0, "split: a 0-d tensor cannot be cut", x)
    dim = check_dim("split", dim, x.ndim)
    n = x.shape[dim]
    if isinstance(split_size_or_sections, (tuple, list)):
        sections = sizes("split", (split_size_or_sections,))
        expect(
            sum(sections) == n and (not sections or min(sections) >= 0),
            f"split: sections {sections} must be at least 0 and add up to the size {n} of dimension {dim}",
            x,
            error=ArgumentError,
        )
    else:
        (size,) = sizes("split", ((split_size_or_sections,),))
        expect(size > 0 or (size == 0 and n == 0), f"split: the size of a piece must be positive, not {size}", x,
               error=ArgumentError)  # fmt: skip
        sections = [min(size, n - start) for start in range(0, n, size)] if n else [0]
    return _cut(x, sections, dim) if sections else ()


def chunk(x, chunks, dim=0):
    """x cut along `dim` into at most `chunks` views of equal size, the last smaller."""
    expect(x.ndim > 0, "chunk: a 0-d tensor cannot be cut", x)
    expect(isinstance(chunks, int) and chunks > 0, f"chunk: chunks must be positive, not {chunks}", error=ArgumentError)
    dim = check_dim("chunk", dim, x.ndim)
    n = x.shape[dim]
    return split(x, -(-n // chunks), dim) if n else _cut(x, [0] * chunks, dim)


def tensor_split(x, indices_or_sections, dim=0):
    """x cut along `dim` into so many nearly equal views, or before each of the indices listed."""
    expect(x.ndim > 0, "tensor_split: a 0-d tensor cannot be cut", x)
    dim = check_dim("tensor_split", dim, x.ndim)
    n = x.shape[dim]
    given = value(indices_or_sections)
    if hasattr(given, "tolist"):
        reads("tensor_split at the numbers of a tensor")
        given = given.tolist()
    if isinstance(given, (tuple, list)):
        places = [0, *[slice(None, i).indices(n)[1] for i in given], n]
        pieces = [(a, max(a, b)) for a, b in itertools.pairwise(places)]
        return tuple([x[(slice(None),) * dim + (slice(a, b),)] for a, b in pieces])
    expect(given > 0, f"tensor_split: sections must be positive, not {given}", error=ArgumentError)
    small, larger = divmod(n, given)
    return _cut(x, [small + 1] * larger + [small] * (given - larger), dim)


def unbind(x, dim=0):
    """The slices along `dim`, without that dimension, as a tuple of views."""
    expect(x.ndim > 0, "unbind: a 0-d tensor has no slices", x)
    dim = check_dim("unbind", dim, x.ndim)
    n = x.shape[dim]
    if n == 0:
        return ()
    slices = _unbinder(n)(x, dim)
    return slices if n > 1 else (slices,)
