"""Denoising diffusion (Ho, Jain & Abbeel 2020, arXiv:2006.11239; Sohl-Dickstein et al. 2015, arXiv:1503.03585).

Noise is added to x_0 in T small steps, until nothing of it is left; a network learns to take one step back. Gaussians
add, so x_t comes from x_0 in one go:

    x_t = a_t x_0 + s_t epsilon,        a_t = sqrt(alpha_bar_t),  s_t = sqrt(1 - alpha_bar_t)              (eq. 4)

Training needs no walk through the steps: draw t, draw epsilon, let the network say which epsilon it was, and take the
squared error (eq. 14). x_0 ("sample"), epsilon and v = a_t epsilon - s_t x_0 (Salimans & Ho 2022, arXiv:2202.00512)
say the same once x_t is known, so a network may predict any of them.

The chain is also a latent variable model, with x_1 ... x_T as causes that nobody has to guess: q is known. So it has a
bound on the likelihood, whose every term is a KL between two Gaussians (eq. 5). Steps are numbered 0 to T - 1 here, as
in the published implementation: step 0 is the paper's t = 1.

    DDPMConfig    sizes, the noise schedule, what is predicted, which loss
    DDPM          noised, posterior, predict, reverse, the loss, bound, log_prob, sample

Noise schedules, and other ways back than the paper's, are in sampling/diffusion: they are not this model's alone.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ... import nn
from ...autograd import grad, no_grad
from ...errors import ArgumentError, ShapeError, expect
from ...ops import creation
from ...ops.arithmetic import where
from ...ops.elementary import exp, log
from ...ops.joining import cat, stack
from ...ops.special import erfc
from ...published import Pretrained
from ...sampling import diffusion as samplers
from ...sampling.diffusion.prediction import PREDICTIONS
from ...tensor import Tensor
from .unet import UNet

LOSSES = ("simple", "epsilon", "min_snr", "vlb", "hybrid")
VARIANCES = ("fixed_small", "fixed_large", "learned_range")
SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid", "laplace", "exp")
SAMPLERS = {
    "ddpm": samplers.DDPM,
    "ddim": samplers.DDIM,
    "euler": samplers.Euler,
    "heun": samplers.Heun,
    "dpm_solver": samplers.DPMSolver,
    "pndm": samplers.PNDM,
}
GAMMA = 5.0  # of min-SNR (Hang et al. 2023, section 3.4)
FAR, SMALLEST = 1e4, 1e-37  # standard deviations that stand for infinity; the least probability that float32 holds
HYBRID = 1e-3  # the bound's weight beside the simple loss (Nichol & Dhariwal 2021, eq. 16)


@dataclass
class DDPMConfig:
    """What a diffusion model is made of. The defaults are the paper's for CIFAR-10.

    shape       of one x; numbers from -1 to 1
    classes     0 for an unconditional model, otherwise labels 0 to classes - 1. The network is given one more,
                `classes`, which stands for "no label" (Ho & Salimans 2022, arXiv:2207.12598)
    steps       T
    schedule    the name of a NoiseSchedule ("linear", "cosine", ...), or T betas. A linear one that is not of 1000
                steps has its ends times 1000 / T
    prediction  what the network predicts: "epsilon", "sample" (that is x_0) or "v_prediction"
    loss        "simple"   the mean square of what is predicted less its target
                "epsilon"  the mean square of the noise's error, whatever is predicted (eq. 14)
                "min_snr"  that of x_0's error, times min(SNR, 5) (Hang et al. 2023, arXiv:2303.09556)
                "vlb"      the bound itself, in nats, at a random step times T
                "hybrid"   the simple loss, and for learned variances 0.001 times the bound
    variance    of a step back: "fixed_large" or "fixed_small" (Ho et al. section 3.2), or "learned_range" between the
                two: then the network has twice the channels (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15)
    levels      a pixel is one of so many evenly spaced values from -1 to 1, and the bound is that of a probability;
                None for real numbers, and the bound of a density
    clip        keep the predicted x_0 between -1 and 1; if None, where x has levels
    label_dropout   the share of labels hidden in training
    channels, attention, layers, groups, dropout    of the U-Net that is built where no network is given (UNetConfig)
    """

    shape: tuple = (3, 32, 32)
    classes: int = 0
    steps: int = 1000
    schedule: str | tuple = "linear"
    prediction: str = "epsilon"
    loss: str = "simple"
    variance: str = "fixed_large"
    levels: int | None = 256
    clip: bool | None = None
    label_dropout: float = 0.1
    channels: tuple = (128, 256, 256, 256)
    attention: tuple = (False, True, False, False)
    layers: int = 2
    groups: int = 32
    dropout: float = 0.0

    def __post_init__(self):
        self.shape = tuple(self.shape)
        self.clip = self.levels is not None if self.clip is None else self.clip
        for name, known in (("prediction", PREDICTIONS), ("loss", LOSSES), ("variance", VARIANCES)):
            value = getattr(self, name)
            expect(value in known, f"DDPMConfig: {name} is one of {known}", value, error=ArgumentError)
        fits = self.loss == "vlb" or (self.loss == "hybrid") == (self.variance == "learned_range")
        rule = 'DDPMConfig: learned variances are trained by loss="hybrid" or "vlb", fixed ones by any but "hybrid"'
        expect(fits, rule, self.variance, self.loss, error=ArgumentError)

    @property
    def elements(self):
        return math.prod(self.shape)


class DDPM(Pretrained, nn.Module):
    """A diffusion model around any network f(x_t, t, labels). Call it for the training loss: `ddpm(x, labels)`.

    x (N, *shape) holds numbers from -1 to 1; t (N,) int64 is from 0 to T - 1; labels (N,) int64 are None in an
    unconditional model. The network answers in the shape of x, or with twice the channels for learned variances.
    """

    config_class = DDPMConfig

    def __init__(self, config=None, network=None, **sizes):
        self.config = config = config or DDPMConfig(**sizes)
        self._given_network = network is not None
        self.network = network or _unet(config)
        self.schedule = _schedule(config)
        betas = self.schedule.betas.astype(np.float64)
        alpha_bar = np.cumprod(1 - betas)
        before = np.append(1.0, alpha_bar[:-1])
        variance = betas * (1 - before) / (1 - alpha_bar)  # of q(x_{t-1} | x_t, x_0), eq. 7
        variance[0] = betas[0]  # there it is 0, but p(x_0 | x_1) has a width: that of the noise it takes away
        rows = {
            "a": np.sqrt(alpha_bar),
            "s": np.sqrt(1 - alpha_bar),
            "of_x0": np.sqrt(before) * betas / (1 - alpha_bar),
            "of_xt": np.sqrt(1 - betas) * (1 - before) / (1 - alpha_bar),
            "fixed_small": np.log(variance),
            "fixed_large": np.log(betas),
        }
        self.rows = {name: i for i, name in enumerate(rows)}
        self.table = nn.Buffer(Tensor(np.stack(list(rows.values()))), persistent=False)  # (6, T) float64

    def config_to(self):
        rule = "DDPM.save_pretrained: a config cannot describe a network of your own"
        expect(not self._given_network, rule, error=ArgumentError,
               hint="save the network itself, or write minigen.checkpoint.save(path, ddpm.state_dict())")  # fmt: skip
        return super().config_to()

    # The forward process

    def noised(self, x, t, noise):
        """x_t = a_t x + s_t noise (eq. 4): a draw from q(x_t | x_0 = x), all steps at once."""
        self._check(x)
        return self._at("a", t, x) * x + self._at("s", t, x) * noise

    def posterior(self, x, x_t, t):
        """The mean and the log variance of q(x_{t-1} | x_t, x_0 = x) (eq. 6 and 7). At step 0 the mean is x itself."""
        mean = self._at("of_x0", t, x) * x + self._at("of_xt", t, x) * x_t
        return mean, self._at("fixed_small", t, x)

    def convert(self, value, x_t, t, given, wanted):
        """x_0, epsilon or v, from another of them and x_t: `convert(v, x_t, t, "v_prediction", "sample")`."""
        if given == wanted:
            return value
        a, s = self._at("a", t, x_t), self._at("s", t, x_t)
        if given == "sample":
            x, noise = value, (x_t - a * value) / s
        elif given == "epsilon":
            x, noise = (x_t - s * value) / a, value
        else:
            x, noise = a * x_t - s * value, s * x_t + a * value
        if wanted == "v_prediction":
            return a * noise - s * x
        return x if wanted == "sample" else noise

    def snr(self, t, like):
        """The signal-to-noise ratio a_t^2 / s_t^2, (N, 1, ...)."""
        return (self._at("a", t, like) / self._at("s", t, like)) ** 2

    # The reverse process

    def predict(self, x_t, t, labels=None, guidance=1.0):
        """What the network takes (x_0, epsilon) to be, given x_t, each in its shape, and the log variance of a step.

        guidance w   the prediction without a label, plus w times what the label changes (Ho & Salimans 2022, whose
                     w is one less): 1 believes the label, 0 ignores it, more than 1 exaggerates it
        """
        out, share = self._answer(x_t, t, labels, guidance)
        log_variance = self._log_variance(share, x_t, t)
        x = self._x0(out, x_t, t)
        if self.config.prediction == "epsilon" and not self.config.clip:
            return x, out, log_variance
        return x, self.convert(x, x_t, t, "sample", "epsilon"), log_variance

    def reverse(self, x_t, t, labels=None, guidance=1.0):
        """The mean and the log variance of p(x_{t-1} | x_t): the posterior at the predicted x_0 (eq. 11)."""
        x, _, log_variance = self.predict(x_t, t, labels, guidance)
        return self.posterior(x, x_t, t)[0], log_variance

    # Training

    def forward(self, x, labels=None, generator=None):
        config, n = self.config, len(x)
        t = creation.randint(0, config.steps, (n,), generator=generator, device=x.device)
        noise = creation.randn_like(x, generator=generator)
        labels = self._hidden(labels, n, generator)
        x_t = self.noised(x, t, noise)
        if config.loss == "vlb":
            return config.steps * self._term(x, x_t, t, *self.reverse(x_t, t, labels)).mean()
        out, share = self._answer(x_t, t, labels)
        if config.loss in ("simple", "hybrid"):
            loss = ((out - self._target(x, noise, t)) ** 2).mean()
            if config.loss == "simple":
                return loss
            mean = self.posterior(self._x0(out.detach(), x_t, t), x_t, t)[0]  # here the bound trains variances only
            bits = self._term(x, x_t, t, mean, self._log_variance(share, x_t, t)).mean() * (
                config.steps / config.elements / math.log(2)
            )
            return loss + HYBRID * bits
        off = self.convert(out, x_t, t, config.prediction, "epsilon") - noise
        if config.loss == "epsilon":
            return (off**2).mean()
        snr = self.snr(t, x)
        return (off**2 * (snr.clamp(max=GAMMA) / snr)).mean()  # x_0's error is epsilon's over the root of the SNR

    # The bound

    @no_grad()
    def bound(self, x, labels=None, times=None, generator=None):
        """An upper bound on -log p(x) (eq. 5), (N,) in nats, from one draw of the noise for each step looked at.

        times   how many steps to look at for each x, out of all T and evenly spread over x and steps, so that the
                mean is unbiased; None for every step
        """
        if times is None:
            return self.bound_terms(x, labels, generator).sum(1)
        n, steps = len(x), self.config.steps
        total = self.prior_term(x)
        start = creation.rand(1, generator=generator, device=x.device)
        order = creation.randperm(n * times, generator=generator, device=x.device)
        for k in range(times):
            place = (order[k * n : (k + 1) * n].to(start.dtype) + start) / (n * times)
            t = (place * steps).long().clamp(0, steps - 1)
            total = total + self.bound_term(x, t, labels, generator) * (steps / times)
        return total

    @no_grad()
    def bound_terms(self, x, labels=None, generator=None):
        """The terms of the bound, (N, T + 1) in nats: column t is that of step t, the last is the prior's."""
        filled = lambda t: creation.full((len(x),), t, dtype="int64", device=x.device)
        terms = [self.bound_term(x, filled(t), labels, generator) for t in range(self.config.steps)]
        return stack([*terms, self.prior_term(x)], 1)

    def bound_term(self, x, t, labels=None, generator=None):
        """The bound's term at step t, (N,) in nats: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and
        -log p(x_0 | x_1) at step 0."""
        x_t = self.noised(x, t, creation.randn_like(x, generator=generator))
        return self._term(x, x_t, t, *self.reverse(x_t, t, labels))

    def prior_term(self, x):
        """KL(q(x_T | x_0) || N(0, I)), (N,) in nats: what is left of x after the last step."""
        last = creation.full((1,), self.config.steps - 1, dtype="int64", device=x.device)
        a, s = self._at("a", last, x), self._at("s", last, x)
        return gaussian_kl(a * x, 2 * log(s), 0.0 * x, 0.0 * s).flatten(1).sum(1)

    def bits_per_dim(self, nats):
        """Nats of one x as bits a number of x."""
        return nats / (self.config.elements * math.log(2))

    def _term(self, x, x_t, t, mean, log_variance):
        kl = gaussian_kl(*self.posterior(x, x_t, t), mean, log_variance)
        if self.config.levels is None:
            nll = 0.5 * ((x - mean) ** 2 * exp(-log_variance) + log_variance + math.log(2 * math.pi))
        else:
            nll = -discretised_gaussian(x, mean, log_variance, self.config.levels)
        first = (t == 0).reshape(-1, *[1] * (x.ndim - 1))
        return where(first, nll, kl).flatten(1).sum(1)

    # Sampling

    @no_grad()
    def sample(self, n, labels=None, generator=None, sampler="ddpm", steps=None, guidance=1.0):
        """n samples, (n, *shape) float32, of the labels (n,) if given.

        sampler     "ddpm" (the paper's), "ddim", "euler", "heun", "dpm_solver", "pndm", or a Sampler
        steps       of the sampler; T if None
        guidance    see `predict`
        """
        if labels is not None:
            expect(len(labels) == n, f"DDPM.sample: one label for each of {n} samples", labels, error=ArgumentError)
        sampler = self.sampler(sampler, steps)
        x = sampler.sample(self.answering(labels, guidance, sampler), (n, *self.config.shape), generator, self._device)
        return x.clamp(-1, 1) if self.config.clip else x

    def sampler(self, sampler="ddpm", steps=None):
        """A Sampler (see sampling/diffusion) for this model's schedule and prediction, by name."""
        if isinstance(sampler, samplers.Sampler):
            return sampler
        rule = f"DDPM: sampler is one of {tuple(SAMPLERS)}, or a Sampler"
        expect(sampler in SAMPLERS, rule, sampler, error=ArgumentError)
        options = {"prediction": self.config.prediction}
        if sampler == "ddpm":
            options["variance"] = self.config.variance
        if self.config.clip and sampler not in ("pndm", "dpm_solver"):
            options["clip"] = 1.0
        if sampler == "ddim":
            options["eps_from_clipped"] = True  # as `predict` has it: what it takes x_0 and epsilon to be make up x_t
        return SAMPLERS[sampler](self.schedule, steps or self.config.steps, **options)

    def answering(self, labels=None, guidance=1.0, sampler=None):
        """model(x, t) as a Sampler asks it: the network with its labels and its guidance."""

        def model(x, t):
            out, share = self._answer(x, t, labels, guidance)
            return cat([out, share], 1) if getattr(sampler, "variance", None) == "learned_range" else out

        return model

    def log_prob(self, x, labels=None, steps=None):
        """log density of x, (N,) in nats, by the probability flow (Song et al. 2021, arXiv:2011.13456, eq. 39).

        With z = x_t / a_t and sigma = s_t / a_t it is dz / dsigma = epsilon, and along it log p falls by the divergence
        of epsilon. Heun's method over `steps` of the T noise levels (all if None), the trace exactly: D gradients a
        call, so this is for few dimensions. It is the density under the first step's noise, which is next to none.
        """
        self._check(x)
        times = np.unique(np.linspace(0, self.config.steps - 1, steps or self.config.steps).round().astype(np.int64))
        table = self.table.numpy() if self.table.device == "cpu" else self.table.cpu().numpy()
        a, sigma = table[self.rows["a"]], table[self.rows["s"]] / table[self.rows["a"]]
        z, total = x / float(a[0]), -self.config.elements * math.log(a[0])
        slope, spread = self._flow(z, times[0], a, labels)
        for before, t in itertools.pairwise(times):
            h = float(sigma[t] - sigma[before])
            after = self._flow(z + h * slope, t, a, labels)
            z, total = z + h / 2 * (slope + after[0]), total + h / 2 * (spread + after[1])
            slope, spread = after if t == times[-1] else self._flow(z, t, a, labels)
        end = float(a[times[-1]])
        square = (z * end).flatten(1).square().sum(1)
        return total + self.config.elements * (math.log(end) - 0.5 * math.log(2 * math.pi)) - 0.5 * square

    # Pieces

    def _at(self, name, t, like):
        """The table's numbers at t, (N, 1, ...), in the type of `like`."""
        return self.table[self.rows[name]][t].to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))

    def _check(self, x):
        fits = tuple(x.shape[1:]) == self.config.shape
        expect(fits, f"DDPM: x is (N, {', '.join(map(str, self.config.shape))})", x, error=ShapeError)

    def _answer(self, x_t, t, labels, guidance=1.0):
        """What the network says at x_t: the prediction, guided, and its other channels (None for fixed variances)."""
        nothing = self._nothing(len(x_t), x_t.device)
        labels = nothing if labels is None else labels
        if guidance == 1.0 or nothing is None:
            out = self.network(x_t, t, labels)
        else:
            out = self.network(cat([x_t, x_t]), cat([t, t]), cat([labels, nothing]))
        out, share = out.chunk(2, 1) if self.config.variance == "learned_range" else (out, None)
        if len(out) == len(x_t):
            return out, share
        believed, ignored = out.chunk(2)
        return ignored + guidance * (believed - ignored), share if share is None else share[: len(x_t)]

    def _flow(self, z, t, a, labels):
        """epsilon at x_t = a_t z, and its divergence with respect to z, (N,)."""
        z = Tensor(z.data, requires_grad=True)
        steps = creation.full((len(z),), int(t), dtype="int64", device=z.device)
        noise = self.predict(z * float(a[t]), steps, labels)[1]
        rows = noise.flatten(1)
        slopes = [grad(rows[:, i].sum(), z, retain_graph=True)[0].flatten(1)[:, i] for i in range(rows.shape[1])]
        return noise.detach(), sum(slopes)

    @property
    def _device(self):
        return self.table.device

    def _log_variance(self, share, x_t, t):
        if share is None:
            return self._at(self.config.variance, t, x_t)
        share = (share + 1) / 2
        return share * self._at("fixed_large", t, x_t) + (1 - share) * self._at("fixed_small", t, x_t)

    def _target(self, x, noise, t):
        """What the network is to predict."""
        if self.config.prediction == "v_prediction":
            return self._at("a", t, x) * noise - self._at("s", t, x) * x
        return noise if self.config.prediction == "epsilon" else x

    def _x0(self, out, x_t, t):
        x = self.convert(out, x_t, t, self.config.prediction, "sample")
        return x.clamp(-1, 1) if self.config.clip else x

    def _nothing(self, n, device):
        """The label that stands for none, n times; None in an unconditional model."""
        if not self.config.classes:
            return None
        return creation.full((n,), self.config.classes, dtype="int64", device=device)

    def _hidden(self, labels, n, generator):
        """The labels, a share of them replaced by "none" while training."""
        if labels is None or not self.training or not self.config.label_dropout:
            return labels
        hide = creation.rand(n, generator=generator, device=labels.device) < self.config.label_dropout
        return where(hide, self._nothing(n, labels.device), labels)


