"""The one list that closes the loop between Tensor and ops: which functions are methods, and which are operators.

`PUBLIC` names the functions of each file that stand at the top level (`minigen.exp`); `METHODS` those that a tensor
also has (`x.exp()`), `OPERATORS` those behind Python's signs (`x + y`). Nothing else adds to Tensor.
"""

from .. import autograd
from ..errors import answering
from ..tensor import Tensor
from . import (
    arithmetic,
    casting,
    comparison,
    counting,
    creation,
    elementary,
    indexing,
    inplace,
    joining,
    linalg,
    picking,
    rearranging,
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
    joining: "cat concat concatenate stack split chunk tensor_split unbind",
    linalg: "matmul",
    reduction: "all amax amin any argmax argmin logsumexp max mean min prod std sum var",
    picking: "gather take_along_dim take index_select masked_select",
    scatter: (
        "masked_fill masked_scatter scatter scatter_add scatter_reduce index_add index_copy index_fill "
        "index_put"
    ),
    rearranging: (
        "narrow select flip fliplr flipud roll rot90 tile repeat_interleave tril triu diagonal diag "
        "diag_embed meshgrid atleast_1d atleast_2d atleast_3d hstack vstack dstack"
    ),
    shape: (
        "reshape flatten ravel unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim "
        "moveaxis t broadcast_to broadcast_tensors"
    ),
    sorting: "sort argsort msort topk kthvalue median",
    counting: "nonzero argwhere count_nonzero unique unique_consecutive bincount searchsorted bucketize",
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
    inplace: "add_ copy_ div_ fill_ mul_ sub_ zero_",
    joining: "split chunk tensor_split unbind",
    linalg: "matmul",
    reduction: "all amax amin any argmax argmin logsumexp max mean min prod std sum var",
    autograd: "backward register_hook retain_grad",
    picking: "gather take_along_dim take index_select masked_select",
    scatter: (
        "masked_fill masked_scatter scatter scatter_add scatter_reduce index_add index_copy index_fill "
        "index_put"
    ),
    rearranging: (
        "narrow select flip fliplr flipud roll rot90 tile repeat_interleave tril triu diagonal diag "
        "diag_embed repeat unfold"
    ),
    shape: (
        "reshape flatten ravel unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim "
        "moveaxis t broadcast_to view reshape_as view_as expand expand_as"
    ),
    sorting: "sort argsort msort topk kthvalue median",
    counting: "nonzero argwhere count_nonzero unique unique_consecutive bincount",
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


def public(module, name):
    """The function `name` of `module` as users call it."""
    function = getattr(module, name)
    says_itself = isinstance(function, autograd.Op) and not isinstance(function, autograd.Binary)
    return function if says_itself or isinstance(function, type) else answering(_method(function))


def _method(function):
    """A function for a class: an Op is an object, and as an attribute of a class would not bind `self`."""
    if not isinstance(function, autograd.Op):
        return function

    def method(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


def _operator(function):
    """The same for Python's signs, which give one or two operands: the shortest way to the op."""
    if not isinstance(function, autograd.Op):
        return function
    return (lambda a, b: function(a, b)) if function.arity == 2 else (lambda a: function(a))


for _module, _names in METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, _method(public(_module, _name)))
for _name, _function in OPERATORS.items():
    setattr(Tensor, _name, _operator(_function))
for _name, _function in PROPERTIES.items():
    setattr(Tensor, _name, property(_function))
