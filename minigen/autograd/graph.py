"""The graph: a node for each recorded call of an op. A tensor points to the node that made it, never the other way."""

from ..device import is_array
from ..errors import GradientError
from ..tensor import clock, owner, wrap

_new = object.__new__


class Node:
    """One recorded call of an op: where its gradients go, and what its rules need to compute them.

    edges   for each argument: the node that made it, (node, slot) if that has several outputs, the tensor itself
            if it is a leaf, None if it wants no gradient
    shape   of the output (of each, if there are several): a gradient that comes back larger was broadcast
    plan    [(argument index, rule, ...), ...]: the rules to run, shared by all calls with the same `mask`
    saved   for each rule in the plan, what it asked for by name
    mask    bit i is set if argument i wants a gradient
    """

    __slots__ = ("__weakref__", "edges", "hooks", "mask", "op", "order", "plan", "saved", "shape", "trace")

    @property
    def name(self):
        return self.op.name

    def __repr__(self):
        return f"<node {self.order}: {self.name}>"


def new_node(op, edges, shape, plan, saved, mask):
    node = _new(Node)
    clock.now = node.order = clock.now + 1
    node.op = op
    node.edges = edges
    node.shape = shape
    node.plan = plan
    node.saved = saved
    node.mask = mask
    node.hooks = node.trace = None
    return node


def edge(tensor):
    """Where the gradient of `tensor` goes."""
    node = tensor.node
    if node is None:
        return tensor if tensor.requires_grad else None
    return node if tensor.slot is None else (node, tensor.slot)


def reconnect(array, where):
    """A tensor over a saved array, with the place in the graph that it had."""
    if where is None:
        return wrap(array)
    if isinstance(where, Node):
        return wrap(array, where)
    if isinstance(where, tuple):
        return wrap(array, *where)
    return where  # a leaf is its own edge


class _Alias:
    """The op of a node that only passes its gradient on: a place where a walk can stop."""

    name, outputs, simple, hides, prepares = "alias", 1, True, False, False

    @staticmethod
    def backward(node, g, walk, wanted):
        return [(0, g)]


def alias(tensor):
    """`tensor` again, as a node of its own."""
    plan = [(0, lambda g: g, None)]
    return wrap(tensor.data, new_node(_Alias, [edge(tensor)], tensor.shape, plan, [()], 1))


def check_unwritten(node):
    """Raise if an array that `node` saved was written in place after the node was made."""
    stack = list(node.saved)
    while stack:
        x = stack.pop()
        if isinstance(x, (tuple, list)):
            stack.extend(x)
        elif isinstance(x, dict):
            stack.extend(x.values())
        elif is_array(x):
            when, memory = clock.writes.get(id(owner(x)), (0, None))
            if when > node.order and memory() is owner(x):
                raise GradientError(
                    f"{node.name}: an array of shape {x.shape} that its gradient needs was written in place since\n"
                    f"  write to a copy (x = x.clone(); x.add_(...)), or compute without in-place writes (x = x + ...)"
                )
