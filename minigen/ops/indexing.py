"""Square brackets: x[...], with slices, numbers, None, Ellipsis, masks and tensors of integers, and x[...] = y.

NumPy's rules, which PyTorch shares. One thing PyTorch refuses works here: steps may be negative, so `x[::-1]` is x
backwards. Slices and numbers give views; masks and integer tensors give copies.
"""

import math

import numpy as np

from .. import autograd, kernels
from ..autograd import op
from ..device import CPU, CUDA, FLOATS, is_array, to_device, xp
from ..errors import ArgumentError, DimError, DtypeError, GradientError, ShapeError, describe
from ..tensor import Tensor, is_writable, reads, value, wrote
from .at import combine_at

_SIMPLE = (int, slice, type(None), type(Ellipsis))


def getitem(x, index):
    """x[index]. A view for slices, numbers, None and Ellipsis; a copy for masks and tensors of integers.

    Raises DimError for an index out of range, or more indices than dimensions.
    """
    kind = type(index)
    simple = kind in _SIMPLE
    if kind is tuple:
        simple = True
        for i in index:
            if type(i) not in _SIMPLE:
                simple = False
                break
    if not simple:
        index, simple = _normalise(index, value(x))
    try:
        return _slice(x, index) if simple else _pick(x, index)
    except IndexError as wrong:
        raise DimError(f"getitem: {describe(x)}[{_show(index)}]: {str(wrong).splitlines()[-1].strip()}") from None


@op
def _slice(x, index):
    y = x[index]
    if type(y) is not np.ndarray and isinstance(y, np.generic):  # keep it a view
        y = x[(*index, ...) if type(index) is tuple else (index, ...)]
    return y


def _slice_gradient(g, x_shape, index):
    return _place(g, x_shape, index) if isinstance(g, Tensor) else _place.forward(g, x_shape, index)


_slice.gradient(x=_slice_gradient)


@op
def _place(g, shape, index):
    """Zeros of `shape`, but g at x[index]: the adjoint of a slice, which never meets a place twice."""
    if g.size == math.prod(shape) and not _backwards(index):  # x[:, :, None]: nothing was left out
        return g.reshape(shape)
    lib = xp(g)
    if g.ndim == len(shape) and not g.flags.c_contiguous:
        y = lib.zeros_like(g, shape=shape)  # in the memory order of g: channels that are last stay so
    else:
        y = lib.zeros(shape, g.dtype)
    y[index] = g
    return y


_place.gradient(g=lambda gg, index: _slice(gg, index))


def _backwards(index):
    """Whether a slice of the index goes from the end to the beginning."""
    return any([type(i) is slice and i.step is not None and i.step < 0 for i in _entries(index)])


def _entries(index):
    return index if type(index) is tuple else (index,)


@op
def _pick(x, index):
    return x[index]


_pick.gradient(x=lambda g, x_shape, index: _put_add(g, x_shape, index))


@op
def _put_add(g, shape, index):
    """Zeros of `shape`, to which g is added at x[index], as often as a place is named: the adjoint of picking."""
    lib = xp(g)
    y = lib.zeros(shape, g.dtype)
    if all([not is_array(i) or i.dtype.kind == "b" for i in index]):
        y[index] = g  # a mask names no place twice
        return y
    if lib is not np and g.size and (family := kernels.find(g, "embedding")) is not None:
        return _add_sorted(family, g, shape, index)  # CuPy adds by atomics, in a new order each time
    if lib is not np or g.dtype.kind not in FLOATS or g.size < 1000:
        combine_at("add", y, index, g)
        return y
    if all([is_array(i) and i.dtype.kind != "b" for i in index]):
        rows, rest = _row_numbers(index, shape), shape[len(index) :]
        g = np.broadcast_to(g, rows.shape + rest)
        if math.prod(rest) > 1:
            _add_rows(y.reshape(-1, math.prod(rest)), rows, g.reshape(-1, math.prod(rest)))
            return y
    else:
        rows = np.arange(y.size).reshape(shape)[index]
        g = np.broadcast_to(g, rows.shape)
    sums = np.bincount(rows.reshape(-1), g.reshape(-1), y.size)  # adds in float64
    return sums.astype(g.dtype, copy=False).reshape(shape)


def _row_numbers(index, shape):
    """Integer arrays that index the first dimensions of `shape`, as one number for each entry."""
    rows = 0
    for i, n in zip(index, shape):
        rows = rows * n + xp(i).where(i < 0, i + n, i)
    return rows


def _add_rows(y, rows, g):
    """y[rows] += g, where rows may repeat. Sorted by row, each row's sum is one run: 4 times np.add.at."""
    rows = rows.reshape(-1)
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    y[rows[starts]] = np.add.reduceat(g[order], starts, axis=0)


