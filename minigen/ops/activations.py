"""Activations: functions of one variable between the layers of a network.

The common ones are fused: one kernel call forward, one backward, beside the definition that says what they
are. The rarer ones at the end are their definitions. `inplace` is taken, as in PyTorch, and changes
nothing: no op writes over its input.

    relu leaky_relu elu gelu silu mish softplus hardswish logsigmoid                      fused
    glu prelu rrelu relu6 selu celu hardtanh hardsigmoid threshold
    softsign tanhshrink hardshrink softshrink                                             definitions
"""

import math

from .. import kernels, random
from ..autograd import action, check_dim, op
from ..autograd.modes import mode
from ..device import FLOATS, device_of, xp
from ..errors import ArgumentError, DtypeError, describe, expect
from ..tensor import Tensor, value
from .arithmetic import abs, clamp, maximum, minimum, where
from .elementary import exp, expm1, log1p, sigmoid, tanh
from .joining import chunk
from .shape import reshape
from .special import erf

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def fused(name):
    """The op f(x, p, q) that the kernel `name` computes; the decorated function is its definition, in ops."""

    def decorate(definition):
        def forward(x, p, q):
            family = kernels.find(x, "activations")
            return NotImplemented if family is None else family.activation(name, x, p, q)

        def rule(g, x, p, q):
            return kernels.find(g, "activations").activation_gradient(name, g, x, p, q)

        forward.__name__, forward.__doc__ = name, definition.__doc__
        made = op(forward)
        made.gradient(x=rule)
        made.definition(definition)
        return made

    return decorate


def floating(name, *inputs):
    """Raise DtypeError unless the inputs are tensors of one floating type; of any, where autocast chooses it."""
    first = getattr(inputs[0], "dtype", None)
    for x in inputs:  # quickly: every layer asks, and almost always there is nothing to explain
        dtype = getattr(x, "dtype", None)
        if dtype is None or dtype.kind not in FLOATS or dtype is not first:
            return _check_floating(name, inputs)


def _check_floating(name, inputs):
    for x in inputs:
        expect(hasattr(x, "dtype"), f"{name}: takes a tensor", x, error=DtypeError, hint="write minigen.tensor(...)")
        expect(x.dtype.kind in FLOATS, f"{name}: takes floats", x, error=DtypeError, hint="write x.float()")
    if len({x.dtype for x in inputs}) > 1 and mode.autocast is None:
        shown = ", ".join(map(describe, inputs))
        raise DtypeError(f"{name}: {shown} are of several types\n  write x.float() or x.double() on one of them")


# ReLU is its own definition: its rule is an op, too, so it needs no other for second derivatives.


@op(elementwise=True)
def _relu(x):
    family = kernels.find(x, "activations") if x.size > SMALL else None
    return xp(x).maximum(x, 0) if family is None else family.activation("relu", x)


@op(elementwise=True)
def _where_positive(x, gate):
    """x where the gate is positive, else 0: the gradient of relu, and its own."""
    family = kernels.find(x, "activations") if x.size > SMALL and gate.dtype == x.dtype else None
    if family is not None:
        return family.activation_gradient("relu", x, gate)
    return xp(x).where(gate <= 0, x.dtype.type(0), x)


SMALL = 1024  # elements up to which NumPy's own function is as quick as a kernel
_relu.gradient(x=lambda g, y: _where_positive(g, y) if isinstance(g, Tensor) else _where_positive.forward(g, y))
_where_positive.gradient(x=lambda g, gate: _where_positive(g, gate))


def relu(input, inplace=False):
    """max(x, 0), elementwise; its gradient at 0 is 0."""
    expect(hasattr(input, "dtype"), "relu: takes a tensor", input, error=DtypeError)
    expect(input.dtype != bool, "relu: takes numbers, not booleans", input, error=DtypeError)
    return _relu(input)


