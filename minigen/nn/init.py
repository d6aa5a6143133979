"""Initial values for parameters. Each function writes into a tensor's own memory and returns it.

    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.normal_(layer.weight, 0.0, 0.02, generator=g)

Every random one takes a `generator`, and draws from the default one (`minigen.manual_seed`) without it.
"""

import math

from ..device import xp
from ..errors import ArgumentError, expect
from ..tensor import wrote

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _write(tensor, values):
    tensor.data[...] = values
    wrote(tensor.data)
    return tensor


def _draw(kind, tensor, generator, shape=None, *bounds):
    """Uniform (on [0, 1) or between bounds) or normal numbers, of `tensor`'s type and on its device."""
    from .. import random

    generator = random.default_generator if generator is None else generator
    shape = tensor.shape if shape is None else shape
    return getattr(generator, kind)(shape, *bounds, dtype=tensor.dtype, device=tensor.device)


# Without looking at the shape


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Uniform on [a, b)."""
    return _write(tensor, _draw("uniform", tensor, generator, None, a, b))


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Normal with this mean and standard deviation."""
    return _write(tensor, mean + std * _draw("normal", tensor, generator))


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Normal, drawn again wherever it fell outside [a, b] (a and b are values, not multiples of `std`)."""
    low, high = (a - mean) / std, (b - mean) / std
    expect(a < b, f"trunc_normal_: a must be below b, got a={a}, b={b}", error=ArgumentError)
    if _normal_mass(low, high) < 0.05:  # so few normals fall inside that drawing again would take for ever
        return _truncated_by_rejection(tensor, mean, std, a, b, generator)
    x = _draw("normal", tensor, generator)
    while True:
        outside = (x < low) | (x > high)
        missing = int(outside.sum())
        if not missing:
            return _write(tensor, mean + std * x)
        x[outside] = _draw("normal", tensor, generator, (missing,))


def _normal_mass(low, high):
    return 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))


def _truncated_by_rejection(tensor, mean, std, a, b, generator):
    """Uniform proposals on [a, b], kept with probability density(x) / density(mode)."""
    library = xp(tensor.data)
    peak = (min(max(mean, a), b) - mean) / std
    x = _draw("uniform", tensor, generator, None, a, b)
    undecided = library.ones(tensor.shape, bool)
    while bool(undecided.any()):
        z = (x[undecided] - mean) / std
        keep = _draw("uniform", tensor, generator, z.shape) <= library.exp(0.5 * (peak**2 - z * z))
        where = library.nonzero(undecided)
        undecided[where] = ~keep
        x[undecided] = _draw("uniform", tensor, generator, (int(undecided.sum()),), a, b)
    return _write(tensor, x)


def constant_(tensor, val):
    """One number everywhere."""
    return _write(tensor, val)


def ones_(tensor):
    """Ones."""
    return _write(tensor, 1.0)


def zeros_(tensor):
    """Zeros."""
    return _write(tensor, 0.0)


# By fan-in and fan-out: how many numbers a unit reads, and how many units read it


def calculate_gain(nonlinearity, param=None):
    """By how much an activation shrinks the standard deviation, inverted: sqrt(2) for relu.

    param  the slope of leaky_relu (0.01). Raises ArgumentError for a name that has no gain.
    """
    linear = {"linear", "sigmoid"}
    linear |= {f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)}
    if nonlinearity in linear:
        return 1.0
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        expect(
            isinstance(slope, (int, float)) and not isinstance(slope, bool),
            f"calculate_gain: the slope of leaky_relu must be a number, got {slope!r}",
            error=ArgumentError,
        )
        return math.sqrt(2.0 / (1 + slope**2))
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity not in gains:
        names = ", ".join([*sorted(linear), "leaky_relu", *gains])
        raise ArgumentError(f"calculate_gain: no gain is known for {nonlinearity!r}\n  known are {names}")
    return gains[nonlinearity]


def fans(tensor):
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    expect(tensor.ndim >= 2, "fan_in and fan_out need a weight of at least two dimensions (out, in, ...)", tensor)
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor, mode):
    mode = str(mode).lower()
    expect(mode in ("fan_in", "fan_out"), f'mode must be "fan_in" or "fan_out", got {mode!r}', error=ArgumentError)
    return fans(tensor)[mode == "fan_out"]


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Uniform, variance 2 gain^2 / (fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)."""
    bound = gain * math.sqrt(6.0 / max(1, sum(fans(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Normal, variance 2 gain^2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, sum(fans(tensor)))), generator)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Uniform, variance gain^2 / fan (He et al. 2015, eq. 14). a: the slope of leaky_relu."""
    if tensor.numel() == 0:
        return tensor
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Normal, variance gain^2 / fan (He et al. 2015, eq. 14). a: the slope of leaky_relu."""
    if tensor.numel() == 0:
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


# With structure


def orthogonal_(tensor, gain=1, generator=None):
    """A random (semi-)orthogonal matrix, times gain; dimensions after the first count as one (Saxe et al. 2013).

    Uniform over all such matrices: the signs of R's diagonal are moved into Q (Mezzadri 2006).
    """
    expect(tensor.ndim >= 2, "orthogonal_: at least two dimensions are needed", tensor)
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    cols = tensor.numel() // rows
    library = xp(tensor.data)
    matrix = _draw("normal", tensor, generator, (rows, cols))
    q, r = library.linalg.qr(matrix if rows >= cols else matrix.T)
    q = q * library.sign(library.diagonal(r))
    return _write(tensor, gain * (q if rows >= cols else q.T).reshape(tensor.shape))


def eye_(tensor):
    """The identity matrix: as many inputs as possible are kept."""
    expect(tensor.ndim == 2, "eye_: a matrix is needed", tensor)
    return _write(tensor, xp(tensor.data).eye(*tensor.shape, dtype=tensor.dtype))


def dirac_(tensor, groups=1):
    """A convolution (3 to 5 dimensions) that copies its input channels, in each group."""
    expect(tensor.ndim in (3, 4, 5), "dirac_: the weight of a 1-d, 2-d or 3-d convolution is needed", tensor)
    expect(
        tensor.shape[0] % groups == 0,
        f"dirac_: groups={groups} must divide the output channels",
        tensor,
        error=ArgumentError,
    )
    weight = xp(tensor.data).zeros_like(tensor.data)
    out = tensor.shape[0] // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(out, tensor.shape[1])):
            weight[(group * out + channel, channel, *centre)] = 1.0
    return _write(tensor, weight)


def sparse_(tensor, sparsity, std=0.01, generator=None):
    """Normal, with the share `sparsity` of each column (chosen at random) set to zero (Martens 2010)."""
    expect(tensor.ndim == 2, "sparse_: a matrix is needed", tensor)
    expect(0 <= sparsity <= 1, f"sparse_: sparsity is a share from 0 to 1, got {sparsity}", error=ArgumentError)
    order = _draw("uniform", tensor, generator).argsort(axis=0).argsort(axis=0)  # ranks within each column
    weight = _draw("normal", tensor, generator) * tensor.dtype.type(std)
    weight[order < math.ceil(sparsity * tensor.shape[0])] = 0.0
    return _write(tensor, weight)
