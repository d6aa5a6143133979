"""Reverse-mode automatic differentiation: ops, the graph they record, and the walk back through it.

An op called on arrays computes; called on tensors it also records a node. Its gradient rule stands beside it, is
written once, and runs on either:

    @op
    def exp(x):
        return xp(x).exp(x)

    exp.gradient(x=lambda g, y: g * y)

    @op
    def mul(a, b):
        return a * b

    mul.gradient(a=lambda g, b: g * b, b=lambda g, a: g * a)

A rule's parameter names say what it needs, and so what the node keeps until then:

    g              the gradient of the output (always first)
    y              the output
    x, dim, ...    an argument of the op, by its name
    x_shape        only the shape of an argument
    mean, ...      what the forward returned beside y, named in @op(saves=("mean", ...))
    needs          which arguments' gradients are wanted, a tuple of bools
    into           memory to write these gradients to and return, instead of new arrays: for arguments that are
                   parameters whose optimiser has a place for them; None for the others. A rule may ignore it.
                   Of a parameter that autocast has narrowed to 16 bits it is float32, as the parameter itself

Rules come one for each argument, as above, or one for all (`@layer_norm.gradient`), which returns a tuple in the
order of the arguments. In an ordinary backward pass a rule gets arrays, so nothing is recorded. Under
`create_graph=True` it gets tensors, so what it computes can itself be differentiated.

A fused op (one kernel call where mathematics would take many ops) has a `definition` beside it. The engine runs it
when the forward answers NotImplemented (no kernel for this array), and differentiates it for second derivatives.
"""

from ..device import xp
from ..errors import ArgumentError, DeviceError, DtypeError, GradientError, ShapeError
from ..tensor import Tensor, value, wrap
from . import modes
from .graph import Node
from .hooks import HookHandle, register_hook, retain_grad
from .modes import detect_anomaly, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .op import Binary, Op, op
from .promotion import check_dim, promote
from .recompute import checkpoint
from .tape import action
from .walk import Walk, accumulate, sum_to

__all__ = [
    "Binary",
    "HookHandle",
    "Node",
    "Op",
    "Walk",
    "accumulate",
    "action",
    "backward",
    "check_dim",
    "checkpoint",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "op",
    "promote",
    "register_hook",
    "retain_grad",
    "set_grad_enabled",
    "sum_to",
    "value",
]


def backward(tensor, gradient=None, retain_graph=False, create_graph=False):
    """Add d(tensor)/d(leaf) to `leaf.grad` for every leaf that requires it. See `Tensor.backward`."""
    Walk(None, create_graph, retain_graph).run([(tensor, _root_gradient(tensor, gradient, "backward", create_graph))])


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph=False,
    allow_unused=False,
    materialize_grads=False,
):
    """The gradients of the sum of `outputs` with respect to `inputs`, as a tuple of tensors; `.grad` is not touched.

    grad_outputs  the gradient of each output, where it is not one number
    create_graph  let the result be differentiated again
    retain_graph  keep the graph for another walk; the default is `create_graph`
    allow_unused  None for an input that the outputs do not depend on, where otherwise GradientError is raised
    materialize_grads  zeros for such an input
    """
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    given = (grad_outputs,) if grad_outputs is None or isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    if len(given) != len(outputs) and grad_outputs is not None:
        raise ArgumentError(f"grad: {len(outputs)} outputs but {len(given)} grad_outputs: there must be one for each")
    given = given * len(outputs) if grad_outputs is None else given
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.requires_grad:
            raise GradientError(
                f"grad: input {i} does not require a gradient\n  write x.requires_grad_() before using it"
            )
    walk = Walk(inputs, create_graph, create_graph if retain_graph is None else retain_graph)
    walk.run([(y, _root_gradient(y, g, "grad", create_graph)) for y, g in zip(outputs, given)])
    results = []
    for i, (x, g) in enumerate(zip(inputs, walk.results)):
        if g is None and materialize_grads:
            g = xp(x.data).zeros_like(x.data)
        elif g is None and not allow_unused:
            raise GradientError(
                f"grad: the outputs do not depend on input {i}, of shape {x.shape}\n"
                f"  write allow_unused=True to get None for it"
            )
        results.append(g if g is None or isinstance(g, Tensor) else wrap(g))
    return tuple(results)


def _root_gradient(tensor, gradient, name, create_graph=False):
    if not isinstance(tensor, Tensor):
        raise DtypeError(f"{name}: got {type(tensor).__name__}, not a tensor")
    if not tensor.requires_grad:
        raise GradientError(
            f"{name}: this tensor does not depend on anything that requires a gradient\n"
            f"  write requires_grad=True on a leaf, and compute outside no_grad()"
        )
    if gradient is None:
        if tensor.data.size != 1:
            raise GradientError(
                f"{name}: a gradient starts from one number, this tensor has shape {tensor.shape}\n"
                f"  write x.sum().backward() or x.mean().backward(), or give the gradient: x.backward(g)"
            )
        g = _ones_like(tensor.data)
        return wrap(g) if create_graph else g
    g = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
    if g.shape != tensor.shape:
        raise ShapeError(
            f"{name}: the gradient given has shape {g.shape}, the tensor {tensor.shape}\n  they must be equal"
        )
    if g.device != tensor.device:
        raise DeviceError(
            f"{name}: the gradient given is on {g.device}, the tensor on {tensor.device}\n"
            f'  write g.to("{tensor.device}")'
        )
    if g.dtype != tensor.dtype:  # a rule, and its kernel, counts on the type of its output
        g = g.to(tensor.dtype)
    return g if create_graph else g.data


def _ones_like(array):
    if modes.tape_here() is not None:
        return modes.tape.perform(_ones_like, array)
    return xp(array).ones_like(array)


def __getattr__(name):
    if name in ("gradcheck", "gradgradcheck"):  # they stand in gradcheck.py, which is built on this file
        from .. import gradcheck

        return getattr(gradcheck, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
