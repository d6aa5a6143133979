"""The walk back through the graph, newest node first."""

import heapq
import operator
import sys

from numpy import ndarray

from ..device import xp
from ..errors import GradientError
from ..tensor import Tensor, clock, float32, is_writable, value, wrap
from . import modes
from .anomaly import check_backward
from .graph import Node, alias, check_unwritten, edge
from .modes import Recording, enable_grad
from .order import added, added_to, in_order


class Walk:
    """One pass from outputs back to leaves, newest node first.

    Nodes are numbered as they are made, so the newest of those waiting has received all of its gradient: every node
    that feeds on it is newer. The walk needs no recursion, and pops each gradient as it uses it.

    targets   tensors whose gradients are collected in `results`; None: leaves accumulate into `.grad`
    outer     the walk that this one is inside of: nodes made before `since`, and other leaves, are handed to it
    """

    def __init__(self, targets=None, create_graph=False, retain_graph=False, outer=None, since=0):
        self.since = since
        self.create_graph = create_graph
        self.retain_graph = retain_graph or create_graph
        self.outer = outer
        self.targets = targets
        self.results = None if targets is None else [None] * len(targets)
        self.leaves = {}  # id of a leaf target -> its places in results
        self.stops = {}  # (order, slot) of a target that a node made -> its places in results
        for i, x in enumerate(targets or ()):
            if x.node is None:
                self.leaves.setdefault(id(x), []).append(i)
            else:
                self.stops.setdefault((x.node.order, x.slot), []).append(i)
        self.hooked = {}  # leaves with hooks wait for their whole gradient: id -> [leaf, gradient]
        self.pending = {}
        self.heap = []
        self.reach = None

    def differentiate(self, function, arguments, g, wanted):
        """[(index, gradient), ...] of `function(*arguments)`, by running it again, recording.

        For second derivatives of fused ops, and for `checkpoint`. Arguments enter as leaves, or as aliases where the
        result must stay connected, so that the walk inside stops at them even where one was made from another. What
        else the function reaches (the parameters of a checkpointed module) receives its gradient from this walk.
        """
        since = clock.now
        with enable_grad():
            inputs = []
            for x in arguments:
                if not (isinstance(x, Tensor) and x.requires_grad):
                    inputs.append(x)
                else:
                    inputs.append(alias(x) if self.create_graph else Tensor(x.data, requires_grad=True))
            out = function(*inputs)
        outs, gs = (out, g) if isinstance(out, tuple) else ((out,), (g,))
        roots = [(y, gy) for y, gy in zip(outs, gs) if gy is not None and y.requires_grad]
        places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad and wanted >> i & 1]
        inner = Walk([inputs[i] for i in places], self.create_graph, self.retain_graph, outer=self, since=since)
        inner.run(roots)
        return list(zip(places, inner.results))

    def run(self, roots):
        """Walk back from [(tensor, gradient), ...]."""
        if self.targets is not None and self.outer is None:
            self.reach = _reaching(roots, self.leaves, self.stops)
        if modes.watcher is not None and self.targets is None:
            modes.watcher.begin(roots)
            if modes.tape_here() is not None:
                modes.tape.refuse("gradients are sent to other processes as they arrive")
        recording = Recording(self.create_graph)
        with recording:
            for y, g in roots:
                self._send(edge(y), g)
            heap, pending = self.heap, self.pending
            pop = heapq.heappop
            while heap:
                node, g = pending.pop(pop(heap))
                self._visit(node, g)
            for leaf, g in self.hooked.values():
                for hook in leaf.hooks:
                    g = _hooked(hook, g, self.create_graph)
                self._arrive(leaf, g)

    def _visit(self, node, g):
        if node.hooks:
            g = self._run_hooks(node, g)
        if self.stops and self._collect(node, g) and self.outer is not None:
            return
        edges = node.edges
        if edges is None:
            raise GradientError(
                f"the graph was walked once already, and what {node.name} had saved is freed\n"
                f"  write backward(retain_graph=True) the first time, or compute the loss again"
            )
        wanted = node.mask if self.reach is None else self._wanted(node)
        if not wanted:
            return
        if clock.last_write > node.order:
            check_unwritten(node)
        if node.op.simple and not self.create_graph and not (modes.watched and (modes.anomaly or modes.tape)):
            for (i, rule, _), saved in zip(node.plan, node.saved):
                if wanted >> i & 1:
                    if type(g) is ndarray or not node.op.prepares:
                        found = rule(g, *saved)
                    else:  # on the GPU
                        found = in_order(rule, g, *saved)
                    self._send(edges[i], found)
        else:
            gradients = node.op.backward(node, g, self, wanted)
            if modes.anomaly:
                check_backward(node, gradients)
            gradients.reverse()
            while gradients:
                i, found = gradients.pop()  # so that nothing but `found` holds it: see ALONE
                if found is not None and wanted >> i & 1:
                    self._send(edges[i], found)
        if not self.retain_graph:
            node.edges = node.saved = None

    def _send(self, where, g):
        """Add `g` to what waits for a node, or hand it to a leaf."""
        if type(where) is Node:
            if g.shape != where.shape:
                g = sum_to(g, where.shape)
            if where.order <= self.since:
                self.outer._send(where, g)
                return
            key = -where.order
            pending = self.pending
            if key in pending:
                pending[key] = where, _plus(pending[key][1], g)
            else:
                pending[key] = where, g
                heapq.heappush(self.heap, key)
        elif type(where) is tuple:
            node, slot = where
            if g.shape != node.shape[slot]:
                g = sum_to(g, node.shape[slot])
            if node.order <= self.since:
                self.outer._send(where, g)
                return
            key = -node.order
            if key not in self.pending:
                self.pending[key] = node, [None] * node.op.outputs
                heapq.heappush(self.heap, key)
            gs = self.pending[key][1]
            gs[slot] = g if gs[slot] is None else _plus(gs[slot], g)
        else:
            alone = sys.getrefcount(g) <= ALONE
            if g.shape != where.data.shape:
                g = sum_to(g, where.data.shape)
            if where.hooks and (self.targets is None or id(where) in self.leaves):
                waiting = self.hooked.get(id(where))
                self.hooked[id(where)] = [where, g if waiting is None else _plus(waiting[1], g)]
            else:
                self._arrive(where, g, alone)

    def room(self, where):
        """Where the gradient of a leaf may be written at once: its optimiser's memory for it, if that is free.

        The leaf may be a float32 weight behind a cast to 16 bits: rules sum in float32 anyhow.
        """
        if self.targets is not None or self.create_graph:
            return None
        leaf = where if isinstance(where, Tensor) else narrowed_leaf(where)
        return None if leaf is None else free_memory(leaf)

    def _arrive(self, leaf, g, alone=False):
        """A leaf receives a gradient. alone: only this walk holds it, so that the leaf may have the array itself."""
        if self.targets is not None:
            places = self.leaves.get(id(leaf))
            if places is not None:
                for i in places:
                    self.results[i] = g if self.results[i] is None else _plus(self.results[i], g)
            elif self.outer is not None:
                self.outer._send(leaf, g)
        else:
            if clock.gradients is not None:
                clock.gradients.arrives(leaf)
            if modes.tape is None or modes.tape_here() is None:
                if alone and leaf.grad is None and leaf.buffer is None and owns_memory(g, leaf.data):
                    leaf.grad = wrap(g)
                else:
                    accumulate(leaf, g)
            else:
                modes.tape.arrived(leaf, g)
            if modes.watcher is not None:
                modes.watcher.arrived(leaf)

    def _collect(self, node, g):
        """Keep the gradient of a target that `node` made. Whether it made one."""
        found = False
        for slot, part in [(None, g)] if node.op.outputs == 1 else enumerate(g):
            for i in self.stops.get((node.order, slot), ()):
                self.results[i], found = part, True
        return found

    def _wanted(self, node):
        wanted = 0
        for i, where in enumerate(node.edges):
            if where is not None:
                key = where if type(where) is Node else where[0] if type(where) is tuple else where
                if id(key) in self.reach:
                    wanted |= 1 << i
        return wanted

    def _run_hooks(self, node, g):
        for slot, hook in node.hooks:
            if node.op.outputs == 1:
                g = _hooked(hook, g, self.create_graph)
            elif g[slot] is not None:
                g[slot] = _hooked(hook, g[slot], self.create_graph)
        return g


