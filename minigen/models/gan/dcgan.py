"""DCGAN (Radford, Metz & Chintala 2015, arXiv:1511.06434), its conditional forms, and AC-GAN.

The generator turns noise into a picture through transposed convolutions, each of which doubles the side; the
discriminator is its mirror image. What made deep convolutional GANs trainable was a list of choices (section 3):

    strides, where others pool or upsample          batch norm in both, but not where pictures leave G or enter D
    ReLU in G and tanh at its end                   leaky ReLU of slope 0.2 in D
    weights from N(0, 0.02)                         Adam with rate 2e-4 and beta1 = 0.5 (see training.py)

The layers are those of the authors' Torch version: 4x4 kernels throughout, and a transposed convolution to begin with.
(The paper's figure 1 and the Theano version have 5x5 kernels, and a projection in its place.)

With labels, both networks see them. The generator takes an embedding beside z. The discriminator takes one as further
channels beside the picture ("concat", after Mirza & Osindero 2014, arXiv:1411.1784), or in an inner product with its
last features ("projection", Miyato & Koyama 2018, arXiv:1802.05637, eq. 3), or it is not told the label and has to name
it ("auxiliary", AC-GAN: Odena, Olah & Shlens 2016, arXiv:1610.09585).

    DCGANConfig      sizes, labels, and the loss
    Generator        (N, latent) -> (N, C, S, S) in [-1, 1]
    Discriminator    (N, C, S, S) -> scores (N,), and class logits where it names labels
    DCGAN            both, their two losses, and the sampler
"""

import contextlib
from dataclasses import dataclass

import numpy as np

from ... import nn
from ...autograd import no_grad
from ...data.arrays import as_numpy
from ...device import to_device
from ...errors import ArgumentError, ShapeError, expect
from ...nn import functional as F
from ...nn import init
from ...ops import creation
from ...ops.elementary import tanh
from ...ops.joining import cat
from ...published import Pretrained
from ...tensor import Tensor
from . import losses

CONDITIONS = ("concat", "projection", "auxiliary")
SIDES = (8, 16, 32, 64, 128)


@dataclass
class DCGANConfig:
    """The sizes of a DCGAN. The defaults are those of the authors' Torch version, for 64x64.

    shape       (channels, side, side) of a picture; the side is 8, 16, 32, 64 or 128
    latent      numbers in z
    width       channels at half the side, in both networks; they double with every halving, down to 4x4
    batch_norm  False leaves it out, to see what it does
    classes     0, or the number of labels
    condition   with classes: "concat", "projection" or "auxiliary", see the head of this file
    embedding   numbers that stand for a label beside z, and beside a pixel: where they are many more than those of z, a
                label tends to get a single picture
    name_fakes  in the auxiliary form, D also learns to name generated pictures as they were asked for, as published.
                False: it learns names from real pictures only, which obeys better where G is not yet good
    loss        a name in losses.LOSSES
    noise       strength of Gaussian noise on all pictures that D sees, real and generated: where the data lie on a thin
                set (pixels of just two values), D could tell them apart for ever without it, and its slope would say
                nothing (Sonderby et al. 2016; Arjovsky & Bottou 2017, arXiv:1701.04862, theorem 2.1)
    """

    shape: tuple = (3, 64, 64)
    latent: int = 100
    width: int = 64
    batch_norm: bool = True
    classes: int = 0
    condition: str = "concat"
    embedding: int = 16
    name_fakes: bool = True
    loss: str = "non-saturating"
    noise: float = 0.0

    def __post_init__(self):
        self.shape = tuple(self.shape)
        fits = len(self.shape) == 3 and self.shape[1] == self.shape[2] and self.shape[1] in SIDES
        expect(fits, f"DCGANConfig: shape is (channels, side, side) with a side of {SIDES}", self.shape,
               error=ArgumentError)  # fmt: skip
        expect(self.condition in CONDITIONS, f"DCGANConfig: condition is one of {CONDITIONS}", self.condition,
               error=ArgumentError)  # fmt: skip
        expect(self.loss in losses.LOSSES, f"DCGANConfig: loss is one of {tuple(losses.LOSSES)}", self.loss,
               error=ArgumentError)  # fmt: skip
        expect(self.classes >= 0 and self.classes != 1, "DCGANConfig: classes is 0, or 2 or more", self.classes,
               error=ArgumentError)  # fmt: skip

    @property
    def widths(self):
        """Channels at half the side, a quarter, ... and at 4x4: (64, 128, 256, 512) for 64x64 pictures."""
        halvings = self.shape[1].bit_length() - 3
        return tuple(self.width * 2**i for i in range(halvings))


