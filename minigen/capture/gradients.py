"""The gradients that a captured step finds in its leaves, and those that it leaves there.

A graph knows addresses only. Whether a gradient is the first of its leaf, and written, or comes to one that is there,
and is added to it, was settled while the step was captured; and where a replay leaves a gradient, `leaf.grad` in Python
knows nothing of it. So the graph is launched where each leaf's gradient is as it was then, and afterwards each leaf is
given what it then had: gradients may be gathered over several calls, and dropped between them.
"""

from ..tensor import clock, wrap

IN_BUFFER = object()  # the gradient lies where the leaf's optimiser wants it


class Gradients:
    """Watches the leaves to which gradients come inside the block."""

    def __enter__(self):
        self.leaves, self.found, self.set = {}, {}, set()
        self.before, clock.gradients = clock.gradients, self
        return self

    def __exit__(self, *_):
        clock.gradients = self.before
        self.left = [(leaf, memory_of(leaf)) for leaf in self.leaves.values()]

    def arrives(self, leaf):
        """The step adds to the leaf's gradient, or reads it."""
        key = id(leaf)
        if key not in self.leaves:
            self.leaves[key] = leaf
            if key not in self.set:
                self.found[key] = memory_of(leaf)

    def is_set(self, tensor, g):
        """The step writes tensor.grad = g: what stood there before does not matter to it."""
        self.set.add(id(tensor))

    def there(self):
        """Which of them there are."""
        return tuple([self.leaves[key].grad is not None for key in self.found])

    def fits(self):
        """Whether they are where the step found them."""
        return all([memory_of(self.leaves[key]) is memory for key, memory in self.found.items()])

    def leave(self):
        """Let them be where the step left them."""
        for leaf, memory in self.left:
            if memory_of(leaf) is not memory:
                leaf.grad = None if memory is None else wrap(leaf.buffer if memory is IN_BUFFER else memory)


def memory_of(leaf):
    """Where its gradient lies: an array, IN_BUFFER, or None."""
    if leaf.grad is None:
        return None
    array = leaf.grad.data
    return IN_BUFFER if array is leaf.buffer else array
