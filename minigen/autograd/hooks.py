"""Looking at a gradient as it passes, or changing it."""

import weakref

from ..errors import GradientError
from .walk import accumulate


def register_hook(tensor, hook):
    """Call `hook(gradient)` when the gradient of `tensor` is whole; a tensor it returns takes its place.

    Returns a handle; `handle.remove()` takes the hook away.
    """
    if not tensor.requires_grad:
        raise GradientError("register_hook: this tensor does not require a gradient")
    if tensor.node is None:
        tensor.hooks = [*(tensor.hooks or ()), hook]
        return HookHandle(tensor, hook)
    entry = tensor.slot, hook
    tensor.node.hooks = [*(tensor.node.hooks or ()), entry]
    return HookHandle(tensor.node, entry)


def retain_grad(tensor):
    """Let a tensor that an op made keep its `.grad` too."""
    if tensor.node is None:
        return
    reference = weakref.ref(tensor)

    def keep(g):
        if (kept := reference()) is not None:
            accumulate(kept, g)

    register_hook(tensor, keep)


class HookHandle:
    """Takes a hook away: `handle.remove()`."""

    def __init__(self, holder, entry):
        self.holder, self.entry = weakref.ref(holder), entry

    def remove(self):
        holder = self.holder()
        if holder is not None and holder.hooks:
            holder.hooks = [h for h in holder.hooks if h is not self.entry] or None