def _schedule(config):
    """The NoiseSchedule of a configuration, in float64."""
    T, kind = config.steps, config.schedule
    if not isinstance(kind, str):
        kind = kind.betas if hasattr(kind, "betas") else kind
        expect(len(kind) == T, f"DDPMConfig: the schedule has {T} betas, one for each step", len(kind),
               error=ArgumentError)  # fmt: skip
        return samplers.NoiseSchedule(np.asarray(kind, np.float64), np.float64)
    rule = f"DDPMConfig: schedule is one of {SCHEDULES}, or T betas"
    expect(kind in SCHEDULES, rule, kind, error=ArgumentError)
    if kind == "linear":
        return samplers.NoiseSchedule.linear(T, 0.1 / T, min(20 / T, 0.999), dtype=np.float64)
    return getattr(samplers.NoiseSchedule, kind)(T, dtype=np.float64)


def _unet(config):
    expect(len(config.shape) == 3, "DDPM: the U-Net is for x of (C, H, W)\n  give a network for another shape",
           config.shape, error=ArgumentError)  # fmt: skip
    return UNet(
        shape=config.shape,
        channels=config.channels,
        attention=config.attention,
        layers=config.layers,
        groups=config.groups,
        dropout=config.dropout,
        classes=config.classes + 1 if config.classes else 0,
        out_channels=config.shape[0] * (2 if config.variance == "learned_range" else 1),
    )


def gaussian_kl(mean, log_variance, other_mean, other_log_variance):
    """KL(N(mean, variance) || N(other mean, other variance)) of each element, in nats."""
    ratio = exp(log_variance - other_log_variance)
    square = (mean - other_mean) ** 2 * exp(-other_log_variance)
    return 0.5 * (ratio + square - 1 + other_log_variance - log_variance)


def discretised_gaussian(x, mean, log_variance, levels):
    """log of the probability of each x, one of `levels` values from -1 to 1, elementwise (Ho et al. eq. 13).

    A level has the Gaussian's mass within half a spacing of it, the lowest and the highest all that lies beyond.
    """
    half, inverse = 1 / (levels - 1), exp(-0.5 * log_variance)
    low = where(x < -1 + half, -FAR, (x - mean - half) * inverse)
    high = where(x > 1 - half, FAR, (x - mean + half) * inverse)
    above = x > mean  # the mass is taken from the tail that is near: a difference of small numbers, not of ones
    near, far = where(above, low, -high), where(above, high, -low)
    mass = 0.5 * (erfc(near / math.sqrt(2)) - erfc(far / math.sqrt(2)))
    return log(mass.clamp(min=SMALLEST))
