"""The one list that closes the loop between Tensor and ops: which functions are methods, and which are operators.

`PUBLIC` names the functions of each file that stand at the top level (`minigen.exp`); `METHODS` those that a tensor
also has (`x.exp()`), `OPERATORS` those behind Python's signs (`x + y`). Nothing else adds to Tensor.
"""

from .. import autograd
from ..errors import answering
from ..tensor import Tensor
from . import (
    activations,
    arithmetic,
    casting,
    comparison,
    counting,
    creation,
    einsum,
    elementary,
    extremes,
    indexing,
    inplace,
    joining,
    lengths,
    linalg,
    normalization,
    picking,
    rearranging,
    reduction,
    rounding,
    scans,
    scatter,
    shape,
    softmax,
    sorting,
    special,
)

PUBLIC = {
    arithmetic: (
        "abs absolute add addcdiv addcmul clamp clip copysign div divide hypot lerp maximum minimum mul "
        "multiply nan_to_num neg negative pow rsub sign sub subtract true_divide where"
    ),
    rounding: "ceil floor floor_divide fmod frac heaviside remainder round trunc",
    elementary: (
        "acos acosh asin asinh atan atan2 atanh cos cosh exp exp2 expm1 log log1p log2 log10 reciprocal rsqrt "
        "sigmoid sin sinh sqrt square tan tanh"
    ),
    comparison: (
        "allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge gt isclose isfinite isinf isnan "
        "le logical_and logical_not logical_or logical_xor lt ne signbit"
    ),
    special: "erf erfc logaddexp logit xlogy",
    activations: "relu",
    softmax: "softmax log_softmax",
    normalization: "cosine_similarity pairwise_distance",
    scans: "cummax cummin cumprod cumsum logcumsumexp",
    creation: (
        "arange bernoulli empty empty_like eye full full_like linspace logspace multinomial normal ones "
        "ones_like rand rand_like randint randint_like randn randn_like randperm zeros zeros_like"
    ),
    casting: "clone",
    indexing: "",
    joining: "cat concat concatenate stack split chunk tensor_split unbind",
    reduction: "all any logsumexp mean nanmean nansum prod std std_mean sum var var_mean",
    extremes: "amax amin aminmax argmax argmin max min",
    lengths: "norm",
    picking: "gather take_along_dim take index_select masked_select",
    scatter: (
        "masked_fill masked_scatter scatter scatter_add scatter_reduce index_add index_copy index_fill index_put"
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
    linalg: ("matmul mm bmm mv dot vdot inner outer ger addmm addmv addr baddbmm addbmm kron trace cross tensordot"),
    einsum: "einsum",
    counting: ("nonzero argwhere count_nonzero unique unique_consecutive bincount one_hot searchsorted bucketize"),
}

METHODS = {
    arithmetic: (
        "abs absolute add addcdiv addcmul clamp clip copysign div divide hypot lerp maximum minimum mul "
        "multiply nan_to_num neg negative pow sign sub subtract true_divide"
    ),
    rounding: "ceil floor floor_divide fmod frac heaviside remainder round trunc",
    elementary: (
        "acos acosh asin asinh atan atan2 atanh cos cosh exp exp2 expm1 log log1p log2 log10 reciprocal rsqrt "
        "sigmoid sin sinh sqrt square tan tanh"
    ),
    comparison: (
        "allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge gt isclose isfinite isinf isnan "
        "le logical_and logical_not logical_or logical_xor lt ne signbit"
    ),
    special: "erf erfc logaddexp logit xlogy",
    activations: "relu",
    softmax: "softmax log_softmax",
    scans: "cummax cummin cumprod cumsum logcumsumexp",
    casting: "bool byte char clone contiguous cpu cuda double float half int long short to type_as",
    indexing: "",
    inplace: (
        "abs_ add_ addcdiv_ addcmul_ bernoulli_ ceil_ clamp_ clip_ copy_ cos_ div_ exp_ exponential_ fill_ "
        "floor_ floor_divide_ index_add_ index_copy_ index_fill_ lerp_ log_ masked_fill_ mul_ nan_to_num_ "
        "neg_ normal_ pow_ random_ reciprocal_ remainder_ round_ rsqrt_ scatter_ scatter_add_ sigmoid_ sign_ "
        "sin_ sqrt_ square_ sub_ tanh_ trunc_ uniform_ zero_"
    ),
    joining: "split chunk tensor_split unbind",
    reduction: "all any logsumexp mean nanmean nansum prod std std_mean sum var var_mean",
    extremes: "amax amin aminmax argmax argmin max min",
    lengths: "norm",
    autograd: "backward register_hook retain_grad",
    picking: "gather take_along_dim take index_select masked_select",
    scatter: (
        "masked_fill masked_scatter scatter scatter_add scatter_reduce index_add index_copy index_fill index_put"
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
    linalg: "matmul mm bmm mv dot vdot inner outer ger addmm addmv addr baddbmm addbmm kron trace cross",
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
    "__floordiv__": rounding.floor_divide,
    "__rfloordiv__": lambda a, b: rounding.floor_divide(b, a),
    "__mod__": rounding.remainder,
    "__rmod__": lambda a, b: rounding.remainder(b, a),
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
    "__eq__": comparison.equals,
    "__ne__": comparison.differs,
    "__lt__": comparison.lt,
    "__le__": comparison.le,
    "__gt__": comparison.gt,
    "__ge__": comparison.ge,
    "__iadd__": inplace.iadd,
    "__isub__": inplace.isub,
    "__imul__": inplace.imul,
    "__itruediv__": inplace.itruediv,
    "__ipow__": inplace.ipow,
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
    "__matmul__": linalg.matmul,
    "__rmatmul__": linalg.rmatmul,
}

PROPERTIES = {"T": shape.T, "mT": shape.mT, "mH": shape.mT}


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
