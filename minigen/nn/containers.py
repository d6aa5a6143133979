"""Containers: modules that hold other modules or parameters.

Sequential                       one after the other
ModuleList, ModuleDict           a list or dictionary of layers that `parameters()` finds
ParameterList, ParameterDict     the same for parameters
Identity, Flatten, Unflatten     shapes, as layers
"""

import operator
from collections.abc import Mapping

from ..errors import ArgumentError, DimError, DtypeError, describe
from ..tensor import Parameter, Tensor
from .module import Module, _indent, _layout

__all__ = [
    "Flatten",
    "Identity",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "Sequential",
    "Unflatten",
]


class _Numbered(Module):
    """What Sequential and ModuleList share: children called "0", "1", ... in order."""

    def _items(self):
        return [child for _, child in self._own(Module)]

    def _renumber(self, modules):
        for name, _ in self._own(Module):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def _place(self, index):
        try:
            i = operator.index(index)
        except TypeError:
            raise DtypeError(f"{type(self).__name__}: an index must be an integer or a slice, got {index!r}") from None
        if not -len(self) <= i < len(self):
            raise DimError(f"{type(self).__name__}: index {i} of a container of {len(self)} modules")
        return i % len(self)

    def __len__(self):
        return len(self._items())

    def __iter__(self):
        return iter(self._items())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._like(self._own(Module)[index])
        return self._items()[self._place(index)]

    def __setitem__(self, index, module):
        setattr(self, self._own(Module)[self._place(index)][0], module)

    def __delitem__(self, index):
        modules = self._items()
        del modules[index if isinstance(index, slice) else self._place(index)]
        self._renumber(modules)

    def append(self, module):
        """Add a module at the end. Returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add several modules at the end. Returns the container."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index, module):
        """Put a module before the one at `index`. Returns the container."""
        modules = self._items()
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index=-1):
        """Take out and return the module at `index`."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules):
        return self.extend(modules)


class Sequential(_Numbered):
    """One module after the other: each gets what the one before returned.

    Sequential(Linear(784, 400), ReLU(), Linear(400, 10)), or Sequential(OrderedDict(hidden=..., out=...)) for names.
    """

    def __init__(self, *modules):
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
            return
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                hint = "\n  write Sequential(*layers)" if isinstance(module, (list, tuple)) else ""
                raise DtypeError(f"Sequential: argument {i} is {describe(module)}, not a Module{hint}")
            self.add_module(str(i), module)

    def _like(self, named):
        return Sequential(dict(named))

    def __add__(self, other):
        return Sequential(*self, *other)

    def __mul__(self, times):
        return Sequential(*list(self) * times)

    __rmul__ = __mul__

    def forward(self, input):
        for module in self._items():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list of modules that `parameters()` finds. It has no `forward`: the model that holds it says what happens."""

    def __init__(self, modules=()):
        self.extend(modules)

    def _like(self, named):
        return ModuleList([module for _, module in named])

    def __add__(self, other):
        return ModuleList([*self, *other])

    def __repr__(self):
        """Neighbours that print alike stand in one line: (0-5): 6 x Block(...)."""
        runs = []
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        lines = [
            f"({a}): {_indent(text)}" if a == b else f"({a}-{b}): {b - a + 1} x {_indent(text)}" for a, b, text in runs
        ]
        return _layout(type(self).__name__, "", lines)


class _Keyed:
    """What ModuleDict and ParameterDict share: a mapping from names to attributes of one kind."""

    def __getitem__(self, key):
        try:
            return vars(self)[self._known(key)]
        except KeyError:
            raise KeyError(f"{type(self).__name__} has no {key!r}: it has {list(self.keys())}") from None

    def _known(self, key):
        if key not in self.keys():
            raise KeyError(key)
        return key

    def __delitem__(self, key):
        delattr(self, self._known(key))

    def __len__(self):
        return len(self.keys())

    def __iter__(self):
        return iter(self.keys())

    def __contains__(self, key):
        return key in self.keys()

    def keys(self):
        return [name for name, _ in self._own(self.kind)]

    def values(self):
        return [value for _, value in self._own(self.kind)]

    def items(self):
        return self._own(self.kind)

    def get(self, key, default=None):
        return dict(self.items()).get(key, default)

    def pop(self, key):
        """Take out and return what stands under `key`."""
        value = self[key]
        del self[key]
        return value

    def clear(self):
        for key in self.keys():
            del self[key]

    def update(self, given):
        """Add what a mapping, or pairs of (name, value), hold."""
        for key, value in given.items() if hasattr(given, "items") else given:
            self[key] = value


class ModuleDict(_Keyed, Module):
    """A dictionary of modules that `parameters()` finds."""

    kind = Module

    def __init__(self, modules=None):
        self.update(modules or {})

    def __setitem__(self, key, module):
        self.add_module(key, module)


class ParameterList(Module):
    """A list of parameters. Plain tensors put in become Parameters."""

    def __init__(self, values=()):
        self.extend(values)

    def __len__(self):
        return len(self._own(Parameter))

    def __iter__(self):
        return iter([value for _, value in self._own(Parameter)])

    def __getitem__(self, index):
        values = list(self)[index]
        return ParameterList(values) if isinstance(index, slice) else values

    def __setitem__(self, index, value):
        setattr(self, str(range(len(self))[index]), _parameter(value))

    def append(self, value):
        """Add a parameter at the end. Returns the list."""
        self.register_parameter(str(len(self)), _parameter(value))
        return self

    def extend(self, values):
        """Add several at the end. Returns the list."""
        for value in values:
            self.append(value)
        return self

    __iadd__ = extend

    def __repr__(self):
        return _layout("ParameterList", "", [f"({name}): {_describe(x)}" for name, x in self._own(Parameter)])


class ParameterDict(_Keyed, Module):
    """A dictionary of parameters. Plain tensors put in become Parameters."""

    kind = Parameter

    def __init__(self, parameters=None):
        self.update(parameters or {})

    def __setitem__(self, key, value):
        self.register_parameter(key, _parameter(value))

    def __repr__(self):
        return _layout("ParameterDict", "", [f"({name}): {_describe(x)}" for name, x in self.items()])


def _parameter(value):
    if isinstance(value, Parameter):
        return value
    if not isinstance(value, Tensor):
        raise DtypeError(f"{describe(value)} is not a tensor\n  write nn.Parameter(minigen.tensor(...))")
    return Parameter(value.data)


def _describe(x):
    return f"Parameter of {describe(x)}"


class Identity(Module):
    """Returns what it is given. Takes any arguments at construction and does not use them."""

    def __init__(self, *args, **kwargs):
        pass

    def forward(self, input):
        return input


class Flatten(Module):
    """Dimensions `start_dim` to `end_dim` made one: (N, C, H, W) -> (N, C*H*W)."""

    shown = ("start_dim", "end_dim")

    def __init__(self, start_dim=1, end_dim=-1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)


class Unflatten(Module):
    """One dimension made several: Unflatten(1, (128, 7, 7)) takes (N, 6272) to (N, 128, 7, 7)."""

    shown = ("dim", "unflattened_size")

    def __init__(self, dim, unflattened_size):
        if not isinstance(dim, int):
            raise ArgumentError(f"Unflatten: dim is an integer, got {describe(dim)}: dimensions have no names here")
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input):
        return input.unflatten(self.dim, self.unflattened_size)
