"""Every differentiable operation, one file a kind. `methods.py` hangs them on Tensor and lists what is public."""

from . import methods
