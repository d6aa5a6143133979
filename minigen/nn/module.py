"""Module: a function with parameters.

    class Net(nn.Module):
        def __init__(self):
            self.hidden = nn.Linear(784, 400)
            self.out = nn.Linear(400, 10)

        def forward(self, x):
            return self.out(F.relu(self.hidden(x)))

There is no registry. A parameter of a module is an attribute that is a `Parameter`, a part of it is an attribute that
is a `Module`, and everything below (`parameters`, `state_dict`, `to`, `train`) walks over the attributes in the order
in which they were made. Only buffers, plain tensors that belong to the state, are noted by name (`register_buffer`).
"""

import contextlib
import math

import numpy as np

from ..autograd import action, modes
from ..device import FLOATS, to_device
from ..errors import ArgumentError, CheckpointError, DtypeError, MinigenError, describe, misfit, no_tensor
from ..tensor import Parameter, Tensor, float32, new_library
from . import hooks, state
from .messages import MissingAttribute, say_where

__all__ = ["Buffer", "Module", "new_parameter"]


def new_parameter(*shape, device=None, dtype=None):
    """A Parameter of zeros, float32 unless `dtype` says otherwise: what `reset_parameters` then fills."""
    if _room is not None:
        _take_room(math.prod(shape))
    return Parameter(new_library(device).zeros(shape, dtype or float32))


_room = None  # elements that may still be made; None: as many as one likes


@contextlib.contextmanager
def at_most(elements):
    """Within this block new parameters hold at most so many elements in all, or CheckpointError is raised.

    A configuration that came from a file may ask for any size; this refuses it before the memory is taken.
    """
    global _room
    before, _room = _room, elements
    try:
        yield
    finally:
        _room = before


def _take_room(elements):
    global _room
    _room -= elements
    if _room < 0:
        raise CheckpointError("the configuration asks for far more parameters than the weights hold")


class Buffer(Tensor):
    """`self.mean = nn.Buffer(zeros(3))` is `self.register_buffer("mean", zeros(3))`."""

    __slots__ = ("persistent",)

    def __init__(self, data, persistent=True):
        super().__init__(data)
        self.persistent = persistent


