"""The steps of a GAN: the discriminator's, then the generator's, and so on.

    model = DCGAN(shape=(1, 16, 16), latent=32, width=32)
    run = fit_gan(model, lambda: pictures(64), steps=2000, checkpoints="runs/gan")

Any model with a `generator` and a `discriminator` can be trained so, if it has

    generate(n, labels, generator)                       n samples with their graph
    discriminator_loss(x, fake, labels, generator)       what the discriminator minimises
    generator_loss(fake, labels, generator)              what the generator minimises
"""

import contextlib
import math

from ... import optim
from ...distributed import DataParallel, Group
from ...errors import ArgumentError, NonFiniteError, expect
from ...train import Run
from ...train.batches import Batches


def fit_gan(
    model,
    batches,
    *,
    steps,
    lr=2e-4,
    betas=(0.5, 0.999),
    d_lr=None,
    d_steps=1,
    ema=None,
    evaluate=None,
    every=None,
    checkpoints=None,
    keep=3,
    resume=False,
    generator=None,
    progress=True,
    group=None,
):
    """Train both networks of a GAN by Adam until `steps` steps of the generator are done; returns the `Run`.

    batches    as for `train.fit`: what to loop over, or a function. A batch is x, (x,) or (x, labels)
    lr, betas  Adam's, as in Radford et al. 2015, section 4;  d_lr is the discriminator's rate where it differs
    d_steps    steps of the discriminator for each of the generator
    ema        the decay of a moving average of the generator's weights; at the end the generator has the averages
               (and its batch norm the statistics that belong to them)
    evaluate   evaluate(model) -> a number or a dict of numbers, every `every` steps, with the averages in place
    generator  a random Generator for the noise
    group      a distributed.Group, as for `train.fit`
    every, checkpoints, keep, resume, progress    see `Run`

    `run.history` has "loss" (the generator's) and "discriminator". Generated pictures take the labels of the real ones
    beside them, so that both networks see the same share of each class. Raises NonFiniteError when a loss is NaN.
    """
    expect(d_steps >= 1, "fit_gan: d_steps is 1 or more", d_steps, error=ArgumentError)
    g, d = model.generator, model.discriminator
    g_optimizer = optim.Adam(g.parameters(), lr=lr, betas=betas)
    d_optimizer = optim.Adam(d.parameters(), lr=d_lr or lr, betas=betas)
    mean = optim.EMA(g, decay=ema, warmup=True) if ema else None
    parts = {"model": model, "g_optimizer": g_optimizer, "d_optimizer": d_optimizer, "ema": mean}
    parts = {name: part for name, part in parts.items() if part is not None} | {"data": Batches(batches)}
    run = Run(steps, every=every, checkpoints=checkpoints, keep=keep, resume=resume, generator=generator,
              progress=progress, group=group, **parts)  # fmt: skip
    group = Group() if group is None else group
    g_parallel, d_parallel = DataParallel(g, g_optimizer, group), DataParallel(d, d_optimizer, group)
    model.train()
    for step in run:
        for _ in range(d_steps):
            batch = next(parts["data"])
            x, labels = (*batch, None)[:2] if isinstance(batch, (tuple, list)) else (batch, None)
            fake = model.generate(len(x), labels, generator)
            d_optimizer.zero_grad()
            d_loss = model.discriminator_loss(x, fake.detach(), labels, generator)
            with d_parallel:
                d_loss.backward()
            d_optimizer.step()

        with frozen(d):  # its weights need no gradients now; the pictures do
            g_optimizer.zero_grad()
            g_loss = model.generator_loss(fake, labels, generator)
            with g_parallel:
                g_loss.backward()
            g_optimizer.step()

        if mean is not None:
            mean.update()
        g_loss, d_loss = group.mean(g_loss.item()), group.mean(d_loss.item())
        run.log(samples=len(x) * d_steps, loss=g_loss, discriminator=d_loss)
        if not math.isfinite(g_loss + d_loss):
            raise NonFiniteError(f"step {step}: the loss of the generator is {g_loss}, of the discriminator "
                                 f"{d_loss}\n  {run.last_good()}. Try a smaller lr")  # fmt: skip
        if evaluate is not None and run.due(step):
            run.evaluated(_evaluated(evaluate, model, mean, run, generator))
    if mean is not None:
        mean.copy_to()
        _settle(model, generator)
    model.eval()
    return run


def _evaluated(evaluate, model, mean, run, generator):
    """What `evaluate` says of the model with its averages. What is drawn for it is put back: training goes on as if not
    asked."""
    before = run.generator_states()
    try:
        with mean.applied() if mean is not None else contextlib.nullcontext():
            if mean is not None:
                _settle(model, generator)
            return evaluate(model.eval())
    finally:
        model.train()
        run.restore_generators(before)


def _settle(model, generator):
    """Let batch norm's statistics be those of the averaged weights, where the model knows how."""
    if hasattr(model, "settle"):
        model.settle(generator=generator)


@contextlib.contextmanager
def frozen(module):
    """Inside, the module's parameters need no gradient."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
