"""A DCGAN on 3 x 64 x 64 (Radford et al. 2015), batch 128: a step of the discriminator, then one of the generator."""

import numpy as np

from . import SEED

RATE, BETAS = 2e-4, (0.5, 0.999)  # the published ones


def on_gpu(setting, batch=128, latent=100, width=64):
    nn, F = setting.library.nn, setting.library.nn.functional

    def grow(inputs, outputs, *window):
        return nn.ConvTranspose2d(inputs, outputs, 4, *window, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()

    def shrink(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)

    generator = nn.Sequential(
        *grow(latent, 8 * width, 1, 0),
        *grow(8 * width, 4 * width, 2, 1),
        *grow(4 * width, 2 * width, 2, 1),
        *grow(2 * width, width, 2, 1),
        nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
        *shrink(width, 2 * width),
        *shrink(2 * width, 4 * width),
        *shrink(4 * width, 8 * width),
        nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False),
        nn.Flatten(),
    )
    generator, discriminator = setting.network(generator), setting.network(discriminator, SEED + 1)
    optimiser_g, optimiser_d = (setting.adam(each, RATE, betas=BETAS) for each in (generator, discriminator))
    real = setting.put(np.random.default_rng(SEED + 2).uniform(-1, 1, (batch, 3, 64, 64)).astype(np.float32))
    ones, zeros = (setting.put(np.full((batch, 1), x, np.float32)) for x in (1, 0))

    def judged(pictures, labels):
        with setting.autocast():
            verdict = discriminator(pictures)
        return F.binary_cross_entropy_with_logits(verdict.float(), labels)

    def step():
        noise = setting.normal(batch, latent, 1, 1)
        with setting.autocast():
            fake = generator(noise)
        loss = judged(real, ones) + judged(fake.detach(), zeros)
        loss.backward()
        optimiser_d.step()
        optimiser_d.zero_grad()
        loss = judged(fake, ones)
        loss.backward()
        optimiser_g.step()
        optimiser_g.zero_grad()
        optimiser_d.zero_grad()  # what the generator's loss left there
        return loss.detach()

    return step