@fused("leaky_relu")
def _leaky_relu(x, slope, q):
    return where(x > 0, x, x * slope)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where it is positive, negative_slope * x elsewhere."""
    floating("leaky_relu", input)
    return _leaky_relu(input, negative_slope, 0.0)


@fused("elu")
def _elu(x, alpha, q):
    return where(x > 0, x, alpha * expm1(clamp(x, max=0.0)))


def elu(input, alpha=1.0, inplace=False):
    """x where it is positive, alpha * (e**x - 1) elsewhere (Clevert et al. 2015)."""
    floating("elu", input)
    return _elu(input, alpha, 0.0)


@fused("gelu")
def _gelu(x, p, q):
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


@fused("gelu_tanh")
def _gelu_tanh(x, p, q):
    return 0.5 * x * (1.0 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu(input, approximate="none"):
    """x times the probability that a standard normal number is below x (Hendrycks & Gimpel 2016).

    approximate="tanh": their approximation, which GPT-2 uses. Raises ArgumentError for any other word.
    """
    floating("gelu", input)
    expect(approximate in ("none", "tanh"), 'gelu: approximate is "none" or "tanh"', approximate, error=ArgumentError)
    return (_gelu if approximate == "none" else _gelu_tanh)(input, 0.0, 0.0)


@fused("silu")
def _silu(x, p, q):
    return x * sigmoid(x)


def silu(input, inplace=False):
    """x * sigmoid(x), also called swish (Elfwing et al. 2017)."""
    floating("silu", input)
    return _silu(input, 0.0, 0.0)


@fused("mish")
def _mish(x, p, q):
    return x * tanh(maximum(x, 0.0) + log1p(exp(-abs(x))))


def mish(input, inplace=False):
    """x * tanh(softplus(x)) (Misra 2019)."""
    floating("mish", input)
    return _mish(input, 0.0, 0.0)


@fused("softplus")
def _softplus(x, beta, threshold):
    z = x * beta
    return where(z > threshold, x, log1p(exp(clamp(z, max=threshold))) / beta)


def softplus(input, beta=1.0, threshold=20.0):
    """log(1 + e**(beta x)) / beta, a smooth relu; x itself where beta x is above the threshold."""
    floating("softplus", input)
    return _softplus(input, float(beta), float(threshold))


@fused("logsigmoid")
def _logsigmoid(x, p, q):
    return minimum(x, 0.0) - log1p(exp(-abs(x)))


def logsigmoid(input):
    """log(sigmoid(x)), without overflow."""
    floating("logsigmoid", input)
    return _logsigmoid(input, 0.0, 0.0)


@fused("hardswish")
def _hardswish(x, p, q):
    return x * clamp(x + 3.0, 0.0, 6.0) / 6.0


def hardswish(input, inplace=False):
    """x * clamp(x + 3, 0, 6) / 6: silu in straight lines (Howard et al. 2019)."""
    floating("hardswish", input)
    return _hardswish(input, 0.0, 0.0)


# Those that other ops may compute in the same pass (group_norm_activation, linear_activation), by the kernels' names

BEHIND = {"relu": relu, "gelu": gelu, "gelu_tanh": lambda x: gelu(x, "tanh"), "silu": silu, "mish": mish}


def check_name(op, activation):
    """Raise ArgumentError unless an activation is one of BEHIND."""
    rule = f"{op}: activation is one of {', '.join(BEHIND)}"
    expect(activation in BEHIND, rule, activation, error=ArgumentError)


# The rarer ones: definitions


def glu(input, dim=-1):
    """a * sigmoid(b), where a and b are the halves of x along `dim`, which must be even (Dauphin et al. 2016)."""
    floating("glu", input)
    dim = check_dim("glu", dim, input.ndim)
    expect(input.ndim > 0 and input.shape[dim] % 2 == 0, f"glu: x is halved along dim {dim}, which must be even", input)
    a, b = chunk(input, 2, dim)
    return a * sigmoid(b)


def prelu(input, weight):
    """x where it is positive, weight * x elsewhere; one weight, or one a channel (dim 1) (He et al. 2015)."""
    floating("prelu", input, weight)
    channels = 1 if input.ndim < 2 else input.shape[1]
    expect(weight.ndim < 2, "prelu: weight has at most one dimension", weight)
    size = math.prod(weight.shape)
    expect(size in (1, channels), f"prelu: x has {channels} channels: weight has 1 or {channels}", input, weight)
    slope = reshape(weight, (1, size) + (1,) * (input.ndim - 2)) if size > 1 and input.ndim > 1 else reshape(weight, ())
    return where(input > 0, input, input * slope)


def rrelu(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False, generator=None):
    """leaky_relu with a slope drawn uniformly for each element in training, and their mean in evaluation."""
    floating("rrelu", input)
    expect(lower <= upper, "rrelu: lower must not exceed upper", lower, upper, error=ArgumentError)
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    return where(input >= 0, input, input * _slopes(value(input), lower, upper, generator))


@action
def _slopes(x, lower, upper, generator):
    generator = generator or random.default_generator
    return generator.uniform(x.shape, lower, upper, device=device_of(x)).astype(x.dtype)


def threshold(input, threshold, value, inplace=False):
    """x where it is above the threshold, `value` elsewhere."""
    expect(hasattr(input, "dtype"), "threshold: takes a tensor", input, error=DtypeError)
    return where(input > threshold, input, value)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """x held between min_val and max_val; its gradient outside and at the ends is 0."""
    floating("hardtanh", input)
    expect(min_val <= max_val, "hardtanh: min_val must not exceed max_val", min_val, max_val, error=ArgumentError)
    x = value(input)
    inside = (x > min_val) & (x < max_val)
    return where(inside, input, xp(x).clip(x, min_val, max_val))


def relu6(input, inplace=False):
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def hardsigmoid(input, inplace=False):
    """clamp(x / 6 + 1 / 2, 0, 1): sigmoid in straight lines."""
    floating("hardsigmoid", input)
    return hardtanh(input, -3.0, 3.0) / 6.0 + 0.5


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input, inplace=False):
    """elu, scaled so that a deep network keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return SELU_SCALE * elu(input, SELU_ALPHA)


def celu(input, alpha=1.0, inplace=False):
    """x where it is positive, alpha * (e**(x / alpha) - 1) elsewhere: smooth for every alpha (Barron 2017)."""
    floating("celu", input)
    expect(alpha != 0, "celu: alpha must not be 0", error=ArgumentError)
    return where(input > 0, input, alpha * expm1(clamp(input / alpha, max=0.0)))


def softsign(input):
    """x / (1 + |x|)."""
    floating("softsign", input)
    return input / (1.0 + abs(input))


def tanhshrink(input):
    """x - tanh(x)."""
    floating("tanhshrink", input)
    return input - tanh(input)


def hardshrink(input, lambd=0.5):
    """x where |x| is above lambd, 0 elsewhere."""
    floating("hardshrink", input)
    x = value(input)
    return where((x <= lambd) & (x >= -lambd), 0.0, input)


def softshrink(input, lambd=0.5):
    """x moved by lambd towards 0, and 0 where |x| is below it."""
    floating("softshrink", input)
    expect(lambd >= 0, "softshrink: lambd must not be negative", lambd, error=ArgumentError)
    x = value(input)
    return where(x > lambd, input - lambd, where(x < -lambd, input + lambd, input * 0.0))
