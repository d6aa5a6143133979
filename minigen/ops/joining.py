"""Joining tensors and cutting them up: cat, stack, split, chunk, unbind.

What is joined lies in memory in the order of its parts: channels that are last stay so. CuPy would lose that order, and
each layer behind would copy it back.
"""

import functools
import itertools
import math

import numpy as np

from .. import kernels
from ..autograd import Op, check_dim, op
from ..autograd.modes import mode
from ..device import FLOATS, is_array, xp
from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from ..tensor import Tensor, owner, reads, value
from .shape import sizes


@op
def _cat(*xs, dim):
    lib = xp(xs[0])
    if lib is np:  # which keeps the order of memory by itself
        return np.concatenate(xs, axis=dim)
    return _joined(lib, xs, dim, memory_order(xs[0]))


@_cat.gradient
def _(g, shapes, dim):
    sizes = [shape[dim] for shape in shapes]
    order = None if isinstance(g, Tensor) or type(g) is np.ndarray else memory_order(g)
    if order is not None and math.prod([g.shape[i] for i in order[: order.index(dim)]]) > 1:  # parts would have gaps
        family = kernels.find(g, "joining")
        if family is not None:
            back = sorted(range(g.ndim), key=order.__getitem__)
            parts = family.cut(g.transpose(order), sizes, order.index(dim))
            return [part.transpose(back) for part in parts]
    before, stops = (slice(None),) * dim, itertools.accumulate(sizes)
    return [g[(*before, slice(stop - size, stop))] for size, stop in zip(sizes, stops)]


@op
def _stack(*xs, dim, order=None):
    """order: of the result's dimensions in memory, or None."""
    lib = xp(xs[0])
    if order is None:
        return lib.stack(xs, axis=dim)
    return _joined(lib, [lib.expand_dims(x, dim) for x in xs], dim, order)


@_stack.gradient
def _(g, shapes, dim):
    before = (slice(None),) * dim
    return [g[(*before, i)] for i in range(len(shapes))]


def memory_order(x):
    """The dimensions of x from the one with the longest steps in memory to that with the shortest."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    return tuple(sorted(range(x.ndim), key=lambda i: (x.strides[i], x.shape[i] > 1), reverse=True))


def _as_one(xs, dim):
    """The arrays of CuPy stacked along `dim`, as a view, if they are slices of one in equal steps; else None."""
    first = xs[0]
    if len(xs) < 2 or any([type(x) is not type(first) or not is_array(x) for x in xs]) or type(first) is np.ndarray:
        return None
    alike = all([x.shape == first.shape and x.strides == first.strides and x.dtype == first.dtype for x in xs])
    if not alike or any([owner(x) is not owner(first) for x in xs]):
        return None
    step = xs[1].data.ptr - first.data.ptr
    if step <= 0 or any([x.data.ptr != first.data.ptr + i * step for i, x in enumerate(xs)]):
        return None
    shape = *first.shape[:dim], len(xs), *first.shape[dim:]
    strides = *first.strides[:dim], step, *first.strides[dim:]
    return xp(first).lib.stride_tricks.as_strided(first, shape, strides)


def _joined(lib, xs, dim, order):
    """The arrays end to end along `dim`, in memory that has its dimensions in this order."""
    back = sorted(range(len(order)), key=order.__getitem__)
    xs, axis = [x.transpose(order) for x in xs], order.index(dim)
    family = None if lib is np or len({x.dtype for x in xs}) > 1 else kernels.find(xs[0], "joining")
    y = lib.concatenate(xs, axis=axis) if family is None else family.concatenate(xs, axis)
    return y.transpose(back)


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
    def unbind(x, dim, order):
        before = (slice(None),) * dim
        slices = tuple([x[(*before, i, ...)] for i in range(outputs)])
        return slices if outputs > 1 else slices[0]

    def gradient(gs, x_shape, dim, order):
        gs = gs if outputs > 1 else (gs,)
        joined = _as_one(gs, dim)
        if joined is None:
            gs = _missing(gs, lambda i: (*x_shape[:dim], *x_shape[dim + 1 :]))
            joined = _stack(*gs, dim=dim, order=order)
        return (joined,)

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
    order = None if value(x).flags.c_contiguous else memory_order(value(x))  # in which its gradient shall lie
    slices = _unbinder(n)(x, dim, order)
    return slices if n > 1 else (slices,)
