"""Ops: functions on arrays that, called on tensors, also record how to go back. See the package's docstring."""

import functools
import inspect
import operator
import traceback

import numpy as np

from .. import kernels
from ..device import FLOATS, device_of, is_array
from ..errors import (
    ArgumentError,
    DeviceError,
    DimError,
    DtypeError,
    MinigenError,
    ShapeError,
    describe,
    misfit,
    named,
    out_of_memory,
)
from ..tensor import Tensor, value, wrap
from . import modes
from .anomaly import check_forward
from .bfloat16 import kept, watch, widened
from .graph import edge, new_node, reconnect
from .order import in_order
from .promotion import promote

FAULTS = ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError  # of NumPy, and of Python
NUMBERS = bool, int, float, np.generic
ndarray = np.ndarray
mode = modes.mode


def op(forward=None, *, saves=(), outputs=1, promotes=False, elementwise=False):
    """Make a function on arrays an op.

    saves        names of what the forward returns after its output(s), for the gradient rule
    outputs      how many outputs it has; with several, its rule gets a tuple of gradients, None for those without
    promotes     its first two arguments are element-wise operands: bring them to one type first
    elementwise  it computes each element from those of its arguments there: the result lies in memory as they do
    """
    if forward is None:
        return lambda function: op(function, saves=saves, outputs=outputs, promotes=promotes, elementwise=elementwise)
    two = promotes and len(inspect.signature(forward).parameters) == 2
    return (Binary if two else Op)(forward, saves, outputs, promotes, elementwise)


