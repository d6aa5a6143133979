"""A step count in device memory, which a captured step counts on by itself, and which a skipped one leaves alone."""

import numpy as np

from .. import device, kernels
from ..device import xp


class Counter:
    """A float64 array of one number where the host keeps an int. Those who share a Counter are counted together."""

    def __init__(self, steps, like):
        graph = device.capturing
        if graph is not None:
            graph.refuse_new("an optimiser updates a parameter for the first time")
        self.array = xp(like).full((), steps, np.float64)
        self.like = like

    def count(self, skip):
        """One more, unless `skip` (a float32 array, or None) is not 0."""
        family = kernels.find(self.like, "numbers")
        if family is not None:
            family.count(self.array, skip)
        else:
            self.array += 1.0 if skip is None else skip == 0


def counted(steps, flat):
    """A step count after one more step: an int, or the Counter that it becomes where the host cannot know it."""
    if isinstance(steps, Counter) or flat.skip is not None or device.capturing is not None:
        steps = steps if isinstance(steps, Counter) else Counter(steps, flat.data)
        steps.count(flat.skip)
        return steps
    return steps + 1
