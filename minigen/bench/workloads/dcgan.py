"""A DCGAN on 28x28 pictures, batch 64: a step of the discriminator, then one of the generator, whose loss it is."""

from . import SEED, adam, normal, plain, weights_into

BATCH, LATENT, WIDTH, SIDE = 64, 100, 64, 28
RATE = 2e-4  # the published one

# Two networks that train against each other amplify the rounding of float32: after 20 steps the losses of two correct
# libraries differ in the third digit. (In float64 minigen's 20 losses and PyTorch's agree to 1e-6.)
LAST_LOSS_AGREES = 1e-2


def build(library, captured=plain):
    nn, F = library.nn, library.nn.functional
    small = SIDE // 4
    generator = nn.Sequential(
        nn.Linear(LATENT, 2 * WIDTH * small * small),
        nn.Unflatten(1, (2 * WIDTH, small, small)),
        nn.BatchNorm2d(2 * WIDTH),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, WIDTH, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1),
        nn.BatchNorm2d(2 * WIDTH),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * WIDTH * small * small, 1),
    )
    params = weights_into(library, generator) + weights_into(library, discriminator, SEED + 1)
    optimiser_g, optimiser_d = (adam(library, network, RATE) for network in (generator, discriminator))
    real = library.tanh(normal(library, BATCH, 1, SIDE, SIDE))
    noises = normal(library, 20, BATCH, LATENT, seed=SEED + 2)
    ones, zeros = library.ones(BATCH, 1), library.zeros(BATCH, 1)

    @captured
    def train(noise=None):
        fake = generator(library.randn(BATCH, LATENT) if noise is None else noise)
        optimiser_d.zero_grad()
        loss = F.binary_cross_entropy_with_logits(discriminator(real), ones)
        loss = loss + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
        loss.backward()
        optimiser_d.step()
        optimiser_g.zero_grad()
        loss = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
        loss.backward()
        optimiser_g.step()
        return loss

    return lambda i: train(*(() if i is None else (noises[i],))).item(), params
