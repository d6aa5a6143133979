"""Writing into a tensor's own memory: x.add_(y), x.zero_(), x += y.

The graph does not record writes. So a tensor that a gradient is wanted for is written only inside `no_grad()` (as an
optimiser does), anywhere else GradientError says what to write instead; and a graph that saved what was overwritten
refuses to go backward. Views of one memory see each other's writes, as in PyTorch.

`x += y` writes x's memory where `x.add_(y)` may. Where x was computed by an op, or y wants a gradient, it gives the
name x to a new tensor x + y: the same numbers and gradients as PyTorch's; only another name for the old x keeps them.
"""

import operator

from .. import random
from ..autograd import action, is_grad_enabled
from ..device import device_of, to_device, xp
from ..errors import ArgumentError, DtypeError, GradientError, ShapeError, describe, expect
from ..tensor import Tensor, is_writable, repeats, value, wrote
from . import arithmetic, creation, elementary, rounding, scatter


def _check_writable(name, x, others=()):
    if not is_grad_enabled():
        return
    if x.requires_grad and x.node is None:
        raise GradientError(
            f"{name}: this leaf wants a gradient, which a write in place would falsify\n"
            f"  write with no_grad(): ... to change it (as an optimiser does), or compute a new tensor"
        )
    if x.requires_grad:
        raise GradientError(
            f"{name}: this tensor was made by {x.node.name}, and a gradient flows through it\n"
            f"  write {_elsewhere(name)}, or x.detach()"
        )
    if any([isinstance(y, Tensor) and y.requires_grad for y in others]):
        raise GradientError(
            f"{name}: a gradient is wanted for what is written, and a write in place would lose it\n"
            f"  write {_elsewhere(name)}, or y.detach()"
        )


def _elsewhere(name):
    function = name.rstrip("_")
    return f"x = x.{function}(...), which makes a new tensor" if hasattr(Tensor, function) else "to a new tensor"


def _write(name, x, new):
    """Write the array `new` over x's: the shape and the type of x stay."""
    array = x.data
    if new.shape != array.shape:
        raise ShapeError(f"{name}: a result of shape {new.shape} does not fit into x {describe(x)}")
    if new.dtype != array.dtype:
        raise DtypeError(f"{name}: a result of {new.dtype} does not fit into x {describe(x)}\n  write x = x.to(...)")
    if not is_writable(array):
        why = "shows one number at many places" if repeats(array) else "stands in memory that is read-only"
        raise ArgumentError(f"{name}: x {describe(x)} {why}\n  write x = x.clone() first")
    array[...] = new
    wrote(array)
    return x


def _in_place(function, name=None):
    """The method that writes what `function` computes over its first argument."""
    name = (name or function.__name__.strip("_")) + "_"

    def method(x, *args, **kwargs):
        _check_writable(name, x, [*args, *kwargs.values()])
        args = [value(y) for y in args]
        return _write(name, x, function(x.data, *args, **{key: value(y) for key, y in kwargs.items()}))

    method.__name__ = name
    method.__doc__ = f"`{name[:-1]}`, written over x. Raises GradientError where a gradient would be lost."
    return action(method)


add_, sub_, mul_, div_ = [_in_place(f) for f in (arithmetic.add, arithmetic.sub, arithmetic.mul, arithmetic.div)]
pow_, remainder_ = _in_place(arithmetic.pow), _in_place(rounding.remainder)
floor_divide_ = _in_place(rounding.floor_divide)
neg_, abs_, sign_ = _in_place(arithmetic.neg), _in_place(arithmetic.abs), _in_place(arithmetic.sign)
floor_, ceil_, trunc_ = _in_place(rounding.floor), _in_place(rounding.ceil), _in_place(rounding.trunc)
round_ = _in_place(rounding.round)
clamp_ = clip_ = _in_place(arithmetic.clamp)
lerp_, addcmul_, addcdiv_ = [_in_place(f) for f in (arithmetic.lerp, arithmetic.addcmul, arithmetic.addcdiv)]
nan_to_num_ = _in_place(arithmetic.nan_to_num)
exp_, log_, sqrt_, rsqrt_ = [_in_place(f) for f in (elementary.exp, elementary.log, elementary.sqrt, elementary.rsqrt)]
sin_, cos_, tanh_ = _in_place(elementary.sin), _in_place(elementary.cos), _in_place(elementary.tanh)
sigmoid_, square_ = _in_place(elementary.sigmoid), _in_place(elementary.square)
reciprocal_ = _in_place(elementary.reciprocal)
masked_fill_, scatter_ = _in_place(scatter.masked_fill), _in_place(scatter.scatter)
scatter_add_, index_add_ = _in_place(scatter.scatter_add), _in_place(scatter.index_add)
index_copy_, index_fill_ = _in_place(scatter.index_copy), _in_place(scatter.index_fill)


