"""double_*: gradients of gradients through a network: penalties on a critic's gradient, and a Hessian.

The critic of double_r1 is that of double_wgan_gp, whose note writes it out; the Hessian's network is Linear, Tanh,
Linear (found by trying activations with the reference).
"""

from minigen import Tensor, autograd, nn
from minigen import sum as total
from minigen.ops.joining import stack

from . import NotCovered, kind
from .describing import find


def _network(case, default=None):
    try:
        network = find(case.note).build()
    except NotCovered:
        if default is None:
            raise
        network = default()
    network.to(case.dtype)
    network.load_state_dict({name: Tensor(a) for name, a in case.of("p__").items()})
    return network


def _critic():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(32, 1),
    )


def _slopes(network, x):
    """The gradient of the critic with respect to each sample, one row each, still part of the graph."""
    x = Tensor(x, requires_grad=True)
    (g,) = autograd.grad(total(network(x)), x, create_graph=True)
    return g.flatten(1)


def _compare(case, network, name, value):
    """The penalty, and its gradients with respect to the parameters."""
    parameters = dict(network.named_parameters())
    names = list(case.of("gp__"))
    found = autograd.grad(value, [parameters[n] for n in names], allow_unused=True)
    ours = {f"out__{name}": value} | {f"gp__{n}": g for n, g in zip(names, found)}
    case.compare(ours).require()


@kind("double_wgan_gp")
def wgan_gp(case):
    """The mean of (|gradient| - 1)^2 between real and fake (Gulrajani et al. 2017)."""
    network = _network(case, _critic)
    alpha = case["in__alpha"]
    slopes = _slopes(network, alpha * case["in__real"] + (1 - alpha) * case["in__fake"])
    _compare(case, network, "gp", ((total(slopes * slopes, 1).sqrt() - 1) ** 2).mean())


@kind("double_r1", "double_r2")
def r1(case):
    """The mean of |gradient|^2 at the real (R1) or the generated samples (R2) (Mescheder et al. 2018)."""
    network = _network(case, _critic)
    kind_ = case.name.split("_")[1]
    slopes = _slopes(network, case["in__real" if kind_ == "r1" else "in__fake"])
    _compare(case, network, kind_, total(slopes * slopes, 1).mean())


@kind("double_hessian")
def hessian(case):
    """All second derivatives of sin(sum(network(x)))."""
    inside, hidden = case["p__0.weight"].shape[::-1]
    outside = case["p__2.weight"].shape[0]
    network = _network(case, lambda: nn.Sequential(nn.Linear(inside, hidden), nn.Tanh(), nn.Linear(hidden, outside)))
    x = Tensor(case["in__x"], requires_grad=True)
    (g,) = autograd.grad(total(network(x)).sin(), x, create_graph=True)
    rows = [autograd.grad(g[i], x, retain_graph=True)[0] for i in range(g.shape[0])]
    case.compare({"out__hessian": stack(rows)}).require()
