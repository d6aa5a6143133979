"""def_gan_losses: the losses of both players from scores of real (r) and generated (f) samples."""

from minigen import Tensor, autograd
from minigen.models.gan.losses import discriminator_loss, generator_loss

from . import NotCovered, kind

KINDS = {
    "minimax": "minimax",
    "ns": "non-saturating",
    "nonsat": "non-saturating",
    "hinge": "hinge",
    "w": "wasserstein",
    "wgan": "wasserstein",
    "ls": "least-squares",
    "lsgan": "least-squares",
}


@kind("def_gan_losses")
def run(case):
    r, f = (Tensor(case[f"in__{name}"].copy(), requires_grad=True) for name in "rf")
    ours = {}
    for name in case.of("out__"):
        player, _, sort = name.partition("_")
        if name == "loss":
            continue
        if player not in ("d", "g") or sort not in KINDS:
            raise NotCovered(f"no loss is known for {name!r}")
        ours[f"out__{name}"] = (
            discriminator_loss(r, f, KINDS[sort]) if player == "d" else generator_loss(f, KINDS[sort])
        )
    if "out__loss" in case:  # the one of which the gradients are: the case does not say which, its value does
        same = [name for name in ours if abs(float(case[name]) - float(case["out__loss"])) < 1e-12]
        if not same:
            raise NotCovered("out__loss is none of the losses in the case")
        ours["out__loss"] = ours[same[0]]
        slopes = autograd.grad(ours["out__loss"], [r, f], allow_unused=True)
        ours |= {f"gin__{name}": g for name, g in zip("rf", slopes) if f"gin__{name}" in case}
    case.compare(ours).require()
