"""Convolution in one to three dimensions, transposed convolution, and their gradients of every order.

Three ops, each linear in either of its arrays, and each the gradient of the other two. With p a place of x, q a place
of z and t a tap of the kernel, joined by p = stride q - padding + dilation t:

    convolve    z[q]       = sum over t      of  weight[t] x[p]
    spread      x[p]       = sum over q, t   of  weight[t] z[q]        this is transposed convolution
    correlate   weight[t]  = sum over q      of  z[q] x[p]

Each is a kernel (kernels/cpu/conv.py and kernels/cuda/conv.py, channels last). For arrays that have none, float64 among
them, each is a loop over the taps, in which a tap multiplies the slice of x that it sees.

(What PyTorch and this file call convolution is correlation in signal processing: the kernel is not turned round.)
"""

import math

from .. import kernels
from ..autograd import op
from ..device import xp
from ..errors import ArgumentError, ShapeError, expect
from ..tensor import Tensor
from .linalg import _product
from .padding import pad
from .shape import expand, reshape
from .windows import Window, batched, floating, per_dim, taps, unbatched, window_count


@op
def _convolve(x, weight, bias, size, window):
    """x (N, C, ...), weight (O, C / groups, ...), bias (O,) or None -> z (N, O, *size)."""
    family = _family(x, weight, size)
    if family is not None:
        return family.convolve(x, weight, bias, size, window)
    z = xp(x).zeros((x.shape[0], weight.shape[0], *size), x.dtype)
    for tap, reached, seen in taps(weight.shape[2:], size, x.shape[2:], window):
        product = _product(_grouped(weight[tap], window.groups), _grouped(x[seen], window.groups))
        z[reached] += product.reshape(z[reached].shape)
    return z if bias is None else z + bias.reshape(-1, *[1] * len(size))


@op
def _spread(z, weight, bias, size, window):
    """z (N, O, ...), weight (O, C / groups, ...), bias (C,) or None -> x (N, C, *size)."""
    family = _family(z, weight, size)
    if family is not None:
        return family.spread(z, weight, bias, size, window)
    x = xp(z).zeros((z.shape[0], weight.shape[1] * window.groups, *size), z.dtype)
    for tap, reached, seen in taps(weight.shape[2:], z.shape[2:], size, window):
        product = _product(_grouped(weight[tap], window.groups).swapaxes(-1, -2), _grouped(z[reached], window.groups))
        x[seen] += product.reshape(x[seen].shape)
    return x if bias is None else x + bias.reshape(-1, *[1] * len(size))