class Op:
    """A differentiable function on arrays and tensors. Made by the decorator `op`."""

    hides = False  # whether its nodes' edges leave out part of the graph

    def __init__(self, forward, saves=(), outputs=1, promotes=False, elementwise=False):
        self.forward = forward
        self.name = forward.__name__.strip("_")
        self.outputs = outputs
        self.saves = tuple(saves)
        self.promotes = promotes
        self.prepares = promotes or elementwise
        self.rules = None  # {argument index: (rule, sources)}, or {None: (rule, sources)} for one rule for all
        self.define = None
        self.differentiable = False
        self.composed = True  # its rule is made of ops
        self.plain = outputs == 1 and not saves
        self.simple = False  # one rule for each argument, made of ops
        parameters = inspect.signature(forward).parameters
        self.names = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]
        self.variadic = len(self.names) < len(parameters)
        self.defaults = [parameters[name].default for name in self.names]
        self.arity = -1 if self.variadic else len(self.names)
        self._plans = {}
        functools.update_wrapper(self, forward)

    # Declaring

    def gradient(self, rule=None, **rules):
        """Give the rule for all arguments (as a decorator), or one for each (as keywords)."""
        given = rules if rule is None else {None: rule}
        self.rules = {}
        self.differentiable = True
        for name, function in given.items():
            key = None if name is None else self.names.index(name)
            self.rules[key] = function, self._sources(function)
        self._plans.clear()
        self.simple = not self.variadic and all(
            key is not None and not sources.wants_needs for key, (_, sources) in self.rules.items()
        )
        return rule

    def definition(self, function):
        """Give the mathematics of a fused op, in ops (as a decorator)."""
        self.define = function
        self.composed = False  # the rule calls a kernel: only the definition can be differentiated twice
        self.differentiable = True
        self.simple = False
        self._plans.clear()
        return function

    def _sources(self, rule):
        """For each parameter of a rule after g, where its value stands in [*arguments, y, *saves]."""
        asked = list(inspect.signature(rule).parameters)[1:]
        places_of = [*self.names, "y" if self.outputs == 1 else "ys", *self.saves]
        where = {name: i for i, name in reversed(list(enumerate(places_of)))}  # an argument called y hides the output
        places = []
        for name in asked:
            if name in ("needs", "into") or self.variadic:
                continue
            if name in where:
                places.append(where[name])
            elif name.endswith("_shape") and name[:-6] in where:
                places.append(("shape", where[name[:-6]]))
            else:
                raise ArgumentError(
                    f"{self.name}: its gradient rule asks for {name!r}, which is neither an argument of the op "
                    f"({', '.join(self.names)}), y, nor saved ({', '.join(self.saves) or 'nothing'})"
                )
        return _Sources(asked, places)

    # Calling

    def __call__(self, *args, **kwargs):
        if self.variadic:
            return self._call_variadic(args, kwargs)
        if kwargs or len(args) != self.arity:
            args = self._bind(args, kwargs)
        watched = modes.watched
        if watched and mode.autocast is not None:
            args = mode.autocast.arguments(self, args)
        arrays = []
        edges = []
        mask = any_tensor = 0
        bit = 1
        for x in args:  # the hot loop of the engine: a microsecond here is a microsecond an op
            if type(x) is Tensor or isinstance(x, Tensor):
                any_tensor = 1
                arrays.append(x.data)
                if x.requires_grad:
                    mask |= bit
                    node = x.node
                    edges.append(x if node is None else node if x.slot is None else (node, x.slot))
                else:
                    edges.append(None)
            else:
                arrays.append(x)
                edges.append(None)
            bit += bit
        forward = self.forward
        if self.prepares:
            a = arrays[0]
            if self.promotes:
                b = arrays[1]
                if type(a) is not ndarray or type(b) is not ndarray or a.dtype is not b.dtype:
                    arrays = self._agree(arrays)
                    a = arrays[0] if is_array(arrays[0]) else arrays[1]
            if type(a) is not ndarray and is_array(a):  # on the GPU
                forward = functools.partial(in_order, forward)
        try:
            y = forward(*arrays)
        except FAULTS as fault:
            raise self._explained(fault, arrays) from None
        if y is NotImplemented:
            return self._by_definition(args)
        if watched and modes.bfloat16:
            y = kept(self, arrays, y)
        if not any_tensor:
            if type(arrays[0]) is not ndarray and not any([is_array(x) or isinstance(x, NUMBERS) for x in arrays]):
                raise DtypeError(f"{self.name}: takes a tensor, got {describe(args[0])}\n  write minigen.tensor(...)")
            return y[: self.outputs] if self.outputs > 1 else y[0] if self.saves else y
        if self.plain:
            if type(y) is not ndarray and isinstance(y, np.generic):
                y = np.asarray(y)
            arrays.append(y)
        else:
            y, extras = (y[0], y[1:]) if self.outputs == 1 else (tuple(y[: self.outputs]), y[self.outputs :])
            arrays.append(y)
            arrays.extend(extras)
        if watched:
            self._watch(args, arrays)
        if not mask or not self.differentiable or not mode.recording:
            return wrap(y) if self.outputs == 1 else tuple([wrap(a) for a in y])
        plan = self._plans.get(mask) or self._plan(mask)
        saved = [keep(arrays) for _, _, keep in plan]
        node = new_node(self, edges, y.shape if self.outputs == 1 else [a.shape for a in y], plan, saved, mask)
        if watched:
            _watch_node(node, arrays)
        if self.outputs == 1:
            return wrap(y, node)
        return tuple([wrap(a, node, i) if a.dtype.kind in FLOATS else wrap(a) for i, a in enumerate(y)])

    def _call_variadic(self, tensors, kwargs):
        """An op over any number of arrays (`cat`): the parameters after them are keywords; one rule for all."""
        if modes.watched and mode.autocast is not None:
            tensors = mode.autocast.arguments(self, tensors)
        arrays = [value(x) for x in tensors]
        mask = sum(1 << i for i, x in enumerate(tensors) if isinstance(x, Tensor) and x.requires_grad)
        try:
            y = self.forward(*arrays, **kwargs)
        except FAULTS as fault:
            raise self._explained(fault, arrays) from None
        if not any(isinstance(x, Tensor) for x in tensors):
            return y
        if modes.tape_here() is not None:
            modes.tape.variadic(self, arrays, kwargs, y)
        if not (mask and mode.recording and self.rules):
            return wrap(y)
        rule, sources = self.rules[None]
        known = {**kwargs, "shapes": [a.shape for a in arrays], "y": y, "xs": tuple(arrays)}
        edges = [edge(x) if isinstance(x, Tensor) else None for x in tensors]
        saved = [{name: known[name] for name in sources.names if name in known}]
        return wrap(y, new_node(self, edges, y.shape, [(None, rule, None)], saved, mask))

    def _bind(self, args, kwargs):
        bound = list(args)
        for name, default in zip(self.names[len(args) :], self.defaults[len(args) :]):
            x = kwargs.pop(name, default) if kwargs else default
            if x is inspect.Parameter.empty:
                raise ArgumentError(f"{self.name}: the argument {name!r} is missing")
            bound.append(x)
        if kwargs or len(bound) != self.arity:
            raise misfit(self.forward, f"{len(bound)} arguments were given", kwargs)
        return bound

    def _agree(self, arrays):
        """Element-wise operands of one type. Python numbers and NumPy constants take the tensor's; see `promote`."""
        a, b = arrays[0], arrays[1]
        array, number = (a, b) if type(a) is ndarray else (b, a)
        if type(array) is ndarray and array.dtype.kind in FLOATS and (type(number) is float or type(number) is int):
            return arrays
        return promote(self.name, arrays)

    def _plan(self, mask):
        """Which rules run when the arguments in `mask` want gradients, and what to keep for each."""
        plan = []
        for i in self.rules or ():
            if i is None or mask >> i & 1:
                rule, sources = self.rules[i]
                plan.append((i, rule, sources.keep))
        if not self.composed:  # the definition needs every argument
            plan.append((-1, None, operator.itemgetter(slice(0, self.arity))))
        self._plans[mask] = plan
        return plan

    def _explained(self, fault, arrays):
        """What the array library said, with the op's name and its arguments' shapes."""
        if isinstance(fault, MinigenError):
            return named(fault, self.name)
        shown = ", ".join(describe(x) for x in arrays)
        if isinstance(fault, MemoryError):
            return out_of_memory(self.name, shown, fault)
        if len({device_of(x) for x in arrays if is_array(x)}) > 1:
            where = ", ".join(f"{describe(x)} on {device_of(x)}" if is_array(x) else describe(x) for x in arrays)
            return DeviceError(f'{self.name}: {where}\n  all must be on one device: write x.to("cuda"), or x.cpu()')
        if "broadcast" in str(fault):
            return ShapeError(
                f"{self.name}: {shown} do not broadcast\n"
                f"  counted from the last, their dimensions must be equal, or one of them 1 or missing"
            )
        kind = (
            ShapeError if isinstance(fault, ValueError) else DimError if isinstance(fault, IndexError) else DtypeError
        )
        return kind(f"{self.name}: cannot take {shown}\n  {fault}")

    def _watch(self, args, values):
        """For detect_anomaly and a tape: the op was called with `args`; `values` are [*arguments, y, *saves]."""
        if modes.anomaly:
            check_forward(self.name, values[self.arity], values[: self.arity])
        if modes.tape_here() is not None:
            modes.tape.forward(self, args, values)

    def _by_definition(self, args):
        if self.define is None:
            raise DtypeError(f"{self.name}: no kernel takes {', '.join(describe(x) for x in args)}")
        if mode.autocast is not None:
            return mode.autocast.defined(self, args)
        return self.defined(*args)

    def defined(self, *args):
        """What the definition gives."""
        return widened(self.define, args) if modes.bfloat16 else self.define(*args)

    # Going back

    def backward(self, node, g, walk, wanted):
        """[(argument index, gradient), ...] given the gradient of the output; `wanted` has the bits to compute."""
        if self.variadic:
            return self._backward_variadic(node, g, walk)
        if not self.rules or (not self.composed and (walk.create_graph or not kernels.enabled())):
            return self._backward_by_definition(node, g, walk, wanted)
        found, tape = [], None if modes.tape is None or walk.create_graph else modes.tape_here()
        for (index, rule, _), saved in zip(node.plan, node.saved):
            if index == -1 or (index is not None and not wanted >> index & 1):
                continue
            sources = self.rules[index][1]
            if walk.create_graph:
                saved = sources.as_tensors(saved, node, self.arity)
            asked = {}
            if sources.wants_needs:
                asked["needs"] = tuple([bool(wanted >> i & 1) for i in range(self.arity)])
                if sources.wants_into:
                    asked["into"] = tuple([walk.room(where) for where in node.edges])
            if tape is None:
                result = rule(g, *saved, **asked)
            else:
                result = tape.rule(node, index, rule, sources, g, saved, asked)
            if index is not None:
                found.append((index, result))
            else:
                found.extend(enumerate(result) if type(result) is tuple else [(0, result)])
        return found

    def _backward_variadic(self, node, g, walk):
        (_, rule, _), saved = node.plan[0], node.saved[0]
        if walk.create_graph:
            saved = dict(saved)
            if "xs" in saved:
                saved["xs"] = tuple(reconnect(x, e) for x, e in zip(saved["xs"], node.edges))
            if "y" in saved:
                saved["y"] = wrap(saved["y"], node)
        elif modes.tape_here() is not None:
            return list(enumerate(modes.tape.variadic_rule(node, rule, g, saved)))
        return list(enumerate(rule(g, **saved)))

    def _backward_by_definition(self, node, g, walk, wanted):
        """Recompute the op from its definition, recording, and differentiate that."""
        arguments = [reconnect(x, e) if is_array(x) else x for x, e in zip(node.saved[-1], node.edges)]
        return walk.differentiate(self.defined, arguments, g, wanted)

    def __repr__(self):
        return f"<op {self.name}({', '.join(self.names)})>"


