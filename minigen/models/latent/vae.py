"""The variational autoencoder (Kingma & Welling 2013, arXiv:1312.6114; Rezende, Mohamed & Wierstra 2014).

A picture x has a hidden cause z ~ N(0, I). A network, the decoder, turns z into a distribution p(x | z) of pictures.
The likelihood p(x), an integral over all z, cannot be computed. So a second network, the encoder, guesses for each x
which z are worth looking at: q(z | x) = N(mu, sigma^2). For any q,

    log p(x)  >=  ELBO  =  E_q[log p(x | z)]  -  KL(q(z | x) || N(0, I))                                   (eq. 3)

Both networks climb it together. The ELBO is a sum over pixels, in nats: a mean over pixels, or a weight on the KL, is
the bound of another model (or of none). The mean of k importance weights is a tighter bound, and tends to log p(x)
(Burda, Grosse & Salakhutdinov 2015, arXiv:1509.00519).

    VAEConfig    sizes, and what a pixel is: a bit, one of so many levels, or a real number
    VAE          encode, decode, elbo, iwae, sample, reconstruct, kl_per_unit
"""

import itertools
import math
from dataclasses import dataclass

from ... import nn
from ...autograd import no_grad
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...ops import creation
from ...ops.elementary import exp, log, sigmoid
from ...ops.joining import stack
from ...ops.reduction import logsumexp
from ...published import Pretrained

LIKELIHOODS = ("bernoulli", "categorical", "gaussian")
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
ACTIVE = 0.01  # a unit is active if the variance of its mean over the data is above this (Burda et al. 2015, sec. 5.2)


@dataclass
class VAEConfig:
    """The sizes of a VAE. The defaults are those of most published examples on MNIST.

    shape        of one x
    latent       dimensions of z
    hidden       sizes of the encoder's hidden layers; the decoder has them in the other order
    activation   "tanh", "relu" or "silu"
    dropout      of the hidden units, while training
    likelihood   of an element of x given z:
                 "bernoulli"    0 or 1. Greys in between train too, but then it is no likelihood: draw 0 or 1 from
                                them (Loaiza-Ganem & Cunningham 2019)
                 "categorical"  one of `levels` values, 0 to levels - 1
                 "gaussian"     a real number, with one learned variance for all elements
    """

    shape: tuple = (1, 28, 28)
    latent: int = 20
    hidden: tuple = (400,)
    activation: str = "tanh"
    dropout: float = 0.0
    likelihood: str = "bernoulli"
    levels: int = 17

    def __post_init__(self):
        self.shape, self.hidden = tuple(self.shape), tuple(self.hidden)
        expect(self.likelihood in LIKELIHOODS, f"VAEConfig: likelihood is one of {LIKELIHOODS}", self.likelihood,
               error=ArgumentError)  # fmt: skip
        expect(self.activation in ACTIVATIONS, f"VAEConfig: activation is one of {tuple(ACTIVATIONS)}",
               self.activation, error=ArgumentError)  # fmt: skip

    @property
    def elements(self):
        return math.prod(self.shape)


