"""Trading time for memory: keep a block's inputs, and compute its inside again on the way back."""

import contextlib
import functools

from .. import random
from ..device import is_array
from ..errors import DtypeError
from ..tensor import Tensor, value, wrap
from .graph import edge, new_node, reconnect
from .modes import is_grad_enabled, no_grad


class _Recompute:
    """The op of a checkpointed block: it keeps the inputs and the function, and runs the function again."""

    name = "checkpoint"
    simple = False
    hides = True  # what the function captured is not among its edges
    outputs = 1
    names = ()
    variadic = True

    @staticmethod
    def backward(node, g, walk, wanted):
        function, arguments, restore = node.saved
        arguments = [reconnect(x, e) if is_array(x) else x for x, e in zip(arguments, node.edges)]
        with restore():
            return walk.differentiate(function, arguments, g, wanted)


_recompute = _Recompute


def checkpoint(function, *args, preserve_random=True):
    """`function(*args)`, keeping only `args`: the inside is computed again on the way back (Chen et al. 2016).

    Memory falls from every op inside to the inputs, for one more forward pass. `function` returns one tensor and must
    do the same both times; the default generator is put back to where it was, so dropout draws the same mask.
    """
    restore = functools.partial(_replaying, random.default_generator.get_state())
    with no_grad():
        out = function(*args)
    if not isinstance(out, Tensor):
        raise DtypeError(f"checkpoint: the function must return one tensor, got {type(out).__name__}")
    if not is_grad_enabled():
        return out
    edges = [edge(x) if isinstance(x, Tensor) else None for x in args]
    mask = sum(1 << i for i, e in enumerate(edges) if e is not None)
    saved = [function, [value(x) for x in args], restore if preserve_random else contextlib.nullcontext]
    return wrap(out.data, new_node(_recompute, edges, out.shape, None, saved, mask or 1 << len(args)))


@contextlib.contextmanager
def _replaying(state):
    """Inside the block the default generator draws again what it drew from `state` on."""
    generator = random.default_generator
    now = generator.get_state()
    generator.set_state(state)
    try:
        yield
    finally:
        generator.set_state(now)
