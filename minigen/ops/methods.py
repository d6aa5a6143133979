"""The one list that closes the loop between Tensor and ops: which functions are methods, and which are operators.

`PUBLIC` names the functions of each file that stand at the top level (`minigen.exp`); `METHODS` those that a tensor
also has (`x.exp()`), `OPERATORS` those behind Python's signs (`x + y`). Nothing else adds to Tensor.
"""

from .. import autograd
from ..tensor import Tensor
from . import (
    arithmetic,
    casting,
    comparison,
    creation,
    elementary,
    indexing,
    inplace,
    joining,
    linalg,
    reduction,
    scatter,
    shape,
    sorting,
)

PUBLIC = {
    arithmetic: (
        "abs add ceil clamp div floor floor_divide frac maximum minimum mul neg pow remainder round sign sub "
        "trunc where"
    ),
    elementary: (
        "acos acosh asin asinh atan atanh cos cosh exp exp2 expm1 log log1p log2 log10 reciprocal rsqrt "
        "sigmoid sin sinh sqrt square tan tanh"
    ),
    comparison: "eq ne lt le gt ge isnan isinf isfinite logical_not",
    creation: "arange eye full linspace ones ones_like rand randn zeros zeros_like",
    casting: "clone",
    indexing: "",
    scatter: "gather masked_fill",
    joining: "cat concat concatenate stack split chunk tensor_split unbind",
    linalg: "matmul",
    reduction: "all amax amin any argmax argmin logsumexp max mean min prod std sum var",
    shape: (
        "reshape flatten ravel unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim moveaxis t "
        "broadcast_to"
    ),
    sorting: "",
}

METHODS = {
    arithmetic: (
        "abs add ceil clamp div floor floor_divide frac maximum minimum mul neg pow remainder round sign sub "
        "trunc"
    ),
    elementary: (
        "acos acosh asin asinh atan atanh cos cosh exp exp2 expm1 log log1p log2 log10 reciprocal rsqrt "
        "sigmoid sin sinh sqrt square tan tanh"
    ),
    casting: ("bool byte char clone contiguous cpu cuda double float half int long short to type_as"),
    comparison: "eq ne lt le gt ge isnan isinf isfinite logical_not",
    indexing: "",
    scatter: "gather masked_fill",
    inplace: "add_ copy_ div_ fill_ mul_ sub_ zero_",
    joining: "split chunk tensor_split unbind",
    linalg: "matmul",
    reduction: "all amax amin any argmax argmin logsumexp max mean min prod std sum var",
    shape: (
        "reshape view reshape_as view_as flatten ravel unflatten squeeze unsqueeze permute transpose swapaxes swapdims "
        "movedim moveaxis t expand expand_as broadcast_to"
    ),
    sorting: "",
    autograd: "backward register_hook retain_grad",
}

OPERATORS = {
    "__add__": arithmetic._add,
    "__radd__": arithmetic._add,
    "__sub__": arithmetic._sub,
    "__rsub__": lambda a, b: arithmetic._sub(b, a),
    "__mul__": arithmetic.mul,
    "__rmul__": arithmetic.mul,
    "__truediv__": arithmetic._div,
    "__rtruediv__": lambda a, b: arithmetic._div(b, a),
    "__floordiv__": arithmetic.floor_divide,
    "__rfloordiv__": lambda a, b: arithmetic.floor_divide(b, a),
    "__mod__": arithmetic.remainder,
    "__rmod__": lambda a, b: arithmetic.remainder(b, a),
    "__pow__": arithmetic.pow,
    "__rpow__": lambda a, b: arithmetic.pow(b, a),
    "__neg__": arithmetic.neg,
    "__pos__": lambda x: x,
    "__abs__": arithmetic.abs,
    "__invert__": comparison.bitwise_not,
    "__and__": comparison.bitwise_and,
    "__rand__": comparison.bitwise_and,
    "__or__": comparison.bitwise_or,
    "__ror__": comparison.bitwise_or,
    "__xor__": comparison.bitwise_xor,
    "__rxor__": comparison.bitwise_xor,
    "__eq__": comparison.eq,
    "__ne__": comparison.ne,
    "__lt__": comparison.lt,
    "__le__": comparison.le,
    "__gt__": comparison.gt,
    "__ge__": comparison.ge,
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
    "__matmul__": linalg.matmul,
    "__rmatmul__": linalg.rmatmul,
}

PROPERTIES = {"T": shape.T, "mT": shape.mT}


def _method(function):
    """An Op is an object, not a Python function: as an attribute of a class it would not bind `self`."""
    if isinstance(function, autograd.Op):
        op = function

        def function(self, *args, **kwargs):
            return op(self, *args, **kwargs)

        function.__name__, function.__doc__ = op.__name__, op.__doc__
    return function


for _module, _names in METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, _method(getattr(_module, _name)))
for _name, _function in OPERATORS.items():
    setattr(Tensor, _name, _method(_function))
for _name, _function in PROPERTIES.items():
    setattr(Tensor, _name, property(_function))
