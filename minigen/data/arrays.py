"""Where data meets tensors: the conversions that worlds, datasets and loaders share.

Worlds and files give NumPy arrays; a training loop wants tensors; a truth can be asked about either.
"""

import numpy as np

from ..device import is_array, xp
from ..tensor import Tensor


def as_array(value):
    """The array that `value` is or holds, left on its device and never copied; lists and numbers become NumPy's."""
    if isinstance(value, Tensor):
        return value.data
    return value if is_array(value) else np.asarray(value)


def as_numpy(value, dtype=None):
    """`value` as a NumPy array: a Tensor, a NumPy or CuPy array, a number, or nested lists of numbers."""
    array = as_array(value)
    return np.asarray(array if xp(array) is np else array.get(), dtype=dtype)
