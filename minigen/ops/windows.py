"""What every function that slides a window shares: its arguments, the number of windows, and where each tap looks.

A window over x has a place for each tap t of its kernel; the q-th window's is

    p = stride q - padding + dilation t

(one number for each dimension). Nothing is there where p lies outside x.
"""

import itertools
import operator
from typing import NamedTuple

from ..autograd.modes import mode
from ..device import FLOATS
from ..errors import ArgumentError, DtypeError, ShapeError, expect
from .shape import reshape


class Window(NamedTuple):
    """How a kernel slides, one entry for each dimension, and the number of groups of channels.

    `padding` is what stands before the first element; how far windows reach beyond the last, their number says.
    """

    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int = 1


def taps(kernel, count, size, window):
    """For each tap of the kernel: its index, which of the `count` windows see something there, and what they see in an
    input of `size`. All three index the last dimensions of an array, the latter two by slices.
    """
    for tap in itertools.product(*map(range, kernel)):
        reached, seen = [], []
        for t, n, m, stride, padding, dilation in zip(tap, count, size, *window[:3]):
            shift = dilation * t - padding
            first = max(0, -(shift // stride))  # the least q with stride q + shift >= 0
            last = max(first, min(n, (m - 1 - shift) // stride + 1))
            begin = stride * first + shift
            reached.append(slice(first, last))
            seen.append(slice(begin, begin + stride * (last - first - 1) + 1, stride) if last > first else slice(0))
        yield (..., *tap), (..., *reached), (..., *seen)


def window_count(name, size, kernel, stride, padding, dilation, ceil_mode=False):
    """How many windows fit along one dimension. Raises ShapeError if not one does.

    ceil_mode: also a last window that is partly outside, if it starts inside the input or the padding before it.
    """
    span = dilation * (kernel - 1) + 1
    free = size + 2 * padding - span
    count = (-(-free // stride) if ceil_mode else free // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    if count <= 0:
        raise ShapeError(
            f"{name}: a window of {span}"
            + (f" ({kernel} dilated by {dilation})" if dilation > 1 else "")
            + f" does not fit into {size}"
            + (f" + 2 * {padding} of padding" if padding else "")
        )
    return count


def per_dim(name, what, value, dims, least=0):
    """`value`, one integer or one for each dimension, as a tuple of `dims` integers, none below `least`."""
    if type(value) is int and value >= least:
        return (value,) * dims
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    try:
        given = tuple([operator.index(n) for n in given])
    except TypeError:
        raise DtypeError(f"{name}: {what} is made of integers, got {value!r}") from None
    if len(given) == 1:
        given *= dims
    if len(given) != dims:
        rule = f"{name}: {what} is one integer" + (f", or {dims}, one for each dimension" if dims > 1 else "")
        expect(False, rule, value, error=ArgumentError)
    if min(given) < least:
        raise ArgumentError(f"{name}: {what} must be at least {least}, got {value}")
    return given


def batched(name, x, dims):
    """(x with a batch dimension, whether it had one): functions take (N, C, ...) and (C, ...) alike."""
    if getattr(x, "ndim", None) == dims + 2:
        return x, True
    expect(hasattr(x, "shape"), f"{name}: the input must be a tensor", x, error=DtypeError)
    places = ", ".join("DHW"[3 - dims :])
    expect(
        x.ndim == dims + 1,
        f"{name}: the input must be (N, C, {places}) or (C, {places})",
        x,
        hint="did you mean x.unsqueeze(0), one channel?" if x.ndim == dims else None,
    )
    return reshape(x, (1, *x.shape)), False


def unbatched(y, had_batch):
    """y without the batch dimension that `batched` added."""
    return y if had_batch else reshape(y, tuple(y.shape[1:]))


def floating(name, *tensors):
    """Raise DtypeError unless all tensors are of one floating-point type; of any, where autocast chooses it."""
    kinds = {x.dtype for x in tensors}
    expect(
        (len(kinds) == 1 or mode.autocast is not None) and all([dtype.kind in FLOATS for dtype in kinds]),
        f"{name}: all tensors must be of one floating-point type; write x.float() or x.double() on the others",
        *tensors,
        error=DtypeError,
    )