def _reaching(roots, leaves, stops):
    """The ids of the nodes and leaves from which a target can be reached: the rest of the graph is not walked.

    None (walk everything) where a checkpointed block hides part of the graph.
    """
    reach, seen = set(), {}
    stack = [edge(y) for y, _ in roots]
    stack = [w[0] if type(w) is tuple else w for w in stack if w is not None]
    stop_orders = {order for order, _ in stops}
    while stack:
        where = stack[-1]
        key = id(where)
        if type(where) is not Node:
            stack.pop()
            if key in leaves:
                reach.add(key)
            continue
        if where.op.hides:
            return None
        if where.edges is None:  # freed by an earlier walk: let the walk come here and say so
            reach.add(key)
        inputs = [w[0] if type(w) is tuple else w for w in where.edges or () if w is not None]
        if key not in seen:
            seen[key] = where
            stack.extend(w for w in inputs if id(w) not in seen)
        else:
            stack.pop()
            if where.order in stop_orders or any(id(w) in reach for w in inputs):
                reach.add(key)
    return reach


def _references():
    found = object()
    return _references_to(found)


def _references_to(g):
    return sys.getrefcount(g)


ALONE = _references()  # Python's count for an array that only a variable of the caller and one of the callee refer to


def owns_memory(g, data):
    """Whether g, to which nothing else refers, is an array like `data`, and all of its memory is g's own."""
    if type(g) is not type(data) or g.dtype != data.dtype:
        return False
    if g.base is None:
        return True
    return type(g.base) is type(g) and g.base.size == g.size and sys.getrefcount(g.base) <= 2 and is_writable(g)


