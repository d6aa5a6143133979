"""What a step finds before it computes: the modules that it calls, in their modes, with their hooks, and its tensors.

A captured step calls no module any more. So what a module would have looked at is looked at before each replay, and a
step that would now do something else is captured anew: after `model.eval()`, a hook more or less, a layer frozen, or
other memory under a parameter.
"""

import operator

from ..autograd import modes
from ..tensor import Tensor


class Found:
    """The modules that are called inside the block, and `tensors`, which whoever opens it may add to, as they stood
    when it ended: a step may change a mode and leave it so, and the next one finds what this one left.
    """

    def __enter__(self):
        self.before, modes.called = modes.called, {}
        self.tensors = []
        return self

    def __exit__(self, *_):
        self.modules, modes.called = list(modes.called.values()), self.before
        self.state = self.looked_at()

    def stands(self):
        """Whether a step would find the same."""
        state = self.looked_at()
        return len(state) == len(self.state) and all(map(operator.is_, state, self.state))

    def looked_at(self):
        """The objects that tell one state from another."""
        state, tensors = [], list(self.tensors)
        for module in self.modules:
            attributes = vars(module)
            state.append(attributes["training"])
            if attributes["_hooks"] is not None:
                state += [entry for entries in attributes["_hooks"].values() for entry in entries]
            tensors += [x for x in attributes.values() if isinstance(x, Tensor)]
        for x in tensors:
            state += x, x.data, x.requires_grad
        return state
