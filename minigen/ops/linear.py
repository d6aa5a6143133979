"""The linear layer's function, alone and with an activation behind it, and the bilinear one's.

`linear` is its own definition: its gradients are products and a sum, which are ops. On arrays one kernel makes all
three of them (kernels/cpu/linear.py).

`linear_between` is what decoding asks of a layer: the norm before it, and the sum behind it, come along.

`linear_activation` is fused on the GPU only. On the CPU it is its definition, the layer's kernel and the activation's:
both are bound by arithmetic, and one pass took as long as two (2048 x 128 -> 512 and gelu: 697 us against 694; 512 x
256 -> 1024: 667 against 670, two cores of a Zen 5).
"""

import numpy as np

from .. import kernels
from ..autograd import op
from ..autograd.modes import mode
from ..device import FLOATS, is_array
from ..errors import expect
from ..tensor import Tensor, value
from .activations import BEHIND, check_name, floating
from .linalg import _matmul, _rows, _times
from .linalg import matmul as _product
from .normalization import layer_norm
from .reduction import sum as _sum
from .shape import broadcast_to, reshape

__all__ = ["bilinear", "linear", "linear_activation", "linear_between"]

SUMMED = 4096  # elements up to which NumPy sums as quickly as a kernel


@op
def _linear(x, weight, bias):
    family = kernels.find(x, "linear")
    if family is not None:
        return family.linear(x, weight, bias)
    y = _times(x.reshape(_rows(x), x.shape[-1]), weight.T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight))


@_linear.gradient
def _(g, x, weight, needs, into):
    family = None if isinstance(g, Tensor) else kernels.find(g, "linear")
    if family is not None:
        return family.linear_gradient(g, x, weight, needs, into)
    rows = g.reshape(_rows(g), g.shape[-1])
    gx = _matmul(g, weight) if needs[0] else None
    gw = _matmul(rows.swapaxes(0, 1), x.reshape(_rows(x), x.shape[-1])) if needs[1] else None
    return gx, gw, _sum_leading(rows) if needs[2] else None


@op(saves=("before",))
def _linear_activation(x, weight, bias, activation):
    family = kernels.find(x, "linear_activation")
    return NotImplemented if family is None else family.linear_activation(x, weight, bias, activation)


@_linear_activation.gradient
def _(g, x, weight, bias, before, activation, needs, into):
    family = kernels.find(x, "linear_activation")
    found = family.linear_activation_gradient(g, x, weight, bias, before, activation, needs[:3], into[:3])
    return (*found, None)


@_linear_activation.definition
def _(x, weight, bias, activation):
    return BEHIND[activation](_linear(x, weight, bias))


@op
def _linear_few(x, weight, bias, activation, norm_weight, norm_bias, eps, residual):
    family = kernels.find(x, "linear_few")
    if family is None:
        return NotImplemented
    return family.linear_few(x, weight, bias, activation, norm_weight, norm_bias, eps, residual)


@_linear_few.definition
def _(x, weight, bias, activation, norm_weight, norm_bias, eps, residual):
    x = x if eps is None else layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps)
    y = _linear(x, weight, bias)
    y = y if activation is None else BEHIND[activation](y)
    return y if residual is None else residual + y


@op
def _sum_leading(x):
    """The sum over all dimensions but the last."""
    small = type(x) is np.ndarray and x.size <= SUMMED
    family = None if small else kernels.find(x, "reduce")
    return x.reshape(_rows(x), x.shape[-1]).sum(0) if family is None else family.sum_leading(x)


_sum_leading.gradient(x=lambda g, x_shape: broadcast_to(g, x_shape))


def _ordinary(x, weight, bias):
    """Whether there is nothing to explain or to reshape: quickly, since programs call nothing as often as `linear`."""
    if not (is_array(x) and is_array(weight) and x.ndim > 1 and weight.ndim == 2 and x.shape[-1] == weight.shape[1]):
        return False
    dtype = x.dtype
    if dtype.kind not in FLOATS or (bias is not None and not (is_array(bias) and bias.shape == weight.shape[:1])):
        return False
    if dtype is weight.dtype and (bias is None or bias.dtype is dtype):
        return True
    chosen = mode.autocast is not None  # what the types become
    return chosen and weight.dtype.kind in FLOATS and (bias is None or bias.dtype.kind in FLOATS)