def narrowed_leaf(where):
    """The float32 leaf that the node `where` casts to 16 bits, or None."""
    if type(where) is not Node or where.op.name != "cast" or where.edges is None:
        return None
    leaf, (dtype, before) = where.edges[0], where.saved[0]
    return leaf if isinstance(leaf, Tensor) and before == float32 and dtype.itemsize == 2 else None


def free_memory(leaf):
    """The memory that an optimiser has for this leaf's gradient, if a rule may write there at once; else None."""
    if leaf.buffer is None or leaf.hooks or leaf.grad is not None or sys.getrefcount(leaf.buffer) > 2:
        return None  # the last: someone keeps an older gradient (`accumulate`), or a newer one has yet to arrive
    return leaf.buffer


def accumulate(leaf, g):
    """Add `g` to `leaf.grad`, in memory that is the leaf's own."""
    if isinstance(g, Tensor) and g.requires_grad:  # create_graph: the gradient stays part of the graph
        leaf.grad = g if leaf.grad is None else leaf.grad + g
        return
    g = value(g)
    if leaf.grad is not None:
        if leaf.grad.node is None:
            leaf.grad.data = added_to(leaf.grad.data, g)
        else:
            leaf.grad = leaf.grad + wrap(g)
    elif g is leaf.buffer:  # a rule wrote it there; see Walk.room
        leaf.grad = wrap(g)
    elif leaf.buffer is not None and sys.getrefcount(leaf.buffer) <= 2:  # else someone keeps an older gradient
        leaf.buffer[...] = g
        leaf.grad = wrap(leaf.buffer)
    else:
        leaf.grad = wrap(xp(g).array(g, dtype=leaf.data.dtype, order="K"))


def _plus(a, b):
    if modes.tape_here() is None or isinstance(a, Tensor) or isinstance(b, Tensor):
        return a + b if type(a) is ndarray or isinstance(a, Tensor) else added(a, b)
    return modes.tape.perform(operator.add, a, b)


def sum_to(g, shape):
    """Undo broadcasting: sum `g` over the dimensions that were stretched, back to `shape`."""
    if modes.tape_here() is not None and not isinstance(g, Tensor):
        return modes.tape.perform(sum_to, g, shape)
    lead = g.ndim - len(shape)
    dims = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1)
    if dims:
        g = g.sum(dims, keepdim=True) if isinstance(g, Tensor) else g.sum(axis=dims, keepdims=True)
    return g.reshape(shape)


def _hooked(hook, g, create_graph):
    result = hook(g if isinstance(g, Tensor) else wrap(g))
    if result is None:
        return g
    return result if create_graph else value(result)
