"""def_glow_*: one step of Glow (actnorm, invertible 1x1 convolution, affine coupling), its volume and its loss.

The case gives the actnorm's s and b, the matrix W, and h, from which the coupling's network is (log s, t) = tanh(h a)
on the channels of each pixel. The loss is the mean of |z|^2 / 2 - log|det|: that of a standard normal, less constants.
"""

from minigen import Tensor, autograd, nn
from minigen.models.flow.bijection import Composition
from minigen.models.flow.convolution import InvertibleConvolution, mix
from minigen.models.flow.coupling import AffineCoupling
from minigen.models.flow.scaling import ActNorm

from . import NotCovered, kind

INPUTS = ("x", "W", "s", "b", "h")


@kind("def_glow_step")
def glow_step(case):
    if any(f"in__{name}" not in case for name in INPUTS):
        raise NotCovered(f"a Glow step is made of {INPUTS}")
    given = {name: nn.Parameter(Tensor(case[f"in__{name}"].copy())) for name in INPUTS}
    channels = case["in__x"].shape[1]
    norm, convolution = ActNorm(channels), InvertibleConvolution(channels)
    norm.s, norm.b, convolution.w = given["s"], given["b"], given["W"]
    coupling = AffineCoupling(lambda a: mix(given["h"], a).tanh())
    step = Composition(norm, convolution, coupling).eval()

    x = given["x"]
    z, log_det = step(x)
    loss = (0.5 * (z * z).flatten(1).sum(1) - log_det).mean()
    found = autograd.grad(loss, [given[name] for name in INPUTS])
    ours = {"out__out": z, "out__logdet": log_det, "out__loss": loss}
    ours |= {f"gin__{name}": g for name, g in zip(INPUTS, found)}
    case.compare(ours).require()

    back, log_det_back = step.inverse(z.detach())
    assert abs(back - x.detach()).max().item() < (1e-3 if case.narrowed else 1e-9)
    assert abs(log_det_back + log_det.detach()).max().item() < (1e-3 if case.narrowed else 1e-9)
