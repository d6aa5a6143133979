"""Group norm, instance norm among it, and its gradient: group_norm.cu between the loops of norms.cu.

y and dL/dx have x's type and memory order, the gradients of weight and bias have the weight's type. k, offset, rstd,
slope and base are float32, one for each channel of each sample: the mean is k + offset, y is (x - k) slope + base or an
activation of that.
"""

from .channels import Channels
from .compile import FLOATS, Source, over
from .norms import affine, gradient_affine, gradient_sums, moments
from .reduce import add_parts

TYPES = FLOATS
KERNELS = Source("group_norm.cu")
BLOCK = 256
WARPS = BLOCK // 32


def group_norm(x, groups, weight, bias, eps, activation=None):
    """x (N, C, ...) normalised over each group of channels and all positions, and an activation of that, by its name.

    Returns y, k, offset, rstd, slope, base.
    """
    x = Channels(x, bias if weight is None else weight)
    count, wide = x.samples * groups, x.channels // groups
    k, parts, plan = moments(x, wide)
    out = x.floats(5)
    numbers = x.vector(weight), x.vector(bias), float(eps), out
    sizes = groups, count, plan.pairs // count, wide, *plan.geometry
    KERNELS.run("group_statistics", x.types, over(count, WARPS), BLOCK, k, *parts, *numbers, *sizes)
    k, offset, rstd, slope, base = out
    return affine(x, k, slope, base, activation), k, offset, rstd, slope, base


def group_norm_gradient(g, x, groups, weight, k, offset, rstd, slope=None, base=None, activation=None):
    """dL/dx, dL/dweight, dL/dbias. slope and base are asked for where there is an activation."""
    x = Channels(x, weight)
    g = x.like(g)
    count, wide = x.samples * groups, x.channels // groups
    inner = slope, base, activation
    parts, plan = gradient_sums(g, x, k, offset, inner)
    sums, (alpha, beta, gamma) = x.floats(2), x.floats(3)
    numbers = x.vector(weight), offset, rstd, sums, alpha, beta, gamma
    sizes = groups, count, wide, plan.parts, wide * x.places
    KERNELS.run("group_gradient", x.types, over(count, WARPS), BLOCK, *parts, *numbers, *sizes)
    of_parameters = add_parts(sums.reshape(2, x.samples, x.channels), x.kind)
    return gradient_affine(g, x, k, alpha, beta, gamma, inner), *of_parameters