def linear(input, weight, bias=None):
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) -> (..., out).

    weight (in,) gives one output and drops its dimension. Raises ShapeError where `in` or `out` differ.
    """
    if _ordinary(value(input), value(weight), value(bias)):
        return _linear(input, weight, bias)
    return _any_linear("linear", input, weight, bias)


def _any_linear(name, input, weight, bias):
    """`linear` of what is not ordinary, or does not fit."""
    floating(name, input, weight, *([] if bias is None else [bias]))
    rule = f"{name}: x (..., in), weight (out, in), bias (out,)"
    arguments = (input, weight) if bias is None else (input, weight, bias)
    fits = input.ndim > 0 and weight.ndim in (1, 2) and input.shape[-1] == weight.shape[-1]
    hint = None
    if not fits and weight.ndim == 2 and input.ndim and input.shape[-1] == weight.shape[0]:
        hint = "weight is (out, in): did you mean  weight.T  ?"
    expect(fits, rule, *arguments, hint=hint)
    if weight.ndim == 1:
        expect(bias is None or bias.ndim == 0, f"{name}: weight (in,) goes with a bias without dimensions", *arguments)
        y = _product(input, weight)
        return y if bias is None else y + bias
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        expect(bias.ndim <= 1 and bias.shape in ((), (1,)), rule, *arguments)
        bias = broadcast_to(bias, (weight.shape[0],))
    if input.ndim == 1:
        return reshape(_linear(reshape(input, (1, -1)), weight, bias), (-1,))
    return _linear(input, weight, bias)


def linear_activation(input, weight, bias=None, activation="gelu"):
    """An activation of the linear layer, in the same pass where a kernel has it: gelu(x @ weight.T + bias).

    activation: "relu", "gelu", "gelu_tanh", "silu" or "mish", else ArgumentError; the rest is as for `linear`.
    """
    check_name("linear_activation", activation)
    if _ordinary(value(input), value(weight), value(bias)):
        if kernels.find(value(input), "linear_activation") is None:
            return BEHIND[activation](_linear(input, weight, bias))
        return _linear_activation(input, weight, bias, activation)
    return BEHIND[activation](_any_linear("linear_activation", input, weight, bias))


def linear_between(input, weight, bias=None, activation=None, norm=None, residual=None):
    """residual + an activation of the linear layer of a layer norm of x: a branch that joins a Transformer's stream.

    norm        (weight, bias, eps) of a layer norm over x's last dimension, or None
    residual    (..., out), or None

    Of a few rows on the GPU, where no gradient is wanted, that is one launch (kernels/cuda/linear_few.py). Otherwise it
    is one function after the other; activation and the rest are as for `linear_activation`.
    """
    norm_weight, norm_bias, eps = norm or (None, None, None)
    if _is_few(input, weight, bias, norm_weight, norm_bias, residual):
        return _linear_few(input, weight, bias, activation, norm_weight, norm_bias, eps, residual)
    x = input if norm is None else layer_norm(input, input.shape[-1:], *norm)
    y = linear(x, weight, bias) if activation is None else linear_activation(x, weight, bias, activation)
    return y if residual is None else residual + y


def _is_few(x, *others):
    """Whether `_linear_few` has a kernel for these arrays, and no gradient is wanted."""
    if mode.recording or mode.autocast is not None or type(value(x)) is np.ndarray:
        return False
    family, others = kernels.find(value(x), "linear_few"), [value(a) for a in others if a is not None]
    one_type = all([is_array(a) and a.dtype == x.dtype for a in others])
    return one_type and family is not None and others[0].ndim == 2 and family.takes(value(x), others[0])


def bilinear(input1, input2, weight, bias=None):
    """y[k] = x1 @ weight[k] @ x2 + bias[k]: x1 (..., n), x2 (..., m), weight (out, n, m) -> (..., out)."""
    arguments = (input1, input2, weight) if bias is None else (input1, input2, weight, bias)
    floating("bilinear", *arguments)
    expect(
        weight.ndim == 3
        and input1.ndim == input2.ndim > 0
        and input1.shape[:-1] == input2.shape[:-1]
        and weight.shape[1:] == (input1.shape[-1], input2.shape[-1])
        and (bias is None or bias.shape == weight.shape[:1]),
        "bilinear: x1 (..., n), x2 (..., m), weight (out, n, m), bias (out,)",
        *arguments,
    )
    left = input1.reshape(*input1.shape[:-1], 1, 1, input1.shape[-1]) @ weight  # (..., out, 1, m)
    right = input2.reshape(*input2.shape[:-1], 1, 1, input2.shape[-1])
    y = _sum(left * right, (-2, -1))
    return y if bias is None else y + bias
