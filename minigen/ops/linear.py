"""The linear layer's function, and the bilinear one's.

`linear` is its own definition: its gradients are products and a sum, which are ops. The products use the
kernels of kernels/cpu/blas.py where they are large.
"""

from .. import kernels
from ..autograd import op
from ..errors import expect
from .activations import floating
from .linalg import SMALL, SMALL_VECTOR, _matmul, _rows
from .linalg import matmul as _product
from .reduction import sum as _sum
from .shape import broadcast_to, reshape

__all__ = ["bilinear", "linear"]

SUMMED = 16384  # elements up to which NumPy sums as quickly as a kernel


@op
def _linear(x, weight, bias):
    work = x.size * len(weight)
    family = kernels.find(x, "blas") if work > (SMALL if len(weight) > 1 else SMALL_VECTOR) else None
    if family is not None:
        return family.linear(x, weight, bias)
    y = x.reshape(_rows(x), x.shape[-1]) @ weight.T
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight))


def _weight_gradient(g, x):
    return _matmul(g.reshape(_rows(g), g.shape[-1]).swapaxes(0, 1), x.reshape(_rows(x), x.shape[-1]))


_linear.gradient(
    x=lambda g, weight: _matmul(g, weight),
    weight=_weight_gradient,
    bias=lambda g: _sum_leading(g),
)


@op
def _sum_leading(x):
    """The sum over all dimensions but the last."""
    family = kernels.find(x, "reduce") if x.size > SUMMED else None
    return x.reshape(_rows(x), x.shape[-1]).sum(0) if family is None else family.sum_leading(x)


_sum_leading.gradient(x=lambda g, x_shape: broadcast_to(g, x_shape))


def linear(input, weight, bias=None):
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) -> (..., out).

    weight (in,) gives one output and drops its dimension. Raises ShapeError where `in` or `out` differ.
    """
    floating("linear", input, weight, *([] if bias is None else [bias]))
    rule = "linear: x (..., in), weight (out, in), bias (out,)"
    arguments = (input, weight) if bias is None else (input, weight, bias)
    fits = input.ndim > 0 and weight.ndim in (1, 2) and input.shape[-1] == weight.shape[-1]
    hint = None
    if not fits and weight.ndim == 2 and input.ndim and input.shape[-1] == weight.shape[0]:
        hint = "weight is (out, in): did you mean  weight.T  ?"
    expect(fits, rule, *arguments, hint=hint)
    if weight.ndim == 1:
        expect(bias is None or bias.ndim == 0, "linear: weight (in,) goes with a bias without dimensions", *arguments)
        y = _product(input, weight)
        return y if bias is None else y + bias
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        expect(bias.ndim <= 1 and bias.shape in ((), (1,)), rule, *arguments)
        bias = broadcast_to(bias, (weight.shape[0],))
    if input.ndim == 1:
        return reshape(_linear(reshape(input, (1, -1)), weight, bias), (-1,))
    return _linear(input, weight, bias)


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