def _add_sorted(family, g, shape, index):
    """`_put_add` by the GPU's kernel for embeddings, which adds rows in the order of their places."""
    lead = 0
    while type(index[lead]) is slice and index[lead] == slice(None):
        lead += 1
    arrays, lib = index[lead:], xp(g)
    if not all([is_array(i) and i.dtype.kind in "iu" for i in arrays]):  # slices behind arrays, masks, numbers, None
        arrays, lead = (lib.arange(math.prod(shape)).reshape(shape)[index],), 0
        shape, inner = (math.prod(shape),), shape
    else:
        inner = None
    end = lead + len(arrays)
    before, named, rest = shape[:lead], shape[lead:end], shape[end:]
    rows = _row_numbers(arrays, named)
    g = lib.broadcast_to(g, (*before, *rows.shape, *rest))
    ends = lead + rows.ndim
    g = g.transpose((*range(lead, ends), *range(lead), *range(ends, g.ndim)))
    g = g.reshape(*rows.shape, math.prod(before + rest))
    y = family.embedding_gradient(g, rows, math.prod(named)).reshape(*named, *before, *rest)
    if inner is not None:
        return y.reshape(inner)
    first = len(named)
    return y.transpose((*range(first, first + lead), *range(first), *range(first + lead, y.ndim)))


_put_add.gradient(g=lambda gg, index: _pick(gg, index))


def _normalise(index, x):
    """The index as NumPy takes it: a tuple without tensors or lists; and whether it is made of slices and numbers."""
    lib = xp(x)
    entries = index if type(index) is tuple else (index,)
    found, simple = [], True
    for i in entries:
        i = value(i)
        if isinstance(i, _SIMPLE) and not isinstance(i, bool):
            found.append(i)
            continue
        if isinstance(i, (list, tuple, range)):
            i = _from_list(i)
        if isinstance(i, np.integer):
            found.append(int(i))
            continue
        if isinstance(i, (bool, np.bool_)):
            i = np.asarray(i)
        if not is_array(i):
            raise DtypeError(
                f"getitem: {describe(i)} ({type(i).__name__}) cannot index\n"
                f"  an index is made of integers, slices, None, ..., and tensors of integers or booleans"
            )
        if i.dtype.kind not in "iub":
            raise DtypeError(
                f"getitem: a tensor of {i.dtype} cannot index\n  write index.long(), or index.bool() for a mask"
            )
        if i.ndim == 0 and i.dtype.kind != "b" and lib is np and xp(i) is np:
            reads("a tensor of one number as an index")
            found.append(int(i))
            continue
        if xp(i) is not lib:
            i = to_device(i, CPU if lib is np else CUDA)
        simple = False
        found.append(i)
    return tuple(found), simple


def _from_list(entries):
    array = np.asarray([_plain(i) for i in entries])
    return array.astype(np.int64) if array.size == 0 else array


def _plain(entry):
    entry = value(entry)
    if isinstance(entry, (list, tuple)):
        return [_plain(i) for i in entry]
    return entry.get() if is_array(entry) and xp(entry) is not np else entry


def _show(index):
    def one(i):
        if isinstance(i, slice):
            return ":".join("" if v is None else str(v) for v in (i.start, i.stop)) + (f":{i.step}" if i.step else "")
        return "..." if i is Ellipsis else describe(i)

    return ", ".join(one(i) for i in index) if type(index) is tuple else one(index)


@autograd.action
def setitem(x, index, new):
    """x[index] = new, in place. Raises GradientError where a gradient would be lost; `index_put` keeps it."""
    if autograd.is_grad_enabled() and (x.requires_grad or (isinstance(new, Tensor) and new.requires_grad)):
        whose = "x" if x.requires_grad else "what is written"
        raise GradientError(
            f"setitem: a gradient is wanted for {whose}, and x[...] = y in place would lose it\n"
            f"  write x = x.index_put(index, y), or build x from its parts: stack([...]), where(mask, y, x)\n"
            f"  or, to change the numbers only, with no_grad(): x[...] = y"
        )
    if not isinstance(index, _SIMPLE):
        index, _ = _normalise(index, x.data)
    if not is_writable(x.data):
        raise ArgumentError(f"setitem: x {describe(x)} is one number seen at many places\n  write x = x.clone() first")
    try:
        x.data[index] = _fitting(value(new), x.data)
    except IndexError as wrong:
        raise DimError(f"setitem: {describe(x)}[{_show(index)}]: {wrong}") from None
    except ValueError as wrong:
        raise ShapeError(f"setitem: {describe(x)}[{_show(index)}] = {describe(new)}: {wrong}") from None
    wrote(x.data)


def _fitting(new, x):
    """What is written, on the device of x; floats into integers raise, where NumPy would cut them."""
    new = new if is_array(new) or isinstance(new, (bool, int, float)) else np.asarray(new)
    whole = x.dtype.kind not in FLOATS
    if whole and (isinstance(new, float) or (is_array(new) and new.dtype.kind in FLOATS)):
        raise DtypeError(f"setitem: {describe(new)} into {describe(x)}\n  write x.float() first, or y.long()")
    if is_array(new) and xp(new) is not xp(x):
        return xp(x).asarray(new) if xp(new) is np else new.get()
    return new
