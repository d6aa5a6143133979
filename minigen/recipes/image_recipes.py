"""The recipes of models of pictures: each says how whole-number pictures enter it, and what suits it.

Sizes are for a laptop: pictures of up to 32 x 32 in minutes to an hour. `--set name=value` changes any field of a
configuration, and with it the size.
"""

import math

import numpy as np

from .. import random
from ..autograd import no_grad
from ..data import DataLoader, TensorDataset
from ..errors import ArgumentError, expect
from ..jsonfile import write_json
from ..metrics import likelihood
from ..models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from ..models.diffusion.ddpm import DDPM, DDPMConfig
from ..models.flow.glow import Glow, GlowConfig
from ..models.gan.dcgan import DCGAN, DCGANConfig
from ..models.gan.training import fit_gan
from ..models.latent.vae import VAE, VAEConfig
from ..tensor import as_tensor
from .pictures import Pictures, save_grid
from .recipe import Recipe, configured, device_of, own_noise

SCORED = 256  # held-out pictures that a score is measured on
FEW = 32  # levels that can have a probability each, at little cost


class ImageRecipe(Recipe):
    """What the families of pictures have in common.

    config(pictures)          fields of the configuration that suits them
    enter(x, levels)          whole-number pictures (N, C, H, W) as the model takes them, float32
    leave(x, model)           what the model draws, as pictures from 0 to 1
    measure(model, x, ...)    -log p(x) or a bound on it, (N,) in nats
    shown                     how many samples are drawn while training
    """

    kind, shown = "images", 64

    def read(self, options):
        return Pictures(options.data, options.size, options.channels)

    def build(self, data, changes):
        fields = {"shape": data.shape, **self.config(data), **changes}
        return self.model_class(configured(self.config_class, fields))

    def keep(self, data, folder):
        if data.classes:
            write_json(folder / "classes.json", data.classes)

    def batches(self, data, batch, generator):
        size = min(batch, len(data.train[0]))
        return DataLoader(
            TensorDataset(*data.train), batch_size=size, shuffle=True, drop_last=True, generator=generator
        )

    def enter(self, x, levels):
        return x.astype(np.float32)

    def leave(self, x, model):
        return x / (model.config.levels - 1)

    def loss(self, model, batch, data):
        return model(*self.entered(model, *batch, data.levels))

    def entered(self, model, x, labels, levels):
        """A batch as the model takes it: [x], or [x, labels] where it was built for classes."""
        arrays = [self.enter(np.asarray(x), levels)] + [np.asarray(labels)] * bool(self.classes(model))
        return [as_tensor(array).to(device_of(model)) for array in arrays]

    def classes(self, model):
        return getattr(model.config, "classes", 0)

    @no_grad()
    def score(self, model, data):
        """{"nats": a held-out picture, "bits/dim"}."""
        x, labels = (part[:SCORED] for part in data.held_out)
        nats = []
        for rows in np.array_split(np.arange(len(x)), -(-len(x) // self.batch)):
            nats.append(self.measure(model, *self.entered(model, x[rows], labels[rows], data.levels)).cpu().numpy())
        nats = float(np.concatenate(nats).mean())
        return {"nats": nats, "bits/dim": float(likelihood.bits_per_dim(nats, x[0].size))}

    def measure(self, model, x, *labels):
        return -model.log_prob(x, *labels)

    def show(self, model, data, path, generator):
        return save_grid(path.with_suffix(".png"), self.draw(model, self.shown, generator=generator))

    def draw(self, model, n, label=None, steps=None, generator=None):
        """n pictures (n, C, H, W) from 0 to 1, a NumPy array.

        label   of this class only; None takes the classes in turn
        steps   of a sampler that takes some; the more the better and slower
        """
        expect(steps is None, f"--steps: a {type(model).__name__} draws without steps to choose", error=ArgumentError)
        return self.drawn(model, n, label, generator)

    def drawn(self, model, n, label, generator, **more):
        classes = self.classes(model)
        expect(label is None or classes, f"--class: this {type(model).__name__} was trained without classes",
               error=ArgumentError, hint="train it on a folder with one subfolder for each class")  # fmt: skip
        if classes:
            labels = np.arange(n) % classes if label is None else np.full(n, label)
            more["labels"] = as_tensor(labels.astype(np.int64)).to(device_of(model))
        return np.clip(self.leave(model.sample(n, generator=generator, **more), model).cpu().numpy(), 0, 1)


class VAERecipe(ImageRecipe):
    """Few levels get a probability each. Bytes become real numbers with a variance that is learned: uniform noise fills
    the space between the levels, so that the density bounds a probability (Theis, van den Oord & Bethge 2016, eq. 5).
    """

    model_class, config_class = VAE, VAEConfig

    def config(self, pictures):
        few = pictures.levels <= FEW
        size = {"latent": 16, "hidden": (256,), "dropout": 0.5} if few else {"latent": 64, "hidden": (512, 256)}
        return {**size, "likelihood": "categorical" if few else "gaussian", "levels": pictures.levels}

    def enter(self, x, levels):
        x = x.astype(np.float32)
        return x if levels <= FEW else (x + random.default_generator.uniform(x.shape)) / np.float32(levels)

    def leave(self, x, model):
        return x / (model.config.levels - 1) if model.config.likelihood == "categorical" else x

    def prepare(self, model, batches, data):
        """Begin with a tenth of the pixels' own variance: from 1 it would have thousands of steps to fall."""
        if model.config.likelihood == "gaussian":
            share = float(np.var(data.train[0][:SCORED] / data.levels))
            with no_grad():
                model.log_variance.fill_(math.log(max(share, 1e-4) / 10))

    def measure(self, model, x):
        bound = -model.elbo(x)[0]
        if model.config.likelihood == "gaussian":  # a density of numbers from 0 to 1; of levels it is so much less
            bound = bound + model.config.elements * math.log(model.config.levels)
        return bound


class PixelCNNRecipe(ImageRecipe):
    """The gated network; a probability for each of few levels, a mixture of logistics for bytes."""

    model_class, config_class, shown = PixelCNN, PixelCNNConfig, 16

    def config(self, pictures):
        return {
            "classes": len(pictures.classes),
            "channels": 33 if pictures.shape[0] == 3 else 32,  # colours are kept in order: a multiple of three
            "layers": 5,
            "first_kernel": 5,
            "dropout": 0.1,
            "likelihood": "softmax" if pictures.levels <= FEW else "logistic_mixture",
            "levels": pictures.levels,
        }


class GlowRecipe(ImageRecipe):
    """As many scales, up to three, as leave 4 x 4 places at the last."""

    model_class, config_class = Glow, GlowConfig

    def config(self, pictures):
        side, scales = min(pictures.shape[1:]), 1
        while scales < 3 and side % 2 ** (scales + 1) == 0 and side >> (scales + 1) >= 2:
            scales += 1
        size = {"scales": scales, "steps": 8, "hidden": 64, "dropout": 0.1}
        return {"classes": len(pictures.classes), "levels": pictures.levels, **size}

    def prepare(self, model, batches, data):
        """The first pictures set every actnorm, before the average of the weights begins."""
        x, labels = (part[:SCORED] for part in data.train)
        with no_grad():
            model.train()
            model(*self.entered(model, x, labels, data.levels))


class DiffusionRecipe(ImageRecipe):
    """The U-Net predicts the noise. With classes a tenth of the labels is hidden, so that samples can be guided."""

    model_class, config_class = DDPM, DDPMConfig
    lr, ema, sampler_steps = 4e-4, 0.9995, 50

    def config(self, pictures):
        sides = [min(pictures.shape[1:])]
        while sides[-1] % 2 == 0 and sides[-1] > 4 and len(sides) < 3:
            sides.append(sides[-1] // 2)
        size = {
            "channels": (32, *[64] * (len(sides) - 1)),
            "attention": tuple(side <= 8 and i > 0 for i, side in enumerate(sides)),
            "layers": 2,
            "groups": 8,
        }
        return {"classes": len(pictures.classes), "levels": pictures.levels, "schedule": "cosine", **size}

    def enter(self, x, levels):
        return x.astype(np.float32) * np.float32(2 / (levels - 1)) - 1

    def leave(self, x, model):
        return (x + 1) / 2

    def measure(self, model, x, *labels):
        return model.bound(x, *labels, times=8)

    def draw(self, model, n, label=None, steps=None, generator=None):
        return self.drawn(model, n, label, generator, sampler="ddim", steps=steps or self.sampler_steps)


class DCGANRecipe(ImageRecipe):
    """No likelihood, so no score in nats: look at the samples, and at the two losses, which should keep a balance."""

    model_class, config_class = DCGAN, DCGANConfig
    lr, ema = 2e-4, 0.99

    def config(self, pictures):
        few = pictures.levels <= FEW
        size = {"latent": 64, "width": 32, "noise": 0.1 if few else 0.0}
        return {"classes": len(pictures.classes), "condition": "projection", **size}

    def enter(self, x, levels):
        return x.astype(np.float32) * np.float32(2 / (levels - 1)) - 1

    def leave(self, x, model):
        return (x + 1) / 2

    def fit(self, model, batches, data, *, lr, group, **run):
        own_noise(group)
        return fit_gan(model, _Entered(self, model, batches, data), lr=lr, ema=self.ema, group=group, **run)

    def score(self, model, data):
        return {}


class _Entered:
    """A loader's batches as the model takes them. It stands where the loader stands."""

    def __init__(self, recipe, model, loader, data):
        self.recipe, self.model, self.loader, self.data = recipe, model, loader, data
        self.state_dict, self.load_state_dict = loader.state_dict, loader.load_state_dict

    def __iter__(self):
        for x, labels in self.loader:
            yield tuple(self.recipe.entered(self.model, x, labels, self.data.levels))
