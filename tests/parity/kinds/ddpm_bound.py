"""def_neg_elbo_*: the terms of the diffusion bound, a KL between Gaussians given by means and log variances."""

from minigen import Tensor, autograd
from minigen.models.diffusion.ddpm import gaussian_kl

from . import NotCovered, kind

NAMES = "mt", "lt", "mp", "lp"  # mean and log variance, true and predicted


@kind("def_neg_elbo")
def run(case):
    given = case.of("in__")
    if set(given) != set(NAMES) or not {"out__kl", "out__loss"} <= set(case.arrays):
        raise NotCovered(f"a diffusion bound has the inputs {', '.join(NAMES)}, and kl and loss, not {sorted(given)}")
    inputs = {name: Tensor(given[name].copy(), requires_grad=True) for name in NAMES}
    kl = gaussian_kl(*inputs.values())
    loss = kl.mean()
    slopes = autograd.grad(loss, list(inputs.values()))
    ours = {"out__kl": kl, "out__loss": loss} | {f"gin__{name}": g for name, g in zip(NAMES, slopes)}
    case.compare(ours).require()
