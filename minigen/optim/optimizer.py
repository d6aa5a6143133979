"""Optimizer: groups of parameters, their state, and a step over flat arrays.

An optimiser is one method, `update(s, lr, ...)`: given a Stretch of parameters `s.p`, their gradients `s.g`, their
state `s["name"]` and the number of this step `s.step`, it changes `s.p` and the state in place. The rest is here.
The state is kept in flat arrays (flat.py) and shown in PyTorch's layout: `state`, `state_dict`, `param_groups`.
"""

import contextlib
import copy
import difflib
import itertools
import warnings

import numpy as np

from .. import device, kernels
from ..autograd import action, enable_grad, no_grad
from ..device import is_array, xp
from ..errors import ArgumentError, CheckpointError, DtypeError, expect
from ..tensor import Tensor, wrote
from .flat import Flat, address

__all__ = ["Optimizer"]


class Optimizer:
    """The base of all optimisers.

    params    tensors, (name, tensor) pairs (`model.named_parameters()`), or dictionaries {"params": ..., "lr": ...},
              each a group with values of its own
    defaults  the values of groups that do not give them
    """

    arrays = ()  # names of the state that has a parameter's shape
    numbers = ("step",)  # names of the state that is one number
    alone = False  # whether each parameter is updated by itself, in its own shape
    skips = False  # whether its kernel leaves a step out by itself where s.skip says so
    skip = None  # a device number; a step is left out where it is not 0: amp.GradScaler sets it
    flags = ("foreach", "capturable", "differentiable")  # of PyTorch's, taken and kept; the update is flat anyway

    def __init__(self, params, defaults, flags=None):
        defaults = {**defaults, **self._flags(flags or {})}
        expect(
            not isinstance(params, (Tensor, str)) and hasattr(params, "__iter__"),
            f"{self._name}: params argument given to the optimizer should be an iterable of Tensors or dicts",
            params,
            error=DtypeError,
            hint="write model.parameters(), or [x]",
        )
        self.defaults = defaults
        self.param_groups = []
        self._flats = []  # for each group, a Flat for each type and device in it
        self._before, self._after = [], []  # hooks
        self.stepped = False  # whether step() was called: schedules warn if not
        self._check_values(defaults)
        groups = list(params)
        expect(
            len(groups) > 0,
            f"{self._name}: the list of parameters is empty",
            error=ArgumentError,
            hint="a generator such as model.parameters() can be used once only",
        )
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(dict(group) if isinstance(group, dict) else group)

    @property
    def _name(self):
        return type(self).__name__

    def _flags(self, given):
        for name in given:
            if name not in self.flags:
                raise TypeError(f"{self._name}: unknown argument {name!r}")
        usual = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}
        return {name: given.get(name, usual[name]) for name in self.flags}

    def update(self, s, lr, **values):
        """Change the Stretch `s` in place. `values` are those of its group."""
        raise NotImplementedError(f"{self._name} has no update(s, lr, ...)")

    def check(self, **values):
        """Raise ArgumentError for values that make no sense; called for the defaults and each group."""

    def _check_values(self, values):
        lr = values.get("lr", 0.0)
        if isinstance(lr, Tensor):
            expect(lr.numel() == 1, f"{self._name}: Tensor lr must be 1-element", lr, error=ArgumentError)
            expect(
                not values.get("foreach") or values.get("capturable"),
                f"{self._name}: lr as a Tensor is not supported for capturable=False and foreach=True",
                error=ArgumentError,
            )
        known = {k: v for k, v in values.items() if k not in ("params", "param_names", "initial_lr")}
        expect(
            isinstance(lr, (int, float, Tensor, np.number)),
            f"{self._name}: lr is a number",
            lr,
            error=DtypeError,
        )
        expect(
            not values.get("differentiable"),
            f"{self._name}: differentiable=True is not supported: the update works in place",
            error=ArgumentError,
        )
        for name in ("lr", "eps", "weight_decay", "momentum"):
            value = known.get(name)
            if isinstance(value, (int, float)):
                expect(
                    value >= 0,
                    f"{self._name}: Invalid {name} value: {value}: it must be at least 0",
                    error=ArgumentError,
                )
        for i, beta in enumerate(known.get("betas", ())):
            expect(
                isinstance(beta, float) or beta == 0,
                f"{self._name}: betas must be either both floats or both Tensors; here they are floats",
                known["betas"],
                error=ArgumentError,
            )
            expect(
                0.0 <= beta < 1.0,
                f"{self._name}: Invalid beta parameter at index {i}: {beta}: it must be in [0, 1)",
                error=ArgumentError,
            )
        self.check(**known)

    # Groups

    def add_param_group(self, param_group):
        """Add {"params": ..., "lr": ...}: parameters with values of their own. Those not given are the defaults."""
        expect(
            isinstance(param_group, dict) and "params" in param_group,
            f'{self._name}: a param group is a dictionary with "params"',
            param_group,
            error=DtypeError,
        )
        given = param_group["params"]
        expect(
            not isinstance(given, (set, frozenset)),
            f"{self._name}: parameters in a set have no order: give a list",
            error=DtypeError,
        )
        given = [given] if isinstance(given, Tensor) else list(given)
        names = [x[0] for x in given if isinstance(x, tuple)]
        params = [x[1] if isinstance(x, tuple) else x for x in given]
        expect(
            len(names) in (0, len(params)),
            f"{self._name}: all optimizer params should be with/without names. Some param names are missing",
            error=ArgumentError,
        )
        for p in params:
            expect(
                isinstance(p, Tensor) and p.is_floating_point(),
                f"{self._name}: a parameter is a tensor of floating-point numbers",
                p,
                error=DtypeError,
            )
            expect(
                p.is_leaf,
                f"{self._name}: can't optimize a non-leaf Tensor: it was computed from others",
                p,
                error=ArgumentError,
                hint="give the tensors it was computed from, or x.detach().requires_grad_()",
            )
        group = {**param_group, "params": params, **({"param_names": names} if names else {})}
        for name in set(group) - set(self.defaults) - {"params", "param_names"}:
            meant = difflib.get_close_matches(name, self.defaults, n=1, cutoff=0.8)
            expect(
                not meant,
                f"{self._name}: a param group with {name!r}",
                error=ArgumentError,
                hint=f"did you mean {meant[0]!r}?" if meant else None,
            )
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self._check_values(group)
        if len({id(p) for p in params}) < len(params):
            warnings.warn(
                f"{self._name}: a parameter group with duplicate parameters: each is updated once",
                stacklevel=3,
            )
        before = {id(p) for other in self.param_groups for p in other["params"]}
        expect(
            before.isdisjoint(id(p) for p in params),
            f"{self._name}: some parameters appear in more than one parameter group",
            error=ArgumentError,
        )
        for other in self.param_groups:
            expect(
                ("param_names" in other) == ("param_names" in group),
                f"{self._name}: all optimizer param groups should be with/without names: this one differs",
                error=ArgumentError,
            )
        self.param_groups.append(group)
        self._flats.append(self._flatten(params))

    # Stepping

    @action
    @no_grad
    def step(self, closure=None):
        """Update every parameter that has a gradient. Returns what `closure()`, if given, returns: the loss.

        The closure computes the loss anew and calls backward(); it is called once, before the update.
        """
        loss = None
        for hook in list(self._before):
            hook(self, (closure,), {})
        if closure is not None:
            with enable_grad():
                loss = closure()
        for i, flats in enumerate(self._in_place()):
            values = self._values(i)
            for flat in flats:
                flat.skip = self.skip
                put_back = None if self.skip is None else self._undo(flat)
                stretches = flat.stretches(self.alone)
                for s in stretches:
                    self.update(s, **values)
                if put_back is not None:
                    put_back()
                if stretches:
                    wrote(flat.data)
        self.stepped = True
        for hook in list(self._after):
            hook(self, (closure,), {})
        return loss

    def _values(self, i):
        """The values of group i for this step. In a captured step those that schedules change are device arrays."""
        group, graph = self.param_groups[i], device.capturing
        values = {name: value for name, value in group.items() if name != "params"}
        if graph is None:
            values["lr"] = float(values["lr"])
            return values
        moving = {"lr"}
        values["lr"] = graph.number(self, lambda: float(self.param_groups[i]["lr"]))
        if "max_momentum" in group and "betas" in group:  # a schedule cycles it
            moving.add("betas")
            first = graph.number(self, lambda: self.param_groups[i]["betas"][0])
            values["betas"] = first, *group["betas"][1:]
        elif "max_momentum" in group:
            moving.add("momentum")
            values["momentum"] = graph.number(self, lambda: self.param_groups[i]["momentum"])
        graph.constant(lambda: [(k, v) for k, v in self.param_groups[i].items() if k != "params" and k not in moving])
        graph.memory(group["params"])
        return values

    def _undo(self, flat):
        """A function to call after the update of a Flat: where the step is skipped, it puts back what was there.

        None where the kernel leaves a step out by itself.
        """
        if self.skips and kernels.find(flat.data, "optim") is not None:
            return None
        before = {name: array.copy() for name, array in flat.arrays.items()}
        owned = [{name: array.copy() for name, array in own.items()} for own in flat.own]
        data, skipped = flat.data.copy(), flat.skip != 0

        def put_back():
            def choose(array, old):
                array[...] = flat.xp.where(skipped, old, array)

            choose(flat.data, data)
            for name, array in flat.arrays.items():
                choose(array, before.get(name, flat.fills[name]))
            for own, old in zip(flat.own, owned):
                for name, array in own.items():
                    choose(array, old.get(name, 0.0))

        return put_back

    def flats(self):
        """The Flats of all groups, one after the other."""
        return [flat for flats in self._in_place() for flat in flats]

    def _flatten(self, params):
        """The parameters in Flats, one for each type and device."""
        _refuse_overlap(params)
        kinds = {}
        for p in _unique(params):
            kinds.setdefault((p.data.dtype, p.device), []).append(p)
        return [self._flat(same) for same in kinds.values()]

    def _flat(self, params):
        return Flat(params)

    def _in_place(self):
        """The Flats of each group, made anew where parameters were added, or moved to another type or device."""
        for i, group in enumerate(self.param_groups):
            flats = self._flats[i]
            if sum(len(flat.params) for flat in flats) != len(_unique(group["params"])) or any(
                flat.has_moved() for flat in flats
            ):
                self._flats[i] = self._regrouped(i)
        return self._flats

    def _regrouped(self, i):
        """The Flats of group i made anew, with the state that is known."""
        old = {id(p): flat.state_of(j) for flat in self._flats[i] for j, p in enumerate(flat.params)}
        made = self._flatten(self.param_groups[i]["params"])
        for flat in made:
            for j, p in enumerate(flat.params):
                if old.get(id(p)):
                    self._put_state(flat, j, old[id(p)])
        return made

    @action
    def zero_grad(self, set_to_none=True):
        """Forget the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad.data[...] = 0

    def register_step_pre_hook(self, hook):
        """Call `hook(optimizer, args, kwargs)` before each step. Returns a handle with `remove()`."""
        return _Handle(self._before, hook)

    def register_step_post_hook(self, hook):
        """Call `hook(optimizer, args, kwargs)` after each step. Returns a handle with `remove()`."""
        return _Handle(self._after, hook)

    # State

    @property
    def state(self):
        """{parameter: {name: tensor}} of those that were updated. Arrays share the optimiser's memory."""
        return {
            p: shown
            for flats in self._flats
            for flat in flats
            for i, p in enumerate(flat.params)
            if (shown := self._shown(flat.state_of(i)))
        }

    def _shown(self, state):
        return {
            name: Tensor(value.astype(np.float32) if name == "step" else value)
            if is_array(value)
            else Tensor(np.array(value, np.float32))
            for name, value in state.items()
            if name in self.numbers or (is_array(value) and name != "step")
        }

    def state_dict(self):
        """{"state": {index: {name: tensor}}, "param_groups": [...]}: parameters are counted through all groups."""
        index, groups = {}, []
        for group in self.param_groups:
            for p in group["params"]:
                index.setdefault(id(p), len(index))
            groups.append({**group, "params": [index[id(p)] for p in group["params"]]})
        state = {index[id(p)]: values for p, values in self.state.items()}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Take over what `state_dict()` of an optimiser over the same parameters returned.

        Raises CheckpointError if the groups, their sizes or the shapes differ.
        """
        expect(
            isinstance(state_dict, dict) and {"state", "param_groups"} <= set(state_dict),
            f'{self._name}.load_state_dict: a state has "state" and "param_groups"',
            state_dict,
            error=CheckpointError,
            hint="give what state_dict() returned",
        )
        given = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in given]
        mine = [len(group["params"]) for group in self.param_groups]
        expect(
            sizes == mine,
            f"{self._name}.load_state_dict: the saved groups hold {sizes} parameters, those here {mine}",
            error=CheckpointError,
            hint="build the optimiser over the same parameters, in the same groups",
        )
        parameters = [p for group in self.param_groups for p in group["params"]]
        ids = [i for group in given for i in group["params"]]
        owner = {i: p for i, p in zip(ids, parameters)}
        for i, group in enumerate(given):
            values = copy.deepcopy({name: v for name, v in group.items() if name != "params"})
            self.param_groups[i] = {**self.param_groups[i], **_tuples(values)}
        state = {id(owner[i]): values for i, values in state_dict["state"].items() if i in owner}
        self._flats = [self._flatten(group["params"]) for group in self.param_groups]
        for flats in self._flats:
            for flat in flats:
                for j, p in enumerate(flat.params):
                    if state.get(id(p)):
                        self._put_state(flat, j, state[id(p)])

    def _put_state(self, flat, j, state):
        """Sort one parameter's state into numbers, arrays of its shape and arrays of another."""
        values = {k: v.data if isinstance(v, Tensor) else v for k, v in state.items() if v is not None}
        numbers = {k: _number(v) for k, v in values.items() if not is_array(v) or k in ("step", *self.numbers)}
        arrays = {k: v for k, v in values.items() if k in self.arrays}
        own = {k: v for k, v in values.items() if k not in numbers and k not in arrays}
        try:
            flat.put_state(j, numbers, arrays, own)
        except ValueError as cause:
            raise CheckpointError(f"{self._name}.load_state_dict: {cause}") from None

    def __repr__(self):
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


class _Handle:
    def __init__(self, hooks, hook):
        self.hooks, self.hook = hooks, hook
        hooks.append(hook)

    def remove(self):
        with contextlib.suppress(ValueError):
            self.hooks.remove(self.hook)


def given(value):
    """Whether a value that may be 0 is not: where a captured step keeps it in a device array, it is taken for not."""
    return is_array(value) or bool(value)


def _unique(params):
    return list({id(p): p for p in params}.values())


def _refuse_overlap(params):
    """Two Parameters over one memory would come apart when each is given its place in the flat array."""
    arrays = sorted([p.data for p in _unique(params) if p.data.size], key=lambda a: (xp(a) is np, address(a)))
    for a, b in itertools.pairwise(arrays):
        expect(
            xp(a) is not xp(b) or not xp(a).shares_memory(a, b),
            "optimizer: two Parameters share memory",
            a,
            b,
            error=ArgumentError,
            hint="tie weights by using one Parameter in both places: decoder.weight = encoder.weight",
        )


def _number(value):
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tuples(values):
    """Lists from a checkpoint as the tuples they were: `betas`, for one."""
    return {k: tuple(v) if isinstance(v, list) and k != "param_names" else v for k, v in values.items()}
