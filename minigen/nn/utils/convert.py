"""All parameters as one vector, and back."""

from ...device import xp
from ...errors import expect
from ...ops.joining import cat
from ...tensor import wrote

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters):
    """The numbers of all parameters one after the other: (n,). Gradients flow through."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Write the numbers of a vector into the parameters, in order. Raises ShapeError if their number differs."""
    parameters = list(parameters)
    total = sum(p.numel() for p in parameters)
    expect(vec.shape == (total,), f"vector_to_parameters: the parameters hold {total} numbers", vec)
    place = 0
    for p in parameters:
        p.data[...] = xp(p.data).asarray(vec.data[place : place + p.numel()]).reshape(p.shape)
        wrote(p.data)
        place += p.numel()
