"""minigen: a deep-learning engine small enough to read, and every generative model family built on it.

import minigen
from minigen import nn, optim
"""

import importlib
import warnings

from . import autograd, errors, ops
from .autograd import (
    detect_anomaly,
    enable_grad,
    is_grad_enabled,
    no_grad,
    op,
    set_grad_enabled,
)
from .device import cuda_available, get_float32_matmul_precision, set_float32_matmul_precision
from .ops.methods import PUBLIC as _PUBLIC
from .ops.methods import public as _public
from .random import Generator, manual_seed
from .tensor import (
    Parameter,
    Tensor,
    as_tensor,
    float16,
    float32,
    float64,
    floating_dtype,
    from_numpy,
    int8,
    int16,
    int32,
    int64,
    tensor,
    uint8,
)
from .tensor import bool_ as bool  # PyTorch's name

__version__ = "0.1.0"

# log(0) is -inf and 0/0 is NaN here, without a word, as on every GPU; `detect_anomaly` finds where one came from.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"minigen\.")

_LATER = (
    "bench",
    "checkpoint",
    "data",
    "faults",
    "linalg",
    "metrics",
    "models",
    "nn",
    "optim",
    "plot",
    "sampling",
)
_LATER += ("text", "train", "gradcheck", "kernels", "lessons", "random", "published", "distributed", "amp", "capture")

double, float, half, long, int = float64, float32, float16, int64, int32

for _module, _names in _PUBLIC.items():
    for _name in _names.split():
        globals()[_name] = _public(_module, _name)


def __getattr__(name):
    """Sub-packages come in when they are first named: `import minigen` stays quick."""
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "bfloat16":  # not one of NumPy's own types
        return floating_dtype(name)
    import difflib

    private = name.startswith("_")  # nobody's slip, but a library that looks for `__wrapped__` and the like
    near = [] if private else difflib.get_close_matches(name, [*globals(), *_LATER], n=1)
    raise AttributeError(f"minigen has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
