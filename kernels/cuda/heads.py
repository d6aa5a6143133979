"""How the attention kernels are compiled and launched: see attention.cuh.

q (B, H, T, D), k (B, G, S, D), v (B, G, S, E), which are read where they stand if their last stride is one element.
"""

from . import precision
from .compile import Source, contiguous
from .random import place

SIZES = (16, 32, 64, 96, 128)  # of a head, rounded up: each is compiled when it is first met
WIDEST = SIZES[-1]


def for_each_size(file, *options):
    """The file for each size of a head."""
    return {size: Source(file, f"-DHEAD={size}", *options) for size in SIZES}


class Files:
    """One file of attention.cuh's products, for each size of a head, in float32 and in TF32."""

    def __init__(self, file):
        self.of = {False: for_each_size(file), True: for_each_size(file, "-DTF32")}

    def __call__(self, q, v):
        """The file for these heads, and how many rows a block of it takes: 16 a warp."""
        size, narrow = head_size(q, v), q.dtype.itemsize == 2
        return self.of[not narrow and precision.tf32()][size], 64 if narrow or size <= 64 else 32


def head_size(q, v):
    """The least of SIZES that holds a head. Raises ValueError beyond WIDEST."""
    widest = max(q.shape[3], v.shape[3])
    if widest > WIDEST:
        raise ValueError(f"attention: heads of {q.shape[3]} and {v.shape[3]} numbers, more than {WIDEST}")
    return next(size for size in SIZES if size >= widest)


def unit_rows(*arrays):
    """Each as it is if its last stride is one element, else a copy."""
    return [x if x.strides[3] == x.itemsize or x.shape[3] == 1 else contiguous(x) for x in arrays]


def strides(*arrays, dims=3):
    """How many numbers lie between neighbours in each of the first `dims` dimensions; 0 of None."""
    return [0 if x is None else x.strides[d] // x.itemsize for x in arrays for d in range(dims)]


def numbers(q, k, v, mask, scale, causal, *more):
    """What the kernels of attention.cuh take last: sizes, scale, strides of q, k, v, `more` and mask."""
    sizes = q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]
    return *sizes, float(scale), int(causal), *strides(q, k, v, *more), *strides(mask, dims=4)


def dropout_of(drop):
    """What they take of dropout before: threshold (0 for none), factor, seed, stream, and the place of the first block.

    `first` is a number, or in a captured step a pair: so many blocks after the number in a uint64 array.
    """
    if drop is None:
        return 0, 1.0, 0, 0, 0, None
    threshold, factor, (seed, stream, first) = drop
    return int(threshold), float(factor), seed, stream, *place(first)
