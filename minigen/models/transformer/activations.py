"""Activations by the names that published configurations give them."""

from ...nn import functional as F
from ...ops.elementary import sigmoid, tanh

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x) ** 2,
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "tanh": tanh,
    "sigmoid": sigmoid,
}
# of these, those that a linear layer applies in the same pass, by the name that it gives them
BEHIND = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "swish": "silu"}
BEHIND |= {name: name for name in ("gelu", "relu", "silu", "mish")}
