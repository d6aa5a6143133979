"""Is the gradient right? Compare it with differences of the function itself.

    gradcheck(function, inputs)        the gradient, against (f(x + h d) - f(x - h d)) / 2h
    gradgradcheck(function, inputs)    the gradient of the gradient, the same way

Both raise GradientError with the worst place, or return True. `fast_mode=True` compares along a few random
directions d instead of along every axis: two evaluations a direction, whatever the size. A wrong gradient passes
a random direction with probability zero.

The error reported is |ours - difference| / max(1, |ours|, |difference|). In float64 with h = 1e-6 the difference
itself is good to about 1e-9: an error of 1e-7 is a right gradient, one of 1e-3 is a bug.
"""

import numpy as np

from . import autograd
from .errors import ArgumentError, DtypeError, GradientError
from .tensor import Tensor

STEP = 1e-6


def gradcheck(function, inputs, eps=STEP, atol=1e-5, rtol=1e-3, fast_mode=False, raise_exception=True, seed=0):
    """Check `function(*inputs)`'s gradient with respect to every input that requires one.

    inputs     a tensor or a sequence of arguments; tensors that require a gradient are checked, in float64
    eps        the step h
    atol, rtol the gradient may differ by atol + rtol * |difference|
    fast_mode  random directions instead of every axis

    Raises GradientError where it differs (or returns False if `raise_exception` is False).
    """
    inputs = _arguments("gradcheck", inputs)
    ours, differences, names = _compare(function, inputs, eps, fast_mode, seed)
    return _judge("gradcheck", ours, differences, names, atol, rtol, raise_exception)


def gradgradcheck(function, inputs, grad_outputs=None, eps=STEP, atol=1e-5, rtol=1e-3, fast_mode=False,
                  raise_exception=True, seed=0):  # fmt: skip
    """Check the second derivative of `function(*inputs)`: that its gradient, too, has the right gradient."""
    inputs = _arguments("gradgradcheck", inputs)
    gradient, checked = gradient_function(function, inputs, grad_outputs, seed)
    ours, differences, names = _compare(gradient, checked, eps, fast_mode, seed)
    return _judge("gradgradcheck", ours, differences, names, atol, rtol, raise_exception)


def worst_error(function, inputs, eps=STEP, fast_mode=True, seed=0):
    """The largest |ours - difference| / max(1, |ours|, |difference|), for a table of checks."""
    ours, differences, _ = _compare(function, _arguments("gradcheck", inputs), eps, fast_mode, seed)
    return max((float(_relative(a, b).max()) for a, b in zip(ours, differences) if a.size), default=0.0)


def gradient_function(function, inputs, grad_outputs=None, seed=0):
    """The function (inputs, output gradients) -> gradients of the inputs, and its arguments, for checking twice."""
    inputs = _arguments("gradgradcheck", inputs)
    outputs = _outputs(function(*inputs))
    if grad_outputs is None:
        random = np.random.default_rng(seed)
        grad_outputs = [Tensor(_like(random.standard_normal(y.shape), y), requires_grad=True) for y in outputs]
    wanted = [i for i, x in enumerate(inputs) if _is_checked(x)]

    def gradient(*arguments):
        xs, gs = arguments[: len(inputs)], arguments[len(inputs) :]
        ys = _outputs(function(*xs))
        found = autograd.grad(ys, [xs[i] for i in wanted], gs, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None and g.requires_grad)

    return gradient, [*inputs, *grad_outputs]


def _compare(function, inputs, eps, fast_mode, seed):
    """Our directional derivatives and the differences, an array for each (output, input), and their names."""
    outputs = _outputs(function(*inputs))
    wanted = [i for i, x in enumerate(inputs) if _is_checked(x)]
    if not wanted:
        raise GradientError("gradcheck: no input requires a gradient\n  write requires_grad=True on one")
    for i in wanted:
        if inputs[i].dtype != np.float64:
            raise DtypeError(
                f"gradcheck: input {i} is {inputs[i].dtype}: differences of float32 lose all their digits\n"
                f"  write x.double()"
            )
    random = np.random.default_rng(seed)
    ours, differences, names = [], [], []
    for o, y in enumerate(outputs):
        weights = [random.standard_normal(y.shape)] if fast_mode else _basis(y.shape)
        gradients = []
        for w in weights:  # rows of the Jacobian, or one random mixture of them
            g = Tensor(_like(w, y))
            gradients.append(autograd.grad(y, [inputs[i] for i in wanted], g, retain_graph=True, allow_unused=True))
        for place, i in enumerate(wanted):
            x = inputs[i]
            directions = [random.standard_normal(x.shape) for _ in range(2)] if fast_mode else _basis(x.shape)
            mine = np.zeros((len(weights), len(directions)))
            theirs = np.zeros_like(mine)
            for column, d in enumerate(directions):
                moved = _difference(function, inputs, i, o, d, eps)
                for row, w in enumerate(weights):
                    g = gradients[row][place]
                    mine[row, column] = 0.0 if g is None else (_numpy(g) * d).sum()
                    theirs[row, column] = (moved * w).sum()
            ours.append(mine)
            differences.append(theirs)
            names.append(f"output {o}, input {i} of shape {x.shape}")
    return ours, differences, names


def _difference(function, inputs, i, o, direction, eps):
    """(f(x + h d) - f(x - h d)) / 2h for output `o`, moving input `i`."""
    values = []
    for sign in (1, -1):
        moved = list(inputs)
        x = inputs[i]
        moved[i] = Tensor(_like(_numpy(x) + sign * eps * direction, x), requires_grad=True)
        values.append(_numpy(_outputs(function(*moved))[o]).astype(np.float64))
    return (values[0] - values[1]) / (2 * eps)


def _judge(name, ours, differences, places, atol, rtol, raise_exception):
    for a, b, place in zip(ours, differences, places):
        wrong = ~(np.abs(a - b) <= atol + rtol * np.abs(b))
        if wrong.any():
            if not raise_exception:
                return False
            errors = np.where(wrong, np.nan_to_num(_relative(a, b), nan=np.inf), -1)
            row, column = np.unravel_index(errors.argmax(), errors.shape)
            raise GradientError(
                f"{name}: {place}: {int(wrong.sum())} of {a.size} derivatives are wrong\n"
                f"  worst: ours {a[row, column]:.8g}, difference {b[row, column]:.8g} (entry {row}, direction {column})"
            )
    return True


def _relative(a, b):
    return np.abs(a - b) / np.maximum(1, np.maximum(np.abs(a), np.abs(b)))


def _basis(shape):
    size = int(np.prod(shape))
    return [row.reshape(shape) for row in np.eye(size)]


def _arguments(name, inputs):
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not inputs:
        raise ArgumentError(f"{name}: give at least one input")
    return inputs


def _outputs(result):
    found = [result] if isinstance(result, Tensor) else list(result)
    return [y for y in found if isinstance(y, Tensor) and y.requires_grad]


def _is_checked(x):
    return isinstance(x, Tensor) and x.requires_grad


def _numpy(tensor):
    return tensor.detach().cpu().numpy() if tensor.device != "cpu" else tensor.data


def _like(array, tensor):
    """`array` (NumPy) on the device and in the type of `tensor`."""
    from .device import to_device

    return to_device(np.asarray(array, dtype=tensor.dtype), tensor.device)
