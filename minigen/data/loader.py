"""The DataLoader: shuffled batches in an order fixed by a seed, fetched in the background if wished.

    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True, generator=Generator(0))
    for x, y in loader: ...

The order of epoch e is a function of one number (drawn from `generator` when the loader is made) and of e, and of
nothing else. So it does not matter what other code draws in between, and `state_dict()` is three integers: resuming in
the middle of an epoch goes on with the very next batch.
"""

from collections import deque

import numpy as np

from .. import random
from ..errors import ArgumentError, expect
from ..tensor import as_tensor
from .collate import default_collate


class DataLoader:
    """Batches of `dataset`, over and over: each `for` loop over it is one epoch.

    batch_size       rows a batch
    shuffle          a new order every epoch; otherwise the order of the dataset
    drop_last        leave out a last batch that is smaller
    generator        a minigen.random.Generator; the default one if None. One number is drawn from it, here.
    collate_fn       list of rows -> batch; `default_collate` if None
    num_workers      threads that fetch ahead. 0 fetches when asked. The order of the batches is the same for any
                     number. Threads, not processes: they help where rows wait for a disk or for Pillow, NumPy or zlib,
                     which let other threads run. With more than one, `dataset[i]` is called from several at once.
    prefetch_factor  batches each thread may be ahead

    What a worker raises is raised in the loop that asked, with the worker's own traceback. Leaving the loop early stops
    the workers.
    """

    def __init__(
        self,
        dataset,
        batch_size=1,
        shuffle=False,
        *,
        generator=None,
        drop_last=False,
        collate_fn=None,
        num_workers=0,
        prefetch_factor=2,
    ):
        indexable = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        expect(indexable, "DataLoader: a dataset has a length and an index", dataset, error=ArgumentError)
        _whole("batch_size", batch_size, 1)
        _whole("num_workers", num_workers, 0)
        _whole("prefetch_factor", prefetch_factor, 1)
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.collate_fn = collate_fn
        self.num_workers = int(num_workers)
        self.prefetch_factor = int(prefetch_factor)
        self._seed = int((generator or random.default_generator).integers(0, 2**62, ())) if shuffle else 0
        self._epoch = 0
        self._batch = 0  # batches of this epoch that were handed out
        self._resumed = False  # whether the next loop continues at self._batch rather than at a new epoch

    def __len__(self):
        """Batches in an epoch."""
        rows = len(self.dataset)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self):
        if self._batch and not self._resumed:  # the loop before was left early: this one is a new epoch
            self._epoch, self._batch = self._epoch + 1, 0
        self._resumed = False
        return self._run(self._epoch, self._batch)

    def state_dict(self):
        """Where the loader stands: {"seed", "epoch", "batch"}, three integers. `batch` counts the batches handed out,
        the one that the loop is now working on included."""
        return {"seed": self._seed, "epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state):
        """Stand where `state` says: the next loop goes on with the batch after it (perhaps none) of that epoch."""
        expect(
            {"seed", "epoch", "batch"} <= set(state),
            "DataLoader.load_state_dict: a state has the keys seed, epoch and batch",
            sorted(state),
            error=ArgumentError,
        )
        expect(
            0 <= state["batch"] <= len(self),
            f"DataLoader.load_state_dict: this loader has {len(self)} batches an epoch; the state is of another",
            state,
            error=ArgumentError,
        )
        self._seed, self._epoch, self._batch = int(state["seed"]), int(state["epoch"]), int(state["batch"])
        self._resumed = True

    def order(self, epoch):
        """The rows of `epoch` in the order they are served, an int64 array."""
        rows = len(self.dataset)
        return random.Generator(self._seed).fork(epoch).permutation(rows) if self.shuffle else np.arange(rows)

    def _run(self, epoch, start):
        order, size, batches = self.order(epoch), self.batch_size, len(self)
        parts = (order[i * size : (i + 1) * size] for i in range(start, batches))
        fetched = self._ahead(parts) if self.num_workers else map(self._fetch, parts)
        try:
            for i, batch in enumerate(fetched, start + 1):
                self._epoch, self._batch = epoch, i
                yield batch
            self._epoch, self._batch = epoch + 1, 0
        finally:
            if self.num_workers:
                fetched.close()

    def _fetch(self, indices):
        if self.collate_fn is None and hasattr(self.dataset, "batch"):
            fields = self.dataset.batch(indices)
            return tuple(map(as_tensor, fields)) if isinstance(fields, tuple) else as_tensor(fields)
        return (self.collate_fn or default_collate)([self.dataset[int(i)] for i in indices])

    def _ahead(self, parts):
        """The batches of `parts`, in order, while the workers fetch those that come next."""
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="minigen-loader")
        waiting = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(self._fetch, part))
                if len(waiting) > self.num_workers * self.prefetch_factor:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _whole(name, value, least):
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    rule = f"DataLoader: {name} is a whole number, {least} or more"
    expect(whole and value >= least, rule, value, error=ArgumentError)
