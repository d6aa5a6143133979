"""Activations and their gradients, in one pass each: activations.cu.

    activation("gelu", x)                      y
    activation_gradient("gelu", g, x)          dL/dx from g = dL/dy; "sigmoid", "tanh" and "exp" take y for x

p and q are what the function takes besides x: leaky_relu's slope, elu's alpha, softplus's beta and threshold.
"""

from .compile import FLOATS, Source, library
from .elementwise import dense, grid, like

TYPES = FLOATS
KERNELS = Source("activations.cu")
BEHIND = "relu", "gelu", "gelu_tanh", "silu", "mish"  # those that other kernels may apply on their way: activations.cuh


def sources(file, *options):
    """{activation: the kernels of a .cu file that apply it; None: those that apply none}."""
    applied = {name: Source(file, f"-DACTIVATION={name}", *options) for name in BEHIND}
    return {None: Source(file, *options), **applied}


def activation(name, x, p=0.0, q=0.0):
    """The activation `name` of every element of x, in x's memory order."""
    x = dense(x)
    y = library(x).empty_like(x)
    KERNELS.run(f"{name}_value", (x.dtype,), *grid(x.size, x.dtype), x, y, x.size, float(p), float(q))
    return y


def activation_gradient(name, g, x, p=0.0, q=0.0):
    """dL/dx from g = dL/dy and x (y for "sigmoid", "tanh" and "exp")."""
    x = dense(x)
    g, gx = like(g, x), library(x).empty_like(x)
    KERNELS.run(f"{name}_gradient", (x.dtype,), *grid(x.size, x.dtype), g, x, gx, x.size, float(p), float(q))
    return gx