class Module:
    """The base of every layer and model: subclass it, make the parts in `__init__`, compute in `forward`.

    Call the module, not `forward`: `y = net(x)`. `training` is True until `eval()`.
    """

    def __new__(cls, *args, **kwargs):
        module = object.__new__(cls)
        vars(module).update(training=True, _persistent={}, _hooks=None)  # so no super().__init__() is needed
        return module

    def __init__(self):
        pass

    def forward(self, *args, **kwargs):
        raise NotImplementedError(
            f"{type(self).__name__} has no forward\n  write  def forward(self, x): ...  in the class"
        )

    def __call__(self, *args, **kwargs):
        if modes.called is not None:
            modes.called[id(self)] = self
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return hooks.call(self, args, kwargs)
        except MinigenError as error:
            say_where(self, error)
            raise
        except TypeError as fault:
            if fault.__traceback__.tb_next is not None:  # raised inside forward, not by the call
                raise
            raise misfit(self.forward, fault, kwargs, type(self).__name__) from None
        except AttributeError as fault:
            if (answer := no_tensor(type(self).__name__, fault, args)) is None:
                raise
            raise answer from fault

    # Attributes

    def __setattr__(self, name, value):
        mine = vars(self)
        old = mine.get(name)
        if isinstance(value, Buffer):
            return self.register_buffer(name, Tensor(value.data), value.persistent)
        if isinstance(value, (Parameter, Module)):
            self._persistent.pop(name, None)
        elif value is not None:
            if isinstance(old, Parameter):
                raise DtypeError(
                    f"{type(self).__name__}.{name} is a Parameter, and {describe(value)} is not\n"
                    f"  write nn.Parameter(...), or copy into it: with no_grad(): m.{name}.copy_(...)"
                )
            if isinstance(old, Module):
                raise DtypeError(f"{type(self).__name__}.{name} is a Module, and {describe(value)} is not")
            if name in self._persistent and not isinstance(value, Tensor):
                raise DtypeError(f"{type(self).__name__}.{name} is a buffer: give a tensor, not {describe(value)}")
            if isinstance(value, (list, dict)) and value:
                self._refuse_hidden(name, value)
        object.__setattr__(self, name, value)

    def _refuse_hidden(self, name, value):
        """A list of layers would not be found by `parameters()`: the model would train without them, silently."""
        items = value.values() if isinstance(value, dict) else value
        for kind, holder in ((Module, "Module"), (Parameter, "Parameter")):
            if all(isinstance(item, kind) for item in items):
                holder += "Dict" if isinstance(value, dict) else "List"
                raise ArgumentError(
                    f"{type(self).__name__}.{name}: a {type(value).__name__} hides what is in it from parameters()\n"
                    f"  write self.{name} = nn.{holder}(...), or a tuple to hide it on purpose"
                )

    def __getattr__(self, name):  # only called for a name that is not there
        if isinstance(getattr(type(self), name, None), property):
            return getattr(type(self), name).fget(self)  # a property that failed: raise its own error, not ours
        raise MissingAttribute(self, name)

    def __delattr__(self, name):
        object.__delattr__(self, name)
        self._persistent.pop(name, None)

    def register_parameter(self, name, parameter):
        """`self.<name> = parameter`, by name; None for a parameter that is switched off."""
        self._check_name(name, "register_parameter", Parameter)
        if parameter is not None and not isinstance(parameter, Parameter):
            raise DtypeError(f"register_parameter: {describe(parameter)} is not a Parameter\n  write nn.Parameter(x)")
        setattr(self, name, parameter)

    def register_buffer(self, name, tensor, persistent=True):
        """A tensor that is state but is not trained (a running mean). Saved in the state dict if `persistent`."""
        if name not in self._persistent:
            self._check_name(name, "register_buffer", ())
        if tensor is not None and not isinstance(tensor, Tensor):
            raise DtypeError(f"register_buffer: {describe(tensor)} is not a tensor\n  write minigen.tensor(x)")
        object.__setattr__(self, name, tensor)
        self._persistent[name] = persistent

    def add_module(self, name, module):
        """`self.<name> = module`, by name."""
        self._check_name(name, "add_module", Module)
        if module is not None and not isinstance(module, Module):
            raise DtypeError(f"add_module: {describe(module)} is not a Module")
        setattr(self, name, module)

    register_module = add_module

    def _check_name(self, name, who, replaceable):
        if not isinstance(name, str) or "." in name or not name:
            raise ArgumentError(f"{who}: {name!r} cannot be a name: a non-empty string without a dot is needed")
        known = vars(self).get(name)
        if hasattr(type(self), name) or known is not None and not isinstance(known, replaceable):
            raise ArgumentError(f"{who}: {type(self).__name__} has an attribute {name!r} already")

    # The tree

    def _own(self, kind):
        """(name, value) of the attributes of one kind, in the order in which they were made."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, kind)]

    def named_children(self):
        """(name, module) of the parts of this module, each once."""
        seen = set()
        for name, child in self._own(Module):
            if id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self):
        """The parts of this module."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """(dotted name, module) of this module, its parts, their parts and so on."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name, child in self._own(Module):
            yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self):
        """This module, its parts, their parts and so on, each once."""
        for _, module in self.named_modules():
            yield module

    def _named_tensors(self, own, prefix, recurse, remove_duplicate):
        seen = set()
        found = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in found:
            for name, tensor in own(module):
                if id(tensor) not in seen:
                    if remove_duplicate:
                        seen.add(id(tensor))
                    yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """(dotted name, Parameter), each parameter once, however many places share it."""
        return self._named_tensors(lambda m: m._own(Parameter), prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True):
        """What an optimiser wants: every Parameter, once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def _own_buffers(self):
        return [(name, vars(self)[name]) for name in self._persistent if vars(self)[name] is not None]

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """(dotted name, tensor) of the buffers."""
        return self._named_tensors(lambda m: m._own_buffers(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """The buffers."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target):
        """The module at a dotted name: `get_submodule("encoder.layers.0")`."""
        module = self
        for name in filter(None, target.split(".")):
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"get_submodule: {name!r} of {target!r} is not a Module")
        return module

    def get_parameter(self, target):
        """The Parameter at a dotted name."""
        return self._get(target, Parameter, "get_parameter")

    def get_buffer(self, target):
        """The buffer at a dotted name."""
        return self._get(target, Tensor, "get_buffer")

    def _get(self, target, kind, who):
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), name)
        if not isinstance(found, kind) or kind is Tensor and name not in self.get_submodule(path)._persistent:
            raise AttributeError(f"{who}: {target!r} is not a {who.removeprefix('get_')}")
        return found

    def apply(self, function):
        """Call `function` on every part, then on this module; returns it. `net.apply(init_weights)`."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # State

    def state_dict(self, prefix="", keep_vars=False):
        """{dotted name: tensor} of the parameters and persistent buffers. The tensors share the module's memory."""
        return state.collect(self, prefix, keep_vars)

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy tensors or arrays into the parameters and buffers of the same names.

        All names and shapes are checked before anything is written. Raises CheckpointError naming every missing and
        unexpected key (unless `strict=False`) and every shape that differs. Returns (missing_keys, unexpected_keys).
        assign  take the arrays given instead of copying them
        """
        return state.load(self, state_dict, strict, assign)

    # Modes

    def train(self, mode=True):
        """Training mode: dropout drops, batch norm uses and records the batch's statistics. Returns the module."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train: mode is True or False, got {describe(mode)}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Freeze (False) or thaw every parameter. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    @action
    def zero_grad(self, set_to_none=True):
        """Forget the gradients, or fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad.data[...] = 0

    # Types and devices

    def _convert(self, convert):
        """Give every parameter and buffer the array `convert(array)`. The Parameters stay the same objects."""
        for _, tensor in [*self.named_parameters(), *self.named_buffers()]:
            array = convert(tensor.data)
            if array is not tensor.data:
                tensor.data = array
                tensor.buffer = None
                if tensor.grad is not None:
                    tensor.grad = Tensor(convert(tensor.grad.data))
        return self

    def to(self, *args, device=None, dtype=None):
        """Move to a device, a floating-point type, or both: `to("cuda")`, `to(float64)`, `to(other_tensor)`.

        Parameters stay the same objects, so an optimiser over them stays valid. Integer buffers keep their type.
        """
        for x in args:
            if isinstance(x, Tensor):
                device, dtype = x.device, x.dtype
            elif isinstance(x, str) and x.split(":")[0] in ("cpu", "cuda"):
                device = x
            elif x is not None:
                dtype = x
        dtype = None if dtype is None else np.dtype(dtype)
        if dtype is not None and dtype.kind not in FLOATS:
            raise DtypeError(f"to: parameters must stay floating-point, got {dtype}")

        def convert(array):
            array = array if device is None else to_device(array, device)
            return array.astype(dtype, copy=False) if dtype is not None and array.dtype.kind in FLOATS else array

        return self._convert(convert)

    def float(self):
        """float32."""
        return self.to(dtype="float32")

    def double(self):
        """float64."""
        return self.to(dtype="float64")

    def half(self):
        """float16."""
        return self.to(dtype="float16")

    def cpu(self):
        return self.to("cpu")

    def cuda(self):
        return self.to("cuda")

    # Hooks (hooks.py)

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args)` before `forward`; what it returns, if anything, replaces the arguments."""
        return hooks.register(self, "before", hook, prepend, with_kwargs)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args, output)` after `forward`; what it returns, if anything, replaces the output."""
        return hooks.register(self, "after", hook, prepend, with_kwargs)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call `hook(module, grad_output)` when the gradients of the outputs are known; it may replace them."""
        return hooks.register(self, "backward_before", hook, prepend)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are; it may replace them."""
        return hooks.register(self, "backward", hook, prepend)

    # What it looks like

    shown = ()  # names of the attributes that stand between the brackets when the module is printed

    def extra_repr(self):
        """What stands between the brackets of the module's line when it is printed: the attributes in `shown`."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)

    def __repr__(self):
        lines = [f"({name}): {_indent(repr(child))}" for name, child in self._own(Module)]
        return _layout(type(self).__name__, self.extra_repr(), lines)

    def summary(self, *inputs, **kwargs):
        """A table of the parts: output shapes, numbers of parameters and FLOPs of one forward pass on `inputs`.

        `print(net.summary(x))`. Without inputs only the parameters are counted. See nn/summary.py.
        """
        from .summary import summarise

        return summarise(self, inputs, kwargs)


def _layout(name, extra, lines):
    """`Name(extra)`, with the lines of its parts indented below if there are any."""
    if not lines:
        return f"{name}({_indent(extra)})" if "\n" not in extra else f"{name}(\n  {_indent(extra)}\n)"
    if extra:
        lines = [*(_indent(line) for line in extra.split("\n")), *lines]
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"


def _indent(text):
    return text.replace("\n", "\n  ")