class VAE(Pretrained, nn.Module):
    """An encoder and a decoder. Call it for the training loss: `vae(x)` is the mean of -ELBO, in nats.

    x is (N, *config.shape). Give encoder and decoder to replace the fully connected ones: the encoder maps (N, *shape)
    to (N, 2 latent), the decoder (N, latent) to (N, elements), or (N, elements * levels) for a categorical likelihood.
    """

    config_class = VAEConfig

    def __init__(self, config=None, encoder=None, decoder=None, **sizes):
        self.config = config = config or VAEConfig(**sizes)
        self._given_parts = encoder is not None or decoder is not None
        per_element = config.levels if config.likelihood == "categorical" else 1
        self.encoder = encoder or _layers([config.elements, *config.hidden, 2 * config.latent], config)
        self.decoder = decoder or _layers([config.latent, *config.hidden[::-1], config.elements * per_element], config)
        if config.likelihood == "gaussian":
            self.log_variance = nn.Parameter(creation.zeros(1))

    # The model

    def encode(self, x):
        """q(z | x) as (mu, log variance), each (N, latent)."""
        fits = tuple(x.shape[1:]) == self.config.shape
        expect(fits, f"VAE: x is (N, {', '.join(map(str, self.config.shape))})", x, error=ShapeError)
        return self.encoder(self._centred(x)).chunk(2, -1)

    def decode(self, z):
        """The parameters of p(x | z) for z (N, latent): logits (N, *shape), logits (N, *shape, levels), or means."""
        out = self.decoder(z)
        levels = (self.config.levels,) if self.config.likelihood == "categorical" else ()
        return out.reshape(len(z), *self.config.shape, *levels)

    def log_likelihood(self, x, z):
        """log p(x | z), a sum over the elements of x: (N,)."""
        out, n = self.decode(z), len(z)
        if self.config.likelihood == "bernoulli":
            nll = F.binary_cross_entropy_with_logits(out, x, reduction="none")
        elif self.config.likelihood == "categorical":
            nll = F.cross_entropy(out.reshape(-1, self.config.levels), x.reshape(-1).long(), reduction="none")
        else:
            log_variance = self.log_variance
            nll = 0.5 * ((x - out) ** 2 * exp(-log_variance) + log_variance + math.log(2 * math.pi))
        return -nll.reshape(n, -1).sum(1)

    # Bounds on log p(x)

    def elbo(self, x, generator=None):
        """(ELBO, reconstruction, KL), each (N,) in nats: ELBO = reconstruction - KL, from one draw of z."""
        mu, log_var = self.encode(x)
        z = mu + exp(0.5 * log_var) * creation.randn_like(mu, generator=generator)
        reconstruction = self.log_likelihood(x, z)
        kl = kl_to_standard(mu, log_var).sum(1)
        return reconstruction - kl, reconstruction, kl

    def iwae(self, x, k=100, generator=None):
        """The log of the mean of k importance weights p(x, z) / q(z | x), (N,): a bound that rises to log p(x)."""
        mu, log_var = self.encode(x)
        weights = []
        for _ in range(k):  # one by one: k times the memory would be for nothing
            noise = creation.randn_like(mu, generator=generator)
            z = mu + exp(0.5 * log_var) * noise
            log_ratio = 0.5 * (noise * noise + log_var - z * z).sum(1)  # log p(z) - log q(z | x)
            weights.append(self.log_likelihood(x, z) + log_ratio)
        return logsumexp(stack(weights), 0) - math.log(k)

    def forward(self, x, generator=None):
        return -self.elbo(x, generator)[0].mean()

    # Using it

    @no_grad()
    def sample(self, n, generator=None):
        """n draws from the model: z from the prior, then x from p(x | z). (n, *shape) float32."""
        z = creation.randn(n, self.config.latent, generator=generator, device=self._device)
        return self._draw(self.decode(z), generator)

    @no_grad()
    def reconstruct(self, x):
        """The mean of p(x | z) at z = mu(x), (N, *shape)."""
        return self.mean(self.decode(self.encode(x)[0]))

    def mean(self, out):
        """The mean of p(x | z), from what `decode` gave."""
        if self.config.likelihood == "bernoulli":
            return sigmoid(out)
        if self.config.likelihood == "categorical":
            levels = creation.arange(self.config.levels, dtype=out.dtype, device=out.device)
            return (F.softmax(out, -1) * levels).sum(-1)
        return out

    @no_grad()
    def kl_per_unit(self, x):
        """How many nats each latent unit carries, and whether it is active: (latent,) floats, (latent,) bools.

        A unit whose KL is near 0 has collapsed onto the prior: the decoder has learned to do without it.
        """
        mu, log_var = self.encode(x)
        return kl_to_standard(mu, log_var).mean(0), mu.var(0) > ACTIVE

    # Pieces

    def config_to(self):
        rule = "VAE.save_pretrained: a config cannot describe an encoder or decoder of your own"
        expect(not self._given_parts, rule, hint="write minigen.checkpoint.save(path, vae.state_dict())",
               error=ArgumentError)  # fmt: skip
        return super().config_to()

    @property
    def _device(self):
        return next(iter(self.parameters())).device

    def _centred(self, x):
        """Levels 0 to levels - 1 as numbers from -1 to 1, which a network takes more easily; the rest as it is."""
        if self.config.likelihood != "categorical":
            return x
        return x.float() * (2 / (self.config.levels - 1)) - 1

    def _draw(self, out, generator):
        if self.config.likelihood == "bernoulli":
            return (creation.rand_like(out, generator=generator) < sigmoid(out)).float()
        if self.config.likelihood == "categorical":  # the largest of logits + Gumbel noise is a draw (Gumbel 1954)
            u = creation.rand_like(out, generator=generator)
            return (out - log(-log(u.clamp(1e-7, 1 - 1e-7)))).argmax(-1).float()
        return out + exp(0.5 * self.log_variance) * creation.randn_like(out, generator=generator)


def kl_to_standard(mu, log_var):
    """KL(N(mu, sigma^2) || N(0, 1)) of each element (Kingma & Welling 2013, appendix B)."""
    return 0.5 * (mu * mu + exp(log_var) - log_var - 1)


def _layers(sizes, config):
    layers = [nn.Flatten()]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        if i:
            layers += [ACTIVATIONS[config.activation](), *([nn.Dropout(config.dropout)] if config.dropout else [])]
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)
