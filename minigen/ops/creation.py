"""New tensors: filled with one number, counting up, or drawn at random.

Each takes `dtype` (float32 unless said otherwise), `device` ("cpu" or "cuda") and `requires_grad`. What is random also
takes `generator`, and otherwise draws from `minigen.random.default_generator`, which `manual_seed` starts afresh.
"""

import math

import numpy as np

from .. import random
from ..autograd import action
from ..device import FLOATS, device_of, is_array, to_device, xp
from ..errors import ArgumentError, DtypeError, ShapeError, describe, expect
from ..tensor import Tensor, bool_, float32, int64, new_library, value
from .shape import sizes


def _shape(name, given, size):
    """A shape written as `2, 3`, as `(2, 3)` or as `size=(2, 3)`."""
    expect(not (given and size is not None), f"{name}: give the shape once", error=ArgumentError)
    shape = sizes(name, given if size is None else (size,))
    expect(all([n >= 0 for n in shape]), f"{name}: a size is at least 0, got {shape}")
    return shape


def _floats(name, dtype):
    """The type of random numbers: float32, or the floating type that was asked for."""
    dtype = float32 if dtype is None else np.dtype(dtype)
    expect(dtype.kind in FLOATS, f"{name}: random numbers of {dtype} are not floats\n  write randint", error=DtypeError)
    return dtype


def _source(generator):
    return random.default_generator if generator is None else generator


# Filled with one number


@action
def full(size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """A tensor of shape `size` with `fill_value` everywhere, in the type of that number unless `dtype` is given."""
    fill_value = fill_value.item() if hasattr(fill_value, "dtype") else fill_value
    if dtype is None:
        dtype = bool_ if isinstance(fill_value, bool) else int64 if isinstance(fill_value, int) else float32
    return Tensor(new_library(device).full(_shape("full", (size,), None), fill_value, dtype), requires_grad)


@action
def zeros(*shape, size=None, dtype=None, device=None, requires_grad=False):
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return Tensor(new_library(device).zeros(_shape("zeros", shape, size), dtype or float32), requires_grad)


@action
def ones(*shape, size=None, dtype=None, device=None, requires_grad=False):
    """Ones: `ones(2, 3)` or `ones((2, 3))`."""
    return Tensor(new_library(device).ones(_shape("ones", shape, size), dtype or float32), requires_grad)


@action
def empty(*shape, size=None, dtype=None, device=None, requires_grad=False):
    """Memory as it was found: whatever numbers, until they are written."""
    return Tensor(new_library(device).empty(_shape("empty", shape, size), dtype or float32), requires_grad)


@action
def eye(n, m=None, *, dtype=None, device=None, requires_grad=False):
    """The identity matrix (n, n), or its first columns or rows (n, m)."""
    rows, columns = _shape("eye", (n, n if m is None else m), None)
    return Tensor(new_library(device).eye(rows, columns, dtype=dtype or float32), requires_grad)


# In the shape, the type, the memory order and on the device of another


def _of_tensor(name, x):
    array = value(x)
    expect(is_array(array), f"{name}: takes a tensor", x, error=DtypeError, hint="write minigen.tensor(...)")
    return array


def _filled_like(name, x, dtype, device, requires_grad, *number):
    array = _of_tensor(name, x)
    y = getattr(xp(array), name)(array, *number, dtype=dtype)
    return Tensor(y if device is None else to_device(y, device), requires_grad)


@action
def full_like(x, fill_value, *, dtype=None, device=None, requires_grad=False):
    """`fill_value` everywhere, in the shape and type of x."""
    fill_value = fill_value.item() if hasattr(fill_value, "dtype") else fill_value
    return _filled_like("full_like", x, dtype, device, requires_grad, fill_value)


@action
def zeros_like(x, *, dtype=None, device=None, requires_grad=False):
    """Zeros, in the shape and type of x."""
    return _filled_like("zeros_like", x, dtype, device, requires_grad)


@action
def ones_like(x, *, dtype=None, device=None, requires_grad=False):
    """Ones, in the shape and type of x."""
    return _filled_like("ones_like", x, dtype, device, requires_grad)


@action
def empty_like(x, *, dtype=None, device=None, requires_grad=False):
    """Memory as it was found, in the shape and type of x."""
    return _filled_like("empty_like", x, dtype, device, requires_grad)


def _like(x, dtype, device):
    """(shape, dtype, device) for random numbers like x."""
    array = _of_tensor("like", x)
    return array.shape, dtype or array.dtype, device or device_of(array)


@action
def rand_like(x, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform on [0, 1), in the shape and type of x."""
    shape, dtype, device = _like(x, dtype, device)
    return rand(shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


@action
def randn_like(x, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Standard normal, in the shape and type of x."""
    shape, dtype, device = _like(x, dtype, device)
    return randn(shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


@action
def randint_like(x, low, high=None, *, generator=None, dtype=None, device=None):
    """Integers from low (0 if only one bound is given) to high - 1, in the shape and type of x."""
    shape, dtype, device = _like(x, dtype, device)
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, shape, generator=generator, dtype=dtype, device=device)


# Counting


@action
def arange(start, end=None, step=1, *, dtype=None, device=None, requires_grad=False):
    """start, start + step, start + 2 step, ... as long as it is before `end`; `arange(n)` is 0 ... n - 1.

    int64 if all three are integers, float32 otherwise. Raises ArgumentError where no number of steps leads to `end`.
    """
    if end is None:
        start, end = 0, start
    start, end, step = [n.item() if hasattr(n, "dtype") else n for n in (start, end, step)]
    expect(step != 0, "arange: step must not be 0", error=ArgumentError)
    expect(
        (end - start) / step >= 0, f"arange: from {start} in steps of {step} never gets to {end}", error=ArgumentError
    )
    if dtype is None:
        dtype = int64 if all([isinstance(n, int) for n in (start, end, step)]) else float32
    n = math.ceil((end - start) / step)
    exact = int64 if np.dtype(dtype).kind in "iu" else np.float64  # start + i step, rounded once
    array = new_library(device).arange(n, dtype=exact) * step + start
    return Tensor(array.astype(dtype, copy=False), requires_grad)


@action
def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False):
    """`steps` numbers at equal distances from `start` to `end`, both included."""
    start, end = [n.item() if hasattr(n, "dtype") else n for n in (start, end)]
    expect(steps >= 0, f"linspace: steps={steps} must not be negative", error=ArgumentError)
    array = new_library(device).linspace(start, end, steps).astype(dtype or float32, copy=False)
    return Tensor(array, requires_grad)


@action
def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False):
    """`steps` numbers at equal ratios from base**start to base**end, both included."""
    exponents = linspace(start, end, steps, dtype=np.float64, device=device).data
    return Tensor((base**exponents).astype(dtype or float32, copy=False), requires_grad)