class Binary(Op):
    """An element-wise op of two operands. Programs call these most, so the general call is written out for two.

    on_gpu    computes it of CuPy's arrays, if CuPy does not do so best
    mixed     under autocast, an op that takes float32 beside 16 bits in one pass
    """

    on_gpu = mixed = None

    def __call__(self, a, b):
        watched = modes.watched
        if watched and mode.autocast is not None:
            if self.mixed is not None and mode.autocast.mixes(a, b):
                return self.mixed(a, b)
            a, b = mode.autocast.arguments(self, (a, b))
        x = a.data if (tensor_a := type(a) is Tensor or isinstance(a, Tensor)) else a
        y = b.data if (tensor_b := type(b) is Tensor or isinstance(b, Tensor)) else b
        forward = self.forward
        if type(x) is not ndarray or type(y) is not ndarray or x.dtype is not y.dtype:
            x, y = self._agree((x, y))
            if type(x) is not ndarray and type(y) is not ndarray and (is_array(x) or is_array(y)):  # on the GPU
                forward = self.on_gpu or functools.partial(in_order, forward)
        try:
            out = forward(x, y)
        except FAULTS as fault:
            raise self._explained(fault, (x, y)) from None
        if watched and modes.bfloat16:
            out = kept(self, (x, y), out)
        if not tensor_a and not tensor_b:
            return out
        if type(out) is not ndarray and isinstance(out, np.generic):
            out = np.asarray(out)
        if watched:
            self._watch((a, b), (x, y, out))
        mask = 0
        from_a = from_b = None
        if tensor_a and a.requires_grad:
            mask = 1
            from_a = edge(a)
        if tensor_b and b.requires_grad:
            mask += 2
            from_b = edge(b)
        if not mask or not self.differentiable or not mode.recording:
            return wrap(out)
        plan = self._plans.get(mask) or self._plan(mask)
        values = x, y, out
        node = new_node(self, (from_a, from_b), out.shape, plan, [keep(values) for _, _, keep in plan], mask)
        if watched:
            _watch_node(node, values)
        return wrap(out, node)


