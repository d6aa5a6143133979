"""Hooks: functions that a module calls around its forward and backward pass.

    handle = layer.register_forward_hook(lambda module, args, output: print(output.shape))
    ...
    handle.remove()

A forward hook sees and may replace the arguments or the output. A backward hook sees and may replace the gradients of
the outputs, or of the inputs. For that the tensors pass through an op that is the identity, and whose gradient rule
calls the hook: `_passing` below is all there is to it.
"""

import functools
import inspect

from ..autograd import is_grad_enabled, op
from ..tensor import Tensor, value, wrap

KINDS = ("before", "after", "backward_before", "backward")


class Handle:
    """Takes a hook away: `handle.remove()`."""

    def __init__(self, module, kind, entry):
        self.module, self.kind, self.entry = module, kind, entry

    def remove(self):
        entries = self.module._hooks
        if entries is not None and self.entry in entries[self.kind]:
            entries[self.kind].remove(self.entry)
            if not any(entries.values()):
                self.module._hooks = None  # its calls go straight to forward again

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


def register(module, kind, hook, prepend=False, with_kwargs=False):
    """Add a hook of one of KINDS to `module`. Returns a Handle."""
    if module._hooks is None:
        module._hooks = {kind: [] for kind in KINDS}
    entries = module._hooks[kind]
    entry = (hook, with_kwargs, object())  # the object tells apart two registrations of one function
    entries.insert(0 if prepend else len(entries), entry)
    return Handle(module, kind, entry)


def call(module, args, kwargs):
    """`module.forward(*args, **kwargs)` with the module's hooks around it."""
    entries = module._hooks
    for hook, with_kwargs, _ in list(entries["before"]):
        if with_kwargs:
            result = hook(module, args, kwargs)
            args, kwargs = (args, kwargs) if result is None else result
        else:
            result = hook(module, args)
            args = args if result is None else result if isinstance(result, tuple) else (result,)
    watched = (entries["backward"] or entries["backward_before"]) and is_grad_enabled()
    watch = _Watch(module) if watched else None
    if watch:
        args = watch.inputs(args)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs, _ in list(entries["after"]):
        result = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
        output = output if result is None else result
    return watch.outputs(output) if watch else output


class _Watch:
    """One call of a module with backward hooks: it meets the gradients of the outputs, then those of the inputs."""

    def __init__(self, module):
        self.module = module
        self.count = 0  # of arguments
        self.reached = True  # whether gradients go back to an argument at all
        self.grad_output = ()

    def inputs(self, args):
        self.count = len(args)
        self.reached = any(isinstance(x, Tensor) and x.requires_grad for x in args)
        return _watched(args, self._at_inputs)

    def outputs(self, output):
        if isinstance(output, Tensor):
            return _watched((output,), self._at_outputs)[0]
        if isinstance(output, tuple):
            return _watched(output, self._at_outputs)
        return output

    def _at_outputs(self, gradients):
        for hook, _, _ in list(self.module._hooks["backward_before"]):
            gradients = _replaced(hook(self.module, gradients), gradients)
        self.grad_output = gradients
        if not self.reached:  # the first layer: nothing will come back to its inputs
            for hook, _, _ in list(self.module._hooks["backward"]):
                hook(self.module, (None,) * self.count, gradients)
        return gradients

    def _at_inputs(self, gradients):
        for hook, _, _ in list(self.module._hooks["backward"]):
            gradients = _replaced(hook(self.module, gradients, self.grad_output), gradients)
        return gradients


def _replaced(result, gradients):
    return gradients if result is None else result if isinstance(result, tuple) else (result,)


def _watched(values, when_back):
    """`values` with its differentiable tensors passed through the identity; `when_back` sees their gradients.

    `when_back` takes and returns a tuple as long as `values`, with None where there is no gradient.
    """
    places = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.requires_grad]
    if not places:
        return values

    def rule(gradients):
        whole = [None] * len(values)
        for i, g in zip(places, gradients):
            whole[i] = g if g is None or isinstance(g, Tensor) else wrap(g)
        whole = when_back(tuple(whole))
        plain = any(g is not None and not isinstance(g, Tensor) for g in gradients)
        return tuple([value(whole[i]) if plain else whole[i] for i in places])

    passed = _passing(len(places))(*[values[i] for i in places], rule)
    values = list(values)
    for i, x in zip(places, passed if isinstance(passed, tuple) else (passed,)):
        values[i] = x
    return tuple(values)


@functools.cache
def _passing(n):
    """The identity on n tensors, as an op whose gradient rule is its last argument."""

    def module_hooks(*arguments):
        return arguments[:-1] if n > 1 else arguments[0]

    names = [*(f"x{i}" for i in range(n)), "rule"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    module_hooks.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    passing = op(module_hooks, outputs=n)
    passing.gradient(lambda g, rule: rule(tuple(g) if n > 1 else (g,)))
    return passing
