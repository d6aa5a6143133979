"""Parametrizations: a weight that is computed from others each time it is read.

    register_parametrization(layer, "weight", Symmetric())
    layer.weight                                   # Symmetric()(layer.parametrizations.weight.original)

The trained tensor moves to `layer.parametrizations.<name>.original` (or original0, original1, ... if the
parametrization's `right_inverse` splits it), and `weight` becomes a property of a class made for this layer.
"""

from ...autograd import no_grad
from ...errors import ArgumentError, ShapeError, expect
from ...tensor import Parameter, Tensor, wrote
from ..containers import ModuleDict, ModuleList
from ..module import Module

__all__ = ["ParametrizationList", "is_parametrized", "register_parametrization", "remove_parametrizations"]


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, first to last, and what they compute it from."""

    def __init__(self, first, tensor):
        super().__init__([first])
        with no_grad():
            original = first.right_inverse(tensor) if hasattr(first, "right_inverse") else tensor
        self.count = len(original) if isinstance(original, (tuple, list)) else None
        for name, x in zip(self.names, original if self.count is not None else [original]):
            if isinstance(tensor, Parameter):
                kept = tensor if x is tensor else Parameter(x.data.copy(), requires_grad=tensor.requires_grad)
                setattr(self, name, kept)
            else:
                self.register_buffer(name, x)

    @property
    def names(self):
        return ["original"] if self.count is None else [f"original{i}" for i in range(self.count)]

    def forward(self):
        first, *others = self
        x = first(*[getattr(self, name) for name in self.names])
        for parametrization in others:
            x = parametrization(x)
        return x

    def assign(self, value):
        """Write into the originals what gives `value`, by the `right_inverse` of each parametrization."""
        with no_grad():
            for parametrization in reversed(list(self)):
                if not hasattr(parametrization, "right_inverse"):
                    raise ArgumentError(
                        f"{type(parametrization).__name__} has no right_inverse: its tensor cannot be assigned"
                    )
                value = parametrization.right_inverse(value)
            for name, x in zip(self.names, [value] if self.count is None else value):
                original = getattr(self, name)
                original.data[...] = x.data
                wrote(original.data)


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Compute `module.<tensor_name>` as `parametrization(original)` from now on. Returns the module.

    A second one is applied to the result of the first. Raises ShapeError if the shape changes, unless `unsafe`.
    """
    expect(
        isinstance(parametrization, Module),
        "register_parametrization: a parametrization is a Module",
        parametrization,
        error=ArgumentError,
    )
    parametrization.train(module.training)
    before = getattr(module, tensor_name)
    if is_parametrized(module, tensor_name):
        module.parametrizations[tensor_name].append(parametrization)
    else:
        expect(
            isinstance(before, Tensor),
            f"register_parametrization: {type(module).__name__} has no tensor {tensor_name!r}",
            error=ArgumentError,
        )
        entry = ParametrizationList(parametrization, before)
        entry.train(module.training)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            module.parametrizations = ModuleDict()
        module.parametrizations[tensor_name] = entry
        _give_properties(module)
    with no_grad():
        shape = getattr(module, tensor_name).shape
    expect(
        unsafe or shape == before.shape,
        f"register_parametrization: {type(parametrization).__name__} makes {before.shape} into {shape}",
        error=ShapeError,
        hint="write unsafe=True if that is meant",
    )
    return module


def is_parametrized(module, tensor_name=None):
    """Whether the module has a parametrized tensor (of that name)."""
    entries = vars(module).get("parametrizations")
    if not isinstance(entries, ModuleDict):
        return False
    return len(entries) > 0 if tensor_name is None else tensor_name in entries


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Make `module.<tensor_name>` an ordinary tensor again, with its value as it is now. Returns the module.

    leave_parametrized=False puts the original back instead (if there is one alone).
    """
    expect(
        is_parametrized(module, tensor_name),
        f"remove_parametrizations: {type(module).__name__}.{tensor_name} is not parametrized",
        error=ArgumentError,
    )
    entry = module.parametrizations[tensor_name]
    expect(
        leave_parametrized or entry.count is None,
        "remove_parametrizations: there are several originals\n  write leave_parametrized=True",
        error=ArgumentError,
    )
    with no_grad():
        value = entry()
    original = getattr(entry, entry.names[0])
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module.parametrizations
    _give_properties(module)
    if leave_parametrized and entry.count is None:
        original.data[...] = value.data
        wrote(original.data)
    elif leave_parametrized:
        wanted = original.requires_grad
        original = Parameter(value.data.copy(), wanted) if isinstance(original, Parameter) else value
    if isinstance(original, Parameter):
        setattr(module, tensor_name, original)
    else:
        module.register_buffer(tensor_name, original)
    return module


def _give_properties(module):
    """Give the module a class of its own in which each parametrized tensor is a property."""
    plain = getattr(type(module), "_plain_class", type(module))
    names = list(module.parametrizations.keys()) if is_parametrized(module) else []
    if names:
        members = {name: _property(name) for name in names}
        plain = type(f"Parametrized{plain.__name__}", (plain,), {**members, "_plain_class": plain})
    object.__setattr__(module, "__class__", plain)


def _property(name):
    def read(self):
        return self.parametrizations[name]()

    def write(self, value):
        self.parametrizations[name].assign(value)

    return property(read, write)
