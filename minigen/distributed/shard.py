"""Each process's part of a loader's batches: of `size` processes, number r takes rows r, r + size, r + 2 size, ..."""

from ..data.loader import DataLoader
from ..errors import ArgumentError, expect


class Shard(DataLoader):
    """The loader as rank `rank` of `size` sees it: the same batches in the same order, a `size`-th of each.

    The rows of all ranks together are the batch that one process would have had. So the batch size, and what is left
    for the last batch of an epoch, must divide by `size`; otherwise ArgumentError says what to write. The state is the
    loader's own: a run may be resumed with another number of processes.
    """

    def __init__(self, loader, rank, size):
        expect(isinstance(loader, DataLoader), "shard: takes a DataLoader", loader, error=ArgumentError)
        left = 0 if loader.drop_last else len(loader.dataset) % loader.batch_size
        for rows, what in [(loader.batch_size, "a batch"), (left, "the last batch of an epoch")]:
            expect(
                rows % size == 0,
                f"shard: {what} of {rows} rows does not divide among {size} processes",
                error=ArgumentError,
                hint=f"write batch_size as a multiple of {size}, and drop_last=True",
            )
        self.__dict__.update(loader.__dict__)
        self.rank, self.size = rank, size

    def _fetch(self, indices):
        return super()._fetch(indices[self.rank :: self.size])
