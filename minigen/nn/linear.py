"""Linear and bilinear layers."""

import math

from . import functional as F
from . import init
from .module import Module, new_parameter

__all__ = ["Bilinear", "Linear"]


class Linear(Module):
    """y = x W^T + b: (..., in_features) -> (..., out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform on +-1/sqrt(in_features).
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter(out_features, in_features, device=device, dtype=dtype)
        self.bias = new_parameter(out_features, device=device, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # the same as uniform on +-1/sqrt(fan_in)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input, activation=None, norm=None, residual=None):
        """`activation` ("gelu", say): of the result, in the same pass, as in functional.linear_activation.

        norm        a LayerNorm that comes before
        residual    what the result is added to; both as in functional.linear_between
        """
        if norm is not None or residual is not None:
            norm = None if norm is None else (norm.weight, norm.bias, norm.eps)
            return F.linear_between(input, self.weight, self.bias, activation, norm, residual)
        if activation is None:
            return F.linear(input, self.weight, self.bias)
        return F.linear_activation(input, self.weight, self.bias, activation)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y_k = x1^T W_k x2 + b_k: (..., in1), (..., in2) -> (..., out). weight (out, in1, in2), bias (out,)."""

    def __init__(self, in1_features, in2_features, out_features, bias=True, device=None, dtype=None):
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = new_parameter(out_features, in1_features, in2_features, device=device, dtype=dtype)
        self.bias = new_parameter(out_features, device=device, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1, input2):
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self):
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
