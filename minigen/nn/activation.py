"""Activations as layers. Each is the function of the same name in `nn.functional`; the formula is its docstring.

`inplace` is taken, as in PyTorch, and changes nothing: no op of minigen writes over its input.
"""

from ..errors import expect
from . import functional as F
from . import init
from .module import Module, new_parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Plain(Module):
    """An activation without parameters: `function(x)`."""

    def __init__(self, inplace=False):
        self.inplace = inplace

    def forward(self, input):
        return self.function(input)


class ReLU(_Plain):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class ReLU6(_Plain):
    """min(max(x, 0), 6)."""

    function = staticmethod(F.relu6)


class SELU(_Plain):
    """scale * (max(x, 0) + min(alpha * (exp(x) - 1), 0)), self-normalising (Klambauer et al. 2017)."""

    function = staticmethod(F.selu)


class SiLU(_Plain):
    """x * sigmoid(x), also called swish (Elfwing et al. 2017)."""

    function = staticmethod(F.silu)


class Mish(_Plain):
    """x * tanh(softplus(x)) (Misra 2019)."""

    function = staticmethod(F.mish)


class Hardswish(_Plain):
    """x * relu6(x + 3) / 6 (Howard et al. 2019)."""

    function = staticmethod(F.hardswish)


class Hardsigmoid(_Plain):
    """relu6(x + 3) / 6."""

    function = staticmethod(F.hardsigmoid)


class Sigmoid(_Plain):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(_Plain):
    """log(sigmoid(x)), without underflow."""

    function = staticmethod(F.logsigmoid)


class Tanh(_Plain):
    """tanh(x)."""

    function = staticmethod(F.tanh)


class Tanhshrink(_Plain):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Softsign(_Plain):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class Softmax2d(_Plain):
    """Softmax over the channels of (N, C, H, W) or (C, H, W), at each place."""

    def forward(self, input):
        expect(input.ndim in (3, 4), "Softmax2d: input must be (N, C, H, W) or (C, H, W)", input)
        return F.softmax(input, -3)


class GELU(Module):
    """x * Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016). approximate: "none" or "tanh"."""

    shown = ("approximate",)

    def __init__(self, approximate="none"):
        self.approximate = approximate

    def forward(self, input):
        return F.gelu(input, approximate=self.approximate)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x."""

    shown = ("negative_slope",)

    def __init__(self, negative_slope=0.01, inplace=False):
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input):
        return F.leaky_relu(input, self.negative_slope)


class RReLU(Module):
    """Leaky ReLU with a slope drawn from [lower, upper] for each number in training, their mean in evaluation."""

    shown = ("lower", "upper")

    def __init__(self, lower=1 / 8, upper=1 / 3, inplace=False, generator=None):
        self.lower, self.upper, self.inplace, self.generator = lower, upper, inplace, generator

    def forward(self, input):
        return F.rrelu(input, self.lower, self.upper, self.training, generator=self.generator)


class PReLU(Module):
    """Leaky ReLU with a learnt slope, one for all or one for each channel (He et al. 2015)."""

    shown = ("num_parameters",)

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        self.num_parameters, self.init = num_parameters, init
        self.weight = new_parameter(num_parameters, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self):
        init.constant_(self.weight, self.init)

    def forward(self, input):
        return F.prelu(input, self.weight)


class ELU(Module):
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2015)."""

    shown = ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input):
        return F.elu(input, self.alpha)


class CELU(Module):
    """x where x > 0, else alpha * (exp(x / alpha) - 1): smooth for every alpha (Barron 2017)."""

    shown = ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input):
        return F.celu(input, self.alpha)


class Hardtanh(Module):
    """x clamped to [min_val, max_val]."""

    shown = ("min_val", "max_val")

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input):
        return F.hardtanh(input, self.min_val, self.max_val)


class Hardshrink(Module):
    """x where |x| > lambd, else 0."""

    shown = ("lambd",)

    def __init__(self, lambd=0.5):
        self.lambd = lambd

    def forward(self, input):
        return F.hardshrink(input, self.lambd)


class Softshrink(Module):
    """x moved towards 0 by lambd, and 0 within lambd of it."""

    shown = ("lambd",)

    def __init__(self, lambd=0.5):
        self.lambd = lambd

    def forward(self, input):
        return F.softshrink(input, self.lambd)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold, where they are the same number."""

    shown = ("beta", "threshold")

    def __init__(self, beta=1.0, threshold=20.0):
        self.beta, self.threshold = beta, threshold

    def forward(self, input):
        return F.softplus(input, self.beta, self.threshold)


class Threshold(Module):
    """x where x > threshold, else value."""

    shown = ("threshold", "value")

    def __init__(self, threshold, value, inplace=False):
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input):
        return F.threshold(input, self.threshold, self.value)


class GLU(Module):
    """a * sigmoid(b), where a and b are the halves of x along `dim` (Dauphin et al. 2016)."""

    shown = ("dim",)

    def __init__(self, dim=-1):
        self.dim = dim

    def forward(self, input):
        return F.glu(input, self.dim)


class Softmax(Module):
    """exp(x) / sum exp(x) along `dim`."""

    shown = ("dim",)

    def __init__(self, dim=None):
        self.dim = dim

    def forward(self, input):
        return F.softmax(input, self.dim)


class LogSoftmax(Softmax):
    """log(softmax(x)) along `dim`, without underflow."""

    def forward(self, input):
        return F.log_softmax(input, self.dim)


class Softmin(Softmax):
    """softmax(-x) along `dim`."""

    def forward(self, input):
        return F.softmin(input, self.dim)
