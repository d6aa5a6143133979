"""Datasets: things with a length and an index.

    Dataset          what to subclass: `__len__` and `__getitem__`
    TensorDataset    arrays or tensors that share their first dimension
    Subset           some rows of a dataset
    ConcatDataset    datasets one after the other
    random_split     a dataset in parts, drawn without replacement

A dataset that can fetch many rows at once says so with a method `batch(indices)`, which takes an int64 array and
returns what the loader's collation of those rows would: one array a field. The loader then makes one indexing call a
batch instead of one a row: 0.2 ms rather than 0.6 for 64 images of 28x28.
"""

import numpy as np

from ..device import xp
from ..errors import ArgumentError, DimError, ShapeError, expect
from ..tensor import as_tensor
from .arrays import as_array


class Dataset:
    """Rows that can be counted and indexed. Subclass it and write `__len__` and `__getitem__(i)`."""

    def __len__(self):
        raise NotImplementedError(f"{type(self).__name__}: write __len__, the number of rows")

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__}: write __getitem__(index), which returns one row")


class TensorDataset(Dataset):
    """Arrays or tensors whose first dimension counts the rows; row i is a tuple of the i-th entries, as tensors.

    TensorDataset(images, labels)[0] -> (image, label)

    Raises ShapeError when the first dimensions differ. The arrays are not copied; the rows are.
    """

    def __init__(self, *tensors):
        expect(tensors, "TensorDataset: at least one array or tensor is needed", error=ArgumentError)
        self.arrays = tuple(as_array(t) for t in tensors)
        lengths = {a.shape[0] if a.ndim else None for a in self.arrays}
        expect(
            len(lengths) == 1 and None not in lengths,
            "TensorDataset: the arrays must share their first dimension, the rows",
            *self.arrays,
            error=ShapeError,
        )

    @property
    def tensors(self):
        """The same memory as tensors."""
        return tuple(as_tensor(a) for a in self.arrays)

    def __len__(self):
        return self.arrays[0].shape[0]

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            index = checked_index(index, len(self), "TensorDataset")
        return tuple(as_tensor(a[index].copy()) for a in self.arrays)

    def batch(self, indices):
        return tuple(a.take(xp(a).asarray(indices), axis=0) for a in self.arrays)


class Subset(Dataset):
    """The rows of `dataset` named by `indices`, in that order."""

    def __init__(self, dataset, indices):
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if hasattr(dataset, "batch"):
            self.batch = lambda rows: dataset.batch(self.indices[rows])

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.dataset[int(self.indices[checked_index(index, len(self), "Subset")])]


class ConcatDataset(Dataset):
    """Datasets one after the other, as one."""

    def __init__(self, datasets):
        self.datasets = list(datasets)
        expect(self.datasets, "ConcatDataset: at least one dataset is needed", error=ArgumentError)
        self.ends = np.cumsum([len(d) for d in self.datasets])

    def __len__(self):
        return int(self.ends[-1])

    def __getitem__(self, index):
        index = checked_index(index, len(self), "ConcatDataset")
        which = int(np.searchsorted(self.ends, index, side="right"))
        return self.datasets[which][index - (int(self.ends[which - 1]) if which else 0)]


def random_split(dataset, lengths, generator=None):
    """Split `dataset` at random into Subsets of the given sizes, without overlap.

    lengths    row counts that add up to len(dataset), or fractions that add up to 1 (what rounding down leaves over
               goes one row each to the first parts, as in PyTorch)
    generator  a minigen.random.Generator; the default one if None
    """
    from .. import random

    total, sizes = len(dataset), list(lengths)
    if sizes and all(0 <= s <= 1 for s in sizes) and abs(sum(sizes) - 1) < 1e-6:
        sizes = [int(total * s) for s in sizes]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
    expect(
        sum(sizes) == total and all(s == int(s) >= 0 for s in sizes),
        f"random_split: the lengths must add up to the {total} rows of the dataset, or be fractions that add up to 1",
        list(lengths),
        error=ArgumentError,
    )
    order = (generator or random.default_generator).permutation(total)
    cuts = np.cumsum([int(s) for s in sizes])[:-1]
    return [Subset(dataset, part) for part in np.split(order, cuts)]


def checked_index(index, length, name):
    """A row number in 0..length-1, counted from the end if negative. Raises DimError, which is an IndexError."""
    if not -length <= index < length:
        raise DimError(
            f"{name}: row {index} of {length}\n  rows are 0 to {length - 1}, or -{length} to -1 from the end"
        )
    return int(index) % length
