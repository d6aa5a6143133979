"""What every function that slides a window shares: arguments given once or per dimension, batches left out, sizes."""

import operator

from ..errors import ArgumentError, DtypeError, ShapeError, expect
from .shape import reshape


def per_dim(name, what, value, dims, least=0):
    """`value`, one integer or one per dimension, as a tuple of `dims` integers, none below `least`."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    try:
        given = tuple([operator.index(n) for n in given])
    except TypeError:
        raise DtypeError(f"{name}: {what} is made of integers, got {value!r}") from None
    if len(given) == 1:
        given *= dims
    expect(
        len(given) == dims,
        f"{name}: {what} is one integer or {dims}, one for each dimension",
        value,
        error=ArgumentError,
    )
    expect(min(given) >= least, f"{name}: {what} must be at least {least}, got {value}", error=ArgumentError)
    return given


def batched(name, x, dims):
    """(x with a batch dimension, whether it had one): functions take (N, C, ...) and (C, ...) alike."""
    expect(hasattr(x, "shape"), f"{name}: the input must be a tensor", x, error=DtypeError)
    places = ", ".join("DHW"[3 - dims :]) if dims > 1 else "L"
    expect(
        x.ndim in (dims + 1, dims + 2),
        f"{name}: the input must be (N, C, {places}) or (C, {places})",
        x,
        hint=_suggest(x, dims),
    )
    return (x, True) if x.ndim == dims + 2 else (reshape(x, (1, *x.shape)), False)


def _suggest(x, dims):
    if x.ndim == dims:
        return "did you mean x.unsqueeze(0), one channel?"
    return f"it has {x.ndim} dimensions, not {dims + 1} or {dims + 2}"


def unbatched(y, had_batch):
    """y without the batch dimension that `batched` added."""
    return y if had_batch else reshape(y, tuple(y.shape[1:]))


def floating(name, *tensors):
    """Raise unless all tensors are of one floating-point type."""
    kinds = {x.dtype for x in tensors}
    expect(
        len(kinds) == 1 and all([dtype.kind == "f" for dtype in kinds]),
        f"{name}: all tensors must be of one floating-point type; write x.float() or x.double() on the others",
        *tensors,
        error=DtypeError,
    )


def window_count(name, size, kernel, stride, padding, dilation, ceil_mode=False):
    """How many windows fit along one dimension. Raises ShapeError if not one does.

    ceil_mode: the last window may run over the end, if it starts inside the input or its left padding.
    """
    span = dilation * (kernel - 1) + 1
    free = size + 2 * padding - span
    expect(
        free >= 0,
        f"{name}: a window of {span}" + (f" ({kernel} dilated by {dilation})" if dilation > 1 else "")
        + f" does not fit into {size}" + (f" + 2 * {padding} of padding" if padding else ""),
        error=ShapeError,
    )  # fmt: skip
    if not ceil_mode:
        return free // stride + 1
    count = -(-free // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count