class Generator(nn.Module):
    """z (N, latent), labels (N,) or None -> pictures (N, *shape) in [-1, 1]."""

    def __init__(self, config):
        self.config, plain = config, not config.batch_norm
        channels = config.latent
        if config.classes:
            self.embed = nn.Embedding(config.classes, config.embedding)
            channels += config.embedding
        layers = []
        for i, width in enumerate(config.widths[::-1]):
            step = {"stride": 2, "padding": 1} if i else {}  # first 1x1 to 4x4, then twice the side each time
            layers.append(nn.ConvTranspose2d(channels, width, 4, **step, bias=plain))
            layers += [*([] if plain else [nn.BatchNorm2d(width)]), nn.ReLU()]
            channels = width
        layers.append(nn.ConvTranspose2d(channels, config.shape[0], 4, stride=2, padding=1, bias=plain))
        self.layers = nn.Sequential(*layers)
        self.apply(normal_init)

    def forward(self, z, labels=None):
        fits = z.ndim == 2 and z.shape[1] == self.config.latent
        expect(fits, f"Generator: z is (N, {self.config.latent})", z, error=ShapeError)
        _check_labels(labels, z, self.config)
        if self.config.classes:
            z = cat([z, self.embed(labels)], 1)
        return tanh(self.layers(z.reshape(*z.shape, 1, 1)))