# Filling


@action
def copy_(x, source):
    """Write `source` over x, from any type and device; its shape broadcasts to x's."""
    _check_writable("copy_", x, [source])
    array = value(source)
    if not hasattr(array, "dtype"):
        array = xp(x.data).asarray(array)
    array = to_device(array, device_of(x.data)).astype(x.dtype, copy=False)
    try:
        array = xp(array).broadcast_to(array, x.shape)
    except ValueError:
        raise ShapeError(f"copy_: {describe(source)} does not broadcast to x {describe(x)}") from None
    return _write("copy_", x, array)


@action
def fill_(x, number):
    """Write one number everywhere."""
    expect(getattr(number, "ndim", 0) == 0, "fill_: takes one number\n  did you mean copy_?", number)
    _check_writable("fill_", x, [number])
    return _write("fill_", x, creation.full_like(x, number).data)


@action
def zero_(x):
    """Write 0 everywhere."""
    return fill_(x, 0)


@action
def uniform_(x, low=0.0, high=1.0, *, generator=None):
    """Draw every element anew, uniform on [low, high)."""
    _check_writable("uniform_", x)
    expect(low <= high, f"uniform_: from {low} to {high} is empty", error=ArgumentError)
    drawn = creation.rand_like(x, generator=generator).data
    return _write("uniform_", x, drawn * (high - low) + low)


@action
def normal_(x, mean=0.0, std=1.0, *, generator=None):
    """Draw every element anew, normal with the given mean and standard deviation."""
    _check_writable("normal_", x)
    expect(std >= 0, f"normal_: std={std} must not be negative", error=ArgumentError)
    return _write("normal_", x, creation.randn_like(x, generator=generator).data * std + mean)


@action
def bernoulli_(x, p=0.5, *, generator=None):
    """Draw every element anew: 1 with probability p (a number, or a tensor in x's shape), else 0."""
    _check_writable("bernoulli_", x, [p])
    p = value(p) if hasattr(p, "dtype") else creation.full(x.shape, float(p), device=x.device).data
    return _write("bernoulli_", x, creation.bernoulli(p, generator=generator).data.astype(x.dtype, copy=False))


@action
def exponential_(x, lambd=1.0, *, generator=None):
    """Draw every element anew, exponential with rate `lambd`."""
    _check_writable("exponential_", x)
    expect(lambd > 0, f"exponential_: lambd={lambd} must be positive", error=ArgumentError)
    drawn = (random.default_generator if generator is None else generator).exponential(x.shape, device=x.device)
    return _write("exponential_", x, (drawn / lambd).astype(x.dtype, copy=False))


@action
def random_(x, low=0, high=None, *, generator=None):
    """Draw every element anew, integers from low to high - 1: `random_(high)` or `random_(low, high)`."""
    _check_writable("random_", x)
    return _write("random_", x, creation.randint_like(x, low, high, generator=generator).data)


# x += y


def _augmented(sign, write):
    def method(x, y):
        recorded = is_grad_enabled() and (x.node is not None or (isinstance(y, Tensor) and y.requires_grad))
        if recorded and not (x.requires_grad and x.node is None):
            return sign(x, y)
        return write(x, y)

    method.__name__ = write.__name__
    return method


iadd, isub = _augmented(operator.add, add_), _augmented(operator.sub, sub_)
imul, itruediv = _augmented(operator.mul, mul_), _augmented(operator.truediv, div_)
ipow = _augmented(operator.pow, pow_)
