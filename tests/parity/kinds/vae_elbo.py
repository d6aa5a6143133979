"""`def_vae_elbo`: the negative ELBO of a Bernoulli VAE in nats, summed over elements, with a weight on the KL."""

from minigen import Tensor, autograd
from minigen.models.latent.vae import kl_to_standard
from minigen.nn import functional as F

from . import NotCovered, kind

NAMES = "mu", "lv", "logits", "x", "beta"  # of q: mean and log variance; of p: logits; the pixels; the KL's weight


@kind("def_vae_elbo")
def run(case):
    given = case.of("in__")
    if set(given) != set(NAMES):
        raise NotCovered(f"an ELBO has the inputs {', '.join(NAMES)}, not {sorted(given)}")
    mu, log_var, logits, x, beta = inputs = [Tensor(given[name].copy(), requires_grad=True) for name in NAMES]
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kl = kl_to_standard(mu, log_var).sum(1)
    loss = (rec + beta * kl).mean()
    slopes = dict(zip(NAMES, autograd.grad(loss, inputs)))
    found = {"out__rec": rec, "out__kl": kl, "out__loss": loss} | {f"gin__{name}": slopes[name] for name in NAMES}
    case.compare({name: array for name, array in found.items() if name in case}).require()
