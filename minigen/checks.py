"""`minigen check`: the gradient of every public function, compared with differences of the function itself.

    function             gradient   second    kernel
    gelu                  1.2e-10   3.4e-10   2.1e-07   ok

gradient   |ours - (f(x + h d) - f(x - h d)) / 2h| / max(1, ...), in float64, along random directions d
second     the same for the gradient itself, which is what a gradient penalty differentiates
kernel     for functions with a kernel: how far float32 on kernels is from float64 on the definitions, values and
           gradients, relative to the largest

A gradient is right at 1e-7: differences with h = 1e-6 are themselves good to about 1e-9. A wrong one shows 1e-3.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from . import autograd, kernels
from .errors import MinigenError
from .faults.examples import calls
from .gradcheck import gradient_function, worst_error
from .random import manual_seed
from .tensor import Tensor

RIGHT = 1e-7
KERNEL_RIGHT = 2e-5


@dataclass
class Checked:
    """What was found for one function; None where a column does not apply."""

    name: str
    gradient: float | None = None
    second: float | None = None
    kernel: float | None = None
    fault: str | None = None

    @property
    def ok(self):
        errors = [(self.gradient, RIGHT), (self.second, RIGHT), (self.kernel, KERNEL_RIGHT)]
        return self.fault is None and all(error is None or error <= right for error, right in errors)


def check_all(only=None):
    """Check every public function, or those with `only` in their name: a `Checked` for each that has a gradient."""
    found, _ = calls()
    for name, call in sorted(found.items()):
        if only is None or only in name:
            checked = check(name, call)
            if checked is not None:
                yield checked


def check(name, call):
    """Check one example call. None if its result has no gradient."""
    leaves = [x for x in _tensors((call.args, call.kwargs)) if x.requires_grad]
    function, inputs = _of_its_tensors(call, np.float64)
    checked = Checked(name)
    try:
        if not leaves or not _differentiable(function(*inputs)):
            return None
        checked.gradient = worst_error(function, inputs)
        gradient, arguments = gradient_function(function, inputs)
        if _differentiable(gradient(*arguments)):
            checked.second = worst_error(gradient, arguments)
        checked.kernel = _kernel_error(call, function, inputs)
    except MinigenError as fault:
        checked.fault = str(fault).split("\n")[0]
    return checked


def _kernel_error(call, exact, inputs):
    """The largest relative difference between float32 on kernels and float64 on definitions."""
    function, rounded = _of_its_tensors(call, np.float32)
    ours, truth = _values_and_gradients(function, rounded), _values_and_gradients(exact, inputs)
    with kernels.disabled():
        plain = _values_and_gradients(function, rounded)
    if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, plain)):
        return None  # no kernel took part
    scale = lambda b: max(1.0, float(np.abs(b).max(initial=0.0)))
    return max(float(np.abs(a - b).max(initial=0.0)) / scale(b) for a, b in zip(ours, truth))


def _values_and_gradients(function, inputs):
    outputs = [y for y in _tensors(function(*inputs)) if y.requires_grad]
    random = np.random.default_rng(0)
    gs = [Tensor(random.standard_normal(y.shape).astype(y.dtype)) for y in outputs]
    leaves = [x for x in inputs if x.requires_grad]
    gradients = autograd.grad(outputs, leaves, gs, allow_unused=True, materialize_grads=True)
    return [y.detach().data.astype(np.float64) for y in [*outputs, *gradients]]


def _of_its_tensors(call, dtype):
    """(function, inputs): the call as a function of its floating-point tensors, in `dtype`; always the same noise."""
    places = []

    def take(x):
        if isinstance(x, Tensor) and x.is_floating_point():
            places.append(Tensor(x.data.astype(dtype), requires_grad=x.requires_grad))
            return _Place(len(places) - 1)
        return x

    args, kwargs = _mapped(take, call.args), _mapped(take, call.kwargs)

    def function(*tensors):
        manual_seed(0)
        if hasattr(call.function, "parameters"):
            call.function.to(dtype)
        put = lambda x: tensors[x.index] if isinstance(x, _Place) else x
        result = call.function(*_mapped(put, args), **_mapped(put, kwargs))
        return [y for y in _tensors(result) if y.requires_grad] or result

    return function, places


@dataclass
class _Place:
    index: int


def _mapped(function, structure):
    if isinstance(structure, dict):
        return {key: _mapped(function, x) for key, x in structure.items()}
    if isinstance(structure, (list, tuple)) and not hasattr(structure, "_fields"):
        return type(structure)(_mapped(function, x) for x in structure)
    return function(structure)


def _tensors(structure):
    if isinstance(structure, Tensor):
        return [structure]
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, (list, tuple)):
        return [x for part in structure for x in _tensors(part)]
    return []


def _differentiable(result):
    return any(y.requires_grad for y in _tensors(result))


def main(argv=None):
    """The command line of `minigen check`. Returns 0 if every gradient is right, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="minigen check", description="Compare every gradient with differences.")
    parser.add_argument("--only", help="only functions with this in their name")
    options = parser.parse_args(argv)
    print(f"{'function':42s} {'gradient':>9s} {'second':>9s} {'kernel':>9s}")
    shown = lambda error: f"{error:9.1e}" if error is not None else f"{'-':>9s}"
    count = wrong = 0
    for row in check_all(options.only):
        count, wrong = count + 1, wrong + (not row.ok)
        verdict = "ok" if row.ok else f"WRONG  {row.fault or ''}".rstrip()
        print(f"{row.name:42s} {shown(row.gradient)} {shown(row.second)} {shown(row.kernel)}   {verdict}", flush=True)
    print(f"{count - wrong} of {count} functions have the right gradient (right: {RIGHT:g}; kernels {KERNEL_RIGHT:g})")
    return 1 if wrong else 0
