"""What all recipes have in common: the training itself, with settings that suit most models."""

import dataclasses
import difflib

from .. import random
from ..errors import ArgumentError, expect
from ..optim import EMA, AdamW
from ..optim.lr_scheduler import LinearLR
from ..train import fit

WARM_UP = 100  # steps over which the learning rate rises


class Recipe:
    """A family of models, as `minigen train` knows it. The subclasses are in image_recipes.py and text_recipes.py.

    kind                             "images" or "text"
    steps, batch, lr, decay, clip    of a run, where the reader does not say otherwise
    ema                              decay of the average of the weights: it is what is scored, drawn from and saved
    model_class, config_class        the family

    read(options)                    the data: has `about`, what it is, and `scored`, what a score is measured on
    build(data, changes)             a new model; `changes` are fields of its configuration that the reader set
    batches(data, batch, generator)  as `train.fit` takes them
    loss(model, batch, data)         what is minimised
    score(model, data)               a dict of numbers, from data that training does not see
    show(model, data, path, generator)   a sample of the model's work, as a file; `path` lacks an ending
    keep(data, folder)               whatever else the folder must hold for the model to be of use
    """

    steps, batch, lr, decay, clip, ema = 5000, 64, 1e-3, 0.0, 1.0, 0.999

    def keep(self, data, folder):
        pass

    def prepare(self, model, batches, data):
        """What must be done before the first step."""

    def fit(self, model, batches, data, *, lr, group, **run):
        """Train by Adam, with a warm-up, clipping and an average of the weights; returns the Run."""
        self.prepare(model, batches, data)
        own_noise(group)
        optimizer = AdamW(model.parameters(), lr=lr, weight_decay=self.decay)
        ema = EMA(model, decay=self.ema, warmup=True)
        schedule = LinearLR(optimizer, start_factor=1 / WARM_UP, total_iters=WARM_UP)
        loss = lambda model, batch: self.loss(model, batch, data)
        done = fit(model, loss, batches, optimizer, scheduler=schedule, ema=ema, clip_norm=self.clip, group=group,
                   **run)  # fmt: skip
        ema.copy_to()
        return done


def own_noise(group):
    """Let each of several processes draw noise and dropout of its own from here on."""
    if group.size > 1:
        random.default_generator.set_state(group.generator(random.default_generator).get_state())


def configured(kind, fields):
    """The configuration dataclass `kind` with these fields. Raises ArgumentError for one that it does not have."""
    known = [f.name for f in dataclasses.fields(kind)]
    for name in fields:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
        expect(name in known, f"--set {name}=: a {kind.__name__} has no such field", error=ArgumentError, hint=hint)
    return kind(**fields)


def device_of(model):
    return next(iter(model.parameters())).device