class Discriminator(nn.Module):
    """Pictures (N, *shape), labels (N,) or None -> scores (N,), the higher the more it takes a picture for real."""

    def __init__(self, config):
        self.config, plain = config, not config.batch_norm
        self.condition = config.condition if config.classes else None
        channels = config.shape[0]
        if self.condition == "concat":
            self.embed = nn.Embedding(config.classes, config.embedding)
            channels += config.embedding
        layers = []
        for i, width in enumerate(config.widths):
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=plain))
            layers += [*([] if plain or i == 0 else [nn.BatchNorm2d(width)]), nn.LeakyReLU(0.2)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.score = nn.Conv2d(channels, 1, 4, bias=plain)  # 4x4 to 1x1
        if self.condition == "projection":
            self.embed = nn.Embedding(config.classes, channels)
        if self.condition == "auxiliary":
            self.name = nn.Conv2d(channels, config.classes, 4)
        self.apply(normal_init)
        if self.condition == "projection":  # a weight like the others, not an input
            init.normal_(self.embed.weight, 0.0, 0.02)

    def forward(self, x, labels=None):
        return self.judge(x, labels)[0]

    def judge(self, x, labels=None):
        """(scores (N,), class logits (N, classes)); the logits are None but in the auxiliary form."""
        fits = tuple(x.shape[1:]) == self.config.shape
        expect(fits, f"Discriminator: x is (N, {', '.join(map(str, self.config.shape))})", x, error=ShapeError)
        if self.condition in ("concat", "projection"):
            _check_labels(labels, x, self.config)
        if self.condition == "concat":  # the same numbers beside every pixel
            planes = self.embed(labels).reshape(len(x), self.config.embedding, 1, 1)
            x = cat([x, planes.expand(len(x), self.config.embedding, *x.shape[2:])], 1)
        h = self.layers(x)
        score = self.score(h).reshape(len(h))
        if self.condition == "projection":  # eq. 3: psi(h) + <v_y, h summed over places>
            score = score + (self.embed(labels) * h.sum((2, 3))).sum(1)
        return score, self.name(h).flatten(1) if self.condition == "auxiliary" else None


class DCGAN(Pretrained, nn.Module):
    """The two networks, `model.generator` and `model.discriminator`, and what each of them minimises.

    x is (N, *config.shape) in [-1, 1]; with classes, labels are (N,) integers from 0. A GAN has two losses and no
    single one, so there is no `model(x)`: `fit_gan` in training.py takes the steps.
    """

    config_class = DCGANConfig

    def __init__(self, config=None, **sizes):
        self.config = config or DCGANConfig(**sizes)
        self.generator, self.discriminator = Generator(self.config), Discriminator(self.config)

    def forward(self, x, labels=None, generator=None):
        raise ArgumentError("DCGAN: a GAN has two losses, not one\n  write fit_gan(model, batches, steps=...)")

    def generate(self, n, labels=None, generator=None):
        """n pictures with their graph, for training: z ~ N(0, I) from the random `generator`."""
        device = next(iter(self.generator.parameters())).device
        z = creation.randn(n, self.config.latent, generator=generator, device=device)
        return self.generator(z, labels)

    def discriminator_loss(self, x, fake, labels=None, generator=None):
        """From real pictures and generated ones (detach them), both of the same labels."""
        real_score, real_names = self.discriminator.judge(self._blurred(x, generator), labels)
        fake_score, fake_names = self.discriminator.judge(self._blurred(fake, generator), labels)
        loss = losses.discriminator_loss(real_score, fake_score, self.config.loss)
        if real_names is not None:  # Odena et al. 2016, eq. 3
            loss = loss + F.cross_entropy(real_names, labels)
            loss = loss + F.cross_entropy(fake_names, labels) if self.config.name_fakes else loss
        return loss

    def generator_loss(self, fake, labels=None, generator=None):
        """From generated pictures."""
        score, names = self.discriminator.judge(self._blurred(fake, generator), labels)
        loss = losses.generator_loss(score, self.config.loss)
        return loss if names is None else loss + F.cross_entropy(names, labels)

    @no_grad()
    def sample(self, n, labels=None, generator=None):
        """n pictures (n, *shape) in [-1, 1]. Batch norm uses its running statistics, so none depends on the others.

        labels   (n,), or one for all; None draws them evenly
        """
        classes = self.config.classes
        if classes and labels is None:
            labels = creation.randint(classes, size=(n,), generator=generator, device=self._device)
        elif labels is not None:
            labels = np.broadcast_to(as_numpy(labels, np.int64), (n,)).copy()
            labels = Tensor(to_device(labels, self._device))
        with _mode(self.generator, training=False):
            return self.generate(n, labels, generator)

    @no_grad()
    def settle(self, batches=50, size=100, generator=None):
        """Measure the generator's batch norm statistics anew, as plain means over so many batches of samples.

        Running statistics belong to weights that have moved on, and not at all to averaged ones (EMA), for which this
        is needed before `sample` (Brock et al. 2019, arXiv:1809.11096, "standing statistics").
        """
        norms = [part for part in self.generator.modules() if isinstance(part, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean of all batches
        with _mode(self.generator, training=True):
            for _ in range(batches if norms else 0):
                labels = None
                if self.config.classes:
                    classes = self.config.classes
                    labels = creation.randint(classes, size=(size,), generator=generator, device=self._device)
                self.generate(size, labels, generator)
        for norm, momentum in zip(norms, usual):
            norm.momentum = momentum

    def _blurred(self, x, generator):
        noise = self.config.noise
        return x + noise * creation.randn_like(x, generator=generator) if noise else x

    @property
    def _device(self):
        return next(iter(self.generator.parameters())).device


def normal_init(module):
    """The paper's weights: N(0, 0.02) for convolutions, N(1, 0.02) for batch norm's gains, biases 0; N(0, 1) stays
    for embeddings that join noise or pixels."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        init.normal_(module.weight, 1.0, 0.02)
    if getattr(module, "bias", None) is not None:
        init.zeros_(module.bias)


@contextlib.contextmanager
def _mode(module, training):
    """Inside, the module is in training or in evaluation mode."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)


def _check_labels(labels, x, config):
    if config.classes:
        given = labels is not None and tuple(labels.shape) == (len(x),) and labels.dtype.kind == "i"
        expect(given, f"DCGAN: with classes, labels are ({len(x)},) integers from 0 to {config.classes - 1}", labels,
               error=ShapeError)  # fmt: skip
    else:
        expect(labels is None, "DCGAN: this model has no classes, so it takes no labels", labels, error=ArgumentError,
               hint="write DCGANConfig(classes=...)")  # fmt: skip