# Drawn at random


@action
def rand(*shape, size=None, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform on [0, 1)."""
    dtype, shape = _floats("rand", dtype), _shape("rand", shape, size)
    return Tensor(_source(generator).uniform(shape, dtype=dtype, device=device or "cpu"), requires_grad)


@action
def randn(*shape, size=None, generator=None, dtype=None, device=None, requires_grad=False):
    """Standard normal: mean 0, variance 1."""
    dtype, shape = _floats("randn", dtype), _shape("randn", shape, size)
    return Tensor(_source(generator).normal(shape, dtype=dtype, device=device or "cpu"), requires_grad)


@action
def randint(low, high=None, size=None, *, generator=None, dtype=None, device=None):
    """Integers from low to high - 1, each as likely: `randint(low, high, size)`, or `randint(high, size)` from 0."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    expect(size is not None, "randint: give the shape: randint(low, high, (2, 3))", error=ArgumentError)
    expect(low < high, f"randint: there is no integer from {low} to {high} - 1", error=ArgumentError)
    shape = _shape("randint", (size,), None)
    array = _source(generator).integers(low, high, shape, device=device or "cpu")
    return Tensor(array.astype(dtype or int64, copy=False))


@action
def randperm(n, *, generator=None, dtype=None, device=None):
    """The integers 0 ... n - 1 in random order."""
    expect(n >= 0, f"randperm: n={n} must not be negative", error=ArgumentError)
    array = _source(generator).permutation(n, device=device or "cpu")
    return Tensor(array.astype(dtype or int64, copy=False))


@action
def bernoulli(p, *, generator=None):
    """1 with probability p, else 0, in the shape and type of the tensor p."""
    array = value(p)
    expect(array.dtype.kind in FLOATS, "bernoulli: probabilities are floats", p, error=DtypeError)
    drawn = _source(generator).bernoulli(array, device=device_of(array))
    return Tensor(drawn.astype(array.dtype))


@action
def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, device=None):
    """Normal with the given mean and standard deviation: tensors that broadcast, or numbers and a `size`."""
    arrays = [value(x) for x in (mean, std) if hasattr(x, "dtype")]
    if not arrays:
        expect(size is not None, "normal: give the shape: normal(0.0, 1.0, (2, 3))", error=ArgumentError)
        expect(std >= 0, f"normal: std={std} must not be negative", error=ArgumentError)
        return randn(size, generator=generator, dtype=dtype, device=device) * std + mean
    expect(size is None, "normal: the tensors give the shape; leave size out", error=ArgumentError)
    try:
        shape = np.broadcast_shapes(*[x.shape for x in arrays])
    except ValueError:
        raise ShapeError(f"normal: mean {describe(mean)} and std {describe(std)} do not broadcast") from None
    noise = randn(shape, generator=generator, dtype=arrays[0].dtype, device=device_of(arrays[0]))
    return Tensor(noise.data * value(std) + value(mean))


@action
def multinomial(weights, num_samples, replacement=False, *, generator=None):
    """Indices drawn with probability proportional to `weights`, (n,) or (rows, n) -> (..., num_samples), int64.

    Without replacement no index comes twice in a row: the `num_samples` largest of weight^(1/u), u uniform, which is
    drawing one after the other (Efraimidis & Spirakis 2006). Raises ArgumentError for negative or all-zero weights.
    """
    w = value(weights)
    lib = xp(w)
    expect(w.ndim in (1, 2), "multinomial: weights is (n,) or (rows, n)", weights)
    rule = "multinomial: weights are floats\n  write weights.float()"
    expect(w.dtype.kind in FLOATS, rule, weights, error=DtypeError)
    expect(num_samples > 0, f"multinomial: num_samples={num_samples} must be positive", error=ArgumentError)
    if xp(w) is np:
        good = np.isfinite(w).all() and (w >= 0).all() and (w.sum(-1) > 0).all()
        expect(good, "multinomial: weights must be finite, not negative, and not all 0", w, error=ArgumentError)
        rule = f"multinomial: {num_samples} different indices need as many positive weights\n  or replacement=True"
        expect(replacement or (w > 0).sum(-1).min() >= num_samples, rule, w, error=ArgumentError)
    if replacement:
        return Tensor(_source(generator).categorical(w, (num_samples,)).T)
    u = _source(generator).uniform(w.shape, dtype=np.float64, device=device_of(w))
    return Tensor(lib.argsort(-lib.log(u) / w, axis=-1)[..., :num_samples].astype(int64, copy=False))