@op
def _correlate(x, z, size, window):
    """x (N, C, ...), z (N, O, ...) -> weight (O, C / groups, *size)."""
    family = _family(x, z, size)
    if family is not None:
        return family.correlate(x, z, size, window)
    groups, O, C = window.groups, z.shape[1], x.shape[1]
    weight = xp(x).zeros((O, C // groups, *size), x.dtype)
    for tap, reached, seen in taps(size, z.shape[2:], x.shape[2:], window):
        products = _product(_grouped(z[reached], groups), _grouped(x[seen], groups).swapaxes(-1, -2))
        weight[tap] = products.sum(0).reshape(O, C // groups)
    return weight


@op
def _sum_positions(z):
    """(N, C, ...) -> (C,): the gradient of a bias."""
    family = kernels.find(z, "conv")
    return z.sum(axis=(0, *range(2, z.ndim))) if family is None or z.size == 0 else family.sum_positions(z)


@_convolve.gradient
def _(g, x, weight, size, window, needs, into):
    kernel = weight.shape[2:]
    gx = _spread(g, weight, None, x.shape[2:], window) if needs[0] else None
    family = None if isinstance(g, Tensor) else _family(x, weight, size)
    if family is not None and needs[1]:  # both in one pass over g
        return gx, *family.parameter_gradients(x, g, kernel, window, needs[2], into[1:3])
    return gx, _correlate(x, g, kernel, window) if needs[1] else None, _sum_positions(g) if needs[2] else None


@_spread.gradient
def _(g, z, weight, window, needs):
    gz = _convolve(g, weight, None, z.shape[2:], window) if needs[0] else None
    gw = _correlate(g, z, weight.shape[2:], window) if needs[1] else None
    return gz, gw, _sum_positions(g) if needs[2] else None


_correlate.gradient(
    x=lambda g, x_shape, z, window: _spread(z, g, None, x_shape[2:], window),
    z=lambda g, x, z_shape, window: _convolve(x, g, None, z_shape[2:], window),
)
_sum_positions.gradient(z=lambda g, z_shape: expand(reshape(g, (-1, *[1] * (len(z_shape) - 2))), tuple(z_shape)))


def _family(x, other, size):
    """The kernels for x, unless something is empty."""
    return None if x.size == 0 or other.size == 0 or 0 in size else kernels.find(x, "conv")


def _grouped(x, groups):
    """(N, C, ...) -> (N, groups, C / groups, P); of a kernel, one tap (O, C) -> (groups, O / groups, C)."""
    if x.ndim == 2:
        return x.reshape(groups, x.shape[0] // groups, x.shape[1])
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:]))


# What users call


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """input (N, C, L) or (C, L), weight (O, C / groups, k), bias (O,) -> (N, O, L') or (O, L').

    stride    steps from window to window
    padding   zeros before and after: a number, "valid" (none), or "same" (so many that L' = L; stride 1 only). A pair
              (before, after) in a number's place where the sides differ; -1 leaves out an element
    dilation  steps from tap to tap inside a window
    groups    parts into which the channels are split; each sees its own part of the input only

    L' = (L + 2 padding - dilation (k - 1) - 1) // stride + 1. Raises ShapeError, ArgumentError or DtypeError.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """`conv1d` over pictures: input (N, C, H, W) or (C, H, W), weight (O, C / groups, kh, kw) -> (N, O, H', W')."""
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """`conv1d` over volumes: input (N, C, D, H, W) or (C, D, H, W), weight (O, C / groups, kd, kh, kw)."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv(name, dims, x, weight, bias, stride, padding, dilation, groups):
    x, had_batch = batched(name, x, dims)
    groups = _check(name, dims, x, weight, bias, groups, outputs=weight.shape[:1])
    O, channels, *kernel = weight.shape
    expect(
        x.shape[1] == channels * groups,
        f"{name}: the input has {x.shape[1]} channels, the weight takes {channels}"
        + (f" in each of {groups} groups" if groups > 1 else "")
        + ": weight is (O, C / groups, ...)",
        *(x, weight),
    )
    expect(O % groups == 0 and groups <= O, f"{name}: {O} output channels do not split into groups={groups}", weight)
    stride = per_dim(name, "stride", stride, dims, least=1)
    dilation = per_dim(name, "dilation", dilation, dims, least=1)
    if isinstance(padding, str):
        padding, x = _named_padding(name, padding, x, kernel, stride, dilation)
    before, after = _sides(name, padding, dims)
    lines = zip(x.shape[2:], kernel, stride, before, after, dilation)
    size = [window_count(name, n - a + b, k, s, a, d) for n, k, s, a, b, d in lines]  # so n + a + b in all
    return unbatched(_convolve(x, weight, bias, tuple(size), Window(stride, before, dilation, groups)), had_batch)


def _sides(name, padding, dims):
    """`padding`, a number or a pair for each dimension, as what stands before and after: two tuples of `dims`."""
    if not isinstance(padding, (tuple, list)) or not any([isinstance(side, (tuple, list)) for side in padding]):
        return (per_dim(name, "padding", padding, dims),) * 2
    expect(len(padding) == dims, f"{name}: padding has a number or a pair for each dimension", padding,
           error=ArgumentError)  # fmt: skip
    pairs = [per_dim(name, "padding", side, 2, least=-math.inf) for side in padding]
    return tuple(zip(*pairs))


def _named_padding(name, padding, x, kernel, stride, dilation):
    """The widths that "valid" and "same" stand for, and x, padded where the two sides must differ."""
    expect(padding in ("valid", "same"), f'{name}: padding is numbers, "valid" or "same"', padding, error=ArgumentError)
    if padding == "valid":
        return (0,) * len(kernel), x
    expect(
        max(stride) == 1,
        f'{name}: padding="same" keeps the size, which a stride does not',
        stride,
        error=ArgumentError,
        hint=f"write padding={tuple([d * (k - 1) // 2 for d, k in zip(dilation, kernel)])}",
    )
    both = [d * (k - 1) for d, k in zip(dilation, kernel)]
    if any(n % 2 for n in both):  # an even kernel: one more on the right
        x = pad(x, [w for n in both[::-1] for w in (0, n % 2)])
    return tuple([n // 2 for n in both]), x


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """input (N, C, L) or (C, L), weight (C, O / groups, k), bias (O,) -> (N, O, L') or (O, L').

    The gradient of `conv1d` for its input, used as a layer of its own: every element adds the kernel, scaled, to the
    places that a convolution of these arguments would have read for it (Zeiler et al. 2010).

    output_padding  lengthens the result at its end: a strided convolution maps several lengths to one, and this says
                    which of them is meant. Less than stride or dilation.

    L' = (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1. Raises as `conv1d`.
    """
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """`conv_transpose1d` over pictures: input (N, C, H, W) or (C, H, W), weight (C, O / groups, kh, kw)."""
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """`conv_transpose1d` over volumes: input (N, C, D, H, W) or (C, D, H, W), weight (C, O / groups, kd, kh, kw)."""
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _conv_transpose(name, dims, x, weight, bias, stride, padding, output_padding, groups, dilation):
    x, had_batch = batched(name, x, dims)
    groups = _check(name, dims, x, weight, bias, groups, outputs=None)
    expect(
        x.shape[1] == weight.shape[0],
        f"{name}: the input has {x.shape[1]} channels, the weight (C, O / groups, ...) takes {weight.shape[0]}",
        *(x, weight),
    )
    expect(x.shape[1] % groups == 0, f"{name}: {x.shape[1]} input channels do not split into groups={groups}", x)
    stride = per_dim(name, "stride", stride, dims, least=1)
    padding = per_dim(name, "padding", padding, dims)
    extra = per_dim(name, "output_padding", output_padding, dims)
    dilation = per_dim(name, "dilation", dilation, dims, least=1)
    expect(
        all([e < max(s, d) for e, s, d in zip(extra, stride, dilation)]),
        f"{name}: output_padding must be less than stride or dilation",
        *(extra, stride, dilation),
        error=ArgumentError,
    )
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, extra)
    ]
    expect(min(size) > 0, f"{name}: a result of size {tuple(size)}: padding={padding} cuts off everything", x, weight)
    return unbatched(_spread(x, weight, bias, tuple(size), Window(stride, padding, dilation, groups)), had_batch)


def _check(name, dims, x, weight, bias, groups, outputs):
    """The number of groups. Raises for a weight or bias of the wrong shape or type."""
    expect(hasattr(weight, "shape"), f"{name}: the weight must be a tensor", weight)
    (groups,) = per_dim(name, "groups", groups, 1, least=1)
    transposed = outputs is None
    layout = "(C, O / groups, ...)" if transposed else "(O, C / groups, ...)"
    expect(weight.ndim == dims + 2, f"{name}: the weight must be {layout} with {dims} dimensions more", weight)
    expect(0 not in weight.shape[2:], f"{name}: a kernel has at least one tap in each dimension", weight)
    outputs = (weight.shape[1] * groups,) if transposed else tuple(outputs)
    floating(name, x, weight, *([] if bias is None else [bias]))
    if bias is not None and tuple(bias.shape) != outputs:
        raise ShapeError(f"{name}: bias must be {outputs}, one number for each output channel, got {tuple(bias.shape)}")
    return groups