def _watch_node(node, values):
    if modes.anomaly:
        node.trace = traceback.extract_stack(limit=12)
    if modes.tape_here() is not None:
        modes.tape.node(node, values)
    if modes.bfloat16:
        watch(node, values[node.op.arity])


class _Sources:
    """What a gradient rule asked for by name, and how to pick it from [*arguments, y, *saves]."""

    __slots__ = ("keep", "names", "places", "wants_into", "wants_needs")

    def __init__(self, names, places):
        self.names = names
        self.places = places
        self.wants_needs = "needs" in names
        self.wants_into = "into" in names
        shaped = [place for place in places if isinstance(place, tuple)]
        if shaped and len(places) == 1:
            ((_, only),) = shaped
            self.keep = lambda values: (getattr(values[only], "shape", None),)
        elif shaped:
            self.keep = lambda values: [
                values[p] if type(p) is int else getattr(values[p[1]], "shape", None) for p in places
            ]
        elif len(places) == 1:
            self.keep = operator.itemgetter(slice(places[0], places[0] + 1))
        elif places:
            self.keep = operator.itemgetter(*places)
        else:
            self.keep = lambda values: ()

    def as_tensors(self, saved, node, arity):
        """The same, with arrays that belong to the graph made tensors of it again."""
        tensors = []
        for place, x in zip(self.places, saved):
            if isinstance(place, tuple):
                tensors.append(x)
            elif place < arity:
                tensors.append(reconnect(x, node.edges[place]) if is_array(x) else x)
            elif place == arity and node.op.outputs > 1:
                tensors.append(tuple([wrap(a, node, i) for i, a in enumerate(x)]))
            elif place == arity:
                tensors.append(wrap(x, node))
            else:
                tensors.append(wrap(x) if is_array(x) else x)
        return tensors
