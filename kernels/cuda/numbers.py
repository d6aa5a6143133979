"""The few numbers that change from step to step, made on the card: numbers.cu.

    advance  count  sgd_numbers  adam_numbers  clip_factor  unscale  rescale

Where the host computes them, none of these is called. Arrays of one number have no dimensions.
"""

import numpy as np

from .compile import FLOATS, Source, library
from .elementwise import grid

TYPES = FLOATS
KERNELS = Source("numbers.cu")
FLOAT32 = np.dtype(np.float32)


def one_thread(name, *arguments):
    KERNELS.run(name, (FLOAT32,), 1, 1, *arguments)


def advance(place, by):
    """place += by, of uint64: where a random stream stands."""
    one_thread("advance_place", place, int(by))


def count(step, skip=None):
    """step += 1, of float64, unless the float32 number `skip` is not 0."""
    one_thread("count", step, skip)


def sgd_numbers(step, lr, momentum, dampening):
    """lr, the gradient's share in the buffer, momentum: (3,) float32. `momentum`: a number, or a float64 array."""
    numbers = library(step).empty(3, np.float32)
    array, usual = split(momentum)
    one_thread("sgd_numbers", step, in_memory(lr, step), array, usual, float(dampening), numbers)
    return numbers


def adam_numbers(step, lr, beta1, beta2, weight_decay):
    """lr / (1 - beta1**t), (1 - beta2**t)**-0.5, 1 - lr weight_decay, beta1, 1 - beta1: (5,) float32."""
    numbers = library(step).empty(5, np.float32)
    array, usual = split(beta1)
    rest1, rest2 = 1 - usual, float(1 - beta2)
    one_thread("adam_numbers", step, in_memory(lr, step), array, rest1, rest2, float(weight_decay), numbers)
    return numbers


def in_memory(x, like):
    """x, a number or a float64 array of one, as an array."""
    return library(like).full((), x, np.float64) if isinstance(x, (int, float)) else x


def split(x):
    """(array or None, number)"""
    return (None, float(x)) if isinstance(x, (int, float)) else (x, 0.0)


def clip_factor(squares, most):
    """The norm, and the factor (at most 1) that brings it to `most`, float32, from sums of squares (n,) float64."""
    norm, factor = library(squares).empty((), np.float32), library(squares).empty((), np.float32)
    one_thread("clip_factor", squares, len(squares), float(most), norm, factor)
    return norm, factor


def unscale(g, scale, found):
    """g /= scale in place; `found` becomes 1 where a number of g is not finite."""
    KERNELS.run("unscale", (g.dtype,), *grid(g.size, g.dtype), g, g.size, scale, found)


def rescale(scale, good, found, growth, backoff, interval):
    """Change the scale after a step, of whose optimisers found (n,) says which overflowed; found = 0."""
    one_thread("rescale", scale, good, found, found.size, float(growth), float(backoff), int(interval))
