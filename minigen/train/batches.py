"""An endless stream of batches that knows where it stands."""

from ..errors import ArgumentError


class Batches:
    """Batches for ever: from something to loop over again and again, or from a function that makes one.

    state_dict() says where the stream stands. A source with a `state_dict` of its own (a DataLoader) is asked; any
    other is looped over again up to that place, so it must give the same batches every time.
    """

    def __init__(self, source):
        self.make = source if callable(source) and not hasattr(source, "__iter__") else None
        if self.make is None and not hasattr(source, "__iter__"):
            raise ArgumentError(
                f"batches: a {type(source).__name__} is neither something to loop over nor a function\n"
                "  give a DataLoader, a list of batches, or lambda: a_new_batch()"
            )
        self.source = source
        self.count = 0  # batches of this pass that were handed out
        self.loop = None

    def __next__(self):
        if self.make is not None:
            return self.make()
        while True:
            fresh = self.loop is None and self.count == 0
            if self.loop is None:
                self.loop = iter(self.source)
            for batch in self.loop:
                self.count += 1
                return batch
            if fresh or self.loop is self.source:
                raise ArgumentError(
                    f"batches: there are no more after {self.count}\n"
                    "  give something that can be looped over again: a list or a DataLoader, not a generator"
                )
            self.loop, self.count = None, 0

    def state_dict(self):
        if self.make is not None:
            return {}
        own = {"source": self.source.state_dict()} if hasattr(self.source, "state_dict") else {}
        return {"count": self.count, **own}

    def load_state_dict(self, state):
        if self.make is not None:
            return
        self.count, self.loop = state["count"], iter(self.source)
        if "source" in state:
            self.source.load_state_dict(state["source"])
            self.loop = None
        else:
            for _ in range(self.count):
                next(self.loop, None)


def length(batch):
    """How many samples a batch holds, by the first array in it; None if that cannot be seen."""
    while isinstance(batch, (tuple, list, dict)) and len(batch):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    shape = getattr(batch, "shape", ())
    return shape[0] if len(shape) else None
